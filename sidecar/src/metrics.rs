//! What the sidecar counts, and its exposition.

mod load;
mod names;

use std::collections::BTreeMap;
use std::fmt;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use sluice_proto::class;
use sluice_proto::v1::ErrorClass;

use crate::config::Expiry;
use crate::kafka::record::Outcome;
use crate::kafka::trouble::Kind;
use crate::spool::Amount;

pub use self::load::{Load, Loads};

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
    reads: ReadMetrics,
}

/// What reading counts.
#[derive(Debug, Default, Clone)]
pub struct ReadMetrics {
    records: Counter,
    bytes: Counter,
    streams: Gauge,
    tails: Gauge,
}

impl ReadMetrics {
    /// Records that go to a reader.
    pub fn records(&self, records: &[Arc<crate::kafka::reader::Record>]) {
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

/// What the idempotency keys count.
#[derive(Default, Clone)]
struct IdempotencyFamilies {
    keys: Gauge,
    waiting: Gauge,
    replays: Counter,
    conflicts: Counter,
    unknown: Counter,
}

/// What the spool counts.
#[derive(Default, Clone)]
struct SpoolFamilies {
    records: Gauge,
    bytes: Gauge,
    oldest: Gauge<f64, AtomicU64>,
    dead_records: Gauge,
    dead_bytes: Gauge,
    dead: Family<DeadLabels, Counter>,
    letters_sent: Family<RefusedLabels, Counter>,
    following: Gauge,
    perhaps_twice: Counter,
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
            reads: ReadMetrics::default(),
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
            READ_STREAMS => reads.streams,
            READ_TAILS => reads.tails,
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

    /// What one producer counts.
    pub fn producer(self: &Arc<Self>, cluster: &str, producer: &str) -> ProducerMetrics {
        let labels = ProducerLabels {
            cluster: cluster.to_owned(),
            producer: producer.to_owned(),
        };
        ProducerMetrics {
            outstanding: self.outstanding.get_or_create_owned(&labels),
            outstanding_bytes: self.outstanding_bytes.get_or_create_owned(&labels),
            held: self.held.get_or_create_owned(&labels),
            up: self.up.get_or_create_owned(&labels),
            rebuilds: self.rebuilds.get_or_create_owned(&labels),
            labels,
            all: Arc::clone(self),
        }
    }

    /// What the producer of one caller counts: together with the others of its cluster and profile, but for the gauges,
    /// which [`Self::measure_callers`] sums up.
    pub fn caller(self: &Arc<Self>, cluster: &str, producer: &str) -> (ProducerMetrics, CallerGauges) {
        let gauges = CallerGauges::default();
        let labels = ProducerLabels {
            cluster: cluster.to_owned(),
            producer: producer.to_owned(),
        };
        let metrics = ProducerMetrics {
            outstanding: gauges.0.clone(),
            outstanding_bytes: gauges.1.clone(),
            held: gauges.2.clone(),
            up: Gauge::default(),
            rebuilds: self.rebuilds.get_or_create_owned(&labels),
            labels,
            all: Arc::clone(self),
        };
        (metrics, gauges)
    }

    /// How many callers of a cluster have producers.
    pub fn callers(&self, cluster: &str, count: usize) {
        let labels = ClusterLabels {
            cluster: cluster.to_owned(),
        };
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.callers.get_or_create(&labels).set(count);
    }

    /// The same for all clusters; those that are not named have none.
    pub fn count_callers(&self, counts: &BTreeMap<String, usize>) {
        self.callers.clear();
        for (cluster, count) in counts {
            self.callers(cluster, *count);
        }
    }

    /// Sets the gauges of clusters and profiles to the sums of their callers': outstanding records, their bytes, held ones.
    pub fn measure_callers(&self, sums: &BTreeMap<(&str, &str), [i64; 3]>) {
        for ((cluster, producer), [outstanding, bytes, held]) in sums {
            let labels = ProducerLabels {
                cluster: (*cluster).to_owned(),
                producer: (*producer).to_owned(),
            };
            self.outstanding.get_or_create(&labels).set(*outstanding);
            self.outstanding_bytes.get_or_create(&labels).set(*bytes);
            self.held.get_or_create(&labels).set(*held);
        }
    }

    /// What the spool counts.
    pub fn spool(self: &Arc<Self>) -> SpoolMetrics {
        SpoolMetrics(Arc::clone(self))
    }

    /// What the idempotency keys count.
    pub fn idempotency(self: &Arc<Self>) -> IdempotencyMetrics {
        IdempotencyMetrics(Arc::clone(self))
    }

    /// What reading counts.
    pub fn reads(&self) -> ReadMetrics {
        self.reads.clone()
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

/// What the spool counts.
#[derive(Debug, Clone)]
pub struct SpoolMetrics(Arc<Metrics>);

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

/// What the idempotency keys count.
#[derive(Debug, Clone)]
pub struct IdempotencyMetrics(Arc<Metrics>);

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

/// The gauges of one caller's producer, which are exposed as parts of sums only.
#[derive(Debug, Clone, Default)]
pub struct CallerGauges(Gauge, Gauge, Gauge);

impl CallerGauges {
    /// Outstanding records, their bytes, held ones.
    pub fn values(&self) -> [i64; 3] {
        [self.0.get(), self.1.get(), self.2.get()]
    }
}

/// What one producer counts.
pub struct ProducerMetrics {
    /// Records whose fate is not known yet.
    pub outstanding: Gauge,
    /// Their bytes.
    pub outstanding_bytes: Gauge,
    /// Records that wait in the sidecar's own queue.
    pub held: Gauge,
    /// Whether the cluster answers.
    pub up: Gauge,
    /// Replacements after fatal errors.
    pub rebuilds: Counter,
    labels: ProducerLabels,
    all: Arc<Metrics>,
}

impl ProducerMetrics {
    /// A connection to a broker failed.
    pub fn trouble(&self, kind: Kind) {
        let ProducerLabels { cluster, producer } = self.labels.clone();
        let labels = TroubleLabels {
            cluster,
            producer,
            reason: kind.label(),
        };
        self.all.connection_failures.get_or_create(&labels).inc();
    }

    /// Files of the cluster changed, and this became of it.
    pub fn reloaded(&self, result: Reload) {
        self.all.reloaded(&self.labels.cluster, result);
    }

    /// What is counted for the records under one entry of the allowlist.
    pub fn topic(&self, label: &str) -> TopicMetrics {
        let labels = TopicLabels {
            cluster: self.labels.cluster.clone(),
            topic: label.to_owned(),
        };
        let by_outcome = |family: &Family<OutcomeLabels, Counter>| ByOutcome {
            family: family.clone(),
            topic: labels.clone(),
            counters: Vec::new(),
        };
        TopicMetrics {
            bytes: self.all.bytes.get_or_create_owned(&labels),
            seconds: self.all.seconds.get_or_create_owned(&labels),
            records: by_outcome(&self.all.records),
            buffered_lost: by_outcome(&self.all.buffered_lost),
            leader_lost: self.all.leader_lost.get_or_create_owned(&labels),
            late: by_outcome(&self.all.late),
            shed: ByReason {
                family: self.all.shed.clone(),
                topic: labels.clone(),
                counters: Default::default(),
            },
        }
    }
}

/// What is counted for the records under one entry of the allowlist.
pub struct TopicMetrics {
    /// Bytes taken on.
    pub bytes: Counter,
    /// From taking on to telling the outcome.
    pub seconds: Histogram,
    /// By what became of them.
    pub records: ByOutcome,
    /// Accepted into memory and then not stored.
    pub buffered_lost: ByOutcome,
    /// Acknowledged by a leader whose successor does not have them.
    pub leader_lost: Counter,
    /// Known only after the deadline.
    pub late: ByOutcome,
    /// Refused for want of room.
    pub shed: ByReason,
}

/// Why there was no room for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shed {
    /// The producer has as many records, or bytes, as it may.
    Bound,
    /// Its topic has its share of those.
    TopicShare,
    /// It would wait too long for its acknowledgement.
    Queueing,
    /// The same, while other clients' would not.
    ClientShare,
    /// Nothing is acknowledged at all.
    Stuck,
}

impl Shed {
    /// The `reason` label.
    fn label(self) -> &'static str {
        match self {
            Self::Bound => "bound",
            Self::TopicShare => "topic_share",
            Self::Queueing => "queueing",
            Self::ClientShare => "client_share",
            Self::Stuck => "stuck",
        }
    }
}

/// A counter for each reason, looked up once.
pub struct ByReason {
    family: Family<ShedLabels, Counter>,
    topic: TopicLabels,
    counters: [Option<Counter>; 5],
}

impl ByReason {
    /// One more for that reason.
    pub fn count(&mut self, reason: Shed) {
        let Some(counter) = self.counters.get_mut(reason as usize) else {
            return;
        };
        let TopicLabels { cluster, topic } = &self.topic;
        let (family, label) = (&self.family, reason.label());
        let make = || {
            family.get_or_create_owned(&ShedLabels {
                cluster: cluster.clone(),
                topic: topic.clone(),
                reason: label,
            })
        };
        counter.get_or_insert_with(make).inc();
    }
}

/// A counter for each outcome, looked up once.
pub struct ByOutcome {
    family: Family<OutcomeLabels, Counter>,
    topic: TopicLabels,
    counters: Vec<(&'static str, Counter)>,
}

impl ByOutcome {
    /// One more with the outcome.
    pub fn count(&mut self, outcome: &Outcome) {
        let name = label(outcome);
        if let Some((_, counter)) = self
            .counters
            .iter()
            .find(|(known, _)| ptr::eq(known.as_ptr(), name.as_ptr()))
        {
            counter.inc();
            return;
        }
        let TopicLabels { cluster, topic } = self.topic.clone();
        let counter = self.family.get_or_create_owned(&OutcomeLabels {
            cluster,
            topic,
            outcome: name,
        });
        counter.inc();
        self.counters.push((name, counter));
    }
}

/// The `outcome` label.
fn label(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Stored { .. } => "stored",
        Outcome::Accepted => "accepted",
        Outcome::Failed(failure) => class::row_of(failure.class).code,
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
