//! The client library's handle behind a safe interface: all of the sidecar's unsafe code for producing.
//!
//! Facts about librdkafka are from its `rdkafka.h` (2.12).

mod context;
mod event;
mod headers;
mod rights;
mod token;

use std::ffi::{CString, c_void};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::bindings as sys;
use rdkafka::client::Client;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::types::RDKafkaType;
use tokio::sync::Notify;

use self::context::Context;
use self::event::Event;
pub(super) use self::event::{Delivery, Polled};
use self::headers::headers;
pub(super) use self::token::show;
use super::queue::Queue;
use super::record::Record;
use super::relay::{self, Relay};
use crate::config::{BearerToken, DelegationToken, Secret};

/// What the cluster says about a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TopicInfo {
    /// It exists with this many partitions.
    Partitions(i32),
    /// The broker answered with this error for it.
    Error(Code),
}

/// Why the token is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    /// The library needs one.
    Due,
    /// Nothing answers: there may be another by now.
    IfChanged,
    /// The broker did not take it: there may be another by now.
    Refused,
}

/// A producer of the client library.
pub(super) struct Native {
    /// Its main event queue.
    queue: Queue<Notify>,
    client: Client<Context>,
    token: Option<BearerToken>,
    /// The token that the brokers are shown.
    shown: Mutex<Option<Secret>>,
    /// Dropped after the client.
    relay: Option<Relay>,
}

#[allow(
    unsafe_code,
    reason = "librdkafka's client and queue handles may be used from any thread"
)]
unsafe impl Send for Native {}
#[allow(
    unsafe_code,
    reason = "librdkafka's client and queue handles may be used by many threads at once"
)]
unsafe impl Sync for Native {}

/// A topic of a producer, found once instead of by name for each record.
pub(super) struct Topic {
    handle: NonNull<sys::rd_kafka_topic_t>,
    // The library requires that topic handles are gone before their client is destroyed.
    native: Arc<Native>,
}

#[allow(
    unsafe_code,
    reason = "librdkafka's topic handles may be used from any thread"
)]
unsafe impl Send for Topic {}
#[allow(
    unsafe_code,
    reason = "librdkafka's topic handles may be used by many threads at once"
)]
unsafe impl Sync for Topic {}

impl Drop for Topic {
    fn drop(&mut self) {
        #[allow(unsafe_code, reason = "gives back the one reference that Native::topic took")]
        unsafe {
            sys::rd_kafka_topic_destroy(self.handle.as_ptr());
        }
    }
}

impl Native {
    /// A producer that tells `wake` when there are events to [`Self::poll`], and shows the brokers what it is given.
    /// Blocks for the file of a token.
    ///
    /// Fails with the library's words when a property is not known or has a bad value; a token that cannot be had is
    /// an event.
    pub(super) fn new(
        config: &ClientConfig,
        (token, delegation): (Option<&BearerToken>, Option<&DelegationToken>),
        wake: &Arc<Notify>,
    ) -> Result<Self, String> {
        let relay = delegation
            .map(|delegation| Relay::new(config, delegation, Some(Arc::clone(wake))))
            .transpose()?;
        let config = match &relay {
            Some(_) => &relay::client_config(config),
            None => config,
        };
        // The library's threads have the scheduling policy of the one that makes the client.
        let client = std::thread::scope(|scope| {
            let make = scope.spawn(|| {
                be_a_batch_thread();
                producer(config)
            });
            make.join()
        });
        let client = client.map_err(|_| "librdkafka could not make the client".to_owned())??;
        #[allow(
            unsafe_code,
            reason = "the client is valid; the reference is given to who gives it back"
        )]
        let queue = unsafe {
            Queue::new(
                sys::rd_kafka_queue_get_main(client.native_ptr()),
                Arc::clone(wake),
            )
        };
        let queue = queue.ok_or("the client has no event queue")?;
        let native = Self {
            queue,
            client,
            token: token.cloned(),
            shown: Mutex::default(),
            relay,
        };
        if let Some(relay) = &native.relay {
            relay.attach(native.client.native_ptr())?;
        }
        // The library asks for one at once; whoever makes a producer does not wait for a slow one.
        if !native.has_slow_token() {
            native.renew_token(Renewal::Due);
        }
        Ok(native)
    }

    /// Whether the brokers are shown a token.
    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether [`Self::renew_token`] may take seconds.
    pub(super) fn has_slow_token(&self) -> bool {
        self.token.as_ref().is_some_and(BearerToken::is_slow)
    }

    /// Has the brokers shown the token that there is now. Blocks for a file, and while an issuer or AWS is asked.
    pub(super) fn renew_token(&self, renewal: Renewal) {
        let Some(token) = &self.token else { return };
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let found = token.get(std::time::SystemTime::now(), renewal == Renewal::Refused);
        if renewal != Renewal::Due
            && found
                .as_ref()
                .map_or(true, |found| shown.as_ref() == Some(&found.token))
        {
            return;
        }
        *shown = found.as_ref().ok().map(|found| found.token.clone());
        show(self.client.native_ptr(), found, &token.extensions);
    }

    /// The topic's handle; fails when the name holds a NUL byte or the library has no memory.
    pub(super) fn topic(self: &Arc<Self>, name: &str) -> Option<Topic> {
        let name = CString::new(name).ok()?;
        #[allow(
            unsafe_code,
            reason = "client and name are valid; a null configuration means the default"
        )]
        let handle =
            unsafe { sys::rd_kafka_topic_new(self.client.native_ptr(), name.as_ptr(), ptr::null_mut()) };
        Some(Topic {
            handle: NonNull::new(handle)?,
            native: Arc::clone(self),
        })
    }

    /// Hands a record to the library, which copies it. Never blocks. Exactly one delivery report with
    /// `opaque` follows when this succeeds, none when it fails (the record is then certainly not stored).
    pub(super) fn produce(&self, topic: &Topic, record: &Record, opaque: usize) -> Result<(), Code> {
        fn parts(bytes: Option<&[u8]>) -> (*const u8, usize) {
            // A null pointer is a null value; an empty slice has a pointer and so is an empty value.
            bytes.map_or((ptr::null(), 0), |b| (b.as_ptr(), b.len()))
        }
        debug_assert!(ptr::eq(self, Arc::as_ptr(&topic.native)));
        let (value, value_len) = parts(record.value.as_deref());
        let (key, key_len) = parts(record.key.as_deref());
        let headers = headers(record)?;
        let headers_ptr = headers.as_ref().map_or(ptr::null_mut(), |h| h.0.as_ptr());
        use sys::rd_kafka_vtype_t as V;
        #[allow(
            unsafe_code,
            reason = "each tag is followed by the types that rdkafka.h gives for it, and the list by END; \
                      F_COPY: the pointers are only read during the call"
        )]
        let code = unsafe {
            sys::rd_kafka_producev(
                self.client.native_ptr(),
                V::RD_KAFKA_VTYPE_RKT,
                topic.handle.as_ptr(),
                V::RD_KAFKA_VTYPE_PARTITION,
                record.partition.unwrap_or(-1),
                V::RD_KAFKA_VTYPE_MSGFLAGS,
                sys::RD_KAFKA_MSG_F_COPY,
                V::RD_KAFKA_VTYPE_VALUE,
                value.cast::<c_void>(),
                value_len,
                V::RD_KAFKA_VTYPE_KEY,
                key.cast::<c_void>(),
                key_len,
                V::RD_KAFKA_VTYPE_OPAQUE,
                ptr::without_provenance_mut::<c_void>(opaque),
                V::RD_KAFKA_VTYPE_TIMESTAMP,
                record.timestamp_ms.unwrap_or(0),
                V::RD_KAFKA_VTYPE_HEADERS,
                headers_ptr,
                V::RD_KAFKA_VTYPE_END,
            )
        };
        match Code::from(code) {
            Code::NoError => {
                // The library owns the headers from here on.
                std::mem::forget(headers);
                Ok(())
            }
            code => Err(code),
        }
    }

    /// Takes one event; `None` when there is none.
    pub(super) fn poll(&self, deliveries: &mut Vec<Delivery>) -> Option<Polled> {
        let relay = self.relay.as_ref();
        if let Some(trouble) = relay.and_then(Relay::trouble) {
            return Some(Polled::Trouble(trouble));
        }
        #[allow(unsafe_code, reason = "the queue is valid as long as self")]
        let event = unsafe { sys::rd_kafka_queue_poll(self.queue.handle().as_ptr(), 0) };
        NonNull::new(event).map(|event| Event(event).read(self.client.context(), relay, deliveries))
    }

    /// Gives up everything handed over and not acknowledged; the delivery reports say what was.
    pub(super) fn purge(&self) {
        let what = sys::RD_KAFKA_PURGE_F_QUEUE | sys::RD_KAFKA_PURGE_F_INFLIGHT;
        #[allow(unsafe_code, reason = "the client is valid as long as self")]
        let _only_fails_for_bad_flags = unsafe { sys::rd_kafka_purge(self.client.native_ptr(), what) };
    }

    /// Gives back everything handed over and not sent yet, by delivery reports that have the record
    /// ([`Delivery::again`]); what is on its way to a broker is waited for.
    pub(super) fn purge_unsent(&self) {
        #[allow(unsafe_code, reason = "the client is valid as long as self")]
        let _only_fails_for_bad_flags =
            unsafe { sys::rd_kafka_purge(self.client.native_ptr(), sys::RD_KAFKA_PURGE_F_QUEUE) };
    }

    /// What the cluster says about `topic`. Blocks for `timeout` at most. The topic is not created by
    /// asking, unless the client is configured to.
    pub(super) fn topic_info(&self, topic: &str, timeout: Duration) -> Result<TopicInfo, Code> {
        let metadata = self
            .client
            .fetch_metadata(Some(topic), timeout)
            .map_err(|error| code_of(&error))?;
        let found = metadata.topics().iter().find(|t| t.name() == topic);
        let Some(found) = found else {
            return Ok(TopicInfo::Error(Code::UnknownTopicOrPartition));
        };
        Ok(match found.error().map(Code::from) {
            Some(code) if code != Code::NoError => TopicInfo::Error(code),
            _ => TopicInfo::Partitions(i32::try_from(found.partitions().len()).unwrap_or(i32::MAX)),
        })
    }

    /// Whether any broker answers. Blocks for `timeout` at most.
    ///
    /// Lists all topics, since a request for none is not to be had: only for want of a topic to ask about.
    pub(super) fn any_answer(&self, timeout: Duration) -> Result<(), Code> {
        let mut metadata: *const sys::rd_kafka_metadata = ptr::null();
        #[allow(unsafe_code, reason = "the client is valid, the out pointer is ours")]
        let code = unsafe {
            let ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
            sys::rd_kafka_metadata(
                self.client.native_ptr(),
                1,
                ptr::null_mut(),
                &raw mut metadata,
                ms,
            )
        };
        if !metadata.is_null() {
            #[allow(
                unsafe_code,
                reason = "the library gave it to us and it is not used after this"
            )]
            unsafe {
                sys::rd_kafka_metadata_destroy(metadata);
            }
        }
        match Code::from(code) {
            Code::NoError => Ok(()),
            code => Err(code),
        }
    }

    /// What the running producer has `property` set to, as the library prints it.
    #[cfg(test)]
    pub(super) fn property(&self, property: &str) -> Option<String> {
        let name = CString::new(property).ok()?;
        let mut value = [0_u8; 512];
        let mut size = value.len();
        #[allow(
            unsafe_code,
            reason = "the client is valid as long as self, and so is its configuration; size is that of value"
        )]
        let found = unsafe {
            let conf = sys::rd_kafka_conf(self.client.native_ptr());
            sys::rd_kafka_conf_get(conf, name.as_ptr(), value.as_mut_ptr().cast(), &raw mut size)
        };
        let known = found == sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK;
        let text = std::ffi::CStr::from_bytes_until_nul(&value).ok()?;
        known.then(|| text.to_string_lossy().into_owned())
    }

    /// Puts the producer into the state it is in after a fatal error.
    #[cfg(test)]
    pub(super) fn fail_fatally(&self) {
        #[allow(
            unsafe_code,
            reason = "the client is valid as long as self, the text is static"
        )]
        unsafe {
            sys::rd_kafka_test_fatal_error(
                self.client.native_ptr(),
                sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
                c"by a test".as_ptr(),
            );
        }
    }
}

/// A producer whose delivery reports are events.
fn producer(config: &ClientConfig) -> Result<Client<Context>, String> {
    let conf = config
        .create_native_config()
        .map_err(|error| without_value(&error))?;
    #[allow(unsafe_code, reason = "conf is a valid configuration that is not in use yet")]
    unsafe {
        let events = sys::RD_KAFKA_EVENT_DR
            | sys::RD_KAFKA_EVENT_ERROR
            | sys::RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH;
        sys::rd_kafka_conf_set_events(conf.ptr(), events);
        // Fails only where the library has no TLS.
        sys::rd_kafka_conf_set_ssl_cert_verify_cb(conf.ptr(), Some(context::verify));
    }
    Client::new(config, conf, RDKafkaType::RD_KAFKA_PRODUCER, Context::default())
        .map_err(|error| without_value(&error))
}

/// Has the calling thread wait for the end of whatever runs when it is woken, instead of interrupting it.
///
/// A broker thread is woken by the first of the records that are handed over, and what it interrupts, on a machine
/// without a core to spare, is the handing over of the others: it would send a request for one record, and one
/// for the rest.
fn be_a_batch_thread() {
    let parameters = libc::sched_param { sched_priority: 0 };
    #[allow(
        unsafe_code,
        reason = "the pointer is that of a live variable; 0 is the calling thread"
    )]
    let changed = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
    if changed != 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, "no SCHED_BATCH for librdkafka's threads");
    }
}

fn code_of(error: &KafkaError) -> Code {
    error.rdkafka_error_code().unwrap_or(Code::Fail)
}

/// The error's text without the value of the property that it is about: it may be a secret.
fn without_value(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, description, name, _value) => {
            let known = if description.contains("No such configuration property") {
                "librdkafka has no such property"
            } else {
                "librdkafka does not take its value"
            };
            format!("{name}: {known}")
        }
        other => other.to_string(),
    }
}
