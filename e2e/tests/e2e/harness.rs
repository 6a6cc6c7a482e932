//! The harness itself: what the other tests rely on.

use sluice_e2e::kafka::{self, Kafka, Setup};
use sluice_e2e::scenario::scenario;
use sluice_e2e::{Result, ensure};

#[test]
fn kafka_keeps_its_records_over_a_restart_on_the_same_port() -> Result<()> {
    scenario("harness-restart", async |s| {
        let mut kafka = Kafka::start(s.dir(), &Setup::default()).await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 3).await?;
        kafka
            .console_produce(&topic, &[("k1", "v1"), ("k2", "v2")])
            .await?;
        let before = kafka.records(&topic).await?;
        ensure!(before.len() == 2);

        let address = kafka.bootstrap();
        kafka.node(1)?.stop().await?;
        kafka.node(1)?.restart().await?;
        ensure!(kafka.bootstrap() == address);
        ensure!(kafka.records(&topic).await? == before);

        kafka.node(1)?.kill()?;
        kafka.node(1)?.restart().await?;
        ensure!(kafka.records(&topic).await? == before);
        Ok(())
    })
}

#[test]
fn shared_kafka_is_one() -> Result<()> {
    scenario("harness-shared", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        kafka.console_produce(&topic, &[("k", "v")]).await?;
        let lines = kafka.console_consume(&topic, 1).await?;
        ensure!(lines == ["NO_HEADERS\tk\tv"], "{lines:?}");
        let record = kafka.only_record(&topic).await?;
        ensure!(record.text()? == "v" && record.key.as_deref() == Some(b"k"));
        ensure!(std::ptr::eq(kafka, kafka::shared().await?));
        Ok(())
    })
}
