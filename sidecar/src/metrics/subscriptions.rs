//! What subscriptions count.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::{LATENCY, Metrics};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Labels {
    subscription: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutcomeLabels {
    subscription: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct HeldLabels {
    subscription: String,
    state: &'static str,
}

/// What subscriptions count.
#[derive(Clone)]
pub(super) struct Families {
    pub(super) events: Family<OutcomeLabels, Counter>,
    pub(super) seconds: Family<Labels, Histogram>,
    pub(super) in_flight: Family<Labels, Gauge>,
    pub(super) held: Family<HeldLabels, Gauge>,
    pub(super) lag: Family<Labels, Gauge>,
    pub(super) partitions: Family<Labels, Gauge>,
    pub(super) restarts: Family<Labels, Counter>,
    pub(super) write_failures: Family<Labels, Counter>,
}

impl Default for Families {
    fn default() -> Self {
        Self {
            events: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(LATENCY)),
            in_flight: Family::default(),
            held: Family::default(),
            lag: Family::default(),
            partitions: Family::default(),
            restarts: Family::default(),
            write_failures: Family::default(),
        }
    }
}

/// What one subscription counts.
#[derive(Clone)]
pub struct SubscriptionMetrics {
    all: Arc<Metrics>,
    subscription: String,
    delivered: Counter,
    retried: Counter,
    parked: Counter,
    dead_lettered: Counter,
    skipped: Counter,
    dropped: Counter,
    already_started: Counter,
    abandoned: Counter,
    seconds: Histogram,
    in_flight: Gauge,
    lag: Gauge,
    partitions: Gauge,
    held: [Gauge; 3],
    restarts: Counter,
    write_failures: Counter,
}

const HELD: [&str; 3] = ["retrying", "waiting", "parked"];

fn number(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl Metrics {
    /// What one subscription counts.
    pub fn subscription(self: &Arc<Self>, id: &str) -> SubscriptionMetrics {
        let all = &self.subscriptions;
        let labels = Labels {
            subscription: id.to_owned(),
        };
        let events = |outcome| {
            let labels = OutcomeLabels {
                subscription: id.to_owned(),
                outcome,
            };
            all.events.get_or_create(&labels).clone()
        };
        let held = |state| {
            let labels = HeldLabels {
                subscription: id.to_owned(),
                state,
            };
            all.held.get_or_create(&labels).clone()
        };
        SubscriptionMetrics {
            delivered: events("delivered"),
            retried: events("retried"),
            parked: events("parked"),
            dead_lettered: events("dead_lettered"),
            skipped: events("skipped"),
            dropped: events("dropped"),
            already_started: events("already_started"),
            abandoned: events("abandoned"),
            seconds: all.seconds.get_or_create(&labels).clone(),
            in_flight: all.in_flight.get_or_create(&labels).clone(),
            lag: all.lag.get_or_create(&labels).clone(),
            partitions: all.partitions.get_or_create(&labels).clone(),
            held: HELD.map(held),
            restarts: all.restarts.get_or_create(&labels).clone(),
            write_failures: all.write_failures.get_or_create(&labels).clone(),
            all: Arc::clone(self),
            subscription: id.to_owned(),
        }
    }
}

impl SubscriptionMetrics {
    /// The handler took events.
    pub fn delivered(&self, events: usize) {
        self.delivered.inc_by(events as u64);
    }

    /// Attempts failed that may be made again.
    pub fn retried(&self, events: usize) {
        self.retried.inc_by(events as u64);
    }

    /// An event was parked.
    pub fn parked(&self) {
        self.parked.inc();
    }

    /// An event is a dead letter.
    pub fn dead_lettered(&self) {
        self.dead_lettered.inc();
    }

    /// An event was passed over.
    pub fn skipped(&self) {
        self.skipped.inc();
    }

    /// The handler, or a person, said to drop an event.
    pub fn dropped(&self) {
        self.dropped.inc();
    }

    /// An event was skipped, since another one had started the workflow of its key.
    pub fn already_started(&self) {
        self.already_started.inc();
    }

    /// How many were.
    pub fn were_started(&self) -> u64 {
        self.already_started.get()
    }

    /// Events were with the handler, and nobody waits for its answer any more: they are delivered again.
    pub fn abandoned(&self, events: usize) {
        self.abandoned.inc_by(events as u64);
    }

    /// A request took so long.
    pub fn took(&self, time: Duration) {
        self.seconds.observe(time.as_secs_f64());
    }

    /// So many requests are with the handler.
    pub fn in_flight(&self, requests: usize) {
        self.in_flight.set(number(requests));
    }

    /// So many events are held.
    pub fn held(&self, retrying: usize, waiting: usize, parked: usize) {
        for (gauge, n) in self.held.iter().zip([retrying, waiting, parked]) {
            gauge.set(number(n));
        }
    }

    /// So many offsets are not finished.
    pub fn lag(&self, lag: i64) {
        self.lag.set(lag);
    }

    /// So many partitions are here.
    pub fn partitions(&self, partitions: usize) {
        self.partitions.set(number(partitions));
    }

    /// The task failed, and is started again.
    pub fn restarted(&self) {
        self.restarts.inc();
    }

    /// Writes that failed and are tried again.
    pub fn write_failures(&self) -> Counter {
        self.write_failures.clone()
    }

    /// It runs here no more: its gauges go.
    pub fn gone(&self) {
        let all = &self.all.subscriptions;
        let labels = Labels {
            subscription: self.subscription.clone(),
        };
        all.in_flight.remove(&labels);
        all.lag.remove(&labels);
        all.partitions.remove(&labels);
        for state in HELD {
            let subscription = self.subscription.clone();
            all.held.remove(&HeldLabels { subscription, state });
        }
    }
}
