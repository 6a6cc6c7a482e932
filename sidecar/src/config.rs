//! The sidecar's configuration, checked. `docs/sidecar.md` documents every key as it is written.
//!
//! [`load`] goes from text to a [`Config`]: YAML to a tree, the environment over it, the tree to checked types. It
//! finds every problem in one go.

mod choices;
pub(crate) mod clusters;
mod env;
mod jwt;
mod listeners;
mod orgs;
mod platform;
mod producers;
mod properties;
mod read;
mod reads;
mod rendering;
pub(crate) mod replies;
mod secret;
mod show;
mod source;
mod state;
mod subscriptions;
mod templates;
#[cfg(test)]
mod tests;
mod try_out;
mod yaml;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sluice_settings::{Problem, Problems};

use crate::auth::jwt::Provider;
use crate::subscriptions::sink::egress::Egress;
use crate::subscriptions::spec::Spec;

pub use choices::{Choice, From as ChosenFrom, NoChoice, Said};
pub use clusters::{
    AwsIam, AwsKeys, AwsRole, BearerToken, Callers, Cluster, DelegationToken, Expiry, Kerberos, ScramHash,
    TokenSource, cluster_of,
};
pub use jwt::Bearers;

pub use read::{DEV_BROKER_PARTITIONS, check_topic};
pub use reads::{
    MAX_LIMIT, MAX_MAX_BYTES, MAX_MAX_WAIT, Qos, Read, ReadGroups, ReadTopics, Reset, Who, check_group,
    reset, topics_pattern,
};
pub use replies::{Replies, ReplyTopic};
pub use show::{Origins, show};
pub use source::Source;
pub use state::{STATE_TOPIC, State};
pub use subscriptions::HELD_TOPIC;
pub use templates::{ClaimedTopics, Template};

/// A configuration that may be run, and what is odd about it.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is allowed and probably not meant.
    pub warnings: Vec<Problem>,
    /// Where its values are from.
    pub origins: Origins,
}

/// Reads the configuration from YAML text and the `SLUICE__…` variables of `env`; what `{env: NAME}` names is
/// taken from `env` too, and what `{file: …}` names from the disk. Where no cluster has brokers, those of the platform are
/// taken from `env`.
///
/// # Errors
/// Every problem that was found, none of which quotes a secret.
pub fn load(yaml: &str, env: impl Iterator<Item = (String, String)>) -> Result<Loaded, Vec<Problem>> {
    let env: BTreeMap<String, String> = env.collect();
    let (problems, warnings) = (Problems::default(), Problems::default());
    let Laid {
        tree,
        overrides,
        platform,
    } = lay(yaml, &env, &problems, &warnings).map_err(|problem| vec![problem])?;
    let context = read::Context::new((&problems, &warnings), &env, &overrides);
    let config = read::config(&tree, &context);
    if let Some(config) = &config
        && problems.is_empty()
    {
        try_out::producers(config, &problems);
        try_out::readers(config, &problems);
    }
    match config {
        Some(mut config) if problems.is_empty() => {
            let fields = context.fields.into_inner();
            config.source = Source::new(yaml, env.clone(), context.files.into_inner());
            let warnings = read::name_variables(warnings.into_vec(), &overrides);
            let mut origins = Origins {
                overrides,
                platform,
                fields,
                ..Origins::default()
            };
            origins.note(&tree, "");
            Ok(Loaded {
                config,
                warnings,
                origins,
            })
        }
        _ => Err(read::name_variables(problems.into_vec(), &overrides)),
    }
}

/// A configuration with the environment laid over it.
struct Laid {
    tree: serde_json::Value,
    overrides: env::Overrides,
    /// What the platform told, and by which variable.
    platform: Vec<(String, String)>,
}

fn lay(
    yaml: &str,
    env: &BTreeMap<String, String>,
    problems: &Problems,
    warnings: &Problems,
) -> Result<Laid, Problem> {
    let mut tree = yaml::parse(yaml)?;
    let overrides = env::apply(&mut tree, env, problems);
    let platform = platform::apply(&mut tree, env, warnings);
    Ok(Laid {
        tree,
        overrides,
        platform,
    })
}

/// Reads a YAML document that is not the sidecar's configuration, by the same rules: an Envoy bootstrap.
///
/// # Errors
/// The first syntax error, its line and column as the path.
pub fn yaml_tree(yaml: &str) -> Result<serde_json::Value, Problem> {
    yaml::parse(yaml)
}

/// Everything `sluice serve` needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the sidecar listens.
    pub listeners: Listeners,
    /// The Kafka clusters by name; at least one.
    pub clusters: BTreeMap<String, Cluster>,
    /// The cluster of a record that names none: `default_cluster`, or the only one there is.
    pub default_cluster: Option<String>,
    /// The producer profiles by name; `default` is always there.
    pub producers: BTreeMap<String, Profile>,
    /// How many producers (one per cluster and profile in use) may exist.
    pub max_producers: usize,
    /// How long a record that names no deadline waits for its fate.
    pub answer_timeout: Duration,
    /// The largest request body of the REST face, and the largest gRPC message, in bytes.
    pub max_request_bytes: usize,
    /// How long a shutdown may take from SIGTERM on.
    pub grace_period: Duration,
    /// Where records wait that are answered before Kafka has them; without it there are none.
    pub spool: Option<Spool>,
    /// Where idempotency keys are kept; without it there are none.
    pub idempotency: Option<Idempotency>,
    /// The embedded broker for trying things out.
    pub dev_broker: Option<DevBroker>,
    /// How often the files that clusters name are looked at, for what has changed.
    pub reload_interval: Duration,
    /// Where it is from, to read the clusters again.
    pub source: Source,
    /// The issuers whose tokens are taken, by name.
    pub jwt: BTreeMap<String, Arc<Provider>>,
    /// Which topics may be read, and how; no others may.
    pub reads: Vec<Read>,
    /// How many clients read what is in the past, per cluster.
    pub max_readers: usize,
    /// How many members of consumer groups there may be at once, over all groups.
    pub max_members: usize,
    /// What may be called, of what the admin API names.
    pub egress: Arc<Egress>,
    /// Where what is made by the admin API is kept; without it nothing can be made by it.
    pub state: Option<State>,
    /// The subscriptions by their ids.
    pub subscriptions: BTreeMap<String, Arc<Spec>>,
    /// Where their events are held that are to be tried again.
    pub held: HeldTopic,
    /// The organisations, where there are any.
    pub actions: Option<crate::actions::org::Settings>,
    /// What payload templates may take, and the secrets that they may name.
    pub templates: crate::templates::Settings,
    /// Where replies to records come, for those who wait for them.
    pub replies: Replies,
}

/// The topic, one of each subscription's own cluster, where its events are held: those that are to be tried again, those that
/// wait behind them, and those that are parked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldTopic {
    /// Its name.
    pub topic: String,
    /// How many partitions it is created with.
    pub partitions: i32,
    /// How many replicas it is created with; as the brokers have it without.
    pub replication_factor: Option<i32>,
}

impl Default for HeldTopic {
    fn default() -> Self {
        Self {
            topic: HELD_TOPIC.to_owned(),
            partitions: 8,
            replication_factor: None,
        }
    }
}

/// The spool: records that are answered once they are on the sidecar's own disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spool {
    /// Its directory; no other sidecar's.
    pub directory: PathBuf,
    /// What it may hold, dead letters included, in bytes of encoded records.
    pub max_bytes: u64,
    /// How long a record waits for Kafka before it is a dead letter.
    pub max_age: Duration,
    /// How long Kafka may say that there is no such topic, or that it may not be written, before a record is a dead
    /// letter.
    pub grace: Duration,
    /// Where dead letters go; without it they stay in the spool.
    pub dead_letters: Option<DeadLetters>,
}

/// The topic that records are written to which Kafka does not take where they were for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetters {
    /// The topic.
    pub topic: String,
    /// Its cluster; each record's own without it.
    pub cluster: Option<String>,
    /// The producer profile.
    pub producer: String,
}

/// Idempotency keys: a record that comes again with the same key is written once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// Their directory; no other sidecar's.
    pub directory: PathBuf,
    /// How many are kept; past that a record with another one is refused.
    pub max_keys: u64,
    /// How long one is kept whose record does not say.
    pub window: Duration,
}

/// The three listeners.
#[derive(Debug, Clone)]
pub struct Listeners {
    /// gRPC `sluice.v1.Records`.
    pub stream: Listener,
    /// The REST face.
    pub data: Listener,
    /// Health and metrics.
    pub admin: Listener,
}

/// One listener.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Where it listens.
    pub address: Address,
    /// The bearer tokens that it takes; empty: none is asked for.
    pub tokens: Vec<Secret>,
    /// How many connections it has at once; past it they are turned away.
    pub max_connections: usize,
    /// How many proxies before the sidecar are trusted to say where a request comes from (`data` only).
    pub xff_num_trusted_hops: usize,
}

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket with these permission bits.
    Unix {
        /// The socket's path.
        path: PathBuf,
        /// Its mode, as `0o660`.
        mode: u32,
    },
}

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `value` from being printed.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself: the only way out.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// The topics that may be written: exact names, or prefixes written with a trailing `*`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicAllowlist(pub Vec<String>);

impl TopicAllowlist {
    /// Whether `topic` is in the list.
    pub fn allows(&self, topic: &str) -> bool {
        self.0.iter().any(|entry| match entry.strip_suffix('*') {
            Some(prefix) => topic.starts_with(prefix),
            None => topic == entry,
        })
    }

    /// Whether there can be more than one topic.
    pub fn allows_several(&self) -> bool {
        self.0.len() > 1 || self.0.iter().any(|entry| entry.ends_with('*'))
    }
}

/// A producer profile: Kong's settings under their names; what is not set is librdkafka's default for an
/// idempotent producer with acks=all.
#[derive(Debug, Clone, Default)]
pub struct Profile {
    /// `producer_request_acks`; `None` is all.
    pub acks: Option<Acks>,
    /// Whether the producer is idempotent, as follows from acks, retries and `properties`.
    pub idempotent: bool,
    /// librdkafka properties, those that the profile's own fields stand for included.
    pub properties: BTreeMap<String, Secret>,
    /// `producer_async_buffering_limits_messages_in_memory`: records that may wait, in memory.
    pub max_records: usize,
    /// `producer_async_buffering_limits_bytes_in_memory`: bytes of keys, values and headers that may wait.
    pub max_bytes: usize,
    /// `max_queueing_time`: how much longer than necessary a record may wait for its acknowledgement; past it others are
    /// refused. Zero: there is no such bound.
    pub max_queueing_time: Duration,
    /// Whether a missing topic may be created by the broker (`auto.create.topics.enable`).
    pub allow_auto_create_topics: bool,
}

/// `producer_request_acks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// -1: every in-sync replica.
    All,
    /// 1: the leader.
    Leader,
    /// 0: nobody.
    None,
}

/// The embedded broker: librdkafka's mock cluster on fixed ports.
#[derive(Debug, Clone)]
pub struct DevBroker {
    /// Where it listens. Port 0 is any free one.
    pub address: SocketAddr,
    /// Topics to create at start, with their partitions.
    pub topics: Vec<(String, i32)>,
    /// How many partitions a topic gets whose creation names none.
    pub default_partitions: i32,
}
