//! The record's key and its explicit partition, out of the request.

use std::borrow::Cow;

use crate::cloudevents::Event;
use crate::config::PartitionSource;
use crate::record::{Input, Reject, excerpt};
use crate::source::read;

/// The longest key, in bytes: nothing that partitions or compacts by key means one that is longer.
const MAX_KEY_BYTES: usize = 1 << 16;

/// The record's key: `None` is no key, which is not the same as an empty one.
pub(crate) fn key<'a>(input: &Input<'a>, event: Option<&Event<'a>>) -> Result<Option<Cow<'a, [u8]>>, Reject> {
    let Some(key) = &input.route.key else {
        return Ok(None);
    };
    let source = &key.source;
    let Some(said) = read(source, "key", input, event)? else {
        return match (&key.default, &key.allowed) {
            (Some(default), _) => Ok(Some(default.as_bytes().into())),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(Reject::invalid(format!(
                "key: {source} is missing, and this route has no default"
            ))),
        };
    };
    if said.len() > MAX_KEY_BYTES {
        return Err(Reject::too_large(format!(
            "key: {source} has {} bytes; a key has at most {MAX_KEY_BYTES}",
            said.len()
        )));
    }
    match &key.allowed {
        Some(allowed) if !allowed.iter().any(|one| one.as_bytes() == &*said) => {
            Err(Reject::not_listed("key", source, &said))
        }
        _ => Ok(Some(said)),
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
