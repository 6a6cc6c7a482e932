//! The certificates of a subscription's cluster change while its events flow.

use serde_json::json;
use sluice_e2e::certificates::Authority;
use sluice_e2e::kafka::{Door, Kafka};
use sluice_e2e::scenario::scenario_within;
use sluice_e2e::sidecar::Sidecar;
use sluice_e2e::{Context, Result, ensure, wait};

use super::papers::{Client, Papers};
use super::{LIMIT, PATIENCE};
use crate::subscriptions::checked::{Handler, PARTITIONS, Writer, all_committed, all_taken};

const ID: &str = "checked";

async fn applied(sidecar: &Sidecar, count: f64) -> Result<()> {
    wait::until("a reload is applied", PATIENCE, async || {
        let now = sidecar
            .metric("sluice_cluster_reloads_total", "result=\"applied\"")
            .await?;
        ensure!(now >= count, "{now} of {count}");
        Ok(())
    })
    .await
}

/// The client gets a certificate of another authority, which it comes to trust too; in the end the brokers know only that one.
#[test]
fn a_subscription_goes_over_to_another_certificate() -> Result<()> {
    scenario_within(LIMIT, "clusters-subscribed", async |s| {
        let papers = Papers::new(s)?;
        let mut kafka = Kafka::start(s.dir(), &papers.setup()?).await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, PARTITIONS).await?;
        let next = Authority::new("next authority")?;
        let Client {
            certificate,
            key,
            trust,
            ..
        } = papers.client()?;

        let handler = Handler::start().await?;
        let settings = json!({
            "reload_interval": "200ms",
            "certificates": {"mine": {"cert": {"file": certificate}, "key": {"file": key}}},
            "clusters": {"main": {
                "bootstrap_servers": kafka.door(Door::Mtls),
                "security": {"ssl": true, "certificate_id": "mine", "truststore": {"location": trust}},
                "allowed_topics": ["*"],
            }},
            "subscriptions": {ID: {
                "source": format!("kafka://main/{topic}"),
                "sink": format!("http://127.0.0.1:{}/", handler.port),
                "options": {
                    "concurrency": 32,
                    "retry": {"initial_interval": "50ms", "max_interval": "200ms"},
                    "auto.offset.reset": "earliest",
                },
            }},
        });
        let sidecar = Sidecar::start(s.dir(), &settings).await?;
        let mut writer = Writer::new(&kafka, &[&topic])?;
        writer.write(600)?;
        all_taken(&handler, writer.written).await?;

        // The brokers come to trust the next authority too, and the client has a certificate of it.
        let (both, only) = (s.dir().join("both.pem"), s.dir().join("next.pem"));
        next.write(&only)?;
        let bundle = [std::fs::read(&papers.trust)?, std::fs::read(&only)?].concat();
        std::fs::write(&both, &bundle)?;
        let trusts =
            |file: &std::path::Path| format!("listener.name.mtls.ssl.truststore.location={}", file.display());
        kafka.set_broker(1, &trusts(&both)).await?;
        writer.write(600)?;
        let second = next.issue("client", &[], -1..25)?;
        second.write_certificate(&certificate)?;
        second.write_key(&key, None)?;
        writer.write(600)?;
        applied(&sidecar, 1.0).await?;
        writer.write(600)?;
        // As Kubernetes does: another file in the place of the first.
        std::fs::write(s.dir().join("new-trust.pem"), &bundle)?;
        std::fs::rename(s.dir().join("new-trust.pem"), &trust)?;
        writer.write(600)?;
        applied(&sidecar, 2.0).await?;
        writer.write(600)?;
        all_taken(&handler, writer.written).await?;
        all_committed(&kafka, ID, &topic).await?;

        // Only with the new one can connections be made anew.
        kafka.set_broker(1, &trusts(&only)).await?;
        kafka.node(1)?.stop().await?;
        kafka.node(1)?.restart().await?;
        kafka.ready().await.context("the broker is back")?;
        writer.write(600)?;
        all_taken(&handler, writer.written).await?;
        all_committed(&kafka, ID, &topic).await?;
        let left = sidecar.admin().get("/subscriptions").await?.expect(200)?.json()?;
        ensure!(left["subscriptions"][0]["state"] == "running", "{left}");
        let seen = handler.seen();
        // The member leaves in good order each time. While the broker was away, nothing was under way.
        seen.each_once()?;
        seen.all_in_order(&writer)?;
        ensure!(seen.overlaps == 0, "{} overlap", seen.overlaps);
        Ok(())
    })
}
