//! Records that say which they are, which key they have and when they were written; how that is found in whatever they are sent
//! in; and who writes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use memchr::memmem;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use sluice_e2e::{Result, anyhow, bail};

use crate::measure::BODY;
use crate::read::stamp::Clock;

/// How long the broker may take for what is under way.
const FLUSH: Duration = Duration::from_secs(120);

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said {
    /// Which of its run's it is, from 0.
    pub(super) n: u64,
    /// The number of its key.
    pub(super) key: u64,
    /// When it was written, by [`Clock`], in µs.
    pub(super) sent: u64,
}

impl Said {
    /// As a JSON document of [`BODY`] bytes.
    pub(super) fn document(self) -> Vec<u8> {
        let Self { n, key, sent } = self;
        let mut value = format!("{{\"n\":{n},\"key\":{key},\"sent\":{sent},\"note\":\"").into_bytes();
        value.resize(BODY - 2, b'n');
        value.extend_from_slice(b"\"}");
        value
    }

    /// Finds it in a request's body, whatever is before and after the document; none: it is not there.
    pub(super) fn find(body: &[u8]) -> Option<Self> {
        let number = |name: &str| {
            let at = memmem::find(body, name.as_bytes())? + name.len();
            let mut digits = body.get(at..)?.iter().take_while(|byte| byte.is_ascii_digit());
            digits.try_fold(0_u64, |sum, digit| {
                sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
            })
        };
        Some(Self {
            n: number("{\"n\":")?,
            key: number("\"key\":")?,
            sent: number("\"sent\":")?,
        })
    }
}

fn producer(bootstrap: &str, linger: &str) -> Result<BaseProducer> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("linger.ms", linger);
    Ok(config.create()?)
}

fn send(producer: &BaseProducer, topic: &str, said: Said) -> Result<()> {
    let (key, value) = (format!("key-{}", said.key), said.document());
    loop {
        let record = BaseRecord::<str, [u8]>::to(topic).key(&key).payload(&value);
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                producer.poll(Duration::from_millis(1));
            }
            Err((error, _)) => bail!("librdkafka does not take a record: {error}"),
        }
    }
}

/// Writes `count` records of `keys` keys in turn, as fast as the broker takes them.
///
/// # Errors
/// They are not all stored within two minutes.
pub(super) fn fill(bootstrap: &str, topic: &str, count: u64, keys: u64, clock: Clock) -> Result<()> {
    let producer = producer(bootstrap, "5")?;
    for n in 0..count {
        let (key, sent) = (n % keys, clock.now());
        send(&producer, topic, Said { n, key, sent })?;
        if n % 128 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    Ok(producer.flush(FLUSH)?)
}

/// Writes at a steady rate on a thread, and at once.
pub(super) struct Writer {
    sent: Arc<AtomicU64>,
    thread: JoinHandle<Result<()>>,
}

impl Writer {
    /// A record each `every` for `time`, of `keys` keys in turn.
    ///
    /// # Errors
    /// librdkafka refuses its configuration, or the topic is not there.
    pub(super) fn start(
        bootstrap: &str,
        topic: &str,
        keys: u64,
        (every, time): (Duration, Duration),
        clock: Clock,
    ) -> Result<Self> {
        let producer = producer(bootstrap, "0")?;
        // What a first record waits for (metadata, a connection) is no record's fault.
        producer.client().fetch_metadata(Some(topic), FLUSH)?;
        let sent = Arc::<AtomicU64>::default();
        let (count, topic) = (Arc::clone(&sent), topic.to_owned());
        let thread = std::thread::spawn(move || {
            let begun = Instant::now();
            let mut next = begun;
            while next.duration_since(begun) < time {
                producer.poll(Duration::from_millis(5).min(next.saturating_duration_since(Instant::now())));
                if Instant::now() >= next {
                    let n = count.load(Ordering::Relaxed);
                    let (key, sent) = (n % keys, clock.now());
                    send(&producer, &topic, Said { n, key, sent })?;
                    count.fetch_add(1, Ordering::Release);
                    next += every;
                }
            }
            Ok(producer.flush(FLUSH)?)
        });
        Ok(Self { sent, thread })
    }

    /// Waits until all is written and stored; how many there were.
    ///
    /// # Errors
    /// One was not stored.
    pub(super) fn finish(self) -> Result<u64> {
        self.thread.join().map_err(|_| anyhow!("the writer failed"))??;
        Ok(self.sent.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_record_says_is_found_in_whatever_it_is_sent_in() {
        for said in [
            Said {
                n: 0,
                key: 0,
                sent: 1,
            },
            Said {
                n: 1_234_567,
                key: 9999,
                sent: 987_654_321,
            },
        ] {
            let document = said.document();
            assert_eq!(document.len(), BODY);
            assert!(serde_json::from_slice::<serde_json::Value>(&document).is_ok());
            let framed = [&b"\x04\x00key-5\x0a\xff"[..], &document, b"\x00"].concat();
            assert_eq!(Said::find(&document), Some(said));
            assert_eq!(Said::find(&framed), Some(said));
        }
        assert_eq!(Said::find(b"{\"n\":1}"), None);
        assert_eq!(
            Said::find(b"{\"n\":99999999999999999999,\"key\":1,\"sent\":1}"),
            None
        );
    }
}
