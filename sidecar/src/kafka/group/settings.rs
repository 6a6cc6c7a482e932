//! What a member is to be.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use regex::Regex;

use crate::kafka::connection::Connection;
use crate::kafka::properties::{self, Kind};

/// What a member is to be.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The group's id.
    pub group: String,
    /// What it subscribes to.
    pub topics: Topics,
    /// How the group shares its partitions among its members.
    pub assignor: Assignor,
    /// How the members of the group agree.
    pub protocol: Protocol,
    /// librdkafka properties, over those of the cluster: only those that [`allowed_property`] takes are heeded.
    pub properties: BTreeMap<String, String>,
    /// Whether it reads its partitions, or only has them.
    pub records: bool,
    /// How long the group waits for a partition to be handed over. It is to be less than `max.poll.interval.ms`.
    pub hand_over: Duration,
}

/// What a member subscribes to.
#[derive(Debug, Clone)]
pub enum Topics {
    /// These.
    Names(Vec<String>),
    /// Those whose whole name matches, but for Kafka's own (`__…`). They are looked for every few seconds.
    Pattern(Regex),
}

/// How a group shares its partitions among its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignor {
    /// Evenly, and moving as few as can be (`cooperative-sticky`; KIP-848's `uniform`).
    Sticky,
    /// The same partitions of each topic to the same member (`range`): what is co-partitioned stays together.
    Range,
}

/// How the members of a group agree (`group.protocol`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Among themselves: every broker has it.
    Classic,
    /// By the broker (KIP-848): Apache Kafka 4.0 and later. librdkafka has no way to ask whether a broker has it, and waits
    /// without a word for one that has not; so nobody gets it who does not say so.
    Consumer,
}

/// Whether a caller may set the property of a member: those that name no file, library, command or broker, and that the
/// member does not need for itself.
pub fn allowed_property(name: &str) -> bool {
    ALLOWED_PROPERTIES.contains(&properties::canonical(name))
}

/// What [`allowed_property`] takes: how a consumer fetches, and is a member of its group. None is a secret, and none decides what is
/// committed.
pub const ALLOWED_PROPERTIES: [&str; 28] = [
    "auto.offset.reset",
    "check.crcs",
    "client.id",
    "client.rack",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "group.remote.assignor",
    "heartbeat.interval.ms",
    "isolation.level",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "metadata.max.age.ms",
    "partition.assignment.strategy",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "receive.message.max.bytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "session.timeout.ms",
    "socket.keepalive.enable",
    "socket.timeout.ms",
    "topic.metadata.refresh.interval.ms",
];

/// - `queued.max.messages.kbytes`, `fetch.max.bytes`: what may be fetched and not be taken, over all partitions (they have
///   one queue), and by how much one answer of a broker may exceed it.
/// - `fetch.queue.backoff.ms`: how soon more is fetched once all was taken.
const DEFAULTS: [(&str, &str); 6] = [
    ("fetch.error.backoff.ms", "100"),
    ("fetch.max.bytes", "4194304"),
    ("fetch.queue.backoff.ms", "10"),
    ("queued.max.messages.kbytes", "4096"),
    ("reconnect.backoff.max.ms", "1000"),
    ("topic.metadata.refresh.interval.ms", "10000"),
];

/// - `enable.partition.eof`: says where the end is, past what is no record.
const NEEDED: [(&str, &str); 4] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
    ("allow.auto.create.topics", "false"),
];

/// A member that reads nothing: what little may come before it is paused.
const NO_RECORDS: [(&str, &str); 3] = [
    ("queued.max.messages.kbytes", "1"),
    ("queued.min.messages", "1"),
    ("max.partition.fetch.bytes", "1024"),
];

impl Settings {
    /// A member of `group` that reads `topics`, with what is the default of everything else.
    pub fn new(group: impl Into<String>, topics: Topics) -> Self {
        Self {
            group: group.into(),
            topics,
            assignor: Assignor::Sticky,
            protocol: Protocol::Classic,
            properties: BTreeMap::new(),
            records: true,
            hand_over: Duration::from_secs(10),
        }
    }

    /// The client's configuration. What the settings' properties say wins over the cluster's, and both over what assignor and
    /// protocol mean.
    pub(super) fn client_config(&self, connection: &Connection) -> ClientConfig {
        // Not a copy of its map: that is shown without secrets.
        let mut config = connection.client_config(Kind::Producer);
        let aliases: Vec<String> = config
            .config_map()
            .keys()
            .filter(|name| properties::canonical(name) != **name)
            .map(|name| (*name).to_owned())
            .collect();
        for alias in aliases {
            if let Some(value) = config.get(&alias).map(str::to_owned) {
                config.remove(&alias).set(properties::canonical(&alias), value);
            }
        }
        for (name, value) in DEFAULTS {
            if config.get(name).is_none() {
                config.set(name, value);
            }
        }
        let allowed = self.properties.iter().filter(|(name, _)| allowed_property(name));
        for (name, value) in allowed {
            config.set(properties::canonical(name), value);
        }
        if config.get("group.protocol").is_none() && self.protocol == Protocol::Consumer {
            config.set("group.protocol", "consumer");
        }
        let by_broker = config
            .get("group.protocol")
            .is_some_and(|protocol| protocol.eq_ignore_ascii_case("consumer"));
        if by_broker {
            // They are the broker's to set, and librdkafka makes no client that has them.
            for name in [
                "partition.assignment.strategy",
                "session.timeout.ms",
                "heartbeat.interval.ms",
            ] {
                config.remove(name);
            }
            if self.assignor == Assignor::Range {
                config.set("group.remote.assignor", "range");
            }
        } else {
            let strategy = match self.assignor {
                Assignor::Sticky => "cooperative-sticky",
                Assignor::Range => "range",
            };
            if self.assignor == Assignor::Range || config.get("partition.assignment.strategy").is_none() {
                config.set("partition.assignment.strategy", strategy);
            }
        }
        if !self.records {
            for (name, value) in NO_RECORDS {
                config.set(name, value);
            }
        }
        for (name, value) in NEEDED {
            config.set(name, value);
        }
        config.set("group.id", &self.group);
        config.set_log_level(rdkafka::config::RDKafkaLogLevel::Warning);
        config
    }
}

/// Why librdkafka makes no client, without the value that it refuses.
pub(super) fn refused(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, description, name, _value) => format!("{name}: {description}"),
        KafkaError::ClientCreation(why) => why.clone(),
        other => other.to_string(),
    }
}
