//! Parts that stop and start under load: every answer stays true.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use sluice_e2e::envoy::{by_call, produce};
use sluice_e2e::kafka::{Kafka, Setup};
use sluice_e2e::load::{Load, truthful};
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::scenario;
use sluice_e2e::{Result, ensure, kafka};

const PAUSE: Duration = Duration::from_millis(3);

#[test]
fn the_broker_is_stopped_killed_and_started() -> Result<()> {
    scenario("outages-broker", async |s| {
        let mut kafka = Kafka::start(s.dir(), &Setup::default()).await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 3).await?;
        let settings = json!({"topic": topic, "value": "body", "answer_timeout": 1500});
        let mut rig = Rig::start(s, Parts::new(&kafka.bootstrap(), vec![produce("/", settings)])).await?;

        let load = Load::start(&rig.envoy.h1(), "/", 16, PAUSE);
        load.wait_for(300, 200).await?;
        // Held in the sidecar is 503, on its way to the broker 504: how many are which depends on the moment.
        kafka.node(1)?.stop().await?;
        load.wait_for_any(32, &[503, 504]).await?;
        kafka.node(1)?.restart().await?;
        load.wait_for(300, 200).await?;
        kafka.node(1)?.kill()?;
        load.wait_for_any(32, &[503, 504]).await?;
        kafka.node(1)?.restart().await?;
        load.wait_for(300, 200).await?;
        let sent = load.finish().await?;

        // What was still under way may come in now.
        rig.sidecar.stop(Duration::from_secs(60)).await?;
        let tally = truthful(&sent, &kafka.records(&topic).await?)?;
        ensure!(
            tally.stored >= 900 && tally.unknown + tally.refused >= 64,
            "{tally:?}"
        );
        rig.envoy.healthy()
    })
}

#[test]
fn the_sidecar_is_killed_and_started() -> Result<()> {
    scenario("outages-sidecar", async |s| {
        let kafka = kafka::shared().await?;
        let (stream, call) = (s.topic("stream"), s.topic("call"));
        for topic in [&stream, &call] {
            kafka.create_topic(topic, 3).await?;
        }
        let routes = vec![
            produce("/call", by_call(json!({"topic": call, "value": "body"}))),
            produce("/", json!({"topic": stream, "value": "body"})),
        ];
        let mut rig = Rig::start(s, Parts::new(&kafka.bootstrap(), routes)).await?;
        for (path, topic) in [("/", &stream), ("/call", &call)] {
            let load = Load::start(&rig.envoy.h1(), path, 16, PAUSE);
            for _ in 0..3 {
                load.wait_for(300, 200).await?;
                rig.sidecar.kill()?;
                load.wait_for(50, 503).await?;
                rig.sidecar.restart().await?;
            }
            load.wait_for(300, 200).await?;
            let sent = load.finish().await?;
            let tally = truthful(&sent, &kafka.records(topic).await?)?;
            ensure!(tally.stored >= 1200 && tally.refused >= 150, "{path}: {tally:?}");
        }
        rig.envoy.healthy()
    })
}

#[test]
fn a_drained_sidecar_loses_nothing() -> Result<()> {
    scenario("outages-drain", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 3).await?;
        let settings = json!({"topic": topic, "value": "body"});
        let mut rig = Rig::start(s, Parts::new(&kafka.bootstrap(), vec![produce("/", settings)])).await?;
        let load = Load::start(&rig.envoy.h1(), "/", 16, PAUSE);
        for _ in 0..3 {
            load.wait_for(300, 200).await?;
            rig.sidecar.signal(Signal::SIGTERM)?;
            let status = rig.sidecar.ended(Duration::from_secs(30)).await?;
            ensure!(status.success(), "{status}");
            rig.sidecar.restart().await?;
        }
        load.wait_for(300, 200).await?;
        let sent = load.finish().await?;
        let tally = truthful(&sent, &kafka.records(&topic).await?)?;
        ensure!(tally.unknown == 0, "a drain leaves nothing unknown: {tally:?}");
        rig.envoy.healthy()
    })
}

#[test]
fn a_sidecar_that_hangs_does_not_hang_requests() -> Result<()> {
    scenario("outages-hang", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let settings = json!({"topic": topic, "value": "body", "answer_timeout": 1000});
        let routes = vec![
            produce("/call", by_call(settings.clone())),
            produce("/", settings),
        ];
        let mut rig = Rig::start(s, Parts::new(&kafka.bootstrap(), routes)).await?;
        let http = rig.envoy.h1();
        for path in ["/", "/call"] {
            http.post(path, "", "before").await?.expect(200)?;
            rig.sidecar.signal(Signal::SIGSTOP)?;
            let started = tokio::time::Instant::now();
            http.post(path, "", "during")
                .await?
                .expect_error(504, "outcome_unknown")?;
            let took = started.elapsed();
            ensure!(
                took > Duration::from_millis(900) && took < Duration::from_secs(5),
                "{took:?}"
            );
            rig.sidecar.signal(Signal::SIGCONT)?;
            // The ack of a request that was answered long ago arrives now, and is nobody's.
            http.post(path, "", "after").await?.expect(200)?;
        }
        // Envoy ends a call's connection at its deadline, so the sidecar may never read that one.
        let records = kafka.wait_for_records(&topic, 5).await?;
        let count = |value: &str| {
            let alike = records
                .iter()
                .filter(|record| record.text().is_ok_and(|text| text == value));
            alike.count()
        };
        ensure!(count("before") == 2 && count("after") == 2, "{records:?}");
        ensure!((1..=2).contains(&count("during")), "{records:?}");
        rig.envoy.healthy()
    })
}

#[test]
fn no_sidecar_is_a_quick_503() -> Result<()> {
    scenario("outages-no-sidecar", async |s| {
        let kafka = kafka::shared().await?;
        let settings = json!({"topic": "t", "value": "body"});
        let to = |cluster: &str, transport: &str| {
            let mut settings = settings.clone();
            settings["sidecar_cluster"] = json!(cluster);
            settings["transport"] = json!(transport);
            settings
        };
        // Nobody listens; a cluster without endpoints; one that Envoy does not have.
        let routes = vec![
            produce("/call", by_call(settings.clone())),
            produce("/empty", to("nowhere", "stream")),
            produce("/call-empty", to("nowhere", "http")),
            produce("/absent", to("absent", "stream")),
            produce("/call-absent", to("absent", "http")),
            produce("/", settings.clone()),
        ];
        let paths: Vec<String> = (0..4)
            .flat_map(|_| &routes)
            .filter_map(|route| Some(route["name"].as_str()?.to_owned()))
            .collect();
        let mut rig = Rig::start(s, Parts::new(&kafka.bootstrap(), routes)).await?;
        rig.sidecar.kill()?;
        for client in [rig.envoy.h1(), rig.envoy.h2()] {
            for path in &paths {
                let started = tokio::time::Instant::now();
                let reply = client.post(path, "", "x").await?;
                ensure!(
                    !reply
                        .expect_error(503, "sidecar_unavailable")?
                        .header("retry-after")
                        .is_empty()
                );
                ensure!(
                    started.elapsed() < Duration::from_secs(2),
                    "{:?}",
                    started.elapsed()
                );
            }
        }
        rig.envoy.healthy()
    })
}
