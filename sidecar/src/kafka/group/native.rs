//! The library's calls that rdkafka has no form of: one queue for the records of all of a member's partitions, and commits
//! that are waited for, but not for ever.
//!
//! Facts about librdkafka are from its `rdkafka.h` (2.12).

use std::ffi::{CStr, CString};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::bindings as sys;
use rdkafka::error::RDKafkaErrorCode as Code;

use super::{Bell, Error};
use crate::kafka::queue::{Queue, Told};
use crate::kafka::reader::native::{Taken, take_one};

/// Where the records of a member's partitions come in, apart from everything else that happens to it: so they can be left
/// there for as long as nobody takes them. Dropped before the client.
pub(super) struct Records(Queue<Bell>);

impl Told for Bell {
    fn told(&self) {
        self.ring();
    }
}

impl Records {
    /// A queue of the client's; none if the library has no memory. `bell` rings when something comes into it.
    pub(super) fn new(client: *mut sys::rd_kafka_t, bell: Arc<Bell>) -> Option<Self> {
        #[allow(
            unsafe_code,
            reason = "the client is valid; the reference is given to who gives it back"
        )]
        unsafe {
            Queue::new(sys::rd_kafka_queue_new(client), bell).map(Self)
        }
    }

    /// Has the records of a partition come here. To be called each time before the partition is assigned.
    pub(super) fn divert(&self, client: *mut sys::rd_kafka_t, topic: &str, partition: i32) {
        let Ok(name) = CString::new(topic) else { return };
        #[allow(
            unsafe_code,
            reason = "client, name and queues are valid; the one reference that get_partition took is given back"
        )]
        unsafe {
            let queue = sys::rd_kafka_queue_get_partition(client, name.as_ptr(), partition);
            if !queue.is_null() {
                sys::rd_kafka_queue_forward(queue, self.0.handle().as_ptr());
                sys::rd_kafka_queue_destroy(queue);
            }
        }
    }

    /// What is there now, `most` at most. One by one: librdkafka's call for several ([`crate::kafka::reader::native`]) loses the
    /// record at the end of a partition that is paused there, which the library itself does at every rebalance.
    pub(super) fn take(&self, most: usize, mut name: impl FnMut(&str) -> Arc<str>) -> Vec<Taken> {
        #[allow(unsafe_code, reason = "the queue is valid as long as self")]
        let next = || unsafe { take_one(self.0.handle(), Duration::ZERO, &mut name) };
        std::iter::from_fn(next).take(most).collect()
    }
}

/// A queue that one call is answered by.
pub(super) struct Answers(NonNull<sys::rd_kafka_queue_t>);

impl Answers {
    /// A queue of the client's; none if the library has no memory.
    pub(super) fn new(client: *mut sys::rd_kafka_t) -> Option<Self> {
        #[allow(
            unsafe_code,
            reason = "the client is valid; the reference is given back by drop"
        )]
        let queue = unsafe { sys::rd_kafka_queue_new(client) };
        NonNull::new(queue).map(Self)
    }

    pub(super) fn as_ptr(&self) -> *mut sys::rd_kafka_queue_t {
        self.0.as_ptr()
    }

    /// The answer, which is the caller's to destroy. Blocks for `patience` at most.
    pub(super) fn poll(&self, patience: Duration) -> Option<NonNull<sys::rd_kafka_event_t>> {
        let ms = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
        #[allow(unsafe_code, reason = "the queue is valid as long as self")]
        let event = unsafe { sys::rd_kafka_queue_poll(self.0.as_ptr(), ms) };
        NonNull::new(event)
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        #[allow(unsafe_code, reason = "gives back the one reference that new took")]
        unsafe {
            sys::rd_kafka_queue_destroy(self.0.as_ptr());
        }
    }
}

/// An element of a list of the library's.
pub(super) struct Element {
    pub(super) topic: String,
    pub(super) partition: i32,
    /// Negative: there is none.
    pub(super) offset: i64,
    /// What is kept beside the offset, by whoever committed it: empty if there is nothing.
    pub(super) note: String,
    pub(super) code: Code,
}

/// What a list of the library's holds.
///
/// # Safety
/// The list is valid, or null.
#[allow(
    unsafe_code,
    reason = "the caller says that the list is valid; its count says how many elements it has, their topics are strings, and their \
              metadata are so many bytes"
)]
pub(super) unsafe fn elements(list: *const sys::rd_kafka_topic_partition_list_t) -> Vec<Element> {
    // SAFETY: as above.
    let Some(list) = (unsafe { list.as_ref() }) else {
        return Vec::new();
    };
    let count = usize::try_from(list.cnt).unwrap_or_default();
    if list.elems.is_null() {
        return Vec::new();
    }
    // SAFETY: as above.
    let elements = unsafe { std::slice::from_raw_parts(list.elems, count) };
    let read = |element: &sys::rd_kafka_topic_partition_t| Element {
        // SAFETY: as above.
        topic: unsafe { CStr::from_ptr(element.topic) }
            .to_string_lossy()
            .into_owned(),
        partition: element.partition,
        offset: element.offset,
        note: if element.metadata.is_null() {
            String::new()
        } else {
            // SAFETY: as above.
            let bytes = unsafe {
                std::slice::from_raw_parts(element.metadata.cast::<u8>().cast_const(), element.metadata_size)
            };
            String::from_utf8_lossy(bytes).into_owned()
        },
        code: Code::from(element.err),
    };
    elements.iter().map(read).collect()
}

/// Commits, and waits for it. Blocks for `patience` at most; rdkafka's own waits for as long as the coordinator is away.
/// While the group settles who has what, no position is taken: then it is tried again. Gives the first code that is none of
/// success.
///
/// # Errors
/// There is no answer.
pub(super) fn commit(
    client: *mut sys::rd_kafka_t,
    positions: &TopicPartitionList,
    group: &str,
    patience: Duration,
) -> Result<Code, Error> {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match commit_once(client, positions, group, left)? {
            Code::RebalanceInProgress if left > SETTLING => std::thread::sleep(SETTLING),
            code => return Ok(code),
        }
    }
}

/// How long a group is left alone that takes no positions.
const SETTLING: Duration = Duration::from_millis(100);

fn commit_once(
    client: *mut sys::rd_kafka_t,
    positions: &TopicPartitionList,
    group: &str,
    patience: Duration,
) -> Result<Code, Error> {
    let queue = Answers::new(client).ok_or_else(|| Error::unavailable(group, "no memory for a queue"))?;
    #[allow(
        unsafe_code,
        reason = "all are valid during the call, and the library copies the list; without a callback the answer is an event"
    )]
    let begun =
        unsafe { sys::rd_kafka_commit_queue(client, positions.ptr(), queue.as_ptr(), None, ptr::null_mut()) };
    match Code::from(begun) {
        Code::NoError => {}
        code => return Ok(code),
    }
    let Some(event) = queue.poll(patience) else {
        let why = "a commit had no answer in time, and may be done";
        return Err(Error::unavailable(group, why));
    };
    #[allow(
        unsafe_code,
        reason = "the event and its list are valid until it is destroyed, which it is once"
    )]
    let (code, found) = unsafe {
        let code = Code::from(sys::rd_kafka_event_error(event.as_ptr()));
        let found = elements(sys::rd_kafka_event_topic_partition_list(event.as_ptr()));
        sys::rd_kafka_event_destroy(event.as_ptr());
        (code, found)
    };
    let codes = found.iter().map(|element| element.code);
    let mut all = std::iter::once(code).chain(codes);
    Ok(all
        .find(|code| !matches!(code, Code::NoError | Code::NoOffset))
        .unwrap_or(Code::NoError))
}
