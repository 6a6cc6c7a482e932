//! Request headers become record headers.

use crate::config::Repeated;
use crate::record::{Grouped, HEADERS, Input, Reject, header_name, is_credential, wire};

/// Appends the record headers that the route's rules choose. `of_event`: those that CloudEvents maps are left out
/// here.
pub(crate) fn write(out: &mut Vec<u8>, input: &Input<'_>, of_event: bool) -> Result<(), Reject> {
    let rules = &input.route.headers;
    let chosen = input
        .fields()
        .filter(|(name, _)| is_carried(input, name) && !(of_event && is_of_event(name)));
    if rules.repeated == Repeated::RetainDuplicates {
        for (name, value) in chosen {
            field(out, renamed(input, name)?, value);
        }
        return Ok(());
    }
    let chosen = chosen.collect::<Vec<_>>();
    let grouped = Grouped::new(&chosen, |(name, _)| name);
    for first in grouped.firsts() {
        let Some((name, value)) = chosen.get(first) else {
            continue;
        };
        let name = renamed(input, name)?;
        if rules.repeated == Repeated::TakeFirst || grouped.is_last(first) {
            field(out, name, value);
        } else {
            let values = grouped
                .from(first)
                .filter_map(|i| chosen.get(i))
                .map(|(_, value)| *value);
            field(out, name, &values.collect::<Vec<_>>().join(&b','));
        }
    }
    Ok(())
}

/// Appends one record header; its name must be UTF-8.
pub(crate) fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let len = wire::bytes_len(name.len()) + wire::bytes_len(value.len());
    out.push(wire::bytes_tag(HEADERS));
    wire::varint(out, len as u64);
    wire::bytes(out, 1, name);
    wire::bytes(out, 2, value);
}

/// Whether a header follows the record whatever the rules say: a trace must not break here, and an answer's request
/// id must find its record.
fn is_always_carried(name: &[u8]) -> bool {
    matches!(
        name,
        b"traceparent" | b"tracestate" | b"baggage" | b"x-request-id"
    )
}

fn is_carried(input: &Input<'_>, name: &[u8]) -> bool {
    let rules = &input.route.headers;
    let lists = |names: &[String]| names.iter().any(|n| n.as_bytes() == name);
    if is_always_carried(name) {
        return true;
    }
    if !rules.enabled || !rules.all_by_default && rules.include.is_empty() {
        return false;
    }
    let included = lists(&rules.include);
    let withheld = is_credential(name) && !included && !lists(&input.route.credential_headers);
    (rules.all_by_default || included) && !withheld && !lists(&rules.exclude)
}

fn is_of_event(name: &[u8]) -> bool {
    name == b"content-type" || name.starts_with(b"ce-")
}

fn renamed<'a>(input: &Input<'a>, name: &'a [u8]) -> Result<&'a [u8], Reject> {
    let renames = &input.route.headers.rename;
    match renames.iter().find(|(from, _)| from.as_bytes() == name) {
        Some((_, to)) => Ok(to.as_bytes()),
        None => header_name(name),
    }
}
