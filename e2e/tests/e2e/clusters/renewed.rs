//! Certificates change on the disk while records are under way.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_e2e::certificates::Authority;
use sluice_e2e::envoy::{produce, reads};
use sluice_e2e::kafka::{Door, Kafka, Record};
use sluice_e2e::load::{Load, truthful};
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::scenario_within;
use sluice_e2e::{Result, ensure, wait};

use super::LIMIT;
use super::papers::{Client, PASSWORD, Papers, login, sluice};
use crate::actions::{Caller, of_key};

const PATIENCE: Duration = Duration::from_secs(60);

async fn counted(rig: &Rig, result: &str) -> Result<f64> {
    let labels = format!("result=\"{result}\"");
    rig.sidecar.metric("sluice_cluster_reloads_total", &labels).await
}

/// Waits until the metric is more than it was.
async fn wait_for(rig: &Rig, result: &str, before: f64) -> Result<()> {
    wait::until(&format!("a reload is {result}"), PATIENCE, async || {
        let now = counted(rig, result).await?;
        ensure!(now > before, "{now}");
        Ok(())
    })
    .await
}

/// The client gets a certificate of another authority and trusts it, under load, with a broken and a strange one in
/// between; in the end the brokers take nothing else.
#[test]
fn a_client_certificate_of_another_authority() -> Result<()> {
    scenario_within(LIMIT, "clusters-renewed", async |s| {
        let papers = Papers::new(s)?;
        let mut kafka = Kafka::start(s.dir(), &papers.setup()?).await?;
        let (topic, behind) = (s.topic("t"), s.topic("behind"));
        kafka.create_topic(&topic, 3).await?;
        kafka.create_topic(&behind, 1).await?;
        let next = Authority::new("next authority")?;
        let Client {
            identity: first,
            certificate,
            key,
            trust,
        } = papers.client()?;

        let mut parts = Parts::new(
            "",
            vec![
                reads()?,
                produce(
                    "/behind",
                    json!({"topic": behind, "value": "body", "delivery": "buffered"}),
                ),
                produce("/", json!({"topic": topic, "value": "body"})),
            ],
        );
        parts.sidecar = json!({
            "reload_interval": "200ms",
            "reads": [{"topics": [topic], "anonymous": true}],
            "certificates": {"mine": {"cert": {"file": certificate}, "key": {"file": key}}},
            "clusters": {"main": {
                "bootstrap_servers": kafka.door(Door::Mtls),
                "security": {"ssl": true, "certificate_id": "mine", "truststore": {"location": trust}},
                "allowed_topics": [topic, behind],
            }},
        });
        let rig = Rig::start(s, parts).await?;
        let acked = Load::start(&rig.envoy.h1(), "/", 8, Duration::from_millis(2));
        // One client, whose records are on their way one behind another.
        let buffered = Load::start(&rig.envoy.h1(), "/behind", 1, Duration::ZERO);
        acked.wait_for(200, 200).await?;
        let first_record = format!("/topics/{topic}/records?from=earliest&limit=1");
        rig.envoy.h1().get(&first_record).await?.expect(200)?;
        let ends = rig
            .sidecar
            .metric(
                "sluice_certificate_expiry_timestamp_seconds",
                "store=\"keystore\"",
            )
            .await?;

        // Half of a change: nothing happens, and it is told.
        std::fs::write(&certificate, "no certificate at all")?;
        wait_for(&rig, "bad_files", 0.0).await?;
        acked.wait_for(100, 200).await?;
        let ready = rig.sidecar.admin().get("/readyz").await?.expect(200)?.text();
        ensure!(
            ready.contains("reload_error") && ready.contains("certificates.mine.cert"),
            "{ready}"
        );
        ensure!(counted(&rig, "applied").await? == 0.0);

        // One that is good, and that the brokers do not know yet.
        let second = next.issue("client", &[], -1..25)?;
        second.write_certificate(&certificate)?;
        second.write_key(&key, None)?;
        wait_for(&rig, "not_accepted", 0.0).await?;
        acked.wait_for(100, 200).await?;
        wait::until("both ways are told", PATIENCE, async || {
            let ready = rig.sidecar.admin().get("/readyz").await?.expect(200)?.text();
            let both = ["the old client goes on", "reading goes on"];
            ensure!(both.iter().all(|text| ready.contains(text)), "{ready}");
            Ok(())
        })
        .await?;
        rig.envoy.h1().get(&first_record).await?.expect(200)?;
        ensure!(counted(&rig, "applied").await? == 0.0);

        // The brokers learn of it, and the client goes over.
        let (both, only) = (s.dir().join("both.pem"), s.dir().join("next.pem"));
        next.write(&only)?;
        let bundle = [std::fs::read(&papers.trust)?, std::fs::read(&only)?].concat();
        std::fs::write(&both, &bundle)?;
        let trusts =
            |file: &std::path::Path| format!("listener.name.mtls.ssl.truststore.location={}", file.display());
        kafka.set_broker(1, &trusts(&both)).await?;
        wait_for(&rig, "applied", 0.0).await?;
        // As Kubernetes does: another file in the place of the first.
        std::fs::write(s.dir().join("new-trust.pem"), &bundle)?;
        std::fs::rename(s.dir().join("new-trust.pem"), &trust)?;
        wait_for(&rig, "applied", 1.0).await?;
        kafka.set_broker(1, &trusts(&only)).await?;
        acked.wait_for(200, 200).await?;
        wait::until("nothing is wrong any more", PATIENCE, async || {
            let ready = rig.sidecar.admin().get("/readyz").await?.expect(200)?.text();
            ensure!(!ready.contains("reload_error"), "{ready}");
            Ok(())
        })
        .await?;
        let now = rig
            .sidecar
            .metric(
                "sluice_certificate_expiry_timestamp_seconds",
                "store=\"keystore\"",
            )
            .await?;
        ensure!(now > ends + 4.0 * 86_400.0, "{ends} {now}");

        let (acked, buffered) = (acked.finish().await?, buffered.finish().await?);
        ensure!(acked.iter().all(|sent| sent.status == 200), "{acked:?}");
        let tally = truthful(&acked, &kafka.records(&topic).await?)?;
        ensure!(tally.refused + tally.unknown == 0, "{tally:?}");
        let sent: Vec<&str> = buffered.iter().map(|sent| sent.value.as_str()).collect();
        ensure!(buffered.iter().all(|sent| sent.status == 202));
        let stored = kafka.wait_for_records(&behind, sent.len()).await?;
        let stored: Vec<&str> = stored.iter().map(Record::text).collect::<Result<_>>()?;
        ensure!(stored == sent, "lost, doubled or out of order");

        // Connections are made anew: only with the new one can they be.
        kafka.node(1)?.stop().await?;
        kafka.node(1)?.restart().await?;
        wait::until("the client is back", PATIENCE, async || {
            rig.envoy.h1().post("/", "", "after").await?.expect(200)?;
            rig.envoy.h1().get(&first_record).await?.expect(200)?;
            Ok(())
        })
        .await?;
        first.write_certificate(&certificate)?;
        first.write_key(&key, None)?;
        let (code, out, err) = sluice(s, &["check-config", "--connect"]).await?;
        ensure!(
            code == Some(1) && err.contains("does not accept the client's certificate"),
            "the old one is still good: {out}{err}"
        );
        Ok(())
    })
}

/// Waits until a run's record is in the organisation's topic, and gives its payload.
async fn payload_of(kafka: &Kafka, topic: &str, id: &str) -> Result<Value> {
    let mut found = Vec::new();
    wait::until("the run's record is there", PATIENCE, async || {
        found = of_key(kafka, topic, id).await?;
        ensure!(!found.is_empty());
        Ok(())
    })
    .await?;
    let payload = found.first().and_then(|record| record.get("payload"));
    Ok(payload.cloned().unwrap_or_default())
}

/// Has the admin API keep a cluster of this name.
async fn keep(rig: &Rig, name: &str) -> Result<()> {
    let body = json!({"name": name, "properties": {"bootstrap.servers": "127.0.0.1:9"}});
    let admin = rig.sidecar.admin();
    admin
        .post("/kafka-clusters", "application/json", body.to_string())
        .await?
        .expect(201)?;
    Ok(())
}

/// A password in a file, and the brokers' with it: for records, for the state, and for actions, whose payload has a secret of a
/// file too.
#[test]
fn a_password_in_a_file() -> Result<()> {
    scenario_within(LIMIT, "clusters-password", async |s| {
        let papers = Papers::new(s)?;
        let mut kafka = Kafka::start(s.dir(), &papers.setup()?).await?;
        let (topic, runs) = (s.topic("t"), s.topic("runs"));
        kafka.create_topic(&topic, 1).await?;
        let (file, own) = (s.dir().join("password"), s.dir().join("own"));
        std::fs::write(&file, PASSWORD)?;
        std::fs::write(&own, "first of its own")?;
        let mut authentication = login("SCRAM-SHA-256", "alice", "");
        authentication["password"] = json!({"file": file});
        let mut parts = Parts::new("", vec![produce("/", json!({"topic": topic, "value": "body"}))]);
        parts.sidecar = json!({
            "reload_interval": "200ms",
            "clusters": {"main": {
                "bootstrap_servers": kafka.door(Door::Sasl),
                "authentication": authentication,
                "allowed_topics": [topic],
            }},
            "state": {"topic": s.topic("state")},
            "actions": {"topic": s.topic("actions")},
            "orgs": {"acme": {
                "runs_topic": runs,
                "change_log_topic": s.topic("changes"),
                "secrets": {"own": {"file": own}},
                "access": [{"tokens": ["anna-token"], "name": "anna", "may": ["invoke", "see"]}],
                "actions": [{
                    "identifier": "deploy",
                    "trigger": {"type": "self-service", "operation": "CREATE"},
                    "invocationMethod": {"type": "KAFKA", "payload": {"own": "{{ .secrets.own }}"}},
                }],
            }},
        });
        let rig = Rig::start(s, parts).await?;
        rig.envoy.h1().post("/", "", "before").await?.expect(200)?;
        wait::until("the state is known", PATIENCE, async || {
            keep(&rig, "before").await
        })
        .await?;
        let anna = Caller::new(rig.sidecar.rest(), "anna-token");
        anna.ready().await?;
        let mut id = anna.start("deploy", json!({})).await?;
        ensure!(payload_of(&kafka, &runs, &id).await? == json!({"own": "first of its own"}));

        kafka.set_scram("alice", "next-secret").await?;
        std::fs::write(&file, "next-secret\n")?;
        std::fs::write(&own, "second of its own")?;
        wait_for(&rig, "applied", 0.0).await?;
        rig.envoy.h1().post("/", "", "after").await?.expect(200)?;
        // The old password opens no connection any more, and there is none left that it opened.
        kafka.node(1)?.stop().await?;
        kafka.node(1)?.restart().await?;
        wait::until("records come", PATIENCE, async || {
            rig.envoy.h1().post("/", "", "after").await?.expect(200)?;
            Ok(())
        })
        .await?;
        wait::until("the state is changed", PATIENCE, async || {
            keep(&rig, "after").await
        })
        .await?;
        wait::until("a run is started", PATIENCE, async || {
            id = anna.start("deploy", json!({})).await?;
            Ok(())
        })
        .await?;
        ensure!(payload_of(&kafka, &runs, &id).await? == json!({"own": "second of its own"}));
        let log = rig.sidecar.log()?;
        for secret in ["next-secret", PASSWORD, "of its own"] {
            ensure!(!log.contains(secret), "{secret:?} is told");
        }
        Ok(())
    })
}
