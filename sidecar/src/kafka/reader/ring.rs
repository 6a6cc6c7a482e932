//! The newest records of one partition, for all who follow it. It knows no Kafka, and no time.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Limits, Record};

/// What comes after a position.
#[derive(Debug)]
pub enum View {
    /// It is not here any more: it must be read from Kafka.
    Behind,
    /// These, and where to go on after them. There may be none, and still somewhere else to go on: what is in between is no
    /// record that can be read.
    Here {
        /// In order.
        records: Vec<Arc<Record>>,
        /// The position after them.
        next: i64,
    },
}

/// Records without a gap: all that there are from where it starts to where it ends.
///
/// A reader is a position: the offset that it has not seen yet. Whoever takes what [`Ring::after`] gives, goes on at
/// its `next`, and reads from Kafka while it is [`View::Behind`], sees every record once, whatever the ring drops
/// in between.
#[derive(Debug)]
pub struct Ring {
    records: VecDeque<Arc<Record>>,
    bytes: usize,
    /// What is before this is not here.
    start: i64,
    /// What is from here on has not come yet.
    next: i64,
}

impl Ring {
    /// An empty ring: the next record that comes is the first at `offset` or after it.
    pub fn new(offset: i64) -> Self {
        Self {
            records: VecDeque::new(),
            bytes: 0,
            start: offset,
            next: offset,
        }
    }

    /// The next record; one that was here before is not taken again. Drops old ones until `limits` hold, but never the newest.
    pub fn push(&mut self, record: Arc<Record>, limits: Limits) {
        if record.offset < self.next {
            return;
        }
        self.next = record.offset.saturating_add(1);
        self.bytes += record.size();
        self.records.push_back(record);
        while self.records.len() > limits.records.max(1)
            || (self.bytes > limits.bytes && self.records.len() > 1)
        {
            let Some(dropped) = self.records.pop_front() else {
                return;
            };
            self.bytes -= dropped.size();
            self.start = dropped.offset.saturating_add(1);
        }
    }

    /// There is no record that can be read before `next`, except for those that came.
    pub fn advance(&mut self, next: i64) {
        self.next = self.next.max(next);
    }

    /// What comes at `position` and after it; within `limits`, but one record at least.
    pub fn after(&self, position: i64, limits: Limits) -> View {
        if position < self.start {
            return View::Behind;
        }
        let from = self.records.partition_point(|record| record.offset < position);
        let (mut records, mut bytes) = (Vec::new(), 0_usize);
        for record in self.records.iter().skip(from) {
            bytes += record.size();
            if !records.is_empty() && (records.len() >= limits.records || bytes > limits.bytes) {
                // The first that does not fit is where to go on.
                return View::Here {
                    records,
                    next: record.offset,
                };
            }
            records.push(Arc::clone(record));
        }
        View::Here {
            records,
            next: position.max(self.next),
        }
    }

    /// Whether what comes after `position` is here, or will come here.
    pub fn covers(&self, position: i64) -> bool {
        (self.start..=self.next).contains(&position)
    }

    /// What is from here on has not come yet.
    pub fn next(&self) -> i64 {
        self.next
    }
}

#[cfg(test)]
mod tests;
