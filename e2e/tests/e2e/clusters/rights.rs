//! What Kafka's ACLs allow, taken away and given back.

use std::time::Duration;

use serde_json::json;
use sluice_e2e::envoy::produce;
use sluice_e2e::kafka::{Kafka, Setup};
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::scenario_within;
use sluice_e2e::{Result, ensure, wait};

use super::LIMIT;
use super::papers::{login, sluice};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_right_that_is_revoked_and_given_back() -> Result<()> {
    scenario_within(LIMIT, "clusters-rights", async |s| {
        let mut setup = Setup::default();
        setup.users.push(("alice".to_owned(), "alice-secret".to_owned()));
        let kafka = Kafka::start(s.dir(), &setup).await?;
        let (topic, other) = (s.topic("t"), s.topic("other"));
        for topic in [&topic, &other] {
            kafka.create_topic(topic, 1).await?;
            kafka.allow("alice", "Write", topic).await?;
            // That it can be seen is not enough, and does not hide what is missing.
            kafka.allow("alice", "Describe", topic).await?;
        }
        let raw = |topic: &str| json!({"topic": topic, "value": "body"});
        let mut parts = Parts::new(
            "",
            vec![produce("/other", raw(&other)), produce("/", raw(&topic))],
        );
        parts.sidecar = json!({"clusters": {"main": {
            "bootstrap_servers": kafka.sasl_bootstrap(),
            "authentication": login("PLAIN", "alice", "alice-secret"),
            "allowed_topics": [topic, other],
        }}});
        let rig = Rig::start(s, parts).await?;
        let http = rig.envoy.h1();
        let connect = async || sluice(s, &["check-config", "--connect"]).await;
        http.post("/", "", "before").await?.expect(200)?;
        let (code, out, err) = connect().await?;
        ensure!(
            code == Some(0) && out.ends_with("clusters.main: reached\n"),
            "{out}{err}"
        );

        kafka.revoke("alice", "Write", &topic).await?;
        wait::until("it is refused", PATIENCE, async || {
            http.post("/", "", "revoked")
                .await?
                .expect_error(403, "not_authorised")?;
            Ok(())
        })
        .await?;
        http.post("/other", "", "beside").await?.expect(200)?;
        let (code, _, err) = connect().await?;
        let line = format!("clusters.main: not authorised on {topic}\n");
        ensure!(code == Some(1) && err.ends_with(&line), "{err}");
        let refused = rig
            .sidecar
            .metric("sluice_records_total", "outcome=\"not_authorised\"")
            .await?;
        ensure!(refused > 0.0);

        kafka.allow("alice", "Write", &topic).await?;
        wait::until("it is taken again", PATIENCE, async || {
            http.post("/", "", "after").await?.expect(200)?;
            Ok(())
        })
        .await?;
        let (code, out, err) = connect().await?;
        ensure!(
            code == Some(0) && out.ends_with("clusters.main: reached\n"),
            "{out}{err}"
        );
        Ok(())
    })
}
