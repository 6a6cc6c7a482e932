//! Clusters and profiles as librdkafka sees them: some properties contradict each other.

use sluice_settings::Problems;

use super::producers::default_profile;
use super::{Cluster, Config};
use crate::kafka::properties::try_producer;
use crate::kafka::reader::try_reader;

/// Reports what a cluster and a profile both set, and what librdkafka refuses of a cluster or a profile as a
/// whole. Each is tried once, not each with each: what contradicts itself is within one of them.
pub(super) fn producers(config: &Config, problems: &Problems) {
    let bare = Cluster::default();
    let report = |path: String, tried: Result<(), String>| {
        if let Err(why) = tried {
            problems.report(path, format!("librdkafka refuses it: {why}"));
        }
    };
    let default = default_profile();
    for (name, cluster) in &config.clusters {
        report(
            format!("clusters.{name}.properties"),
            try_producer(cluster, &default),
        );
        for (profile_name, profile) in &config.producers {
            let both = |property: &&String| cluster.properties.contains_key(*property);
            for property in profile.properties.keys().filter(both) {
                problems.report(
                    format!("clusters.{name}.properties.{property}"),
                    format!("is set by producers.{profile_name} too: keep one"),
                );
            }
        }
    }
    for (name, profile) in &config.producers {
        report(format!("producers.{name}"), try_producer(&bare, profile));
    }
}

/// Reports what librdkafka refuses of a cluster that is read.
pub(super) fn readers(config: &Config, problems: &Problems) {
    for (name, cluster) in &config.clusters {
        if !config.reads.iter().any(|read| read.cluster == *name) {
            continue;
        }
        if let Err(why) = try_reader(cluster) {
            problems.report(
                format!("clusters.{name}.properties"),
                format!("librdkafka refuses them for reading: {why}"),
            );
        }
    }
}
