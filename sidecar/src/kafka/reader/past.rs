//! What was read of a partition's past a moment ago, for those who fell behind its tail together. It knows no Kafka.
//!
//! Where more is written than clients take, many are behind at once, at about the same place. Without it each of them reads the
//! same from Kafka.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Batch, Limits, Ring, View};

/// How long it is kept: whoever comes later reads again.
const FRESH: Duration = Duration::from_secs(2);

/// Pieces of one partition, the newest last. They may overlap, and have gaps in between.
#[derive(Debug)]
pub(super) struct Past {
    pieces: VecDeque<Piece>,
    /// All of them together; a piece counts as a record more than it has.
    size: Limits,
}

/// What there is from an offset on up to another.
#[derive(Debug)]
struct Piece {
    start: i64,
    ring: Ring,
    size: Limits,
    read: Instant,
}

const NOTHING: Limits = Limits { records: 0, bytes: 0 };
const ALL: Limits = Limits {
    records: usize::MAX,
    bytes: usize::MAX,
};

impl Past {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self {
            pieces: VecDeque::new(),
            size: NOTHING,
        }
    }

    /// What comes at `position` and after it, within `limits`; none if that was not read in the last moment. It never says that
    /// the partition ends.
    pub(super) fn after(&self, position: i64, limits: Limits, now: Instant) -> Option<Batch> {
        let has = |piece: &&Piece| {
            (piece.start..piece.ring.next()).contains(&position) && now.duration_since(piece.read) < FRESH
        };
        let piece = self.pieces.iter().rev().find(has)?;
        match piece.ring.after(position, limits) {
            View::Here { records, next } => Some(Batch {
                records,
                next,
                ended: false,
            }),
            View::Behind => None,
        }
    }

    /// Keeps what was read from `start` on, and of what was read before it as much as there is room for in `most`.
    pub(super) fn keep(&mut self, start: i64, batch: &Batch, most: Limits, now: Instant) {
        let size = Limits {
            records: batch.records.len() + 1,
            bytes: batch.records.iter().map(|record| record.size()).sum(),
        };
        if batch.next <= start || size.records > most.records || size.bytes > most.bytes {
            return;
        }
        let mut ring = Ring::new(start);
        for record in &batch.records {
            ring.push(Arc::clone(record), ALL);
        }
        ring.advance(batch.next);
        self.size.records += size.records;
        self.size.bytes += size.bytes;
        self.pieces.push_back(Piece {
            start,
            ring,
            size,
            read: now,
        });
        while self.size.records > most.records || self.size.bytes > most.bytes {
            self.forget_oldest();
        }
    }

    /// Forgets what is too old to be given to anybody.
    pub(super) fn sweep(&mut self, now: Instant) {
        let old = |piece: &Piece| now.duration_since(piece.read) >= FRESH;
        while self.pieces.front().is_some_and(old) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let gone = self.pieces.pop_front().map_or(self.size, |piece| piece.size);
        self.size.records -= gone.records;
        self.size.bytes -= gone.bytes;
        if self.pieces.is_empty() {
            self.pieces.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::Record;
    use super::*;

    fn batch(offsets: &[i64], next: i64) -> Batch {
        let record = |offset: &i64| {
            Arc::new(Record {
                topic: Arc::from("t"),
                partition: 0,
                offset: *offset,
                timestamp: None,
                key: None,
                headers: Vec::new(),
                value: Some(Bytes::from_static(&[0; 100])),
                ..Record::default()
            })
        };
        Batch {
            records: offsets.iter().map(record).collect(),
            next,
            ended: true,
        }
    }

    fn offsets(batch: Option<Batch>) -> Option<(Vec<i64>, i64)> {
        let batch = batch?;
        assert!(!batch.ended, "by now there may be more");
        Some((
            batch.records.iter().map(|record| record.offset).collect(),
            batch.next,
        ))
    }

    #[test]
    fn what_was_read_is_there_from_any_of_its_offsets_on() {
        let (mut past, now) = (Past::new(), Instant::now());
        // 12 is no record: a marker, or compacted away. Nor is what is before 15.
        past.keep(10, &batch(&[10, 11, 13], 15), ALL, now);
        assert_eq!(offsets(past.after(10, ALL, now)), Some((vec![10, 11, 13], 15)));
        assert_eq!(offsets(past.after(12, ALL, now)), Some((vec![13], 15)));
        assert_eq!(offsets(past.after(14, ALL, now)), Some((vec![], 15)));
        let two = Limits { records: 2, ..ALL };
        assert_eq!(offsets(past.after(10, two, now)), Some((vec![10, 11], 13)));
        for elsewhere in [9, 15] {
            assert_eq!(offsets(past.after(elsewhere, ALL, now)), None, "{elsewhere}");
        }
        past.keep(15, &batch(&[], 15), ALL, now);
        assert_eq!(offsets(past.after(15, ALL, now)), None, "nothing is no piece");
    }

    #[test]
    fn it_is_gone_after_a_moment() {
        let (mut past, now) = (Past::new(), Instant::now());
        past.keep(10, &batch(&[10], 11), ALL, now);
        assert!(past.after(10, ALL, now + FRESH / 2).is_some());
        assert!(past.after(10, ALL, now + FRESH).is_none());
        past.keep(11, &batch(&[11], 12), ALL, now + FRESH / 2);
        past.sweep(now + FRESH);
        assert_eq!((past.pieces.len(), past.size.records), (1, 2));
        past.sweep(now + FRESH * 2);
        assert_eq!((past.pieces.len(), past.size), (0, NOTHING));
    }

    #[test]
    fn it_is_bounded() {
        for most in [Limits { bytes: 300, ..ALL }, Limits { records: 6, ..ALL }] {
            let (mut past, now) = (Past::new(), Instant::now());
            for offset in 0..100 {
                past.keep(offset, &batch(&[offset], offset + 1), most, now);
                assert!(past.pieces.len() <= 3, "{most:?}");
            }
            assert_eq!(offsets(past.after(96, ALL, now)), None);
            assert_eq!(offsets(past.after(97, ALL, now)), Some((vec![97], 98)));
            past.keep(100, &batch(&[100, 101, 102, 103, 104, 105], 106), most, now);
            assert_eq!(offsets(past.after(100, ALL, now)), None, "it has no room");
            assert!(past.after(99, ALL, now).is_some(), "and drives nothing out");
        }
    }
}
