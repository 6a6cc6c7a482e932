//! Writes stamped records, with a client of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use sluice_e2e::{Result, anyhow, bail};

use super::stamp::{Clock, stamped};
use super::{PARTITIONS, TOPIC};

/// How long the broker may take for what is under way.
const FLUSH: Duration = Duration::from_secs(60);

fn producer(bootstrap: &str) -> Result<BaseProducer> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("acks", "all")
        .set("linger.ms", "0");
    Ok(config.create()?)
}

fn send(producer: &BaseProducer, n: u64, clock: Clock) -> Result<()> {
    let partition = i32::try_from(n % u64::from(PARTITIONS.unsigned_abs()))?;
    let value = stamped(clock.now());
    loop {
        let record = BaseRecord::<(), [u8]>::to(TOPIC)
            .partition(partition)
            .payload(&value);
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                producer.poll(Duration::from_millis(1));
            }
            Err((error, _)) => bail!("librdkafka does not take a record: {error}"),
        }
    }
}

/// Writes `count` records as fast as the broker takes them, over all partitions in turn.
///
/// # Errors
/// They are not all stored within a minute.
pub(crate) fn fill(bootstrap: &str, count: u64, clock: Clock) -> Result<()> {
    let producer = producer(bootstrap)?;
    for n in 0..count {
        send(&producer, n, clock)?;
        if n % 128 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    Ok(producer.flush(FLUSH)?)
}

/// Writes at a steady rate, on a thread, until it is stopped.
pub(crate) struct Writer {
    over: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<Result<()>>,
}

impl Writer {
    /// A record each `every`, over all partitions in turn.
    ///
    /// # Errors
    /// librdkafka refuses its configuration.
    pub(crate) fn start(bootstrap: &str, every: Duration, clock: Clock) -> Result<Self> {
        let producer = producer(bootstrap)?;
        // What a first record waits for (metadata, a connection) is no record's fault.
        producer.client().fetch_metadata(Some(TOPIC), FLUSH)?;
        let (over, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (told, count) = (Arc::clone(&over), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            let mut next = Instant::now() + every;
            while !told.load(Ordering::Relaxed) {
                producer.poll(Duration::from_millis(5).min(next.saturating_duration_since(Instant::now())));
                if Instant::now() >= next {
                    send(&producer, count.load(Ordering::Relaxed), clock)?;
                    count.fetch_add(1, Ordering::Release);
                    next += every;
                }
            }
            Ok(producer.flush(FLUSH)?)
        });
        Ok(Self { over, sent, thread })
    }

    /// Stops it, and waits until all is stored; how many there were.
    ///
    /// # Errors
    /// One was not stored.
    pub(crate) fn stop(self) -> Result<u64> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the writer failed"))??;
        Ok(self.sent.load(Ordering::Acquire))
    }
}
