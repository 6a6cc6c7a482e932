//! `options:` of a subscription. Names with a dot are librdkafka's, all others are ours.

use std::collections::BTreeMap;
use std::time::Duration;

use sluice_settings::Section;

use super::{
    Batch, Buffer, CircuitBreaker, OnFailure, Ordering, RateLimit, Retry, Sink, Source, Spec, properties,
};
use crate::config::{Cluster, TopicAllowlist, check_topic, clusters::allowlist};
use crate::subscriptions::sink::{self, Secrets};

/// The longest time that anything may be set to.
const LONGEST_MS: i64 = 366 * 24 * 3_600_000;
const DAY_MS: i64 = 24 * 3_600_000;
const INTERVAL: Duration = Duration::from_millis(500);
const MAX_INTERVAL: Duration = Duration::from_secs(300);
const CONCURRENCY: i64 = 16;
/// The most requests that may be under way.
const MAX_CONCURRENCY: i64 = 10_000;
const BUFFERED_RECORDS: i64 = 10_000;
const BUFFERED_BYTES: i64 = 64 << 20;
const HELD: i64 = 100_000;
const RETENTION: Duration = Duration::from_secs(24 * 3600);
const BREAKER: CircuitBreaker = CircuitBreaker {
    failures: 20,
    open_for: Duration::from_secs(10),
    slow_start: Duration::from_secs(10),
};

const ORDERINGS: &[(&str, Ordering)] = &[
    ("key", Ordering::Key),
    ("partition", Ordering::Partition),
    ("none", Ordering::None),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failing {
    Park,
    DeadLetter,
    Skip,
    Pause,
}

const FAILING: &[(&str, Failing)] = &[
    ("park", Failing::Park),
    ("dead_letter", Failing::DeadLetter),
    ("skip", Failing::Skip),
    ("pause", Failing::Pause),
];

/// Everything of a [`Spec`] but its source and sink.
pub(super) struct Options {
    ordering: Ordering,
    concurrency: usize,
    batch: Option<Batch>,
    retry: Retry,
    on_failure: OnFailure,
    circuit_breaker: Option<CircuitBreaker>,
    rate_limit: Option<RateLimit>,
    buffer: Buffer,
    max_held: usize,
    workflow_retention: Duration,
    reply_topic: Option<String>,
    reply_topics: TopicAllowlist,
    paused: bool,
    properties: BTreeMap<String, String>,
    webhook: sink::Options,
}

impl Options {
    /// The topics that the subscription writes, of which none may be its own source.
    pub(super) fn writes(&self) -> impl Iterator<Item = &str> {
        let dead = match &self.on_failure {
            OnFailure::DeadLetter { topic } => Some(topic),
            OnFailure::Park | OnFailure::Skip | OnFailure::Pause => None,
        };
        let named = self.reply_topics.0.iter().filter(|entry| !entry.ends_with('*'));
        dead.into_iter()
            .chain(&self.reply_topic)
            .chain(named)
            .map(String::as_str)
    }

    pub(super) fn into_spec(self, source: Source, sink: Sink) -> Spec {
        Spec {
            source,
            sink,
            ordering: self.ordering,
            concurrency: self.concurrency,
            batch: self.batch,
            retry: self.retry,
            on_failure: self.on_failure,
            circuit_breaker: self.circuit_breaker,
            rate_limit: self.rate_limit,
            buffer: self.buffer,
            max_held: self.max_held,
            workflow_retention: self.workflow_retention,
            reply_topic: self.reply_topic,
            reply_topics: self.reply_topics,
            paused: self.paused,
            properties: self.properties,
            webhook: self.webhook,
        }
    }
}

/// Reads `options` of `of`. Topics that are written must be among those that `cluster` allows.
pub(super) fn read(of: &Section<'_>, cluster: Option<&Cluster>, secrets: &dyn Secrets) -> Options {
    let empty = serde_json::Value::Null;
    let problems = sluice_settings::Problems::default();
    let section = of
        .section("options")
        .unwrap_or_else(|| Section::at(&empty, String::new(), &problems));
    let ordering = section.choice("ordering", ORDERINGS).unwrap_or(Ordering::Key);
    let count = |key: &str, range, default: i64| {
        let n = section.integer(key, range).unwrap_or(default);
        usize::try_from(n).unwrap_or_default()
    };
    let concurrency = count("concurrency", 1..=MAX_CONCURRENCY, CONCURRENCY);
    let buffer = Buffer {
        records: count("max_buffered_records", 1..=1_000_000, BUFFERED_RECORDS),
        bytes: count("max_buffered_bytes", 1024..=1 << 34, BUFFERED_BYTES),
    };
    let max_held = count("max_held", 0..=10_000_000, HELD);
    let workflow_retention = section
        .millis("workflow_retention", 1000..=LONGEST_MS)
        .unwrap_or(RETENTION);
    let batch = section
        .section("batch")
        .and_then(|batch| self::batch(batch, buffer));
    let retry = self::retry(section.section("retry"));
    let on_failure = on_failure(&section, cluster);
    let circuit_breaker = circuit_breaker(&section);
    let rate_limit = section.section("rate_limit").and_then(rate_limit);
    let reply_topic = written(&section, "reply_topic", cluster);
    let reply_topics = reply_topics(&section, cluster);
    for key in ["reply_topic", "reply_topics"] {
        if section.raw(key).is_some() && batch.is_some() {
            section.problem(
                key,
                "cannot be with `batch`: which of a batch's events would an answer be of?",
            );
        }
    }
    let paused = section.bool("paused").unwrap_or_default();
    let properties = librdkafka(&section);
    let webhook = sink::Options::read(&section, secrets);
    if !webhook.reading.replies.is_empty() && reply_topic.is_none() && reply_topics.0.is_empty() {
        section.problem(
            "reply_statuses",
            "means nothing without `reply_topic` or `reply_topics`",
        );
    }
    section.finish();
    Options {
        ordering,
        concurrency,
        batch,
        retry,
        on_failure,
        circuit_breaker,
        rate_limit,
        buffer,
        max_held,
        workflow_retention,
        reply_topic,
        reply_topics,
        paused,
        properties,
        webhook,
    }
}

fn batch(section: Section<'_>, buffer: Buffer) -> Option<Batch> {
    let max_records = section.integer("max_records", 1..=10_000);
    if section.raw("max_records").is_none() {
        section.problem("max_records", "is required, as 100");
    }
    let max_wait = section.millis("max_wait", 0..=3_600_000);
    let max_records = usize::try_from(max_records.unwrap_or(1)).unwrap_or_default();
    if max_records > buffer.records {
        section.problem(
            "max_records",
            format!(
                "is more than max_buffered_records, {}: no batch would ever be full",
                buffer.records
            ),
        );
    }
    section.finish();
    Some(Batch {
        max_records,
        max_wait: max_wait.unwrap_or(Duration::from_millis(100)),
    })
}

fn retry(section: Option<Section<'_>>) -> Retry {
    let mut retry = Retry {
        initial: INTERVAL,
        max: MAX_INTERVAL,
        attempts: None,
        elapsed: None,
    };
    let Some(section) = section else {
        return retry;
    };
    if let Some(initial) = section.millis("initial_interval", 1..=DAY_MS) {
        retry.initial = initial;
        retry.max = retry.max.max(initial);
    }
    if let Some(max) = section.millis("max_interval", 1..=DAY_MS) {
        if max < retry.initial {
            section.problem(
                "max_interval",
                format!(
                    "must not be less than initial_interval, {} ms",
                    retry.initial.as_millis()
                ),
            );
        }
        retry.max = max;
    }
    let attempts = section.integer("max_attempts", 1..=i64::from(u32::MAX));
    retry.attempts = attempts.and_then(|n| u32::try_from(n).ok());
    retry.elapsed = section.millis("max_elapsed", 1..=LONGEST_MS);
    section.finish();
    retry
}

fn on_failure(section: &Section<'_>, cluster: Option<&Cluster>) -> OnFailure {
    let chosen = section.choice("on_failure", FAILING).unwrap_or(Failing::Park);
    let topic = written(section, "dead_letter_topic", cluster);
    match (chosen, topic) {
        (Failing::DeadLetter, Some(topic)) => OnFailure::DeadLetter { topic },
        (Failing::DeadLetter, None) => {
            if section.raw("dead_letter_topic").is_none() {
                section.problem("dead_letter_topic", "is required with `on_failure: dead_letter`");
            }
            OnFailure::Park
        }
        (other, topic) => {
            if topic.is_some() {
                section.problem(
                    "dead_letter_topic",
                    "means nothing without `on_failure: dead_letter`",
                );
            }
            match other {
                Failing::Skip => OnFailure::Skip,
                Failing::Pause => OnFailure::Pause,
                Failing::Park | Failing::DeadLetter => OnFailure::Park,
            }
        }
    }
}

/// The topics of the source's cluster that a record may name.
fn reply_topics(section: &Section<'_>, cluster: Option<&Cluster>) -> TopicAllowlist {
    let topics = allowlist(section, "reply_topics");
    for (i, entry) in topics.0.iter().enumerate() {
        // Of those that begin so, each is looked at when it is named.
        if let Some(cluster) = cluster.filter(|_| !entry.ends_with('*')) {
            may_be_written(section, &format!("reply_topics[{i}]"), cluster, entry);
        }
    }
    topics
}

/// A topic of the source's cluster that the subscription writes.
fn written(section: &Section<'_>, key: &str, cluster: Option<&Cluster>) -> Option<String> {
    let topic = section.name(key)?;
    if let Err(why) = check_topic(&topic) {
        section.problem(key, why);
    } else if let Some(cluster) = cluster {
        may_be_written(section, key, cluster, &topic);
    }
    Some(topic)
}

fn may_be_written(section: &Section<'_>, key: &str, cluster: &Cluster, topic: &str) {
    if !cluster.produces {
        section.problem(key, "cannot be written: the cluster's producer.enabled is false");
    } else if !cluster.allowed_topics.allows(topic) {
        section.problem(key, format!("{topic:?} is not in the cluster's allowed_topics"));
    }
}

fn circuit_breaker(section: &Section<'_>) -> Option<CircuitBreaker> {
    let Some(section) = section.section("circuit_breaker") else {
        return Some(BREAKER);
    };
    let failures = section.integer("consecutive_failures", 0..=1_000_000);
    let open_for = section.millis("open_for", 1..=DAY_MS);
    let slow_start = section.millis("slow_start", 0..=DAY_MS);
    section.finish();
    let failures = failures.map_or(BREAKER.failures, |n| u32::try_from(n).unwrap_or(u32::MAX));
    (failures > 0).then(|| CircuitBreaker {
        failures,
        open_for: open_for.unwrap_or(BREAKER.open_for),
        slow_start: slow_start.unwrap_or(BREAKER.slow_start),
    })
}

fn rate_limit(section: Section<'_>) -> Option<RateLimit> {
    let per_second = section.integer("per_second", 1..=1_000_000);
    if section.raw("per_second").is_none() {
        section.problem("per_second", "is required, as 100");
    }
    let burst = section.integer("burst", 1..=1_000_000);
    section.finish();
    let per_second = u32::try_from(per_second?).unwrap_or(u32::MAX);
    Some(RateLimit {
        per_second,
        burst: burst.map_or(per_second, |n| u32::try_from(n).unwrap_or(u32::MAX)),
    })
}

fn librdkafka(section: &Section<'_>) -> BTreeMap<String, String> {
    let mut set = BTreeMap::new();
    for name in section.keys().filter(|name| name.contains('.')) {
        let value = match section.raw(name) {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(value @ (serde_json::Value::Bool(_) | serde_json::Value::Number(_))) => value.to_string(),
            _ => {
                section.problem(name, "must be a string, number or boolean");
                continue;
            }
        };
        if let Some(why) = properties::refuse(name, &value) {
            section.problem(name, why);
            continue;
        }
        let canonical = crate::kafka::properties::canonical(name).to_owned();
        if set.insert(canonical, value).is_some() {
            section.problem(name, "is set twice, by another of its names");
        }
    }
    set
}
