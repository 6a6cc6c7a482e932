//! Two brokers, of which one goes away.

use std::time::Duration;

use serde_json::json;
use sluice_e2e::envoy::produce;
use sluice_e2e::kafka::{Kafka, Setup};
use sluice_e2e::load::Load;
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::scenario;
use sluice_e2e::{Result, ensure, wait};

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() * 99 / 100).copied().unwrap_or_default()
}

#[test]
fn one_broker_of_two_is_gone() -> Result<()> {
    scenario("replicas", async |s| {
        let setup = Setup {
            nodes: 2,
            ..Setup::default()
        }
        .property("min.insync.replicas", "2");
        let mut kafka = Kafka::start(s.dir(), &setup).await?;
        let (healthy, dead, replicated) = (s.topic("healthy"), s.topic("dead"), s.topic("replicated"));
        kafka
            .create_assigned(&healthy, "1", &["min.insync.replicas=1"])
            .await?;
        kafka
            .create_assigned(&dead, "2", &["min.insync.replicas=1"])
            .await?;
        kafka.create_assigned(&replicated, "1:2", &[]).await?;
        let raw = |topic: &str| json!({"topic": topic, "value": "body", "answer_timeout": 5000});
        let routes = vec![
            produce("/healthy", raw(&healthy)),
            produce("/dead", raw(&dead)),
            produce(
                "/replicated",
                json!({"topic": replicated, "value": "body", "producer": "impatient"}),
            ),
        ];
        // librdkafka tries again for as long as it may; a record whose time is over by then is a 504.
        let impatient = json!({"properties": {"message.timeout.ms": 2000}});
        let parts = Parts::new(&kafka.bootstrap(), routes).sidecar("producers/impatient", impatient);
        let mut rig = Rig::start(s, parts).await?;
        let http = rig.envoy.h1();
        for path in ["/healthy", "/dead", "/replicated"] {
            http.post(path, "", "before").await?.expect(200)?;
        }
        let alone = Load::start(&http, "/healthy", 8, Duration::from_millis(2));
        alone.wait_for(1000, 200).await?;
        let before = p99(alone.finish().await?.iter().map(|sent| sent.took).collect());

        kafka.node(2)?.kill()?;
        // While the leader's death spreads, its own topics may be asked for elsewhere and be refused.
        let stuck = Load::start(&http, "/dead", 8, Duration::from_millis(2));
        wait::until("too few replicas", Duration::from_secs(60), async || {
            let reply = http.post("/replicated", "", "too few").await?;
            reply.expect_error(503, "cluster_unavailable")?;
            Ok(())
        })
        .await?;
        let beside = Load::start(&http, "/healthy", 8, Duration::from_millis(2));
        beside.wait_for(1000, 200).await?;
        let sent = beside.finish().await?;
        ensure!(
            sent.iter().all(|one| one.status == 200),
            "{:?}",
            sent.iter().find(|one| one.status != 200)
        );
        let during = p99(sent.iter().map(|one| one.took).collect());
        // Waiting for the dead broker takes seconds; noise on a busy machine does not.
        ensure!(
            during < before * 4 + Duration::from_millis(100),
            "p99 {before:?} alone, {during:?} beside it"
        );

        let sent = stuck.finish().await?;
        ensure!(
            !sent.is_empty() && sent.iter().all(|one| matches!(one.status, 503 | 504)),
            "{sent:?}"
        );
        kafka.node(2)?.restart().await?;
        wait::until("both write again", Duration::from_secs(60), async || {
            http.post("/dead", "", "after").await?.expect(200)?;
            http.post("/replicated", "", "after").await?.expect(200)?;
            Ok(())
        })
        .await?;
        rig.envoy.healthy()
    })
}
