//! What the sidecar is told of the reply that a request waits for.

use std::borrow::Cow;
use std::time::Duration;

use sluice_proto::prefer::{HEADER, Preferences};

use crate::config::Reply;
use crate::record::{Input, Reject, wire};
use crate::request::Head;
use crate::source;

// Fields of `ReplyTo`.
const TOPIC: u8 = 1;
const WAIT_MS: u8 = 2;
const WAIT_PREFERRED: u8 = 3;
const RESPOND_ASYNC: u8 = 4;
const CORRELATION_ID: u8 = 5;
const TOPICS: u8 = 6;

/// The longest correlation id, in bytes.
const MAX_CORRELATION_ID: usize = 255;

fn preferences(head: &Head<'_>) -> Preferences {
    let values = head.all().filter(|(name, _)| *name == HEADER.as_bytes());
    Preferences::read(values.map(|(_, value)| value))
}

/// How long the request waits for its reply, by what it prefers and what the route allows.
fn waits(settings: &Reply, preferences: Preferences) -> Duration {
    match (preferences.wait, preferences.respond_async) {
        (Some(seconds), _) => Duration::from_secs(seconds.into()).min(settings.max_wait),
        (None, true) => Duration::ZERO,
        (None, false) => settings.wait,
    }
}

/// How long the request waits for its reply.
#[cold]
#[inline(never)]
pub fn wait(settings: &Reply, head: &Head<'_>) -> Duration {
    waits(settings, preferences(head))
}

/// Appends, as `field`, which reply is waited for.
// Most routes have none: kept out of the way of those.
#[cold]
#[inline(never)]
pub(crate) fn write(
    out: &mut Vec<u8>,
    field: u16,
    settings: &Reply,
    topics: &[String],
    input: &Input<'_>,
) -> Result<(), Reject> {
    let preferences = preferences(&input.head);
    let wait = waits(settings, preferences);
    let id = correlation_id(settings, input)?;
    let begun = wire::begin_far(out, field, 64);
    wire::bytes(out, TOPIC, settings.topic.as_bytes());
    let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
    if wait_ms != 0 {
        wire::integer(out, WAIT_MS, wait_ms.into());
    }
    if preferences.wait.is_some() {
        wire::integer(out, WAIT_PREFERRED, 1);
    }
    // A route that does not wait by itself answers as if it had been asked not to.
    if preferences.respond_async || (preferences.wait.is_none() && wait.is_zero()) {
        wire::integer(out, RESPOND_ASYNC, 1);
    }
    if let Some(id) = id {
        wire::bytes(out, CORRELATION_ID, &id);
    }
    for topic in topics {
        wire::bytes(out, TOPICS, topic.as_bytes());
    }
    wire::end(out, begun);
    Ok(())
}

/// The client's own correlation id; `None` where the sidecar is to make one.
fn correlation_id<'a>(settings: &Reply, input: &Input<'a>) -> Result<Option<Cow<'a, [u8]>>, Reject> {
    let Some(from) = &settings.correlation_id else {
        return Ok(None);
    };
    let id = source::read(from, "reply.correlation_id", input, None)?;
    match id {
        Some(id) if id.is_empty() || id.len() > MAX_CORRELATION_ID => Err(Reject::invalid(format!(
            "reply.correlation_id: {from} has {} bytes, and a correlation id has 1 to {MAX_CORRELATION_ID}",
            id.len()
        ))),
        id => Ok(id),
    }
}
