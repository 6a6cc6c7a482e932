//! The library's events.

use std::ffi::CStr;
use std::ptr::{self, NonNull};

use rdkafka::bindings as sys;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::RDKafkaErrorCode as Code;

use crate::kafka::error::Persistence;

/// One delivery report.
#[derive(Debug, Clone, Copy)]
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
}

/// What [`Native::poll`] saw.
#[derive(Debug)]
pub(in crate::kafka) enum Polled {
    /// Nothing until the timeout, or something of no interest here.
    Nothing,
    /// Delivery reports, put at the end of the vector.
    Deliveries,
    /// No broker is connected.
    AllDown(String),
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
    pub(super) fn read(&self, deliveries: &mut Vec<Delivery>) -> Polled {
        #[allow(unsafe_code, reason = "the event is valid as long as self")]
        let kind = unsafe { sys::rd_kafka_event_type(self.0.as_ptr()) };
        match kind {
            sys::RD_KAFKA_EVENT_DR => {
                self.deliveries(deliveries);
                Polled::Deliveries
            }
            sys::RD_KAFKA_EVENT_ERROR => self.error(),
            sys::RD_KAFKA_EVENT_LOG => {
                self.log();
                Polled::Nothing
            }
            _ => Polled::Nothing,
        }
    }

    fn deliveries(&self, into: &mut Vec<Delivery>) {
        loop {
            #[allow(
                unsafe_code,
                reason = "the event is valid; a message lives as long as its event"
            )]
            let message = unsafe { sys::rd_kafka_event_message_next(self.0.as_ptr()) };
            if message.is_null() {
                return;
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
                }
            };
            into.push(delivery);
        }
    }

    fn error(&self) -> Polled {
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
        tracing::warn!(target: "librdkafka", "{code}: {text}");
        Polled::Nothing
    }

    fn log(&self) {
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
        if found == 0 {
            log(level_of(level), &facility, &text);
        }
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
    match level {
        L::Emerg | L::Alert | L::Critical | L::Error => {
            tracing::error!(target: "librdkafka", "{fac}: {message}");
        }
        L::Warning => tracing::warn!(target: "librdkafka", "{fac}: {message}"),
        L::Notice | L::Info => tracing::info!(target: "librdkafka", "{fac}: {message}"),
        L::Debug => tracing::debug!(target: "librdkafka", "{fac}: {message}"),
    }
}
