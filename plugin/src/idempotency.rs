//! The key under which a record is written once, and what stands for its request.

use sluice_proto::idempotency::{fingerprint, key};

use crate::config::Idempotency;
use crate::record::{Input, Reject, wire};

// Fields of `Idempotency`.
const KEY: u8 = 1;
const FINGERPRINT: u8 = 2;
const WINDOW_MS: u8 = 3;

/// Appends, as `field`, what the request asks for that is to be written once; nothing if it does not.
pub(crate) fn write(
    out: &mut Vec<u8>,
    field: u8,
    settings: &Idempotency,
    input: &Input<'_>,
) -> Result<(), Reject> {
    let head = input.head;
    let header = settings.header.as_str();
    let mut values = head.all().filter(|(name, _)| *name == header.as_bytes());
    let Some((_, value)) = values.next() else {
        return match settings.required {
            true => Err(Reject::invalid(format!(
                "{header}: it is required here and the request has none"
            ))),
            false => Ok(()),
        };
    };
    if values.next().is_some() {
        return Err(Reject::invalid(format!("{header} is there more than once")));
    }
    let key = key(value).map_err(|why| Reject::invalid(format!("{header}: {why}")))?;
    // Not the record: its envelope may hold a trace or a date, which is another in each attempt.
    let print = fingerprint([head.method(), head.target(), input.body]);
    let begun = wire::begin(out, field, 128);
    wire::bytes(out, KEY, &key);
    wire::bytes(out, FINGERPRINT, &print);
    if let Some(window) = settings.window {
        wire::integer(
            out,
            WINDOW_MS,
            u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
        );
    }
    wire::end(out, begun);
    Ok(())
}
