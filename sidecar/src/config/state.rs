//! `state:`, the topic that what is made by the admin API is kept in.

use std::collections::BTreeMap;

use sluice_settings::Section;

use super::Cluster;
use super::read::{check_topic, named_cluster};
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
    let cluster = named_cluster(&section, (clusters, default_cluster));
    if let Some((name, Some(found))) = &cluster {
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
        cluster: cluster?.0,
        log: log::Settings {
            topic,
            replication_factor,
            min_insync_replicas,
        },
    })
}
