//! What waiting for replies counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::TopicLabels;
use super::reads::Open;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutcomeLabels {
    cluster: String,
    topic: String,
    outcome: &'static str,
}

/// What a request that was written came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyOutcome {
    /// The reply.
    Answered,
    /// It was told where to ask for it.
    Pending,
    /// There was none in time.
    TimedOut,
    /// Its client left.
    Left,
}

impl ReplyOutcome {
    const ALL: [Self; 4] = [Self::Answered, Self::Pending, Self::TimedOut, Self::Left];

    fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Pending => "pending",
            Self::TimedOut => "timed_out",
            Self::Left => "left",
        }
    }
}

/// What waiting for replies counts.
#[derive(Debug, Default, Clone)]
pub struct ReplyMetrics {
    pub(super) waiting: Gauge,
    pub(super) requests: Family<OutcomeLabels, Counter>,
    pub(super) unclaimed: Family<TopicLabels, Counter>,
}

impl ReplyMetrics {
    /// Counts one that waits, until it is dropped.
    pub fn waiting(&self) -> Open {
        Open::new(&self.waiting)
    }

    /// What is counted of a reply topic.
    pub fn of(&self, cluster: &str, topic: &str) -> ReplyCounts {
        let outcomes = ReplyOutcome::ALL.map(|outcome| {
            let labels = OutcomeLabels {
                cluster: cluster.to_owned(),
                topic: topic.to_owned(),
                outcome: outcome.label(),
            };
            (outcome, self.requests.get_or_create(&labels).clone())
        });
        let labels = TopicLabels {
            cluster: cluster.to_owned(),
            topic: topic.to_owned(),
        };
        ReplyCounts {
            outcomes,
            unclaimed: self.unclaimed.get_or_create(&labels).clone(),
        }
    }
}

/// What is counted of one reply topic.
#[derive(Debug, Clone)]
pub struct ReplyCounts {
    outcomes: [(ReplyOutcome, Counter); 4],
    unclaimed: Counter,
}

impl ReplyCounts {
    /// A request came to that.
    pub fn outcome(&self, outcome: ReplyOutcome) {
        if let Some((_, counter)) = self.outcomes.iter().find(|(one, _)| *one == outcome) {
            counter.inc();
        }
    }

    /// So many replies came that nobody waits for here.
    pub fn unclaimed(&self, count: u64) {
        self.unclaimed.inc_by(count);
    }
}
