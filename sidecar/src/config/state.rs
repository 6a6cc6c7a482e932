//! `state:`, the topic that what is made by the admin API is kept in.

use std::collections::BTreeMap;

use sluice_settings::Section;

use super::Cluster;
use super::read::check_topic;
use crate::kafka::log;

/// The topic's name where none is configured.
pub const STATE_TOPIC: &str = "__sluice_state";

/// Where what is made by the admin API is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The cluster.
    pub cluster: String,
    /// The topic, and how it is made.
    pub log: log::Settings,
}

/// Reads a section that says where state is kept: `state:`, or another with a topic of its own.
pub(super) fn read(
    section: Section<'_>,
    usual: &str,
    clusters: &BTreeMap<String, Cluster>,
    default_cluster: Option<&str>,
) -> Option<State> {
    let cluster = match section.name("cluster") {
        Some(name) if !clusters.contains_key(&name) => {
            section.problem("cluster", format!("no cluster is named {name:?}"));
            None
        }
        Some(name) => Some(name),
        None if section.raw("cluster").is_some() => None,
        None => {
            if default_cluster.is_none() {
                section.problem(
                    "cluster",
                    "is required, since there are several clusters and no default_cluster",
                );
            }
            default_cluster.map(str::to_owned)
        }
    };
    let found = cluster.as_ref().and_then(|name| clusters.get(name));
    if let (Some(name), Some(found)) = (&cluster, found) {
        if found.callers.is_some() {
            section.problem(
                "cluster",
                format!("{name:?} is used with its callers' own tokens, and the sidecar itself has none"),
            );
        }
        if !found.produces || !found.consumes {
            section.problem(
                "cluster",
                format!(
                    "{name:?} must be written and read: its producer.enabled or consumer.enabled is false"
                ),
            );
        }
    }
    let topic = section.name("topic").unwrap_or_else(|| usual.to_owned());
    if let Err(why) = check_topic(&topic) {
        section.problem("topic", why);
    }
    let count = |key| {
        section
            .integer(key, 1..=100)
            .and_then(|count| i32::try_from(count).ok())
    };
    let replication_factor = count("replication_factor");
    let min_insync_replicas = count("min_insync_replicas");
    if let (Some(replicas), Some(min)) = (replication_factor, min_insync_replicas)
        && min > replicas
    {
        section.problem(
            "min_insync_replicas",
            format!("must be at most replication_factor, which is {replicas}"),
        );
    }
    section.finish();
    Some(State {
        cluster: cluster?,
        log: log::Settings {
            topic,
            replication_factor,
            min_insync_replicas,
        },
    })
}
