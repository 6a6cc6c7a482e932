//! What reading counts.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::kafka::reader::Record;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CloseLabels {
    code: u16,
}

/// What reading counts.
#[derive(Debug, Default, Clone)]
pub struct ReadMetrics {
    pub(super) records: Counter,
    pub(super) bytes: Counter,
    pub(super) filter_failures: Counter,
    pub(super) streams: Gauge,
    pub(super) sockets: Gauge,
    pub(super) closes: Family<CloseLabels, Counter>,
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

    /// How many WebSockets are open.
    pub fn sockets(&self) -> &Gauge {
        &self.sockets
    }

    /// A WebSocket ended, with the code that its client was told; 1006 if it was told nothing.
    pub fn closed(&self, code: u16) {
        self.closes.get_or_create(&CloseLabels { code }).inc();
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

/// Counts something while it is open.
#[derive(Debug)]
pub struct Open(Gauge);

impl Open {
    /// Counts one in `gauge` until it is dropped.
    pub fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
