//! How others watch and steer the subscriptions that run: what there should be, what there is, and orders.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::spec::Spec;
use crate::config::{Cluster, Config};

/// What should run. Whoever decides that sends a new one whenever it changes.
#[derive(Debug, Clone, Default)]
pub struct Desired {
    /// The subscriptions by their ids. One that is another `Arc` and says the same is left alone.
    pub subscriptions: BTreeMap<Arc<str>, Arc<Spec>>,
    /// The clusters by their names.
    pub clusters: BTreeMap<String, Arc<Cluster>>,
    /// By a subscription's id, how the handler of a service is called that it is for; or why it cannot be.
    pub called: BTreeMap<Arc<str>, Result<Called, String>>,
}

/// How a handler of a service is called. A subscription whose handler is called otherwise now is started again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    /// Where the service is.
    pub uri: String,
    /// Whether the handler takes any bytes.
    pub raw: bool,
    /// Whether the record's key is an object's.
    pub keyed: bool,
    /// Whether it starts a workflow, which one event of a key does.
    pub once: bool,
    /// Those that are called for one record of a key at a time; none: this one is not.
    pub together: Option<Arc<Together>>,
}

/// The subscriptions of a service's exclusive handlers, which are read together: one record of a key is with any of them at a
/// time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Together {
    /// The service.
    pub service: String,
    /// The cluster of all of their sources.
    pub cluster: String,
    /// Their consumer group.
    pub group: String,
    /// By a subscription's id, its topics.
    pub members: BTreeMap<Arc<str>, Vec<String>>,
    /// librdkafka properties, of all of them.
    pub properties: BTreeMap<String, String>,
}

impl Together {
    /// All of their topics, each once and in order.
    pub fn topics(&self) -> Vec<String> {
        let all: std::collections::BTreeSet<&String> = self.members.values().flatten().collect();
        all.into_iter().cloned().collect()
    }
}

impl Desired {
    /// What a configuration says.
    pub fn of(config: &Config) -> Self {
        let subscriptions = config.subscriptions.iter();
        let clusters = config.clusters.iter();
        Self {
            subscriptions: subscriptions
                .map(|(id, spec)| (Arc::from(id.as_str()), Arc::clone(spec)))
                .collect(),
            clusters: clusters
                .map(|(name, cluster)| (name.clone(), Arc::new(cluster.clone())))
                .collect(),
            called: BTreeMap::new(),
        }
    }

    /// A cluster has other certificates or secrets now. Whether that changes anything.
    pub fn renew(&mut self, name: &str, cluster: &Cluster) -> bool {
        match self.clusters.get_mut(name) {
            Some(known) if !known.connects_like(cluster) => {
                *known = Arc::new(cluster.clone());
                true
            }
            _ => false,
        }
    }
}

/// What a subscription is doing in this sidecar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum State {
    /// It connects and joins its group.
    Starting,
    /// It delivers.
    Running,
    /// It delivers nothing, since somebody or its `on_failure` said so.
    Paused {
        /// Who or what paused it.
        reason: String,
    },
    /// It ended with an error, and is started again by itself.
    Failed {
        /// What went wrong.
        error: String,
        /// In how many milliseconds it is started again.
        retry_in_ms: u64,
    },
    /// It finishes what is under way, and ends.
    Stopping,
}

/// The circuit breaker of its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Circuit {
    /// The target is taken to be well.
    Closed,
    /// Nothing is sent.
    Open,
    /// One request is tried.
    HalfOpen,
    /// It was well again a moment ago: fewer requests at once than ever.
    SlowStart,
}

/// A partition that this sidecar has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Up to where everything is finished: what is committed next.
    pub position: Option<i64>,
    /// What is committed, as far as this sidecar committed it.
    pub committed: Option<i64>,
    /// The offset that the next record will have, as it was last heard.
    pub end: Option<i64>,
    /// How many offsets are between `position` and `end`.
    pub lag: Option<i64>,
    /// Records of it that are in memory and not finished.
    pub buffered: usize,
    /// Whether no more are read for now, since as many are in memory as may be.
    pub paused: bool,
}

/// Something that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// What, for people.
    pub error: String,
    /// The event that it was about, if it was about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
}

/// How a subscription is, in this sidecar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// What it is doing.
    #[serde(flatten)]
    pub state: State,
    /// Its consumer group.
    pub group: String,
    /// The partitions that it has here.
    pub partitions: Vec<Partition>,
    /// Requests that are with the handler.
    pub in_flight: usize,
    /// Events that are to be tried again.
    pub retrying: usize,
    /// Events in the held topic that wait behind one of their key that is to be tried again.
    pub waiting: usize,
    /// Events that are parked, of the partitions that it has here.
    pub parked: usize,
    /// Events that were skipped since another one had started the workflow of their key, since this sidecar began.
    pub already_started: u64,
    /// Its target's circuit breaker; none where there is none.
    pub circuit: Option<Circuit>,
    /// What went wrong last.
    pub last_error: Option<Trouble>,
    /// How often its task ended with an error and was started again.
    pub restarts: u64,
}

/// A position to go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum To {
    /// The first record that is there.
    Earliest,
    /// What is written from now on.
    Latest,
    /// This offset.
    Offset(i64),
    /// The first record that is not older than this, in milliseconds since 1970.
    Timestamp(i64),
}

/// Some of a subscription's partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// Of this topic only.
    pub topic: Option<String>,
    /// This partition only.
    pub partition: Option<i32>,
}

impl Selection {
    /// Whether it has this partition.
    pub fn has(&self, topic: &str, partition: i32) -> bool {
        self.topic.as_deref().is_none_or(|own| own == topic)
            && self.partition.is_none_or(|own| own == partition)
    }
}

/// Some of the events that are parked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// These, by their ids; all of them without.
    pub ids: Option<Vec<String>>,
}

/// What a running subscription can be told to do. All of it is about this sidecar, and the partitions that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Deliver nothing more, until [`Order::Resume`] or the subscription's end. What should last, and hold for every sidecar,
    /// is [`Spec::paused`].
    Pause,
    /// Deliver again, whatever paused it but [`Spec::paused`].
    Resume,
    /// Go on elsewhere. What is under way is finished first, and the new position is committed. Events that are held stay so.
    Seek {
        /// The partitions.
        partitions: Selection,
        /// Where to.
        to: To,
    },
    /// Deliver a range of offsets of a partition again, beside what else is delivered, and without moving the position.
    Replay {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The first offset.
        from: i64,
        /// The offset after the last one.
        to: i64,
    },
    /// Hand one record over, once, and say what came of it: nothing is retried, parked or committed.
    Test {
        /// The topic, partition and offset; the newest record of the source without.
        record: Option<(String, i32, i64)>,
    },
    /// List what is parked, oldest first.
    ListParked {
        /// How many at most.
        limit: usize,
    },
    /// Try parked events again, now. They have no place in the order of their keys any more.
    RetryParked(Events),
    /// Forget parked events.
    DropParked(Events),
}

/// An event that is parked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Parked {
    /// Its id.
    pub event: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it failed first, in milliseconds since 1970.
    pub first_failed_ms: i64,
    /// Why it is parked.
    pub error: String,
    /// The handler's last status, where there was one.
    pub status: Option<u16>,
    /// The record's key.
    #[serde(skip)]
    pub key: Option<Bytes>,
    /// The record's value.
    #[serde(skip)]
    pub value: Option<Bytes>,
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// It is done.
    Done,
    /// These partitions have gone elsewhere.
    Sought(Vec<(String, i32, i64)>),
    /// It has begun: so many offsets are delivered again.
    Replaying(i64),
    /// The handler took it, or not.
    Tested {
        /// The event.
        event: String,
        /// Whether it took it.
        delivered: bool,
        /// What the handler said against it.
        error: Option<String>,
        /// The handler's status, where it was not taken and there was one.
        status: Option<u16>,
    },
    /// What is parked.
    Parked(Vec<Parked>),
    /// So many events were concerned.
    Events(usize),
}

/// Why an order was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such subscription here.
    #[error("no subscription has the id {0:?}")]
    Unknown(String),
    /// It does not run now, so that it cannot be told anything.
    #[error("the subscription is not running: {0}")]
    NotRunning(String),
    /// The order cannot be carried out.
    #[error("{0}")]
    Invalid(String),
    /// Kafka did not answer, or not in time.
    #[error("{0}")]
    Unavailable(String),
}
