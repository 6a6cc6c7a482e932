//! Listing, describing and creating topics, for `sluice topics`.

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;

use super::connection::{Connection, Context, Error, PATIENCE};
use super::properties::Kind;

/// A topic as the cluster describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its partitions, in order.
    pub partitions: Vec<Partition>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number.
    pub id: i32,
    /// The broker that leads it, if one does.
    pub leader: Option<i32>,
    /// The brokers that hold it.
    pub replicas: Vec<i32>,
    /// Those of them that are in sync.
    pub in_sync: Vec<i32>,
    /// The first offset that is there and the next one to be written; none if they were not asked for or the
    /// partition did not say.
    pub offsets: Option<(i64, i64)>,
}

/// What came of asking for a new topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// There is one now.
    Created,
    /// There was one of this name.
    Exists,
}

/// Every topic of the cluster by name, those inside Kafka (`__…`) included. Blocks.
///
/// # Errors
/// No broker answers.
pub fn list(connection: &Connection) -> Result<Vec<Topic>, Error> {
    let client = connection.asker()?;
    let metadata = connection.metadata(&client, None)?;
    let mut topics: Vec<Topic> = metadata.topics().iter().map(read).collect();
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(topics)
}

/// One topic, without offsets. Blocks.
///
/// # Errors
/// No broker answers, or there is no such topic.
pub fn find(connection: &Connection, name: &str) -> Result<Topic, Error> {
    connection.topic(&connection.asker()?, name, read)
}

/// One topic, with its partitions' offsets. Blocks.
///
/// # Errors
/// No broker answers, or there is no such topic.
pub fn describe(connection: &Connection, name: &str) -> Result<Topic, Error> {
    let client = connection.asker()?;
    let mut topic = connection.topic(&client, name, read)?;
    let deadline = std::time::Instant::now() + PATIENCE;
    for partition in &mut topic.partitions {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        partition.offsets = match client.fetch_watermarks(name, partition.id, left) {
            Ok(offsets) => Some(offsets),
            Err(error) => {
                tracing::debug!(%error, partition = partition.id, "no offsets");
                None
            }
        };
    }
    Ok(topic)
}

/// Creates a topic through CreateTopics; what is `None` is as the brokers have it configured.
///
/// # Errors
/// No broker answers, or Kafka refuses: there are fewer brokers than replicas, and so on.
pub async fn create(
    connection: &Connection,
    name: &str,
    partitions: Option<i32>,
    replication: Option<i32>,
) -> Result<Creation, Error> {
    create_with(connection, name, partitions, replication, &[]).await
}

/// As [`create`], with settings of the topic.
///
/// # Errors
/// As of [`create`].
pub async fn create_with(
    connection: &Connection,
    name: &str,
    partitions: Option<i32>,
    replication: Option<i32>,
    settings: &[(&str, &str)],
) -> Result<Creation, Error> {
    let probe = connection.clone();
    let reachable = tokio::task::spawn_blocking(move || {
        let client = probe.asker()?;
        probe.metadata(&client, None).map(drop)
    });
    reachable
        .await
        .map_err(|error| Error::Kafka(error.to_string()))??;
    let config = connection.client_config(Kind::Consumer);
    let context = connection.context(Kind::Consumer)?;
    let client: AdminClient<Context> = config.create_with_context(context.clone())?;
    connection.log_in(client.inner(), &context)?;
    let mut topic = NewTopic::new(
        name,
        partitions.unwrap_or(-1),
        TopicReplication::Fixed(replication.unwrap_or(-1)),
    );
    for (name, value) in settings {
        topic = topic.set(name, value);
    }
    let options = AdminOptions::new()
        .request_timeout(Some(PATIENCE))
        .operation_timeout(Some(PATIENCE));
    let results = client.create_topics([&topic], &options).await;
    let results = results.map_err(|error| match error {
        KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut | RDKafkaErrorCode::UnsupportedFeature) => {
            Error::NoCreateTopics(connection.brokers())
        }
        error => error.into(),
    })?;
    match results.into_iter().next() {
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(Creation::Exists),
        Some(Err((_, code))) => Err(Error::Kafka(format!(
            "Kafka does not create topic {name}: {code}"
        ))),
        Some(Ok(_)) | None => Ok(Creation::Created),
    }
}

fn read(topic: &MetadataTopic) -> Topic {
    let partition = |partition: &rdkafka::metadata::MetadataPartition| Partition {
        id: partition.id(),
        leader: (partition.leader() >= 0).then(|| partition.leader()),
        replicas: partition.replicas().to_vec(),
        in_sync: partition.isr().to_vec(),
        offsets: None,
    };
    let mut partitions: Vec<Partition> = topic.partitions().iter().map(partition).collect();
    partitions.sort_by_key(|partition| partition.id);
    Topic {
        name: topic.name().to_owned(),
        partitions,
    }
}
