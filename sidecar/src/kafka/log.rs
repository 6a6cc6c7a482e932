//! One partition of a topic as a log: appended to with every in-sync replica's acknowledgement, and followed from its
//! beginning.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::error::KafkaError;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::connection::{self, Connection, Context};
use super::properties::Kind;
use super::reader::{self, Handle, Limits, Reader, Record, View, When};
use super::topics::{self, Creation};
pub use super::writer::AppendError;
use super::writer::{self, Writer};
use crate::config::Cluster;

/// The one partition.
const PARTITION: i32 = 0;
/// How old a record is at least before it is compacted, in milliseconds.
pub const COMPACTION_LAG_MS: &str = "60000";
/// The longest record: what brokers and librdkafka take unless they are told otherwise (`message.max.bytes`), with room for
/// key and headers.
pub const MAX_VALUE: usize = 900_000;
/// How much is read at once.
const AT_ONCE: Limits = Limits {
    records: 10_000,
    bytes: 8 << 20,
};
/// How long the end is waited at before it is looked again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Which topic a log is, and how it is made if it is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The topic.
    pub topic: String,
    /// Its replicas; none: as the brokers are configured.
    pub replication_factor: Option<i32>,
    /// `min.insync.replicas`; none: as the brokers are configured.
    pub min_insync_replicas: Option<i32>,
}

/// Why the log cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Kafka does not answer, or not as it should: it may do later.
    #[error("{0}")]
    Unavailable(String),
    /// What was to be read next is not there any more: the topic was made anew, or cut off.
    #[error("offset {0} is not in the topic any more")]
    Gone(i64),
}

impl From<reader::Error> for Error {
    fn from(error: reader::Error) -> Self {
        match error {
            reader::Error::OutOfRange { offset, .. } => Self::Gone(offset),
            error => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<connection::Error> for Error {
    fn from(error: connection::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// A compacted topic of one partition.
pub struct Log {
    settings: Settings,
    topic: Arc<str>,
    reader: RwLock<Arc<Reader>>,
    writer: Writer,
}

/// Of one cluster. What its tails count is in nobody's metrics: they are for readers over HTTP.
fn reader_of(cluster: &Cluster) -> Arc<Reader> {
    Arc::new(Reader::new(cluster, 1, Gauge::default()))
}

impl Log {
    /// The log in a topic of `cluster`. Connects to nothing yet.
    pub fn new(cluster: &Cluster, settings: Settings) -> Self {
        Self {
            topic: settings.topic.as_str().into(),
            settings,
            reader: RwLock::new(reader_of(cluster)),
            writer: Writer::new(cluster),
        }
    }

    fn reader(&self) -> Arc<Reader> {
        Arc::clone(&self.reader.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn connection(&self) -> Connection {
        self.writer.connection()
    }

    /// Has the topic written and read with the certificates and secrets of `to` from now on.
    ///
    /// # Errors
    /// The cluster cannot be reached with them, and can be with the old ones, which stay in use.
    pub async fn renew(&self, to: &Cluster) -> Result<(), String> {
        if self.writer.renew(to).await? {
            *self.reader.write().unwrap_or_else(PoisonError::into_inner) = reader_of(to);
        }
        Ok(())
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Makes the topic if it is not there, and looks whether it is one that state may be kept in: compacted, and of one
    /// partition.
    ///
    /// # Errors
    /// Kafka does not answer, does not make it, or it is another kind of topic; the text says what to do.
    pub async fn prepare(&self) -> Result<(), Error> {
        let (connection, name) = (self.connection(), self.settings.topic.clone());
        let found = tokio::task::spawn_blocking(move || topics::find(&connection, &name)).await;
        let found = found.map_err(|error| Error::Unavailable(error.to_string()))?;
        let partitions = match found {
            Ok(topic) => topic.partitions,
            Err(connection::Error::UnknownTopic(_)) => {
                self.create().await?;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let [partition] = partitions.as_slice() else {
            return Err(Error::Unavailable(format!(
                "topic {} has {} partitions: state needs the order of one; name another topic",
                self.topic,
                partitions.len()
            )));
        };
        match self.cleanup_policy(partition.leader).await? {
            Some(policy) if policy != "compact" => Err(Error::Unavailable(format!(
                "topic {} has cleanup.policy={policy}, which forgets what is old: set it to compact",
                self.topic
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// - `cleanup.policy`: what no later record replaces stays for ever.
    /// - `unclean.leader.election.enable`: a replica that does not have all of the log would have others forget what was
    ///   acknowledged.
    /// - `min.compaction.lag.ms`, by the broker's clock (`message.timestamp.type`): what a follower has not read yet, but for
    ///   one that is far behind, is all there when it does.
    async fn create(&self) -> Result<(), Error> {
        let min_insync = self.settings.min_insync_replicas.map(|count| count.to_string());
        let mut config = vec![
            ("cleanup.policy", "compact"),
            ("unclean.leader.election.enable", "false"),
            ("message.timestamp.type", "LogAppendTime"),
            ("min.compaction.lag.ms", COMPACTION_LAG_MS),
        ];
        config.extend(min_insync.as_deref().map(|count| ("min.insync.replicas", count)));
        let replicas = self.settings.replication_factor;
        let made = topics::create_with(&self.connection(), &self.topic, Some(1), replicas, &config).await?;
        if made == Creation::Created {
            tracing::info!(topic = &*self.topic, "created the topic for state");
        }
        Ok(())
    }

    /// `cleanup.policy`; none: the brokers do not tell.
    async fn cleanup_policy(&self, leader: Option<i32>) -> Result<Option<String>, Error> {
        let client = self.admin()?;
        match self.configuration(&client, leader).await {
            Ok(config) => {
                let policy = config.as_ref().and_then(|config| config.get("cleanup.policy"));
                Ok(policy.and_then(|entry| entry.value.clone()))
            }
            Err(error) => {
                tracing::debug!(%error, topic = &*self.topic, "the topic's configuration cannot be asked for");
                Ok(None)
            }
        }
    }

    /// The topic's settings. Any broker knows them, so that the leader is asked: left to itself librdkafka asks the controller,
    /// and waits for it to come where there is none, as in its own mock, which the dev broker is.
    async fn configuration(
        &self,
        client: &AdminClient<Context>,
        leader: Option<i32>,
    ) -> Result<Option<ConfigResource>, KafkaError> {
        let options = AdminOptions::new()
            .request_timeout(Some(connection::PATIENCE))
            .broker_id(leader);
        let topic = ResourceSpecifier::Topic(&self.topic);
        let told = client.describe_configs([&topic], &options).await?;
        Ok(told.into_iter().find_map(Result::ok))
    }

    fn admin(&self) -> Result<AdminClient<Context>, Error> {
        let connection = self.connection();
        let context = connection.context(Kind::Consumer)?;
        let config = connection.client_config(Kind::Consumer);
        let client: AdminClient<Context> = config
            .create_with_context(context.clone())
            .map_err(connection::Error::from)?;
        connection.log_in(client.inner(), &context)?;
        Ok(client)
    }

    /// Appends a record, and waits until every in-sync replica has it.
    ///
    /// # Errors
    /// It is not stored, or nobody knows.
    pub async fn append(&self, key: &[u8], value: Option<&[u8]>) -> Result<(), AppendError> {
        let record = writer::Record {
            topic: &self.topic,
            partition: Some(PARTITION),
            key,
            value,
            headers: &[],
        };
        self.writer.append(record).await
    }

    /// The offset after the last record that can be read.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub async fn end(&self) -> Result<i64, Error> {
        let partition = (Arc::clone(&self.topic), PARTITION);
        let offsets = self
            .reader()
            .offsets(std::slice::from_ref(&partition), When::Latest)
            .await?;
        let end = offsets.get(&partition).copied();
        end.ok_or_else(|| Error::Unavailable(format!("nobody says where topic {} ends", self.topic)))
    }

    /// Follows the log from its first record.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub async fn follow(&self) -> Result<Following<'_>, Error> {
        let partition = (Arc::clone(&self.topic), PARTITION);
        let reader = self.reader();
        let offsets = reader
            .offsets(std::slice::from_ref(&partition), When::Earliest)
            .await?;
        let first = offsets.get(&partition).copied().unwrap_or_default();
        Ok(Following {
            log: self,
            reader,
            position: first,
            tail: None,
            wake: Arc::new(Notify::new()),
        })
    }
}

/// Reads a log, record after record.
pub struct Following<'a> {
    log: &'a Log,
    /// What it is read with, be it the log's no more.
    reader: Arc<Reader>,
    position: i64,
    tail: Option<Handle>,
    wake: Arc<Notify>,
}

/// What comes next in a log.
#[derive(Debug)]
pub struct Next {
    /// In order.
    pub records: Vec<Arc<Record>>,
    /// Where reading goes on: everything before it was read, or is not there any more.
    pub position: i64,
}

impl Following<'_> {
    /// What comes next. Waits at the end, some seconds at most; then there are no records. Cancel-safe, and may be called
    /// again after an error: it goes on where it was.
    ///
    /// # Errors
    /// Kafka does not answer, or what comes next is not there any more.
    pub async fn next(&mut self) -> Result<Next, Error> {
        let reader = self.log.reader();
        if !Arc::ptr_eq(&reader, &self.reader) {
            self.tail = None;
            self.reader = Arc::clone(&reader);
        }
        let topic = &self.log.topic;
        if let Some(tail) = &self.tail {
            match tail.after(self.position, AT_ONCE) {
                Ok(View::Here { records, next }) if next > self.position => {
                    return Ok(self.moved(records, next));
                }
                Ok(View::Here { .. }) => {
                    if timeout(LOOK_AGAIN, self.wake.notified()).await.is_ok() {
                        return Ok(match tail.after(self.position, AT_ONCE) {
                            Ok(View::Here { records, next }) => self.moved(records, next),
                            Ok(View::Behind) | Err(_) => self.moved(Vec::new(), self.position),
                        });
                    }
                    // Nothing came: there is nothing, or nobody to get it from.
                    if self.log.end().await? <= self.position {
                        return Ok(self.moved(Vec::new(), self.position));
                    }
                }
                Ok(View::Behind) => {}
                // Whatever ended the tail, reading says it again if it still holds.
                Err(_) => self.tail = None,
            }
        }
        let read = reader.read(topic, PARTITION, self.position, AT_ONCE).await?;
        if read.ended && self.tail.is_none() {
            self.tail = Some(reader.join(topic, PARTITION, read.next, &self.wake).await?);
        }
        Ok(self.moved(read.records, read.next))
    }

    fn moved(&mut self, records: Vec<Arc<Record>>, position: i64) -> Next {
        self.position = position;
        Next { records, position }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::error::RDKafkaErrorCode;
    use rdkafka::mocking::MockCluster;

    use super::*;
    use crate::config::Secret;

    fn mock() -> MockCluster<'static, rdkafka::producer::DefaultProducerContext> {
        let mock = MockCluster::new(1).unwrap();
        mock.create_topic("t", 1, 1).unwrap();
        mock
    }

    /// What tells one login from another here is `client.id`.
    fn cluster(servers: String, client: &str) -> Cluster {
        Cluster {
            bootstrap_servers: vec![servers],
            properties: [("client.id".to_owned(), Secret::new(client))].into(),
            ..Cluster::default()
        }
    }

    fn log(cluster: &Cluster) -> Log {
        let settings = Settings {
            topic: "t".to_owned(),
            replication_factor: None,
            min_insync_replicas: None,
        };
        Log::new(cluster, settings)
    }

    #[tokio::test]
    async fn who_does_not_know_the_topics_settings_says_so_at_once() {
        let mock = mock();
        let log = log(&cluster(mock.bootstrap_servers(), "one"));
        let asked = log.configuration(&log.admin().unwrap(), Some(1)).await;
        let unknown = KafkaError::AdminOp(RDKafkaErrorCode::UnsupportedFeature);
        assert_eq!(asked.unwrap_err(), unknown);
        log.prepare().await.unwrap();
    }

    async fn values(following: &mut Following<'_>, count: usize) -> Vec<Vec<u8>> {
        let mut values = Vec::new();
        while values.len() < count {
            for record in following.next().await.unwrap().records {
                values.push(record.value.as_ref().unwrap().to_vec());
            }
        }
        values
    }

    /// Two clusters stand for one whose brokers take the old login, and then only the next.
    #[tokio::test]
    async fn it_goes_over_to_a_login_that_the_brokers_take_and_is_read_on_where_it_was() {
        let (before, after) = (mock(), mock());
        let log = log(&cluster(before.bootstrap_servers(), "one"));
        log.append(b"k", Some(b"first")).await.unwrap();
        let mut following = log.follow().await.unwrap();
        assert_eq!(values(&mut following, 1).await, [b"first"]);
        // The same login, and one that reaches nobody.
        log.renew(&cluster("127.0.0.1:1".to_owned(), "one"))
            .await
            .unwrap();
        let why = log
            .renew(&cluster("127.0.0.1:1".to_owned(), "two"))
            .await
            .unwrap_err();
        assert!(why.contains("127.0.0.1:1"), "{why}");
        log.append(b"k", Some(b"second")).await.unwrap();
        assert_eq!(values(&mut following, 1).await, [b"second"]);

        let next = cluster(after.bootstrap_servers(), "three");
        let other = self::log(&next);
        for _ in 0..2 {
            other.append(b"k", Some(b"-")).await.unwrap();
        }
        log.renew(&next).await.unwrap();
        log.append(b"k", Some(b"third")).await.unwrap();
        assert_eq!(log.end().await.unwrap(), 3);
        assert_eq!(values(&mut following, 1).await, [b"third"]);
    }
}
