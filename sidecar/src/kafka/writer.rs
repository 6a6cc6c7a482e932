//! Writing records that must be there once at most, one after the other: what the sidecar itself keeps and tells in Kafka.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};

use super::connection::{self, Connection, Context};
use super::properties::Kind;
use crate::config::Cluster;

/// How long a record may take to be stored, in milliseconds.
const MESSAGE_TIMEOUT_MS: &str = "10000";

/// Why a record is not, or may not be, in the topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// It is not.
    #[error("{0}")]
    NotStored(String),
    /// Nobody knows.
    #[error("{0}")]
    Unknown(String),
}

/// A record to be written.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Where to.
    pub topic: &'a str,
    /// None: as the key says, as Java's clients hash it.
    pub partition: Option<i32>,
    /// The key.
    pub key: &'a [u8],
    /// The value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Names and values, in order.
    pub headers: &'a [(&'a str, &'a str)],
}

/// Writes to a cluster.
pub struct Writer {
    current: RwLock<Arc<Client>>,
}

/// How a cluster is written to: with the certificates and secrets that it had at some time.
struct Client {
    cluster: Cluster,
    connection: Connection,
    producer: OnceLock<FutureProducer<Context>>,
}

impl Writer {
    /// One that connects when it first writes.
    pub fn new(cluster: &Cluster) -> Self {
        Self {
            current: RwLock::new(Arc::new(Client::new(cluster))),
        }
    }

    fn current(&self) -> Arc<Client> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How the cluster is reached.
    pub fn connection(&self) -> Connection {
        self.current().connection.clone()
    }

    /// Has what comes written with the certificates and secrets of `to`. What is under way goes on with those that it has.
    /// Whether they are others.
    ///
    /// # Errors
    /// The cluster cannot be reached with them, and can be with the old ones, which stay in use.
    pub async fn renew(&self, to: &Cluster) -> Result<bool, String> {
        let before = self.current();
        if before.cluster.connects_like(to) {
            return Ok(false);
        }
        let next = Client::new(to);
        if let Err(why) = next.connection.reach().await
            && before.connection.reach().await.is_ok()
        {
            return Err(why.to_string());
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        Ok(true)
    }

    /// Appends a record, and waits until every in-sync replica has it.
    ///
    /// # Errors
    /// It is not stored, or nobody knows.
    pub async fn append(&self, record: Record<'_>) -> Result<(), AppendError> {
        let client = self.current();
        let producer = client
            .producer()
            .map_err(|error| AppendError::NotStored(error.to_string()))?;
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in record.headers {
            headers = headers.insert(Header {
                key,
                value: Some(*value),
            });
        }
        let record = FutureRecord {
            topic: record.topic,
            partition: record.partition,
            payload: record.value,
            key: Some(record.key),
            timestamp: None,
            headers: (!record.headers.is_empty()).then_some(headers),
        };
        match producer.send(record, Duration::ZERO).await {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(append_error(&error)),
        }
    }
}

impl Client {
    fn new(cluster: &Cluster) -> Self {
        Self {
            cluster: cluster.clone(),
            connection: Connection::of(cluster),
            producer: OnceLock::new(),
        }
    }

    /// Idempotent, and one request at a time: the same record is in the topic once at most (see `kafka/client.rs`).
    fn producer(&self) -> Result<&FutureProducer<Context>, connection::Error> {
        if let Some(producer) = self.producer.get() {
            return Ok(producer);
        }
        let mut config = self.connection.client_config(Kind::Consumer);
        for (name, value) in [
            ("acks", "-1"),
            ("enable.idempotence", "true"),
            ("max.in.flight.requests.per.connection", "1"),
            ("linger.ms", "0"),
            ("message.timeout.ms", MESSAGE_TIMEOUT_MS),
            ("reconnect.backoff.max.ms", "1000"),
            ("partitioner", "murmur2_random"),
        ] {
            config.set(name, value);
        }
        let context = self.connection.context(Kind::Consumer)?;
        let producer: FutureProducer<Context> = config.create_with_context(context.clone())?;
        self.connection.log_in(producer.client(), &context)?;
        Ok(self.producer.get_or_init(|| producer))
    }
}

/// Which errors say that the broker has not appended the record: those of `rdkafka.h` and of Kafka's `Errors` that are told
/// before anything is appended. About all others nobody knows.
fn append_error(error: &KafkaError) -> AppendError {
    let Some(code) = error.rdkafka_error_code() else {
        return AppendError::Unknown(error.to_string());
    };
    let text = code.to_string();
    match code {
        Code::QueueFull
        | Code::MessageSizeTooLarge
        | Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::NotEnoughReplicas
        | Code::PolicyViolation
        | Code::InvalidMessage
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicOrPartition => AppendError::NotStored(text),
        Code::MessageTimedOut => {
            AppendError::Unknown("Kafka did not acknowledge the record in 10 s".to_owned())
        }
        _ => AppendError::Unknown(text),
    }
}
