//! The parts of a request that the sidecar's expressions are evaluated on.

use crate::config::Template;
use crate::record::{Input, Reject, header_name, is_credential, wire};
use crate::{inputs, source};

// Fields of `Template`.
const DEFINITION: u8 = 1;
const INPUTS: u8 = 2;
const METHOD: u8 = 3;
const PATH: u8 = 4;
const QUERY: u8 = 5;
const HEADERS: u8 = 6;
const BY: u8 = 7;
const TOPICS: u8 = 8;

/// Appends, as `field`, what the sidecar makes the record of.
// Most routes have none: kept out of the way of those.
#[cold]
#[inline(never)]
pub(crate) fn write(
    out: &mut Vec<u8>,
    field: u16,
    settings: &Template,
    topics: &[String],
    input: &Input<'_>,
) -> Result<(), Reject> {
    let head = input.head;
    let inputs = inputs::of(input)?;
    let guess = settings.definition.len() + inputs.as_ref().map_or(0, |inputs| inputs.len()) + 1024;
    let begun = wire::begin_far(out, field, guess);
    wire::bytes(out, DEFINITION, settings.definition.as_bytes());
    if let Some(inputs) = inputs {
        wire::bytes(out, INPUTS, &inputs);
    }
    wire::bytes(out, METHOD, head.method());
    wire::bytes(out, PATH, head.path());
    wire::bytes(out, QUERY, head.query().unwrap_or_default());
    let allowed = &input.route.credential_headers;
    let carried = |name: &[u8]| !is_credential(name) || allowed.iter().any(|one| one.as_bytes() == name);
    for (name, value) in input.fields().filter(|(name, _)| carried(name)) {
        pair(out, HEADERS, header_name(name)?, value);
    }
    for (name, from) in &settings.by {
        if let Some(value) = source::read(from, &format!("trigger.by.{name}"), input, None)? {
            pair(out, BY, name.as_bytes(), &value);
        }
    }
    for topic in topics {
        wire::bytes(out, TOPICS, topic.as_bytes());
    }
    wire::end(out, begun);
    Ok(())
}

fn pair(out: &mut Vec<u8>, field: u8, name: &[u8], value: &[u8]) {
    let begun = wire::begin(out, field, name.len() + value.len() + 8);
    wire::bytes(out, 1, name);
    wire::bytes(out, 2, value);
    wire::end(out, begun);
}
