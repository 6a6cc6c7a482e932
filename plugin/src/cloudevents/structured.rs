//! Events as one JSON text.
//!
//! JSON format: <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>.

use std::borrow::Cow;

use super::attributes::{Attribute, REQUIRED, SPECVERSION, unknown_version};
use crate::json::{self, Document, Found, Shape};
use crate::media::{Kind, is_encoded};
use crate::record::{Input, Reject};

/// The event that the body is.
pub(super) fn read<'a>(input: &Input<'a>) -> Result<Document<'a>, Reject> {
    refuse_encoded(input)?;
    let document = input.json()?;
    if document.shape != Shape::Object {
        return Err(Reject::invalid("CloudEvents: the body is not a JSON object"));
    }
    for name in REQUIRED {
        match string(document.text, name) {
            Some(value) if value.is_empty() => {
                return Err(Reject::invalid(format!(
                    "CloudEvents: the event's {name} is empty"
                )));
            }
            Some(value) if name == "specversion" && value != SPECVERSION => {
                return Err(unknown_version(&value));
            }
            Some(_) => {}
            None => {
                return Err(Reject::invalid(format!(
                    "CloudEvents: the event has no string {name}"
                )));
            }
        }
    }
    Ok(document)
}

/// The characters of the event's member of that name, if it is a string.
pub(super) fn string<'a>(event: &'a str, name: &str) -> Option<Cow<'a, str>> {
    match json::find(event, &format!("/{name}"))? {
        Found::String(raw) => json::unescaped(raw),
        Found::Scalar(_) | Found::Null | Found::Composite => None,
    }
}

/// Appends the event with these attributes and the request's body as its data.
pub(super) fn write(
    out: &mut Vec<u8>,
    attributes: &[Attribute<'_>],
    content_type: Option<&[u8]>,
    input: &Input<'_>,
) -> Result<(), Reject> {
    refuse_encoded(input)?;
    out.push(b'{');
    for (i, Attribute { name, value }) in attributes.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        json::string(out, name);
        out.push(b':');
        json::string(out, value);
    }
    if let Some(content_type) = content_type {
        let content_type = std::str::from_utf8(content_type)
            .map_err(|_| Reject::invalid("CloudEvents: the content-type is not UTF-8"))?;
        out.extend_from_slice(b",\"datacontenttype\":");
        json::string(out, content_type);
    }
    if input.body.is_empty() {
        // No data.
    } else if has_json_data(input) {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(input.json()?.text.as_bytes());
    } else if let (Kind::Text, Ok(text)) = (input.kind(), std::str::from_utf8(input.body)) {
        out.extend_from_slice(b",\"data\":");
        json::string(out, text);
    } else {
        out.extend_from_slice(b",\"data_base64\":");
        json::base64_string(out, input.body);
    }
    out.push(b'}');
    Ok(())
}

/// Whether the body is data of a JSON type: what the JSON format takes for one (any subtype `json`, and every one that
/// ends in `+json`), or the route.
pub(super) fn has_json_data(input: &Input<'_>) -> bool {
    let media = input.media_type();
    let is_json = media.matches("*/json") || media.matches("*+json") || input.kind() == Kind::Json;
    is_json && !is_compressed(input)
}

fn is_compressed(input: &Input<'_>) -> bool {
    input.head.get("content-encoding").is_some_and(is_encoded)
}

/// A compressed body cannot be looked into, and `datacontenttype` would not say that it is compressed.
fn refuse_encoded(input: &Input<'_>) -> Result<(), Reject> {
    if is_compressed(input) {
        return Err(Reject::invalid(
            "CloudEvents: the body has a content-encoding; send a structured event without one",
        ));
    }
    Ok(())
}
