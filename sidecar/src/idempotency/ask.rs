//! What a record with a key asks for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message;
use sluice_proto::idempotency::{MAX_FINGERPRINT, MAX_KEY, fingerprint};
use sluice_proto::v1::{self, ErrorClass};

use super::flight::Waiter;
use super::store::Name;
use crate::kafka::record::Failure;
use crate::produce::FateSink;

/// The shortest and the longest window, in milliseconds.
pub(crate) const MIN_WINDOW_MS: i64 = 1000;
/// See [`MIN_WINDOW_MS`].
pub(crate) const MAX_WINDOW_MS: i64 = 366 * 24 * 3_600_000;

/// A record with a key, on its way.
pub(crate) struct Ask {
    pub(super) name: Name,
    /// What it counts against the bound on what waits for the disk.
    pub(super) bytes: u64,
    pub(super) fingerprint: Vec<u8>,
    pub(super) window_ms: i64,
    pub(super) record: v1::Record,
    pub(super) waiter: Waiter,
}

impl Ask {
    /// A record for `topics` of `cluster` that asks to be written once.
    ///
    /// # Errors
    /// When what it asks for is not one key with one fingerprint.
    pub(crate) fn new(
        mut record: v1::Record,
        cluster: &str,
        default_window: Duration,
        (sink, token): (Arc<dyn FateSink>, u64),
        deadline: Instant,
    ) -> Result<Self, Failure> {
        let invalid = |text: String| Failure::new(ErrorClass::InvalidRequest, text);
        let asked = record.idempotency.take().unwrap_or_default();
        let (key, print) = (asked.key.len(), asked.fingerprint.len());
        if !(1..=MAX_KEY).contains(&key) {
            return Err(invalid(format!(
                "an idempotency key has 1 to {MAX_KEY} bytes, not {key}"
            )));
        }
        if !(1..=MAX_FINGERPRINT).contains(&print) {
            return Err(invalid(format!(
                "an idempotency fingerprint has 1 to {MAX_FINGERPRINT} bytes, not {print}"
            )));
        }
        let window_ms = match asked.window_ms {
            0 => i64::try_from(default_window.as_millis()).unwrap_or(MAX_WINDOW_MS),
            ms => match i64::try_from(ms) {
                Ok(ms) if (MIN_WINDOW_MS..=MAX_WINDOW_MS).contains(&ms) => ms,
                _ => {
                    return Err(invalid(format!(
                        "an idempotency window has {MIN_WINDOW_MS} to {MAX_WINDOW_MS} ms, not {ms}"
                    )));
                }
            },
        };
        let scope = [cluster.as_bytes(), &asked.key].into_iter();
        let name = fingerprint(scope.chain(record.topics.iter().map(String::as_bytes)));
        // What waits for the disk must not keep the bytes of a whole message of many records.
        record.key = record.key.map(|key| key.to_vec().into());
        record.value = record.value.map(|value| value.to_vec().into());
        Ok(Self {
            name,
            bytes: record.encoded_len() as u64,
            fingerprint: asked.fingerprint.to_vec(),
            window_ms,
            record,
            waiter: Waiter {
                sink,
                token,
                deadline,
                first: true,
            },
        })
    }
}
