//! Consumer groups: members of one, and the positions that Kafka keeps for it.
//!
//! A [`Member`] is one member, and one client of librdkafka's, with a thread of its own that hands over what happens as
//! [`Event`]s. Nothing is committed that nobody asks for, and a partition is given up only once whoever reads it has
//! handed it over ([`Revocation`]). [`Committed`] reads and writes a group's positions without being a member.

mod committed;
mod context;
mod driver;
mod native;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::{mpsc, watch};

pub use self::committed::{Committed, Membership};
use self::context::GroupContext;
use self::native::Records;
pub use self::settings::{ALLOWED_PROPERTIES, Assignor, Protocol, Settings, Topics, allowed_property};
use super::connection::Connection;
use super::reader::{self, Offsets, Record};
use crate::config::Cluster;

/// How long one question to the group's coordinator may take.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Batches that wait to be taken; what comes after stays in the library, which bounds it.
const QUEUED: usize = 2;

/// A topic's partition.
pub type Partition = (Arc<str>, i32);

/// A position, and what is kept beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mark {
    /// The offset that is to be read next.
    pub offset: i64,
    /// A text of whoever committed it. The brokers take one of `offset.metadata.max.bytes` (4096) at most.
    pub note: String,
}

/// The marks of partitions.
pub type Marks = BTreeMap<Partition, Mark>;

/// What happens to a member, in order.
#[derive(Debug)]
pub enum Event {
    /// The group gives the member these partitions, beside those that it has. They are read from what is committed, or where
    /// `auto.offset.reset` says. The first one may be empty: the member has joined, and there is nothing for it.
    Assigned(Vec<Partition>),
    /// The group takes these away. They are given up when the revocation is dropped.
    Revoked(Revocation),
    /// These are somebody else's already: nothing can be committed for them.
    Lost(Vec<Partition>),
    /// Records.
    Batch(Batch),
    /// Something went wrong. The member goes on, unless it is [`Error::Fatal`].
    Failed(Error),
}

/// Records of any of the member's partitions, those of each in order.
#[derive(Debug, Default)]
pub struct Batch {
    /// The records.
    pub records: Vec<Arc<Record>>,
    /// Partitions that have nothing more now, up to this offset: it may be further on than the last record, past transaction
    /// markers.
    pub ends: Vec<(Partition, i64)>,
}

/// Partitions on their way to another member. The group waits for it, [`Settings::hand_over`] at most: to be dropped once what
/// is to be committed is.
#[derive(Debug)]
pub struct Revocation {
    /// Which they are.
    pub partitions: Vec<Partition>,
    /// Dropped with it.
    _done: std::sync::mpsc::Sender<std::convert::Infallible>,
}

impl Revocation {
    /// A part of it, for somebody else to hand over: the group waits for all parts.
    pub fn part(&self, partitions: Vec<Partition>) -> Self {
        Self {
            partitions,
            _done: self._done.clone(),
        }
    }
}

/// Why a member cannot do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The brokers do not let the sidecar use the group.
    #[error("Kafka does not let the sidecar use group {0} (it needs READ on it)")]
    NotAuthorised(String),
    /// Who commits is no member, or the group has moved on without it.
    #[error("group {group} takes no position from who is no member of it: {why}")]
    NotMember {
        /// The group.
        group: String,
        /// Kafka's words.
        why: String,
    },
    /// A topic, a partition or an offset is not to be had.
    #[error(transparent)]
    Read(#[from] reader::Error),
    /// Kafka did not answer, or not yet as it should.
    #[error("Kafka did not answer for group {group}: {why}")]
    Unavailable {
        /// The group.
        group: String,
        /// Why.
        why: String,
    },
    /// The member is done for: make another one.
    #[error("the member of group {group} cannot go on: {why}")]
    Fatal {
        /// The group.
        group: String,
        /// Why.
        why: String,
    },
}

impl Error {
    fn of(code: Code, group: &str) -> Self {
        let (group, why) = (group.to_owned(), code.to_string());
        match code {
            Code::GroupAuthorizationFailed => Self::NotAuthorised(group),
            Code::UnknownMemberId
            | Code::IllegalGeneration
            | Code::FencedInstanceId
            | Code::FencedMemberEpoch
            | Code::StaleMemberEpoch
            | Code::AssignmentLost => Self::NotMember { group, why },
            Code::InvalidGroupId | Code::InconsistentGroupProtocol | Code::Fatal => {
                Self::Fatal { group, why }
            }
            _ => Self::Unavailable { group, why },
        }
    }

    fn unavailable(group: &str, why: impl ToString) -> Self {
        Self::Unavailable {
            group: group.to_owned(),
            why: why.to_string(),
        }
    }
}

/// A member of a group. It leaves when this is dropped; [`Self::close`] waits for it.
pub struct Member {
    shared: Arc<Shared>,
    ended: watch::Receiver<bool>,
}

/// What happens to a [`Member`].
pub struct Events {
    receiver: mpsc::UnboundedReceiver<Event>,
    shared: Arc<Shared>,
}

/// What the member, its events and its thread share.
struct Shared {
    group: Arc<str>,
    /// None once the thread has let go of it.
    client: Mutex<Option<Arc<Client>>>,
    /// Batches that were handed over and not taken.
    queued: AtomicUsize,
    closing: AtomicBool,
    /// The brokers keep nothing beside positions.
    bare: AtomicBool,
    bell: Arc<Bell>,
}

type Client = BaseConsumer<GroupContext>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes the member's thread.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    waiting: Condvar,
}

impl Bell {
    fn ring(&self) {
        *lock(&self.rung) = true;
        self.waiting.notify_one();
    }

    fn wait(&self, most: Duration) {
        let rung = lock(&self.rung);
        let (mut rung, _) = self
            .waiting
            .wait_timeout_while(rung, most, |rung| !*rung)
            .unwrap_or_else(PoisonError::into_inner);
        *rung = false;
    }
}

impl Member {
    /// Makes a member of a group of `cluster`'s. Does not wait for the group: [`Event::Assigned`] says that it has joined.
    ///
    /// # Errors
    /// librdkafka does not take the properties, there is no token to log in with, or no thread.
    pub async fn join(cluster: &Cluster, settings: Settings) -> Result<(Self, Events), Error> {
        let connection = Connection::of(cluster);
        let group: Arc<str> = Arc::from(settings.group.as_str());
        let failed = |why: String| Error::Fatal {
            group: group.to_string(),
            why,
        };
        let (sender, receiver) = mpsc::unbounded_channel();
        let bell = Arc::new(Bell::default());
        let records = settings.records;
        let made = {
            let (settings, bell, sender) = (settings.clone(), Arc::clone(&bell), sender.clone());
            tokio::task::spawn_blocking(move || {
                let context = GroupContext::new(&connection, &settings, sender)?;
                let config = settings.client_config(&connection);
                let mut client: Client = config
                    .create_with_context(context)
                    .map_err(|error| settings::refused(&error))?;
                let rung = Arc::clone(&bell);
                client.set_nonempty_callback(move || rung.ring());
                connection
                    .log_in(client.client(), client.context().connection())
                    .map_err(|error| error.to_string())?;
                if records {
                    let queue =
                        Records::new(client.client().native_ptr(), bell).ok_or("no memory for a queue")?;
                    client.context().fill(queue);
                }
                Ok::<_, String>(Arc::new(client))
            })
        };
        let client = made
            .await
            .map_err(|error| failed(error.to_string()))?
            .map_err(failed)?;
        let shared = Arc::new(Shared {
            group: Arc::clone(&group),
            client: Mutex::new(Some(Arc::clone(&client))),
            queued: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            bare: AtomicBool::new(false),
            bell,
        });
        let (ending, ended) = watch::channel(false);
        driver::start(client, Arc::clone(&shared), settings.topics, sender, ending)
            .map_err(|error| failed(format!("no thread: {error}")))?;
        let member = Self {
            shared: Arc::clone(&shared),
            ended,
        };
        Ok((member, Events { receiver, shared }))
    }

    /// The group.
    pub fn group(&self) -> &str {
        &self.shared.group
    }

    /// Commits positions: the offsets that are to be read next. It is done when Kafka has them. Callers see to the order: of
    /// two that are under way at once either may be the last. What was kept beside them is there no more.
    ///
    /// # Errors
    /// It is no member any more, may not, or Kafka does not answer within [`PATIENCE`].
    pub async fn commit(&self, positions: &Offsets) -> Result<(), Error> {
        let bare = |(key, offset): (&Partition, &i64)| {
            let mark = Mark {
                offset: *offset,
                note: String::new(),
            };
            (key.clone(), mark)
        };
        self.commit_marks(&positions.iter().map(bare).collect()).await
    }

    /// As [`Self::commit`], with what is to be kept beside the positions. Brokers that do not take as much as Kafka's own take by
    /// default are given the positions alone.
    ///
    /// # Errors
    /// As of [`Self::commit`].
    pub async fn commit_marks(&self, marks: &Marks) -> Result<(), Error> {
        if marks.is_empty() {
            return Ok(());
        }
        let bare = self.list(marks, false)?;
        let list = self.list(marks, !self.shared.bare.load(Ordering::Acquire))?;
        let shared = Arc::clone(&self.shared);
        self.blocking(move |client| {
            let group = &shared.group;
            let commit = |list| native::commit(client.client().native_ptr(), list, group, PATIENCE);
            let code = match commit(&list)? {
                Code::OffsetMetadataTooLarge => {
                    if !shared.bare.swap(true, Ordering::AcqRel) {
                        tracing::warn!(
                            group = &**group,
                            "the brokers' offset.metadata.max.bytes is below 4096: only positions are committed, and what is \
                             finished after them is not kept"
                        );
                    }
                    commit(&bare)?
                }
                code => code,
            };
            match code {
                Code::NoError => Ok(()),
                code => Err(Error::of(code, group)),
            }
        })
        .await
    }

    /// What the group has committed of partitions; those are missing of which it has nothing.
    ///
    /// # Errors
    /// As of [`Self::commit`].
    pub async fn committed(&self, partitions: &[Partition]) -> Result<Offsets, Error> {
        if partitions.is_empty() {
            return Ok(Offsets::new());
        }
        let marks = self.marks(partitions).await?;
        Ok(marks.into_iter().map(|(key, mark)| (key, mark.offset)).collect())
    }

    /// As [`Self::committed`], with what is kept beside the positions.
    ///
    /// # Errors
    /// As of [`Self::commit`].
    pub async fn marks(&self, partitions: &[Partition]) -> Result<Marks, Error> {
        if partitions.is_empty() {
            return Ok(Marks::new());
        }
        let (keys, group) = (partitions.to_vec(), Arc::clone(&self.shared.group));
        self.blocking(move |client| {
            let list = list_of(&keys);
            let found = client.committed_offsets(list, PATIENCE);
            let found = found.map_err(|error| of_kafka(&error, &group))?;
            #[allow(unsafe_code, reason = "the list is valid as long as it is there")]
            let found = unsafe { native::elements(found.ptr()) };
            committed::read(found, &keys, &group)
        })
        .await
    }

    /// Takes no more records of partitions, until they are resumed. What is in an event already comes.
    ///
    /// # Errors
    /// The member is closed, or does not have a partition.
    pub fn pause(&self, partitions: &[Partition]) -> Result<(), Error> {
        let paused = self.client()?.pause(&list_of(partitions));
        paused.map_err(|error| self.error(&error))
    }

    /// Goes on with what [`Self::pause`] stopped, after the last record that was handed over.
    ///
    /// # Errors
    /// As of [`Self::pause`].
    pub fn resume(&self, partitions: &[Partition]) -> Result<(), Error> {
        let resumed = self.client()?.resume(&list_of(partitions));
        resumed.map_err(|error| self.error(&error))
    }

    /// Goes on at these positions. Records from before it may be in a batch that is on its way.
    ///
    /// # Errors
    /// The member is closed, does not have a partition, or librdkafka takes longer than [`PATIENCE`].
    pub async fn seek(&self, positions: &Offsets) -> Result<(), Error> {
        let mut list = TopicPartitionList::new();
        for ((topic, partition), offset) in positions {
            let added = list.add_partition_offset(topic, *partition, Offset::Offset(*offset));
            added.map_err(|error| self.error(&error))?;
        }
        let group = Arc::clone(&self.shared.group);
        self.blocking(move |client| {
            let sought = client.seek_partitions(list, PATIENCE);
            let sought = sought.map_err(|error| of_kafka(&error, &group))?;
            for element in sought.elements() {
                element.error().map_err(|error| of_kafka(&error, &group))?;
            }
            Ok(())
        })
        .await
    }

    /// Leaves the group. Whoever takes the events has a last [`Event::Revoked`] to hand over by. Gives whether it was done
    /// within that time; if not, it goes on by itself.
    pub async fn close(&self, within: Duration) -> bool {
        self.shared.close();
        let mut ended = self.ended.clone();
        let ended = ended.wait_for(|ended| *ended);
        tokio::time::timeout(within, ended)
            .await
            .is_ok_and(|ended| ended.is_ok())
    }

    fn client(&self) -> Result<Arc<Client>, Error> {
        lock(&self.shared.client).clone().ok_or_else(|| self.closed())
    }

    fn closed(&self) -> Error {
        Error::NotMember {
            group: self.shared.group.to_string(),
            why: "the member has left".to_owned(),
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Client) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let client = self.client()?;
        let asked = tokio::task::spawn_blocking(move || ask(&client));
        asked
            .await
            .map_err(|error| Error::unavailable(&self.shared.group, error))?
    }

    fn list(&self, marks: &Marks, notes: bool) -> Result<TopicPartitionList, Error> {
        let mut list = TopicPartitionList::new();
        for ((topic, partition), mark) in marks {
            let mut element = list.add_partition(topic, *partition);
            let set = element.set_offset(Offset::Offset(mark.offset));
            set.map_err(|error| self.error(&error))?;
            if notes && !mark.note.is_empty() {
                element.set_metadata(&mark.note);
            }
        }
        Ok(list)
    }

    fn error(&self, error: &rdkafka::error::KafkaError) -> Error {
        of_kafka(error, &self.shared.group)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Events {
    /// The next one; none once the member has left. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        let event = self.receiver.recv().await;
        if let Some(Event::Batch(_)) = event {
            self.shared.queued.fetch_sub(1, Ordering::AcqRel);
            self.shared.bell.ring();
        }
        event
    }
}

impl Shared {
    fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.bell.ring();
    }
}

fn list_of(partitions: &[Partition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in partitions {
        list.add_partition(topic, *partition);
    }
    list
}

fn of_kafka(error: &rdkafka::error::KafkaError, group: &str) -> Error {
    match error.rdkafka_error_code() {
        Some(code) => Error::of(code, group),
        None => Error::unavailable(group, error),
    }
}
