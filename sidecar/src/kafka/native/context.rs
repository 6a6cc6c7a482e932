//! What the library calls back into.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::{Mutex, PoisonError};

use openssl::x509::{X509, X509VerifyResult};
use rdkafka::bindings as sys;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;

use super::event;
use crate::kafka::trouble::Verdict;
use crate::keystore;

/// Takes the library's log lines to the process's log, and keeps why a broker's certificate was not accepted.
#[derive(Default)]
pub(super) struct Context {
    verdict: Mutex<Option<Verdict>>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        event::log(level, fac, message);
    }
}

impl Context {
    /// The last certificate that was not accepted.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        self.verdict
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Called by the library, in a broker's thread, for each certificate of a chain, with what OpenSSL makes of it. Leaves it
/// at that, and keeps the reason: the library itself says no more than that the handshake failed.
#[allow(unsafe_code, reason = "the library calls it with what rdkafka.h says")]
pub(super) unsafe extern "C" fn verify(
    _client: *mut sys::rd_kafka_t,
    broker: *const c_char,
    _id: i32,
    error: *mut c_int,
    _depth: c_int,
    certificate: *const c_char,
    size: usize,
    text: *mut c_char,
    room: usize,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: the library gives a pointer to the number, the name as a string or null, and the pointer that rdkafka set
    // for the client: its context, which lives as long as the client does.
    let (error, broker, context) = unsafe {
        let broker = (!broker.is_null()).then(|| CStr::from_ptr(broker).to_string_lossy().into_owned());
        (
            *error,
            broker.unwrap_or_default(),
            opaque.cast_const().cast::<Context>().as_ref(),
        )
    };
    if error == 0 {
        return 1;
    }
    // SAFETY: any number may be asked for.
    let words = unsafe { X509VerifyResult::from_raw(error) }.error_string();
    // SAFETY: the library gives the certificate's bytes, and how many they are.
    let certificate = (!certificate.is_null())
        .then(|| unsafe { std::slice::from_raw_parts(certificate.cast::<u8>(), size) })
        .and_then(|der| X509::from_der(der).ok());
    let length = words.len().min(room.saturating_sub(1));
    if !text.is_null() && room > 0 {
        // SAFETY: the library gives room for that many bytes.
        unsafe {
            std::ptr::copy_nonoverlapping(words.as_ptr(), text.cast::<u8>(), length);
            text.add(length).write(0);
        }
    }
    if let Some(context) = context {
        *context.verdict.lock().unwrap_or_else(PoisonError::into_inner) = Some(Verdict {
            broker,
            error,
            words: match certificate {
                Some(certificate) => format!("{words}: {}", keystore::name(&certificate)),
                None => words.to_owned(),
            },
        });
    }
    0
}
