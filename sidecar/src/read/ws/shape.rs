//! How records and events are written on a socket.

use axum::extract::ws::{Message, Utf8Bytes};
use bytes::Bytes;
use serde::Deserialize;

use super::super::cursor::Cursor;
use super::super::fields::Fields;
use super::super::item::{self, Parts, Style};
use crate::kafka::reader::Record;

/// `frames`: what a record comes in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Frames {
    /// One text message, with its value in it.
    #[default]
    Json,
    /// A text message without its value, and then the value's bytes as a binary message.
    Binary,
}

/// How records are written.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) style: Style,
    pub(super) frames: Frames,
    pub(super) encoded_ids: bool,
    /// What of each record is wanted; none: all of it.
    pub(super) fields: Option<Fields>,
}

impl Shape {
    /// The messages of a record; `seen` is the position after it.
    pub(super) fn record(&self, record: &Record, seen: &Cursor) -> (Message, Option<Message>) {
        let mut item = Vec::new();
        let mut value = None;
        match (self.frames, &self.fields) {
            (Frames::Json, None) => item::item(record, self.style, self.encoded_ids, &mut item),
            (Frames::Json, Some(fields)) => fields.write(record, self.style, self.encoded_ids, &mut item),
            (Frames::Binary, _) => {
                let parts = Parts {
                    metadata: true,
                    headers: true,
                    value: false,
                };
                let id = Cursor::of(&record.topic, record.partition, record.offset).text(self.encoded_ids);
                let mut metadata = Vec::new();
                item::object(record, self.style, parts, &mut metadata);
                value = item::framed(record, self.style.unframed).1;
                item.extend_from_slice(format!("{{\"id\":\"{id}\",").as_bytes());
                item.extend_from_slice(metadata.strip_prefix(b"{").unwrap_or_default());
                item.pop();
                let about = match &value {
                    Some(value) => format!(",\"valueFormat\":\"binary\",\"valueBytes\":{}}}", value.len()),
                    None => ",\"valueFormat\":\"null\"}".to_owned(),
                };
                item.extend_from_slice(about.as_bytes());
            }
        }
        // Cursors have no character that JSON escapes: topics, digits, and what is between them.
        let cursor = seen.text(self.encoded_ids);
        let mut out = format!("{{\"type\":\"message\",\"cursor\":\"{cursor}\"").into_bytes();
        let members = item.strip_prefix(b"{").unwrap_or_default();
        // Of fields that a record does not have there are none.
        if members.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(members);
        (text(out), value.map(Message::Binary))
    }
}

/// A text message of what is JSON.
pub(super) fn text(json: impl Into<Bytes>) -> Message {
    let bytes: Bytes = json.into();
    // JSON is UTF-8 by how it was made.
    Message::Text(Utf8Bytes::try_from(bytes).unwrap_or_default())
}
