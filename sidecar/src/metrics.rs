//! What the sidecar counts, and its exposition.

mod actions;
mod idempotency;
mod load;
mod names;
mod producer;
mod reads;
mod replies;
mod sinks;
mod spool;
mod state;
mod subscriptions;
mod templates;
mod topic;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use sluice_proto::class;
use sluice_proto::v1::ErrorClass;

use self::idempotency::IdempotencyFamilies;
use self::spool::SpoolFamilies;
use crate::config::Expiry;

pub use self::actions::ActionMetrics;
pub use self::idempotency::IdempotencyMetrics;
pub use self::load::{Load, Loads};
pub use self::producer::{CallerGauges, ProducerMetrics};
pub use self::reads::{Open, ReadMetrics};
pub use self::replies::{ReplyCounts, ReplyMetrics, ReplyOutcome};
pub use self::sinks::SinkMetrics;
pub use self::spool::SpoolMetrics;
pub use self::state::StateMetrics;
pub use self::subscriptions::SubscriptionMetrics;
pub use self::templates::TemplateMetrics;
pub use self::topic::{ByOutcome, ByReason, Shed, TopicMetrics};

/// The buckets of the produce latency, in seconds.
const LATENCY: [f64; 14] = [
    0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 4.0, 10.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TopicLabels {
    cluster: String,
    topic: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    cluster: String,
    topic: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabels {
    listener: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProducerLabels {
    cluster: String,
    producer: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TroubleLabels {
    cluster: String,
    producer: String,
    reason: &'static str,
}

/// The buckets of the time that the disk takes, in seconds.
const SYNC: [f64; 12] = [
    0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.512, 2.0, 8.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeadLabels {
    cluster: String,
    topic: String,
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShedLabels {
    cluster: String,
    topic: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClusterLabels {
    cluster: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    cluster: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoreLabels {
    cluster: String,
    store: &'static str,
}

/// What became of files of a cluster that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// A client with what they hold has taken over.
    Applied,
    /// They are wrong: the old ones stay in use.
    BadFiles,
    /// The cluster cannot be reached with them: the old ones stay in use.
    NotAccepted,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    outcome: &'static str,
}

/// Every metric of the process.
pub struct Metrics {
    registry: Registry,
    records: Family<OutcomeLabels, Counter>,
    bytes: Family<TopicLabels, Counter>,
    seconds: Family<TopicLabels, Histogram>,
    buffered_lost: Family<OutcomeLabels, Counter>,
    leader_lost: Family<TopicLabels, Counter>,
    late: Family<OutcomeLabels, Counter>,
    shed: Family<ShedLabels, Counter>,
    topics: load::Families,
    outstanding: Family<ProducerLabels, Gauge>,
    outstanding_bytes: Family<ProducerLabels, Gauge>,
    held: Family<ProducerLabels, Gauge>,
    up: Family<ProducerLabels, Gauge>,
    connection_failures: Family<TroubleLabels, Counter>,
    rebuilds: Family<ProducerLabels, Counter>,
    reloads: Family<ReloadLabels, Counter>,
    expiry: Family<StoreLabels, Gauge<f64, AtomicU64>>,
    producers: Gauge,
    callers: Family<ClusterLabels, Gauge>,
    streams: Gauge,
    connections: Family<ListenerLabels, Gauge>,
    turned_away: Family<ListenerLabels, Counter>,
    refused: Family<RefusedLabels, Counter>,
    unflushed: Counter,
    spool_sync: Histogram,
    spool: SpoolFamilies,
    idempotency_sync: Histogram,
    idempotency: IdempotencyFamilies,
    actions: ActionMetrics,
    action_state: StateMetrics,
    reads: ReadMetrics,
    replies: ReplyMetrics,
    subscriptions: subscriptions::Families,
    sinks: SinkMetrics,
    state: StateMetrics,
    templates: TemplateMetrics,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let seconds = || Histogram::new(LATENCY);
        let this = Self {
            records: Family::default(),
            bytes: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            buffered_lost: Family::default(),
            leader_lost: Family::default(),
            late: Family::default(),
            shed: Family::default(),
            topics: load::Families::default(),
            outstanding: Family::default(),
            outstanding_bytes: Family::default(),
            held: Family::default(),
            up: Family::default(),
            connection_failures: Family::default(),
            rebuilds: Family::default(),
            reloads: Family::default(),
            expiry: Family::default(),
            producers: Gauge::default(),
            callers: Family::default(),
            streams: Gauge::default(),
            connections: Family::default(),
            turned_away: Family::default(),
            refused: Family::default(),
            unflushed: Counter::default(),
            spool_sync: Histogram::new(SYNC),
            spool: SpoolFamilies::default(),
            idempotency_sync: Histogram::new(SYNC),
            idempotency: IdempotencyFamilies::default(),
            actions: ActionMetrics::default(),
            action_state: StateMetrics::default(),
            reads: ReadMetrics::default(),
            replies: ReplyMetrics::default(),
            subscriptions: subscriptions::Families::default(),
            sinks: SinkMetrics::default(),
            state: StateMetrics::default(),
            templates: TemplateMetrics::default(),
            registry: Registry::default(),
        };
        macro_rules! register {
            ($($name:ident => $($field:ident).+),* $(,)?) => {
                $(registry.register(names::$name.0, names::$name.1, this.$($field).+.clone());)*
            };
        }
        register! {
            RECORDS => records,
            RECORD_BYTES => bytes,
            PRODUCE_SECONDS => seconds,
            BUFFERED_LOST => buffered_lost,
            LEADER_LOST => leader_lost,
            LATE => late,
            SHED => shed,
            TOPIC_WAITING => topics.records,
            TOPIC_WAITING_BYTES => topics.bytes,
            TOPIC_LIMIT => topics.limit,
            TOPIC_PACE => topics.per_second,
            OUTSTANDING => outstanding,
            OUTSTANDING_BYTES => outstanding_bytes,
            HELD => held,
            UP => up,
            CONNECTION_FAILURES => connection_failures,
            REBUILDS => rebuilds,
            RELOADS => reloads,
            CERTIFICATE_EXPIRY => expiry,
            PRODUCERS => producers,
            CALLERS => callers,
            STREAMS => streams,
            CONNECTIONS => connections,
            TURNED_AWAY => turned_away,
            REFUSED => refused,
            UNFLUSHED => unflushed,
            SPOOL_RECORDS => spool.records,
            SPOOL_BYTES => spool.bytes,
            SPOOL_OLDEST => spool.oldest,
            SPOOL_SYNC => spool_sync,
            SPOOL_DEAD_RECORDS => spool.dead_records,
            SPOOL_DEAD_BYTES => spool.dead_bytes,
            SPOOL_DEAD => spool.dead,
            SPOOL_FOLLOWING => spool.following,
            SPOOL_LETTERS_SENT => spool.letters_sent,
            SPOOL_PERHAPS_TWICE => spool.perhaps_twice,
            IDEMPOTENCY_KEYS => idempotency.keys,
            IDEMPOTENCY_WAITING => idempotency.waiting,
            IDEMPOTENCY_REPLAYS => idempotency.replays,
            IDEMPOTENCY_CONFLICTS => idempotency.conflicts,
            IDEMPOTENCY_UNKNOWN => idempotency.unknown,
            IDEMPOTENCY_SYNC => idempotency_sync,
            READ_RECORDS => reads.records,
            READ_BYTES => reads.bytes,
            READ_FILTER_FAILURES => reads.filter_failures,
            READ_STREAMS => reads.streams,
            READ_SOCKETS => reads.sockets,
            READ_CLOSES => reads.closes,
            READ_TAILS => reads.tails,
            READ_MEMBERS => reads.members,
            READ_COMMITS => reads.commits,
            READ_NOT_COMMITTED => reads.not_committed,
            READ_GROUPS_REFUSED => reads.groups_refused,
            REPLY_WAITING => replies.waiting,
            REPLY_REQUESTS => replies.requests,
            REPLY_UNCLAIMED => replies.unclaimed,
            SUBSCRIPTION_EVENTS => subscriptions.events,
            SUBSCRIPTION_SECONDS => subscriptions.seconds,
            SUBSCRIPTION_IN_FLIGHT => subscriptions.in_flight,
            SUBSCRIPTION_HELD => subscriptions.held,
            SUBSCRIPTION_LAG => subscriptions.lag,
            SUBSCRIPTION_PARTITIONS => subscriptions.partitions,
            SUBSCRIPTION_RESTARTS => subscriptions.restarts,
            SUBSCRIPTION_WRITE_FAILURES => subscriptions.write_failures,
            SINK_DROPPED_HEADERS => sinks.dropped_headers,
            ACTION_RUNS => actions.runs,
            ACTION_CHANGES => actions.changes,
            ACTION_TIMEOUTS => actions.timeouts,
            ACTION_AUTOMATIONS => actions.automations,
            ACTION_AUTOMATION_FAILURES => actions.automation_failures,
            ACTION_TELL_FAILURES => actions.tell_failures,
            ACTION_STATE_RECORDS => action_state.records,
            ACTION_STATE_ROWS => action_state.rows,
            ACTION_STATE_DEAD => action_state.dead,
            ACTION_STATE_LAG => action_state.lag,
            ACTION_STATE_CAUGHT_UP => action_state.caught_up,
            ACTION_STATE_READY => action_state.ready,
            STATE_RECORDS => state.records,
            STATE_ROWS => state.rows,
            STATE_DEAD => state.dead,
            STATE_LAG => state.lag,
            STATE_CAUGHT_UP => state.caught_up,
            STATE_READY => state.ready,
            TEMPLATE_RENDERED => templates.rendered,
            TEMPLATE_FAILED => templates.failed,
            TEMPLATE_SECONDS => templates.seconds,
            TEMPLATE_WAITING => templates.waiting,
            TEMPLATE_RELOADS => templates.reloads,
        }
        Self { registry, ..this }
    }
}

impl Metrics {
    /// Everything in the OpenMetrics text format.
    ///
    /// # Errors
    /// When the format cannot be written, which is a defect.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }

    /// What the spool counts.
    pub fn spool(self: &Arc<Self>) -> SpoolMetrics {
        SpoolMetrics(Arc::clone(self))
    }

    /// What the idempotency keys count.
    pub fn idempotency(self: &Arc<Self>) -> IdempotencyMetrics {
        IdempotencyMetrics(Arc::clone(self))
    }

    /// What organisations' actions count.
    pub fn actions(&self) -> ActionMetrics {
        self.actions.clone()
    }

    /// What the state of organisations' actions counts.
    pub fn action_state(&self) -> StateMetrics {
        self.action_state.clone()
    }

    /// What the state of the admin API counts.
    pub fn state(&self) -> StateMetrics {
        self.state.clone()
    }

    /// What reading counts.
    pub fn reads(&self) -> ReadMetrics {
        self.reads.clone()
    }

    /// What payload templates count.
    pub fn templates(&self) -> TemplateMetrics {
        self.templates.clone()
    }

    /// What waiting for replies counts.
    pub fn replies(&self) -> ReplyMetrics {
        self.replies.clone()
    }

    /// What handing events to handlers counts.
    pub fn sinks(&self) -> SinkMetrics {
        self.sinks.clone()
    }

    /// A record that no producer saw.
    pub fn refused(&self, class: ErrorClass) {
        self.refused
            .get_or_create(&RefusedLabels {
                outcome: class::row_of(class).code,
            })
            .inc();
    }

    /// Brings the gauges of topics up to date.
    pub fn loads(&self, loads: Loads) {
        self.topics.set(loads);
    }

    /// Files of a cluster changed, and this became of it.
    pub fn reloaded(&self, cluster: &str, result: Reload) {
        let result = match result {
            Reload::Applied => "applied",
            Reload::BadFiles => "bad_files",
            Reload::NotAccepted => "not_accepted",
        };
        let cluster = cluster.to_owned();
        self.reloads
            .get_or_create(&ReloadLabels { cluster, result })
            .inc();
    }

    /// Until when a cluster's certificates are good.
    pub fn certificates(&self, cluster: &str, expiry: Expiry) {
        for (store, ends) in [("keystore", expiry.keystore), ("truststore", expiry.truststore)] {
            let since = ends.and_then(|ends| ends.duration_since(SystemTime::UNIX_EPOCH).ok());
            let labels = StoreLabels {
                cluster: cluster.to_owned(),
                store,
            };
            match since {
                Some(since) => drop(self.expiry.get_or_create(&labels).set(since.as_secs_f64())),
                None => drop(self.expiry.remove(&labels)),
            }
        }
    }

    /// How many producers exist.
    pub fn producers(&self) -> &Gauge {
        &self.producers
    }

    /// What is counted of a listener: the connections that it has, and those that it turned away.
    pub fn listener(&self, listener: &'static str) -> (Gauge, Counter) {
        let labels = ListenerLabels { listener };
        let connections = self.connections.get_or_create(&labels).clone();
        (connections, self.turned_away.get_or_create(&labels).clone())
    }

    /// How many produce streams are open.
    pub fn streams(&self) -> &Gauge {
        &self.streams
    }

    /// Records that could not be flushed before the end.
    pub fn unflushed(&self, records: usize) {
        self.unflushed.inc_by(records as u64);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_metric_is_documented() {
        let docs = include_str!("../../docs/http-api.md");
        let names: Vec<&str> = include_str!("metrics/names.rs")
            .split('"')
            .filter(|text| text.starts_with("sluice_"))
            .collect();
        assert!(names.len() >= 10, "{names:?}");
        for name in names {
            assert!(
                docs.contains(&format!("`{name}")),
                "{name} is not in docs/http-api.md"
            );
        }
    }
}
