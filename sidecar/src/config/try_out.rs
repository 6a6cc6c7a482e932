//! Clusters and profiles as librdkafka sees them: some properties contradict each other.

use std::collections::BTreeMap;

use sluice_settings::Problems;

use super::{Config, Secret};
use crate::kafka::properties;

/// Reports what a cluster and a profile both set, and what librdkafka refuses of a cluster or a profile as a
/// whole. Each is tried once, not each with each: what contradicts itself is within one of them.
pub(super) fn producers(config: &Config, problems: &Problems) {
    for (cluster_name, cluster) in &config.clusters {
        for (profile_name, profile) in &config.producers {
            let both = |name: &&String| cluster.properties.contains_key(*name);
            for name in profile.properties.keys().filter(both) {
                problems.report(
                    format!("clusters.{cluster_name}.properties.{name}"),
                    format!("is set by producers.{profile_name} too: keep one"),
                );
            }
        }
        let path = format!("clusters.{cluster_name}.properties");
        try_one(path, &cluster.properties, problems);
    }
    for (name, profile) in &config.producers {
        try_one(format!("producers.{name}"), &profile.properties, problems);
    }
}

fn try_one(path: String, properties: &BTreeMap<String, Secret>, problems: &Problems) {
    let pairs = properties
        .iter()
        .map(|(name, value)| (name.as_str(), value.expose()));
    if let Err(why) = properties::try_producer(pairs) {
        problems.report(path, format!("librdkafka refuses it: {why}"));
    }
}
