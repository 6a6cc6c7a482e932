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
use super::filter::Failed;
use super::groups::{Session, Wish};
use super::item;
use super::query::Wanted;
use crate::kafka::reader::{Limits, Record};
use crate::shutdown::Phase;

/// Where reading went on instead of where it was asked to.
const RESET: HeaderName = HeaderName::from_static("x-kafka-offset-reset");
/// How many records a filter failed on.
const FAILURES: HeaderName = HeaderName::from_static("x-kafka-filter-failures");
/// How long a page that has a record already is filled up, at most.
const FILL: Duration = Duration::from_secs(1);
/// What is read at once to be filtered.
const PIECE: Limits = Limits {
    records: 500,
    bytes: 1024 * 1024,
};
/// How often a topic is looked for that is waited for.
pub(super) const LOOK: Duration = Duration::from_millis(500);

pub(super) async fn answer(
    reads: &Reads,
    granted: &Granted<'_>,
    mut wanted: Wanted,
    uri: &Uri,
    ndjson: bool,
) -> Result<Response, Failure> {
    if let Some(wish) = wanted.group.clone() {
        return shared(reads, granted, (&wanted, &wish), uri, ndjson).await;
    }
    let until = Instant::now() + wanted.max_wait;
    // Who waits with a token that ends is answered when it does.
    let until = wanted.until.map_or(until, |ends| until.min(ends));
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
    let (found, room) = loop {
        let room = reads.room(wanted.limits.bytes).await?;
        let found = filtered(&mut feed, &wanted, until).await?;
        let over = Instant::now() >= until || shutdown.phase() >= Phase::Draining;
        if !found.kept.is_empty() || found.failed.count > 0 || over {
            break (found, room);
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
    let Found {
        kept: records,
        failed,
    } = found;
    reads.metrics.filter_failures(failed.count);
    reads.metrics.records(&records);
    let cursor = Some(feed.cursor().text(wanted.encoded_ids));
    Ok(response(
        &records,
        &wanted,
        (cursor, &feed.moved(), &failed),
        uri,
        ndjson,
        Some(room),
    ))
}

/// The same for a reader of a group.
async fn shared(
    reads: &Reads,
    granted: &Granted<'_>,
    (wanted, wish): (&Wanted, &Wish),
    uri: &Uri,
    ndjson: bool,
) -> Result<Response, Failure> {
    let until = Instant::now() + wanted.max_wait;
    let until = wanted.until.map_or(until, |ends| until.min(ends));
    let mut shutdown = reads.shutdown.clone();
    let selection = &wanted.selection;
    if wanted.must_exist {
        for topic in &selection.topics {
            granted.reader.partitions(topic).await?;
        }
    }
    let mut feed = Feed::empty(&granted.reader, selection.reset);
    let opening = Session::open(
        &reads.groups,
        &granted.home,
        wish,
        &granted.reader,
        selection,
        false,
    );
    let mut session = opening.await?;
    let (found, room) = loop {
        if let Err(failure) = session.sync(&mut feed, selection).await {
            // It comes back, as a member.
            if session.is_alone() && session.is_seated() {
                break (Found::default(), None);
            }
            return Err(failure);
        }
        let room = reads.room(wanted.limits.bytes).await?;
        let found = filtered(&mut feed, wanted, until).await?;
        let over = Instant::now() >= until || shutdown.phase() >= Phase::Draining;
        if !found.kept.is_empty() || found.failed.count > 0 || over {
            break (found, Some(room));
        }
        // Who waits holds no room.
        drop(room);
        if feed.caught_up() {
            tokio::select! {
                waited = feed.wait(until) => waited?,
                () = session.changed() => {}
                () = shutdown.reached(Phase::Draining) => {}
            }
        }
    };
    let Found {
        kept: mut records,
        failed,
    } = found;
    let cursor = feed.cursor();
    let gone = session.before(&cursor, &mut feed).await?;
    records.retain(|record| {
        let mut gone = gone.iter();
        !gone.any(|(topic, partition)| **topic == *record.topic && *partition == record.partition)
    });
    session.sent(&cursor).await;
    session.settle();
    reads.metrics.filter_failures(failed.count);
    reads.metrics.records(&records);
    // Without partitions there is nothing to go on after.
    let cursor = session.is_seated().then(|| cursor.text(wanted.encoded_ids));
    Ok(response(
        &records,
        wanted,
        (cursor, &feed.moved(), &failed),
        uri,
        ndjson,
        room,
    ))
}

fn response(
    records: &[Arc<Record>],
    wanted: &Wanted,
    (cursor, moved, failed): (Option<String>, &[Moved], &Failed),
    uri: &Uri,
    ndjson: bool,
    room: Option<OwnedSemaphorePermit>,
) -> Response {
    let body = if ndjson {
        lines(records, wanted)
    } else {
        page(records, wanted, cursor.as_deref(), moved, failed)
    };
    let mut response = reply(body, ndjson, room);
    let headers = response.headers_mut();
    let resets: Vec<Value> = moved.iter().map(reset).collect();
    if !resets.is_empty()
        && let Ok(value) = HeaderValue::from_str(&Value::from(resets).to_string())
    {
        headers.insert(RESET, value);
    }
    if failed.count > 0 {
        headers.insert(FAILURES, failed.count.into());
    }
    // Without a cursor the next page is where the group is.
    let target = next(uri, cursor.as_deref());
    if let Ok(link) = HeaderValue::from_str(&format!("<{target}>; rel=\"next\"")) {
        headers.insert(LINK, link);
    }
    response
}

/// What a page has.
#[derive(Default)]
struct Found {
    kept: Vec<Arc<Record>>,
    failed: Failed,
}

/// A page of what passes the filters. What is read to find it is bounded by time: until `until`, and for [`FILL`] once there is
/// something; the positions are after the last record that was looked at.
async fn filtered(feed: &mut Feed, wanted: &Wanted, until: Instant) -> Result<Found, Failure> {
    let mut found = Found::default();
    if wanted.filters.is_empty() {
        found.kept = feed.collect(wanted.limits).await?;
        return Ok(found);
    }
    let fill_until = until.min(Instant::now() + FILL);
    let mut left = wanted.limits;
    loop {
        let piece = Limits {
            records: PIECE.records,
            bytes: PIECE.bytes.min(wanted.limits.bytes),
        };
        let records = feed.collect(piece).await?;
        let mut rest = &records[..];
        while !rest.is_empty() {
            let slice = wanted.filters.slice(rest).await?;
            found.failed.add(slice.failed);
            for record in slice.kept {
                let size = record.size();
                if left.records == 0 || (size > left.bytes && !found.kept.is_empty()) {
                    // Back to it: it is the next page's first.
                    let at = rest.iter().position(|one| {
                        (&one.topic, one.partition, one.offset)
                            == (&record.topic, record.partition, record.offset)
                    });
                    feed.back_to(rest.get(at.unwrap_or_default()..).unwrap_or_default());
                    return Ok(found);
                }
                left.records -= 1;
                left.bytes = left.bytes.saturating_sub(size);
                found.kept.push(record);
            }
            rest = rest.get(slice.seen..).unwrap_or_default();
            let now = Instant::now();
            let full = left.records == 0 || left.bytes == 0;
            if full || now >= until || (now >= fill_until && !found.kept.is_empty()) {
                feed.back_to(rest);
                return Ok(found);
            }
        }
        if feed.caught_up() || Instant::now() >= until {
            return Ok(found);
        }
    }
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
        page(&[], wanted, None, &[], &Failed::default())
    };
    reply(body, ndjson, None)
}

pub(super) fn reply(body: Vec<u8>, ndjson: bool, room: Option<OwnedSemaphorePermit>) -> Response {
    let media_type = if ndjson {
        "application/x-ndjson"
    } else {
        "application/json"
    };
    let headers = [(CONTENT_TYPE, media_type), (CACHE_CONTROL, "no-store")];
    (headers, Body::new(Held::new(body.into(), room))).into_response()
}

pub(super) fn lines(records: &[Arc<Record>], wanted: &Wanted) -> Vec<u8> {
    let mut body = Vec::new();
    for record in records {
        write(record, wanted, &mut body);
        body.push(b'\n');
    }
    body
}

pub(super) fn page(
    records: &[Arc<Record>],
    wanted: &Wanted,
    cursor: Option<&str>,
    moved: &[Moved],
    failed: &Failed,
) -> Vec<u8> {
    let mut body = b"{\"items\":[".to_vec();
    for (i, record) in records.iter().enumerate() {
        if i > 0 {
            body.push(b',');
        }
        write(record, wanted, &mut body);
    }
    let pagination = json!({ "nextCursor": cursor, "limit": wanted.limits.records });
    body.extend_from_slice(format!("],\"pagination\":{pagination}").as_bytes());
    if !moved.is_empty() {
        let resets: Vec<Value> = moved.iter().map(reset).collect();
        body.extend_from_slice(format!(",\"resets\":{}", Value::from(resets)).as_bytes());
    }
    if let Some((record, error)) = &failed.first {
        let id = record.text(wanted.encoded_ids);
        let failures = json!({ "count": failed.count, "first": { "id": id, "error": error } });
        body.extend_from_slice(format!(",\"filterFailures\":{failures}").as_bytes());
    }
    body.push(b'}');
    body
}

/// A record, or what of it is wanted.
pub(super) fn write(record: &Record, wanted: &Wanted, out: &mut Vec<u8>) {
    match &wanted.fields {
        None => item::item(record, wanted.style, wanted.encoded_ids, out),
        Some(fields) => fields.write(record, wanted.style, wanted.encoded_ids, out),
    }
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
pub(super) fn next(uri: &Uri, cursor: Option<&str>) -> String {
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
    match cursor {
        // A plain cursor has characters that mean something else in a query.
        Some(cursor) => target + "cursor=" + &cursor.replace('#', "%23"),
        None => target.trim_end_matches(['?', '&']).to_owned(),
    }
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
