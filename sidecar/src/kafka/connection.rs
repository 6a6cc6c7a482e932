//! How the commands reach Kafka, and what they say when they do not.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataTopic};
use rdkafka::types::RDKafkaRespErr;

use super::properties::{self, Kind};
use crate::config::Secret;

/// How long a command waits for a broker's answer.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long a topic may take to become known after its creation.
const PROPAGATION: Duration = Duration::from_millis(500);

/// How much of librdkafka's queue is looked through for a complaint.
const COMPLAINTS: usize = 100;

/// Where Kafka is, and with which properties.
#[derive(Debug, Clone)]
pub struct Connection {
    /// `host:port` of each bootstrap broker.
    pub brokers: Vec<String>,
    /// librdkafka properties.
    pub properties: BTreeMap<String, Secret>,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No broker answers.
    #[error("cannot reach Kafka at {brokers} within {} s{reason}", PATIENCE.as_secs())]
    Unreachable {
        /// The brokers, comma-separated.
        brokers: String,
        /// A colon and what librdkafka says; may be empty.
        reason: String,
    },
    /// The cluster has no such topic.
    #[error("no topic is named {0}")]
    UnknownTopic(String),
    /// The topic has no such partition.
    #[error("topic {topic} has the partitions 0 to {last}, and no {partition}")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition that was asked for.
        partition: i32,
        /// The topic's last one.
        last: i32,
    },
    /// The broker has no CreateTopics, or does not answer it.
    #[error(
        "{0} does not answer CreateTopics; Sluice's dev broker has none: give its configuration with --config"
    )]
    NoCreateTopics(String),
    /// Anything else.
    #[error("{0}")]
    Kafka(String),
}

impl From<KafkaError> for Error {
    fn from(error: KafkaError) -> Self {
        Self::Kafka(match error.rdkafka_error_code() {
            Some(code) => code.to_string(),
            None => error.to_string(),
        })
    }
}

/// Keeps librdkafka's last complaint, which says why nothing answers.
#[derive(Default)]
pub(super) struct Complaints(Mutex<String>);

impl Complaints {
    fn last(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Complaints {
    fn log(&self, _level: RDKafkaLogLevel, fac: &str, message: &str) {
        tracing::debug!(target: "librdkafka", "{fac}: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
        let all_down = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
        if !all_down && !reason.is_empty() {
            reason.clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

impl ConsumerContext for Complaints {}

impl Connection {
    /// The configuration of a client that is no `other` kind: properties of the other kind mean nothing to it.
    pub(super) fn client_config(&self, other: Kind) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.brokers());
        config.set("client.id", "sluice-cli");
        config.set("allow.auto.create.topics", "false");
        config.set_log_level(RDKafkaLogLevel::Warning);
        for (name, value) in &self.properties {
            if properties::kind(name) != other {
                config.set(name, value.expose());
            }
        }
        config
    }

    pub(super) fn brokers(&self) -> String {
        self.brokers.join(",")
    }

    /// A client that asks about topics and offsets.
    pub(super) fn asker(&self) -> Result<BaseConsumer<Complaints>, Error> {
        let config = self.client_config(Kind::Producer);
        Ok(config.create_with_context(Complaints::default())?)
    }

    /// A client that reads what it is assigned. It joins no group and commits nothing, but it has a group's name:
    /// librdkafka assigns nothing without one. So it asks who coordinates that group, which makes a new cluster
    /// create `__consumer_offsets`.
    pub(super) fn reader(&self) -> Result<BaseConsumer<Complaints>, Error> {
        let mut config = self.client_config(Kind::Producer);
        config.set("group.id", "sluice-cli");
        config.set("enable.auto.commit", "false");
        config.set("enable.auto.offset.store", "false");
        config.set("auto.offset.reset", "earliest");
        Ok(config.create_with_context(Complaints::default())?)
    }

    /// What the cluster says about itself and its topics, or about one of them.
    pub(super) fn metadata(
        &self,
        client: &BaseConsumer<Complaints>,
        topic: Option<&str>,
    ) -> Result<Metadata, Error> {
        client.fetch_metadata(topic, PATIENCE).map_err(|error| {
            // The complaints wait in the queue until somebody polls, one by one, between log lines.
            for _ in 0..COMPLAINTS {
                drop(client.poll(Duration::ZERO));
            }
            match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::OperationTimedOut) => {
                    let why = client.context().last();
                    Error::Unreachable {
                        brokers: self.brokers(),
                        reason: if why.is_empty() { why } else { format!(": {why}") },
                    }
                }
                _ => error.into(),
            }
        })
    }

    /// What the cluster says about `topic`, which may have been created a moment ago.
    pub(super) fn topic<T>(
        &self,
        client: &BaseConsumer<Complaints>,
        topic: &str,
        read: impl Fn(&MetadataTopic) -> T,
    ) -> Result<T, Error> {
        let started = std::time::Instant::now();
        loop {
            let metadata = self.metadata(client, Some(topic))?;
            let found = metadata.topics().iter().find(|found| found.name() == topic);
            match found.map(|found| (found, found.error())) {
                Some((found, None)) if !found.partitions().is_empty() => return Ok(read(found)),
                Some((_, Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED))) => {
                    return Err(Error::Kafka(format!("not authorised on topic {topic}")));
                }
                _ if started.elapsed() > PROPAGATION => return Err(Error::UnknownTopic(topic.to_owned())),
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}
