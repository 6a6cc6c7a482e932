//! What operators see of the filter: Envoy's stats, and nothing in the log.

use std::time::Duration;

use serde_json::json;
use sluice_e2e::envoy::{by_call, produce};
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::scenario;
use sluice_e2e::{Result, ensure, kafka, wait};

#[test]
fn every_request_is_counted_and_none_is_logged() -> Result<()> {
    scenario("stats", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let routes = vec![
            produce("/stored", json!({"topic": topic})),
            produce("/call", by_call(json!({"topic": topic}))),
            produce("/accepted", json!({"topic": topic, "delivery": "buffered"})),
            produce("/missing", json!({"topic": s.topic("missing")})),
            produce("/bad", json!({"topic": topic, "valeu": "body"})),
        ];
        let mut parts = Parts::new(&kafka.bootstrap(), routes);
        parts.concurrency = 2;
        let mut rig = Rig::start(s, parts).await?;
        let http = rig.envoy.h1();
        let log = rig.envoy.log()?;
        for (path, body, status) in [
            ("/stored", "{}", 200),
            ("/stored", "{}", 200),
            ("/call", "{}", 200),
            ("/accepted", "{}", 202),
            ("/missing", "{}", 404),
            ("/bad", "{}", 500),
            ("/stored", "{", 400),
        ] {
            http.post(path, "application/json", body).await?.expect(status)?;
        }
        let expected = [
            ("requests.stored", 3),
            ("requests.accepted", 1),
            ("requests.unknown_topic", 1),
            ("requests.route_misconfigured", 1),
            ("requests.invalid_request", 1),
            ("requests.outcome_unknown", 0),
            ("requests.departed", 0),
            // Of the streams.
            ("records", 4),
            ("outstanding", 0),
        ];
        wait::until("all is counted", Duration::from_secs(10), async || {
            let stats = rig.envoy.stats("wasmcustom.sluice.").await?;
            for (name, count) in expected {
                let name = format!("wasmcustom.sluice.{name}");
                let found = stats.iter().find(|(found, _)| *found == name);
                ensure!(
                    found.is_some_and(|(_, value)| *value == count.to_string()),
                    "{name}: {found:?}"
                );
            }
            // Envoy summarises histograms every few seconds.
            for name in ["batch_records", "answer_us"] {
                let name = format!("wasmcustom.sluice.{name}");
                let found = stats.iter().find(|(found, _)| *found == name);
                ensure!(
                    found.is_some_and(|(_, value)| value.contains("P99(")),
                    "{name}: {found:?}"
                );
            }
            Ok(())
        })
        .await?;
        ensure!(rig.envoy.log()? == log, "{}", rig.envoy.log()?);

        let admin = rig.sidecar.admin();
        ensure!(
            admin
                .get("/metrics")
                .await?
                .expect(200)?
                .text()
                .contains("# TYPE")
        );
        admin.get("/healthz").await?.expect(200)?;
        rig.envoy.healthy()
    })
}
