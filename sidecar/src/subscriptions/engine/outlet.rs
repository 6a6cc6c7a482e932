//! What a subscription writes to its cluster, and reads back: held events, dead letters, replies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use prometheus_client::metrics::gauge::Gauge;
use sluice_proto::v1::{ErrorClass, Header};
use tokio::sync::{OnceCell, oneshot};

use super::held::{Held, Id, partition_of};
use super::runs::{self, Note};
use crate::config::{Acks, Cluster, HeldTopic, Profile, Secret};
use crate::kafka::connection::Connection;
use crate::kafka::producer::Producer;
use crate::kafka::reader::{Error, Limits, Reader, Record, When};
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
/// Records that are read at once while what is held is looked through, and their bytes.
const PAGE: Limits = Limits {
    records: 2000,
    bytes: 4 << 20,
};

/// The outlet of one cluster.
pub(super) struct Outlet {
    name: String,
    connection: Connection,
    producer: Producer,
    reader: Reader,
    held: HeldTopic,
    partitions: OnceCell<i32>,
}

/// A held event as it was found.
#[derive(Debug)]
pub(super) struct Found {
    /// Its offset in the source's partition.
    pub(super) offset: i64,
    /// Where it is in the held topic.
    pub(super) at: i64,
    /// What it says.
    pub(super) held: Held,
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
        held: &HeldTopic,
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
            partitions: OnceCell::new(),
        })
    }

    /// The name of the topic that events are held in.
    pub(super) fn held_topic(&self) -> &str {
        &self.held.topic
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

    /// What is held of a subscription's partitions, by partition and in order.
    ///
    /// # Errors
    /// The topic is not there and cannot be created, or Kafka does not answer.
    pub(super) async fn load(
        &self,
        subscription: &str,
        of: &[(Arc<str>, i32)],
    ) -> Result<BTreeMap<(Arc<str>, i32), Vec<Found>>, String> {
        let partitions = self.ensure().await?;
        let topic: Arc<str> = Arc::from(self.held.topic.as_str());
        let own: BTreeSet<i32> = of
            .iter()
            .map(|(topic, partition)| partition_of(subscription, topic, *partition, partitions))
            .collect();
        let keys: Vec<(Arc<str>, i32)> = own.iter().map(|n| (Arc::clone(&topic), *n)).collect();
        let mut all: BTreeMap<(Arc<str>, i32), BTreeMap<i64, Found>> =
            of.iter().map(|key| (key.clone(), BTreeMap::new())).collect();
        self.scan(&topic, &keys, |record| note(&mut all, subscription, record))
            .await?;
        let in_order = |found: BTreeMap<i64, Found>| found.into_values().collect();
        Ok(all
            .into_iter()
            .map(|(key, found)| (key, in_order(found)))
            .collect())
    }

    /// Which workflows of a service's partitions were started.
    ///
    /// # Errors
    /// As of [`Self::load`].
    pub(super) async fn started(&self, service: &str, of: &BTreeSet<i32>) -> Result<runs::Found, String> {
        let partitions = self.ensure().await?;
        let topic: Arc<str> = Arc::from(self.held.topic.as_str());
        let own = of
            .iter()
            .map(|partition| partition_of(RUNS, service, *partition, partitions));
        let own: BTreeSet<i32> = own.collect();
        let keys: Vec<(Arc<str>, i32)> = own.iter().map(|n| (Arc::clone(&topic), *n)).collect();
        let mut found = runs::Found::default();
        self.scan(&topic, &keys, |record| {
            found.note(
                service,
                record.key.as_deref().unwrap_or_default(),
                record.value.as_ref(),
            );
        })
        .await?;
        Ok(found)
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

    /// Looks at everything that is in the held topic's partitions, up to the ends that they have now.
    pub(super) async fn scan(
        &self,
        topic: &Arc<str>,
        keys: &[(Arc<str>, i32)],
        mut look: impl FnMut(&Record),
    ) -> Result<(), String> {
        let words = |error: Error| format!("cannot read {topic}: {error}");
        let first = self.reader.offsets(keys, When::Earliest).await.map_err(words)?;
        let ends = self.reader.offsets(keys, When::Latest).await.map_err(words)?;
        for key in keys {
            let end = ends.get(key).copied().unwrap_or_default();
            let mut next = first.get(key).copied().unwrap_or_default();
            while next < end {
                let page = self.reader.read(&key.0, key.1, next, PAGE).await.map_err(words)?;
                if page.next <= next && page.records.is_empty() {
                    return Err(format!(
                        "{topic}@{}#{next} does not come, though {end} is the end",
                        key.1
                    ));
                }
                for record in &page.records {
                    look(record);
                }
                next = page.next;
            }
        }
        Ok(())
    }

    /// The record of a held event: from where it is held or, if it is too large for that, from where it is from.
    ///
    /// # Errors
    /// It is there no more (`None`), or Kafka does not answer.
    pub(super) async fn fetch(&self, id: &str, at: i64) -> Result<Record, Option<String>> {
        let parts = Id::read(id).ok_or(None)?;
        let partitions = self.ensure().await.map_err(Some)?;
        let partition = partition_of(parts.subscription, parts.topic, parts.partition, partitions);
        let held: Arc<str> = Arc::from(self.held.topic.as_str());
        let found = self.one(&held, partition, at).await?;
        let ours = found.key.as_deref() == Some(id.as_bytes());
        let value = found.value.as_ref().filter(|_| ours).ok_or(None)?;
        let source: Arc<str> = Arc::from(parts.topic);
        let decoded = Held::read(value).map_err(|_| None)?;
        if let Some(record) = decoded.record(&source, parts.partition, parts.offset) {
            return Ok(record);
        }
        let found = self.one(&source, parts.partition, parts.offset).await?;
        Ok(Record {
            topic: Arc::clone(&found.topic),
            partition: found.partition,
            offset: found.offset,
            timestamp: found.timestamp,
            key: found.key.clone(),
            headers: found.headers.clone(),
            value: found.value.clone(),
            shown: std::sync::OnceLock::new(),
            shown_unframed: std::sync::OnceLock::new(),
        })
    }

    /// The record at an offset.
    pub(super) async fn one(
        &self,
        topic: &Arc<str>,
        partition: i32,
        offset: i64,
    ) -> Result<Arc<Record>, Option<String>> {
        let one = Limits { records: 1, bytes: 1 };
        let page = match self.reader.read(topic, partition, offset, one).await {
            Ok(page) => page,
            Err(Error::OutOfRange { .. } | Error::UnknownTopic(_) | Error::UnknownPartition { .. }) => {
                return Err(None);
            }
            Err(error) => return Err(Some(error.to_string())),
        };
        let first = page.records.into_iter().next();
        only(first, topic, partition, offset, page.next)
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

/// The record at `offset`, if it is what was found. It is there no more only if something behind it was reached.
fn only(
    found: Option<Arc<Record>>,
    topic: &str,
    partition: i32,
    offset: i64,
    next: i64,
) -> Result<Arc<Record>, Option<String>> {
    match found {
        Some(record) if record.offset == offset => Ok(record),
        Some(record) if record.offset > offset => Err(None),
        None if next > offset => Err(None),
        Some(_) | None => Err(Some(format!("{topic}@{partition}#{offset} does not come"))),
    }
}

/// Takes a record of the held topic into account.
fn note(all: &mut BTreeMap<(Arc<str>, i32), BTreeMap<i64, Found>>, subscription: &str, record: &Record) {
    let id = record
        .key
        .as_deref()
        .and_then(|key| std::str::from_utf8(key).ok());
    let Some(id) = id.and_then(Id::read).filter(|id| id.subscription == subscription) else {
        return;
    };
    let Some(found) = all.get_mut(&(Arc::from(id.topic), id.partition)) else {
        return;
    };
    match record.value.as_ref().map(Held::read) {
        None => drop(found.remove(&id.offset)),
        Some(Ok(held)) => {
            let (offset, at) = (id.offset, record.offset);
            // What may be large is read again when it is needed.
            let held = Held {
                value: None,
                headers: Vec::new(),
                ..held
            };
            found.insert(offset, Found { offset, at, held });
        }
        Some(Err(error)) => {
            tracing::error!(topic = %record.topic, partition = record.partition, offset = record.offset, error, "a held event cannot be read");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_gone_only_if_something_behind_it_was_reached() {
        let at = |offset| {
            Some(Arc::new(Record {
                topic: Arc::from("t"),
                partition: 0,
                offset,
                timestamp: None,
                key: None,
                headers: Vec::new(),
                value: None,
                shown: std::sync::OnceLock::new(),
                shown_unframed: std::sync::OnceLock::new(),
            }))
        };
        assert_eq!(only(at(5), "t", 0, 5, 6).map(|record| record.offset), Ok(5));
        assert_eq!(only(at(7), "t", 0, 5, 8).err(), Some(None));
        assert_eq!(only(None, "t", 0, 5, 6).err(), Some(None));
        for found in [only(None, "t", 0, 5, 5), only(at(4), "t", 0, 5, 5)] {
            let why = found.err().flatten();
            assert_eq!(why.as_deref(), Some("t@0#5 does not come"));
        }
    }
}
