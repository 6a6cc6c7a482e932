//! What is counted by topic, under the entries of the allowlist.

use std::ptr;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use sluice_proto::class;

use super::{OutcomeLabels, ProducerMetrics, ShedLabels, TopicLabels};
use crate::kafka::record::Outcome;

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
    pub(super) topic: TopicLabels,
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
pub(super) fn label(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Stored { .. } => "stored",
        Outcome::Accepted => "accepted",
        Outcome::Failed(failure) => class::row_of(failure.class).code,
    }
}

impl ProducerMetrics {
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
