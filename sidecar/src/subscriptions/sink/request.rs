//! The request that events become.

use std::borrow::Cow;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use hyper::{HeaderMap, Method, Request};
use openssl::sha::sha256;
use serde::de::IgnoredAny;

use super::cloudevents::{self, CloudEvents, Data, Mode};
use super::headers;
use super::signature::Signatures;
use super::target::Target;
use super::template::Rendered;
use crate::read::item::{self, Style};
use crate::subscriptions::event::Event;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const SUBSCRIPTION: HeaderName = HeaderName::from_static("restate.subscription.id");
const TOPIC: HeaderName = HeaderName::from_static("kafka.topic");
const PARTITION: HeaderName = HeaderName::from_static("kafka.partition");
const OFFSET: HeaderName = HeaderName::from_static("kafka.offset");
const TIMESTAMP: HeaderName = HeaderName::from_static("kafka.timestamp");
const KEY: HeaderName = HeaderName::from_static("kafka.key");
const BATCH_SIZE: HeaderName = HeaderName::from_static("kafka.batch.size");

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";
const BYTES: &str = "application/octet-stream";
const TEXT: &str = "text/plain; charset=utf-8";
const AGENT: &str = concat!("sluice/", env!("CARGO_PKG_VERSION"));

/// The most that a request's headers have together, names and values. Servers take 8 to 64 KiB.
const MAX_HEADERS: usize = 64 * 1024;

/// How requests are made.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) method: Method,
    /// Those that are always the same.
    pub(super) headers: HeaderMap,
    pub(super) raw: bool,
    pub(super) cloudevents: Option<CloudEvents>,
    pub(super) signatures: Signatures,
    /// None: one event a request.
    pub(super) batch: Option<Batch>,
}

/// How batches are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// `batch_format`
    pub format: BatchFormat,
    /// `batch_items`
    pub items: BatchItems,
}

/// `batch_format`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchFormat {
    /// `json`: one array.
    Json,
    /// `ndjson`: a line for each.
    Ndjson,
}

/// `batch_items`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchItems {
    /// `value`: the values, or what the body's template makes of each record.
    Value,
    /// `record`: the records as reading gives them, with the event's id.
    Record,
}

/// A request, and what it leaves out.
pub(super) struct Draft {
    pub(super) request: Request<Full<Bytes>>,
    /// Record headers that may not be a request's.
    pub(super) dropped: usize,
}

/// What one event sends.
struct Content<'a> {
    /// None: a tombstone.
    bytes: Option<Bytes>,
    content_type: Cow<'a, str>,
    is_json: bool,
}

impl Shape {
    /// The request for `events`, of which there is at least one; each has its `rendered`.
    ///
    /// # Errors
    /// An event cannot be sent, and will not be by trying again.
    pub(super) fn request(
        &self,
        target: &Target,
        events: &[Event],
        rendered: &mut [Rendered],
        now: SystemTime,
    ) -> Result<Draft, String> {
        let first = events.first().ok_or("there is no event")?;
        let mut own = rendered.first_mut();
        let uri = target.uri(first, own.as_ref().and_then(|own| own.url.as_deref()))?;
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let mut dropped = 0;
        let made = own.as_mut().map(|own| std::mem::take(&mut own.headers));
        let (id, body, content_type) = match self.batch {
            Some(batch) => {
                batch_metadata(events, &mut headers)?;
                let (body, content_type) = self.batch(batch, events, rendered)?;
                (batch_id(events), body, Cow::Borrowed(content_type))
            }
            None => {
                dropped = headers::carry(&first.record, self.cloudevents.is_some(), &mut headers);
                metadata(first, &mut headers)?;
                let content = self.content(first, own.and_then(|own| own.body.take()))?;
                let (body, content_type) = self.single(first, content, &mut headers)?;
                (first.id(), body, content_type)
            }
        };
        headers.insert(CONTENT_TYPE, text(&content_type)?);
        headers.insert(ID, text(&id)?);
        headers.insert(IDEMPOTENCY_KEY, text(&id)?);
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        for (name, value) in made.unwrap_or_default() {
            let value = HeaderValue::from_str(&value)
                .map_err(|_| format!("the header {name} would have a control character in it"))?;
            headers.insert(name, value);
        }
        let body = if matches!(self.method, Method::GET | Method::HEAD) {
            headers.remove(CONTENT_TYPE);
            Bytes::new()
        } else {
            // hyper says nothing of an empty body, and some servers answer that with 411.
            headers.insert(CONTENT_LENGTH, body.len().into());
            body
        };
        self.signatures.add(&mut headers, &id, &body, now)?;
        let size: usize = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        if size > MAX_HEADERS {
            return Err(format!(
                "its headers have {size} bytes, and a request may have {MAX_HEADERS}"
            ));
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(Draft { request, dropped })
    }

    fn single<'a>(
        &self,
        event: &Event,
        content: Content<'a>,
        headers: &mut HeaderMap,
    ) -> Result<(Bytes, Cow<'a, str>), String> {
        let Some(cloudevents) = &self.cloudevents else {
            let nothing = if content.is_json { "null" } else { "" };
            let body = content.bytes.unwrap_or(Bytes::from_static(nothing.as_bytes()));
            return Ok((body, content.content_type));
        };
        if cloudevents.mode == Mode::Binary {
            cloudevents.headers(event, headers);
            return Ok((content.bytes.unwrap_or_default(), content.content_type));
        }
        let mut out = Vec::new();
        cloudevents.object(event, &content.data(), &mut out)?;
        Ok((out.into(), cloudevents::JSON.into()))
    }

    fn batch(
        &self,
        batch: Batch,
        events: &[Event],
        rendered: &mut [Rendered],
    ) -> Result<(Bytes, &'static str), String> {
        let mut out = Vec::new();
        let lines = batch.format == BatchFormat::Ndjson;
        let mut bodies = rendered.iter_mut().map(|rendered| rendered.body.take());
        for (i, event) in events.iter().enumerate() {
            if lines {
                if i > 0 {
                    out.push(b'\n');
                }
            } else {
                out.push(if i == 0 { b'[' } else { b',' });
            }
            let start = out.len();
            let body = bodies.next().flatten();
            self.item(batch, event, body, &mut out).map_err(|why| {
                let record = &event.record;
                format!("{}@{}#{}: {why}", record.topic, record.partition, record.offset)
            })?;
            // In JSON a line's end is between tokens only, where a space is as good.
            for byte in out
                .iter_mut()
                .skip(start)
                .filter(|byte| matches!(byte, b'\n' | b'\r'))
            {
                *byte = b' ';
            }
        }
        out.push(if lines { b'\n' } else { b']' });
        let content_type = match (&self.cloudevents, lines) {
            (Some(_), _) => cloudevents::BATCH,
            (None, true) => NDJSON,
            (None, false) => JSON,
        };
        Ok((out.into(), content_type))
    }

    fn item(
        &self,
        batch: Batch,
        event: &Event,
        body: Option<Vec<u8>>,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        if self.cloudevents.is_none() && batch.items == BatchItems::Record {
            item::named(&event.id(), &event.record, Style::default(), out);
            return Ok(());
        }
        let content = self.content(event, body)?;
        match &self.cloudevents {
            Some(cloudevents) => cloudevents.object(event, &content.data(), out)?,
            None => out.extend_from_slice(content.bytes.as_deref().unwrap_or(b"null")),
        }
        Ok(())
    }

    fn content<'a>(&self, event: &'a Event, body: Option<Vec<u8>>) -> Result<Content<'a>, String> {
        let record = &event.record;
        let own = headers::text(record, "content-type").filter(|own| HeaderValue::from_str(own).is_ok());
        let is_rendered = body.is_some();
        let bytes = body.map(Bytes::from).or_else(|| record.value.clone());
        if self.raw {
            let usual = if is_rendered { TEXT } else { BYTES };
            let own = own.filter(|_| !is_rendered);
            // A CloudEvent's data is JSON where it says so and is.
            let is_json =
                own.is_some_and(is_json_type) && bytes.as_deref().is_some_and(|bytes| check(bytes).is_ok());
            return Ok(Content {
                bytes,
                content_type: own.unwrap_or(usual).into(),
                is_json,
            });
        }
        if let Some(bytes) = &bytes {
            let what = if is_rendered {
                "what its body's template makes"
            } else {
                "its value"
            };
            check(bytes)
                .map_err(|why| format!("{what} is not JSON ({why}): `raw: true` sends it as it is"))?;
        }
        let own = own.filter(|own| !is_rendered && is_json_type(own));
        Ok(Content {
            bytes,
            content_type: own.unwrap_or(JSON).into(),
            is_json: true,
        })
    }
}

impl Content<'_> {
    fn data(&self) -> Data<'_> {
        Data {
            bytes: self.bytes.as_ref(),
            content_type: Cow::Borrowed(&self.content_type),
            is_json: self.is_json,
        }
    }
}

fn check(bytes: &[u8]) -> Result<(), serde_json::Error> {
    serde_json::from_slice::<IgnoredAny>(bytes).map(|_| ())
}

fn is_json_type(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case(JSON) || essence.to_ascii_lowercase().ends_with("+json")
}

/// What one record's request says of it, as Restate has it.
fn metadata(event: &Event, out: &mut HeaderMap) -> Result<(), String> {
    let record = &event.record;
    out.insert(SUBSCRIPTION, text(&event.subscription)?);
    out.insert(TOPIC, text(&record.topic)?);
    out.insert(PARTITION, record.partition.into());
    out.insert(OFFSET, record.offset.into());
    if let Some(timestamp) = record.timestamp {
        out.insert(TIMESTAMP, timestamp.into());
    }
    if let Some(key) = &record.key {
        out.insert(KEY, text(&URL_SAFE.encode(key))?);
    }
    Ok(())
}

/// What is the same for all records of a batch.
fn batch_metadata(events: &[Event], out: &mut HeaderMap) -> Result<(), String> {
    let Some(first) = events.first() else {
        return Ok(());
    };
    out.insert(SUBSCRIPTION, text(&first.subscription)?);
    out.insert(BATCH_SIZE, events.len().into());
    let (topic, partition) = (&first.record.topic, first.record.partition);
    if events.iter().all(|event| event.record.topic == *topic) {
        out.insert(TOPIC, text(topic)?);
        if events.iter().all(|event| event.record.partition == partition) {
            out.insert(PARTITION, partition.into());
        }
    }
    Ok(())
}

/// What a handler may tell a batch that comes again by: the same events in the same order have the same.
fn batch_id(events: &[Event]) -> String {
    let mut ids = String::new();
    for event in events {
        ids += &event.id();
        ids.push('\n');
    }
    let digest = sha256(ids.as_bytes());
    let mut id = String::new();
    for byte in digest.iter().take(16) {
        id += &format!("{byte:02x}");
    }
    let subscription = events.first().map_or("", |event| &event.subscription);
    format!("{subscription}/batch/{id}")
}

fn text(value: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(value)
        .map_err(|_| "has a control character where a header cannot have one".to_owned())
}
