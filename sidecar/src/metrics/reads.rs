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
    pub(super) streams: Gauge,
    pub(super) sockets: Gauge,
    pub(super) closes: Family<CloseLabels, Counter>,
    pub(super) tails: Gauge,
}

impl ReadMetrics {
    /// Records that go to a reader.
    pub fn records(&self, records: &[Arc<Record>]) {
        let bytes: usize = records.iter().map(|record| record.size()).sum();
        self.records.inc_by(records.len() as u64);
        self.bytes.inc_by(bytes as u64);
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
