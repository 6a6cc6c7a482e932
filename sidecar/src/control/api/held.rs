//! `/held`: what is held of subscriptions, and of those that are there no more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::Api;
use crate::config::Cluster;
use crate::control::view::View;
use crate::json_api::{Answer, Error};

/// When what is held of a deleted subscription is removed: soon, and once more when every sidecar has ended it, since each may
/// hold events until then.
const REMOVED_AT: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(35)];

/// `DELETE /subscriptions/{id}?held=keep`: whether what is held of it is to stay.
pub(super) fn keeps(arguments: &HashMap<String, String>) -> Result<bool, Error> {
    if let Some(other) = arguments.keys().find(|name| *name != "held") {
        return Err(Error::Unreadable(format!(
            "there is no argument {other:?}: held can be given"
        )));
    }
    match arguments.get("held").map(String::as_str) {
        None | Some("remove") => Ok(false),
        Some("keep") => Ok(true),
        Some(other) => Err(Error::Unreadable(format!(
            "held must be keep or remove, not {other:?}"
        ))),
    }
}

/// Removes what is held of a subscription that was deleted, in the background. Its source was on the cluster `name`.
pub(super) fn remove_later(api: &Api, id: &str, name: &str) {
    let Some((name, cluster)) = clusters(api).into_iter().find(|(other, _)| other == name) else {
        return;
    };
    let (api, id) = (api.clone(), id.to_owned());
    tokio::spawn(async move {
        for after in REMOVED_AT {
            tokio::time::sleep(after).await;
            match api.runner.forget_held(&name, &cluster, &id).await {
                Ok(0) => {}
                Ok(events) => {
                    tracing::info!(
                        subscription = id,
                        events,
                        "removed what was held of a deleted subscription"
                    );
                }
                Err(why) => {
                    tracing::error!(
                        subscription = id,
                        why,
                        "what is held of a deleted subscription stays: remove it by DELETE /held/{{subscription}}"
                    );
                }
            }
        }
    });
}

fn is_known(api: &Api, view: &View, id: &str) -> bool {
    api.control.fixed.subscriptions.contains_key(id) || view.subscriptions.contains_key(id)
}

/// The clusters that subscriptions can read, as they are connected to now.
fn clusters(api: &Api) -> Vec<(String, Arc<Cluster>)> {
    let desired = api.control.desired.borrow();
    let read = desired
        .clusters
        .iter()
        .filter(|(_, cluster)| cluster.consumes && cluster.callers.is_none());
    read.map(|(name, cluster)| (name.clone(), Arc::clone(cluster)))
        .collect()
}

/// `GET /held`: how many events are held of each subscription on each cluster, and whether it is still there.
pub(super) async fn list(State(api): State<Api>, Query(arguments): Query<HashMap<String, String>>) -> Answer {
    if let Some(name) = arguments.keys().next() {
        return Err(Error::Unreadable(format!("there is no argument {name:?}")));
    }
    api.catch_up().await;
    let view = api.view();
    let (mut held, mut errors) = (Vec::new(), Vec::new());
    for (name, cluster) in clusters(&api) {
        match api.runner.held(&name, &cluster).await {
            Ok(all) => held.extend(all.into_iter().map(|(id, events)| {
                let known = is_known(&api, &view, &id);
                json!({"cluster": name, "subscription": id, "events": events, "known": known})
            })),
            Err(why) => errors.push(json!({"cluster": name, "error": why})),
        }
    }
    let mut body = json!({"held": held});
    if let (false, Some(body)) = (errors.is_empty(), body.as_object_mut()) {
        body.insert("errors".to_owned(), Value::Array(errors));
    }
    Ok(axum::Json(body).into_response())
}

/// `DELETE /held/{subscription}`: removes what is held of a subscription that is there no more.
pub(super) async fn delete(State(api): State<Api>, Path(id): Path<String>) -> Answer {
    api.may_change()?;
    api.catch_up().await;
    let view = api.view();
    if is_known(&api, &view, &id) {
        return Err(Error::Conflict(format!(
            "subscription {id} is there: retry or drop what is parked of it, or delete it"
        )));
    }
    let known = api.phase();
    if known.is_some_and(|phase| phase != crate::registry::Phase::Ready) {
        return Err(Error::Unavailable(
            "whether the subscription is there cannot be told before the state was read".to_owned(),
        ));
    }
    let mut events = 0;
    for (name, cluster) in clusters(&api) {
        let forgotten = api.runner.forget_held(&name, &cluster, &id).await;
        events += forgotten.map_err(|why| Error::Unavailable(format!("cluster {name}: {why}")))?;
    }
    Ok(axum::Json(json!({"subscription": id, "events": events})).into_response())
}
