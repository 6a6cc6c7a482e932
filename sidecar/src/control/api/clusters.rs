//! `/kafka-clusters`

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};
use sluice_settings::{Problem, Problems, Section};

use super::Api;
use crate::control::item::{Item, KafkaCluster, Kind};
use crate::control::redact;
use crate::control::view::{MadeCluster, View};
use crate::json_api::{Answer, Error, Json, check_match, now, object, tagged};

const WHAT: &str = "Kafka cluster";

/// `POST /kafka-clusters`
pub(super) async fn create(State(api): State<Api>, Json(body): Json) -> Answer {
    api.registry()?;
    let (name, cluster, problems) = read(body)?;
    let cluster = checked(cluster, problems).await?;
    if api.control.fixed.clusters.contains_key(&name) {
        return Err(Error::Conflict(format!(
            "a cluster of the sidecar's configuration is named {name:?}"
        )));
    }
    api.catch_up().await;
    if api.view().made_clusters.contains_key(&name) {
        return Err(Error::Conflict(format!(
            "a cluster is named {name:?} already: PATCH changes it"
        )));
    }
    let version = api
        .put(Kind::KafkaClusters, &name, 0, &Item::KafkaCluster(cluster))
        .await?;
    let location = [(LOCATION, format!("/kafka-clusters/{name}"))];
    let told = told_of(&api, &name, false)?;
    Ok(tagged(
        version,
        (StatusCode::CREATED, location, axum::Json(told)).into_response(),
    ))
}

/// The name and what goes with it, and what is wrong with their form.
fn read(body: Value) -> Result<(String, KafkaCluster, Vec<Problem>), Error> {
    let problems = Problems::default();
    let tree = Value::Object(object(body)?);
    let section = Section::root(&tree, &problems);
    if section.raw("name").is_none() {
        section.problem("name", "is required");
    }
    let name = section.name("name").unwrap_or_default();
    if !name.is_empty() && !is_hostname(&name) {
        section.problem(
            "name",
            "must be a host name: 1 to 253 of the characters a-z, A-Z, 0-9, `-` and `.`, no part of it longer than 63",
        );
    }
    if section.raw("properties").is_none() {
        section.problem(
            "properties",
            "is required, as {\"bootstrap.servers\": \"kafka:9092\"}",
        );
    }
    let properties = properties(&section);
    section.finish();
    let cluster = KafkaCluster {
        properties,
        created_at: now(),
        rest: Map::new(),
    };
    Ok((name, cluster, problems.into_vec()))
}

/// Properties as text: numbers and booleans are taken for it.
fn properties(section: &Section<'_>) -> BTreeMap<String, String> {
    section
        .scalars("properties")
        .unwrap_or_default()
        .into_iter()
        .collect()
}

/// Everything that is wrong with a cluster, if anything is.
async fn checked(cluster: KafkaCluster, mut problems: Vec<Problem>) -> Result<KafkaCluster, Error> {
    for (name, value) in &cluster.properties {
        if value == redact::HIDDEN {
            problems.push(Problem {
                path: format!("properties.{name}"),
                message: format!("is {value:?}, which is how a secret is shown: give the secret itself"),
            });
        }
    }
    let read = tokio::task::spawn_blocking(move || (cluster.read(), cluster)).await;
    let (read, cluster) = read.map_err(|error| Error::Unavailable(error.to_string()))?;
    if let Err(more) = read {
        // What is required and was told to be missing is not told twice.
        let told = |problem: &Problem| problems.iter().all(|other| other.path != problem.path);
        let more: Vec<Problem> = more.into_iter().filter(told).collect();
        problems.extend(more);
    }
    if problems.is_empty() {
        Ok(cluster)
    } else {
        Err(Error::Invalid(problems))
    }
}

/// What Restate takes for a cluster's name (RFC 1123, 2.1).
fn is_hostname(name: &str) -> bool {
    let part = |part: &str| {
        (1..=63).contains(&part.len())
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(part)
}

/// `GET /kafka-clusters`
pub(super) async fn list(State(api): State<Api>) -> Answer {
    let view = api.view();
    let fixed = api.control.fixed.clusters.keys();
    let mut all: Vec<Value> = fixed.filter_map(|name| of_config(&api, name)).collect();
    all.extend(
        view.made_clusters
            .iter()
            .map(|(name, made)| of_api(&api, name, made)),
    );
    let prefix = Kind::KafkaClusters.prefix();
    let unreadable = view
        .unreadable
        .iter()
        .filter_map(|(key, why)| Some((key.strip_prefix(prefix)?, &**why)));
    all.extend(unreadable.map(|(name, why)| json!({"name": name, "info": [{"message": why}]})));
    Ok(axum::Json(json!({"clusters": all})).into_response())
}

/// `GET /kafka-clusters/{name}[?include_subscriptions=true]`
pub(super) async fn show(
    State(api): State<Api>,
    Path(name): Path<String>,
    Query(arguments): Query<HashMap<String, String>>,
) -> Answer {
    let subscriptions = flag(&arguments, "include_subscriptions")?;
    if subscriptions {
        api.catch_up().await;
    }
    if !api.control.fixed.clusters.contains_key(&name) {
        let (_, made) = found(&api, &name).await?;
        let told = told_of(&api, &name, subscriptions)?;
        return Ok(tagged(made.version, axum::Json(told).into_response()));
    }
    Ok(axum::Json(told_of(&api, &name, subscriptions)?).into_response())
}

/// A boolean argument, and no others.
pub(super) fn flag(arguments: &HashMap<String, String>, name: &str) -> Result<bool, Error> {
    if let Some(other) = arguments.keys().find(|other| *other != name) {
        return Err(Error::Unreadable(format!(
            "there is no argument {other:?}: {name} can be given"
        )));
    }
    match arguments.get(name).map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("" | "true") => Ok(true),
        Some(other) => Err(Error::Unreadable(format!(
            "{name} must be true or false, not {other:?}"
        ))),
    }
}

fn told_of(api: &Api, name: &str, subscriptions: bool) -> Result<Value, Error> {
    let view = api.view();
    let told = match view.made_clusters.get(name) {
        Some(made) if !api.control.fixed.clusters.contains_key(name) => Some(of_api(api, name, made)),
        _ => of_config(api, name),
    };
    let mut told = told.ok_or_else(|| api.missing(Kind::KafkaClusters, WHAT, name))?;
    if let (true, Some(told)) = (subscriptions, told.as_object_mut()) {
        let own = api
            .control
            .fixed
            .subscriptions
            .iter()
            .filter(|(_, spec)| spec.source.cluster == name);
        let mut ids: Vec<&str> = own.map(|(id, _)| id.as_str()).collect();
        ids.extend(view.of_cluster(name));
        told.insert("subscriptions".to_owned(), ids.into());
    }
    Ok(told)
}

async fn found(api: &Api, name: &str) -> Result<(Arc<View>, MadeCluster), Error> {
    if api.control.fixed.clusters.contains_key(name) {
        return Err(Error::ReadOnly(format!(
            "cluster {name} is in the sidecar's configuration, and is changed there"
        )));
    }
    if !api.view().made_clusters.contains_key(name) {
        api.catch_up().await;
    }
    let view = api.view();
    let made = view
        .made_clusters
        .get(name)
        .cloned()
        .ok_or_else(|| api.missing(Kind::KafkaClusters, WHAT, name))?;
    Ok((view, made))
}

/// `PATCH /kafka-clusters/{name}`: other properties in the place of all there were. Its subscriptions start again.
///
/// All of them: with some kept, whoever may not read the secrets could have them shown to other brokers.
pub(super) async fn change(
    State(api): State<Api>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Json(body): Json,
) -> Answer {
    api.registry()?;
    let (_, made) = found(&api, &name).await?;
    check_match(&headers, made.version)?;
    let (properties, problems) = read_change(body)?;
    let mut cluster = made
        .item
        .cluster()
        .cloned()
        .ok_or_else(|| api.missing(Kind::KafkaClusters, WHAT, &name))?;
    cluster.properties = properties;
    let cluster = checked(cluster, problems).await?;
    let version = api
        .put(
            Kind::KafkaClusters,
            &name,
            made.version,
            &Item::KafkaCluster(cluster),
        )
        .await?;
    Ok(tagged(
        version,
        axum::Json(told_of(&api, &name, false)?).into_response(),
    ))
}

fn read_change(body: Value) -> Result<(BTreeMap<String, String>, Vec<Problem>), Error> {
    let problems = Problems::default();
    let tree = Value::Object(object(body)?);
    let section = Section::root(&tree, &problems);
    if section.raw("properties").is_none() {
        section.problem("properties", "is required: all of them, secrets too");
    }
    let properties = properties(&section);
    section.finish();
    Ok((properties, problems.into_vec()))
}

/// `DELETE /kafka-clusters/{name}[?force=true]`
pub(super) async fn delete(
    State(api): State<Api>,
    Path(name): Path<String>,
    Query(arguments): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Answer {
    api.registry()?;
    let force = flag(&arguments, "force")?;
    api.catch_up().await;
    let (view, made) = found(&api, &name).await?;
    check_match(&headers, made.version)?;
    let users = view.of_cluster(&name);
    if !force && !users.is_empty() {
        return Err(Error::Conflict(format!(
            "subscriptions read from {name}: {}; delete them first, or say ?force=true and they stop",
            users.join(", ")
        )));
    }
    api.remove(Kind::KafkaClusters, &name, made.version).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(json!({"name": name}))).into_response())
}

fn of_config(api: &Api, name: &str) -> Option<Value> {
    let cluster = api.control.fixed.clusters.get(name)?;
    let mut properties: BTreeMap<&str, &str> = cluster
        .properties
        .iter()
        .map(|(name, value)| (name.as_str(), redact::property(name, value.expose())))
        .collect();
    let servers = cluster.bootstrap_servers.join(",");
    properties.insert("bootstrap.servers", &servers);
    let mut info = Vec::new();
    if api.view().made_clusters.contains_key(name) {
        info.push(json!({"message": "a cluster of this name was made by the API too: that of the configuration is used"}));
    }
    Some(json!({"name": name, "properties": properties, "read_only": true, "info": info}))
}

fn of_api(api: &Api, name: &str, made: &MadeCluster) -> Value {
    let Some(cluster) = made.item.cluster() else {
        return Value::Null;
    };
    let shown = cluster
        .properties
        .iter()
        .map(|(name, value)| (name.as_str(), redact::property(name, value)));
    let properties: BTreeMap<&str, &str> = shown.collect();
    let mut info = Vec::new();
    if let Err(problems) = &made.read {
        info.extend(
            problems
                .iter()
                .map(|problem| json!({"message": problem.to_string()})),
        );
    }
    if api.control.fixed.clusters.contains_key(name) {
        info.push(json!({"message": "a cluster of the sidecar's configuration has the same name, and is used instead"}));
    }
    json!({
        "name": name,
        "properties": properties,
        "created_at": cluster.created_at,
        "version": made.version,
        "read_only": false,
        "info": info,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_host_name() {
        for name in ["a", "my-cluster", "prod.eu-1", "7"] {
            assert!(is_hostname(name), "{name}");
        }
        for name in ["", "-a", "a-", "a..b", "a_b", "a/b", &"a".repeat(64), "é"] {
            assert!(!is_hostname(name), "{name}");
        }
    }
}
