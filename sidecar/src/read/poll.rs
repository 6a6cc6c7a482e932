//! One answer: what is there, or what comes while the request waits.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, LINK};
use axum::http::{HeaderName, HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Duration, Instant};

use super::Reads;
use super::access::Granted;
use super::failure::{Failure, Kind};
use super::feed::{Feed, Moved};
use super::item;
use super::query::{Asked, Wanted};
use crate::kafka::reader::Record;
use crate::shutdown::Phase;

/// Where reading went on instead of where it was asked to.
const RESET: HeaderName = HeaderName::from_static("x-kafka-offset-reset");
/// How often a topic is looked for that is waited for.
pub(super) const LOOK: Duration = Duration::from_millis(500);

pub(super) async fn answer(
    reads: &Reads,
    granted: &Granted<'_>,
    asked: &Asked,
    mut wanted: Wanted,
    uri: &Uri,
    ndjson: bool,
) -> Result<Response, Failure> {
    let until = Instant::now() + wanted.max_wait;
    let mut shutdown = reads.shutdown.clone();
    let mut feed = loop {
        match Feed::open(&granted.reader, &wanted.selection).await {
            Ok(feed) => break feed,
            Err(failure) if failure.kind() == Kind::UnknownTopic && !wanted.must_exist => {
                if Instant::now() >= until || shutdown.phase() >= Phase::Draining {
                    return Ok(empty(&wanted, ndjson));
                }
                appears(&mut wanted);
                let next = until.min(Instant::now() + LOOK);
                tokio::time::sleep_until(next).await;
            }
            Err(failure) => return Err(failure),
        }
    };
    let (records, room) = loop {
        let room = reads.room(wanted.limits.bytes).await?;
        let records = feed.collect(wanted.limits).await?;
        let over = Instant::now() >= until || shutdown.phase() >= Phase::Draining;
        if !records.is_empty() || over {
            break (records, room);
        }
        // Who waits holds no room.
        drop(room);
        if feed.caught_up() {
            tokio::select! {
                waited = feed.wait(until) => waited?,
                () = shutdown.reached(Phase::Draining) => {}
            }
        }
    };
    reads.metrics.records(&records);
    let cursor = feed.cursor().text(wanted.encoded_ids);
    let moved = feed.moved();
    let body = if ndjson {
        lines(&records, asked, &wanted)
    } else {
        page(&records, asked, &wanted, Some(&cursor), &moved)
    };
    let mut response = reply(body, ndjson, Some(room));
    let headers = response.headers_mut();
    let resets: Vec<Value> = moved.iter().map(reset).collect();
    if !resets.is_empty()
        && let Ok(value) = HeaderValue::from_str(&Value::from(resets).to_string())
    {
        headers.insert(RESET, value);
    }
    if let Ok(link) = HeaderValue::from_str(&format!("<{}>; rel=\"next\"", next(uri, &cursor))) {
        headers.insert(LINK, link);
    }
    Ok(response)
}

/// From now on everything in the topic is new.
pub(super) fn appears(wanted: &mut Wanted) {
    wanted.selection.from.get_or_insert(super::from::From::Earliest);
}

/// The reply for a topic that did not appear.
fn empty(wanted: &Wanted, ndjson: bool) -> Response {
    let body = if ndjson {
        Vec::new()
    } else {
        page(&[], &Asked::default(), wanted, None, &[])
    };
    reply(body, ndjson, None)
}

fn reply(body: Vec<u8>, ndjson: bool, room: Option<OwnedSemaphorePermit>) -> Response {
    let media_type = if ndjson {
        "application/x-ndjson"
    } else {
        "application/json"
    };
    let headers = [(CONTENT_TYPE, media_type), (CACHE_CONTROL, "no-store")];
    (headers, Body::new(Held::new(body.into(), room))).into_response()
}

fn lines(records: &[Arc<Record>], asked: &Asked, wanted: &Wanted) -> Vec<u8> {
    let mut body = Vec::new();
    for record in records {
        item::item(record, asked.format, wanted.encoded_ids, &mut body);
        body.push(b'\n');
    }
    body
}

fn page(
    records: &[Arc<Record>],
    asked: &Asked,
    wanted: &Wanted,
    cursor: Option<&str>,
    moved: &[Moved],
) -> Vec<u8> {
    let mut body = b"{\"items\":[".to_vec();
    for (i, record) in records.iter().enumerate() {
        if i > 0 {
            body.push(b',');
        }
        item::item(record, asked.format, wanted.encoded_ids, &mut body);
    }
    let pagination = json!({ "nextCursor": cursor, "limit": wanted.limits.records });
    body.extend_from_slice(format!("],\"pagination\":{pagination}").as_bytes());
    if !moved.is_empty() {
        let resets: Vec<Value> = moved.iter().map(reset).collect();
        body.extend_from_slice(format!(",\"resets\":{}", Value::from(resets)).as_bytes());
    }
    body.push(b'}');
    body
}

/// A position that was not there, as clients are told.
pub(super) fn reset(moved: &Moved) -> Value {
    json!({
        "topic": *moved.topic,
        "partition": moved.partition,
        "requested": moved.requested,
        "reason": moved.reason,
        "position": moved.position,
    })
}

/// The request's own target with another cursor.
fn next(uri: &Uri, cursor: &str) -> String {
    let query = uri.query().unwrap_or_default();
    let kept = query.split('&').filter(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        !pair.is_empty() && name != "cursor" && !name.to_ascii_lowercase().starts_with("last")
    });
    let mut target = format!("{}?", uri.path());
    for pair in kept {
        target.push_str(pair);
        target.push('&');
    }
    // A plain cursor has characters that mean something else in a query.
    target + "cursor=" + &cursor.replace('#', "%23")
}

/// A body in one piece, and its room until it is sent or given up.
struct Held {
    body: Full<Bytes>,
    _room: Option<OwnedSemaphorePermit>,
}

impl Held {
    fn new(body: Bytes, room: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            body: Full::new(body),
            _room: room,
        }
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}
