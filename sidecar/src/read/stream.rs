//! Server-sent events: what is there, and then what comes, for as long as the client listens.
//!
//! A stream is asked for its next piece when the client has taken the one before. What it holds is its positions: a client
//! that is slow is behind, is caught up from Kafka when it goes on, and holds up nobody.

use axum::body::Body;
use axum::http::HeaderName;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::Reads;
use super::access::Granted;
use super::cursor::Cursor;
use super::failure::Failure;
use super::fields::Fields;
use super::flow::{Flow, PAUSE, PIECE, Step, failures, told};
use super::item::{self, Parts, Style};
use super::poll::reset;
use super::query::{Asked, Wanted};
use crate::kafka::reader::Record;
use crate::metrics::Open;
use crate::shutdown::{Phase, Shutdown};

/// After how many milliseconds a client comes back whose stream has ended.
const RETRY: u64 = 1000;
/// Proxies that gather what they pass on are asked not to.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

pub(super) async fn open(
    reads: &Reads,
    granted: &Granted<'_>,
    asked: &Asked,
    mut wanted: Wanted,
) -> Result<Response, Failure> {
    let heartbeat = asked.heartbeat()?;
    let shape = Shape {
        style: wanted.style,
        metadata: asked.metadata_as_comment,
        headers: asked.headers_as_comment,
        encoded_ids: wanted.encoded_ids,
        fields: wanted.fields.take(),
    };
    let ends = wanted.until;
    let stream = Stream {
        flow: Flow::open(reads, granted, wanted).await?,
        ends,
        passed: false,
        shape,
        heartbeat,
        quiet_until: Instant::now() + heartbeat,
        state: State::Opening,
        shutdown: reads.shutdown.clone(),
        _open: Open::new(reads.metrics.streams()),
    };
    let body = futures_util::stream::unfold(stream, |mut stream| async move {
        let piece = stream.next().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), stream))
    });
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
        (BUFFERING, "no"),
    ];
    Ok((headers, Body::from_stream(body)).into_response())
}

/// One client's stream.
struct Stream {
    flow: Flow,
    /// When the token ends that it was opened with.
    ends: Option<Instant>,
    /// Whether the flow went on past what was left out, without an event that told so.
    passed: bool,
    shape: Shape,
    heartbeat: Duration,
    /// When the client is told that the stream is there, if nothing else is sent.
    quiet_until: Instant,
    state: State,
    shutdown: Shutdown,
    _open: Open,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was sent.
    Opening,
    /// What there is to say is said.
    Sending,
    /// The client was told why it ends.
    Over,
}

/// How records are written.
#[derive(Debug, Clone)]
struct Shape {
    style: Style,
    metadata: bool,
    headers: bool,
    encoded_ids: bool,
    /// What of each record is wanted; none: all of it.
    fields: Option<Fields>,
}

impl Stream {
    /// The next piece; none when the stream is over.
    async fn next(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        while out.is_empty() {
            match self.state {
                State::Over => return None,
                State::Opening => {
                    self.state = State::Sending;
                    out = format!("retry: {RETRY}\n\n").into_bytes();
                }
                _ if self.shutdown.phase() >= Phase::Draining => {
                    self.state = State::Over;
                    out = format!(": the sidecar is going away; come back\nretry: {RETRY}\n\n").into_bytes();
                }
                _ if self.ends.is_some_and(|ends| ends <= Instant::now()) => {
                    self.state = State::Over;
                    let text = "the token has expired: come back with another one and the last id";
                    event("error", None, &Failure::bad_token(text).body(), &mut out);
                }
                State::Sending => self.turn(&mut out).await,
            }
        }
        self.quiet_until = Instant::now() + self.heartbeat;
        Some(out.into())
    }

    /// One step: writes what there is to say, or waits.
    async fn turn(&mut self, out: &mut Vec<u8>) {
        if let Err(failure) = self.advance(out).await {
            // A client whose seat is gone comes back to another one.
            if failure.may_pass() && !self.flow.is_over() {
                comment(&failure.body().to_string(), out);
                let mut shutdown = self.shutdown.clone();
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = shutdown.reached(Phase::Draining) => {}
                }
            } else {
                self.state = State::Over;
                event("error", None, &failure.body(), out);
            }
        }
    }

    async fn advance(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        match self.flow.advance(PIECE).await? {
            Step::Changed(changes) => {
                for (name, data) in changes.iter().map(told) {
                    event(name, None, &data, out);
                }
            }
            Step::Moved(moved) => {
                for moved in &moved {
                    event("reset", None, &reset(moved), out);
                }
            }
            Step::Records(looked, failed) => {
                for one in &looked {
                    self.flow.saw(one);
                    self.passed = one.kept.is_none();
                    if let Some(record) = &one.kept {
                        self.shape.message(record, self.flow.seen(), out);
                    }
                }
                if let Some(data) = failures(&failed, self.shape.encoded_ids) {
                    let id = self.flow.seen().text(self.shape.encoded_ids);
                    event("filter-failures", Some(&id), &data, out);
                }
                if out.is_empty() {
                    self.beat(out);
                }
            }
            Step::CaughtUp => {
                let id = self.flow.seen().text(self.shape.encoded_ids);
                event("caught-up", Some(&id), &json!({ "cursor": id }), out);
            }
            Step::More => {}
            Step::Quiet => {
                let until = self
                    .ends
                    .map_or(self.quiet_until, |ends| ends.min(self.quiet_until));
                let mut shutdown = self.shutdown.clone();
                tokio::select! {
                    waited = self.flow.wait(until) => waited?,
                    () = shutdown.reached(Phase::Draining) => {}
                }
                self.beat(out);
            }
        }
        Ok(())
    }

    /// Says that the stream is there, when nothing was sent for long; and where it is, if it has left records out since: a client
    /// that comes back goes on from there.
    fn beat(&mut self, out: &mut Vec<u8>) {
        if Instant::now() < self.quiet_until {
            return;
        }
        if std::mem::take(&mut self.passed) {
            let id = self.flow.seen().text(self.shape.encoded_ids);
            out.extend_from_slice(format!("id: {id}\n").as_bytes());
        }
        comment("", out);
    }
}

impl Shape {
    fn message(&self, record: &Record, seen: &Cursor, out: &mut Vec<u8>) {
        let part = |metadata, headers| Parts {
            metadata,
            headers,
            value: false,
        };
        let comments = [
            (self.metadata, "metadata", part(true, false)),
            (self.headers, "headers", part(false, true)),
        ];
        for (_, name, parts) in comments.into_iter().filter(|(wanted, _, _)| *wanted) {
            out.extend_from_slice(format!(": {name}: ").as_bytes());
            item::object(record, self.style, parts, out);
            out.push(b'\n');
        }
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(seen.text(self.encoded_ids).as_bytes());
        out.extend_from_slice(b"\nevent: message\n");
        match (self.metadata, self.headers) {
            (true, true) => {
                let (_, value) = item::framed(record, self.style.unframed);
                let (text, kind) = item::bare(value.as_deref(), self.style.format);
                comment(&format!("valueFormat: {kind}"), out);
                // There is always a line of data: without one browsers drop the event.
                for line in text.split('\n') {
                    out.extend_from_slice(b"data: ");
                    out.extend_from_slice(line.as_bytes());
                    out.push(b'\n');
                }
                out.push(b'\n');
                return;
            }
            (false, false) => {
                out.extend_from_slice(b"data: ");
                match &self.fields {
                    None => item::item(record, self.style, self.encoded_ids, out),
                    Some(fields) => fields.write(record, self.style, self.encoded_ids, out),
                }
            }
            (metadata, headers) => {
                let parts = Parts {
                    metadata: !metadata,
                    headers: !headers,
                    value: true,
                };
                out.extend_from_slice(b"data: ");
                item::object(record, self.style, parts, out);
            }
        }
        out.extend_from_slice(b"\n\n");
    }
}

/// A line that clients pass over.
fn comment(text: &str, out: &mut Vec<u8>) {
    let line = if text.is_empty() {
        ":\n\n".to_owned()
    } else {
        format!(": {text}\n")
    };
    out.extend_from_slice(line.as_bytes());
}

fn event(name: &str, id: Option<&str>, data: &Value, out: &mut Vec<u8>) {
    if let Some(id) = id {
        out.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    out.extend_from_slice(format!("event: {name}\ndata: {data}\n\n").as_bytes());
}
