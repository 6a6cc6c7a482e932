//! State that every sidecar shares and nothing else keeps: a compacted topic as a table with compare-and-set.
//!
//! Writers do not lock. A change is a record that proposes the next version of a row, and the topic's order decides between
//! those that propose the same one: **the first record of a version in the topic is the one that is accepted**. So a change
//! is answered when it was read back, and not when it was written; whoever lost is told so.
//!
//! # Why every sidecar agrees, whatever was compacted
//!
//! Kafka keeps the last record of a Kafka key, which of two that propose the same version may be the one that was refused. So
//! every record has a Kafka key of its own ([`name::Name`]: row, version, and a nonce), and compaction drops nothing that was
//! not taken back by a tombstone of the same Kafka key. The topic has one partition, so that all of it has one order.
//!
//! 1. A record that proposes version *n + 1* is written by somebody who had read which record is version *n* ([`Registry`]
//!    lets nobody write before it has read all that was there when it started). So no record of *n + 1* is before the one
//!    accepted as *n*, and the first record of *n + 1* is accepted when it is there: nothing else can have changed the row.
//! 2. A record is taken back only if it is *dead*: whoever does so has read a record of the same version before it, or of a
//!    higher one after it. Let *m* be the highest version of a row in the topic. The record that was accepted as *m* has no
//!    record of *m* before it, and there is none of a higher version: it is not dead, nobody takes it back, and it is there.
//!    Records of *m* behind it may or may not be there.
//! 3. So of what is in the topic, the first record of the highest version is the one that was accepted, however much of the
//!    rest a cleaner has dropped, in whatever order. That is what [`table::Table`] finds, reading once from the beginning.
//!    What it believes on the way there may be wrong (a refused record whose rival is gone looks like the first), so that it
//!    tells nothing before it has read to where the topic ended when it began.
//! 4. Nothing in it depends on who takes dead records back, when, or how often. If nobody does they only take room.
//!
//! # Why whoever waits is told the truth
//!
//! Somebody who reads on while the topic is compacted could miss the record that was accepted, if it was dead and dropped before
//! it was read, and take the refused one behind it for the first. So a change may only be written by a sidecar that had read to
//! the topic's end not longer than [`SILENCE`] ago, and whoever waits is told nothing [`READ_BACK`] after the change was
//! stored, which takes as long at most (`message.timeout.ms`). Everything that it had not read when it wrote the change is
//! younger than all of these together when it is told, and a record is not compacted before it is older than that
//! (`min.compaction.lag.ms`, by the broker's clock).
//!
//! # What else must hold
//!
//! The same record must not be there twice, since compaction would keep the later one, and another may be between: the
//! producer is idempotent, has one request under way, and a record is never written again by us.
//!
//! To forget a deleted row, its last record must be taken back, which is not dead, and then versions begin at 1 again. So it
//! happens in two steps: long after the row was deleted a record *closes* it, by the same rule as any other change; nobody
//! writes a closed row; and when nothing that was written before can still arrive, and nothing else of the row is in the
//! topic, what closed it is taken back. Tombstones count among what can still arrive: of a dead record that two sidecars take back,
//! the second tombstone, if it came after the row has begun again, would have a reader that has the record, while a cleaner dropped the
//! first tombstone, forget what the row has become. So a row stays closed for as long again after each of its records that is taken back.
//!
//! `table/tests.rs` has random writers, readers, sweepers and a random cleaner try to show otherwise.

mod follow;
pub mod name;
pub mod table;
mod upkeep;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, oneshot, watch};

use self::name::Name;
pub use self::table::Content;
use self::table::{Proposed, Table, encode};
use crate::config::Cluster;
use crate::kafka::log::{AppendError, Log, MAX_VALUE};
use crate::metrics::StateMetrics;

/// How long a change waits to be read back after it was stored.
const READ_BACK: Duration = Duration::from_secs(10);
/// How long ago everything must have been read that was in the topic then, for something to be changed.
const SILENCE: Duration = Duration::from_secs(30);

/// Whether the state is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// The topic is being read.
    Starting,
    /// All is known.
    Ready,
    /// Kafka does not answer, or not as it should. What was known before is still shown.
    Away(String),
}

/// Why a row was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The state is not known now.
    #[error("{0}")]
    Unavailable(String),
    /// Somebody else changed the row.
    #[error("{key} was changed by somebody else: it has version {version} now")]
    Conflict {
        /// The row.
        key: String,
        /// What it has now; 0: it is not there.
        version: u64,
    },
    /// This version of Sluice cannot read what is there, and does not replace it.
    #[error("{key} was written by another version of Sluice: {why}")]
    Unreadable {
        /// The row.
        key: String,
        /// What is wrong with it.
        why: Arc<str>,
    },
    /// It is too long.
    #[error("it is {0} bytes long, and a change has at most {MAX_VALUE}")]
    TooLarge(usize),
    /// Kafka did not store it.
    #[error("Kafka did not store it: {0}")]
    NotStored(String),
    /// It may or may not be stored, and accepted.
    #[error("{0}: it may or may not have been changed")]
    Unknown(String),
}

/// A row, and which version of it.
#[derive(Debug)]
pub struct Versioned<V> {
    /// Its version.
    pub version: u64,
    /// What it holds.
    pub value: Arc<V>,
}

/// A row that holds something.
#[derive(Debug)]
pub struct Row<V> {
    /// Its key.
    pub key: Arc<str>,
    /// Its version.
    pub version: u64,
    /// What it holds.
    pub value: Arc<V>,
}

struct Inner<V> {
    table: Table<V>,
    phase: Phase,
    /// Where reading goes on.
    position: i64,
    /// When the topic ended where, of late: not all of it was read.
    ends: VecDeque<(Instant, i64)>,
    /// A moment by which everything has been read that was in the topic.
    caught_up: Instant,
    /// Who waits for what became of a record: whether it was accepted.
    waiting: HashMap<u128, oneshot::Sender<bool>>,
}

/// Is told of every change, in the topic's order. It is told under the registry's lock: it must not ask the registry, and should
/// be quick.
pub trait Observer<V>: Send + Sync {
    /// All rows there are, instead of whatever was told before.
    fn begin(&self, rows: &mut dyn Iterator<Item = (&Arc<str>, u64, &Content<V>)>);

    /// A row has a new version.
    fn changed(&self, key: &Arc<str>, version: u64, content: &Content<V>);
}

/// The table, and who changes it. [`Registry::run`] must run for anything to be known.
pub struct Registry<V> {
    log: Log,
    observer: Option<Arc<dyn Observer<V>>>,
    inner: Mutex<Inner<V>>,
    /// Told when rows or the phase have changed: how often.
    changes: watch::Sender<u64>,
    /// Told when there are dead records of our own.
    dead: Notify,
    metrics: StateMetrics,
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Registry<V> {
    /// A registry in a log, which counts in `metrics`. Connects to nothing yet.
    pub fn new(log: Log, metrics: StateMetrics) -> Arc<Self> {
        Self::make(log, metrics, None)
    }

    /// As [`Self::new`], with somebody who is told of every change.
    pub fn observed(log: Log, metrics: StateMetrics, observer: Arc<dyn Observer<V>>) -> Arc<Self> {
        Self::make(log, metrics, Some(observer))
    }

    fn make(log: Log, metrics: StateMetrics, observer: Option<Arc<dyn Observer<V>>>) -> Arc<Self> {
        Arc::new(Self {
            log,
            observer,
            inner: Mutex::new(Inner {
                table: Table::default(),
                phase: Phase::Starting,
                position: 0,
                ends: VecDeque::new(),
                caught_up: Instant::now(),
                waiting: HashMap::new(),
            }),
            changes: watch::Sender::new(0),
            dead: Notify::new(),
            metrics,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner<V>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        self.log.topic()
    }

    /// Goes over to the certificates and secrets of `cluster`, which is the topic's.
    ///
    /// # Errors
    /// The cluster cannot be reached with them, and can be with the old ones, which stay in use.
    pub async fn renew(&self, cluster: &Cluster) -> Result<(), String> {
        self.log.renew(cluster).await
    }

    /// Whether the state is known.
    pub fn phase(&self) -> Phase {
        self.lock().phase.clone()
    }

    /// Told, with another number each time, when rows or the phase have changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// How many records of the topic are no registry's: they are left alone.
    pub fn foreign(&self) -> u64 {
        self.lock().table.foreign()
    }

    /// A row; none: there is none, or it cannot be read.
    pub fn get(&self, key: &str) -> Option<Versioned<V>> {
        let inner = self.lock();
        let row = inner.table.get(key)?;
        match &row.content {
            Content::Value(value) => Some(Versioned {
                version: row.version,
                value: Arc::clone(value),
            }),
            Content::Deleted | Content::Closed | Content::Unreadable(_) => None,
        }
    }

    /// The rows whose keys begin with `prefix`, in order; those that cannot be read too, those that were deleted not.
    pub fn list(&self, prefix: &str) -> Vec<(Arc<str>, u64, Content<V>)> {
        let inner = self.lock();
        let rows = inner.table.starting_with(prefix);
        let there = rows.filter(|(_, row)| !matches!(row.content, Content::Deleted | Content::Closed));
        there
            .map(|(key, row)| (Arc::clone(key), row.version, row.content.clone()))
            .collect()
    }

    /// Of at most `most` rows whose keys begin with `prefix`, which ends with a slash, those that hold something and that `keep`
    /// keeps: of those after `from` where that is a key, in order, or with `back` of those before it, the last first. The second is
    /// where to go on, if there may be more. `keep` is asked under the registry's lock: it must not ask the registry, and should
    /// be quick.
    pub fn some(
        &self,
        prefix: &str,
        from: Option<&str>,
        back: bool,
        most: usize,
        keep: impl Fn(&str, &V) -> bool,
    ) -> (Vec<Row<V>>, Option<Arc<str>>) {
        let inner = self.lock();
        let mut rows = inner.table.between(prefix, from, back);
        let mut found = Vec::new();
        let mut last = None;
        for (key, row) in rows.by_ref().take(most) {
            last = Some(Arc::clone(key));
            if let Content::Value(value) = &row.content
                && keep(key, value)
            {
                found.push(Row {
                    key: Arc::clone(key),
                    version: row.version,
                    value: Arc::clone(value),
                });
            }
        }
        let more = rows.next().is_some();
        (found, last.filter(|_| more))
    }

    /// Waits until everything is known that was in the topic when this was called, by whomever it was written.
    ///
    /// # Errors
    /// The state is not known, or Kafka does not answer.
    pub async fn catch_up(&self) -> Result<(), Error> {
        let end = self
            .log
            .end()
            .await
            .map_err(|error| Error::Unavailable(error.to_string()))?;
        let mut changes = self.changes();
        let reached = async {
            while !self.has_reached(end) {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        let reached = tokio::time::timeout(READ_BACK, reached).await;
        reached.map_err(|_| {
            Error::Unavailable(format!("topic {} could not be read up to its end", self.topic()))
        })
    }

    fn has_reached(&self, end: i64) -> bool {
        let inner = self.lock();
        inner.position >= end && inner.phase == Phase::Ready
    }

    /// Makes `value` the row's content if the row has version `base` (0: is not there, or deleted), and gives its new version.
    /// Returns when the change was read back.
    ///
    /// # Errors
    /// Somebody else was first, or the state cannot be changed now.
    pub async fn put(&self, key: &str, base: u64, value: &V) -> Result<u64, Error> {
        self.change(key, base, &Proposed::Value(value)).await
    }

    /// Deletes the row if it has version `base`.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub async fn delete(&self, key: &str, base: u64) -> Result<(), Error> {
        self.change(key, base, &Proposed::Deleted).await.map(drop)
    }

    async fn change(&self, key: &str, base: u64, proposed: &Proposed<'_, V>) -> Result<u64, Error> {
        let value = encode(proposed).map_err(|error| Error::NotStored(error.to_string()))?;
        if value.len() > MAX_VALUE {
            return Err(Error::TooLarge(value.len()));
        }
        let nonce = nonce()?;
        let (tell, told) = oneshot::channel();
        let name = {
            let mut inner = self.lock();
            let version = inner.may_change(key, base, matches!(proposed, Proposed::Closed))?;
            inner.waiting.insert(nonce, tell);
            Name {
                key: key.into(),
                version: version + 1,
                nonce,
            }
        };
        let waiting = Waiting {
            registry: self,
            nonce,
        };
        let appended = self.log.append(name.to_string().as_bytes(), Some(&value)).await;
        let accepted = match appended {
            Ok(()) => tokio::time::timeout(READ_BACK, told)
                .await
                .ok()
                .and_then(Result::ok),
            Err(AppendError::NotStored(why)) => return Err(Error::NotStored(why)),
            Err(AppendError::Unknown(why)) => return Err(Error::Unknown(why)),
        };
        drop(waiting);
        match accepted {
            Some(true) => Ok(name.version),
            Some(false) => Err(Error::Conflict {
                key: key.to_owned(),
                version: self.lock().table.version(key),
            }),
            None => Err(Error::Unknown(format!(
                "it is stored, and was not read back from topic {} within {} s",
                self.topic(),
                READ_BACK.as_secs()
            ))),
        }
    }
}

/// Ends that are remembered.
const ENDS: usize = 64;

impl<V> Inner<V> {
    /// The topic ended at `end` when that was `asked`.
    fn ended(&mut self, asked: Instant, end: i64) {
        if self.ends.len() >= ENDS {
            // The older ones are reached first.
            self.ends.pop_back();
        }
        self.ends.push_back((asked, end));
        self.moved(self.position);
    }

    fn moved(&mut self, position: i64) {
        self.position = position;
        while let Some((asked, _)) = self.ends.front().filter(|(_, end)| *end <= position) {
            self.caught_up = self.caught_up.max(*asked);
            self.ends.pop_front();
        }
    }

    /// The version that the row has, if it may be changed by somebody who believes it to be `base`.
    fn may_change(&self, key: &str, base: u64, closing: bool) -> Result<u64, Error> {
        match &self.phase {
            Phase::Ready if self.caught_up.elapsed() > SILENCE => {
                return Err(Error::Unavailable(format!(
                    "the state's topic has not been read to its end for {} s",
                    SILENCE.as_secs()
                )));
            }
            Phase::Ready => {}
            Phase::Starting => {
                return Err(Error::Unavailable("the state is still being read".to_owned()));
            }
            Phase::Away(why) => return Err(Error::Unavailable(why.clone())),
        }
        let conflict = |version| Error::Conflict {
            key: key.to_owned(),
            version,
        };
        let Some(row) = self.table.get(key) else {
            return if base == 0 { Ok(0) } else { Err(conflict(0)) };
        };
        match &row.content {
            Content::Unreadable(why) => Err(Error::Unreadable {
                key: key.to_owned(),
                why: Arc::clone(&**why),
            }),
            Content::Closed => Err(conflict(0)),
            Content::Deleted if closing && base == row.version => Ok(row.version),
            Content::Deleted if base == 0 => Ok(row.version),
            Content::Deleted => Err(conflict(0)),
            Content::Value(_) if base == row.version => Ok(row.version),
            Content::Value(_) => Err(conflict(row.version)),
        }
    }
}

/// Takes whoever waits off the list, also when the request is dropped.
struct Waiting<'a, V: Serialize + DeserializeOwned + Send + Sync + 'static> {
    registry: &'a Registry<V>,
    nonce: u128,
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Drop for Waiting<'_, V> {
    fn drop(&mut self) {
        self.registry.lock().waiting.remove(&self.nonce);
    }
}

fn nonce() -> Result<u128, Error> {
    let mut bytes = [0; 16];
    let filled = openssl::rand::rand_bytes(&mut bytes);
    filled.map_err(|error| Error::NotStored(format!("there is no randomness: {error}")))?;
    Ok(u128::from_be_bytes(bytes))
}
