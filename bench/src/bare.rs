//! librdkafka with nothing in front of it: what Sluice's own figures are compared with.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, FutureProducer, FutureRecord, Producer, ProducerContext};
use sluice_e2e::{Result, bail, ensure};

use crate::envoy::TOPIC;
use crate::load::Outcome;

/// Idempotent, acks=all; all else is librdkafka's default.
fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("acks", "all")
        .set("enable.idempotence", "true");
    config
}

/// A loop that sends a record and awaits its ack before it sends the next.
pub(crate) struct Awaiting(FutureProducer);

impl Awaiting {
    /// # Errors
    /// librdkafka refuses the configuration.
    pub(crate) fn new(bootstrap: &str) -> Result<Self> {
        // With one record under way there is nothing to gather: no linger is the best that it can do.
        Ok(Self(config(bootstrap).set("linger.ms", "0").create()?))
    }

    /// Runs for `window`, one record at least.
    ///
    /// # Errors
    /// A record is not acknowledged.
    pub(crate) async fn run(&self, value: &[u8], window: Duration) -> Result<Outcome> {
        let start = Instant::now();
        let mut outcome = Outcome::default();
        loop {
            let sent = Instant::now();
            let record = FutureRecord::<(), [u8]>::to(TOPIC).payload(value);
            if let Err((error, _)) = self.0.send(record, Duration::ZERO).await {
                bail!("the bare loop's record was not stored: {error}");
            }
            outcome.latencies.push(sent.elapsed());
            *outcome.statuses.entry(200).or_default() += 1;
            if start.elapsed() >= window {
                break;
            }
        }
        outcome.elapsed = start.elapsed();
        outcome.latencies.sort_unstable();
        Ok(outcome)
    }
}

/// Counts what becomes of records.
#[derive(Debug, Default)]
struct Acks {
    stored: AtomicU64,
    failed: AtomicU64,
}

impl ClientContext for Acks {}

impl ProducerContext for Acks {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = if result.is_ok() {
            &self.stored
        } else {
            &self.failed
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sends `records` records as fast as librdkafka takes them; how long until the last was acknowledged. The
/// connection is up before the first.
///
/// # Errors
/// A record is not stored.
pub(crate) fn flood(bootstrap: &str, value: &[u8], records: u64) -> Result<Duration> {
    let producer: BaseProducer<Acks> = config(bootstrap).create_with_context(Acks::default())?;
    send(&producer, value)?;
    producer.flush(Duration::from_secs(60))?;
    let start = Instant::now();
    for sent in 0..records {
        send(&producer, value)?;
        if sent % 128 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(Duration::from_secs(60))?;
    let elapsed = start.elapsed();
    let acks = producer.context();
    let (stored, failed) = (
        acks.stored.load(Ordering::Relaxed),
        acks.failed.load(Ordering::Relaxed),
    );
    ensure!(
        (stored, failed) == (records + 1, 0),
        "of {} records {stored} were stored and {failed} failed",
        records + 1
    );
    Ok(elapsed)
}

/// Hands over a record, when there is room for it.
fn send(producer: &BaseProducer<Acks>, value: &[u8]) -> Result<()> {
    let mut record = BaseRecord::<(), [u8]>::to(TOPIC).payload(value);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                record = again;
                producer.poll(Duration::from_millis(1));
            }
            Err((error, _)) => bail!("librdkafka does not take a record: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::mocking::MockCluster;

    fn cluster() -> MockCluster<'static, rdkafka::producer::DefaultProducerContext> {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(TOPIC, 1, 1).unwrap();
        cluster
    }

    #[test]
    fn a_flood_is_over_once_every_record_is_acknowledged() {
        let cluster = cluster();
        let elapsed = flood(&cluster.bootstrap_servers(), b"value", 1000).unwrap();
        assert!(elapsed > Duration::ZERO);
    }

    #[test]
    fn a_flood_with_a_record_that_is_not_stored_fails() {
        let cluster = cluster();
        let refused = rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
        cluster.request_errors(rdkafka::types::RDKafkaApiKey::Produce, &[refused]);
        let error = flood(&cluster.bootstrap_servers(), b"value", 100).unwrap_err();
        assert!(error.to_string().starts_with("of 101 records"), "{error}");
    }

    #[tokio::test]
    async fn the_loop_times_every_record() {
        let cluster = cluster();
        let awaiting = Awaiting::new(&cluster.bootstrap_servers()).unwrap();
        let outcome = awaiting.run(b"value", Duration::from_millis(20)).await.unwrap();
        assert!(!outcome.latencies.is_empty() && outcome.latencies.is_sorted());
        assert_eq!(outcome.statuses, [(200, outcome.latencies.len() as u64)].into());
    }
}
