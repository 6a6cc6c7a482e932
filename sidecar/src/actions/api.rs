//! The API of organisations, on the data listener. `docs/actions.md` has every call.

mod actions;
mod entities;
mod logs;
mod organization;
mod runs;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Actions;
use super::access::{self, Caller};
use super::entities::Deed;
use crate::json_api::{Error, MAX_BODY};
use crate::shutdown::Shutdown;

/// The most things in one page, and how many there are if nobody says.
const MAX_LIMIT: usize = 1_000;
const LIMIT: usize = 100;
/// The longest that a request may wait for something to happen.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// What the calls need.
#[derive(Clone)]
pub(super) struct Api {
    actions: Arc<Actions>,
    shutdown: Shutdown,
}

/// `/v1/…`, for the data listener. Requests that wait are answered when `shutdown` drains.
pub fn router(actions: Arc<Actions>, shutdown: Shutdown) -> Router {
    Router::new()
        .route("/v1/auth/access_token", post(tokens::issue))
        .route("/v1/kafka-credentials", get(tokens::credentials))
        .route(
            "/v1/organization",
            get(organization::show).patch(organization::change),
        )
        .route("/v1/actions", post(actions::create).get(actions::list))
        .route(
            "/v1/actions/{identifier}",
            get(actions::show).put(actions::replace).delete(actions::delete),
        )
        .route("/v1/actions/{identifier}/runs", post(runs::start))
        .route("/v1/actions/runs", get(runs::list))
        .route("/v1/actions/runs/claim-pending", post(runs::claim))
        .route("/v1/actions/runs/ack", patch(runs::ack))
        .route("/v1/actions/runs/{run_id}", get(runs::show).patch(runs::report))
        .route("/v1/actions/runs/{run_id}/logs", get(logs::show).post(logs::add))
        .route("/v1/actions/runs/{run_id}/approval", patch(runs::approve))
        .route("/v1/actions/runs/{run_id}/response", patch(runs::respond))
        .route("/v1/workflows/runs/claim-pending", post(runs::claim_nodes))
        .route(
            "/v1/blueprints/{blueprint}/entities",
            post(entities::create).get(entities::list),
        )
        .route(
            "/v1/blueprints/{blueprint}/entities/{identifier}",
            get(entities::show)
                .put(|api, place, how, headers, body| {
                    entities::write(Deed::Replace, api, place, how, headers, body)
                })
                .patch(|api, place, how, headers, body| {
                    entities::write(Deed::Change, api, place, how, headers, body)
                })
                .delete(entities::delete),
        )
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Api { actions, shutdown })
}

impl Api {
    async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Error> {
        access::caller(&self.actions.settings.orgs, headers).await
    }

    /// The caller, once this sidecar knows what any other wrote before.
    async fn caller_up_to_date(&self, headers: &HeaderMap) -> Result<Caller, Error> {
        let caller = self.caller(headers).await?;
        self.actions.store.catch_up().await?;
        Ok(caller)
    }
}

/// Which page of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    limit: Option<usize>,
    cursor: Option<String>,
}

impl Page {
    fn limit(&self) -> Result<usize, Error> {
        limit(self.limit)
    }
}

fn limit(limit: Option<usize>) -> Result<usize, Error> {
    match limit {
        None => Ok(LIMIT),
        Some(limit) if (1..=MAX_LIMIT).contains(&limit) => Ok(limit),
        Some(_) => Err(Error::Unreadable(format!("limit must be from 1 to {MAX_LIMIT}"))),
    }
}

/// The row after which a page begins. A cursor is the last part of its key.
fn after(prefix: &str, cursor: Option<&str>) -> Result<Option<Arc<str>>, Error> {
    let Some(cursor) = cursor else { return Ok(None) };
    super::rules::identifier(cursor)
        .map_err(|_| Error::Unreadable("the cursor is none of ours".to_owned()))?;
    Ok(Some(format!("{prefix}{cursor}").into()))
}

/// The cursor of what comes after a row.
fn cursor(prefix: &str, row: Option<Arc<str>>) -> Option<String> {
    Some(row?.strip_prefix(prefix)?.to_owned())
}

/// A page of things, by what they are called, and where the next one begins.
fn paged(things: &str, shown: Vec<Value>, next: Option<String>, limit: usize) -> Response {
    let page = json!({"ok": true, (things): shown, "pagination": {"nextCursor": next, "limit": limit}});
    axum::Json(page).into_response()
}

/// A query that is as it should be.
fn query<T>(
    query: Result<axum::extract::Query<T>, axum::extract::rejection::QueryRejection>,
) -> Result<T, Error> {
    query
        .map(|axum::extract::Query(query)| query)
        .map_err(|error| Error::Unreadable(error.body_text()))
}
