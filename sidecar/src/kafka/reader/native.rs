//! librdkafka's simple consumer behind a safe interface: all of the unsafe code for reading by offset.
//!
//! Facts about librdkafka are from its `rdkafka.h` (2.12).

use std::ffi::{CStr, CString};
use std::ptr::{self, NonNull};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode as Code;

use super::super::connection::{Connection, Context};
use super::super::consumer::headers;
use super::super::properties::Kind;
use super::Record;

/// How often a client is served that only asks questions.
const SERVED: Duration = Duration::from_secs(5);

/// A client that reads.
pub(in crate::kafka) struct Source {
    client: BaseConsumer<Context>,
}

impl Source {
    /// Makes one. Does not wait for the cluster.
    ///
    /// Fails with librdkafka's words, which may be about a property, and never have its value.
    pub(in crate::kafka) fn new(connection: &Connection, config: &ClientConfig) -> Result<Arc<Self>, String> {
        let context = connection
            .context(Kind::Producer)
            .map_err(|error| error.to_string())?;
        let client: Result<BaseConsumer<Context>, _> = config.create_with_context(context.clone());
        let client = client.map_err(|error| match error {
            rdkafka::error::KafkaError::ClientConfig(_, description, name, _value) => {
                format!("{name}: {description}")
            }
            other => other.to_string(),
        })?;
        connection
            .log_in(client.client(), &context)
            .map_err(|error| error.to_string())?;
        Ok(Arc::new(Self { client }))
    }

    /// rdkafka's own client, for what it can do.
    pub(in crate::kafka) fn client(&self) -> &BaseConsumer<Context> {
        &self.client
    }

    /// As [`Self::new`], for one that is there to ask questions with: until it is dropped it is served every few seconds, also
    /// while nobody asks anything. To be called in a runtime.
    pub(in crate::kafka) fn served(
        connection: &Connection,
        config: &ClientConfig,
    ) -> Result<Arc<Self>, String> {
        let source = Self::new(connection, config)?;
        let served = Arc::downgrade(&source);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SERVED).await;
                let Some(source) = served.upgrade() else { return };
                // It may be the last to let go of it, which takes a moment.
                let serve = tokio::task::spawn_blocking(move || source.serve());
                if serve.await.is_err() {
                    return;
                }
            }
        });
        Ok(source)
    }

    /// Has the library say what it has to say: tokens that must be renewed, and what went wrong. To be called at least
    /// every few seconds.
    pub(in crate::kafka) fn serve(&self) {
        // No records come this way, and errors went to the log.
        while self.client.poll(Duration::ZERO).is_some() {}
    }

    /// The library's client, which is valid as long as this.
    pub(in crate::kafka) fn handle(&self) -> *mut sys::rd_kafka_t {
        self.client.client().native_ptr()
    }
}

/// Where records come in.
pub(super) struct Queue {
    handle: NonNull<sys::rd_kafka_queue_t>,
    // The library requires that queues are gone before their client is destroyed.
    source: Arc<Source>,
}

#[allow(unsafe_code, reason = "librdkafka's queues may be used from any thread")]
unsafe impl Send for Queue {}
#[allow(
    unsafe_code,
    reason = "librdkafka's queues may be used by many threads at once"
)]
unsafe impl Sync for Queue {}

impl Drop for Queue {
    fn drop(&mut self) {
        #[allow(unsafe_code, reason = "gives back the reference that new took")]
        unsafe {
            sys::rd_kafka_queue_destroy(self.handle.as_ptr());
        }
    }
}

/// What came out of a queue.
#[derive(Debug)]
pub(in crate::kafka) enum Taken {
    /// A record.
    Record(Record),
    /// There is nothing more in the partition, up to this offset.
    End {
        topic: Arc<str>,
        partition: i32,
        next: i64,
    },
    /// Reading a partition failed. The library goes on, but for what [`super::Error::of`] has a name for.
    Failed {
        topic: Arc<str>,
        partition: i32,
        code: Code,
        text: String,
    },
}

impl Queue {
    /// A queue of `source`'s; none if the library has no memory.
    pub(super) fn new(source: &Arc<Source>) -> Option<Arc<Self>> {
        #[allow(
            unsafe_code,
            reason = "the client is valid; the reference is given back by drop"
        )]
        let handle = unsafe { sys::rd_kafka_queue_new(source.handle()) };
        Some(Arc::new(Self {
            handle: NonNull::new(handle)?,
            source: Arc::clone(source),
        }))
    }

    /// Waits up to `wait` for something, and takes what is there then: `most` at most. Blocks. `name` gives the one
    /// copy of a topic's name that there is.
    pub(super) fn take(&self, wait: Duration, most: usize, name: impl FnMut(&str) -> Arc<str>) -> Vec<Taken> {
        #[allow(unsafe_code, reason = "the queue is valid as long as self")]
        unsafe {
            take(self.handle, wait, most, name)
        }
    }
}

/// The next of a queue; waits up to `wait` for it.
///
/// # Safety
/// The queue is valid.
#[allow(unsafe_code, reason = "the caller says that the queue is valid")]
pub(in crate::kafka) unsafe fn take_one(
    queue: NonNull<sys::rd_kafka_queue_t>,
    wait: Duration,
    mut name: impl FnMut(&str) -> Arc<str>,
) -> Option<Taken> {
    let ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the queue is valid.
    let message = unsafe { sys::rd_kafka_consume_queue(queue.as_ptr(), ms) };
    NonNull::new(message).map(|message| read(&Message(message), &mut name))
}

/// What a queue has, several by one call. Not for partitions that are ever paused: in librdkafka 2.12 this call
/// (`rd_kafka_q_serve_rkmessages`) counts the end of a partition as a message at that offset, and a pause goes on after it.
///
/// # Safety
/// The queue is valid.
#[allow(unsafe_code, reason = "the caller says that the queue is valid")]
unsafe fn take(
    queue: NonNull<sys::rd_kafka_queue_t>,
    wait: Duration,
    most: usize,
    mut name: impl FnMut(&str) -> Arc<str>,
) -> Vec<Taken> {
    let mut taken = Vec::new();
    let mut messages = [ptr::null_mut::<sys::rd_kafka_message_t>(); AT_ONCE];
    // SAFETY: the queue is valid.
    taken.extend(unsafe { take_one(queue, wait, &mut name) });
    if taken.is_empty() {
        return taken;
    }
    while taken.len() < most {
        let room = (most - taken.len()).min(AT_ONCE);
        // SAFETY: the queue is valid, and there is room for as many pointers. Asked to wait it would wait for all of them.
        let count =
            unsafe { sys::rd_kafka_consume_batch_queue(queue.as_ptr(), 0, messages.as_mut_ptr(), room) };
        let Some(count) = usize::try_from(count).ok().filter(|count| *count > 0) else {
            break;
        };
        let found = messages
            .iter()
            .take(count)
            .filter_map(|message| NonNull::new(*message));
        taken.extend(found.map(|message| read(&Message(message), &mut name)));
    }
    taken
}

/// Messages taken by one call.
const AT_ONCE: usize = 256;

/// A message of the library's, which is given back when it is dropped.
struct Message(NonNull<sys::rd_kafka_message_t>);

impl Drop for Message {
    fn drop(&mut self) {
        #[allow(
            unsafe_code,
            reason = "the library gave it to us, and nothing of it is used any more"
        )]
        unsafe {
            sys::rd_kafka_message_destroy(self.0.as_ptr());
        }
    }
}

#[allow(
    unsafe_code,
    reason = "the message is valid while it is borrowed, and so is all that it points to; what is kept is copied"
)]
fn read(message: &Message, name: &mut impl FnMut(&str) -> Arc<str>) -> Taken {
    let pointer = message.0.as_ptr();
    // SAFETY: as above.
    let raw = unsafe { message.0.as_ref() };
    let topic = if raw.rkt.is_null() {
        name("")
    } else {
        // SAFETY: a message's topic has a name, which is a string.
        let text = unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(raw.rkt)) };
        name(&text.to_string_lossy())
    };
    let partition = raw.partition;
    match Code::from(raw.err) {
        Code::NoError => {}
        Code::PartitionEOF => {
            return Taken::End {
                topic,
                partition,
                next: raw.offset,
            };
        }
        code => {
            // SAFETY: an error's message has a text, or null.
            let text = unsafe { sys::rd_kafka_message_errstr(pointer) };
            let text = if text.is_null() {
                code.to_string()
            } else {
                // SAFETY: it is a string.
                unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
            };
            return Taken::Failed {
                topic,
                partition,
                code,
                text,
            };
        }
    }
    let bytes = |at: *const u8, length: usize| {
        (!at.is_null()).then(|| {
            // SAFETY: the library gives so many bytes.
            Bytes::copy_from_slice(unsafe { std::slice::from_raw_parts(at, length) })
        })
    };
    // SAFETY: the message is valid; the kind of time may be null if it does not matter.
    let timestamp = unsafe { sys::rd_kafka_message_timestamp(pointer, ptr::null_mut()) };
    // SAFETY: the message is valid.
    let headers = unsafe { headers::of(pointer) };
    Taken::Record(Record {
        topic,
        partition,
        offset: raw.offset,
        timestamp: (timestamp >= 0).then_some(timestamp),
        key: bytes(raw.key.cast_const().cast(), raw.key_len),
        headers,
        value: bytes(raw.payload.cast_const().cast(), raw.len),
        shown: OnceLock::new(),
        shown_unframed: OnceLock::new(),
    })
}

/// A partition that is being read into a queue, until this is dropped. Dropping it blocks for a moment.
pub(super) struct Started {
    topic: NonNull<sys::rd_kafka_topic_t>,
    partition: i32,
    /// Outlives the reading, and keeps the client.
    queue: Arc<Queue>,
}

#[allow(
    unsafe_code,
    reason = "librdkafka's topic handles may be used from any thread"
)]
unsafe impl Send for Started {}
#[allow(
    unsafe_code,
    reason = "librdkafka's topic handles may be used by many threads at once"
)]
unsafe impl Sync for Started {}

impl Started {
    /// Starts at `offset`. Does not wait for it. A client reads a partition once at a time.
    ///
    /// Fails when the library has no memory, or does not take topic or partition.
    pub(super) fn new(queue: &Arc<Queue>, topic: &str, partition: i32, offset: i64) -> Result<Self, Code> {
        let name = CString::new(topic).map_err(|_| Code::InvalidTopic)?;
        #[allow(
            unsafe_code,
            reason = "client and name are valid; a null configuration means the client's"
        )]
        let handle =
            unsafe { sys::rd_kafka_topic_new(queue.source.handle(), name.as_ptr(), ptr::null_mut()) };
        let topic = NonNull::new(handle).ok_or(Code::InvalidTopic)?;
        #[allow(unsafe_code, reason = "topic and queue are valid, and of one client")]
        let failed = unsafe {
            sys::rd_kafka_consume_start_queue(topic.as_ptr(), partition, offset, queue.handle.as_ptr()) != 0
        };
        if failed {
            #[allow(
                unsafe_code,
                reason = "asks this thread for why; gives back the reference that was taken above"
            )]
            let code = unsafe {
                let code = sys::rd_kafka_last_error();
                sys::rd_kafka_topic_destroy(topic.as_ptr());
                code
            };
            return Err(code.into());
        }
        Ok(Self {
            topic,
            partition,
            queue: Arc::clone(queue),
        })
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        #[allow(
            unsafe_code,
            reason = "what new started is stopped once; the one reference that it took is given back"
        )]
        unsafe {
            let _only_fails_for_what_was_not_started =
                sys::rd_kafka_consume_stop(self.topic.as_ptr(), self.partition);
            sys::rd_kafka_topic_destroy(self.topic.as_ptr());
        }
        debug_assert!(Arc::strong_count(&self.queue) > 0);
    }
}
