//! Answers to `view=latest`: the newest record of each key, or of one.

use std::sync::Arc;

use axum::http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH, LINK};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde_json::json;
use tokio::time::{Duration, Instant};

use sluice_proto::prefer::{self, Preferences};

use super::Reads;
use super::access::Granted;
use super::failure::{Failure, Kind};
use super::filter::Failed;
use super::poll;
use super::query::{Asked, Wanted};
use super::view::{Place, View};
use crate::config::MAX_MAX_WAIT;
use crate::kafka::reader::Record;

const APPLIED: HeaderName = HeaderName::from_static(prefer::APPLIED);
/// What is looked at at once.
const PIECE: usize = 500;

pub(super) async fn answer(
    reads: &Reads,
    granted: &Granted<'_>,
    asked: &Asked,
    wanted: Wanted,
    headers: &HeaderMap,
    uri: &Uri,
    ndjson: bool,
) -> Result<Response, Failure> {
    asked.refuse_for_view()?;
    let [topic] = &wanted.selection.topics[..] else {
        return Err(Failure::invalid("view=latest is of one topic"));
    };
    let place = asked.view_cursor().map(place).transpose()?;
    let view = reads
        .views
        .of(&granted.reader, topic, wanted.view, &reads.shutdown)
        .await?;
    let wait = preferred_wait(headers);
    let mut tag = view.lock().tag();
    if has(headers, &tag)
        && let Some(wait) = wait
    {
        view.changed(&tag, Instant::now() + wait, reads.shutdown.clone())
            .await?;
        tag = view.lock().tag();
    }
    let mut response = if has(headers, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let room = reads.room(wanted.limits.bytes).await?;
        let found = match asked.view_key() {
            Some(key) => one(&view, &wanted, key).await?,
            None => some(&view, &wanted, place).await?,
        };
        reads.metrics.records(&found.records);
        reads.metrics.filter_failures(found.failed.count);
        let next = found.next.as_ref().map(cursor);
        let body = match (&found.records[..], asked.view_key()) {
            ([record], Some(_)) => {
                let mut body = Vec::new();
                poll::write(record, &wanted, &mut body);
                body
            }
            (records, _) if ndjson => poll::lines(records, &wanted),
            (records, _) => {
                let mut body = poll::page(records, &wanted, next.as_deref(), &[], &found.failed);
                // Who goes on from there by a read or a stream misses nothing.
                let position = view.lock().position().text(wanted.encoded_ids);
                body.pop();
                body.extend_from_slice(format!(",\"position\":{}}}", json!(position)).as_bytes());
                body
            }
        };
        let mut response = poll::reply(body, ndjson && asked.view_key().is_none(), Some(room));
        if let Some(next) = &next
            && let Ok(link) =
                HeaderValue::from_str(&format!("<{}>; rel=\"next\"", poll::next(uri, Some(next))))
        {
            response.headers_mut().insert(LINK, link);
        }
        response
    };
    let to = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&format!("W/\"{tag}\"")) {
        to.insert(ETAG, tag);
    }
    to.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if let Some(wait) = wait
        && let Ok(applied) = HeaderValue::from_str(&format!("wait={}", wait.as_secs()))
    {
        to.insert(APPLIED, applied);
    }
    Ok(response)
}

/// What is shown, and the place after which there is more.
#[derive(Default)]
struct Found {
    records: Vec<Arc<Record>>,
    next: Option<Place>,
    failed: Failed,
}

async fn one(view: &View, wanted: &Wanted, key: &str) -> Result<Found, Failure> {
    let newest = view.lock().of(&Bytes::copy_from_slice(key.as_bytes()));
    let left = match newest {
        Some(newest) => wanted.filters.one(&newest).await?,
        None => None,
    };
    let record = left.ok_or_else(|| {
        Failure::new(
            Kind::NoRecord,
            format!("the view has no record with the key {key:?}"),
        )
    })?;
    Ok(Found {
        records: vec![record],
        ..Found::default()
    })
}

async fn some(view: &View, wanted: &Wanted, mut place: Option<Place>) -> Result<Found, Failure> {
    let mut found = Found::default();
    let mut bytes = wanted.limits.bytes;
    loop {
        let records = view.lock().after(place.as_ref(), PIECE);
        if records.is_empty() {
            return Ok(found);
        }
        let mut rest = &records[..];
        while !rest.is_empty() {
            let slice = wanted.filters.slice(rest).await?;
            found.failed.add(slice.failed);
            for record in slice.kept {
                let size = record.size();
                let full = found.records.len() >= wanted.limits.records;
                if full || (size > bytes && !found.records.is_empty()) {
                    found.next = found.records.last().and_then(|last| place_of(last));
                    return Ok(found);
                }
                bytes = bytes.saturating_sub(size);
                found.records.push(record);
            }
            rest = rest.get(slice.seen..).unwrap_or_default();
        }
        place = records.last().and_then(|last| place_of(last));
    }
}

fn place_of(record: &Record) -> Option<Place> {
    Some((record.key.clone()?, record.partition))
}

/// A place as text: the partition and the key, in base64.
fn cursor(place: &Place) -> String {
    let (key, partition) = place;
    URL_SAFE_NO_PAD.encode([format!("{partition}:").as_bytes(), key].concat())
}

fn place(text: &str) -> Result<Place, Failure> {
    let wrong = || {
        Failure::invalid(format!(
            "cursor {text:?} is none of a view: take it from the page before, or leave it out"
        ))
    };
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong())?;
    let at = bytes.iter().position(|byte| *byte == b':').ok_or_else(wrong)?;
    let (partition, key) = bytes.split_at(at);
    let partition = std::str::from_utf8(partition)
        .ok()
        .and_then(|text| text.parse().ok());
    let key = key.get(1..).unwrap_or_default();
    Ok((Bytes::copy_from_slice(key), partition.ok_or_else(wrong)?))
}

/// Whether the client has that already (`If-None-Match`, compared weakly).
fn has(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(IF_NONE_MATCH).iter();
    let tags = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    tags.map(str::trim).any(|one| {
        let opaque = one.strip_prefix("W/").unwrap_or(one);
        one == "*" || opaque.strip_prefix('"').and_then(|text| text.strip_suffix('"')) == Some(tag)
    })
}

/// `Prefer: wait=N` (RFC 7240), bounded.
pub(crate) fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(prefer::HEADER).iter().map(HeaderValue::as_bytes);
    let seconds = u64::from(Preferences::read(values).wait?);
    Some(Duration::from_secs(
        seconds.min(MAX_MAX_WAIT.unsigned_abs() / 1000),
    ))
}
