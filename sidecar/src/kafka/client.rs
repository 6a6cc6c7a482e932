//! From the checked configuration to the client library's.

use std::sync::OnceLock;
use std::time::Duration;

use rdkafka::ClientConfig;

use super::properties;
use crate::config::{Acks, Cluster, Profile};

/// What librdkafka is set to where neither cluster nor profile says otherwise.
///
/// - `partitioner`: the Java client's, so that a key goes to the partition every other client puts it in.
/// - `linger.ms`: records are gathered while others are under way, before they are handed to librdkafka (see
///   [`super::producer`]); what waits on top of that is what a profile asks for.
/// - `sticky.partitioning.linger.ms`: librdkafka's own default is twice its linger, and so none: each record without
///   a key would go to another partition, and the records of a moment into as many requests as there are partitions.
/// - `reconnect.backoff.max.ms`: librdkafka's own 10 s would keep records waiting after an outage has ended.
/// - `topic.metadata.propagation.max.ms`: for librdkafka's own 30 s after it first heard of a topic, records for one
///   that was deleted would wait instead of failing. A topic is looked up before records for it are handed over, so
///   what is left to wait for is a broker that has not heard of a new topic yet.
/// - `queue.buffering.max.*`: the producer's own bound on records and bytes is the one that holds, so that
///   there is one; 0 and the maximum switch librdkafka's off.
const DEFAULTS: [(&str, &str); 7] = [
    ("partitioner", "murmur2_random"),
    ("linger.ms", "0"),
    ("sticky.partitioning.linger.ms", "10"),
    ("reconnect.backoff.max.ms", "1000"),
    ("topic.metadata.propagation.max.ms", "1000"),
    ("queue.buffering.max.messages", "0"),
    ("queue.buffering.max.kbytes", "2147483647"),
];

/// How many requests an idempotent producer has under way on a connection. With more, a request that was sent behind one
/// which a new leader still refused is taken for a gap (`OUT_OF_ORDER_SEQUENCE_NUMBER`); librdkafka then begins a new epoch
/// for all of its partitions, and what was to be sent again in any of them is written once more if the broker had it
/// (<https://github.com/confluentinc/librdkafka/issues/4953>). What that costs is the way there and back: a broker takes up
/// one request of a connection at a time (<https://kafka.apache.org/protocol.html#protocol_network>).
const IN_FLIGHT: &str = "1";

/// What a client is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Producer,
    Consumer,
}

/// The `client.id` of a client whose cluster has none: `sluice-producer-` or `sluice-consumer-`, and eight hexadecimal
/// digits that are this process's own.
pub(super) fn default_id(role: Role) -> String {
    static PROCESS: OnceLock<String> = OnceLock::new();
    let process = PROCESS.get_or_init(|| {
        let mut bytes = [0; 4];
        // Without randomness the ids are alike, and nothing else is.
        let _alike = openssl::rand::rand_bytes(&mut bytes);
        format!("{:08x}", u32::from_be_bytes(bytes))
    });
    match role {
        Role::Producer => format!("sluice-producer-{process}"),
        Role::Consumer => format!("sluice-consumer-{process}"),
    }
}

/// The client configuration of `profile`'s producer on `cluster`. What the profile sets wins over what the
/// cluster sets, and both over the defaults.
pub(super) fn producer_config(cluster: &Cluster, profile: &Profile) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in DEFAULTS {
        config.set(name, value);
    }
    config.set("client.id", default_id(Role::Producer));
    config.set("bootstrap.servers", cluster.bootstrap_servers.join(","));
    config.set(
        "enable.idempotence",
        if profile.idempotent { "true" } else { "false" },
    );
    if profile.idempotent {
        config.set("max.in.flight.requests.per.connection", IN_FLIGHT);
    }
    config.set(
        "allow.auto.create.topics",
        if profile.allow_auto_create_topics {
            "true"
        } else {
            "false"
        },
    );
    if let Some(acks) = profile.acks {
        let acks = match acks {
            Acks::All => "-1",
            Acks::Leader => "1",
            Acks::None => "0",
        };
        config.set("acks", acks);
    }
    for (name, value) in cluster.properties.iter().chain(&profile.properties) {
        // librdkafka warns of what means nothing to a producer.
        if properties::kind(name) != properties::Kind::Consumer {
            config.set(name.as_str(), value.expose());
        }
    }
    config
}

/// Whether the broker is asked for no acknowledgement.
pub(super) fn is_unacknowledged(config: &ClientConfig) -> bool {
    acks(config) == Some("0")
}

/// Whether a partition's leader acknowledges records before others have them.
pub(super) fn is_led(config: &ClientConfig) -> bool {
    acks(config) == Some("1")
}

fn acks(config: &ClientConfig) -> Option<&str> {
    let mut names = ["acks", "request.required.acks"].iter();
    names.find_map(|name| config.get(name))
}

/// How long librdkafka keeps trying to deliver a record; for ever is `None`. Its own default is 5 minutes.
pub(super) fn message_timeout(config: &ClientConfig) -> Option<Duration> {
    let set = ["message.timeout.ms", "delivery.timeout.ms"]
        .iter()
        .find_map(|name| config.get(name));
    let ms = set.and_then(|ms| ms.parse().ok()).unwrap_or(300_000);
    (ms != 0).then(|| Duration::from_millis(ms))
}

/// Whether librdkafka itself is asked to keep records waiting for others.
pub(super) fn lingers(config: &ClientConfig) -> bool {
    let ms = config.get("linger.ms").and_then(|ms| ms.parse::<f64>().ok());
    ms.is_some_and(|ms| ms > 0.0)
}
