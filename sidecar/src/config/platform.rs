//! Clusters that the platform tells of, for a configuration that names no brokers: Upsun's relationships
//! (<https://docs.upsun.com/development/variables/use-variables.html>), or `KAFKA_BOOTSTRAP_SERVERS`.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use sluice_settings::Problems;

const RELATIONSHIPS: &str = "PLATFORM_RELATIONSHIPS";
const BOOTSTRAP: &str = "KAFKA_BOOTSTRAP_SERVERS";
/// The cluster of [`BOOTSTRAP`], and of a relationship without a name.
const UNNAMED: &str = "kafka";

/// A cluster that was found.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    name: String,
    servers: Vec<String>,
    source: String,
}

/// Puts what the platform tells of into `tree`, if no cluster there has brokers: under the cluster of that name, where
/// there is one, and under a new one otherwise. Gives each path that was set and what it is from.
pub(super) fn apply(
    tree: &mut Value,
    env: &BTreeMap<String, String>,
    warnings: &Problems,
) -> Vec<(String, String)> {
    let none = Map::new();
    let clusters = match tree {
        Value::Null => &none,
        Value::Object(root) => match root.get("clusters") {
            None | Some(Value::Null) => &none,
            Some(Value::Object(clusters)) => clusters,
            Some(_) => return Vec::new(),
        },
        _ => return Vec::new(),
    };
    let has_brokers = |cluster: &Value| {
        ["bootstrap_servers", "brokers"]
            .iter()
            .any(|key| cluster.get(*key).is_some_and(|v| !v.is_null()))
    };
    if clusters.values().any(has_brokers) {
        return Vec::new();
    }
    let found = find(env, warnings);
    if found.is_empty() {
        return Vec::new();
    }
    if tree.is_null() {
        *tree = Value::Object(Map::new());
    }
    let Value::Object(root) = tree else {
        return Vec::new();
    };
    let clusters = root.entry("clusters").or_insert(Value::Null);
    if clusters.is_null() {
        *clusters = Value::Object(Map::new());
    }
    let Value::Object(clusters) = clusters else {
        return Vec::new();
    };
    let mut set = Vec::new();
    for Found {
        name,
        servers,
        source,
    } in found
    {
        let known = clusters.keys().find(|key| fold(key) == fold(&name)).cloned();
        let key = known.unwrap_or(name);
        let cluster = clusters.entry(&key).or_insert(Value::Null);
        if cluster.is_null() {
            *cluster = Value::Object(Map::new());
        }
        if let Value::Object(cluster) = cluster {
            cluster.insert("bootstrap_servers".to_owned(), Value::String(servers.join(",")));
            set.push((format!("clusters.{key}.bootstrap_servers"), source));
        }
    }
    set
}

/// A relationship's name as the names of variables have it.
fn fold(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}

fn find(env: &BTreeMap<String, String>, warnings: &Problems) -> Vec<Found> {
    let mut found = Vec::new();
    if let Some(text) = env.get(RELATIONSHIPS) {
        match decode(text) {
            Some(relationships) => found.extend(relations(&relationships, warnings)),
            None => warnings.report(RELATIONSHIPS, "is not a JSON object in base64: it is ignored"),
        }
    }
    for (variable, scheme) in env {
        let Some(prefix) = variable.strip_suffix("_SCHEME").filter(|_| scheme == "kafka") else {
            continue;
        };
        if found.iter().any(|one: &Found| fold(&one.name) == fold(prefix)) {
            continue;
        }
        let of = |suffix: &str| env.get(&format!("{prefix}_{suffix}")).map(String::as_str);
        // Kubernetes has such a variable too, for any service that is named so: `tcp://10.0.0.1:9092`.
        let Some(port) = of("PORT").and_then(|port| port.parse::<u16>().ok()) else {
            warnings.report(
                variable,
                format!("is kafka, and {prefix}_PORT is no port's number: it is ignored"),
            );
            continue;
        };
        let Some(host) = of("HOST").filter(|host| !host.is_empty()) else {
            warnings.report(
                variable,
                format!("is kafka, and there is no {prefix}_HOST: it is ignored"),
            );
            continue;
        };
        if of("USERNAME").is_some_and(|user| !user.is_empty()) {
            warn_of_user(&format!("{prefix}_USERNAME"), warnings);
        }
        found.push(Found {
            name: prefix.to_lowercase(),
            servers: vec![format!("{host}:{port}")],
            source: format!("{prefix}_HOST and {prefix}_PORT"),
        });
    }
    if found.is_empty()
        && let Some(servers) = env.get(BOOTSTRAP).filter(|servers| !servers.trim().is_empty())
    {
        found.push(Found {
            name: UNNAMED.to_owned(),
            servers: servers
                .split(',')
                .map(|server| server.trim().to_owned())
                .collect(),
            source: BOOTSTRAP.to_owned(),
        });
    }
    found
}

fn warn_of_user(path: &str, warnings: &Problems) {
    warnings.report(
        path,
        "is not used: how to sign in is not told with it; `authentication` of the cluster says so",
    );
}

fn decode(text: &str) -> Option<Map<String, Value>> {
    let json = STANDARD.decode(text.trim()).ok()?;
    serde_json::from_slice(&json).ok()
}

/// The relationships to Kafka: each a list of endpoints or a single one, by name; or one endpoint and nothing else.
fn relations(relationships: &Map<String, Value>, warnings: &Problems) -> Vec<Found> {
    if let Some(server) = endpoint(relationships, RELATIONSHIPS, warnings) {
        let name = relationships
            .get("rel")
            .and_then(Value::as_str)
            .unwrap_or(UNNAMED);
        return vec![Found {
            name: name.to_owned(),
            servers: vec![server],
            source: RELATIONSHIPS.to_owned(),
        }];
    }
    let one = |(name, value): (&String, &Value)| {
        let endpoints = match value {
            Value::Array(items) => items.iter().filter_map(Value::as_object).collect(),
            Value::Object(one) => vec![one],
            _ => Vec::new(),
        };
        let path = format!("{RELATIONSHIPS}.{name}");
        let servers: Vec<String> = endpoints
            .into_iter()
            .filter_map(|one| endpoint(one, &path, warnings))
            .collect();
        (!servers.is_empty()).then(|| Found {
            name: name.clone(),
            servers,
            source: path.clone(),
        })
    };
    relationships.iter().filter_map(one).collect()
}

/// `host:port` of an endpoint, if it is one of Kafka's.
fn endpoint(endpoint: &Map<String, Value>, path: &str, warnings: &Problems) -> Option<String> {
    let text = |key: &str| {
        endpoint
            .get(key)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    if text("scheme") != Some("kafka") {
        return None;
    }
    let port = match endpoint.get("port") {
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(text)) => text.parse().ok(),
        _ => None,
    };
    let port = port.and_then(|port| u16::try_from(port).ok());
    let (Some(host), Some(port)) = (text("host"), port) else {
        warnings.report(
            path,
            "has an endpoint of Kafka's without `host` and a number as its `port`: it is ignored",
        );
        return None;
    };
    if text("username").is_some() {
        warn_of_user(&format!("{path}.username"), warnings);
    }
    Some(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    fn loaded(yaml: &str, env: &[(&str, &str)]) -> Result<(Vec<(String, String)>, String), String> {
        let env = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let lines = |problems: &[sluice_settings::Problem]| {
            problems
                .iter()
                .map(|problem| format!("{problem}\n"))
                .collect::<String>()
        };
        let loaded = load(yaml, env).map_err(|problems| lines(&problems))?;
        let clusters = loaded.config.clusters.iter();
        let clusters = clusters.map(|(name, cluster)| (name.clone(), cluster.bootstrap_servers.join(",")));
        let mut warnings = loaded.warnings;
        warnings.retain(|warning| !warning.path.ends_with("allowed_topics"));
        Ok((clusters.collect(), lines(&warnings)))
    }

    /// The clusters of an empty configuration, which must be found without a warning.
    fn found(env: &[(&str, &str)]) -> Vec<(String, String)> {
        let (clusters, warnings) = loaded("", env).unwrap();
        assert_eq!(warnings, "", "{env:?}");
        clusters
    }

    fn clusters(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, servers)| ((*name).to_owned(), (*servers).to_owned()))
            .collect()
    }

    #[test]
    fn variables_of_relationships() {
        let env = [
            ("KAFKA_SCHEME", "kafka"),
            ("KAFKA_HOST", "kafka.internal"),
            ("KAFKA_PORT", "9092"),
            ("KAFKA_USERNAME", ""),
            ("MY_EVENTS_SCHEME", "kafka"),
            ("MY_EVENTS_HOST", "events.internal"),
            ("MY_EVENTS_PORT", "9093"),
            ("DATABASE_SCHEME", "pgsql"),
            ("DATABASE_HOST", "db.internal"),
            ("DATABASE_PORT", "5432"),
        ];
        let expected = [
            ("kafka", "kafka.internal:9092"),
            ("my_events", "events.internal:9093"),
        ];
        assert_eq!(found(&env), clusters(&expected));
    }

    #[test]
    fn relationships_in_one_variable() {
        let base64 = |json: &str| STANDARD.encode(json);
        let keyed = base64(
            r#"{"my-kafka": [{"scheme": "kafka", "host": "a", "port": 9092, "username": null},
                             {"scheme": "kafka", "host": "b", "port": "9093"}],
                "database": [{"scheme": "pgsql", "host": "c", "port": 5432}],
                "events": {"scheme": "kafka", "host": "d", "port": 9094}}"#,
        );
        let expected = [("events", "d:9094"), ("my-kafka", "a:9092,b:9093")];
        assert_eq!(found(&[(RELATIONSHIPS, &keyed)]), clusters(&expected));
        // Both ways tell of the same relationship: it is one cluster, by the name that has its hyphen.
        let env = [
            (RELATIONSHIPS, keyed.as_str()),
            ("MY_KAFKA_SCHEME", "kafka"),
            ("MY_KAFKA_HOST", "a"),
            ("MY_KAFKA_PORT", "9092"),
        ];
        assert_eq!(found(&env), clusters(&expected));
        let bare = base64(r#"{"scheme": "kafka", "host": "a", "port": 9092, "rel": "kafka"}"#);
        assert_eq!(found(&[(RELATIONSHIPS, &bare)]), clusters(&[("kafka", "a:9092")]));
    }

    #[test]
    fn bootstrap_servers_are_the_last_resort() {
        let bootstrap = (BOOTSTRAP, "a:9092, b:9093");
        assert_eq!(found(&[bootstrap]), clusters(&[("kafka", "a:9092,b:9093")]));
        let env = [
            bootstrap,
            ("EVENTS_SCHEME", "kafka"),
            ("EVENTS_HOST", "e"),
            ("EVENTS_PORT", "9092"),
        ];
        assert_eq!(found(&env), clusters(&[("events", "e:9092")]));
    }

    #[test]
    fn what_is_configured_comes_first() {
        let env = [
            ("KAFKA_SCHEME", "kafka"),
            ("KAFKA_HOST", "a"),
            ("KAFKA_PORT", "9092"),
        ];
        let yaml = "clusters: {main: {bootstrap_servers: b, allowed_topics: [t]}}";
        assert_eq!(loaded(yaml, &env).unwrap().0, clusters(&[("main", "b:9092")]));
        let yaml = "clusters: {main: {brokers: [b], allowed_topics: [t]}}";
        assert_eq!(loaded(yaml, &env).unwrap().0, clusters(&[("main", "b:9092")]));
        // What else there is to say of a cluster can be said.
        let yaml = "clusters: {Kafka: {allowed_topics: [t], client_id: mine}}";
        assert_eq!(loaded(yaml, &env).unwrap().0, clusters(&[("Kafka", "a:9092")]));
        let by_variable = ("SLUICE__CLUSTERS__KAFKA__ALLOWED_TOPICS", "[t]");
        let env = [&env[..], &[by_variable]].concat();
        assert_eq!(found(&env), clusters(&[("kafka", "a:9092")]));
    }

    #[test]
    fn what_only_looks_like_kafka() {
        // Kubernetes' links to a service that is named kafka.
        let links = [
            ("KAFKA_PORT", "tcp://10.0.0.1:9092"),
            ("KAFKA_SERVICE_HOST", "10.0.0.1"),
            ("KAFKA_PORT_9092_TCP_PORT", "9092"),
        ];
        let nothing = "clusters: at least one is required";
        assert!(loaded("", &links).unwrap_err().starts_with(nothing));
        let ours = ("KAFKA_BOOTSTRAP_SERVERS", "b:1");
        assert_eq!(
            found(&[&links[..], &[ours]].concat()),
            clusters(&[("kafka", "b:1")])
        );
        let odd = [
            ("KAFKA_SCHEME", "kafka"),
            ("KAFKA_HOST", "a"),
            ("KAFKA_PORT", "tcp://10.0.0.1:9092"),
            ("OTHER_SCHEME", "kafka"),
            ("OTHER_PORT", "1"),
            ("THIRD_SCHEME", "kafka"),
            ("THIRD_HOST", "c"),
            ("THIRD_PORT", "3"),
            ("THIRD_USERNAME", "alice"),
            (RELATIONSHIPS, "not base64"),
        ];
        let (found, warnings) = loaded("", &odd).unwrap();
        assert_eq!(found, clusters(&[("third", "c:3")]));
        assert_eq!(
            warnings,
            "PLATFORM_RELATIONSHIPS: is not a JSON object in base64: it is ignored\n\
             KAFKA_SCHEME: is kafka, and KAFKA_PORT is no port's number: it is ignored\n\
             OTHER_SCHEME: is kafka, and there is no OTHER_HOST: it is ignored\n\
             THIRD_USERNAME: is not used: how to sign in is not told with it; `authentication` of the cluster says so\n"
        );
        let bad = STANDARD.encode(r#"{"kafka": [{"scheme": "kafka", "host": "a", "port": "tcp://a"}]}"#);
        let why = loaded("", &[(RELATIONSHIPS, &bad)]).unwrap_err();
        assert!(why.starts_with(nothing), "{why}");
    }
}
