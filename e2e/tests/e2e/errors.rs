//! The error table, row by row, against a real broker.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_e2e::envoy::{by_call, produce};
use sluice_e2e::kafka::{self, Kafka, Setup};
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::scenario;
use sluice_e2e::{Result, ensure, ports, wait};

/// The settings of a route by stream, and the same by HTTP call.
fn both(prefix: &str, settings: Value) -> [Value; 2] {
    [
        produce(&format!("/call{prefix}"), by_call(settings.clone())),
        produce(prefix, settings),
    ]
}

#[test]
fn too_large_unknown_not_allowed_and_misconfigured() -> Result<()> {
    scenario("errors-refused", async |s| {
        let kafka = kafka::shared().await?;
        let (topic, small) = (s.topic("t"), s.topic("small"));
        kafka.create_topic(&topic, 1).await?;
        kafka
            .create_assigned(&small, "1", &["max.message.bytes=2000"])
            .await?;
        let raw = |topic: &str| json!({"topic": topic, "value": "body"});
        let mut bounded = raw(&topic);
        bounded["max_body_bytes"] = json!(100);
        let mut nowhere = raw(&topic);
        nowhere["cluster_name"] = json!("other");
        let mut routes = Vec::new();
        routes.extend(both("/small", raw(&small)));
        routes.extend(both("/bounded", bounded));
        routes.extend(both("/missing", raw(&s.topic("missing"))));
        routes.extend(both("/forbidden", raw("forbidden")));
        routes.extend(both("/nowhere", nowhere));
        routes.push(produce("/bad", json!({"topic": topic, "valeu": "body"})));
        let parts = Parts::new(&kafka.bootstrap(), routes)
            .sidecar("clusters/main/allowed_topics", json!([format!("{}*", s.name())]));
        let mut rig = Rig::start(s, parts).await?;
        let http = rig.envoy.h1();

        for call in ["", "/call"] {
            let post = async |path: &str, size: usize| {
                http.post(&format!("{call}{path}"), "", vec![b'x'; size]).await
            };
            // By the topic's own bound, by the route's, and by librdkafka's.
            post("/small", 5000).await?.expect_error(413, "too_large")?;
            post("/bounded", 101).await?.expect_error(413, "too_large")?;
            post("/bounded", 100).await?.expect(200)?;
            post("/missing", 1).await?.expect_error(404, "unknown_topic")?;
            post("/forbidden", 1)
                .await?
                .expect_error(403, "topic_not_allowed")?;
            post("/nowhere", 1)
                .await?
                .expect_error(500, "route_misconfigured")?;
        }
        // Past what Envoy buffers: its own answer, in our shape.
        http.post("/small", "", vec![b'x'; 3 << 20])
            .await?
            .expect_error(413, "too_large")?;
        http.post("/bad", "", "x")
            .await?
            .expect_error(500, "route_misconfigured")?;

        ensure!(
            !kafka.topics().await?.contains(&s.topic("missing")),
            "the broker creates topics, the sidecar must not"
        );
        ensure!(kafka.records(&small).await?.is_empty());
        ensure!(kafka.records(&topic).await?.len() == 2);
        rig.envoy.healthy()
    })
}

#[test]
fn a_topic_is_created_only_where_the_profile_says_so() -> Result<()> {
    scenario("errors-auto-create", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("made");
        let routes = vec![produce(
            "/",
            json!({"topic": topic, "value": "body", "producer": "making"}),
        )];
        let parts = Parts::new(&kafka.bootstrap(), routes)
            .sidecar("producers/making/allow_auto_create_topics", json!(true));
        let rig = Rig::start(s, parts).await?;
        wait::until("the topic is made", Duration::from_secs(30), async || {
            rig.envoy.h1().post("/", "", "x").await?.expect(200)?;
            Ok(())
        })
        .await?;
        ensure!(kafka.topics().await?.contains(&topic));
        Ok(())
    })
}

#[test]
fn not_authorised() -> Result<()> {
    scenario("errors-acl", async |s| {
        let mut setup = Setup::default();
        setup.users.push(("alice".to_owned(), "alice-secret".to_owned()));
        let kafka = Kafka::start(s.dir(), &setup).await?;
        let (open, seen, hidden) = (s.topic("open"), s.topic("seen"), s.topic("hidden"));
        for topic in [&open, &seen, &hidden] {
            kafka.create_topic(topic, 1).await?;
        }
        kafka.allow("alice", "Write", &open).await?;
        kafka.allow("alice", "Describe", &seen).await?;
        let raw = |topic: &str| json!({"topic": topic, "value": "body"});
        let mut routes = Vec::new();
        routes.extend(both("/open", raw(&open)));
        routes.extend(both("/seen", raw(&seen)));
        routes.extend(both("/hidden", raw(&hidden)));
        let sasl = json!({
            "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN",
            "sasl.username": "alice", "sasl.password": "alice-secret",
        });
        let parts = Parts::new(&kafka.sasl_bootstrap(), routes).sidecar("clusters/main/properties", sasl);
        let rig = Rig::start(s, parts).await?;
        let http = rig.envoy.h1();
        for call in ["", "/call"] {
            http.post(&format!("{call}/open"), "", "x").await?.expect(200)?;
            http.post(&format!("{call}/seen"), "", "x")
                .await?
                .expect_error(403, "not_authorised")?;
            http.post(&format!("{call}/hidden"), "", "x")
                .await?
                .expect_error(403, "not_authorised")?;
            // And the producer still works.
            http.post(&format!("{call}/open"), "", "x").await?.expect(200)?;
        }
        ensure!(kafka.records(&open).await?.len() == 4);
        ensure!(kafka.records(&seen).await?.is_empty() && kafka.records(&hidden).await?.is_empty());
        ensure!(
            !rig.sidecar.log()?.contains("alice-secret"),
            "a secret in the log"
        );
        Ok(())
    })
}

#[test]
fn a_cluster_that_nobody_reaches() -> Result<()> {
    scenario("errors-dead-cluster", async |s| {
        let dead = format!("127.0.0.1:{}", ports::pick()?);
        let settings = json!({"topic": "t", "value": "body", "answer_timeout": 2000});
        let two = json!({"topics": ["t", "u"], "value": "body", "answer_timeout": 2000});
        let mut routes: Vec<Value> = both("/two", two).into();
        routes.extend(both("/", settings));
        let mut parts = Parts::new(&dead, routes);
        parts.sidecar["default_cluster"] = json!("main");
        let rig = Rig::start(s, parts).await?;
        for path in ["/", "/call/", "/two", "/call/two"] {
            let reply = rig.envoy.h1().post(path, "", "x").await?;
            // Nothing was ever sent to a broker.
            ensure!(
                !reply
                    .expect_error(503, "cluster_unavailable")?
                    .header("retry-after")
                    .is_empty()
            );
        }
        Ok(())
    })
}

#[test]
fn a_full_buffer_refuses_and_recovers() -> Result<()> {
    scenario("errors-full", async |s| {
        let mut kafka = Kafka::start(s.dir(), &Setup::default()).await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let settings = json!({"topic": topic, "value": "body", "delivery": "buffered", "producer": "tiny"});
        let mut routes = vec![produce(
            "/acked",
            json!({"topic": topic, "value": "body", "producer": "tiny"}),
        )];
        routes.extend(both("/", settings));
        let parts = Parts::new(&kafka.bootstrap(), routes).sidecar(
            "producers/tiny/producer_async_buffering_limits_messages_in_memory",
            json!(10),
        );
        let rig = Rig::start(s, parts).await?;
        let http = rig.envoy.h1();
        http.post("/acked", "", "first").await?.expect(200)?;

        kafka.node(1)?.pause()?;
        let mut accepted = 1;
        for path in ["/", "/call/"] {
            let refused = loop {
                let reply = http.post(path, "", format!("value-{accepted}")).await?;
                match reply.status {
                    202 if accepted < 100 => accepted += 1,
                    _ => break reply,
                }
            };
            ensure!(
                !refused
                    .expect_error(503, "buffer_full")?
                    .header("retry-after")
                    .is_empty()
            );
        }
        ensure!(
            (10..=20).contains(&accepted),
            "{accepted} were accepted of 10 in the buffer"
        );
        kafka.node(1)?.resume()?;
        let records = kafka.wait_for_records(&topic, accepted).await?;
        ensure!(records.len() == accepted, "what was refused is not there");
        wait::until("there is room again", Duration::from_secs(20), async || {
            http.post("/", "", "later").await?.expect(202)?;
            Ok(())
        })
        .await
    })
}

#[test]
fn an_acknowledgement_that_does_not_come() -> Result<()> {
    scenario("errors-lost-ack", async |s| {
        let mut kafka = Kafka::start(s.dir(), &Setup::default()).await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let settings = json!({"topic": topic, "value": "body", "answer_timeout": 1500});
        let rig = Rig::start(s, Parts::new(&kafka.bootstrap(), both("/", settings).into())).await?;
        let http = rig.envoy.h1();
        http.post("/", "", "before").await?.expect(200)?;

        kafka.node(1)?.pause()?;
        for path in ["/", "/call/"] {
            // It was handed to the broker's socket, and nobody knows more.
            http.post(path, "", format!("during{path}"))
                .await?
                .expect_error(504, "outcome_unknown")?;
        }
        kafka.node(1)?.resume()?;
        wait::until("Kafka acknowledges again", Duration::from_secs(30), async || {
            http.post("/", "", "after").await?.expect(200)?;
            Ok(())
        })
        .await?;
        let records = kafka.records(&topic).await?;
        for value in ["during/", "during/call/"] {
            let copies = records
                .iter()
                .filter(|record| record.text().is_ok_and(|text| text == value))
                .count();
            ensure!(copies <= 1, "{value} is there {copies} times");
        }
        Ok(())
    })
}
