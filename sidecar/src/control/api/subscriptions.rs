//! `/subscriptions`

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};
use sluice_settings::{Problem, Problems, Section};

use super::Api;
use super::held;
use crate::control::copartition;
use crate::control::item::{Item, Kind, Subscription};
use crate::control::redact;
use crate::control::together;
use crate::control::view::{MadeSubscription, View};
use crate::json_api::{Answer, Error, Json, check_match, new_id, now, object, tagged};
use crate::subscriptions::running::{Order, Refused};
use crate::subscriptions::spec::Spec;

const WHAT: &str = "subscription";
/// Where somebody keeps a subscription from delivering, in its options.
const PAUSED: &str = "paused";

/// `POST /subscriptions`
pub(super) async fn create(State(api): State<Api>, Json(body): Json) -> Answer {
    api.registry()?;
    let subscription = read(body)?;
    // Its cluster or its service may have been made at another sidecar just now.
    api.catch_up().await;
    let id = new_id("sub")?;
    check(&api, &id, &subscription).await?;
    let version = api
        .put(Kind::Subscriptions, &id, 0, &Item::Subscription(subscription))
        .await?;
    let told = told_of(&api, &id)?;
    let location = [(LOCATION, format!("/subscriptions/{id}"))];
    Ok(tagged(
        version,
        (StatusCode::CREATED, location, axum::Json(told)).into_response(),
    ))
}

fn read(body: Value) -> Result<Subscription, Error> {
    let problems = Problems::default();
    let tree = Value::Object(object(body)?);
    let section = Section::root(&tree, &problems);
    let text = |key| {
        if section.raw(key).is_none() {
            section.problem(key, "is required");
        }
        section.name(key).unwrap_or_default()
    };
    let (source, sink) = (text("source"), text("sink"));
    let options = options(&section);
    section.finish();
    if !problems.is_empty() {
        return Err(Error::Invalid(problems.into_vec()));
    }
    Ok(Subscription {
        source,
        sink,
        options,
        created_at: now(),
        rest: Map::new(),
    })
}

fn options(section: &Section<'_>) -> Map<String, Value> {
    let Some(options) = section.section("options") else {
        return Map::new();
    };
    let values = options
        .keys()
        .map(|name| (name.to_owned(), options.raw(name).cloned().unwrap_or_default()));
    values.collect()
}

/// Whether a subscription may be as it is asked for.
async fn check(api: &Api, id: &str, subscription: &Subscription) -> Result<Spec, Error> {
    if let Some(problem) = hidden(&subscription.options, &subscription.sink) {
        return Err(Error::Invalid(vec![problem]));
    }
    let view = api.view();
    let spec = api
        .control
        .fixed
        .read(subscription, &view)
        .map_err(Error::Invalid)?;
    let exclusive = together::exclusive(&view, &spec).is_some();
    if let Some(cluster) = view.clusters.get(&spec.source.cluster).filter(|_| !exclusive) {
        let may = cluster.may_use_group(&spec.source.cluster, spec.group(id, cluster));
        may.map_err(|why| Error::field("options.group.id", why))?;
    }
    copartition::check(&api.control, &view, id, &spec).await?;
    Ok(spec)
}

/// What was shown instead of a secret is none.
fn hidden(options: &Map<String, Value>, sink: &str) -> Option<Problem> {
    let path = if redact::is_hidden(&sink.into()) {
        "sink".to_owned()
    } else {
        format!(
            "options.{}",
            options.iter().find(|(_, value)| redact::is_hidden(value))?.0
        )
    };
    let message = format!(
        "has {:?}, which is how a secret is shown: give the secret itself",
        redact::HIDDEN
    );
    Some(Problem { path, message })
}

/// `GET /subscriptions[?source=&sink=]`
pub(super) async fn list(State(api): State<Api>, Query(wanted): Query<HashMap<String, String>>) -> Answer {
    if let Some(name) = wanted
        .keys()
        .find(|name| !matches!(name.as_str(), "source" | "sink"))
    {
        return Err(Error::Unreadable(format!(
            "there is no argument {name:?}: source and sink can be given"
        )));
    }
    let view = api.view();
    let is_wanted = |source: &str, sink: &str| {
        wanted.get("source").is_none_or(|one| one == source)
            && wanted.get("sink").is_none_or(|one| one == sink)
    };
    let mut all = Vec::new();
    for (id, spec) in &api.control.fixed.subscriptions {
        if is_wanted(&spec.source.to_string(), &spec.sink.to_string()) {
            all.push(of_config(&api, id, spec));
        }
    }
    for (id, made) in &view.subscriptions {
        let wanted = made
            .item
            .subscription()
            .is_some_and(|it| is_wanted(&it.source, &it.sink));
        if wanted {
            all.push(of_api(&api, id, made));
        }
    }
    let prefix = Kind::Subscriptions.prefix();
    let unreadable = view
        .unreadable
        .iter()
        .filter_map(|(key, why)| Some((key.strip_prefix(prefix)?, &**why)));
    if wanted.is_empty() {
        all.extend(unreadable.map(|(id, why)| json!({"id": id, "state": "unreadable", "error": why})));
    }
    let (state, why) = phase(&api);
    let mut body = json!({"subscriptions": all, "state": state});
    if let (Some(why), Some(body)) = (why, body.as_object_mut()) {
        body.insert("error".to_owned(), why.into());
    }
    Ok(axum::Json(body).into_response())
}

/// What is known of what the API made.
fn phase(api: &Api) -> (&'static str, Option<String>) {
    use crate::registry::Phase;
    match api.phase() {
        None => ("none", None),
        Some(Phase::Starting) => ("starting", None),
        Some(Phase::Ready) => ("ready", None),
        Some(Phase::Away(why)) => ("unavailable", Some(why)),
    }
}

/// `GET /subscriptions/{id}`
pub(super) async fn show(State(api): State<Api>, Path(id): Path<String>) -> Answer {
    if let Some(spec) = api.control.fixed.subscriptions.get(&id) {
        return Ok(axum::Json(of_config(&api, &id, spec)).into_response());
    }
    let (_, made) = found(&api, &id).await?;
    Ok(tagged(
        made.version,
        axum::Json(of_api(&api, &id, &made)).into_response(),
    ))
}

/// A subscription of the API's, made anywhere; those of the configuration are refused.
async fn found(api: &Api, id: &str) -> Result<(Arc<View>, MadeSubscription), Error> {
    if api.control.fixed.subscriptions.contains_key(id) {
        return Err(Error::ReadOnly(format!(
            "subscription {id} is in the sidecar's configuration (`subscriptions.{id}`), and is changed there"
        )));
    }
    let view = api.view();
    if let Some(made) = view.subscriptions.get(id) {
        let made = made.clone();
        return Ok((view, made));
    }
    api.catch_up().await;
    let view = api.view();
    let made = view
        .subscriptions
        .get(id)
        .cloned()
        .ok_or_else(|| api.missing(Kind::Subscriptions, WHAT, id))?;
    Ok((view, made))
}

/// `DELETE /subscriptions/{id}[?held=keep]`: what is held of it goes too, unless it is to be kept.
pub(super) async fn delete(
    State(api): State<Api>,
    Path(id): Path<String>,
    Query(arguments): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Answer {
    let keeps = held::keeps(&arguments)?;
    let (_, made) = found(&api, &id).await?;
    check_match(&headers, made.version)?;
    api.remove(Kind::Subscriptions, &id, made.version).await?;
    if let (Ok(spec), false) = (&made.read, keeps) {
        held::remove_later(&api, &id, &spec.source.cluster);
    }
    Ok((
        StatusCode::ACCEPTED,
        axum::Json(json!({"id": id, "state": "stopping"})),
    )
        .into_response())
}

/// `PATCH /subscriptions/{id}`: a JSON merge patch (RFC 7396) of `source`, `sink` and `options`. The group and with it the
/// offsets stay, whatever else changes.
pub(super) async fn change(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(patch): Json,
) -> Answer {
    api.registry()?;
    let (_, made) = found(&api, &id).await?;
    check_match(&headers, made.version)?;
    let mut subscription = made
        .item
        .subscription()
        .cloned()
        .ok_or_else(|| api.missing(Kind::Subscriptions, WHAT, &id))?;
    let patch = Value::Object(object(patch)?);
    patched(&mut subscription, &patch)?;
    keep_secrets_in_place(&made, &subscription, &patch)?;
    let spec = check(&api, &id, &subscription).await?;
    keep_place(&api, &id, &made, &spec, &patch)?;
    store(&api, &id, made.version, subscription).await
}

/// What is committed is the group's: it would be lost with another sink whose service is read by another one.
fn keep_place(
    api: &Api,
    id: &str,
    made: &MadeSubscription,
    after: &Spec,
    patch: &Value,
) -> Result<(), Error> {
    let Ok(before) = &made.read else {
        return Ok(());
    };
    let asked_for = patch
        .get("options")
        .is_some_and(|options| options.get("group.id").is_some());
    if asked_for || before.source.cluster != after.source.cluster {
        return Ok(());
    }
    let view = api.view();
    let group = |spec| together::group(&api.control.fixed, &view, id, spec);
    match (group(before), group(after)) {
        (Some(before), Some(after)) if before != after => Err(Error::field(
            "sink",
            format!(
                "would have the subscription go from group {before} to {after}, and lose its place: make another subscription, or                  give options.group.id too if it is to begin anew"
            ),
        )),
        _ => Ok(()),
    }
}

fn patched(subscription: &mut Subscription, patch: &Value) -> Result<(), Error> {
    let problems = Problems::default();
    let section = Section::root(patch, &problems);
    for (key, field) in [
        ("source", &mut subscription.source),
        ("sink", &mut subscription.sink),
    ] {
        if let Some(text) = section.name(key) {
            *field = text;
        }
    }
    if section.section("options").is_some() {
        let patch = patch.get("options").cloned().unwrap_or_default();
        let mut options = Value::Object(std::mem::take(&mut subscription.options));
        merge(&mut options, patch);
        if let Value::Object(options) = options {
            subscription.options = options;
        }
    }
    section.finish();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Error::Invalid(problems.into_vec()))
    }
}

/// Whoever may change a subscription may not have its secrets go elsewhere: they are not theirs to read.
fn keep_secrets_in_place(made: &MadeSubscription, after: &Subscription, patch: &Value) -> Result<(), Error> {
    let Some(before) = made.item.subscription() else {
        return Ok(());
    };
    let place =
        |sink: &str| url::Url::parse(sink).map(|url| (url.scheme().to_owned(), url.authority().to_owned()));
    let shown = redact::options(&before.options);
    let kept = before.options.iter().find(|(name, value)| {
        let given_anew = patch
            .get("options")
            .is_some_and(|options| options.get(name.as_str()).is_some());
        shown.get(*name) != Some(*value) && !given_anew && after.options.get(*name) == Some(*value)
    });
    match kept {
        Some((name, _)) if place(&before.sink).ok() != place(&after.sink).ok() => Err(Error::field(
            &format!("options.{name}"),
            "has secrets, which would go to another place with the new sink: give it again, or remove it (null)",
        )),
        _ => Ok(()),
    }
}

async fn store(api: &Api, id: &str, base: u64, subscription: Subscription) -> Answer {
    let version = api
        .put(Kind::Subscriptions, id, base, &Item::Subscription(subscription))
        .await?;
    Ok(tagged(version, axum::Json(told_of(api, id)?).into_response()))
}

/// RFC 7396.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(target) = target.as_object_mut() else {
        return;
    };
    for (name, value) in patch {
        if value.is_null() {
            target.shift_remove(&name);
        } else {
            merge(target.entry(name).or_insert(Value::Null), value);
        }
    }
}

/// `POST /subscriptions/{id}/pause`: holds for every sidecar, and lasts.
pub(super) async fn pause(State(api): State<Api>, Path(id): Path<String>) -> Answer {
    set_paused(&api, &id, true).await
}

/// `POST /subscriptions/{id}/resume`: also of one that paused itself.
pub(super) async fn resume(State(api): State<Api>, Path(id): Path<String>) -> Answer {
    let answer = set_paused(&api, &id, false).await?;
    match api.runner.carry_out(&id, Order::Resume).await {
        // It does not run here, or not yet: then nothing paused it here.
        Ok(_) | Err(Refused::Unknown(_) | Refused::NotRunning(_)) => Ok(answer),
        Err(refused) => Err(super::orders::refused(refused)),
    }
}

async fn set_paused(api: &Api, id: &str, paused: bool) -> Answer {
    api.registry()?;
    let (_, made) = found(api, id).await?;
    let mut subscription = made
        .item
        .subscription()
        .cloned()
        .ok_or_else(|| api.missing(Kind::Subscriptions, WHAT, id))?;
    let was = subscription.options.get(PAUSED) == Some(&Value::Bool(true));
    if was == paused {
        return Ok(tagged(
            made.version,
            axum::Json(told_of(api, id)?).into_response(),
        ));
    }
    if paused {
        subscription.options.insert(PAUSED.to_owned(), true.into());
    } else {
        subscription.options.shift_remove(PAUSED);
    }
    store(api, id, made.version, subscription).await
}

fn told_of(api: &Api, id: &str) -> Result<Value, Error> {
    let view = api.view();
    let made = view.subscriptions.get(id);
    // Somebody may have deleted it since.
    made.map(|made| of_api(api, id, made))
        .ok_or_else(|| api.missing(Kind::Subscriptions, WHAT, id))
}

fn of_config(api: &Api, id: &str, spec: &Spec) -> Value {
    let told = json!({
        "id": id,
        "source": spec.source.to_string(),
        "sink": redact::sink(&spec.sink.to_string()),
        "options": spec.properties,
        "read_only": true,
    });
    with_status(api, id, told)
}

fn of_api(api: &Api, id: &str, made: &MadeSubscription) -> Value {
    let Some(subscription) = made.item.subscription() else {
        return Value::Null;
    };
    let mut told = json!({
        "id": id,
        "source": subscription.source,
        "sink": redact::sink(&subscription.sink),
        "options": redact::options(&subscription.options),
        "created_at": subscription.created_at,
        "version": made.version,
        "read_only": false,
    });
    if let (Err(problems), Some(told)) = (&made.read, told.as_object_mut()) {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        told.insert("state".to_owned(), "invalid".into());
        told.insert("problems".to_owned(), problems.into());
        return Value::Object(std::mem::take(told));
    }
    with_status(api, id, told)
}

/// How it is in this sidecar, beside what it is.
fn with_status(api: &Api, id: &str, mut told: Value) -> Value {
    let status = api
        .runner
        .status(id)
        .and_then(|status| serde_json::to_value(status).ok());
    if let Some(told) = told.as_object_mut() {
        match status {
            Some(Value::Object(status)) => told.extend(status),
            _ => {
                told.insert("state".to_owned(), "not_running".into());
            }
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 7396, appendix A, that are of objects.
    #[test]
    fn a_merge_patch_is_applied_as_the_rfc_has_it() {
        for (target, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (
                json!({}),
                json!({"a": {"bb": {"ccc": null}}}),
                json!({"a": {"bb": {}}}),
            ),
        ] {
            let mut merged = target.clone();
            merge(&mut merged, patch.clone());
            assert_eq!(merged, result, "{target} {patch}");
        }
    }
}
