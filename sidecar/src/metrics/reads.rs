//! What reading counts.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::kafka::reader::Record;

/// What reading counts.
#[derive(Debug, Default, Clone)]
pub struct ReadMetrics {
    pub(super) records: Counter,
    pub(super) bytes: Counter,
    pub(super) filter_failures: Counter,
    pub(super) streams: Gauge,
    pub(super) tails: Gauge,
    pub(super) members: Gauge,
    pub(super) commits: Counter,
    pub(super) not_committed: Counter,
    pub(super) groups_refused: Counter,
}

impl ReadMetrics {
    /// Records that go to a reader.
    pub fn records(&self, records: &[Arc<Record>]) {
        let bytes: usize = records.iter().map(|record| record.size()).sum();
        self.records.inc_by(records.len() as u64);
        self.bytes.inc_by(bytes as u64);
    }

    /// Records that a filter failed on, and that no reader gets.
    pub fn filter_failures(&self, count: u64) {
        self.filter_failures.inc_by(count);
    }

    /// How many event streams are open.
    pub fn streams(&self) -> &Gauge {
        &self.streams
    }

    /// How many members of consumer groups there are.
    pub fn members(&self) -> &Gauge {
        &self.members
    }

    /// A group's positions were committed, or not.
    pub fn commit(&self, done: bool) {
        if done {
            self.commits.inc();
        } else {
            self.not_committed.inc();
        }
    }

    /// A reader was refused for its group: it may not use it, or there are too many members.
    pub fn group_refused(&self) {
        self.groups_refused.inc();
    }

    /// How many partitions are followed.
    pub fn tails(&self) -> &Gauge {
        &self.tails
    }
}
