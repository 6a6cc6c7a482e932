//! What a subscription is: its source, its sink and its options, checked.
//!
//! A [`Spec`] is read from a mapping of the configuration (`subscriptions:`) and from the body of `POST /subscriptions` by the
//! same rules, and every problem is reported at once. `docs/subscriptions.md` documents every option as it is written.

mod options;
mod properties;
mod read;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

pub use self::properties::refuse as refuse_property;
pub use self::read::Scope;

/// A subscription that may be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Where its records are from.
    pub source: Source,
    /// Who takes them.
    pub sink: Sink,
    /// In which order, and how many at once.
    pub ordering: Ordering,
    /// How many requests may be with the handler at once (`concurrency`).
    pub concurrency: usize,
    /// How events are put together (`batch`); without it each goes by itself.
    pub batch: Option<Batch>,
    /// When an event is tried again.
    pub retry: Retry,
    /// What becomes of an event that cannot be delivered (`on_failure`).
    pub on_failure: OnFailure,
    /// When the target is left alone (`circuit_breaker`); none: never.
    pub circuit_breaker: Option<CircuitBreaker>,
    /// How fast events go to the target (`rate_limit`); none: as fast as it takes them.
    pub rate_limit: Option<RateLimit>,
    /// What may be in memory (`max_buffered_records`, `max_buffered_bytes`).
    pub buffer: Buffer,
    /// How many events may be kept in the held topic, retrying, waiting behind one that is, and parked (`max_held`).
    pub max_held: usize,
    /// For how long it is known that a workflow was started (`workflow_retention`).
    pub workflow_retention: Duration,
    /// Where the handler's answers go (`reply_topic`).
    pub reply_topic: Option<String>,
    /// The topics that a record may name to have the answer there (`reply_topics`).
    pub reply_topics: crate::config::TopicAllowlist,
    /// Whether nothing is to be delivered, by anybody (`paused`).
    pub paused: bool,
    /// librdkafka properties of the consumer, those only that a caller may set.
    pub properties: BTreeMap<String, String>,
    /// How events are made requests of, and sent.
    pub webhook: crate::subscriptions::sink::Options,
}

/// `kafka://<cluster>/<topic>`, several topics (`kafka://<cluster>/a,b`), or a pattern (`kafka://<cluster>/~orders\..*`).
#[derive(Debug, Clone, PartialEq)]
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
    /// Those whose whole name matches; the text as it was written, and what it means.
    Pattern(String, regex::Regex),
}

impl PartialEq for Topics {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Names(a), Self::Names(b)) => a == b,
            (Self::Pattern(a, _), Self::Pattern(b, _)) => a == b,
            _ => false,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kafka://{}/", self.cluster)?;
        match &self.topics {
            Topics::Names(names) => f.write_str(&names.join(",")),
            Topics::Pattern(text, _) => write!(f, "~{text}"),
        }
    }
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

impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { service, handler } => write!(f, "service://{service}/{handler}"),
            Self::Url(url) => f.write_str(url),
        }
    }
}

/// `ordering`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ordering {
    /// Records of a key one after the other; those of different keys side by side, and those without a key. The default.
    Key,
    /// Records of a partition one after the other.
    Partition,
    /// None.
    None,
}

/// `batch`: several events in one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// How many at most (`max_records`).
    pub max_records: usize,
    /// How long the first of them waits for the others (`max_wait`).
    pub max_wait: Duration,
}

/// `retry`: when an event is tried again.
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
        /// The topic (`dead_letter_topic`).
        topic: String,
    },
    /// It is counted and passed over.
    Skip,
    /// The subscription pauses, and says why.
    Pause,
}

/// `circuit_breaker`: a target that fails is left alone for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitBreaker {
    /// How many requests in a row must fail (`consecutive_failures`).
    pub failures: u32,
    /// For how long nothing is sent (`open_for`); one request is tried then.
    pub open_for: Duration,
    /// How long it takes until as many requests as ever are under way again (`slow_start`).
    pub slow_start: Duration,
}

/// `rate_limit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Events a second (`per_second`).
    pub per_second: u32,
    /// How many may go at once after a pause (`burst`).
    pub burst: u32,
}

/// What of a subscription may be in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffer {
    /// Records that are not finished.
    pub records: usize,
    /// Their bytes.
    pub bytes: usize,
}

impl Spec {
    /// Whether what the handler answers is wanted.
    pub fn replies(&self) -> bool {
        self.reply_topic.is_some() || !self.reply_topics.0.is_empty()
    }

    /// `group.id` of its consumer: the option, the cluster's property, or the subscription's id.
    pub fn group<'a>(&'a self, id: &'a str, cluster: &'a crate::config::Cluster) -> &'a str {
        let own = self.properties.get("group.id").map(String::as_str);
        let of_cluster = || {
            cluster
                .properties
                .get("group.id")
                .map(crate::config::Secret::expose)
        };
        own.or_else(of_cluster).unwrap_or(id)
    }

    /// Whether the cluster's `consumer.groups` allows its group, so far as that is known without its service: handlers that take
    /// one record of a key at a time are read by a group of theirs, unless one is named.
    ///
    /// # Errors
    /// It does not; the rule is named.
    pub fn check_group(&self, id: &str, cluster: &crate::config::Cluster) -> Result<(), String> {
        let is_named =
            self.properties.contains_key("group.id") || cluster.properties.contains_key("group.id");
        match self.sink {
            Sink::Service { .. } if !is_named => Ok(()),
            _ => cluster.may_use_group(&self.source.cluster, self.group(id, cluster)),
        }
    }
}
