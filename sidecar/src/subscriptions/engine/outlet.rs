//! What a subscription writes to its cluster, and reads back: held events, dead letters, replies.

mod look;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use prometheus_client::metrics::gauge::Gauge;
use sluice_proto::v1::{ErrorClass, Header};
use tokio::sync::{OnceCell, oneshot};

pub(super) use self::look::Found;
use super::held::{Held, Id, partition_of};
use super::runs::{self, Note};
use crate::config::{Acks, Cluster, HeldTopic, Profile, ReplyTopic, Secret, TopicAllowlist};
use crate::kafka::connection::Connection;
use crate::kafka::producer::Producer;
use crate::kafka::reader::{Error, Reader};
use crate::kafka::record::{self, Delivery, Failure, Outcome, Receipt, Recipient, Submission};
use crate::kafka::topics;
use crate::metrics::Metrics;

/// What the producer is called in metrics and logs.
const PROFILE: &str = "subscriptions";
/// How long a write may wait for the cluster before it is told that it failed, and tried again by who wants it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Clients that read what is held.
const READERS: usize = 2;
/// What stands for the subscription where it is chosen which of the held topic's partitions has what is known of workflows.
const RUNS: &str = "run";
/// The outlet of one cluster.
pub(super) struct Outlet {
    name: String,
    connection: Connection,
    producer: Producer,
    reader: Reader,
    held: HeldTopic,
    /// Where this sidecar waits for replies itself, on this cluster.
    replies: Vec<Arc<ReplyTopic>>,
    /// The topics that may be written; none at all where the cluster is not written.
    allowed: TopicAllowlist,
    partitions: OnceCell<i32>,
}

/// Takes one outcome.
struct Once(Mutex<Option<oneshot::Sender<Outcome>>>);

impl Recipient for Once {
    fn settle(&self, outcomes: &mut Vec<(u64, Outcome)>) {
        for (_, outcome) in outcomes.drain(..) {
            let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
            // Whoever wanted to know may have gone.
            drop(waiting.map(|waiting| waiting.send(outcome)));
        }
    }
}

impl Outlet {
    /// The outlet of `cluster`, which the sidecar knows as `name`. Does not wait for it. Must be called within a runtime.
    ///
    /// # Errors
    /// librdkafka refuses the configuration.
    pub(super) fn new(
        name: &str,
        cluster: &Cluster,
        (held, replies): (&HeldTopic, &[Arc<ReplyTopic>]),
        metrics: &Arc<Metrics>,
    ) -> Result<Self, String> {
        let set = |name: &str, value: &str| (name.to_owned(), Secret::new(value));
        let profile = Profile {
            acks: Some(Acks::All),
            idempotent: true,
            properties: BTreeMap::from([set("acks", "-1"), set("enable.idempotence", "true")]),
            max_records: 100_000,
            max_bytes: 64 << 20,
            max_queueing_time: PATIENCE,
            allow_auto_create_topics: false,
        };
        let producer = Producer::start(
            format!("{name}/{PROFILE}"),
            cluster,
            &profile,
            metrics.producer(name, PROFILE),
        )?;
        Ok(Self {
            name: name.to_owned(),
            connection: Connection::of(cluster),
            producer,
            reader: Reader::new(cluster, READERS, Gauge::default()),
            held: held.clone(),
            replies: replies
                .iter()
                .filter(|entry| entry.cluster == name)
                .cloned()
                .collect(),
            allowed: match cluster.produces {
                true => cluster.allowed_topics.clone(),
                false => TopicAllowlist::default(),
            },
            partitions: OnceCell::new(),
        })
    }

    /// The name of the topic that events are held in.
    pub(super) fn held_topic(&self) -> &str {
        &self.held.topic
    }

    /// The topics of its cluster on which this sidecar itself waits for replies.
    pub(super) fn replies(&self) -> &[Arc<ReplyTopic>] {
        &self.replies
    }

    /// Whether the cluster's configuration allows `topic` to be written.
    pub(super) fn may_write(&self, topic: &str) -> bool {
        self.allowed.allows(topic)
    }

    /// Reads by offset.
    pub(super) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Writes a record, acknowledged by every in-sync replica. Gives its offset.
    ///
    /// # Errors
    /// It is not stored, or nobody knows.
    pub(super) async fn write(&self, record: record::Record) -> Result<i64, Failure> {
        let (sender, receiver) = oneshot::channel();
        let label = Arc::from(record.topic.as_str());
        let mut submissions = vec![Submission {
            record,
            delivery: Delivery::Tracked {
                held_until: Instant::now() + PATIENCE,
            },
            receipt: Receipt {
                recipient: Arc::new(Once(Mutex::new(Some(sender)))),
                token: 0,
            },
            label,
            client: 0,
            aside: None,
        }];
        self.producer.submit(&mut submissions);
        match receiver.await {
            Ok(Outcome::Stored { offset, .. }) => Ok(offset),
            Ok(Outcome::Failed(failure)) => Err(failure),
            Ok(Outcome::Accepted) | Err(_) => Err(Failure::new(
                ErrorClass::OutcomeUnknown,
                "the producer did not say what became of it",
            )),
        }
    }

    /// Makes sure that the held topic is there. It has so many partitions.
    ///
    /// # Errors
    /// It is not, and cannot be created; in words that say what to do.
    pub(super) async fn ensure(&self) -> Result<i32, String> {
        let found = self.partitions.get_or_try_init(|| self.look()).await?;
        Ok(*found)
    }

    async fn look(&self) -> Result<i32, String> {
        let HeldTopic {
            topic,
            partitions,
            replication_factor,
        } = &self.held;
        match self.reader.partitions(topic).await {
            Ok(partitions) => return Ok(partitions),
            Err(Error::UnknownTopic(_)) => {}
            Err(error) => return Err(error.to_string()),
        }
        let settings = [("cleanup.policy", "compact")];
        let created = topics::create_with(
            &self.connection,
            topic,
            Some(*partitions),
            *replication_factor,
            &settings,
        )
        .await;
        let made = match created {
            Ok(_) => {
                tracing::info!(cluster = self.name, topic, partitions, "created the held topic");
                self.created(topic).await.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        made.map_err(|why| {
            format!(
                "cluster {} has no topic {topic}, where events are held that are to be tried again, and it cannot be created: \
                 {why}; create it with {partitions} partitions and cleanup.policy=compact, or name another one by held.topic",
                self.name
            )
        })
    }

    /// How many partitions a topic has that was just created: a broker may not know it for a moment.
    async fn created(&self, topic: &str) -> Result<i32, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.reader.partitions(topic).await {
                Err(Error::UnknownTopic(_)) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                found => return found,
            }
        }
    }

    /// Writes what is held of an event; none: it is held no more. Gives where it is.
    ///
    /// # Errors
    /// It is not stored, or nobody knows.
    pub(super) async fn hold(&self, id: &str, held: Option<&Held>) -> Result<i64, Failure> {
        let unavailable = |why: String| Failure::new(ErrorClass::ClusterUnavailable, why);
        let parts = Id::read(id).ok_or_else(|| unavailable(format!("{id:?} is no event's id")))?;
        let partitions = self.ensure().await.map_err(unavailable)?;
        let partition = partition_of(parts.subscription, parts.topic, parts.partition, partitions);
        self.write(record::Record {
            topic: self.held.topic.clone(),
            partition: Some(partition),
            key: Some(Bytes::copy_from_slice(id.as_bytes())),
            value: held.map(Held::write),
            headers: Vec::new(),
            timestamp_ms: None,
        })
        .await
    }

    /// Writes that a workflow was started; none: nothing is known of it any more.
    ///
    /// # Errors
    /// It is not stored, or nobody knows; for people.
    pub(super) async fn start(
        &self,
        service: &str,
        partition: i32,
        key: &Bytes,
        note: Option<&Note>,
    ) -> Result<(), String> {
        let partitions = self.ensure().await?;
        let written = self.write(record::Record {
            topic: self.held.topic.clone(),
            partition: Some(partition_of(RUNS, service, partition, partitions)),
            key: Some(Bytes::from(runs::name(service, partition, key))),
            value: note.map(|note| Bytes::from(prost::Message::encode_to_vec(note))),
            headers: Vec::new(),
            timestamp_ms: None,
        });
        written.await.map(drop).map_err(|failure| {
            format!(
                "that a workflow was started cannot be written to {}: {}",
                self.held.topic, failure.message
            )
        })
    }

    /// Waits for what is being written, until `until` at most, and ends.
    pub(super) async fn close(self: Arc<Self>, until: Instant) {
        let left = self.producer.flush(until).await;
        if left > 0 {
            tracing::warn!(cluster = self.name, left, "writes of subscriptions were given up");
        }
        // It blocks for some seconds at most.
        let closed = tokio::task::spawn_blocking(move || self.producer.close());
        if let Err(error) = closed.await {
            tracing::error!(%error, "closing a producer of subscriptions failed");
        }
    }
}

/// A header of a record that a subscription writes.
pub(super) fn header(name: &str, value: impl Into<Vec<u8>>) -> Header {
    Header {
        name: name.to_owned(),
        value: Some(value.into()),
    }
}
