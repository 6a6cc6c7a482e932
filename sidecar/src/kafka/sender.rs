//! Writing one record and waiting for it to be stored, for `sluice send`.

use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};

use super::connection::{Connection, Context, Error};
use super::properties::Kind;
use super::topics;

/// How long the record may take to be stored, in milliseconds.
const MESSAGE_TIMEOUT_MS: &str = "10000";

/// A record to be written.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// The topic.
    pub topic: String,
    /// The partition; as the key says (as Java's clients hash it) if there is none.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// Names and values, in order.
    pub headers: Vec<(String, String)>,
    /// The value; none is a tombstone.
    pub value: Option<Vec<u8>>,
}

/// Writes `record`, acknowledged by every in-sync replica, and gives its partition and offset.
///
/// # Errors
/// No broker answers, there is no such topic or partition, or Kafka does not store the record.
pub async fn send(connection: &Connection, record: Record) -> Result<(i32, i64), Error> {
    let (probe, topic) = (connection.clone(), record.topic.clone());
    let topic = tokio::task::spawn_blocking(move || topics::describe(&probe, &topic));
    let topic = topic.await.map_err(|error| Error::Kafka(error.to_string()))??;
    let last = topic.partitions.last().map_or(-1, |partition| partition.id);
    if let Some(partition) = record.partition.filter(|one| !(0..=last).contains(one)) {
        return Err(Error::UnknownPartition {
            topic: topic.name,
            partition,
            last,
        });
    }
    let mut config = connection.client_config(Kind::Consumer);
    for (name, value) in [
        ("enable.idempotence", "true"),
        ("linger.ms", "0"),
        ("message.timeout.ms", MESSAGE_TIMEOUT_MS),
        ("partitioner", "murmur2_random"),
    ] {
        if config.get(name).is_none() {
            config.set(name, value);
        }
    }
    let context = connection.context(Kind::Consumer)?;
    let producer: FutureProducer<Context> = config.create_with_context(context.clone())?;
    connection.log_in(producer.client(), &context)?;
    let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
    for (key, value) in &record.headers {
        headers = headers.insert(Header {
            key,
            value: Some(value),
        });
    }
    let message = FutureRecord {
        topic: &record.topic,
        partition: record.partition,
        payload: record.value.as_ref(),
        key: record.key.as_ref(),
        timestamp: None,
        headers: (!record.headers.is_empty()).then_some(headers),
    };
    match producer.send(message, Duration::ZERO).await {
        Ok(delivery) => Ok((delivery.partition, delivery.offset)),
        Err((error, _)) => Err(match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageTimedOut) => Error::Kafka(
                "Kafka did not acknowledge the record in 10 s: it may or may not be stored".to_owned(),
            ),
            _ => error.into(),
        }),
    }
}
