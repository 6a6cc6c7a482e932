//! The logs of runs.

use std::convert::Infallible;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::unfold;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Api, limit, paged, query};
use crate::actions::access::Caller;
use crate::actions::item::LogLine;
use crate::actions::org::Grant;
use crate::actions::port;
use crate::actions::store::key;
use crate::json_api::{Answer, Error, Json};
use crate::shutdown::Phase;

/// How many lines are read at once for an event stream.
const AT_ONCE: usize = 500;
/// Where an event stream goes on.
const LAST_EVENT_ID: &str = "last-event-id";

/// Which lines.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    limit: Option<usize>,
    /// The number of the line after which to begin.
    cursor: Option<usize>,
}

fn shown(number: usize, line: &LogLine) -> Value {
    json!({"id": number, "message": line.message, "createdAt": port::time(line.at_ms), "createdBy": line.by})
}

/// `POST /v1/actions/runs/{run_id}/logs`.
pub(super) async fn add(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(body): Json,
) -> Answer {
    let caller = api.caller_up_to_date(&headers).await?;
    let held = api.actions.run_for(&caller, &id, Grant::Report)?;
    let number = api.actions.log(&caller, &id, held, body).await?;
    Ok((
        axum::http::StatusCode::CREATED,
        axum::Json(json!({"ok": true, "id": number})),
    )
        .into_response())
}

/// `GET /v1/actions/runs/{run_id}/logs`: a page, or an event stream that ends with the run.
pub(super) async fn show(
    State(api): State<Api>,
    Path(id): Path<String>,
    wanted: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
) -> Answer {
    let wanted = query(wanted)?;
    let caller = api.caller_up_to_date(&headers).await?;
    api.actions.run_for(&caller, &id, Grant::See)?;
    let last =
        match headers.get(LAST_EVENT_ID) {
            None => wanted.cursor,
            Some(last) => {
                let last = last.to_str().ok().and_then(|last| last.parse().ok());
                Some(last.ok_or_else(|| {
                    Error::Unreadable(format!("{LAST_EVENT_ID} must be the number of a line"))
                })?)
            }
        };
    let from = last.map_or(0, |last| last.saturating_add(1));
    let streams = headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/event-stream"));
    if streams {
        return Ok(stream(api, caller, id, from));
    }
    let limit = limit(wanted.limit)?;
    let lines = api.actions.store.lines(&caller.org.id, &id, from, limit + 1);
    let more = lines.len() > limit;
    let shown: Vec<Value> = lines
        .iter()
        .take(limit)
        .enumerate()
        .map(|(i, line)| self::shown(from + i, line))
        .collect();
    let next = more.then(|| (from + limit - 1).to_string());
    Ok(paged("runLogs", shown, next, limit))
}

/// The lines from number `from` on as they come; then an event `end`, with how the run has ended.
fn stream(api: Api, caller: Caller, id: String, from: usize) -> axum::response::Response {
    let events = unfold(
        (api, caller, id, from, false),
        |(api, caller, id, from, done)| async move {
            if done {
                return None;
            }
            let org = caller.org.id.clone();
            let run = key::run(&org, &id);
            let watches = (
                api.actions
                    .store
                    .watch(key::lines(&org, &id).trim_end_matches('/').to_owned()),
                api.actions.store.watch(run),
            );
            let mut shutdown = api.shutdown.clone();
            loop {
                let changed = (watches.0.changed(), watches.1.changed());
                // Before the lines: what ended the run comes after the last of them.
                let held = api.actions.store.run_of(&org, &id);
                let lines = api.actions.store.lines(&org, &id, from, AT_ONCE);
                if !lines.is_empty() {
                    let events: Vec<Result<Event, Infallible>> = lines
                        .iter()
                        .enumerate()
                        .map(|(i, line)| {
                            let number = from + i;
                            let data = shown(number, line).to_string();
                            Ok(Event::default().id(number.to_string()).event("log").data(data))
                        })
                        .collect();
                    let next = from + lines.len();
                    return Some((futures_util::stream::iter(events), (api, caller, id, next, false)));
                }
                let ended = match &held {
                    None => Some(json!({"status": null})),
                    Some(held) if held.value.status.has_ended() => Some(port::run(&id, &held.value)),
                    Some(_) => None,
                };
                if let Some(run) = ended {
                    let end = Event::default().event("end").data(run.to_string());
                    return Some((
                        futures_util::stream::iter(vec![Ok(end)]),
                        (api, caller, id, from, true),
                    ));
                }
                tokio::select! {
                    () = changed.0 => {}
                    () = changed.1 => {}
                    () = shutdown.reached(Phase::Draining) => return None,
                }
            }
        },
    );
    let events = futures_util::StreamExt::flatten(events);
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}
