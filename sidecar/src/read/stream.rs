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
use super::fields::Fields;
use super::filter::Filters;
use super::groups::{Change, Session};
use super::item::{self, Parts, Style};
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
    let session = match &wanted.group {
        None => None,
        Some(wish) => {
            if wanted.must_exist {
                for topic in &wanted.selection.topics {
                    granted.reader.partitions(topic).await?;
                }
            }
            let (reader, selection) = (&granted.reader, &wanted.selection);
            let opened = Session::open(&reads.groups, &granted.home, wish, reader, selection, true);
            Some(opened.await?)
        }
    };
    let opened = match session {
        Some(_) => Ok(Feed::empty(&granted.reader, wanted.selection.reset)),
        None => Feed::open(&granted.reader, &wanted.selection).await,
    };
    let feed = match opened {
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
        ends: wanted.until,
        session,
        passed: false,
        shape: Shape {
            style: wanted.style,
            metadata: asked.metadata_as_comment,
            headers: asked.headers_as_comment,
            encoded_ids: wanted.encoded_ids,
            fields: wanted.fields,
        },
        filters: wanted.filters,
        collected: Vec::new(),
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
    /// Of a reader of a group.
    session: Option<Session>,
    /// The last record that was sent, of each partition: what an event's id says.
    seen: Cursor,
    /// When the token ends that it was opened with.
    ends: Option<Instant>,
    /// Whether `seen` went on past what was left out, without an event that told so.
    passed: bool,
    shape: Shape,
    filters: Filters,
    /// What was read, and not looked at yet.
    collected: Vec<Arc<Record>>,
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
                    self.state = State::Behind;
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
                State::Behind | State::Live => self.turn(&mut out).await,
            }
        }
        self.quiet_until = Instant::now() + self.heartbeat;
        Some(out.into())
    }

    /// One step: writes what there is to say, or waits.
    async fn turn(&mut self, out: &mut Vec<u8>) {
        if let Err(failure) = self.advance(out).await {
            // A client whose seat is gone comes back to another one.
            let over = self.session.as_ref().is_some_and(Session::is_over);
            if failure.may_pass() && !over {
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
            Box::pin(self.look()).await?;
        }
        let until = self.quiet_until.min(self.look_at);
        let until = self.ends.map_or(until, |ends| until.min(ends));
        let mut shutdown = self.shutdown.clone();
        let Some(feed) = &mut self.feed else {
            tokio::select! {
                () = tokio::time::sleep_until(until) => self.beat(out),
                () = shutdown.reached(Phase::Draining) => {}
            }
            return Ok(());
        };
        // Partitions come and go between two pieces.
        if let Some(session) = &mut self.session
            && self.collected.is_empty()
        {
            // What was written before, the client has taken.
            session.sent(&self.seen).await;
            let changes = session.sync(feed, &self.selection).await?;
            for change in &changes {
                told(change, out);
            }
            if !changes.is_empty() {
                self.seen = feed.cursor();
            }
            if !session.is_seated() {
                if out.is_empty() {
                    tokio::select! {
                        () = tokio::time::sleep_until(until) => {}
                        () = session.changed() => {}
                        () = shutdown.reached(Phase::Draining) => {}
                    }
                    self.beat(out);
                }
                return Ok(());
            }
        }
        if self.collected.is_empty() {
            let mut records = feed.collect(PIECE).await?;
            if let Some(session) = &mut self.session
                && !records.is_empty()
            {
                let cursor = feed.cursor();
                let gone = session.before(&cursor, feed).await?;
                records.retain(|record| {
                    let mut gone = gone.iter();
                    !gone.any(|(topic, partition)| **topic == *record.topic && *partition == record.partition)
                });
            }
            self.collected = records;
        }
        for moved in feed.moved() {
            self.seen
                .see(&moved.topic, moved.partition, moved.position.saturating_sub(1));
            event("reset", None, &reset(&moved), out);
        }
        if !self.collected.is_empty() {
            return self.pass_on(out).await;
        }
        // Past what is no record.
        feed.note(&mut self.seen);
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
        let session = &mut self.session;
        let changed = async {
            match session {
                Some(session) => session.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            waited = feed.wait(until) => waited?,
            () = changed => {}
            () = shutdown.reached(Phase::Draining) => {}
        }
        self.beat(out);
        Ok(())
    }

    /// Sends what passes the filters of some of what was collected.
    async fn pass_on(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        let slice = self.filters.slice(&self.collected).await?;
        let rest = self.collected.split_off(slice.seen);
        let seen = std::mem::replace(&mut self.collected, rest);
        let mut kept = slice.kept.iter().peekable();
        for record in &seen {
            self.seen.see(&record.topic, record.partition, record.offset);
            let place = |record: &Record| (record.partition, record.offset);
            // A record that was reshaped is another one, at the same place.
            match kept.next_if(|one| one.topic == record.topic && place(one) == place(record)) {
                Some(record) => {
                    self.shape.message(record, &self.seen, out);
                    self.passed = false;
                }
                None => self.passed = true,
            }
        }
        self.count.records(&slice.kept);
        self.count.filter_failures(slice.failed.count);
        if let Some((record, error)) = slice.failed.first {
            let first = record.text(self.shape.encoded_ids);
            let data = json!({ "count": slice.failed.count, "first": { "id": first, "error": error } });
            let id = self.seen.text(self.shape.encoded_ids);
            event("filter-failures", Some(&id), &data, out);
        }
        if out.is_empty() {
            self.beat(out);
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
            let id = self.seen.text(self.shape.encoded_ids);
            out.extend_from_slice(format!("id: {id}\n").as_bytes());
        }
        comment("", out);
    }

    /// Looks for a topic that was not there, or for partitions that were not.
    async fn look(&mut self) -> Result<(), Failure> {
        match &mut self.feed {
            // The group finds them.
            Some(_) if self.session.is_some() => {
                self.look_at = Instant::now() + LOOK_FOR_PARTITIONS;
                Ok(())
            }
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

/// What the group gives or takes.
fn told(change: &Change, out: &mut Vec<u8>) {
    match change {
        Change::Assigned(starts) => {
            let one = |((topic, partition), position): &((Arc<str>, i32), i64)| json!({ "topic": **topic, "partition": partition, "position": position });
            let partitions: Vec<Value> = starts.iter().map(one).collect();
            event("assigned", None, &json!({ "partitions": partitions }), out);
        }
        Change::Revoked(gone) => {
            let one =
                |(topic, partition): &(Arc<str>, i32)| json!({ "topic": **topic, "partition": partition });
            let partitions: Vec<Value> = gone.iter().map(one).collect();
            event("revoked", None, &json!({ "partitions": partitions }), out);
        }
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
