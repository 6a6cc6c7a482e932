//! The record's key and its explicit partition, out of the request.

use std::borrow::Cow;

use crate::cloudevents::Event;
use crate::config::{PartitionSource, Source};
use crate::form::{self, Plus};
use crate::json::{self, Found};
use crate::media::Kind;
use crate::record::{Input, Reject, excerpt};

/// The record's key: `None` is no key, which is not the same as an empty one.
pub(crate) fn key<'a>(input: &Input<'a>, event: Option<&Event<'a>>) -> Result<Option<Cow<'a, [u8]>>, Reject> {
    match &input.route.key {
        Some(source) => read(source, "key", input, event),
        None => Ok(None),
    }
}

/// The partition that the route fixes or the request names; `None` leaves the choice to the producer.
pub(crate) fn partition<'a>(input: &Input<'a>, event: Option<&Event<'a>>) -> Result<Option<i32>, Reject> {
    let source = match &input.route.partition {
        None => return Ok(None),
        Some(PartitionSource::Fixed(partition)) => return Ok(Some(*partition)),
        Some(PartitionSource::From(source)) => source,
    };
    let Some(said) = read(source, "partition", input, event)? else {
        return Ok(None);
    };
    std::str::from_utf8(&said)
        .ok()
        // `parse` takes a plus sign too.
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .map(Some)
        .ok_or_else(|| {
            let said = excerpt(&said);
            Reject::invalid(format!(
                "partition: {said} is no whole number from 0 to {}",
                i32::MAX
            ))
        })
}

/// What `source` gives. `role` names it in errors.
fn read<'a>(
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
        Source::PathSegment(index) => path_segment(head.path(), *index),
        Source::JsonPointer(pointer) => json_pointer(pointer, role, input, event)?,
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
    (!segment.is_empty()).then(|| form::decode(segment, Plus::IsPlus))
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
