//! What a part of the request gives.

use std::borrow::Cow;

use crate::cloudevents::Event;
use crate::config::{Source, metadata};
use crate::form::{self, Plus};
use crate::json::{self, Found};
use crate::media::Kind;
use crate::record::{Input, Reject};

/// What `source` gives. `role` names it in errors.
pub(crate) fn read<'a>(
    source: &Source,
    role: &str,
    input: &Input<'a>,
    event: Option<&Event<'a>>,
) -> Result<Option<Cow<'a, [u8]>>, Reject> {
    let head = input.head;
    Ok(match source {
        Source::Query(name) => form::args(head.query().unwrap_or_default())
            .find(|arg| *arg.name == *name.as_bytes())
            .map(|arg| arg.value().unwrap_or_default()),
        Source::Header(name) => match (name.strip_prefix("ce-"), event) {
            // The attribute of the event, however it came.
            (Some(attribute), Some(event)) => event.attribute(attribute),
            _ => input
                .fields()
                .find(|(n, _)| *n == name.as_bytes())
                .map(|(_, value)| value.into()),
        },
        Source::Cookie(name) => cookie(input, name).map(Cow::Borrowed),
        Source::Path(template) => template.find(head.path()).map(decoded),
        Source::PathSegment(index) => path_segment(head.path(), *index),
        Source::JsonPointer(pointer) => json_pointer(pointer, role, input, event)?,
        Source::Metadata(parts) => metadata::text_at(head.metadata(), parts)
            .map_err(|why| Reject::invalid(format!("{role}: {source} {why}")))?
            .map(|text| text.into_bytes().into()),
    })
}

/// The first cookie of that name (RFC 6265 section 5.4), as sent.
fn cookie<'a>(input: &Input<'a>, name: &str) -> Option<&'a [u8]> {
    input
        .head
        .all()
        .filter(|(field, _)| *field == b"cookie")
        .flat_map(|(_, value)| value.split(|b| *b == b';'))
        .find_map(|pair| {
            let at = pair.iter().position(|b| *b == b'=')?;
            let (found, value) = pair.split_at_checked(at)?;
            (found.trim_ascii() == name.as_bytes()).then(|| value.get(1..).unwrap_or_default().trim_ascii())
        })
}

fn path_segment(path: &[u8], index: usize) -> Option<Cow<'_, [u8]>> {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let segment = path.split(|b| *b == b'/').nth(index)?;
    (!segment.is_empty()).then(|| decoded(segment))
}

/// A segment of a path, percent-decoded.
fn decoded(segment: &[u8]) -> Cow<'_, [u8]> {
    form::decode(segment, Plus::IsPlus)
}

fn json_pointer<'a>(
    pointer: &str,
    role: &str,
    input: &Input<'a>,
    event: Option<&Event<'a>>,
) -> Result<Option<Cow<'a, [u8]>>, Reject> {
    if input.body.is_empty() {
        return Ok(None);
    }
    let is_json = input.kind() == Kind::Json || event.is_some_and(|event| event.is_in_json(input));
    if !is_json {
        // Taken for absent, records that belong together would be spread over the partitions.
        return Err(Reject::invalid(format!(
            "{role}: it stands in the JSON body at {pointer}, and the content-type and content-encoding say that the body is not JSON"
        )));
    }
    match json::find(input.json()?.text, pointer) {
        None | Some(Found::Null) => Ok(None),
        Some(Found::Scalar(text)) => Ok(Some(text.as_bytes().into())),
        Some(Found::String(raw)) => match json::unescaped(raw) {
            Some(Cow::Borrowed(text)) => Ok(Some(text.as_bytes().into())),
            Some(Cow::Owned(text)) => Ok(Some(text.into_bytes().into())),
            None => Err(Reject::invalid(format!(
                "{role}: the string at {pointer} holds half a surrogate pair, which is no character"
            ))),
        },
        Some(Found::Composite) => Err(Reject::invalid(format!(
            "{role}: at {pointer} stands an object or array, not a string, number or boolean"
        ))),
    }
}
