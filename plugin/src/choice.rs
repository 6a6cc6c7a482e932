//! Values that a request chooses among those that its route lists.

use crate::cloudevents::Event;
use crate::config::{Choice, Named};
use crate::record::{Input, Reject};
use crate::source::read;

/// Which of the listed values the request chooses, as an index into `choice.allowed`. `field` is the one that
/// lists them.
// Most routes choose nothing: kept out of the way of those.
#[cold]
#[inline(never)]
pub(crate) fn index<'a>(
    choice: &Choice,
    field: &str,
    input: &Input<'a>,
    event: Option<&Event<'a>>,
) -> Result<usize, Reject> {
    let source = &choice.source;
    match read(source, field, input, event)? {
        Some(said) => {
            let listed = choice.allowed.iter().position(|one| one.as_bytes() == &*said);
            listed.ok_or_else(|| Reject::not_listed(field, source, &said))
        }
        None => choice.default.ok_or_else(|| {
            Reject::invalid(format!(
                "{field}: {source} is missing, and this route has no default"
            ))
        }),
    }
}

/// The name that is fixed, or that the request chooses.
#[inline]
pub(crate) fn name<'a>(
    named: &'a Named,
    field: &str,
    input: &Input<'a>,
    event: Option<&Event<'a>>,
) -> Result<&'a str, Reject> {
    match named {
        Named::Fixed(name) => Ok(name),
        Named::Chosen(choice) => {
            let index = index(choice, field, input, event)?;
            Ok(choice.allowed.get(index).map_or("", String::as_str))
        }
    }
}
