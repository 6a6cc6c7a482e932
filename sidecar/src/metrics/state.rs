//! What the state that the admin API makes counts.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Labels {
    outcome: &'static str,
}

/// What the state counts.
#[derive(Debug, Default, Clone)]
pub struct StateMetrics {
    pub(super) records: Family<Labels, Counter>,
    pub(super) rows: Gauge,
    pub(super) dead: Gauge,
    pub(super) lag: Gauge,
    pub(super) caught_up: Gauge<f64, AtomicU64>,
    pub(super) ready: Gauge,
}

impl StateMetrics {
    /// A record of the topic was read; `outcome` is what became of it.
    pub fn read(&self, outcome: &'static str) {
        self.records.get_or_create(&Labels { outcome }).inc();
    }

    /// The table has so many rows that hold something, and so many records of its topic say nothing any more.
    pub fn size(&self, rows: usize, dead: usize) {
        self.rows.set(i64::try_from(rows).unwrap_or(i64::MAX));
        self.dead.set(i64::try_from(dead).unwrap_or(i64::MAX));
    }

    /// So many offsets are behind what was read.
    pub fn lag(&self, offsets: i64) {
        self.lag.set(offsets.max(0));
    }

    /// Everything that was in the topic at `moment` has been read.
    pub fn caught_up(&self, moment: Instant) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let then: Duration = now.saturating_sub(moment.elapsed());
        self.caught_up.set(then.as_secs_f64());
    }

    /// Whether the state is known and followed.
    pub fn ready(&self, ready: bool) {
        self.ready.set(i64::from(ready));
    }
}
