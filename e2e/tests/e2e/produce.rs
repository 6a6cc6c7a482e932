//! A request becomes a record.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use sluice_e2e::envoy::{by_call, produce};
use sluice_e2e::kafka::{Kafka, Setup};
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::scenario;
use sluice_e2e::{Result, ensure, kafka};

#[test]
fn the_answer_says_where_the_record_is() -> Result<()> {
    scenario("produce-smoke", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 3).await?;
        let quiet = json!({"topic": topic, "reply_headers": false});
        let routes = vec![produce("/quiet", quiet), produce("/", json!({"topic": topic}))];
        let rig = Rig::start(s, Parts::new(&kafka.bootstrap(), routes)).await?;

        let reply = rig
            .envoy
            .h1()
            .post("/", "application/json", r#"{"id": 1}"#)
            .await?;
        ensure!(
            reply.expect(200)?.json()? == json!({"message": "message sent"}),
            "{}",
            reply.text()
        );
        let record = kafka.only_record(&topic).await?;
        ensure!(reply.header("x-kafka-topic") == topic);
        ensure!(reply.header("x-kafka-partition") == record.partition.to_string());
        ensure!(reply.header("x-kafka-offset") == record.offset.to_string());
        let expected = json!({"body": r#"{"id": 1}"#, "body_args": {"id": 1}});
        ensure!(record.json()? == expected, "{}", record.text()?);
        ensure!(record.key.is_none());

        let quiet = rig.envoy.h1().post("/quiet", "", "").await?;
        ensure!(quiet.expect(200)?.header("x-kafka-topic").is_empty());
        Ok(())
    })
}

#[test]
fn every_way_in_writes_the_same_record() -> Result<()> {
    scenario("produce-ways", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let settings = json!({
            "topic": topic, "forward_method": true, "forward_uri": true, "forward_headers": true,
            "key": {"query": "k"},
        });
        let routes = vec![
            produce("/call", by_call(settings.clone())),
            produce("/stream", settings),
        ];
        let rig = Rig::start(s, Parts::new(&kafka.bootstrap(), routes)).await?;

        for path in ["/stream?k=a&k=b&flag", "/call?k=a&k=b&flag"] {
            for client in [rig.envoy.h1(), rig.envoy.h2()] {
                client.post(path, "text/plain", "hello").await?.expect(200)?;
            }
        }
        let records = kafka.records(&topic).await?;
        ensure!(records.len() == 4);
        for (record, path) in records.iter().zip(["stream", "stream", "call", "call"]) {
            let value = record.json()?;
            ensure!(record.key.as_deref() == Some(b"a"), "{value}");
            ensure!(value["method"] == "POST" && value["body"] == "hello", "{value}");
            ensure!(value["uri"] == format!("/{path}?k=a&k=b&flag"), "{value}");
            ensure!(
                value["uri_args"] == json!({"k": ["a", "b"], "flag": true}),
                "{value}"
            );
            ensure!(value["headers"]["content-type"] == "text/plain", "{value}");
            ensure!(
                value["headers"]["host"]
                    .as_str()
                    .is_some_and(|host| host.starts_with("127.0.0.1")),
                "{value}"
            );
            ensure!(
                !value["headers"]
                    .as_object()
                    .is_some_and(|all| all.keys().any(|name| name.starts_with(':')))
            );
        }
        Ok(())
    })
}

#[test]
fn several_topics_each_get_the_record() -> Result<()> {
    scenario("produce-topics", async |s| {
        let kafka = kafka::shared().await?;
        let (one, two) = (s.topic("one"), s.topic("two"));
        for topic in [&one, &two] {
            kafka.create_topic(topic, 1).await?;
        }
        let chosen =
            json!({"topic": one, "topics_query_arg": "to", "allowed_topics": [two], "value": "body"});
        let routes = vec![
            produce("/both", json!({"topics": [one, two], "value": "body"})),
            produce(
                "/missing",
                json!({"topics": [one, s.topic("missing")], "value": "body"}),
            ),
            produce(
                "/nowhere",
                json!({"topics": [s.topic("missing"), s.topic("nor-this")]}),
            ),
            produce("/chosen", chosen),
        ];
        let rig = Rig::start(s, Parts::new(&kafka.bootstrap(), routes)).await?;
        let http = rig.envoy.h1();
        let values = async |topic: &str| -> Result<Vec<String>> {
            let records = kafka.records(topic).await?;
            records
                .iter()
                .map(|record| Ok(record.text()?.to_owned()))
                .collect()
        };

        http.post("/both", "", "1").await?.expect(200)?;
        let partly = http.post("/missing", "", "2").await?;
        let text = partly.expect_error(502, "partly_stored")?.text();
        ensure!(
            text.contains(&one) && text.contains(&s.topic("missing")),
            "each topic's result: {text}"
        );
        let nowhere = http
            .post("/nowhere", "", "x")
            .await?
            .expect_error(404, "unknown_topic")?
            .text();
        ensure!(
            nowhere.contains(&s.topic("missing")) && nowhere.contains(&s.topic("nor-this")),
            "each topic's result: {nowhere}"
        );
        http.post("/chosen", "", "3").await?.expect(200)?;
        http.post(&format!("/chosen?to={two}"), "", "4")
            .await?
            .expect(200)?;
        http.post(&format!("/chosen?to={one},{two}"), "", "5")
            .await?
            .expect(200)?;
        let other = http
            .post(&format!("/chosen?to={}", s.topic("other")), "", "6")
            .await?;
        other.expect_error(403, "topic_not_allowed")?;

        ensure!(
            values(&one).await? == ["1", "2", "3", "5"],
            "{:?}",
            values(&one).await?
        );
        ensure!(
            values(&two).await? == ["1", "4", "5"],
            "{:?}",
            values(&two).await?
        );
        ensure!(!kafka.topics().await?.contains(&s.topic("missing")));
        Ok(())
    })
}

#[test]
fn a_request_without_a_topic_is_none_of_ours() -> Result<()> {
    scenario("produce-untouched", async |s| {
        let kafka = kafka::shared().await?;
        let mut plain = produce("/plain", json!({}));
        plain["direct_response"] = json!({"status": 207, "body": {"inline_string": "untouched"}});
        let rig = Rig::start(s, Parts::new(&kafka.bootstrap(), vec![plain])).await?;
        let reply = rig
            .envoy
            .h1()
            .post("/plain", "application/json", "{broken")
            .await?;
        ensure!(reply.expect(207)?.text() == "untouched");
        Ok(())
    })
}

#[test]
fn the_filters_own_routes_serve_routes_without_metadata() -> Result<()> {
    scenario("produce-entries", async |s| {
        let kafka = kafka::shared().await?;
        let (by_name, by_method) = (s.topic("name"), s.topic("method"));
        let (by_host, by_metadata) = (s.topic("host"), s.topic("metadata"));
        for topic in [&by_name, &by_method, &by_host, &by_metadata] {
            kafka.create_topic(topic, 1).await?;
        }
        let bare = |prefix: &str| {
            let mut route = produce(prefix, json!({}));
            route.as_object_mut().map(|route| route.remove("metadata"));
            route
        };
        let metadata = produce("/metadata", json!({"topic": by_metadata}));
        let mut parts = Parts::new(&kafka.bootstrap(), vec![bare("/named"), metadata, bare("/")]);
        parts.filter = json!({
            "value": "body",
            "routes": [
                {"route_name": "/named", "topic": by_name},
                {"methods": ["PUT"], "path_prefix": "/put", "topic": by_method, "success_status": 201},
                {"host": "*.kafka.test", "topic": by_host},
                {"path_prefix": "/metadata", "topic": "overridden", "key": {"query": "k"}, "value": "none"},
                {"path_prefix": "/metadata", "success_status": 299},
            ],
        });
        let rig = Rig::start(s, parts).await?;
        let http = rig.envoy.h1();
        http.post("/named", "", "a").await?.expect(200)?;
        let put = http
            .request(hyper::Method::PUT, "/put/x")
            .body(sluice_e2e::client::full("b"))?;
        http.send(put).await?.expect(201)?;
        http.post("/put/x", "", "c")
            .await?
            .expect_error(503, "filter_unavailable")?;
        let host = http
            .request(hyper::Method::POST, "/put/x")
            .header("host", "Some.Kafka.test:8080")
            .body(sluice_e2e::client::full("d"))?;
        http.send(host).await?.expect(200)?;
        // Base, then the first entry that matches, then metadata.
        http.post("/metadata?k=key", "", "e").await?.expect(200)?;
        ensure!(kafka.only_record(&by_host).await?.text()? == "d");
        let record = kafka.only_record(&by_metadata).await?;
        ensure!(
            record.key.as_deref() == Some(b"key") && record.value.is_none(),
            "{record:?}"
        );
        ensure!(kafka.only_record(&by_name).await?.text()? == "a");
        ensure!(kafka.only_record(&by_method).await?.text()? == "b");
        Ok(())
    })
}

#[test]
fn buffered_is_answered_before_kafka_has_it() -> Result<()> {
    scenario("produce-buffered", async |s| {
        let mut kafka = Kafka::start(s.dir(), &Setup::default()).await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let like_kong = json!({
            "topic": topic, "value": "body", "producer_async": true, "success_status": 200,
            "success_message": "message sent",
        });
        let plain = json!({"topic": topic, "value": "body", "delivery": "buffered"});
        let routes = vec![produce("/kong", like_kong), produce("/", plain)];
        let mut rig = Rig::start(s, Parts::new(&kafka.bootstrap(), routes)).await?;
        let http = rig.envoy.h1();

        let reply = http.post("/", "", "one").await?;
        ensure!(reply.expect(202)?.json()? == json!({"message": "message accepted"}));
        ensure!(reply.header("x-kafka-offset").is_empty());
        kafka.wait_for_records(&topic, 1).await?;
        kafka.node(1)?.pause()?;
        http.post("/", "", "two").await?.expect(202)?;
        let reply = http.post("/kong", "", "three").await?;
        ensure!(reply.expect(200)?.json()? == json!({"message": "message sent"}));

        // A sidecar that is told to stop has until its grace period ends to bring them in.
        rig.sidecar.signal(Signal::SIGTERM)?;
        kafka.node(1)?.resume()?;
        let status = rig.sidecar.ended(Duration::from_secs(30)).await?;
        ensure!(status.success(), "{status}");
        let records = kafka.records(&topic).await?;
        let values: Vec<_> = records.iter().filter_map(|record| record.text().ok()).collect();
        ensure!(values == ["one", "two", "three"], "{values:?}");
        Ok(())
    })
}

#[test]
fn a_request_after_anothers_200_follows_it() -> Result<()> {
    scenario("produce-order", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 4).await?;
        let settings = json!({"topic": topic, "value": "body", "key": {"query": "k"}});
        let routes = vec![
            produce("/call", by_call(settings.clone())),
            produce("/", settings),
        ];
        let mut parts = Parts::new(&kafka.bootstrap(), routes);
        parts.concurrency = 2;
        let rig = Rig::start(s, parts).await?;
        // Connections, and so workers, come and go; transports alternate.
        for n in 0..100 {
            let path = if n % 3 == 0 { "/call" } else { "/" };
            let client = if n % 2 == 0 {
                rig.envoy.h1()
            } else {
                rig.envoy.h2()
            };
            client
                .post(&format!("{path}?k=same"), "", n.to_string())
                .await?
                .expect(200)?;
        }
        let records = kafka.records(&topic).await?;
        let values: Vec<_> = records
            .iter()
            .filter_map(|record| record.text().ok()?.parse::<i32>().ok())
            .collect();
        ensure!(values == (0..100).collect::<Vec<_>>(), "{values:?}");
        Ok(())
    })
}
