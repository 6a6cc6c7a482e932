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
pub(super) enum Format {
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

/// A record with all that it has, on one line.
pub(super) fn item(record: &Record, format: Format, encoded_id: bool, out: &mut Vec<u8>) {
    let id = Cursor::of(&record.topic, record.partition, record.offset).text(encoded_id);
    out.extend_from_slice(b"{\"id\":");
    string(&id, out);
    out.push(b',');
    if format == Format::Auto {
        let shown = record.shown.get_or_init(|| {
            let mut rest = Vec::new();
            fields(record, format, ALL, &mut rest);
            Bytes::from(rest)
        });
        out.extend_from_slice(shown);
    } else {
        fields(record, format, ALL, out);
    }
    out.push(b'}');
}

/// Some of what a record has, as an object on one line.
pub(super) fn object(record: &Record, format: Format, parts: Parts, out: &mut Vec<u8>) {
    out.push(b'{');
    fields(record, format, parts, out);
    out.push(b'}');
}

fn fields(record: &Record, format: Format, parts: Parts, out: &mut Vec<u8>) {
    let mut between = "";
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
        between = ",";
    }
    if parts.headers {
        out.extend_from_slice(between.as_bytes());
        headers(record, out);
        between = ",";
    }
    if parts.value {
        out.extend_from_slice(between.as_bytes());
        out.extend_from_slice(b"\"value\":");
        let kind = value(record.value.as_deref(), format, out);
        out.extend_from_slice(format!(",\"valueFormat\":\"{kind}\"").as_bytes());
    }
}

fn headers(record: &Record, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"headers\":[");
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
fn text(bytes: Option<&[u8]>, out: &mut Vec<u8>) -> &'static str {
    value(bytes, Format::String, out)
}

/// Writes a value as it can be written that is wanted, and says how: no byte of it is ever changed.
fn value(bytes: Option<&[u8]>, format: Format, out: &mut Vec<u8>) -> &'static str {
    let Some(bytes) = bytes else {
        out.extend_from_slice(b"null");
        return NULL;
    };
    if matches!(format, Format::Auto | Format::Json) && is_json(bytes) {
        // In JSON a line's end is between tokens only, where a space is as good.
        out.extend(bytes.iter().map(|byte| match byte {
            b'\n' | b'\r' => b' ',
            byte => *byte,
        }));
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

/// The value alone, as text without line ends that matter, and how it is written.
pub(super) fn bare(record: &Record, format: Format) -> (Cow<'_, str>, &'static str) {
    let Some(bytes) = record.value.as_deref() else {
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

fn string(text: &str, out: &mut Vec<u8>) {
    if serde_json::to_writer(&mut *out, text).is_err() {
        // Writing into memory does not fail.
        out.extend_from_slice(b"null");
    }
}
