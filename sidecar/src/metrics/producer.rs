//! What producers count: those of all records, and those of callers.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::{ClusterLabels, Metrics, ProducerLabels, Reload, TroubleLabels};
use crate::kafka::trouble::Kind;

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
    pub(super) labels: ProducerLabels,
    pub(super) all: Arc<Metrics>,
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
}

impl Metrics {
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
}
