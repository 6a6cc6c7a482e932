//! What the spool counts.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use sluice_proto::v1::ErrorClass;

use super::topic::label;
use super::{DeadLabels, Metrics, RefusedLabels};
use crate::kafka::record::Outcome;
use crate::spool::Amount;

/// What the spool counts.
#[derive(Default, Clone)]
pub(super) struct SpoolFamilies {
    pub(super) records: Gauge,
    pub(super) bytes: Gauge,
    pub(super) oldest: Gauge<f64, AtomicU64>,
    pub(super) dead_records: Gauge,
    pub(super) dead_bytes: Gauge,
    pub(super) dead: Family<DeadLabels, Counter>,
    pub(super) letters_sent: Family<RefusedLabels, Counter>,
    pub(super) following: Gauge,
    pub(super) perhaps_twice: Counter,
}

/// What the spool counts.
#[derive(Debug, Clone)]
pub struct SpoolMetrics(pub(super) Arc<Metrics>);

impl SpoolMetrics {
    /// A record that was not taken on.
    pub fn refused(&self, class: ErrorClass) {
        self.0.refused(class);
    }

    /// A transaction is on the disk, and took that long.
    pub fn synced(&self, took: Duration) {
        self.0.spool_sync.observe(took.as_secs_f64());
    }

    /// A record is tried again that the broker may have already.
    pub fn perhaps_twice(&self) {
        self.0.spool.perhaps_twice.inc();
    }

    /// A record became a dead letter. `topic` is the entry of the allowlist that lets it in; empty if none does.
    pub fn dead_letter(&self, cluster: &str, topic: &str, code: &str) {
        let labels = DeadLabels {
            cluster: cluster.to_owned(),
            topic: topic.to_owned(),
            code: code.to_owned(),
        };
        self.0.spool.dead.get_or_create(&labels).inc();
    }

    /// How many records wait for those of their key to leave the spool.
    pub fn following(&self, records: usize) {
        let records = i64::try_from(records).unwrap_or(i64::MAX);
        self.0.spool.following.set(records);
    }

    /// What became of an attempt to write a dead letter to its topic.
    pub fn letter_sent(&self, outcome: &Outcome) {
        let outcome = label(outcome);
        let labels = RefusedLabels { outcome };
        self.0.spool.letters_sent.get_or_create(&labels).inc();
    }

    /// Brings the gauges up to date. `oldest` is the age of the oldest record that waits.
    pub fn measure(&self, waiting: Amount, dead: Amount, oldest: Duration) {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let families = &self.0.spool;
        families.records.set(number(waiting.records));
        families.bytes.set(number(waiting.bytes));
        families.oldest.set(oldest.as_secs_f64());
        families.dead_records.set(number(dead.records));
        families.dead_bytes.set(number(dead.bytes));
    }
}
