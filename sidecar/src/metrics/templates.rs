//! What payload templates count.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// The buckets of the time that a record's template takes, in seconds.
const SECONDS: [f64; 12] = [
    0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0, 10.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CauseLabels {
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SecretLabels {
    secret: String,
    result: &'static str,
}

/// What payload templates count.
#[derive(Debug, Clone)]
pub struct TemplateMetrics {
    pub(super) rendered: Counter,
    pub(super) failed: Family<CauseLabels, Counter>,
    pub(super) seconds: Histogram,
    pub(super) waiting: Gauge,
    pub(super) reloads: Family<SecretLabels, Counter>,
}

impl Default for TemplateMetrics {
    fn default() -> Self {
        Self {
            rendered: Counter::default(),
            failed: Family::default(),
            seconds: Histogram::new(SECONDS),
            waiting: Gauge::default(),
            reloads: Family::default(),
        }
    }
}

impl TemplateMetrics {
    /// A record was made, and took that long from its turn on.
    pub fn rendered(&self, took: Duration) {
        self.rendered.inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// A record could not be made, for `cause`, a word.
    pub fn failed(&self, cause: &'static str) {
        self.failed.get_or_create(&CauseLabels { cause }).inc();
    }

    /// So many bytes wait for their expressions.
    pub fn waits(&self, bytes: usize) {
        self.waiting.inc_by(signed(bytes));
    }

    /// So many bytes wait no more.
    pub fn waits_no_more(&self, bytes: usize) {
        self.waiting.dec_by(signed(bytes));
    }

    /// The file of a secret changed: what it holds is used, or it is wrong and the old value stays.
    pub fn reloaded(&self, secret: &str, used: bool) {
        let labels = SecretLabels {
            secret: secret.to_owned(),
            result: if used { "applied" } else { "bad_file" },
        };
        self.reloads.get_or_create(&labels).inc();
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
