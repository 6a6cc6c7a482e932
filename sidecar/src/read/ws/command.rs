//! What a client says on a WebSocket: a JSON object in each text message. `docs/reading.md` is its reference.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use sluice_proto::{idempotency, v1};

use crate::produce::rest::written::{self, Binary, Header, Object, Written, raw, there};
use crate::produce::rest::{Common, Delivery};
use crate::read::cursor::Cursor;
use crate::read::from::From;

/// The longest `id` that is taken, in bytes of its JSON.
pub const MAX_ID: usize = 128;

/// One message of a client.
#[derive(Debug)]
pub struct Said {
    /// What it calls the message, as it wrote it: a JSON string or number.
    pub id: Option<String>,
    /// What it asks for, or what is wrong with that.
    pub command: Result<Command, String>,
}

/// What a client asks for.
#[derive(Debug)]
pub enum Command {
    /// A record is to be written. It names no topic if the client did not, and no cluster.
    Publish(Box<v1::Record>),
    /// The records up to these have been dealt with.
    Ack(Cursor),
    /// No more records for now.
    Pause,
    /// Records again.
    Resume,
    /// On from somewhere else: after the records of a cursor, or from a start.
    Seek(Option<Cursor>, Option<From>),
}

/// Reads a message.
///
/// # Errors
/// It is no JSON object, so that nothing can be said about what it asks for.
pub fn parse(text: &str) -> Result<Said, String> {
    if !text.trim_ascii_start().starts_with('{') {
        return Err("a text message is a JSON object, and this is none".to_owned());
    }
    let head: Head<'_> = match serde_json::from_str(text) {
        Ok(head) => head,
        Err(error) if error.is_data() => {
            return Ok(Said {
                id: None,
                command: Err(error.to_string()),
            });
        }
        Err(error) => {
            return Err(format!(
                "a text message is a JSON object, and this is none: {error}"
            ));
        }
    };
    let id = match head.id.map(RawValue::get) {
        None | Some("null") => None,
        Some(id) if is_id(id) => Some(id.to_owned()),
        Some(_) => {
            return Ok(Said {
                id: None,
                command: Err(format!("id is a string or a number, of {MAX_ID} bytes at most")),
            });
        }
    };
    Ok(Said {
        id,
        command: command(head.kind.as_deref(), text),
    })
}

fn is_id(text: &str) -> bool {
    let starts = text.bytes().next();
    text.len() <= MAX_ID && starts.is_some_and(|byte| matches!(byte, b'"' | b'-' | b'0'..=b'9'))
}

fn command(kind: Option<&str>, text: &str) -> Result<Command, String> {
    match kind {
        Some("publish") => publish(read(text)?),
        Some("ack") => {
            let Positioned { cursor, from, .. } = read(text)?;
            if from.is_some() {
                return Err("from is for seek: ack has a cursor".to_owned());
            }
            let cursor = cursor.ok_or("ack has no cursor: that of a message, or its id")?;
            let cursor = Cursor::parse(&cursor).map_err(|why| format!("cursor {why}"))?;
            Ok(Command::Ack(cursor))
        }
        Some("pause") => read::<Bare>(text).map(|_| Command::Pause),
        Some("resume") => read::<Bare>(text).map(|_| Command::Resume),
        Some("seek") => {
            let Positioned { cursor, from, .. } = read(text)?;
            match (cursor, from) {
                (Some(cursor), None) => {
                    let cursor = Cursor::parse(&cursor).map_err(|why| format!("cursor {why}"))?;
                    Ok(Command::Seek(Some(cursor), None))
                }
                (None, Some(from)) => {
                    let from = From::parse(&from).map_err(|why| format!("from {why}"))?;
                    Ok(Command::Seek(None, Some(from)))
                }
                _ => Err(
                    "seek has a cursor, to go on after it, or from, to start there: one of them".to_owned(),
                ),
            }
        }
        Some(other) => {
            let shown: String = other.chars().take(40).collect();
            Err(format!(
                "type {shown:?} is none of publish, ack, pause, resume and seek"
            ))
        }
        None => Err("type is missing: publish, ack, pause, resume or seek".to_owned()),
    }
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// What all messages have; the rest is read when it is known what it is.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bare {
    #[serde(rename = "type")]
    _kind: IgnoredAny,
    #[serde(rename = "id", default)]
    _id: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Positioned {
    #[serde(rename = "type")]
    _kind: IgnoredAny,
    #[serde(rename = "id", default)]
    _id: IgnoredAny,
    #[serde(default)]
    cursor: Option<String>,
    #[serde(default)]
    from: Option<String>,
}

/// A record as it is written over REST, and what is in a request's path and query there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Publish<'a> {
    #[serde(rename = "type")]
    _kind: IgnoredAny,
    #[serde(rename = "id", default)]
    _id: IgnoredAny,
    #[serde(default)]
    topic: Option<String>,
    #[serde(default)]
    key: Option<Binary>,
    #[serde(default, deserialize_with = "there")]
    value: Option<Option<Binary>>,
    #[serde(borrow, default, deserialize_with = "raw")]
    json: Option<&'a RawValue>,
    #[serde(default)]
    partition: Option<i32>,
    #[serde(default)]
    timestamp: Option<i64>,
    #[serde(default)]
    headers: Vec<Object<Header>>,
    #[serde(default)]
    producer: String,
    #[serde(default)]
    delivery: Delivery,
    #[serde(default)]
    timeout_ms: u32,
    #[serde(default)]
    spool_on_outage: bool,
    #[serde(default)]
    idempotency_key: Option<String>,
}

fn publish(said: Publish<'_>) -> Result<Command, String> {
    let common = Common {
        cluster_name: String::new(),
        producer: said.producer,
        delivery: said.delivery,
        timeout_ms: said.timeout_ms,
        spool_on_outage: said.spool_on_outage,
    };
    let written = Written {
        key: said.key,
        value: said.value,
        json: said.json,
        partition: said.partition,
        timestamp: said.timestamp,
        headers: said.headers,
    };
    let topic = said.topic.unwrap_or_default();
    let record = written::record(&common, &topic, "publish", written);
    let mut record = record.map_err(|failure| failure.message.into_owned())?;
    record.topics.retain(|topic| !topic.is_empty());
    if let Some(text) = said.idempotency_key {
        let key = idempotency::key(text.as_bytes()).map_err(|why| format!("idempotency_key: {why}"))?;
        record.idempotency = Some(v1::Idempotency {
            key: key.into_owned().into(),
            fingerprint: bytes::Bytes::new(),
            window_ms: 0,
        });
    }
    Ok(Command::Publish(Box::new(record)))
}

/// Completes an idempotency key by what stands for the record: all that says what it is and where it goes.
pub(super) fn fingerprint(record: &mut v1::Record) {
    let Some(once) = &mut record.idempotency else {
        return;
    };
    // Absent and empty are two things, and so are two values.
    let mut parts: Vec<Vec<u8>> = vec![b"publish".to_vec()];
    let mut optional = |bytes: Option<&[u8]>| match bytes {
        Some(bytes) => parts.extend([vec![1], bytes.to_vec()]),
        None => parts.push(vec![0]),
    };
    optional(record.topics.first().map(String::as_bytes));
    optional(record.key.as_deref());
    optional(record.value.as_deref());
    optional(
        record
            .partition
            .map(i32::to_be_bytes)
            .as_ref()
            .map(<[u8; 4]>::as_slice),
    );
    optional(
        record
            .timestamp_ms
            .map(i64::to_be_bytes)
            .as_ref()
            .map(<[u8; 8]>::as_slice),
    );
    for header in &record.headers {
        optional(Some(header.name.as_bytes()));
        optional(header.value.as_deref());
    }
    let print = idempotency::fingerprint(parts.iter().map(Vec::as_slice));
    once.fingerprint = print.to_vec().into();
}
