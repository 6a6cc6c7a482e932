//! Records as CloudEvents 1.0 (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md>).
//!
//! A record that is an event already, by the binary mode of the Kafka binding (headers that begin with `ce_`), keeps its
//! attributes; of any other they are made of where it is.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::headers;
use crate::subscriptions::event::Event;

/// `cloudevents`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudEvents {
    /// `mode`
    pub mode: Mode,
    /// `source`, of records that do not say theirs; none: `/topics/{topic}`.
    pub source: Option<String>,
    /// `type`, of records that do not say theirs.
    pub r#type: String,
}

/// How events are written (HTTP protocol binding, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Attributes in headers, the data as the body.
    Binary,
    /// Everything in one JSON object.
    Structured,
}

/// The type of records that have none, and no `cloudevents.type` either.
pub(super) const TYPE: &str = "sluice.kafka.record";
/// What the structured mode sends.
pub(super) const JSON: &str = "application/cloudevents+json; charset=utf-8";
/// What its batches are.
pub(super) const BATCH: &str = "application/cloudevents-batch+json; charset=utf-8";

/// What an event carries.
pub(super) struct Data<'a> {
    /// None: there is none, as of a tombstone.
    pub(super) bytes: Option<&'a Bytes>,
    pub(super) content_type: Cow<'a, str>,
    /// It has been seen to be JSON.
    pub(super) is_json: bool,
}

type Attributes<'a> = BTreeMap<&'a str, Cow<'a, str>>;

impl CloudEvents {
    /// The attributes of a record, `datacontenttype` apart.
    fn attributes<'a>(&'a self, event: &'a Event) -> Attributes<'a> {
        let record = &event.record;
        let mut all = Attributes::new();
        for (name, value) in &record.headers {
            let value = value.as_deref().and_then(|value| std::str::from_utf8(value).ok());
            if let (Some(name), Some(value)) = (headers::attribute(name), value)
                && is_name(name)
                && !value.is_empty()
            {
                all.insert(name, Cow::Borrowed(value));
            }
        }
        let is_event = all.get("specversion").is_some_and(|version| version == "1.0");
        if !is_event {
            all.clear();
        }
        let mut set = |name, value: &dyn Fn() -> Option<Cow<'a, str>>| {
            if !all.contains_key(name)
                && let Some(value) = value()
            {
                all.insert(name, value);
            }
        };
        set("specversion", &|| Some("1.0".into()));
        set("id", &|| Some(event.id().into()));
        set("type", &|| Some(self.r#type.as_str().into()));
        set("source", &|| match &self.source {
            Some(source) => Some(source.as_str().into()),
            None => Some(format!("/topics/{}", record.topic).into()),
        });
        set("subject", &|| {
            let (partition, offset) = (record.partition, record.offset);
            (!is_event).then(|| format!("partition:{partition}#{offset}").into())
        });
        set("time", &|| {
            let ms = u64::try_from(record.timestamp?).ok()?;
            let time = UNIX_EPOCH.checked_add(Duration::from_millis(ms))?;
            // The year 9999 is the last that RFC 3339 writes.
            (ms < 253_402_300_800_000).then(|| humantime::format_rfc3339_millis(time).to_string().into())
        });
        // The Partitioning extension's.
        set("partitionkey", &|| {
            let key = std::str::from_utf8(record.key.as_deref()?).ok()?;
            let legal = !key.is_empty() && !key.contains(char::is_control);
            legal.then_some(key.into())
        });
        all
    }

    /// The headers of the binary mode; the content type is the data's own.
    pub(super) fn headers(&self, event: &Event, out: &mut HeaderMap) {
        for (name, value) in self.attributes(event) {
            let name = HeaderName::try_from(format!("ce-{name}"));
            let value = HeaderValue::try_from(encode(&value));
            if let (Ok(name), Ok(value)) = (name, value) {
                out.insert(name, value);
            }
        }
    }

    /// The object of the structured mode.
    pub(super) fn object(&self, event: &Event, data: &Data<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        let mut object = Map::new();
        for (name, value) in self.attributes(event) {
            object.insert(name.to_owned(), Value::String(value.into_owned()));
        }
        let mut raw = None;
        if let Some(bytes) = data.bytes {
            let content_type = data.content_type.clone().into_owned();
            let is_text = content_type.starts_with("text/");
            object.insert("datacontenttype".to_owned(), Value::String(content_type));
            match std::str::from_utf8(bytes) {
                Ok(text) if data.is_json => {
                    raw = Some(serde_json::from_str::<&RawValue>(text).map_err(|error| error.to_string())?);
                }
                Ok(text) if is_text => {
                    object.insert("data".to_owned(), Value::String(text.to_owned()));
                }
                _ => {
                    object.insert("data_base64".to_owned(), Value::String(STANDARD.encode(bytes)));
                }
            }
        }
        let mut text = Value::Object(object).to_string();
        // As it was written: no number of it is rounded.
        if let Some(raw) = raw {
            text.pop();
            text.push_str(",\"data\":");
            text.push_str(raw.get());
            text.push('}');
        }
        out.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// What the specification lets be an attribute's name; `data` and `datacontenttype` are said otherwise.
fn is_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    !name.is_empty() && name.bytes().all(legal) && !matches!(name, "data" | "datacontenttype")
}

/// An attribute as a header has it (HTTP protocol binding, section 3.1.3.2).
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '!'..='~') && c != '"' && c != '%' {
            out.push(c);
        } else {
            let mut buffer = [0; 4];
            for byte in c.encode_utf8(&mut buffer).bytes() {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    out
}
