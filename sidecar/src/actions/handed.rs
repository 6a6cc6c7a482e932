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
pub(super) struct Handed(Mutex<HashMap<String, OnItsWay>>);

struct OnItsWay {
    since: Instant,
    bytes: usize,
    payload: Value,
}

impl Handed {
    /// Hands on a payload that takes so many bytes in a record, if there is room for it.
    pub(super) fn put(&self, row: &str, payload: Value, bytes: usize, now: Instant) {
        let mut by_row = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        by_row.retain(|_, one| now.saturating_duration_since(one.since) < LATE);
        let taken: usize = by_row.values().map(|one| one.bytes).sum();
        if taken + bytes > MOST {
            return;
        }
        let since = now;
        by_row.insert(
            row.to_owned(),
            OnItsWay {
                since,
                bytes,
                payload,
            },
        );
    }

    /// Takes the payload of a run, once.
    pub(super) fn take(&self, row: &str) -> Option<Value> {
        let mut by_row = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        by_row.remove(row).map(|one| one.payload)
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
