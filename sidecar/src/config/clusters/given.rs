//! Clusters that are written as properties: Restate's `ingress.kafka-clusters`, and those that are made by the admin API.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sluice_settings::{Problem, Problems, Section};

use super::certificates::Certificates;
use super::read_one;
use crate::config::env::Overrides;
use crate::config::read::{Context, check_name};
use crate::config::{Cluster, Secret};
use crate::kafka::properties::{self, given};
use crate::kafka::reader;

/// Properties of a group's member that a cluster gives to its subscriptions; nothing else of Sluice joins a group.
const OF_GROUPS: [&str; 2] = ["group.id", "group.instance.id"];

/// Reads `ingress: {kafka-clusters: […]}`: `name`, `brokers`, and any property of librdkafka's beside them.
pub(super) fn ingress(
    root: &Section<'_>,
    certificates: &Certificates,
    clusters: &mut BTreeMap<String, Cluster>,
    context: &Context<'_>,
) {
    let Some(ingress) = root.section("ingress") else {
        return;
    };
    for section in ingress.sections("kafka-clusters").unwrap_or_default() {
        if section.raw("name").is_none() {
            section.problem("name", "is required, as my-cluster");
        }
        let name = section.name("name");
        let mut rest = Map::new();
        for key in section.keys().filter(|key| *key != "name") {
            rest.insert(key.to_owned(), section.raw(key).cloned().unwrap_or_default());
        }
        let brokers = rest.shift_remove("brokers");
        let path = section.path().to_owned();
        let cluster = of_properties(&path, brokers, rest, certificates, context);
        section.finish();
        let Some(name) = name else { continue };
        check_name(
            &Section::at(&Value::Null, format!("{path}.name"), context.problems),
            &name,
            context,
        );
        if clusters.contains_key(&name) {
            context.problems.report(
                format!("{path}.name"),
                format!("a cluster is named {name:?} already"),
            );
            continue;
        }
        clusters.insert(name, cluster);
    }
    ingress.finish();
}

/// A cluster of properties that stand beside its brokers. It is read, and not written: subscriptions use it.
fn of_properties(
    path: &str,
    brokers: Option<Value>,
    mut rest: Map<String, Value>,
    certificates: &Certificates,
    context: &Context<'_>,
) -> Cluster {
    let mut tree = json!({"producer": {"enabled": false}});
    let mut of_groups = BTreeMap::new();
    for name in OF_GROUPS {
        match rest.shift_remove(name) {
            Some(Value::String(text)) => {
                of_groups.insert(name.to_owned(), Secret::new(text));
            }
            Some(_) => context
                .problems
                .report(format!("{path}.{name}"), "must be a string"),
            None => {}
        }
    }
    let named = rest
        .keys()
        .find(|name| properties::canonical(name) == "bootstrap.servers")
        .cloned();
    let servers = named.as_ref().and_then(|name| rest.shift_remove(name));
    if let Some(tree) = tree.as_object_mut() {
        tree.extend(brokers.map(|brokers| ("brokers".to_owned(), brokers)));
        tree.extend(servers.map(|servers| ("bootstrap_servers".to_owned(), servers)));
        tree.insert("properties".to_owned(), rest.into());
    }
    // What is wrong is told where it was written.
    let problems = Problems::default();
    let own = Context::new((&problems, context.warnings), context.env, context.overrides);
    let mut cluster = read_one(Section::at(&tree, path.to_owned(), &problems), certificates, &own);
    cluster.properties.extend(of_groups);
    context.files.borrow_mut().extend(own.files.into_inner());
    context.fields.borrow_mut().extend(own.fields.into_inner());
    let servers = named.unwrap_or_else(|| "brokers".to_owned());
    for problem in problems.into_vec() {
        let place = problem
            .path
            .replace(".properties.", ".")
            .replace(".bootstrap_servers", &format!(".{servers}"));
        let message = problem
            .message
            .replace("`bootstrap_servers` of the cluster", "`brokers`");
        context.problems.report(place, message);
    }
    cluster
}

/// The cluster that these properties make, which were given by somebody who may not have the sidecar read its files or run
/// anything.
///
/// # Errors
/// Everything that is wrong with them; values are not quoted that may be secrets.
pub fn cluster_of(given: &BTreeMap<String, Secret>) -> Result<Cluster, Vec<Problem>> {
    let problems = Problems::default();
    let mut rest = Map::new();
    for (name, value) in given {
        match given::refuse(name) {
            Some(why) => problems.report(format!("properties.{name}"), why),
            None => {
                rest.insert(name.clone(), value.expose().into());
            }
        }
    }
    let servers = given
        .keys()
        .filter(|name| properties::canonical(name) == "bootstrap.servers");
    match servers.count() {
        1 => {}
        0 => problems.report(
            "properties",
            "must have bootstrap.servers (or metadata.broker.list), as \"kafka:9092\"",
        ),
        _ => problems.report(
            "properties",
            "has both bootstrap.servers and metadata.broker.list: keep one",
        ),
    }
    if !problems.is_empty() {
        return Err(problems.into_vec());
    }
    let (env, overrides, warnings) = (BTreeMap::new(), Overrides::default(), Problems::default());
    let context = Context::new((&problems, &warnings), &env, &overrides);
    let none = Certificates::new();
    let cluster = of_properties("properties", None, rest, &none, &context);
    drop(context);
    if problems.is_empty()
        && let Err(why) = reader::try_reader(&cluster)
    {
        problems.report("properties", why);
    }
    if problems.is_empty() {
        Ok(cluster)
    } else {
        Err(problems.into_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Cluster, String> {
        let given = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Secret::new(*value)));
        cluster_of(&given.collect()).map_err(|problems| {
            problems
                .iter()
                .map(|problem| format!("{problem}\n"))
                .collect::<String>()
        })
    }

    #[test]
    fn a_cluster_is_what_its_properties_say() {
        let cluster = of(&[
            ("metadata.broker.list", "a:9092,b:9093"),
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", "me"),
            ("sasl.password", "hunter2"),
            ("group.id", "mine"),
        ])
        .unwrap();
        assert_eq!(cluster.bootstrap_servers, ["a:9092", "b:9093"]);
        assert!(cluster.consumes && !cluster.produces);
        assert_eq!(cluster.properties["group.id"].expose(), "mine");
        assert_eq!(cluster.properties["sasl.password"].expose(), "hunter2");
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once_and_no_secret() {
        let why = of(&[
            ("ssl.ca.location", "/etc/passwd"),
            ("plugin.library.paths", "evil.so"),
            ("sasl.password", "hunter2"),
        ])
        .unwrap_err();
        assert!(why.contains("properties.ssl.ca.location: "), "{why}");
        assert!(why.contains("properties.plugin.library.paths: "), "{why}");
        assert!(why.contains("properties: must have bootstrap.servers"), "{why}");
        assert!(!why.contains("hunter2"), "{why}");
        let why = of(&[("bootstrap.servers", "a:9092"), ("fetch.min.bytes", "many")]).unwrap_err();
        assert!(why.starts_with("properties.fetch.min.bytes: "), "{why}");
        let why = of(&[("bootstrap.servers", "not a broker")]).unwrap_err();
        assert!(why.contains("host:port"), "{why}");
    }
}
