//! Answers that promise little, and what must still be true of them; order after a 202.

use std::time::Duration;

use serde_json::json;
use sluice_e2e::envoy::{by_call, produce};
use sluice_e2e::kafka::{self, Kafka, Setup};
use sluice_e2e::load::Load;
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::scenario;
use sluice_e2e::{Result, ensure, wait};

/// Nobody acknowledges anything: 202 without an offset, whatever `delivery` says.
#[test]
fn acks_0_is_a_202_without_an_offset() -> Result<()> {
    scenario("truth-acks-0", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let settings = json!({"topic": topic, "value": "body", "producer": "nobody"});
        let routes = vec![
            produce("/call", by_call(settings.clone())),
            produce("/", settings),
        ];
        let parts = Parts::new(&kafka.bootstrap(), routes)
            .sidecar("producers/nobody/producer_request_acks", json!(0));
        let rig = Rig::start(s, parts).await?;
        for path in ["/", "/call"] {
            let reply = rig.envoy.h1().post(path, "", path).await?;
            ensure!(
                reply.expect(202)?.json()? == json!({"message": "message accepted"}),
                "{}",
                reply.text()
            );
            ensure!(reply.header("x-kafka-offset").is_empty(), "{:?}", reply.headers);
        }
        let array = json!([{"value": "1"}, {"value": "2"}]).to_string();
        let path = format!("/topics/{topic}/records?producer=nobody");
        let many = rig.sidecar.rest();
        let many = many
            .post(&path, "application/vnd.sluice.records+json", array)
            .await?;
        let result = json!({"topic": topic, "status": 202});
        ensure!(
            many.expect(202)?.json()?["results"] == json!([result, result]),
            "{}",
            many.text()
        );
        kafka.wait_for_records(&topic, 4).await?;
        let log = rig.sidecar.log()?;
        ensure!(
            log.contains("turns idempotence off for producers.nobody"),
            "no warning: {log}"
        );
        Ok(())
    })
}

/// Its records are gone, so that what a 200 said cannot be compared; but each said where, and none came later.
#[test]
fn a_topic_that_is_deleted_under_load() -> Result<()> {
    scenario("truth-deleted", async |s| {
        let kafka = kafka::shared().await?;
        let (topic, other) = (s.topic("t"), s.topic("other"));
        for topic in [&topic, &other] {
            kafka.create_topic(topic, 3).await?;
        }
        let raw = |topic: &str| json!({"topic": topic, "value": "body", "answer_timeout": 5000});
        let mut routes = vec![
            produce("/other", raw(&other)),
            produce("/call", by_call(raw(&topic))),
        ];
        routes.push(produce("/", raw(&topic)));
        let mut rig = Rig::start(s, Parts::new(&kafka.bootstrap(), routes)).await?;
        for path in ["/", "/call"] {
            let load = Load::start(&rig.envoy.h1(), path, 16, Duration::from_millis(1));
            let beside = Load::start(&rig.envoy.h1(), "/other", 2, Duration::from_millis(2));
            load.wait_for(300, 200).await?;
            kafka.delete_topic(&topic).await?;
            load.wait_for(100, 404).await?;
            for one in load.finish().await? {
                let truthful = match one.status {
                    200 => one
                        .stored_at
                        .is_some_and(|(partition, offset)| partition >= 0 && offset >= 0),
                    404 => one.code == "unknown_topic",
                    503 => one.code == "cluster_unavailable",
                    504 => one.code == "outcome_unknown",
                    _ => false,
                };
                ensure!(truthful, "{one:?}");
            }
            let sent = beside.finish().await?;
            ensure!(
                sent.iter().all(|one| one.status == 200),
                "another topic suffers: {:?}",
                sent.iter().find(|one| one.status != 200)
            );
            ensure!(!kafka.topics().await?.contains(&topic), "it is back");
            kafka.create_topic(&topic, 3).await?;
            wait::until("the new topic is written", Duration::from_secs(30), async || {
                rig.envoy.h1().post(path, "", "new").await?.expect(200)?;
                Ok(())
            })
            .await?;
        }
        rig.envoy.healthy()
    })
}

/// librdkafka by itself would not believe it for 30 s after it first heard of the topic, and the answer be a 504.
#[test]
fn a_topic_that_is_deleted_right_after_its_first_record() -> Result<()> {
    scenario("truth-deleted-soon", async |s| {
        let kafka = kafka::shared().await?;
        let topics = ["stream", "call", "rest"].map(|suffix| s.topic(suffix));
        let raw = |topic: &str| json!({"topic": topic, "value": "body", "answer_timeout": 20_000});
        let routes = vec![
            produce("/call", by_call(raw(&topics[1]))),
            produce("/stream", raw(&topics[0])),
        ];
        let parts = Parts::new(&kafka.bootstrap(), routes).sidecar("answer_timeout", json!(20_000));
        let mut rig = Rig::start(s, parts).await?;
        let rest = format!("/topics/{}/records", topics[2]);
        let faces = [
            (rig.envoy.h1(), "/stream"),
            (rig.envoy.h1(), "/call"),
            (rig.sidecar.rest(), &rest),
        ];
        for (topic, (http, path)) in topics.iter().zip(faces) {
            kafka.create_topic(topic, 1).await?;
            http.post(path, "", "first").await?.expect(200)?;
            kafka.delete_topic(topic).await?;
            // Before any deadline.
            wait::until("the deletion is noticed", Duration::from_secs(15), async || {
                http.post(path, "", "late")
                    .await?
                    .expect_error(404, "unknown_topic")?;
                Ok(())
            })
            .await?;
            kafka.create_topic(topic, 1).await?;
            wait::until("the new topic is written", Duration::from_secs(30), async || {
                http.post(path, "", "new").await?.expect(200)?;
                Ok(())
            })
            .await?;
            let records = kafka.records(topic).await?;
            ensure!(
                records
                    .iter()
                    .all(|record| record.text().is_ok_and(|text| text == "new")),
                "what was 404 is stored: {records:?}"
            );
        }
        rig.envoy.healthy()
    })
}

/// Through workers, streams, calls and the REST face of one sidecar, while the broker stands still and after.
#[test]
fn a_request_after_anothers_202_follows_it_within_a_profile() -> Result<()> {
    scenario("truth-order-202", async |s| {
        let mut kafka = Kafka::start(s.dir(), &Setup::default()).await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 4).await?;
        let settings =
            json!({"topic": topic, "value": "body", "key": {"query": "k"}, "delivery": "buffered"});
        let routes = vec![
            produce("/call", by_call(settings.clone())),
            produce("/", settings),
        ];
        let mut parts = Parts::new(&kafka.bootstrap(), routes);
        parts.concurrency = 2;
        let rig = Rig::start(s, parts).await?;
        let rest = rig.sidecar.rest();
        for n in 0..150 {
            match n {
                50 => kafka.node(1)?.pause()?,
                100 => kafka.node(1)?.resume()?,
                _ => {}
            }
            let client = [rig.envoy.h1(), rig.envoy.h2()][n % 2].clone();
            let reply = match n % 3 {
                0 => client.post("/?k=same", "", n.to_string()).await?,
                1 => client.post("/call?k=same", "", n.to_string()).await?,
                _ => {
                    let path = format!("/topics/{topic}/records?delivery=buffered");
                    let line = json!({"key": "same", "value": n.to_string()}).to_string();
                    rest.post(&path, "application/x-ndjson", line).await?
                }
            };
            reply.expect(202)?;
        }
        let records = kafka.wait_for_records(&topic, 150).await?;
        let values: Vec<_> = records
            .iter()
            .filter_map(|record| record.text().ok()?.parse::<usize>().ok())
            .collect();
        ensure!(values == (0..150).collect::<Vec<_>>(), "{values:?}");
        Ok(())
    })
}
