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
    pub(super) streams: Gauge,
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

    /// How many partitions are followed.
    pub fn tails(&self) -> &Gauge {
        &self.tails
    }
}
