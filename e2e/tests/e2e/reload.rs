//! Envoy replaces the filter's configuration while requests are under way.

use std::time::Duration;

use serde_json::json;
use sluice_e2e::envoy::produce;
use sluice_e2e::load::{Load, truthful};
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::scenario;
use sluice_e2e::{Result, ensure, kafka};

#[test]
fn a_new_configuration_under_load() -> Result<()> {
    scenario("reload", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 3).await?;
        let mut parts = Parts::new(&kafka.bootstrap(), vec![produce("/", json!({"topic": topic}))]);
        parts.filter = json!({"value": "body"});
        parts.concurrency = 2;
        let mut rig = Rig::start(s, parts).await?;
        let (h1, h2) = (
            Load::start(&rig.envoy.h1(), "/?h1", 12, Duration::from_millis(3)),
            Load::start(&rig.envoy.h2(), "/?h2", 4, Duration::from_millis(3)),
        );
        for round in 1..=5 {
            h1.wait_for(200, 200).await?;
            h2.wait_for(50, 200).await?;
            rig.config.filter = json!({"value": "body", "answer_timeout": 5000 + round});
            rig.envoy.replace(&rig.config).await?;
        }
        h1.wait_for(200, 200).await?;
        h2.wait_for(50, 200).await?;
        // The two number their values alike.
        let (mut sent, more) = (h1.finish().await?, h2.finish().await?);
        let both = more.len() + sent.len();
        sent.extend(more);
        ensure!(
            sent.iter().all(|one| one.status == 200),
            "{:?}",
            sent.iter().find(|one| one.status != 200)
        );
        let records = kafka.records(&topic).await?;
        ensure!(
            records.len() == both,
            "{} records of {both} requests",
            records.len()
        );

        // And the new configuration holds: the value is an envelope now.
        rig.config.filter = json!({"value": "envelope"});
        rig.envoy.replace(&rig.config).await?;
        rig.envoy.h1().post("/", "text/plain", "x").await?.expect(200)?;
        let last = kafka.records(&topic).await?;
        ensure!(last.iter().any(|record| {
            record
                .text()
                .is_ok_and(|text| text == r#"{"body":"x","body_args":{}}"#)
        }));
        rig.envoy.healthy()
    })
}

#[test]
fn a_bad_configuration_is_rejected_with_every_problem_and_the_old_one_stays() -> Result<()> {
    scenario("reload-bad", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let parts = Parts::new(
            &kafka.bootstrap(),
            vec![produce("/", json!({"topic": topic, "value": "body"}))],
        );
        let mut rig = Rig::start(s, parts).await?;
        rig.config.filter = json!({
            "topic": "bad topic", "max_body_bytes": -1, "producer_request_acks": 1, "nonsense": true,
        });
        ensure!(rig.envoy.replace(&rig.config).await.is_err());
        let log = rig.envoy.log()?;
        for field in ["topic", "max_body_bytes", "producer_request_acks", "nonsense"] {
            ensure!(log.contains(field), "{field} is not named:\n{log}");
        }
        rig.envoy.h1().post("/", "", "x").await?.expect(200)?;
        ensure!(kafka.only_record(&topic).await?.text()? == "x");
        Ok(())
    })
}

#[test]
fn routes_of_different_settings_share_a_stream() -> Result<()> {
    scenario("reload-mixed", async |s| {
        let kafka = kafka::shared().await?;
        let topics = ["a", "b", "c", "d"].map(|name| s.topic(name));
        for topic in &topics {
            kafka.create_topic(topic, 2).await?;
        }
        let [a, b, c, d] = &topics;
        let routes = vec![
            produce("/a", json!({"topic": a, "value": "body"})),
            produce(
                "/b",
                json!({"topic": b, "value": "body", "producer": "leader", "answer_timeout": 3000}),
            ),
            produce(
                "/c",
                json!({"topic": c, "value": "body", "cluster_name": "second", "success_status": 200}),
            ),
            produce(
                "/d",
                json!({"topic": d, "value": "body", "transport": "http", "sidecar_cluster": "sluice_data"}),
            ),
        ];
        let second = json!({"bootstrap_servers": kafka.bootstrap(), "allowed_topics": ["*"]});
        let parts = Parts::new(&kafka.bootstrap(), routes)
            .sidecar("clusters/second", second)
            .sidecar("default_cluster", json!("main"))
            .sidecar("producers/leader/producer_request_acks", json!(1));
        let mut rig = Rig::start(s, parts).await?;
        let loads = ["/a", "/b", "/c", "/d"]
            .map(|path| Load::start(&rig.envoy.h1(), path, 4, Duration::from_millis(2)));
        for load in &loads {
            load.wait_for(200, 200).await?;
        }
        for (load, topic) in loads.into_iter().zip(&topics) {
            let sent = load.finish().await?;
            let tally = truthful(&sent, &kafka.records(topic).await?)?;
            ensure!(tally.refused + tally.unknown == 0, "{topic}: {tally:?}");
        }
        rig.envoy.healthy()
    })
}
