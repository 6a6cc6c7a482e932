//! Records as JSON.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::cursor::Cursor;
use crate::kafka::reader::Record;

/// `format`: how a value is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// As JSON where it is JSON, else as a string where it is text, else in base64.
    #[default]
    Auto,
    /// As JSON, or in base64.
    Json,
    /// As a string, or in base64.
    String,
    /// In base64.
    Base64,
}

/// What goes into an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts {
    /// Topic, partition, offset, timestamp and key.
    pub(super) metadata: bool,
    /// Record headers.
    pub(super) headers: bool,
    /// The value.
    pub(super) value: bool,
}

const ALL: Parts = Parts {
    metadata: true,
    headers: true,
    value: true,
};

/// The id of a value's schema, and the value: with `unframed` without Confluent's header, where it has one, and otherwise as it
/// is. That header is a magic byte 0 and the id in 4 bytes, the most significant first (Confluent's "Wire format").
pub(super) fn framed(record: &Record, unframed: bool) -> (Option<u32>, Option<Bytes>) {
    let value = record.value.as_ref();
    let Some((head, [0, id @ ..])) = value
        .filter(|_| unframed)
        .and_then(|value| Some((value, value.first_chunk::<5>()?)))
    else {
        return (None, value.cloned());
    };
    (Some(u32::from_be_bytes(*id)), Some(head.slice(5..)))
}

/// How items are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Style {
    pub(crate) format: Format,
    /// Whether a Confluent header is taken off values.
    pub(crate) unframed: bool,
}

/// A record with all that it has, on one line.
pub(super) fn item(record: &Record, style: Style, encoded_id: bool, out: &mut Vec<u8>) {
    let id = Cursor::of(&record.topic, record.partition, record.offset).text(encoded_id);
    named(&id, record, style, out);
}

/// The same, with another id than that of its position.
pub(crate) fn named(id: &str, record: &Record, style: Style, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":");
    string(id, out);
    out.push(b',');
    if style.format == Format::Auto {
        let kept = if style.unframed {
            &record.shown_unframed
        } else {
            &record.shown
        };
        let shown = kept.get_or_init(|| {
            let mut rest = Vec::new();
            fields(record, style, ALL, &mut rest);
            Bytes::from(rest)
        });
        out.extend_from_slice(shown);
    } else {
        fields(record, style, ALL, out);
    }
    out.push(b'}');
}

/// Some of what a record has, as an object on one line.
pub(super) fn object(record: &Record, style: Style, parts: Parts, out: &mut Vec<u8>) {
    out.push(b'{');
    fields(record, style, parts, out);
    out.push(b'}');
}

fn fields(record: &Record, style: Style, parts: Parts, out: &mut Vec<u8>) {
    let mut between = "";
    let (schema, content) = framed(record, style.unframed);
    if parts.metadata {
        out.extend_from_slice(b"\"topic\":");
        string(&record.topic, out);
        let numbers = format!(",\"partition\":{},\"offset\":{}", record.partition, record.offset);
        out.extend_from_slice(numbers.as_bytes());
        match record.timestamp {
            Some(ms) => out.extend_from_slice(format!(",\"timestamp\":{ms},\"key\":").as_bytes()),
            None => out.extend_from_slice(b",\"timestamp\":null,\"key\":"),
        }
        let kind = text(record.key.as_deref(), out);
        out.extend_from_slice(format!(",\"keyFormat\":\"{kind}\"").as_bytes());
        if let Some(schema) = schema {
            out.extend_from_slice(format!(",\"schemaId\":{schema}").as_bytes());
        }
        between = ",";
    }
    if parts.headers {
        out.extend_from_slice(between.as_bytes());
        out.extend_from_slice(b"\"headers\":");
        header_list(record, out);
        between = ",";
    }
    if parts.value {
        out.extend_from_slice(between.as_bytes());
        out.extend_from_slice(b"\"value\":");
        let kind = value(content.as_deref(), style.format, out);
        out.extend_from_slice(format!(",\"valueFormat\":\"{kind}\"").as_bytes());
    }
}

/// The record's headers, as a list.
pub(super) fn header_list(record: &Record, out: &mut Vec<u8>) {
    out.push(b'[');
    for (i, (name, content)) in record.headers.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"name\":");
        let named = text(Some(name), out);
        if named != STRING {
            out.extend_from_slice(format!(",\"nameFormat\":\"{named}\"").as_bytes());
        }
        out.extend_from_slice(b",\"value\":");
        let kind = text(content.as_deref(), out);
        out.extend_from_slice(format!(",\"format\":\"{kind}\"}}").as_bytes());
    }
    out.push(b']');
}

const NULL: &str = "null";
const JSON: &str = "json";
const STRING: &str = "string";
const BASE64: &str = "base64";

/// Writes bytes that are no JSON, and says how.
pub(super) fn text(bytes: Option<&[u8]>, out: &mut Vec<u8>) -> &'static str {
    value(bytes, Format::String, out)
}

/// Writes a value as it can be written that is wanted, and says how: no byte of it is ever changed.
pub(super) fn value(bytes: Option<&[u8]>, format: Format, out: &mut Vec<u8>) -> &'static str {
    let Some(bytes) = bytes else {
        out.extend_from_slice(b"null");
        return NULL;
    };
    if matches!(format, Format::Auto | Format::Json) && is_json(bytes) {
        json(bytes, out);
        return JSON;
    }
    if matches!(format, Format::Auto | Format::String)
        && let Ok(text) = std::str::from_utf8(bytes)
    {
        string(text, out);
        return STRING;
    }
    out.push(b'"');
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
    out.push(b'"');
    BASE64
}

/// Writes JSON on one line: in JSON a line's end is between tokens only, where a space is as good.
pub(super) fn json(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend(bytes.iter().map(|byte| match byte {
        b'\n' | b'\r' => b' ',
        byte => *byte,
    }));
}

/// A value alone, as text without line ends that matter, and how it is written.
pub(super) fn bare(value: Option<&[u8]>, format: Format) -> (Cow<'_, str>, &'static str) {
    let Some(bytes) = value else {
        return (Cow::Borrowed(""), NULL);
    };
    let text = std::str::from_utf8(bytes).ok();
    // Event streams know no carriage return but as the end of a line.
    let text = text.filter(|text| !text.contains('\r') && format != Format::Base64);
    match text {
        Some(text) if format != Format::String && is_json(bytes) => (Cow::Borrowed(text), JSON),
        Some(text) if format != Format::Json => (Cow::Borrowed(text), STRING),
        _ => (Cow::Owned(STANDARD.encode(bytes)), BASE64),
    }
}

fn is_json(bytes: &[u8]) -> bool {
    // Every number or other token that is not quoted says so by its first byte.
    let starts = bytes.trim_ascii_start().first();
    let may_be = starts
        .is_some_and(|byte| matches!(byte, b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n'));
    may_be && std::str::from_utf8(bytes).is_ok() && serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

/// Writes text as JSON.
pub(super) fn string(text: &str, out: &mut Vec<u8>) {
    if serde_json::to_writer(&mut *out, text).is_err() {
        // Writing into memory does not fail.
        out.extend_from_slice(b"null");
    }
}
