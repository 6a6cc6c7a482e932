//! What the routes of an Envoy bootstrap name of a sidecar's configuration, and whether it is there.

use sluice_filter::config::envoy::Wanted;
use sluice_settings::Problem;

use crate::config::{Cluster, Config};

/// What the routes name and `config` does not have, or does not let be written; each would be refused when a request comes.
pub(super) fn problems(wanted: &[Wanted], config: &Config) -> Vec<Problem> {
    let mut found: Vec<Problem> = Vec::new();
    for route in wanted {
        for message in messages(route, config) {
            let path = route.path.clone();
            let problem = Problem { path, message };
            if !found.contains(&problem) {
                found.push(problem);
            }
        }
    }
    found
}

fn messages(route: &Wanted, config: &Config) -> Vec<String> {
    let mut messages = Vec::new();
    for name in route.producers.iter().filter(|name| !name.is_empty()) {
        if !config.producers.contains_key(name) {
            messages.push(format!("producer: the sidecar has no producer {name:?}"));
        }
    }
    if let Some(name) = &route.template
        && !config.templates.named.contains_key(name)
    {
        messages.push(format!("template.name: the sidecar has no template {name:?}"));
    }
    let mut clusters: Vec<(&str, &Cluster)> = Vec::new();
    for name in &route.clusters {
        let asked = Some(name.as_str()).filter(|name| !name.is_empty());
        let Some(name) = asked.or(config.default_cluster.as_deref()) else {
            messages.push(
                "cluster_name: is not set, and the sidecar has several clusters and no default_cluster"
                    .to_owned(),
            );
            continue;
        };
        match config.clusters.get(name) {
            None => messages.push(format!("cluster_name: the sidecar has no cluster {name:?}")),
            Some(cluster) if !cluster.produces => {
                messages.push(format!(
                    "cluster_name: the sidecar's clusters.{name}.producer.enabled is false"
                ));
            }
            Some(cluster) => clusters.push((name, cluster)),
        }
    }
    if let Some((topic, own_id)) = &route.reply {
        for (name, _) in &clusters {
            let listed = &config.replies.topics;
            if !listed
                .iter()
                .any(|entry| entry.topic == *topic && entry.cluster == *name)
            {
                messages.push(format!(
                    "reply.topic: {topic:?} of cluster {name:?} is not in the sidecar's replies.topics"
                ));
            }
        }
        if *own_id && config.replies.token_key.is_none() {
            messages.push(
                "reply.correlation_id: the clients' own ids could be guessed: set the sidecar's replies.token_key".to_owned(),
            );
        }
    }
    // Of several clusters that a request chooses among, each topic may be one's.
    for topic in &route.topics {
        if !clusters.is_empty()
            && !clusters
                .iter()
                .any(|(_, cluster)| cluster.allowed_topics.allows(topic))
        {
            let names: Vec<String> = clusters
                .iter()
                .map(|(name, _)| format!("clusters.{name}.allowed_topics"))
                .collect();
            messages.push(format!(
                "topic: {topic:?} is not in the sidecar's {}",
                names.join(" or ")
            ));
        }
    }
    messages
}
