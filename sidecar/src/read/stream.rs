//! Server-sent events: what is there, and then what comes, for as long as the client listens.
//!
//! A stream is asked for its next piece when the client has taken the one before. What it holds is its positions: a client
//! that is slow is behind, is caught up from Kafka when it goes on, and holds up nobody.

use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderName;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use prometheus_client::metrics::gauge::Gauge;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::Reads;
use super::access::Granted;
use super::cursor::Cursor;
use super::failure::{Failure, Kind};
use super::feed::{Feed, Selection};
use super::item::{self, Parts};
use super::poll::{LOOK, appears, reset};
use super::query::{Asked, Wanted};
use crate::kafka::reader::{Limits, Reader, Record};
use crate::shutdown::{Phase, Shutdown};

/// What a stream reads at once.
const PIECE: Limits = Limits {
    records: 500,
    bytes: 64 * 1024,
};
/// After how many milliseconds a client comes back whose stream has ended.
const RETRY: u64 = 1000;
/// How often partitions are looked for that a topic did not have.
const LOOK_FOR_PARTITIONS: Duration = Duration::from_secs(5);
/// How long Kafka is left alone when it did not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// Proxies that gather what they pass on are asked not to.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

pub(super) async fn open(
    reads: &Reads,
    granted: &Granted<'_>,
    asked: &Asked,
    mut wanted: Wanted,
) -> Result<Response, Failure> {
    let heartbeat = asked.heartbeat()?;
    let feed = match Feed::open(&granted.reader, &wanted.selection).await {
        Ok(feed) => Some(feed),
        Err(failure) if failure.kind() == Kind::UnknownTopic && !wanted.must_exist => {
            appears(&mut wanted);
            None
        }
        Err(failure) => return Err(failure),
    };
    let now = Instant::now();
    let look = if feed.is_some() { LOOK_FOR_PARTITIONS } else { LOOK };
    let stream = Stream {
        reader: Arc::clone(&granted.reader),
        selection: wanted.selection,
        seen: feed.as_ref().map(Feed::cursor).unwrap_or_default(),
        feed,
        shape: Shape {
            format: asked.format,
            metadata: asked.metadata_as_comment,
            headers: asked.headers_as_comment,
            encoded_ids: wanted.encoded_ids,
        },
        heartbeat,
        quiet_until: now + heartbeat,
        look_at: now + look,
        state: State::Opening,
        shutdown: reads.shutdown.clone(),
        count: reads.metrics.clone(),
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
    reader: Arc<Reader>,
    selection: Selection,
    /// None while the topic does not exist.
    feed: Option<Feed>,
    /// The last record that was sent, of each partition: what an event's id says.
    seen: Cursor,
    shape: Shape,
    heartbeat: Duration,
    /// When the client is told that the stream is there, if nothing else is sent.
    quiet_until: Instant,
    /// When the topics are looked at again.
    look_at: Instant,
    state: State,
    shutdown: Shutdown,
    count: crate::metrics::ReadMetrics,
    _open: Open,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was sent.
    Opening,
    /// What is there is read.
    Behind,
    /// The client knows that it has seen what was there.
    Live,
    /// It was told why it ends.
    Over,
}

/// How records are written.
#[derive(Debug, Clone, Copy)]
struct Shape {
    format: item::Format,
    metadata: bool,
    headers: bool,
    encoded_ids: bool,
}

impl Stream {
    /// The next piece; none when the stream is over.
    async fn next(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        while out.is_empty() {
            match self.state {
                State::Over => return None,
                State::Opening => {
                    self.state = State::Behind;
                    out = format!("retry: {RETRY}\n\n").into_bytes();
                }
                _ if self.shutdown.phase() >= Phase::Draining => {
                    self.state = State::Over;
                    out = format!(": the sidecar is going away; come back\nretry: {RETRY}\n\n").into_bytes();
                }
                State::Behind | State::Live => self.turn(&mut out).await,
            }
        }
        self.quiet_until = Instant::now() + self.heartbeat;
        Some(out.into())
    }

    /// One step: writes what there is to say, or waits.
    async fn turn(&mut self, out: &mut Vec<u8>) {
        if let Err(failure) = self.advance(out).await {
            if failure.may_pass() {
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
        let now = Instant::now();
        if now >= self.look_at {
            self.look().await?;
        }
        let until = self.quiet_until.min(self.look_at);
        let mut shutdown = self.shutdown.clone();
        let Some(feed) = &mut self.feed else {
            tokio::select! {
                () = tokio::time::sleep_until(until) => self.beat(out),
                () = shutdown.reached(Phase::Draining) => {}
            }
            return Ok(());
        };
        let records = feed.collect(PIECE).await?;
        for moved in feed.moved() {
            self.seen
                .see(&moved.topic, moved.partition, moved.position.saturating_sub(1));
            event("reset", None, &reset(&moved), out);
        }
        for record in &records {
            self.seen.see(&record.topic, record.partition, record.offset);
            self.shape.message(record, &self.seen, out);
        }
        self.count.records(&records);
        let cursor = feed.cursor();
        if !records.is_empty() {
            return Ok(());
        }
        // Past what is no record.
        self.seen = cursor;
        if !feed.caught_up() {
            return Ok(());
        }
        if self.state == State::Behind {
            self.state = State::Live;
            let id = self.seen.text(self.shape.encoded_ids);
            event("caught-up", Some(&id), &json!({ "cursor": id }), out);
            return Ok(());
        }
        if !out.is_empty() {
            return Ok(());
        }
        tokio::select! {
            waited = feed.wait(until) => waited?,
            () = shutdown.reached(Phase::Draining) => {}
        }
        self.beat(out);
        Ok(())
    }

    /// Says that the stream is there, when nothing was sent for long.
    fn beat(&mut self, out: &mut Vec<u8>) {
        if Instant::now() >= self.quiet_until {
            comment("", out);
        }
    }

    /// Looks for a topic that was not there, or for partitions that were not.
    async fn look(&mut self) -> Result<(), Failure> {
        match &mut self.feed {
            Some(feed) => {
                self.look_at = Instant::now() + LOOK_FOR_PARTITIONS;
                feed.look_for_partitions(&self.selection).await
            }
            None => {
                self.look_at = Instant::now() + LOOK;
                match Feed::open(&self.reader, &self.selection).await {
                    Ok(feed) => {
                        self.seen = feed.cursor();
                        self.feed = Some(feed);
                        Ok(())
                    }
                    Err(failure) if failure.kind() == Kind::UnknownTopic => Ok(()),
                    Err(failure) => Err(failure),
                }
            }
        }
    }
}

impl Shape {
    fn message(self, record: &Record, seen: &Cursor, out: &mut Vec<u8>) {
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
            item::object(record, self.format, parts, out);
            out.push(b'\n');
        }
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(seen.text(self.encoded_ids).as_bytes());
        out.extend_from_slice(b"\nevent: message\n");
        match (self.metadata, self.headers) {
            (true, true) => {
                let (text, kind) = item::bare(record, self.format);
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
                item::item(record, self.format, self.encoded_ids, out);
            }
            (metadata, headers) => {
                let parts = Parts {
                    metadata: !metadata,
                    headers: !headers,
                    value: true,
                };
                out.extend_from_slice(b"data: ");
                item::object(record, self.format, parts, out);
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

/// Counts a stream while it is open.
struct Open(Gauge);

impl Open {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
