//! Actions and automations.

use std::collections::BTreeMap;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::{Api, Page, after, cursor, paged, query};
use crate::actions::access::Caller;
use crate::actions::item::{Action, Item, Packed};
use crate::actions::org::{Grant, Org};
use crate::actions::rules;
use crate::actions::store::{Among, key};
use crate::json_api::{Answer, Error, Json, check_match, now, tagged};

/// What paths of runs have in an action's place.
const RESERVED: &str = "runs";

fn shown(action: &Action, declared: bool) -> Value {
    let mut shown = serde_json::to_value(action).unwrap_or_default();
    if let Some(object) = shown.as_object_mut() {
        object.insert(
            "declaredIn".to_owned(),
            if declared { "config" } else { "api" }.into(),
        );
    }
    shown
}

/// `POST /v1/actions`.
pub(super) async fn create(State(api): State<Api>, headers: HeaderMap, Json(body): Json) -> Answer {
    let caller = api.caller_up_to_date(&headers).await?;
    caller.check(Grant::Manage)?;
    let mut action = read(&caller, body).await?;
    let org = &caller.org;
    let id = action.identifier.clone();
    may_be_changed(org, &id)?;
    if api.actions.store.action(&org.id, &id).is_some() {
        return Err(Error::Conflict(format!(
            "there is an action {id:?} already: change it by PUT"
        )));
    }
    action.created_at = Some(now());
    action.updated_at.clone_from(&action.created_at);
    let item = Item::Action(action.clone());
    let version = api
        .actions
        .store
        .put(&key::action(&org.id, &id), 0, &item)
        .await?;
    let body = json!({"ok": true, "action": shown(&action, false)});
    let reply = (
        StatusCode::CREATED,
        [(LOCATION, format!("/v1/actions/{id}"))],
        axum::Json(body),
    );
    Ok(tagged(version, reply.into_response()))
}

/// `PUT /v1/actions/{identifier}`.
pub(super) async fn replace(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(body): Json,
) -> Answer {
    let caller = api.caller_up_to_date(&headers).await?;
    caller.check(Grant::Manage)?;
    let mut action = read(&caller, body).await?;
    let org = &caller.org;
    may_be_changed(org, &id)?;
    if action.identifier != id {
        return Err(Error::field(
            "identifier",
            format!("must be {id:?}, as in the path"),
        ));
    }
    let held = held(&api, org, &id)?;
    check_match(&headers, held.version)?;
    action.created_at = held.value.created_at;
    action.updated_at = Some(now());
    let item = Item::Action(action.clone());
    let version = api
        .actions
        .store
        .put(&key::action(&org.id, &id), held.version, &item)
        .await?;
    Ok(tagged(
        version,
        axum::Json(json!({"ok": true, "action": shown(&action, false)})).into_response(),
    ))
}

/// `DELETE /v1/actions/{identifier}`. Its runs stay.
pub(super) async fn delete(State(api): State<Api>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    let caller = api.caller_up_to_date(&headers).await?;
    caller.check(Grant::Manage)?;
    may_be_changed(&caller.org, &id)?;
    let held = held(&api, &caller.org, &id)?;
    check_match(&headers, held.version)?;
    api.actions
        .store
        .delete(&key::action(&caller.org.id, &id), held.version)
        .await?;
    Ok(axum::Json(json!({"ok": true})).into_response())
}

/// `GET /v1/actions/{identifier}`.
pub(super) async fn show(State(api): State<Api>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    let caller = api.caller_up_to_date(&headers).await?;
    caller.check_action(Grant::See, &id)?;
    if let Some(action) = caller.org.actions.get(&id) {
        return Ok(axum::Json(json!({"ok": true, "action": shown(action, true)})).into_response());
    }
    let held = held(&api, &caller.org, &id)?;
    let body = json!({"ok": true, "action": shown(&held.value, false)});
    Ok(tagged(held.version, axum::Json(body).into_response()))
}

/// `GET /v1/actions`.
pub(super) async fn list(
    State(api): State<Api>,
    page: Result<Query<Page>, QueryRejection>,
    headers: HeaderMap,
) -> Answer {
    let page = query(page)?;
    let caller = api.caller_up_to_date(&headers).await?;
    caller.check(Grant::See)?;
    let org = &caller.org;
    let limit = page.limit()?;
    let prefix = key::actions(&org.id);
    let from = after(&prefix, page.cursor.as_deref())?;
    let keep = |id: &str, _: &Packed| !org.actions.contains_key(id) && caller.may(Grant::See, id);
    let store = &api.actions.store;
    let (rows, next) = store.page(Among::All, &prefix, from, false, limit, keep).await;
    let mut all: BTreeMap<&str, Value> = BTreeMap::new();
    if page.cursor.is_none() {
        let declared = org.actions.iter().filter(|(id, _)| caller.may(Grant::See, id));
        all.extend(declared.map(|(id, action)| (id.as_str(), shown(action, true))));
    }
    let made: Vec<Action> = rows.iter().filter_map(|row| row.value.action()).collect();
    all.extend(
        made.iter()
            .map(|action| (action.identifier.as_str(), shown(action, false))),
    );
    let all: Vec<Value> = all.into_values().collect();
    Ok(paged("actions", all, cursor(&prefix, next), limit))
}

async fn read(caller: &Caller, body: Value) -> Result<Action, Error> {
    let org = caller.org.clone();
    let read = tokio::task::spawn_blocking(move || rules::action(&org, &body)).await;
    let action = read
        .map_err(|error| Error::Unavailable(error.to_string()))?
        .map_err(Error::Invalid)?;
    if action.identifier == RESERVED {
        return Err(Error::field(
            "identifier",
            format!("{RESERVED:?} is what the paths of runs have there"),
        ));
    }
    Ok(action)
}

fn may_be_changed(org: &Org, id: &str) -> Result<(), Error> {
    if org.actions.contains_key(id) {
        return Err(Error::ReadOnly(format!(
            "action {id:?} is in the configuration (orgs.{}.actions): change it there",
            org.id
        )));
    }
    Ok(())
}

fn held(api: &Api, org: &Org, id: &str) -> Result<crate::actions::store::Held<Action>, Error> {
    api.actions.store.known()?;
    let held = api.actions.store.action(&org.id, id);
    held.ok_or_else(|| Error::NotFound(format!("no action is {id:?}")))
}
