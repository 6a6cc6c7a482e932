//! The tree to a [`Config`].

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sluice_settings::{Problem, Problems, Section};

use super::env::Overrides;
use super::{
    Acks, Cluster, Config, DeadLetters, DevBroker, Idempotency, Profile, STATE_TOPIC, Source, Spool,
    clusters, jwt, listeners, orgs, producers, reads, rendering, replies, state, subscriptions,
};
use crate::idempotency::{MAX_WINDOW_MS, MIN_WINDOW_MS};
use crate::subscriptions::sink::egress::Egress;

/// What the readers of the sections share.
pub(super) struct Context<'a> {
    pub(super) problems: &'a Problems,
    pub(super) warnings: &'a Problems,
    pub(super) env: &'a BTreeMap<String, String>,
    pub(super) overrides: &'a Overrides,
    /// By the path of a property, that of the field which stands for it.
    pub(super) fields: RefCell<BTreeMap<String, String>>,
    /// The files that values and certificates are from.
    pub(super) files: RefCell<BTreeSet<PathBuf>>,
}

impl<'a> Context<'a> {
    pub(super) fn new(
        (problems, warnings): (&'a Problems, &'a Problems),
        env: &'a BTreeMap<String, String>,
        overrides: &'a Overrides,
    ) -> Self {
        Self {
            problems,
            warnings,
            env,
            overrides,
            fields: RefCell::default(),
            files: RefCell::default(),
        }
    }

    /// Notes that what is read depends on this file.
    pub(super) fn depends_on(&self, file: impl AsRef<Path>) {
        self.files.borrow_mut().insert(file.as_ref().to_owned());
    }
}

/// The cluster that a section's `cluster` names, or the default one: its name, and what is set of it, if anything is.
///
/// What is wrong with the name is reported here; what is wrong with the default one's where that is set.
pub(super) fn named_cluster<'a>(
    section: &Section<'_>,
    (clusters, default_cluster): (&'a BTreeMap<String, Cluster>, Option<&str>),
) -> Option<(String, Option<&'a Cluster>)> {
    if section.raw("cluster").is_none() {
        if default_cluster.is_none() {
            section.problem("cluster", "is required, since there is no default_cluster");
        }
        return default_cluster.map(|name| (name.to_owned(), clusters.get(name)));
    }
    let name = section.name("cluster")?;
    let found = clusters.get(&name);
    if found.is_none() {
        section.problem("cluster", format!("no cluster is named {name:?}"));
    }
    Some((name, found))
}

/// Reads the whole tree; `None` if what is needed most is missing, which is then reported.
pub(super) fn config(tree: &Value, context: &Context<'_>) -> Option<Config> {
    let root = Section::root(tree, context.problems);
    let listeners = listeners::read(&root, context);
    let (clusters, own) = clusters::read(&root, context);
    let default_cluster = default_cluster(&root, own.iter().map(String::as_str));
    let producers = producers(&root, context);
    let max_producers = root.integer("max_producers", 1..=1000).unwrap_or(16);
    let answer_timeout = root.millis("answer_timeout", 1..=600_000);
    let max_request_bytes = root
        .integer("max_request_bytes", 1024..=1024 * 1024 * 1024)
        .unwrap_or(16 * 1024 * 1024);
    let grace_period = root.millis("grace_period", 0..=3_600_000);
    let reload_interval = root.millis("reload_interval", 100..=3_600_000);
    let spool = root
        .section("spool")
        .and_then(|section| spool(section, &clusters, &producers));
    let idempotency = root.section("idempotency").and_then(idempotency);
    let dev_broker = root
        .section("dev_broker")
        .and_then(|section| dev_broker(section, context));
    let writing_takes_tokens = listeners
        .as_ref()
        .is_some_and(|listeners| !listeners.data.tokens.is_empty());
    let jwt = jwt::read(&root, context);
    let reads = reads::read(
        &root,
        (&clusters, default_cluster.as_deref()),
        &jwt,
        writing_takes_tokens,
        context,
    );
    let max_readers = root.integer("max_readers", 1..=64).unwrap_or(4);
    let max_members = root.integer("max_members", 1..=256).unwrap_or(16);
    let (subscriptions, held) = subscriptions::read(&root, &clusters, context);
    let state = root
        .section("state")
        .and_then(|section| state::read(section, STATE_TOPIC, &clusters, default_cluster.as_deref()));
    let egress = root.section("egress").map(Egress::read).unwrap_or_default();
    let templates = rendering::read(&root, (&clusters, default_cluster.as_deref()), context);
    let replies = replies::read(&root, (&clusters, default_cluster.as_deref()), context);
    let actions = orgs::read(
        &root,
        (&clusters, default_cluster.as_deref()),
        &jwt,
        &templates,
        context,
    );
    root.finish();
    Some(Config {
        actions,
        replies,
        templates,
        jwt,
        subscriptions,
        held,
        egress: Arc::new(egress),
        reads,
        max_readers: usize::try_from(max_readers).unwrap_or_default(),
        max_members: usize::try_from(max_members).unwrap_or_default(),
        listeners: listeners?,
        clusters,
        default_cluster,
        producers,
        max_producers: usize::try_from(max_producers).unwrap_or_default(),
        answer_timeout: answer_timeout.unwrap_or(Duration::from_secs(10)),
        max_request_bytes: usize::try_from(max_request_bytes).unwrap_or_default(),
        grace_period: grace_period.unwrap_or(Duration::from_secs(20)),
        spool,
        idempotency,
        dev_broker,
        reload_interval: reload_interval.unwrap_or(Duration::from_secs(5)),
        source: Source::default(),
        state,
    })
}

/// The longest time a spooled record may be asked to wait.
const YEAR_MS: i64 = 366 * 24 * 3_600_000;

fn spool(
    section: Section<'_>,
    clusters: &BTreeMap<String, Cluster>,
    producers: &BTreeMap<String, Profile>,
) -> Option<Spool> {
    let directory = section.name("directory");
    if section.keys().next().is_some() && section.raw("directory").is_none() {
        section.problem("directory", "is required, as /var/lib/sluice/spool");
    }
    let max_bytes = section
        .integer("max_bytes", 1024 * 1024..=1 << 50)
        .unwrap_or(1024 * 1024 * 1024);
    let max_age = section.millis("max_age", 1000..=YEAR_MS);
    let grace = section.millis("grace", 0..=YEAR_MS);
    let dead_letters = section
        .section("dead_letters")
        .and_then(|section| dead_letters(section, clusters, producers));
    section.finish();
    Some(Spool {
        directory: directory?.into(),
        max_bytes: max_bytes.unsigned_abs(),
        max_age: max_age.unwrap_or(Duration::from_secs(7 * 24 * 3600)),
        grace: grace.unwrap_or(Duration::from_secs(300)),
        dead_letters,
    })
}

fn dead_letters(
    section: Section<'_>,
    clusters: &BTreeMap<String, Cluster>,
    producers: &BTreeMap<String, Profile>,
) -> Option<DeadLetters> {
    let topic = section.name("topic");
    if section.raw("topic").is_none() {
        section.problem("topic", "is required, as dead-letters");
    }
    let cluster = section.name("cluster");
    let producer = section.name("producer").unwrap_or_else(|| "default".to_owned());
    if let Some((name, _)) = clusters
        .iter()
        .find(|(name, found)| cluster.as_ref() == Some(*name) && found.callers.is_some())
    {
        section.problem(
            "cluster",
            format!("{name:?} is written with its callers' own tokens, and a dead letter has none"),
        );
    }
    if let Some(name) = cluster.as_ref().filter(|name| !clusters.contains_key(*name)) {
        section.problem("cluster", format!("no cluster is named {name:?}"));
    }
    match producers.get(&producer) {
        None => section.problem("producer", format!("no producer is named {producer:?}")),
        Some(profile) if profile.acks == Some(Acks::None) => section.problem(
            "producer",
            format!(
                "nobody says when a record of producer {producer:?} is stored: set its producer_request_acks to -1 or 1"
            ),
        ),
        Some(_) => {}
    }
    if let Some(topic) = &topic {
        if let Err(why) = check_topic(topic) {
            section.problem("topic", why);
        } else {
            // Without a cluster of its own a dead letter goes to that of its record: any of them.
            let may_go_to = |name: &&String| cluster.as_ref().is_none_or(|cluster| cluster == *name);
            for (name, _) in clusters
                .iter()
                .filter(|(name, cluster)| may_go_to(name) && !cluster.allowed_topics.allows(topic))
            {
                section.problem(
                    "topic",
                    format!("{topic:?} is not in clusters.{name}.allowed_topics"),
                );
            }
        }
    }
    section.finish();
    Some(DeadLetters {
        topic: topic?,
        cluster,
        producer,
    })
}

fn idempotency(section: Section<'_>) -> Option<Idempotency> {
    let directory = section.name("directory");
    if section.keys().next().is_some() && section.raw("directory").is_none() {
        section.problem("directory", "is required, as /var/lib/sluice/idempotency");
    }
    let max_keys = section
        .integer("max_keys", 1..=1_000_000_000)
        .unwrap_or(1_000_000);
    let window = section.millis("window", MIN_WINDOW_MS..=MAX_WINDOW_MS);
    section.finish();
    Some(Idempotency {
        directory: directory?.into(),
        max_keys: max_keys.unsigned_abs(),
        window: window.unwrap_or(Duration::from_secs(24 * 3600)),
    })
}

fn default_cluster<'a>(root: &Section<'_>, mut clusters: impl Iterator<Item = &'a str>) -> Option<String> {
    let Some(name) = root.string("default_cluster") else {
        let only = clusters.next()?;
        return clusters.next().is_none().then(|| only.to_owned());
    };
    if !clusters.any(|cluster| cluster == name) {
        root.problem("default_cluster", format!("no cluster is named {name:?}"));
    }
    Some(name)
}

fn producers(root: &Section<'_>, context: &Context<'_>) -> BTreeMap<String, Profile> {
    let mut profiles = BTreeMap::new();
    for (name, section) in root.named_sections("producers").unwrap_or_default() {
        check_name(&section, &name, context);
        profiles.insert(name, producers::read(section, context));
    }
    profiles
        .entry("default".to_owned())
        .or_insert_with(producers::default_profile);
    profiles
}

/// A cluster's or a profile's name goes into logs, metrics and query strings.
pub(super) fn check_name(section: &Section<'_>, name: &str, context: &Context<'_>) {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > 64 || !name.chars().all(legal) {
        context.problems.report(
            section.path(),
            "a name is 1 to 64 of the characters a-z, A-Z, 0-9, `.`, `_` and `-`",
        );
    }
}

/// What Kafka takes for a topic's name (`org.apache.kafka.common.internals.Topic`).
///
/// # Errors
/// A sentence that names the rule.
pub fn check_topic(name: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > 249 || name == "." || name == ".." || !name.chars().all(legal) {
        return Err(format!(
            "{name:?} is no topic's name: 1 to 249 of the characters a-z, A-Z, 0-9, `.`, `_` and `-`, but not `.` or `..`"
        ));
    }
    Ok(())
}

/// The most partitions that all topics of the dev broker may have together: each may hold 5 MiB.
pub const DEV_BROKER_PARTITIONS: i64 = 256;

fn dev_broker(section: Section<'_>, context: &Context<'_>) -> Option<DevBroker> {
    let insecure = section.bool("insecure").unwrap_or_default();
    let address = match section.string("address") {
        Some(text) => listeners::socket_address(&section, "address", &text),
        None => Some(([127, 0, 0, 1], 9092).into()),
    };
    if let Some(address) = address.filter(|address| !address.ip().is_loopback()) {
        let open =
            format!("{address} is open to other machines, and the dev broker asks nobody who they are");
        if insecure {
            context.warnings.report(section.path_of("address"), open);
        } else {
            section.problem(
                "address",
                format!("{open}: use a loopback address, or set `insecure: true`"),
            );
        }
    }
    let default_partitions = section
        .integer("default_partitions", 1..=DEV_BROKER_PARTITIONS)
        .unwrap_or(4);
    let mut names = BTreeSet::new();
    let mut topics = Vec::new();
    let mut total = 0;
    for topic in section.sections("topics").unwrap_or_default() {
        let name = topic.string("name");
        let partitions = topic
            .integer("partitions", 1..=DEV_BROKER_PARTITIONS)
            .unwrap_or(default_partitions);
        match name {
            None if topic.raw("name").is_none() => topic.problem("name", "is required"),
            None => {}
            Some(name) => {
                if let Err(why) = check_topic(&name) {
                    topic.problem("name", why);
                } else if !names.insert(name.clone()) {
                    topic.problem("name", format!("{name:?} is here twice"));
                }
                total += partitions;
                topics.push((name, i32::try_from(partitions).unwrap_or(i32::MAX)));
            }
        }
        topic.finish();
    }
    if total > DEV_BROKER_PARTITIONS {
        section.problem(
            "topics",
            format!(
                "have {total} partitions together; the dev broker keeps them in memory and takes {DEV_BROKER_PARTITIONS}"
            ),
        );
    }
    section.finish();
    Some(DevBroker {
        address: address?,
        topics,
        default_partitions: i32::try_from(default_partitions).unwrap_or(i32::MAX),
    })
}

/// Says which variable set what a problem is about.
pub(super) fn name_variables(problems: Vec<Problem>, overrides: &Overrides) -> Vec<Problem> {
    problems
        .into_iter()
        .map(|mut problem| {
            // A key that a variable made on its way down is unknown because of the variable.
            let unknown = problem.message.starts_with("unknown field");
            let made = || {
                let path = Some(problem.path.as_str()).filter(|_| unknown);
                path.and_then(|path| overrides.origin_below(path))
            };
            if let Some(variable) = overrides.origin(&problem.path).or_else(made) {
                problem.message = format!("{} (set by {variable})", problem.message);
            }
            problem
        })
        .collect()
}
