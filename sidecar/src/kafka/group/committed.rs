//! The positions that Kafka keeps for groups, read and written by who is no member.

use std::ffi::{CStr, CString};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::bindings as sys;
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::Semaphore;

use super::native::{Answers, Element, elements};
use super::{Error, Mark, Marks, PATIENCE, Partition};
use crate::config::Cluster;
use crate::kafka::connection::Connection;
use crate::kafka::reader::native::Source;
use crate::kafka::reader::{Offsets, asking_config};

/// Questions that are asked at once: each holds a thread while it is.
const AT_ONCE: usize = 8;

/// Reads and writes the positions of a cluster's groups with one client, which is made when it is first needed. No group is
/// joined: positions are written with generation -1, which Kafka takes while the group has no members.
pub struct Committed {
    connection: Arc<Connection>,
    source: Arc<OnceLock<Arc<Source>>>,
    room: Arc<Semaphore>,
    clients: Arc<Clients>,
}

/// The most groups for which a client is kept.
const KEPT: usize = 16;

/// Clients that have a group's name, and are no members of it: those of the groups that were asked for last.
#[derive(Default)]
struct Clients(Mutex<Vec<(String, Arc<Source>)>>);

impl Clients {
    fn of(&self, connection: &Connection, group: &str) -> Result<Arc<Source>, Error> {
        let kept = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let take = |kept: &mut Vec<(String, Arc<Source>)>| {
            let at = kept.iter().position(|(name, _)| name == group)?;
            let found = kept.remove(at);
            let source = Arc::clone(&found.1);
            kept.push(found);
            Some(source)
        };
        if let Some(source) = take(&mut kept()) {
            return Ok(source);
        }
        let mut config = asking_config(connection);
        config.set("group.id", group);
        let made = Source::served(connection, &config).map_err(|why| Error::unavailable(group, why))?;
        let mut kept = kept();
        if let Some(source) = take(&mut kept) {
            return Ok(source);
        }
        // Who still asks with the oldest has it for as long as that takes.
        let oldest = (kept.len() >= KEPT).then(|| kept.remove(0));
        kept.push((group.to_owned(), Arc::clone(&made)));
        drop(kept);
        drop(oldest);
        Ok(made)
    }
}

/// What a group is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// Kafka's word for its state: `Empty`, `Stable`, `PreparingRebalance`, `CompletingRebalance`, `Dead` (there is none).
    pub state: &'static str,
    /// How many members it has.
    pub members: usize,
}

impl Committed {
    /// Of `cluster`'s groups. Connects to nothing.
    pub fn new(cluster: &Cluster) -> Self {
        Self {
            connection: Arc::new(Connection::of(cluster)),
            source: Arc::default(),
            room: Arc::new(Semaphore::new(AT_ONCE)),
            clients: Arc::default(),
        }
    }

    /// What a group has committed of partitions; those are missing of which it has nothing. Kafka asks for `DESCRIBE` on the
    /// group.
    ///
    /// # Errors
    /// It may not be read, or Kafka does not answer within [`PATIENCE`].
    pub async fn read(&self, group: &str, partitions: &[Partition]) -> Result<Offsets, Error> {
        if partitions.is_empty() {
            return Ok(Offsets::new());
        }
        let keys = partitions.to_vec();
        // Not by the admin call: librdkafka 2.12 (`rd_kafka_ListConsumerGroupOffsetsResponse_parse`) follows a null pointer where
        // the coordinator answers with an error, as it does while it loads.
        let clients = Arc::clone(&self.clients);
        let connection = Arc::clone(&self.connection);
        self.ask(group, move |_, group| {
            let source = clients.of(&connection, group)?;
            source.serve();
            let mut list = TopicPartitionList::new();
            for (topic, partition) in &keys {
                list.add_partition(topic, *partition);
            }
            let found = source.client().committed_offsets(list, PATIENCE);
            let found = found.map_err(|error| super::of_kafka(&error, group))?;
            #[allow(unsafe_code, reason = "the list is valid as long as it is there")]
            let found = unsafe { elements(found.ptr()) };
            let marks = read(found, &keys, group)?;
            Ok(marks.into_iter().map(|(key, mark)| (key, mark.offset)).collect())
        })
        .await
    }

    /// Commits positions: the offsets that are to be read next. Kafka asks for `READ` on the group.
    ///
    /// # Errors
    /// [`Error::NotMember`] while the group has members; it may not be written, or Kafka does not answer within [`PATIENCE`].
    pub async fn write(&self, group: &str, positions: &Offsets) -> Result<(), Error> {
        if positions.is_empty() {
            return Ok(());
        }
        let positions = positions.clone();
        self.ask(group, move |source, group| {
            let mut list = TopicPartitionList::new();
            for ((topic, partition), offset) in &positions {
                list.add_partition_offset(topic, *partition, Offset::Offset(*offset))
                    .map_err(|error| Error::unavailable(group, error))?;
            }
            Asked::Write(&list).ask(source, group)?.positions(group).map(drop)
        })
        .await
    }

    /// What a group is now. A group of KIP-848's protocol is `Dead` here: librdkafka 2.12 asks with DescribeGroups, which does
    /// not know those. Kafka asks for `DESCRIBE` on the group.
    ///
    /// # Errors
    /// As of [`Self::read`].
    pub async fn membership(&self, group: &str) -> Result<Membership, Error> {
        self.ask(group, |source, group| {
            Asked::Describe.ask(source, group)?.membership(group)
        })
        .await
    }

    async fn ask<T: Send + 'static>(
        &self,
        group: &str,
        question: impl FnOnce(&Source, &str) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let room = Arc::clone(&self.room).acquire_owned();
        let Ok(Ok(room)) = tokio::time::timeout(PATIENCE, room).await else {
            let why = format!(
                "{AT_ONCE} questions about groups were under way for {} s",
                PATIENCE.as_secs()
            );
            return Err(Error::unavailable(group, why));
        };
        let (connection, slot, name) = (
            Arc::clone(&self.connection),
            Arc::clone(&self.source),
            group.to_owned(),
        );
        let asked = tokio::task::spawn_blocking(move || {
            let source = match slot.get() {
                Some(source) => Arc::clone(source),
                None => {
                    let made = Source::served(&connection, &asking_config(&connection))
                        .map_err(|why| Error::unavailable(&name, why))?;
                    Arc::clone(slot.get_or_init(|| made))
                }
            };
            source.serve();
            let mut answer = question(&source, &name);
            if matches!(answer, Err(Error::Unavailable { .. })) && is_forbidden(&connection, &name) {
                answer = Err(Error::NotAuthorised(name));
            }
            drop(room);
            answer
        });
        asked.await.map_err(|error| Error::unavailable(group, error))?
    }
}

/// How long it is looked whether a group may be used.
const LOOK: Duration = Duration::from_secs(2);

/// Whether the brokers do not let the sidecar use a group. An admin call that may not find the group's coordinator has no answer
/// from librdkafka (2.12, `rd_kafka_coord_req_handle_FindCoordinator`), and a client that has the group's name is told.
/// Blocks for [`LOOK`] at most.
fn is_forbidden(connection: &Connection, group: &str) -> bool {
    let mut config = asking_config(connection);
    config.set("group.id", group);
    config.set("enable.auto.commit", "false");
    let Ok(source) = Source::new(connection, &config) else {
        return false;
    };
    let deadline = Instant::now() + LOOK;
    while Instant::now() < deadline {
        let said = source.client().poll(Duration::from_millis(100));
        let code = said
            .and_then(Result::err)
            .and_then(|error| error.rdkafka_error_code());
        if code == Some(Code::GroupAuthorizationFailed) {
            return true;
        }
    }
    false
}

/// One of the admin calls.
enum Asked<'a> {
    Write(&'a TopicPartitionList),
    Describe,
}

/// The event that answers, which what was asked for is in.
struct Answer<'a> {
    event: NonNull<sys::rd_kafka_event_t>,
    asked: Asked<'a>,
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        #[allow(
            unsafe_code,
            reason = "the library gave it to us, and nothing of it is used any more"
        )]
        unsafe {
            sys::rd_kafka_event_destroy(self.event.as_ptr());
        }
    }
}

impl<'a> Asked<'a> {
    /// Asks, and waits for the answer. Blocks for [`PATIENCE`] at most.
    fn ask(self, source: &Source, group: &str) -> Result<Answer<'a>, Error> {
        use sys::rd_kafka_admin_op_t as Op;
        let client = source.handle();
        let name = CString::new(group).map_err(|_| Error::unavailable(group, "its name has a NUL in it"))?;
        let queue = Answers::new(client).ok_or_else(|| Error::unavailable(group, "no memory for a queue"))?;
        let op = match self {
            Self::Write(_) => Op::RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS,
            Self::Describe => Op::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS,
        };
        let patience = i32::try_from(PATIENCE.as_millis()).unwrap_or(i32::MAX);
        #[allow(
            unsafe_code,
            reason = "client, name, list and queue are valid during the calls, which copy what they are given; options and \
                      request are given back once each"
        )]
        unsafe {
            let options = sys::rd_kafka_AdminOptions_new(client, op);
            let mut why = [0_i8; 8];
            // Its only failure is a time that is out of range.
            let _in_range = sys::rd_kafka_AdminOptions_set_request_timeout(
                options,
                patience,
                why.as_mut_ptr().cast(),
                why.len(),
            );
            match &self {
                Self::Write(list) => {
                    let mut request = sys::rd_kafka_AlterConsumerGroupOffsets_new(name.as_ptr(), list.ptr());
                    sys::rd_kafka_AlterConsumerGroupOffsets(
                        client,
                        &raw mut request,
                        1,
                        options,
                        queue.as_ptr(),
                    );
                    sys::rd_kafka_AlterConsumerGroupOffsets_destroy(request);
                }
                Self::Describe => {
                    let mut names = name.as_ptr();
                    sys::rd_kafka_DescribeConsumerGroups(client, &raw mut names, 1, options, queue.as_ptr());
                }
            }
            sys::rd_kafka_AdminOptions_destroy(options);
        }
        // The library's own time is up first.
        let event = queue.poll(PATIENCE + PATIENCE / 4);
        let event = event
            .ok_or_else(|| Error::unavailable(group, format!("no answer within {} s", PATIENCE.as_secs())))?;
        let answer = Answer { event, asked: self };
        #[allow(unsafe_code, reason = "the event is valid as long as the answer")]
        let (code, text) = unsafe {
            let text = sys::rd_kafka_event_error_string(event.as_ptr());
            let text = (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned());
            (Code::from(sys::rd_kafka_event_error(event.as_ptr())), text)
        };
        match code {
            Code::NoError => Ok(answer),
            code => Err(worded(code, text, group)),
        }
    }
}

impl Answer<'_> {
    /// The one group's partitions. Fails with the first that failed.
    fn positions(&self, group: &str) -> Result<Vec<(String, i32, i64)>, Error> {
        let nothing = || Error::unavailable(group, "the answer is about another group");
        #[allow(
            unsafe_code,
            reason = "results, group and lists are the event's, which is valid as long as self, and of the call that was made"
        )]
        let (code, found) = unsafe {
            let mut count = 0;
            let results = match self.asked {
                Asked::Write(_) => {
                    let result = sys::rd_kafka_event_AlterConsumerGroupOffsets_result(self.event.as_ptr());
                    sys::rd_kafka_AlterConsumerGroupOffsets_result_groups(result, &raw mut count)
                }
                Asked::Describe => return Err(nothing()),
            };
            if count != 1 || results.is_null() {
                return Err(nothing());
            }
            let result = *results;
            let error = sys::rd_kafka_group_result_error(result);
            let code = (!error.is_null()).then(|| Code::from(sys::rd_kafka_error_code(error)));
            (code, elements(sys::rd_kafka_group_result_partitions(result)))
        };
        let failed = found.iter().map(|element| element.code);
        match code.into_iter().chain(failed).find(|code| *code != Code::NoError) {
            Some(code) => Err(Error::of(code, group)),
            None => Ok(found
                .into_iter()
                .map(|element| (element.topic, element.partition, element.offset))
                .collect()),
        }
    }

    fn membership(&self, group: &str) -> Result<Membership, Error> {
        use sys::rd_kafka_consumer_group_state_t as State;
        #[allow(
            unsafe_code,
            reason = "results and group are the event's, which is valid as long as self, and of the call that was made"
        )]
        let (code, state, members) = unsafe {
            let mut count = 0;
            let result = sys::rd_kafka_event_DescribeConsumerGroups_result(self.event.as_ptr());
            let groups = sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
            if count != 1 || groups.is_null() {
                return Err(Error::unavailable(group, "the answer is about another group"));
            }
            let found = *groups;
            let error = sys::rd_kafka_ConsumerGroupDescription_error(found);
            let code = (!error.is_null()).then(|| Code::from(sys::rd_kafka_error_code(error)));
            (
                code,
                sys::rd_kafka_ConsumerGroupDescription_state(found),
                sys::rd_kafka_ConsumerGroupDescription_member_count(found),
            )
        };
        if let Some(code) = code.filter(|code| *code != Code::NoError) {
            return Err(Error::of(code, group));
        }
        Ok(Membership {
            state: match state {
                State::RD_KAFKA_CONSUMER_GROUP_STATE_PREPARING_REBALANCE => "PreparingRebalance",
                State::RD_KAFKA_CONSUMER_GROUP_STATE_COMPLETING_REBALANCE => "CompletingRebalance",
                State::RD_KAFKA_CONSUMER_GROUP_STATE_STABLE => "Stable",
                State::RD_KAFKA_CONSUMER_GROUP_STATE_DEAD => "Dead",
                State::RD_KAFKA_CONSUMER_GROUP_STATE_EMPTY => "Empty",
                _ => "Unknown",
            },
            members,
        })
    }
}

/// What is wrong, in Kafka's own words where it has some and they say more than the code.
fn worded(code: Code, text: Option<String>, group: &str) -> Error {
    match (Error::of(code, group), text) {
        (Error::Unavailable { group, .. }, Some(why)) => Error::Unavailable { group, why },
        (error, _) => error,
    }
}

/// The marks of `keys` that were found; those are missing of which nothing is committed.
pub(super) fn read(found: Vec<Element>, keys: &[Partition], group: &str) -> Result<Marks, Error> {
    let mut kept = Marks::new();
    for Element {
        topic,
        partition,
        offset,
        note,
        code,
    } in found
    {
        match code {
            Code::NoError => {}
            // Nothing is committed of what is not there.
            Code::UnknownTopicOrPartition => continue,
            code => return Err(Error::of(code, group)),
        }
        if let Some(key) = keys.iter().find(|(t, p)| **t == *topic && *p == partition)
            && offset >= 0
        {
            kept.insert(key.clone(), Mark { offset, note });
        }
    }
    Ok(kept)
}
