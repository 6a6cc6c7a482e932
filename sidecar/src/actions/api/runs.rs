//! Runs.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Api, MAX_WAIT, after, cursor, limit, paged, query};
use crate::actions::access::Caller;
use crate::actions::item::{Head, Packed, Run, Status};
use crate::actions::org::Grant;
use crate::actions::port;
use crate::actions::store::{Among, Held, key};
use crate::json_api::{Answer, Error, Json, check_match, tagged};
use crate::read::preferred_wait;
use crate::registry::Row;
use crate::shutdown::Phase;

const APPLIED: HeaderName = HeaderName::from_static(sluice_proto::prefer::APPLIED);

fn shown(id: &str, held: &Held<Run>) -> axum::response::Response {
    let body = json!({"ok": true, "run": port::run(id, &held.value)});
    tagged(held.value.tag(), axum::Json(body).into_response())
}

/// `POST /v1/actions/{identifier}/runs`.
pub(super) async fn start(
    State(api): State<Api>,
    Path(identifier): Path<String>,
    headers: HeaderMap,
    Json(body): Json,
) -> Answer {
    let caller = api.caller(&headers).await?;
    api.actions.store.known()?;
    let (id, run) = api.actions.invoke(&caller, &identifier, body).await?;
    let location = format!("/v1/actions/runs/{id}");
    let body = json!({"ok": true, "run": port::run(&id, &run)});
    Ok((StatusCode::ACCEPTED, [(LOCATION, location)], axum::Json(body)).into_response())
}

/// `GET /v1/actions/runs/{run_id}`; `Prefer: wait=N` waits for its end.
pub(super) async fn show(State(api): State<Api>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    let caller = api.caller_up_to_date(&headers).await?;
    let Some(wait) = preferred_wait(&headers) else {
        return Ok(shown(&id, &api.actions.run_for(&caller, &id, Grant::See)?));
    };
    let wait = wait.min(MAX_WAIT);
    let watch = api.actions.store.watch(key::run(&caller.org.id, &id));
    let mut shutdown = api.shutdown.clone();
    let ended = async {
        loop {
            let changed = watch.changed();
            let held = api.actions.run_for(&caller, &id, Grant::See)?;
            if held.value.status.has_ended() {
                return Ok::<(), Error>(());
            }
            changed.await;
        }
    };
    tokio::select! {
        ended = ended => ended?,
        () = tokio::time::sleep(wait) => {}
        () = shutdown.reached(Phase::Draining) => {}
    }
    let held = api.actions.run_for(&caller, &id, Grant::See)?;
    let mut response = shown(&id, &held);
    if let Ok(applied) = format!("wait={}", wait.as_secs()).parse() {
        response.headers_mut().insert(APPLIED, applied);
    }
    Ok(response)
}

/// Which runs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    action: Option<String>,
    status: Option<Status>,
    user: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// `GET /v1/actions/runs`, the newest first.
pub(super) async fn list(
    State(api): State<Api>,
    wanted: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
) -> Answer {
    let wanted = query(wanted)?;
    let caller = api.caller_up_to_date(&headers).await?;
    caller.check(Grant::See)?;
    let limit = limit(wanted.limit)?;
    let prefix = key::runs(&caller.org.id);
    let from = after(&prefix, wanted.cursor.as_deref())?;
    let is = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
    let keep = |_: &str, row: &Packed| {
        let Head::Run(run) = row.head() else {
            return false;
        };
        wanted.status.is_none_or(|status| status == run.status)
            && row
                .run_action()
                .is_some_and(|action| is(&wanted.action, &action) && caller.may(Grant::See, &action))
            && row.run_user().is_some_and(|user| is(&wanted.user, &user))
    };
    let among = match wanted.status {
        Some(status) if !status.has_ended() => Among::Open,
        Some(_) | None => Among::All,
    };
    let store = &api.actions.store;
    let (rows, next) = store.page(among, &prefix, from, true, limit, keep).await;
    let run = |row: &Row<Packed>| Some(port::run(row.key.strip_prefix(&prefix)?, &row.value.run()?));
    let runs: Vec<Value> = rows.iter().filter_map(run).collect();
    Ok(paged("runs", runs, cursor(&prefix, next), limit))
}

/// Who would change a run, and the run, if he may and it is what the request names.
async fn to_change(
    api: &Api,
    headers: &HeaderMap,
    id: &str,
    grant: Grant,
) -> Result<(Caller, Held<Run>), Error> {
    let caller = api.caller_up_to_date(headers).await?;
    let held = api.actions.run_for(&caller, id, grant)?;
    check_match(headers, held.value.tag())?;
    Ok((caller, held))
}

/// `PATCH /v1/actions/runs/{run_id}`.
pub(super) async fn report(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(body): Json,
) -> Answer {
    let (caller, held) = to_change(&api, &headers, &id, Grant::Report).await?;
    Ok(shown(&id, &api.actions.report(&caller, &id, held, body).await?))
}

/// `PATCH /v1/actions/runs/{run_id}/approval`.
pub(super) async fn approve(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(body): Json,
) -> Answer {
    let (caller, held) = to_change(&api, &headers, &id, Grant::Approve).await?;
    Ok(shown(&id, &api.actions.approve(&caller, &id, held, body).await?))
}

/// `PATCH /v1/actions/runs/{run_id}/response`.
pub(super) async fn respond(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(body): Json,
) -> Answer {
    let (caller, held) = to_change(&api, &headers, &id, Grant::Report).await?;
    Ok(shown(&id, &api.actions.respond(&caller, &id, held, body).await?))
}

/// `POST /v1/actions/runs/claim-pending`.
pub(super) async fn claim(State(api): State<Api>, headers: HeaderMap, Json(body): Json) -> Answer {
    let caller = api.caller(&headers).await?;
    let runs = api.actions.claim(&caller, body).await?;
    Ok(axum::Json(json!({"ok": true, "runs": runs})).into_response())
}

/// `POST /v1/workflows/runs/claim-pending`, which agents ask as well: there are no workflows, and so none of their runs.
pub(super) async fn claim_nodes(State(api): State<Api>, headers: HeaderMap) -> Answer {
    let caller = api.caller(&headers).await?;
    caller.check(Grant::Report)?;
    Ok(axum::Json(json!({"ok": true, "nodeRuns": []})).into_response())
}

/// `PATCH /v1/actions/runs/ack`.
pub(super) async fn ack(State(api): State<Api>, headers: HeaderMap, Json(body): Json) -> Answer {
    let caller = api.caller(&headers).await?;
    let acked = api.actions.ack(&caller, body).await?;
    Ok(axum::Json(json!({"ok": true, "ackedCount": acked})).into_response())
}
