//! Reading records by their offsets, and following the ends of partitions, for many readers at once.
//!
//! A [`Reader`] is one cluster's. What is in the past it reads with a bounded number of clients, each of which goes to
//! whatever offset is asked for next ([`Reader::read`]); what is new comes by one tail per partition, which all who wait
//! there share ([`Reader::join`]). Neither joins a group, commits anything, or asks who coordinates one: librdkafka's
//! simple consumer starts at an offset and needs no more.

mod ask;
pub(super) mod native;
mod past;
mod pool;
mod ring;
mod tails;
#[cfg(test)]
mod tests;
mod why;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::metrics::gauge::Gauge;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, DefaultConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use tokio::sync::Notify;

pub use self::ask::{Offsets, When};
pub use self::ring::{Ring, View};
pub use self::tails::Handle;
use super::connection::Connection;
use super::properties::Kind;
use crate::config::Cluster;

/// How long one question to Kafka, or one read of what is there, may take.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A record as Kafka has it. No key, an empty key, no value and an empty value are four different things.
#[derive(Debug, Default)]
pub struct Record {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset within the partition.
    pub offset: i64,
    /// Milliseconds since 1970, if the record has a time.
    pub timestamp: Option<i64>,
    /// The key.
    pub key: Option<Bytes>,
    /// Names and values, in order; names may repeat, and need not be text.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// The value; none is a tombstone.
    pub value: Option<Bytes>,
    /// How it is shown to most of its readers: made once by whoever shows it first.
    pub shown: OnceLock<Bytes>,
    /// The same for those who are shown its value without a Confluent header.
    pub shown_unframed: OnceLock<Bytes>,
}

impl Record {
    /// The same with another value, which is shown anew.
    pub fn with_value(&self, value: Bytes) -> Self {
        Self {
            topic: Arc::clone(&self.topic),
            partition: self.partition,
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.clone(),
            headers: self.headers.clone(),
            value: Some(value),
            shown: OnceLock::new(),
            shown_unframed: OnceLock::new(),
        }
    }

    /// What it counts against a bound in bytes: key, value, header names and header values.
    pub fn size(&self) -> usize {
        let of = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let header =
            |(name, value): &(Vec<u8>, Option<Vec<u8>>)| name.len() + value.as_ref().map_or(0, Vec::len);
        of(&self.key) + of(&self.value) + self.headers.iter().map(header).sum::<usize>()
    }
}

/// How much is read at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Records at most.
    pub records: usize,
    /// Bytes at most, as [`Record::size`] counts; one record may be larger.
    pub bytes: usize,
}

/// What one read of a partition gave.
#[derive(Debug)]
pub struct Batch {
    /// In order of their offsets.
    pub records: Vec<Arc<Record>>,
    /// Where to go on. It may be further on than the last record: past transaction markers, and what was compacted away or
    /// aborted.
    pub next: i64,
    /// Whether there is nothing after this now.
    pub ended: bool,
}

/// Why something could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The cluster has no such topic.
    #[error("no topic is named {0}")]
    UnknownTopic(String),
    /// The topic has no such partition.
    #[error("topic {topic} has no partition {partition}")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// The brokers do not let the sidecar read it.
    #[error("Kafka does not let the sidecar read topic {0}")]
    NotAuthorised(String),
    /// There is no such offset (any more, or yet).
    #[error("{topic}@{partition}#{offset} is not within the partition")]
    OutOfRange {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset.
        offset: i64,
    },
    /// Kafka did not answer.
    #[error("Kafka did not answer: {0}")]
    Unavailable(String),
}

impl Error {
    /// What librdkafka's code for a topic's partition means; none: it goes on by itself.
    pub(super) fn of(code: Code, topic: &str, partition: i32, offset: i64) -> Option<Self> {
        match code {
            Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::InvalidTopic => Some(Self::UnknownTopic(topic.to_owned())),
            Code::TopicAuthorizationFailed => Some(Self::NotAuthorised(topic.to_owned())),
            Code::AutoOffsetReset | Code::OffsetOutOfRange => Some(Self::OutOfRange {
                topic: topic.to_owned(),
                partition,
                offset,
            }),
            _ => None,
        }
    }
}

/// Reads one cluster's topics.
pub struct Reader {
    asker: ask::Asker,
    pool: pool::Pool,
    tails: tails::Tails,
    why: Arc<why::Why>,
}

impl Reader {
    /// A reader of `cluster` with at most `clients` clients for what is in the past. Connects to nothing: clients are made when
    /// they are first needed. `tails` counts the partitions that are followed.
    pub fn new(cluster: &Cluster, clients: usize, tails: Gauge) -> Self {
        let connection = Arc::new(Connection::of(cluster));
        Self {
            asker: ask::Asker::new(Arc::clone(&connection)),
            pool: pool::Pool::new(Arc::clone(&connection), clients),
            why: Arc::new(why::Why::new(Arc::clone(&connection))),
            tails: tails::Tails::new(connection, tails),
        }
    }

    /// The names of all topics, in order.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub async fn topics(&self) -> Result<Vec<String>, Error> {
        self.why.ask(self.asker.topics()).await
    }

    /// How many partitions a topic has. What is known for a moment is not asked for again.
    ///
    /// # Errors
    /// There is no such topic, it may not be read, or Kafka does not answer.
    pub async fn partitions(&self, topic: &str) -> Result<i32, Error> {
        self.why.ask(self.asker.partitions(topic)).await
    }

    /// The offset of each partition at `when`: its first, the one after the last record that can be read (with
    /// `read_committed`, the last stable offset), or that of the first record that is not older than a time.
    ///
    /// # Errors
    /// A partition has none to tell, or Kafka does not answer.
    pub async fn offsets(&self, partitions: &[(Arc<str>, i32)], when: When) -> Result<Offsets, Error> {
        self.why.ask(self.asker.offsets(partitions, when)).await
    }

    /// Reads a partition from `offset` on. Waits for no record: there may be none.
    ///
    /// # Errors
    /// There is no such partition or offset, it may not be read, or Kafka does not answer.
    pub async fn read(
        &self,
        topic: &Arc<str>,
        partition: i32,
        offset: i64,
        limits: Limits,
    ) -> Result<Batch, Error> {
        let read = async {
            let room = self.pool.room().await?;
            self.pool.read(room, topic, partition, offset, limits).await
        };
        self.why.ask(read).await
    }

    /// As [`Self::read`], for one of those who are behind the partition's `tail`: what another of them read a moment ago is not
    /// read again. That the partition ends it says only of what was read now.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn catch_up(
        &self,
        tail: &Handle,
        topic: &Arc<str>,
        partition: i32,
        offset: i64,
        limits: Limits,
    ) -> Result<Batch, Error> {
        if let Some(batch) = tail.past(offset, limits) {
            return Ok(batch);
        }
        let read = async {
            let room = self.pool.room().await?;
            // While it waited, another has read it perhaps.
            if let Some(batch) = tail.past(offset, limits) {
                return Ok(batch);
            }
            let batch = self.pool.read(room, topic, partition, offset, limits).await?;
            self.tails.keep(tail, offset, &batch);
            Ok(batch)
        };
        self.why.ask(read).await
    }

    /// Follows a partition's end together with all others who do: `wake` is told when there is something new. If
    /// nobody does yet, its tail starts at `offset`.
    ///
    /// # Errors
    /// librdkafka does not take it, or there are too many tails.
    pub async fn join(
        &self,
        topic: &Arc<str>,
        partition: i32,
        offset: i64,
        wake: &Arc<Notify>,
    ) -> Result<Handle, Error> {
        self.tails.join(topic, partition, offset, wake).await
    }

    /// As [`Self::join`], if the partition has a tail already which has what comes after `offset`.
    pub fn join_running(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        wake: &Arc<Notify>,
    ) -> Option<Handle> {
        self.tails.join_running(topic, partition, offset, wake)
    }
}

/// Whether the clients that read `cluster` can be made. They are given no broker, so that they connect to nothing.
///
/// # Errors
/// What librdkafka finds wrong with the cluster's properties taken together.
pub fn try_reader(cluster: &Cluster) -> Result<(), String> {
    let connection = Connection::of(cluster);
    for mut config in [tails::config(&connection), pool::config(&connection)] {
        config.remove("bootstrap.servers");
        let made = config.create_with_context::<_, BaseConsumer<_>>(DefaultConsumerContext);
        match made.err() {
            None => {}
            Some(KafkaError::ClientCreation(why) | KafkaError::ClientConfig(_, why, ..)) => return Err(why),
            Some(_) => return Err("librdkafka cannot make a consumer with these properties".to_owned()),
        }
    }
    Ok(())
}

/// The configuration of a client that asks.
pub(super) fn asking_config(connection: &Connection) -> ClientConfig {
    client_config(connection, &ask::DEFAULTS, &[])
}

/// The configuration of a client that reads: what the cluster's properties say, except for what the reading itself needs.
fn client_config(
    connection: &Connection,
    defaults: &[(&str, &str)],
    needed: &[(&str, &str)],
) -> ClientConfig {
    let mut config = connection.client_config(Kind::Producer);
    for (name, value) in defaults {
        if config.get(name).is_none() {
            config.set(*name, *value);
        }
    }
    config.set_log_level(rdkafka::config::RDKafkaLogLevel::Warning);
    // Without a group nobody is asked who coordinates it.
    config.remove("group.id");
    for (name, value) in ALWAYS.iter().chain(needed) {
        config.set(*name, *value);
    }
    config
}

/// What every reading client is set to.
///
/// - `enable.partition.eof`: says where the end is, past what is no record.
/// - `auto.offset.reset`: what to do about an offset that is not there is decided by who asked for it.
const ALWAYS: [(&str, &str); 3] = [
    ("enable.partition.eof", "true"),
    ("enable.auto.commit", "false"),
    ("auto.offset.reset", "error"),
];
