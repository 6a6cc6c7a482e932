//! The library's events.

use std::ffi::{CStr, c_void};
use std::ptr::{self, NonNull};

use bytes::Bytes;
use rdkafka::bindings as sys;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::RDKafkaErrorCode as Code;
use sluice_proto::v1::Header;

use super::context::Context;
use crate::kafka::error::Persistence;
use crate::kafka::record::Record;
use crate::kafka::relay::Relay;
use crate::kafka::trouble::Trouble;

/// One delivery report.
#[derive(Debug, Clone)]
pub(in crate::kafka) struct Delivery {
    /// What was given to [`Native::produce`].
    pub(in crate::kafka) opaque: usize,
    /// `NoError`, or why it failed.
    pub(in crate::kafka) code: Code,
    /// What is known about the log.
    pub(in crate::kafka) status: Persistence,
    /// The partition.
    pub(in crate::kafka) partition: i32,
    /// The offset; negative where the broker did not say.
    pub(in crate::kafka) offset: i64,
    /// The record, without topic and timestamp, where it was refused for a larger one in the same batch, or given back
    /// unsent.
    pub(in crate::kafka) again: Option<Box<Record>>,
}

/// What [`Native::poll`] saw.
#[derive(Debug)]
pub(in crate::kafka) enum Polled {
    /// Nothing until the timeout, or something of no interest here.
    Nothing,
    /// Delivery reports, put at the end of the vector.
    Deliveries,
    /// Something is wrong with the way to a broker.
    Trouble(Trouble),
    /// No broker is connected.
    AllDown(String),
    /// A bearer token is needed: [`Native::renew_token`].
    TokenDue,
    /// The producer cannot go on: it must be replaced.
    Fatal(String),
}

/// An event that is ours to destroy.
pub(super) struct Event(pub(super) NonNull<sys::rd_kafka_event_t>);

impl Drop for Event {
    fn drop(&mut self) {
        #[allow(unsafe_code, reason = "taken from the queue once")]
        unsafe {
            sys::rd_kafka_event_destroy(self.0.as_ptr());
        }
    }
}

impl Event {
    /// What it is about; delivery reports go into the vector.
    pub(super) fn read(
        &self,
        context: &Context,
        relay: Option<&Relay>,
        deliveries: &mut Vec<Delivery>,
    ) -> Polled {
        let untold = |trouble: &Trouble| relay.is_none_or(|relay| !relay.speaks_for(&trouble.broker));
        #[allow(unsafe_code, reason = "the event is valid as long as self")]
        let kind = unsafe { sys::rd_kafka_event_type(self.0.as_ptr()) };
        match kind {
            sys::RD_KAFKA_EVENT_DR => {
                self.deliveries(deliveries);
                Polled::Deliveries
            }
            sys::RD_KAFKA_EVENT_ERROR => self.error(context, untold),
            sys::RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH => Polled::TokenDue,
            sys::RD_KAFKA_EVENT_LOG => self.log(untold),
            _ => Polled::Nothing,
        }
    }

    fn deliveries(&self, into: &mut Vec<Delivery>) {
        let mut refused = Vec::new();
        loop {
            #[allow(
                unsafe_code,
                reason = "the event is valid; a message lives as long as its event"
            )]
            let message = unsafe { sys::rd_kafka_event_message_next(self.0.as_ptr()) };
            if message.is_null() {
                break;
            }
            #[allow(
                unsafe_code,
                reason = "checked for null above; read only while the event lives"
            )]
            let delivery = unsafe {
                use sys::rd_kafka_msg_status_t as S;
                let status = match sys::rd_kafka_message_status(message) {
                    S::RD_KAFKA_MSG_STATUS_NOT_PERSISTED => Persistence::Not,
                    S::RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED => Persistence::Possibly,
                    S::RD_KAFKA_MSG_STATUS_PERSISTED => Persistence::Persisted,
                };
                let message = &*message;
                Delivery {
                    opaque: message._private.addr(),
                    code: Code::from(message.err),
                    status,
                    partition: message.partition,
                    offset: message.offset,
                    again: None,
                }
            };
            let too_large = matches!(
                delivery.code,
                Code::MessageSizeTooLarge | Code::MessageBatchTooLarge
            );
            if too_large && delivery.status == Persistence::Not {
                #[allow(unsafe_code, reason = "checked for null above; the event lives")]
                let size = unsafe { (*message).len + (*message).key_len };
                refused.push((size, into.len(), message));
            }
            let unsent = delivery.code == Code::PurgeQueue && delivery.status == Persistence::Not;
            let partition = delivery.partition;
            into.push(delivery);
            if unsent && let Some(delivery) = into.last_mut() {
                #[allow(unsafe_code, reason = "checked for null above; the event lives")]
                let record = unsafe { copy(message, partition) };
                delivery.again = record.map(Box::new);
            }
        }
        // An event is about one batch. The broker refuses it as a whole, and does not say for which record.
        let largest = refused.iter().map(|(size, at, _)| (*size, *at)).max();
        let spared = refused
            .iter()
            .filter(|(size, at, _)| largest != Some((*size, *at)));
        for (_, at, message) in spared {
            if let Some(delivery) = into.get_mut(*at) {
                #[allow(unsafe_code, reason = "messages live as long as their event")]
                let record = unsafe { copy(*message, delivery.partition) };
                delivery.again = record.map(Box::new);
            }
        }
    }

    fn error(&self, context: &Context, untold: impl Fn(&Trouble) -> bool) -> Polled {
        #[allow(unsafe_code, reason = "the event is valid as long as self")]
        let (code, fatal, text) = unsafe {
            (
                Code::from(sys::rd_kafka_event_error(self.0.as_ptr())),
                sys::rd_kafka_event_error_is_fatal(self.0.as_ptr()) != 0,
                lossy(sys::rd_kafka_event_error_string(self.0.as_ptr())),
            )
        };
        if fatal || code == Code::Fatal {
            return Polled::Fatal(text);
        }
        if code == Code::AllBrokersDown {
            return Polled::AllDown(text);
        }
        let trouble = Trouble::new(code, &text, context.verdict().as_ref());
        if !untold(&trouble) {
            return Polled::Nothing;
        }
        tracing::warn!(target: "librdkafka", reason = trouble.kind.label(), "{trouble}");
        Polled::Trouble(trouble)
    }

    /// Takes a log line to the log. A broker that hangs up at once, since it wants SASL, say, is told by the log only.
    fn log(&self, untold: impl Fn(&Trouble) -> bool) -> Polled {
        let mut facility = ptr::null();
        let mut text = ptr::null();
        let mut level = 0;
        #[allow(
            unsafe_code,
            reason = "the event is valid; the strings live as long as it does"
        )]
        let (found, facility, text) = unsafe {
            let found =
                sys::rd_kafka_event_log(self.0.as_ptr(), &raw mut facility, &raw mut text, &raw mut level);
            (found, lossy(facility), lossy(text))
        };
        if found != 0 {
            return Polled::Nothing;
        }
        let severity = level_of(level);
        log(severity, &facility, &text);
        // Worse ones are events as well. With one request under way such a line is no warning (`rd_kafka_broker_conn_closed`).
        if facility != "FAIL"
            || !matches!(
                severity,
                RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info
            )
        {
            return Polled::Nothing;
        }
        let thread = text.starts_with("[thrd:");
        let text = text
            .split_once("]: ")
            .filter(|_| thread)
            .map_or(text.as_str(), |(_, text)| text);
        let trouble = Trouble::new(Code::BrokerTransportFailure, text, None);
        if !untold(&trouble) {
            return Polled::Nothing;
        }
        Polled::Trouble(trouble)
    }
}

/// The record of a message; `None` if its headers cannot be read.
#[allow(
    unsafe_code,
    reason = "reads what the caller vouches for, and headers as long as there are any"
)]
/// # Safety
/// `message` is one of an event that lives.
unsafe fn copy(message: *const sys::rd_kafka_message_t, partition: i32) -> Option<Record> {
    let bytes = |from: *const c_void, len: usize| {
        (!from.is_null()).then(|| unsafe { std::slice::from_raw_parts(from.cast::<u8>(), len) })
    };
    let mut headers = Vec::new();
    let mut list = ptr::null_mut();
    unsafe {
        if Code::from(sys::rd_kafka_message_headers(message, &raw mut list)) == Code::NoError {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            let mut next = |at: usize| {
                let code =
                    sys::rd_kafka_header_get_all(list, at, &raw mut name, &raw mut value, &raw mut size);
                if Code::from(code) != Code::NoError {
                    return None;
                }
                Some(Header {
                    name: CStr::from_ptr(name).to_str().ok()?.to_owned(),
                    value: bytes(value, size).map(<[u8]>::to_vec),
                })
            };
            while let Some(header) = next(headers.len()) {
                headers.push(header);
            }
            if headers.len() != sys::rd_kafka_header_cnt(list) {
                return None;
            }
        }
        let message = &*message;
        let owned = |from: *mut c_void, len| bytes(from, len).map(Bytes::copy_from_slice);
        Some(Record {
            partition: Some(partition).filter(|partition| *partition >= 0),
            key: owned(message.key, message.key_len),
            value: owned(message.payload, message.len),
            headers,
            ..Record::default()
        })
    }
}

/// The syslog level that librdkafka gives a log line.
fn level_of(level: i32) -> RDKafkaLogLevel {
    match level {
        0..=3 => RDKafkaLogLevel::Error,
        4 => RDKafkaLogLevel::Warning,
        5 | 6 => RDKafkaLogLevel::Info,
        _ => RDKafkaLogLevel::Debug,
    }
}

#[allow(
    unsafe_code,
    reason = "a call of a C string reader, whose precondition is the caller's"
)]
/// # Safety
/// `text` is null or a NUL-terminated string.
unsafe fn lossy(text: *const std::ffi::c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .trim()
        .to_owned()
}

/// Takes a log line of the library's to the process's log.
pub(super) fn log(level: RDKafkaLogLevel, fac: &str, message: &str) {
    use RDKafkaLogLevel as L;
    // The one comes with each attempt to connect, and the error that follows says the same; the other with each client
    // that is given its brokers later.
    let known = fac == "SSLCERTVRFY" || (fac == "CONFWARN" && message.contains("No `bootstrap.servers`"));
    let level = if known { L::Debug } else { level };
    match level {
        L::Emerg | L::Alert | L::Critical | L::Error => {
            tracing::error!(target: "librdkafka", "{fac}: {message}");
        }
        L::Warning => tracing::warn!(target: "librdkafka", "{fac}: {message}"),
        L::Notice | L::Info => tracing::info!(target: "librdkafka", "{fac}: {message}"),
        L::Debug => tracing::debug!(target: "librdkafka", "{fac}: {message}"),
    }
}
