//! `then: continue`: the request goes on to its upstream once its record is stored.

use serde_json::json;
use sluice_e2e::envoy::forward;
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::scenario;
use sluice_e2e::upstream::Upstream;
use sluice_e2e::{Result, ensure, kafka};

#[test]
fn the_upstream_gets_what_was_recorded() -> Result<()> {
    scenario("onward", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let upstream = Upstream::start().await?;
        let audit = |topic: &str, more: serde_json::Value| {
            let mut settings = json!({"topic": topic, "then": "continue", "value": "body"});
            for (name, value) in more.as_object().into_iter().flatten() {
                settings[name] = value.clone();
            }
            settings
        };
        let missing = s.topic("missing");
        let call = json!({"transport": "http", "sidecar_cluster": "sluice_data"});
        let routes = vec![
            forward("/stored", audit(&topic, json!({})), "app"),
            forward("/call", audit(&topic, call), "app"),
            forward("/strict", audit(&missing, json!({})), "app"),
            forward(
                "/lenient",
                audit(&missing, json!({"on_error": "continue"})),
                "app",
            ),
        ];
        let mut parts = Parts::new(&kafka.bootstrap(), routes);
        parts.upstreams = vec![("app".to_owned(), upstream.port())];
        let rig = Rig::start(s, parts).await?;

        let big = "b".repeat(300_000);
        for client in [rig.envoy.h1(), rig.envoy.h2()] {
            for (path, body) in [
                ("/stored?q=1", "hello"),
                ("/stored", ""),
                ("/stored", big.as_str()),
                ("/call", "x"),
            ] {
                let reply = client.post(path, "text/plain", body.to_owned()).await?;
                ensure!(reply.expect(200)?.text() == "upstream");
            }
        }
        let (records, arrived) = (kafka.records(&topic).await?, upstream.arrived());
        ensure!(
            records.len() == 8 && arrived.len() == 8,
            "{} {}",
            records.len(),
            arrived.len()
        );
        for (record, arrived) in records.iter().zip(&arrived) {
            ensure!(
                record.value.as_deref() == Some(&arrived.body[..]),
                "{}",
                arrived.uri
            );
        }
        ensure!(arrived[0].uri == "/stored?q=1" && arrived[0].method == "POST");

        rig.envoy
            .h1()
            .post("/strict", "", "x")
            .await?
            .expect_error(404, "unknown_topic")?;
        ensure!(upstream.arrived().len() == 8, "not stored, so not sent on");
        let lenient = rig.envoy.h1().post("/lenient", "", "y").await?;
        ensure!(lenient.expect(200)?.text() == "upstream" && upstream.arrived().len() == 9);
        Ok(())
    })
}
