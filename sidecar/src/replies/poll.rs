//! `GET /replies/{token}`: asking for a reply later, at any sidecar of the cluster.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use sluice_proto::prefer::{HEADER, Preferences};
use sluice_proto::v1::Answer;
use tokio::time::Instant;

use super::inbox::{AT_ONCE, Inbox};
use super::token::Token;
use super::{Applied, Replies, answer};
use crate::kafka::reader::Record;
use crate::kafka::record::Failure;
use crate::read::cursor::Cursor;
use crate::read::failure;
use crate::shutdown::Phase;

/// How long one request reads on through what is there. What is further on is looked for by the next, which begins where this
/// one ended.
const SCAN: Duration = Duration::from_secs(10);

/// The path under which replies are asked for. Whoever has the Location may: it holds an id that nobody can guess, or a
/// signature.
pub fn router(replies: Arc<Replies>) -> Router {
    let not_allowed = || async {
        said(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "the path takes GET only",
        )
    };
    Router::new()
        .route("/replies/{token}", get(poll).fallback(not_allowed))
        .with_state(replies)
}

async fn poll(
    State(replies): State<Arc<Replies>>,
    token: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Response {
    let prefers = Preferences::read(headers.get_all(HEADER).iter().map(|value| value.as_bytes()));
    let wait = prefers.wait.map(|seconds| Duration::from_secs(seconds.into()));
    let token = token.ok().and_then(|Path(text)| replies.seal.open(&text));
    let mut response = match token {
        None => unknown(),
        Some(token) => match replies.look(token, wait).await {
            Ok(answer) => answer::respond(answer, &HeaderMap::new()),
            Err(response) => response,
        },
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Replies {
    /// Looks for a reply, for `wait` at most once all that is there was read.
    async fn look(&self, token: Token, wait: Option<Duration>) -> Result<Answer, Response> {
        let key = (token.cluster.clone(), token.topic.clone());
        let Some(inbox) = self.inboxes.get(&key) else {
            return Err(unknown());
        };
        let entry = inbox.entry();
        if token.age() > entry.retention {
            return Err(said(
                StatusCode::GONE,
                "reply_expired",
                format!(
                    "a reply can be asked for {} s after its request (the sidecar's replies.topics, retention), and this one is older",
                    entry.retention.as_secs()
                ),
            ));
        }
        let full = |failure: Failure| {
            let text = failure.message.into_owned();
            again(said(StatusCode::SERVICE_UNAVAILABLE, "buffer_full", text))
        };
        let _room = self.room().map_err(full)?;
        let _waiting = self.counts.waiting();
        let wait = wait.map(|wait| wait.min(entry.max_wait));
        let looked = self.search(inbox, &token, wait.unwrap_or_default());
        let (found, seen) = looked.await.map_err(IntoResponse::into_response)?;
        let applied = Applied {
            wait,
            respond_async: false,
        };
        match found {
            Some(record) => Ok(answer::of_record(entry, &record, &token.id, applied)),
            None => {
                let id = token.id.clone();
                let location = format!("{}{}", self.location, self.seal.seal(&token.further(&seen)));
                Ok(answer::pending(&id, &location, applied))
            }
        }
    }

    /// The reply, if it is there or comes in time; and where to look on.
    async fn search(
        &self,
        inbox: &Arc<Inbox>,
        token: &Token,
        wait: Duration,
    ) -> Result<Found, failure::Failure> {
        let begun = Instant::now();
        let until = begun + wait;
        let mut shutdown = self.shutdown.clone();
        let mut feed = inbox.feed(token.cursor()).await?;
        let selection = inbox.selection();
        loop {
            let records = feed.collect(AT_ONCE).await?;
            let is_it = |record: &&Arc<Record>| inbox.id_of(record) == Some(&*token.id);
            if let Some(record) = records.iter().find(is_it) {
                return Ok((Some(Arc::clone(record)), feed.cursor()));
            }
            let now = Instant::now();
            let at_end = records.is_empty() && feed.caught_up();
            let over = if at_end {
                now >= until
            } else {
                now >= until.max(begun + SCAN)
            };
            if over || self.shutdown.phase() >= Phase::Draining {
                return Ok((None, feed.cursor()));
            }
            if at_end {
                feed.look_for_partitions(&selection).await?;
                tokio::select! {
                    waited = feed.wait(until) => waited?,
                    () = shutdown.reached(Phase::Draining) => {}
                }
            }
        }
    }
}

/// A reply, and what was seen of its topic.
type Found = (Option<Arc<Record>>, Cursor);

fn unknown() -> Response {
    said(
        StatusCode::NOT_FOUND,
        "unknown_reply",
        "no reply is asked for under this path: it is not a Location that was given",
    )
}

fn said(status: StatusCode, code: &str, error: impl Into<String>) -> Response {
    let message = status.canonical_reason().unwrap_or_default().to_ascii_lowercase();
    let body = json!({ "message": message, "error": error.into(), "code": code });
    (status, axum::Json(body)).into_response()
}

fn again(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}
