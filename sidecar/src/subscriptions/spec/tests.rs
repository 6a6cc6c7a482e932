use serde_json::{Value, json};
use sluice_settings::{Problems, Section};

use super::*;
use crate::config::{Callers, Cluster, TopicAllowlist};
use crate::subscriptions::sink;

fn read(tree: &Value) -> Result<Spec, Vec<String>> {
    let cluster = Cluster {
        allowed_topics: TopicAllowlist(vec![
            "dead.*".to_owned(),
            "replies".to_owned(),
            "orders".to_owned(),
        ]),
        ..Cluster::default()
    };
    let clusters = BTreeMap::from([
        ("main".to_owned(), cluster.clone()),
        (
            "callers".to_owned(),
            Cluster {
                callers: Some(Callers { max: 1 }),
                ..cluster.clone()
            },
        ),
        (
            "writes".to_owned(),
            Cluster {
                consumes: false,
                ..cluster
            },
        ),
    ]);
    let problems = Problems::default();
    let scope = Scope {
        clusters: &clusters,
        held_topic: "__held",
        secrets: &crate::subscriptions::sink::Inline(&problems),
    };
    let spec = Spec::read(Section::root(tree, &problems), &["id"], scope);
    let problems: Vec<String> = problems.into_vec().iter().map(ToString::to_string).collect();
    match spec {
        Some(spec) if problems.is_empty() => Ok(spec),
        _ => Err(problems),
    }
}

/// One with the defaults.
pub(crate) fn spec() -> Spec {
    with(json!({})).unwrap()
}

fn with(options: Value) -> Result<Spec, Vec<String>> {
    read(&json!({"source": "kafka://main/orders", "sink": "http://h/x", "options": options}))
}

#[test]
fn what_is_not_said_has_a_default() {
    let spec = read(&json!({"source": "kafka://main/orders", "sink": "service://Counter/add"})).unwrap();
    assert_eq!(spec.source.to_string(), "kafka://main/orders");
    assert_eq!(spec.sink.to_string(), "service://Counter/add");
    assert_eq!((spec.ordering, spec.concurrency), (Ordering::Key, 16));
    assert_eq!(spec.on_failure, OnFailure::Park);
    assert_eq!(spec.retry.attempts, None);
    assert!(spec.circuit_breaker.is_some() && spec.rate_limit.is_none() && !spec.paused);
    assert_eq!(spec.group("sub_1", &Cluster::default()), "sub_1");
}

#[test]
fn every_option_is_read() {
    let spec = with(json!({
        "ordering": "partition", "concurrency": 3,
        "retry": {"initial_interval": "1s", "max_interval": "1m", "max_attempts": 4, "max_elapsed": "1h"},
        "on_failure": "dead_letter", "dead_letter_topic": "dead.orders",
        "circuit_breaker": {"consecutive_failures": 2, "open_for": "3s", "slow_start": "4s"},
        "rate_limit": {"per_second": 10, "burst": 20},
        "max_buffered_records": 7, "max_buffered_bytes": 2048, "max_held": 9,
        "reply_topic": "replies", "reply_topics": ["replies", "b.*"], "reply_statuses": [404], "paused": true,
        "group.id": "g", "auto.offset.reset": "earliest", "fetch.message.max.bytes": 4096,
    }))
    .unwrap();
    assert_eq!((spec.ordering, spec.concurrency), (Ordering::Partition, 3));
    assert_eq!(spec.batch, None);
    let batch = with(json!({"batch": {"max_records": 5, "max_wait": "2s"}}))
        .unwrap()
        .batch;
    let max_wait = Duration::from_secs(2);
    assert_eq!(
        batch,
        Some(Batch {
            max_records: 5,
            max_wait
        })
    );
    let retry = Retry {
        initial: Duration::from_secs(1),
        max: Duration::from_secs(60),
        attempts: Some(4),
        elapsed: Some(Duration::from_secs(3600)),
    };
    assert_eq!(spec.retry, retry);
    let topic = "dead.orders".to_owned();
    assert_eq!(spec.on_failure, OnFailure::DeadLetter { topic });
    let breaker = CircuitBreaker {
        failures: 2,
        open_for: Duration::from_secs(3),
        slow_start: Duration::from_secs(4),
    };
    assert_eq!(spec.circuit_breaker, Some(breaker));
    assert_eq!(
        spec.rate_limit,
        Some(RateLimit {
            per_second: 10,
            burst: 20
        })
    );
    assert_eq!(
        spec.buffer,
        Buffer {
            records: 7,
            bytes: 2048
        }
    );
    assert_eq!((spec.max_held, spec.paused), (9, true));
    assert_eq!(spec.reply_topic.as_deref(), Some("replies"));
    assert!(spec.reply_topics.allows("replies") && spec.reply_topics.allows("b.x"));
    assert!(!spec.reply_topics.allows("orders"));
    assert_eq!(spec.webhook.reading.replies, [sink::Statuses::One(404)]);
    assert_eq!(spec.group("sub_1", &Cluster::default()), "g");
    assert_eq!(spec.properties["max.partition.fetch.bytes"], "4096");
}

#[test]
fn several_topics_and_patterns() {
    let of = |source: &str| {
        read(&json!({"source": source, "sink": "http://h"}))
            .unwrap()
            .source
    };
    assert!(of("kafka://main/~.*").has("held") && !of("kafka://main/~.*").has("__held"));
    let source = of("kafka://main/a,b");
    assert!(source.has("a") && source.has("b") && !source.has("c"));
    let source = of("kafka://main/~a|b.*");
    assert!(source.has("a") && source.has("bc") && !source.has("ab"));
    assert_eq!(source.to_string(), "kafka://main/~a|b.*");
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let problems = read(&json!({"source": "kafka://other/orders", "sink": "ftp://h", "x": 1})).unwrap_err();
    assert_eq!(
        problems,
        [
            "source: no cluster is named \"other\"",
            "sink: must be http://…, https://… or service://<service>/<handler>",
            "x: unknown field"
        ]
    );
    assert_eq!(read(&json!({})).unwrap_err().len(), 2);
    for (source, part) in [
        ("orders", "must be kafka://<cluster>/<topic>"),
        ("kafka://main/", "topic \"\""),
        ("kafka://main/a,a", "twice"),
        ("kafka://main/~(?=a)", "a lookahead"),
        ("kafka://main/__held", "cannot be a source"),
        ("kafka://callers/a", "callers' own tokens"),
        ("kafka://writes/a", "consumer.enabled is false"),
    ] {
        let problems = read(&json!({"source": source, "sink": "http://h"})).unwrap_err();
        assert!(
            problems.len() == 1 && problems[0].contains(part),
            "{source}: {problems:?}"
        );
    }
}

#[test]
fn options_that_cannot_be() {
    for (options, part) in [
        (json!({"ordering": "keys"}), "must be one of key, partition, none"),
        (json!({"concurrency": 0}), "from 1 to 10000"),
        (json!({"batch": {}}), "options.batch.max_records: is required"),
        (
            json!({"batch": {"max_records": 8}, "max_buffered_records": 7}),
            "no batch would ever be full",
        ),
        (
            json!({"retry": {"initial_interval": "2s", "max_interval": "1s"}}),
            "must not be less than initial_interval, 2000 ms",
        ),
        (
            json!({"on_failure": "dead_letter"}),
            "options.dead_letter_topic: is required",
        ),
        (json!({"dead_letter_topic": "dead.x"}), "means nothing without"),
        (
            json!({"reply_topic": "audit"}),
            "\"audit\" is not in the cluster's allowed_topics",
        ),
        (json!({"reply_topic": "orders"}), "it would never end"),
        (
            json!({"reply_topic": "orders", "on_failure": "dead_letter", "dead_letter_topic": "dead.orders"}),
            "it would never end",
        ),
        (json!({"reply_topics": ["orders"]}), "it would never end"),
        (
            json!({"reply_topics": ["replies", "audit"]}),
            "options.reply_topics[1]: \"audit\" is not in the cluster's allowed_topics",
        ),
        (
            json!({"reply_topics": ["replies"], "batch": {"max_records": 2}}),
            "which of a batch's events",
        ),
        (
            json!({"reply_statuses": ["4xx"]}),
            "means nothing without `reply_topic`",
        ),
        (
            json!({"reply_topic": "replies", "batch": {"max_records": 2}}),
            "which of a batch's events",
        ),
        (
            json!({"rate_limit": {}}),
            "options.rate_limit.per_second: is required",
        ),
        (json!({"group.id": ""}), "1 to 249"),
        (json!({"enable.auto.commit": true}), "Sluice commits by itself"),
        (
            json!({"ssl.ca.location": "/etc/passwd"}),
            "may not be set by a subscription",
        ),
        (
            json!({"plugin.library.paths": "x"}),
            "may not be set by a subscription",
        ),
        (json!({"bootstrap.servers": "x:1"}), "belongs to the cluster"),
        (json!({"isolation.level": "none"}), "librdkafka refuses it"),
        (json!({"unheard": 1}), "unknown field"),
    ] {
        let problems = with(options.clone()).unwrap_err();
        assert!(
            problems.len() == 1 && problems[0].contains(part),
            "{options}: {problems:?}"
        );
    }
}
