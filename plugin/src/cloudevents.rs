//! CloudEvents 1.0: a request that is an event becomes a record that is one.
//!
//! HTTP binding: <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md>,
//! Kafka binding: <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md>.

mod attributes;
mod structured;

use std::borrow::Cow;

pub(crate) use attributes::Attribute;

use crate::config::CloudEvents;
use crate::json::Document;
use crate::record::{Input, Reject, wire};
use crate::record_headers::field;

/// The media type of an event in JSON.
const JSON_EVENT: &str = "application/cloudevents+json";

/// An event, as a request brought it.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// Attributes in `ce-*` headers, data in the body.
    Binary {
        /// All of them but `datacontenttype`, in order.
        attributes: Vec<Attribute<'a>>,
        /// `datacontenttype`.
        content_type: Option<&'a [u8]>,
    },
    /// The body is the event, in JSON.
    Structured {
        document: Document<'a>,
        content_type: &'a [u8],
    },
}

/// The event that the request is; `None` if the route does not look at requests as events.
pub(crate) fn read<'a>(input: &Input<'a>) -> Result<Option<Event<'a>>, Reject> {
    if input.route.cloudevents == CloudEvents::Off {
        return Ok(None);
    }
    let media = input.media_type();
    if media.is(JSON_EVENT) {
        let content_type = input.content_type().unwrap_or_default();
        let document = structured::read(input)?;
        return Ok(Some(Event::Structured {
            document,
            content_type,
        }));
    }
    if media.starts_with("application/cloudevents") {
        return Err(Reject::invalid(format!(
            "CloudEvents: of the event formats only {JSON_EVENT} is taken, one event a request"
        )));
    }
    Ok(Some(Event::Binary {
        attributes: attributes::read(input)?,
        content_type: input.content_type(),
    }))
}

impl<'a> Event<'a> {
    /// Whether the body that brought it is JSON: the event itself, or its data.
    pub(crate) fn is_in_json(&self, input: &Input<'_>) -> bool {
        match self {
            Self::Structured { .. } => true,
            Self::Binary { .. } => structured::has_json_data(input),
        }
    }

    /// The attribute of that name, if the event has it as a string.
    pub(crate) fn attribute(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        let text = match self {
            Self::Binary { attributes, .. } => attributes.iter().find(|a| a.name == name)?.value.clone(),
            Self::Structured { document, .. } => structured::string(document.text, name)?,
        };
        Some(match text {
            Cow::Borrowed(text) => text.as_bytes().into(),
            Cow::Owned(text) => text.into_bytes().into(),
        })
    }

    /// Appends the record headers that make the record an event.
    pub(crate) fn write_headers(&self, out: &mut Vec<u8>, mode: CloudEvents) {
        match self {
            Self::Structured { content_type, .. } => field(out, b"content-type", content_type),
            Self::Binary { .. } if mode == CloudEvents::Structured => {
                field(
                    out,
                    b"content-type",
                    b"application/cloudevents+json; charset=UTF-8",
                );
            }
            Self::Binary {
                attributes,
                content_type,
            } => {
                for Attribute { name, value } in attributes {
                    field(out, format!("ce_{name}").as_bytes(), value.as_bytes());
                }
                if let Some(content_type) = content_type {
                    field(out, b"content-type", content_type);
                }
            }
        }
    }

    /// Appends the record's value, as field `number`; nothing if the event has no data and is its headers.
    pub(crate) fn write_value(&self, out: &mut Vec<u8>, number: u8, input: &Input<'_>) -> Result<(), Reject> {
        match self {
            Self::Structured { .. } => wire::bytes(out, number, input.body),
            Self::Binary {
                attributes,
                content_type,
            } if input.route.cloudevents == CloudEvents::Structured => {
                let begun = wire::begin(out, number, input.body.len() * 4 / 3 + 256);
                structured::write(out, attributes, *content_type, input)?;
                wire::end(out, begun);
            }
            // No body can be no data or empty data; a type is a type of something.
            Self::Binary { content_type, .. } if !input.body.is_empty() || content_type.is_some() => {
                wire::bytes(out, number, input.body);
            }
            Self::Binary { .. } => {}
        }
        Ok(())
    }
}
