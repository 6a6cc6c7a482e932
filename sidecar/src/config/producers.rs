//! `producers:`, the profiles. Kong's settings keep their names, units and meaning; each stands for a property of
//! librdkafka, and its bounds are that property's.

use std::collections::BTreeMap;
use std::time::Duration;

use sluice_settings::Section;

use super::properties::{Owner, Properties};
use super::read::Context;
use super::{Acks, Profile, Secret};

/// librdkafka's own bound (`queue.buffering.max.messages`).
const DEFAULT_MAX_RECORDS: usize = 100_000;
/// Far below librdkafka's 1 GiB: the sidecar shares a pod.
const DEFAULT_MAX_BYTES: usize = 64 * 1024 * 1024;
/// As long as a person waits without noticing.
const DEFAULT_QUEUEING: Duration = Duration::from_millis(500);
const MAX_QUEUEING_MS: i64 = 3_600_000;
const MAX_RECORDS: i64 = 10_000_000;
const INT_MAX: i64 = 2_147_483_647;
/// More than this in flight per connection, and librdkafka refuses idempotence.
const MAX_IN_FLIGHT: i64 = 5;

/// Settings in milliseconds: the key, its bounds, and the properties that it stands for. Kong's back-off does not
/// grow, so that it is librdkafka's first one and its longest one.
const TIMES: &[(&str, i64, i64, &[&str])] = &[
    ("producer_request_timeout", 1, 900_000, &["request.timeout.ms"]),
    (
        "producer_request_retries_backoff_timeout",
        1,
        300_000,
        &["retry.backoff.ms", "retry.backoff.max.ms"],
    ),
    ("producer_async_flush_timeout", 0, 900_000, &["linger.ms"]),
    ("timeout", 10, 300_000, &["socket.timeout.ms"]),
    ("keepalive", 0, INT_MAX, &["connections.max.idle.ms"]),
];

/// Settings that are counts or bytes.
const NUMBERS: &[(&str, i64, i64, &str)] = &[
    ("producer_request_acks", -1, 1, "acks"),
    (
        "producer_request_limits_messages_per_request",
        1,
        1_000_000,
        "batch.num.messages",
    ),
    (
        "producer_request_limits_bytes_per_request",
        1,
        INT_MAX,
        "batch.size",
    ),
    ("producer_request_retries_max_attempts", 0, INT_MAX, "retries"),
];

/// Kong's settings that are not a profile's, and where they go.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        "producer_async",
        "goes to the filter, which asks for it record by record: `producer_async` or `delivery`",
    ),
    ("bootstrap_servers", "goes to a cluster in `clusters`"),
    ("security", "goes to a cluster in `clusters`"),
    ("authentication", "goes to a cluster in `clusters`"),
    (
        "cluster_name",
        "goes to the filter: any profile serves any cluster",
    ),
    (
        "keepalive_enabled",
        "connections are always kept; `keepalive` says how long idle ones are",
    ),
];

const CODECS: &[(&str, &str)] = &[
    ("none", "none"),
    ("gzip", "gzip"),
    ("snappy", "snappy"),
    ("lz4", "lz4"),
    ("zstd", "zstd"),
];

/// The profile of a configuration that has none.
pub(super) fn default_profile() -> Profile {
    let set = |name: &str, value: &str| (name.to_owned(), Secret::new(value));
    Profile {
        acks: Some(Acks::All),
        idempotent: true,
        properties: BTreeMap::from([set("acks", "-1"), set("enable.idempotence", "true")]),
        max_records: DEFAULT_MAX_RECORDS,
        max_bytes: DEFAULT_MAX_BYTES,
        max_queueing_time: DEFAULT_QUEUEING,
        allow_auto_create_topics: false,
    }
}

pub(super) fn read(section: Section<'_>, context: &Context<'_>) -> Profile {
    for (key, place) in ELSEWHERE {
        section.refuse(key, place);
    }
    let mut properties = Properties::new(Owner::Profile);
    for (key, low, high, name) in NUMBERS {
        if let Some(n) = section.integer(key, *low..=*high) {
            properties.set(&section, key, name, n.to_string());
        }
    }
    for (key, low, high, names) in TIMES {
        if let Some(time) = section.millis(key, *low..=*high) {
            for name in *names {
                properties.set(&section, key, name, time.as_millis().to_string());
            }
        }
    }
    if let Some(codec) = section.choice("compression", CODECS) {
        properties.set(&section, "compression", "compression.type", codec.to_owned());
    }
    let records = section.integer(
        "producer_async_buffering_limits_messages_in_memory",
        1..=MAX_RECORDS,
    );
    if let Some(n) = records {
        let key = "producer_async_buffering_limits_messages_in_memory";
        properties.set(&section, key, "queue.buffering.max.messages", n.to_string());
    }
    let bytes = section.integer(
        "producer_async_buffering_limits_bytes_in_memory",
        1024..=1024 * INT_MAX,
    );
    if bytes.is_some() {
        let key = "producer_async_buffering_limits_bytes_in_memory";
        properties.set(&section, key, "queue.buffering.max.kbytes", String::new());
    }
    let allow_auto_create_topics = section.bool("allow_auto_create_topics").unwrap_or_default();
    let max_queueing_time = section.millis("max_queueing_time", 0..=MAX_QUEUEING_MS);
    properties.read(&section, context);
    let max_records = taken(
        &mut properties,
        "queue.buffering.max.messages",
        MAX_RECORDS,
        context,
    );
    let kbytes = taken(&mut properties, "queue.buffering.max.kbytes", INT_MAX, context);
    let max_bytes = bytes
        .or(kbytes.map(|k| k.saturating_mul(1024)))
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(DEFAULT_MAX_BYTES);
    let acks = acks(&properties, context);
    let idempotent = idempotence(&section, &properties, acks, context);
    let mut properties = properties.into_map(&section, context);
    section.finish();
    properties.insert("acks".to_owned(), Secret::new(acks_value(acks)));
    properties.insert(
        "enable.idempotence".to_owned(),
        Secret::new(idempotent.to_string()),
    );
    Profile {
        acks: Some(acks),
        idempotent,
        properties,
        max_records: max_records
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(DEFAULT_MAX_RECORDS),
        max_bytes,
        max_queueing_time: max_queueing_time.unwrap_or(DEFAULT_QUEUEING),
        allow_auto_create_topics,
    }
}

/// Takes a bound of librdkafka's queue out of the properties: Sluice keeps it itself. Its 0 is no bound at all.
fn taken(properties: &mut Properties, name: &str, most: i64, context: &Context<'_>) -> Option<i64> {
    let set = properties.take(name)?;
    if set.value.expose().is_empty() {
        return None;
    }
    let number = set.value.expose().parse().ok().filter(|n| (1..=most).contains(n));
    if number.is_none() {
        context
            .problems
            .report(set.path, format!("must be from 1 to {most}"));
    }
    number
}

fn acks(properties: &Properties, context: &Context<'_>) -> Acks {
    let Some(set) = properties.get("acks") else {
        return Acks::All;
    };
    match set.value.expose() {
        "all" | "-1" => Acks::All,
        "1" => Acks::Leader,
        "0" => Acks::None,
        _ => {
            context.problems.report(&set.path, "must be -1, 0 or 1");
            Acks::All
        }
    }
}

fn acks_value(acks: Acks) -> &'static str {
    match acks {
        Acks::All => "-1",
        Acks::Leader => "1",
        Acks::None => "0",
    }
}

/// Idempotence is on unless something forbids it; who asks for it and forbids it gets an error.
fn idempotence(section: &Section<'_>, properties: &Properties, acks: Acks, context: &Context<'_>) -> bool {
    let path_of = |name: &str| properties.get(name).map(|set| set.path.clone());
    let number = |name: &str| properties.get(name)?.value.expose().parse::<i64>().ok();
    let mut forbidding = Vec::new();
    if acks != Acks::All {
        forbidding.extend(path_of("acks").map(|path| (path, "is not -1 (all)")));
    }
    if number("retries") == Some(0) {
        forbidding.extend(path_of("retries").map(|path| (path, "is 0")));
    }
    let in_flight = "max.in.flight.requests.per.connection";
    if number(in_flight).is_some_and(|n| n > MAX_IN_FLIGHT) {
        forbidding.extend(path_of(in_flight).map(|path| (path, "is more than 5")));
    }
    let threshold = "queue.buffering.backpressure.threshold";
    if number(threshold).is_some_and(|n| n > 1) {
        forbidding.extend(path_of(threshold).map(|path| (path, "is more than 1")));
    }
    let strategy = properties.get("queuing.strategy");
    if let Some(set) = strategy.filter(|set| set.value.expose() == "lifo") {
        forbidding.push((set.path.clone(), "is lifo"));
    }
    let asked = properties.get("enable.idempotence");
    let on = asked.is_none_or(|set| matches!(set.value.expose(), "true" | "t" | "1"));
    if !on {
        return false;
    }
    for (path, what) in &forbidding {
        match asked {
            Some(asked) => context.problems.report(
                path,
                format!("{what}, which forbids the idempotence that {} asks for", asked.path),
            ),
            None => context.warnings.report(
                path,
                format!(
                    "{what}, which turns idempotence off for {}: a record may be stored twice, or after a later one",
                    section.path()
                ),
            ),
        }
    }
    forbidding.is_empty()
}
