//! The newest record of each key, within bounds.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::kafka::reader::Record;
use crate::read::cursor::Cursor;
use crate::read::failure::{Failure, Kind};

/// What a view may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::read) struct Bounds {
    /// `max_view_keys`
    pub(in crate::read) keys: usize,
    /// `max_view_bytes`, as [`Record::size`] counts.
    pub(in crate::read) bytes: usize,
}

/// A key, and the partition that it is in: Kafka compacts partition by partition.
pub(in crate::read) type Place = (Bytes, i32);

/// What a view holds.
#[derive(Debug)]
pub(in crate::read) struct State {
    bounds: Bounds,
    records: BTreeMap<Place, Arc<Record>>,
    bytes: usize,
    seen: u64,
    /// The newest record that has a key, of each partition.
    applied: BTreeMap<i32, i64>,
    position: Cursor,
}

impl State {
    pub(in crate::read) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            records: BTreeMap::new(),
            bytes: 0,
            seen: 0,
            applied: BTreeMap::new(),
            position: Cursor::default(),
        }
    }

    /// Takes the next record of a partition: whether it changes anything. A tombstone takes its key away; a record without a
    /// key is none of the view's.
    pub(in crate::read) fn apply(&mut self, record: &Arc<Record>) -> Result<bool, Failure> {
        self.seen += 1;
        let Some(key) = &record.key else {
            return Ok(false);
        };
        self.applied.insert(record.partition, record.offset);
        let place = (key.clone(), record.partition);
        let before = if record.value.is_some() {
            self.bytes += record.size();
            self.records.insert(place, Arc::clone(record))
        } else {
            self.records.remove(&place)
        };
        self.bytes -= before.map_or(0, |before| before.size());
        let Bounds { keys, bytes } = self.bounds;
        for (what, is, bound, setting) in [
            ("keys", self.records.len(), keys, "max_view_keys"),
            ("bytes", self.bytes, bytes, "max_view_bytes"),
        ] {
            if is > bound {
                return Err(Failure::new(
                    Kind::ViewTooLarge,
                    format!(
                        "topic {} has more than {bound} {what}, which is the most that its view may hold: set {setting} of its \
                         entry of reads",
                        record.topic
                    ),
                ));
            }
        }
        Ok(true)
    }

    /// Lets go of a partition: whether there was anything.
    pub(in crate::read) fn forget(&mut self, partition: i32) -> bool {
        let bytes = &mut self.bytes;
        self.records.retain(|(_, is), record| {
            let kept = *is != partition;
            if !kept {
                *bytes -= record.size();
            }
            kept
        });
        self.applied.remove(&partition).is_some()
    }

    /// Where the topic was read to.
    pub(in crate::read) fn at(&mut self, position: Cursor) {
        self.position = position;
    }

    /// Where the topic was read to: who goes on from there misses nothing that comes after the view.
    pub(in crate::read) fn position(&self) -> &Cursor {
        &self.position
    }

    /// How many records were looked at.
    pub(in crate::read) fn seen(&self) -> u64 {
        self.seen
    }

    /// An entity tag's text: the same for the same content, whichever sidecar has it.
    pub(in crate::read) fn tag(&self) -> String {
        let mut digest = Sha256::new();
        for (partition, offset) in &self.applied {
            digest.update(partition.to_be_bytes());
            digest.update(offset.to_be_bytes());
        }
        let digest = digest.finalize();
        digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Records after a place, in the order of their keys, `most` of them at most.
    pub(in crate::read) fn after(&self, place: Option<&Place>, most: usize) -> Vec<Arc<Record>> {
        let from = place.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.records.range::<Place, _>((from, Bound::Unbounded));
        range.take(most).map(|(_, record)| Arc::clone(record)).collect()
    }

    /// The newest record of a key. Where several partitions have it (their number was changed), that with the latest time.
    pub(in crate::read) fn of(&self, key: &Bytes) -> Option<Arc<Record>> {
        let range = self
            .records
            .range((key.clone(), i32::MIN)..=(key.clone(), i32::MAX));
        let newest = range.max_by_key(|((_, partition), record)| (record.timestamp, *partition));
        newest.map(|(_, record)| Arc::clone(record))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WIDE: Bounds = Bounds {
        keys: 1000,
        bytes: 1 << 20,
    };

    fn record(partition: i32, offset: i64, key: Option<&str>, value: Option<&str>) -> Arc<Record> {
        Arc::new(Record {
            topic: Arc::from("t"),
            partition,
            offset,
            timestamp: Some(offset),
            key: key.map(|text| text.to_owned().into()),
            headers: Vec::new(),
            value: value.map(|text| text.to_owned().into()),
            ..Record::default()
        })
    }

    proptest! {
        #[test]
        fn a_view_is_what_the_last_record_of_each_key_says(
            log in proptest::collection::vec((0..3_i32, 0..6_u8, proptest::option::of(0..9_u8)), 0..80),
            page in 1..5_usize,
            cut in 0..80_usize,
        ) {
            let mut state = State::new(WIDE);
            let mut model = BTreeMap::new();
            let mut offsets = [0_i64; 3];
            for (at, (partition, key, value)) in log.iter().enumerate() {
                let offset = &mut offsets[usize::try_from(*partition).unwrap()];
                // Compaction leaves gaps.
                *offset += 1 + i64::from(*key);
                let (key, value) = (format!("k{key}"), value.map(|value| value.to_string()));
                let tag = state.tag();
                let changed = state.apply(&record(*partition, *offset, Some(&key), value.as_deref())).unwrap();
                prop_assert!(changed && state.tag() != tag);
                model.remove(&(key.clone(), *partition));
                if let Some(value) = value {
                    model.insert((key, *partition), value);
                }
                if at == cut {
                    state.forget(1);
                    model.retain(|(_, partition), _| *partition != 1);
                }
            }
            let mut shown = Vec::new();
            let mut place = None;
            loop {
                let some = state.after(place.as_ref(), page);
                let Some(last) = some.last() else { break };
                place = Some((last.key.clone().unwrap(), last.partition));
                shown.extend(some);
            }
            let text = |bytes: &Option<Bytes>| String::from_utf8(bytes.as_ref().unwrap().to_vec()).unwrap();
            let found: BTreeMap<_, _> = shown.iter().map(|r| ((text(&r.key), r.partition), text(&r.value))).collect();
            prop_assert_eq!(shown.len(), found.len());
            prop_assert_eq!(&found, &model);
            prop_assert_eq!(state.bytes, shown.iter().map(|record| record.size()).sum::<usize>());
            for key in 0..6 {
                let key = format!("k{key}");
                let has = model.keys().any(|(is, _)| *is == key);
                prop_assert_eq!(state.of(&key.into()).is_some(), has);
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let mut state = State::new(Bounds { keys: 2, bytes: 100 });
        state.apply(&record(0, 1, Some("a"), Some("1"))).unwrap();
        state.apply(&record(0, 2, Some("b"), Some("1"))).unwrap();
        state.apply(&record(0, 3, Some("a"), Some("2"))).unwrap();
        let failure = state.apply(&record(0, 4, Some("c"), Some("1"))).unwrap_err();
        assert!(failure.body().to_string().contains("max_view_keys"));
        let mut state = State::new(Bounds { keys: 2, bytes: 10 });
        let failure = state
            .apply(&record(0, 1, Some("a"), Some("0123456789")))
            .unwrap_err();
        assert!(failure.body().to_string().contains("max_view_bytes"));
    }

    #[test]
    fn a_record_without_a_key_is_none_of_it() {
        let mut state = State::new(WIDE);
        let tag = state.tag();
        assert!(!state.apply(&record(0, 1, None, Some("1"))).unwrap());
        assert_eq!((state.tag(), state.after(None, 9).len()), (tag, 0));
    }
}
