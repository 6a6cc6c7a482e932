//! Questions about topics and offsets.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::Semaphore;

use super::native::Source;
use super::{Error, PATIENCE, asking_config};
use crate::kafka::connection::Connection;

/// Questions that are asked at once: each holds a thread while it is.
const AT_ONCE: usize = 8;
/// How long what is known of a topic is good for.
const FRESH: Duration = Duration::from_secs(2);
/// For how long it is asked again about a topic that was there and is said not to be: a broker that has just come up does not
/// know of all its topics at once.
const DOUBTED: Duration = Duration::from_secs(3);
/// How often.
const AGAIN: Duration = Duration::from_millis(200);
/// Topics that are known at most.
const KNOWN: usize = 4096;

/// Offsets by topic and partition.
pub type Offsets = HashMap<(Arc<str>, i32), i64>;

/// Which offset of a partition is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// That of the first record.
    Earliest,
    /// The one after the last record that can be read.
    Latest,
    /// That of the first record that is not older than this, in milliseconds since 1970; the latest if there is none.
    At(i64),
}

/// Asks, with a client of its own.
pub(super) struct Asker {
    connection: Arc<Connection>,
    source: Arc<OnceLock<Arc<Source>>>,
    room: Arc<Semaphore>,
    known: Mutex<HashMap<String, (Instant, i32)>>,
    looking: Semaphore,
}

impl Asker {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self {
            connection,
            source: Arc::default(),
            room: Arc::new(Semaphore::new(AT_ONCE)),
            known: Mutex::default(),
            looking: Semaphore::new(AT_ONCE / 2),
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Source) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let room = Arc::clone(&self.room).acquire_owned();
        let Ok(Ok(room)) = tokio::time::timeout(PATIENCE, room).await else {
            return Err(Error::Unavailable(format!(
                "{AT_ONCE} questions to the cluster were under way for {} s",
                PATIENCE.as_secs()
            )));
        };
        let (connection, slot) = (Arc::clone(&self.connection), Arc::clone(&self.source));
        let asked = tokio::task::spawn_blocking(move || {
            let source = match slot.get() {
                Some(source) => Arc::clone(source),
                None => {
                    let made = Source::served(&connection, &asking_config(&connection))
                        .map_err(Error::Unavailable)?;
                    Arc::clone(slot.get_or_init(|| made))
                }
            };
            // A token that was taken up meanwhile.
            source.serve();
            let answer = question(&source);
            drop(room);
            answer
        });
        asked
            .await
            .map_err(|error| Error::Unavailable(error.to_string()))?
    }

    pub(super) async fn topics(&self) -> Result<Vec<String>, Error> {
        self.ask(|source| {
            let metadata = source
                .client()
                .fetch_metadata(None, PATIENCE)
                .map_err(|error| unavailable(&error))?;
            let there = metadata
                .topics()
                .iter()
                .filter(|topic| topic.error().is_none() && !topic.partitions().is_empty());
            let mut names: Vec<String> = there.map(|topic| topic.name().to_owned()).collect();
            names.sort();
            Ok(names)
        })
        .await
    }

    /// How many partitions a topic has. That one which was there is gone is only believed once it has been said for
    /// [`DOUBTED`].
    pub(super) async fn partitions(&self, topic: &str) -> Result<i32, Error> {
        let until = Instant::now() + DOUBTED;
        loop {
            let was_there = match self.lock().get(topic) {
                Some((when, count)) if when.elapsed() < FRESH => return Ok(*count),
                known => known.is_some(),
            };
            match self.look(topic).await {
                Err(Error::UnknownTopic(_)) if was_there && Instant::now() < until => {
                    tokio::time::sleep(AGAIN).await;
                }
                Err(error @ Error::UnknownTopic(_)) => {
                    self.lock().remove(topic);
                    return Err(error);
                }
                looked => return looked,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Instant, i32)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look(&self, topic: &str) -> Result<i32, Error> {
        let _looking = self.looking.acquire().await;
        // Somebody else may have looked while this waited to.
        if let Some((when, count)) = self.lock().get(topic)
            && when.elapsed() < FRESH
        {
            return Ok(*count);
        }
        let name = topic.to_owned();
        let count = self.ask(move |source| partitions(source, &name)).await?;
        let mut known = self.lock();
        if known.len() >= KNOWN {
            known.retain(|_, (when, _)| when.elapsed() < FRESH);
        }
        if known.len() < KNOWN {
            known.insert(topic.to_owned(), (Instant::now(), count));
        }
        Ok(count)
    }

    pub(super) async fn offsets(&self, partitions: &[(Arc<str>, i32)], when: When) -> Result<Offsets, Error> {
        if partitions.is_empty() {
            return Ok(Offsets::new());
        }
        let partitions = partitions.to_vec();
        self.ask(move |source| {
            let found = offsets(source, &partitions, when)?;
            let When::At(_) = when else { return Ok(found) };
            // After the last record there is none that is not older.
            let missing: Vec<_> = found
                .iter()
                .filter(|(_, offset)| **offset < 0)
                .map(|(partition, _)| partition.clone())
                .collect();
            if missing.is_empty() {
                return Ok(found);
            }
            let ends = offsets(source, &missing, When::Latest)?;
            Ok(found.into_iter().chain(ends).collect())
        })
        .await
    }
}

pub(super) const DEFAULTS: [(&str, &str); 1] = [("reconnect.backoff.max.ms", "1000")];

fn partitions(source: &Source, topic: &str) -> Result<i32, Error> {
    let metadata = source
        .client()
        .fetch_metadata(Some(topic), PATIENCE)
        .map_err(|error| unavailable(&error))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    use RDKafkaRespErr as Raw;
    match found.map(|found| (found.error(), found.partitions().len())) {
        Some((None, count)) if count > 0 => Ok(i32::try_from(count).unwrap_or(i32::MAX)),
        Some((Some(Raw::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED), _)) => {
            Err(Error::NotAuthorised(topic.to_owned()))
        }
        Some((Some(code), _)) => Err(Error::of(code.into(), topic, 0, 0)
            .unwrap_or_else(|| Error::Unavailable(format!("topic {topic}: {}", Code::from(code))))),
        Some((None, _)) | None => Err(Error::UnknownTopic(topic.to_owned())),
    }
}

/// ListOffsets, which takes -1 and -2 for a time: the end and the beginning (Kafka's protocol guide). Negative is what no
/// record is as young as.
fn offsets(source: &Source, partitions: &[(Arc<str>, i32)], when: When) -> Result<Offsets, Error> {
    let time = match when {
        When::Earliest => Offset::Beginning,
        When::Latest => Offset::End,
        When::At(ms) => Offset::Offset(ms.max(0)),
    };
    let mut asked = TopicPartitionList::new();
    for (topic, partition) in partitions {
        asked
            .add_partition_offset(topic, *partition, time)
            .map_err(|error| unavailable(&error))?;
    }
    let answer = source
        .client()
        .offsets_for_times(asked, PATIENCE)
        .map_err(|error| unavailable(&error))?;
    let mut found = Offsets::new();
    for element in answer.elements() {
        let (topic, partition) = (element.topic(), element.partition());
        if let Err(error) = element.error() {
            let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
            return Err(Error::of(code, topic, partition, 0)
                .unwrap_or_else(|| Error::Unavailable(format!("{topic} partition {partition}: {code}"))));
        }
        let offset = match element.offset() {
            Offset::Offset(offset) => offset,
            Offset::End | Offset::Invalid if matches!(when, When::At(_)) => -1,
            other => {
                return Err(Error::Unavailable(format!(
                    "{topic} partition {partition} has no offset: {other:?}"
                )));
            }
        };
        if let Some(key) = partitions.iter().find(|(t, p)| **t == *topic && *p == partition) {
            found.insert(key.clone(), offset);
        }
    }
    if let Some((topic, partition)) = partitions.iter().find(|key| !found.contains_key(*key)) {
        return Err(Error::Unavailable(format!(
            "{topic} partition {partition} says nothing of its offsets"
        )));
    }
    Ok(found)
}

fn unavailable(error: &KafkaError) -> Error {
    let text = match error.rdkafka_error_code() {
        Some(code) => code.to_string(),
        None => error.to_string(),
    };
    Error::Unavailable(text)
}
