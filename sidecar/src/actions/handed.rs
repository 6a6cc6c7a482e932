//! Payloads on their way from who starts a run to who writes its record. They may have secrets in them, and so are nowhere but in
//! memory, and not for long.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The most bytes that are on their way.
const MOST: usize = 16 << 20;
/// After how long nobody comes for one: another sidecar has written the record.
const LATE: Duration = Duration::from_secs(30);

/// Payloads, by the rows of their runs. One that is not there is made again.
#[derive(Default)]
pub(super) struct Handed(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    bytes: usize,
    by_row: HashMap<String, (Instant, usize, Value)>,
}

impl Handed {
    /// Hands on a payload that takes so many bytes in a record, if there is room for it.
    pub(super) fn put(&self, row: &str, payload: Value, bytes: usize, now: Instant) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner
            .by_row
            .retain(|_, (since, ..)| now.saturating_duration_since(*since) < LATE);
        inner.bytes = inner.by_row.values().map(|(_, bytes, _)| bytes).sum();
        if inner.bytes + bytes > MOST {
            return;
        }
        inner.bytes += bytes;
        inner.by_row.insert(row.to_owned(), (now, bytes, payload));
    }

    /// Takes the payload of a run, once.
    pub(super) fn take(&self, row: &str) -> Option<Value> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, bytes, payload) = inner.by_row.remove(row)?;
        inner.bytes = inner.bytes.saturating_sub(bytes);
        Some(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_taken_once_and_none_stays() {
        let handed = Handed::default();
        let start = Instant::now();
        handed.put("a", "A".into(), 10, start);
        assert_eq!(handed.take("a"), Some("A".into()));
        assert_eq!(handed.take("a"), None);
        // There is room for so much, and what nobody came for makes room.
        handed.put("b", "B".into(), MOST, start);
        handed.put("c", "C".into(), 1, start + LATE / 2);
        assert_eq!(handed.take("c"), None);
        handed.put("d", "D".into(), MOST, start + LATE);
        assert_eq!((handed.take("b"), handed.take("d")), (None, Some("D".into())));
        handed.put("e", "E".into(), MOST, start + LATE);
        assert_eq!(handed.take("e"), Some("E".into()));
    }
}
