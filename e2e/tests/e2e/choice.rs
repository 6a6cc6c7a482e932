//! Topic, cluster, producer profile and key that a request chooses.

use serde_json::{Value, json};
use sluice_e2e::client::full;
use sluice_e2e::envoy::{by_call, produce};
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::scenario;
use sluice_e2e::{Result, ensure, kafka};

/// Envoy's own filters that leave something in the request's dynamic metadata: fixed values, and a header's.
fn filters() -> Vec<Value> {
    let of = |name: &str, kind: &str, settings: Value| {
        let mut config =
            json!({"@type": format!("type.googleapis.com/envoy.extensions.filters.http.{kind}")});
        if let (Value::Object(config), Value::Object(settings)) = (&mut config, settings) {
            config.extend(settings);
        }
        json!({"name": name, "typed_config": config})
    };
    vec![
        of(
            "set-metadata",
            "set_metadata.v3.Config",
            json!({"metadata": [
                {"metadata_namespace": "plan", "value": {"profile": {"name": "unacked"}, "lists": [[1, null], {}]}},
                {"metadata_namespace": "shard", "value": {"n": 2}},
            ]}),
        ),
        of(
            "header-to-metadata",
            "header_to_metadata.v3.Config",
            json!({"request_rules": [{
                "header": "x-caller",
                "on_header_present": {"metadata_namespace": "caller", "key": "name", "type": "STRING"},
                "remove": true,
            }]}),
        ),
    ]
}

#[test]
fn a_request_chooses_within_what_the_route_and_the_sidecar_list() -> Result<()> {
    scenario("choice", async |s| {
        let kafka = kafka::shared().await?;
        let (eu, us, secret) = (s.topic("eu"), s.topic("us"), s.topic("secret"));
        for topic in [&eu, &us, &secret] {
            kafka.create_topic(topic, 3).await?;
        }
        let listed = [&eu, &us];
        let with = |topic: Value, key: Value| json!({"topic": topic, "key": key, "value": "body", "cluster_name": "main"});
        let plan = json!({"metadata": ["plan", "profile", "name"], "allowed": ["unacked", "default"]});
        let mut by_header = with(
            json!({"header": "x-topic", "allowed": listed, "default": eu}),
            json!({"metadata": ["caller", "name"]}),
        );
        by_header["cluster_name"] =
            json!({"query": "cluster", "allowed": ["main", "narrow"], "default": "main"});
        by_header["producer"] = plan;
        by_header["partition"] = json!({"metadata": ["shard", "n"]});
        let by_query = with(
            json!({"query": "t", "allowed": listed}),
            json!({"query": "k", "allowed": ["a", "b"], "default": "a"}),
        );
        let template = format!("/path/{}", "{topic}");
        let by_path = with(
            json!({"path": template, "allowed": [&eu, &us, &secret]}),
            json!({"path": "/*/{key}/**"}),
        );
        let by_metadata = with(
            json!({"metadata": ["caller", "name"], "allowed": listed}),
            json!("none"),
        );
        let mut parts = Parts::new(
            &kafka.bootstrap(),
            vec![
                produce("/header", by_header),
                produce("/query", by_query.clone()),
                produce("/call", by_call(by_query)),
                produce("/path", by_path),
                produce("/metadata", by_metadata),
            ],
        )
        .sidecar("clusters/main/allowed_topics", json!(listed))
        .sidecar("clusters/narrow/bootstrap_servers", json!(kafka.bootstrap()))
        .sidecar("clusters/narrow/allowed_topics", json!([us]))
        .sidecar("default_cluster", json!("narrow"))
        .sidecar("producers/default", json!({}))
        .sidecar("producers/unacked/producer_request_acks", json!(0));
        parts.before = filters();
        let rig = Rig::start(s, parts).await?;
        let http = rig.envoy.h1();
        let post = async |path: &str, headers: &[(&str, &str)]| {
            let mut request = http.request(hyper::Method::POST, path);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            http.send(request.body(full("x"))?).await
        };

        // By header and by metadata; the profile that metadata names asks for no acknowledgement.
        let chosen = [("x-topic", &*us), ("x-caller", "acme")];
        post("/header", &chosen).await?.expect(202)?;
        let records = kafka.wait_for_records(&us, 1).await?;
        ensure!(records[0].key.as_deref() == Some(b"acme"), "{records:?}");
        ensure!(records[0].partition == 2, "{records:?}");
        // Nothing said: the default, and no key.
        post("/header", &[]).await?.expect(202)?;
        let records = kafka.wait_for_records(&eu, 1).await?;
        ensure!(records[0].key.is_none(), "{records:?}");
        let refused = post("/header", &[("x-topic", &secret)]).await?;
        refused.expect_error(403, "topic_not_allowed")?;
        // The route lists the cluster, and the cluster's allowlist has one of the two topics.
        post("/header?cluster=narrow", &[("x-topic", &us)])
            .await?
            .expect(202)?;
        let refused = post("/header?cluster=narrow", &[("x-topic", &eu)]).await?;
        refused.expect_error(403, "topic_not_allowed")?;
        let refused = post("/header?cluster=other", &[]).await?;
        refused.expect_error(403, "not_authorised")?;
        kafka.wait_for_records(&us, 2).await?;

        for (path, stored) in [("/query", 1), ("/call", 2)] {
            post(&format!("{path}?t={eu}&k=b"), &[]).await?.expect(200)?;
            let records = kafka.wait_for_records(&eu, 1 + stored).await?;
            let keys = records
                .iter()
                .filter(|record| record.key.as_deref() == Some(b"b"));
            ensure!(keys.count() == stored, "{records:?}");
            let missing = post(path, &[]).await?;
            missing.expect_error(400, "invalid_request")?;
            let refused = post(&format!("{path}?t={eu}&k=c"), &[]).await?;
            refused.expect_error(403, "not_authorised")?;
        }

        post(&format!("/path/{us}"), &[]).await?.expect(200)?;
        let records = kafka.wait_for_records(&us, 3).await?;
        let key = Some(us.as_bytes());
        ensure!(
            records.iter().any(|record| record.key.as_deref() == key),
            "{records:?}"
        );
        // The route lists it, the sidecar does not.
        let refused = post(&format!("/path/{secret}"), &[]).await?;
        refused.expect_error(403, "topic_not_allowed")?;
        let missing = post(&format!("/path/{us}/more"), &[]).await?;
        missing.expect_error(400, "invalid_request")?;

        post("/metadata", &[("x-caller", &us)]).await?.expect(200)?;
        kafka.wait_for_records(&us, 4).await?;
        let refused = post("/metadata", &[("x-caller", "acme")]).await?;
        refused.expect_error(403, "topic_not_allowed")?;
        post("/metadata", &[])
            .await?
            .expect_error(400, "invalid_request")?;

        ensure!(kafka.records(&secret).await?.is_empty());
        ensure!(kafka.records(&eu).await?.len() == 3);
        ensure!(kafka.records(&us).await?.len() == 4);
        Ok(())
    })
}
