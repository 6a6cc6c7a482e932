//! `subscriptions:`, and where events are held that are to be tried again.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_settings::Section;

use super::read::{Context, check_topic};
use super::{Cluster, HeldTopic};
use crate::subscriptions::spec::{Scope, Spec};

/// The name of the held topic where none is configured.
pub const HELD_TOPIC: &str = "__sluice_held";

pub(super) fn read(
    root: &Section<'_>,
    clusters: &BTreeMap<String, Cluster>,
    context: &Context<'_>,
) -> (BTreeMap<String, Arc<Spec>>, HeldTopic) {
    let held = held(root);
    let scope = Scope {
        clusters,
        held_topic: &held.topic,
        secrets: context,
    };
    let mut all = BTreeMap::new();
    for (id, section) in root.named_sections("subscriptions").unwrap_or_default() {
        super::read::check_name(&section, &id, context);
        let path = section.path_of("options.group.id");
        if let Some(spec) = Spec::read(section, &[], scope) {
            if let Some(cluster) = clusters.get(&spec.source.cluster)
                && let Err(why) = spec.check_group(&id, cluster)
            {
                context.problems.report(path, why);
            }
            all.insert(id, Arc::new(spec));
        }
    }
    (all, held)
}

fn held(root: &Section<'_>) -> HeldTopic {
    let mut held = HeldTopic::default();
    let Some(section) = root.section("held") else {
        return held;
    };
    if let Some(topic) = section.name("topic") {
        if let Err(why) = check_topic(&topic) {
            section.problem("topic", why);
        }
        held.topic = topic;
    }
    if let Some(n) = section.integer("partitions", 1..=1000) {
        held.partitions = i32::try_from(n).unwrap_or(1);
    }
    let factor = section.integer("replication_factor", 1..=100);
    held.replication_factor = factor.and_then(|n| i32::try_from(n).ok());
    section.finish();
    held
}

#[cfg(test)]
mod tests {
    use crate::config::load;

    #[test]
    fn subscriptions_and_the_held_topic_are_read() {
        let yaml = "clusters: {main: {brokers: ['a:1']}}\n\
                    held: {topic: set-aside, partitions: 3, replication_factor: 2}\n\
                    subscriptions: {to-billing: {source: kafka://main/orders, sink: 'http://127.0.0.1:9/', options: {concurrency: 3}}}";
        let config = load(yaml, std::iter::empty()).unwrap().config;
        assert_eq!(config.subscriptions["to-billing"].concurrency, 3);
        assert_eq!(
            (config.held.topic.as_str(), config.held.partitions),
            ("set-aside", 3)
        );
        assert_eq!(config.held.replication_factor, Some(2));
    }

    #[test]
    fn groups_are_those_that_the_cluster_allows() {
        let with = |options: &str, sink: &str| {
            let yaml = format!(
                "clusters: {{main: {{brokers: ['a:1'], consumer: {{groups: ['ORG_ID.*', deploy-bot]}}}}}}\n\
                 subscriptions: {{to-billing: {{source: kafka://main/orders, sink: '{sink}', options: {{{options}}}}}}}"
            );
            let problems = load(&yaml, std::iter::empty()).err().unwrap_or_default();
            problems.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let webhook = "http://127.0.0.1:9/";
        for group in ["ORG_ID.billing", "ORG_ID.", "deploy-bot"] {
            assert_eq!(with(&format!("group.id: {group}"), webhook), [""; 0], "{group}");
        }
        for (options, group) in [
            ("", "to-billing"),
            ("group.id: OTHER.billing", "OTHER.billing"),
            ("group.id: deploy-bot-2", "deploy-bot-2"),
        ] {
            let expected = format!(
                "subscriptions.to-billing.options.group.id: group {group:?} is none of those that \
                 clusters.main.consumer.groups allows: ORG_ID.*, deploy-bot"
            );
            assert_eq!(with(options, webhook), [expected]);
        }
        // Which group a service's handler has is not known here.
        assert_eq!(with("", "service://Cart/add"), [""; 0]);
        assert_eq!(with("group.id: other", "service://Cart/add").len(), 1);
    }

    #[test]
    fn what_is_wrong_with_them_is_said_at_once() {
        let yaml = "clusters: {main: {brokers: ['a:1']}}\n\
                    held: {topic: 'a b', partitions: 0, kind: x}\n\
                    subscriptions: {'to billing': {source: 'kafka://main/__sluice_held'}}";
        let problems = load(yaml, std::iter::empty()).unwrap_err();
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        for part in [
            "held.topic: ",
            "held.partitions: must be from 1",
            "held.kind: unknown field",
            "subscriptions.to billing: a name is 1 to 64",
            "subscriptions.to billing.sink: is required",
        ] {
            assert!(
                problems.iter().any(|problem| problem.starts_with(part)),
                "{part}: {problems:?}"
            );
        }
    }
}
