//! What the idempotency keys count.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use sluice_proto::v1::ErrorClass;

use super::Metrics;

/// What the idempotency keys count.
#[derive(Default, Clone)]
pub(super) struct IdempotencyFamilies {
    pub(super) keys: Gauge,
    pub(super) waiting: Gauge,
    pub(super) replays: Counter,
    pub(super) conflicts: Counter,
    pub(super) unknown: Counter,
}

/// What the idempotency keys count.
#[derive(Debug, Clone)]
pub struct IdempotencyMetrics(pub(super) Arc<Metrics>);

impl IdempotencyMetrics {
    /// A record that was not taken on.
    pub fn refused(&self, class: ErrorClass) {
        self.0.refused(class);
    }

    /// A key that came before with another request.
    pub fn conflict(&self) {
        self.0.idempotency.conflicts.inc();
    }

    /// Repeats that were answered as the first was, and those that nobody could answer.
    pub fn answered(&self, replays: u64, unknown: u64) {
        self.0.idempotency.replays.inc_by(replays);
        self.0.idempotency.unknown.inc_by(unknown);
    }

    /// A transaction is on the disk, and took that long.
    pub fn synced(&self, took: Duration) {
        self.0.idempotency_sync.observe(took.as_secs_f64());
    }

    /// Brings the gauges up to date.
    pub fn measure(&self, keys: u64, waiting: usize) {
        let families = &self.0.idempotency;
        families.keys.set(i64::try_from(keys).unwrap_or(i64::MAX));
        families.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }
}
