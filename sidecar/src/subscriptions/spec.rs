//! What a subscription is: its source, its sink and its options, checked.
//!
//! A [`Spec`] is read from a mapping of the configuration (`subscriptions:`) and from the body of `POST /subscriptions` by the
//! same rules, and every problem is reported at once.

use std::collections::BTreeMap;
use std::time::Duration;

/// A subscription that may be run.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Where its records are from.
    pub source: Source,
    /// Who takes them.
    pub sink: Sink,
    /// In which order, and how many at once.
    pub ordering: Ordering,
    /// How many events may be with the handler at once (`concurrency`).
    pub concurrency: usize,
    /// When an event is tried again.
    pub retry: Retry,
    /// What becomes of an event that cannot be delivered (`on_failure`).
    pub on_failure: OnFailure,
    /// librdkafka properties of the consumer, those only that a caller may set.
    pub properties: BTreeMap<String, String>,
}

/// `kafka://<cluster>/<topic>`, several topics (`kafka://<cluster>/a,b`), or a pattern.
#[derive(Debug, Clone)]
pub struct Source {
    /// The sidecar's name of the cluster.
    pub cluster: String,
    /// Its topics.
    pub topics: Topics,
}

/// The topics of a [`Source`].
#[derive(Debug, Clone)]
pub enum Topics {
    /// These.
    Names(Vec<String>),
    /// Those whose whole name matches.
    Pattern(regex::Regex),
}

/// Who takes the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// `service://<service>/<handler>`: a handler of a service that was registered.
    Service {
        /// Its name.
        service: String,
        /// The handler's.
        handler: String,
    },
    /// `http(s)://…`: a webhook.
    Url(String),
}

/// `ordering`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ordering {
    /// Records of a key one after the other; those of different keys side by side. The default.
    Key,
    /// Records of a partition one after the other.
    Partition,
    /// None.
    None,
}

/// When an event is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// The first pause (`initial_interval`); each further one is twice the one before, with jitter.
    pub initial: Duration,
    /// The longest pause (`max_interval`).
    pub max: Duration,
    /// How often an event is tried in all (`max_attempts`); none: without end.
    pub attempts: Option<u32>,
    /// For how long (`max_elapsed`); none: without end.
    pub elapsed: Option<Duration>,
}

/// `on_failure`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnFailure {
    /// It is kept, listed, and tried again when somebody says so. The default.
    Park,
    /// It goes to a topic, with headers that say why and where it is from.
    DeadLetter {
        /// The topic.
        topic: String,
    },
    /// It is counted and passed over.
    Skip,
    /// The subscription pauses, and says why.
    Pause,
}
