//! An event's attributes, out of `ce-*` headers.

use std::borrow::Cow;

use crate::form::{self, Plus};
use crate::record::{Grouped, Input, Reject, excerpt};

/// An attribute of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attribute<'a> {
    /// Its name: lower-case letters and digits.
    pub(crate) name: &'a str,
    /// Its value in characters.
    pub(crate) value: Cow<'a, str>,
}

/// The attributes that every event has, and must not be empty.
pub(super) const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

/// The only version there is.
pub(super) const SPECVERSION: &str = "1.0";

/// The attributes in the request's headers, in order.
pub(super) fn read<'a>(input: &Input<'a>) -> Result<Vec<Attribute<'a>>, Reject> {
    let mut attributes = Vec::new();
    for (header, raw) in input.fields() {
        let Some(name) = header.strip_prefix(b"ce-") else {
            continue;
        };
        let name = attribute_name(header, name)?;
        let value = decode(raw).ok_or_else(|| {
            Reject::invalid(format!(
                "CloudEvents: the header {} is, once decoded, not UTF-8 without control characters",
                excerpt(header)
            ))
        })?;
        attributes.push(Attribute { name, value });
    }
    let grouped = Grouped::new(&attributes, |a| a.name.as_bytes());
    let twice = grouped.firsts().find(|i| !grouped.is_last(*i));
    if let Some(Attribute { name, .. }) = twice.and_then(|i| attributes.get(i)) {
        let header = excerpt(format!("ce-{name}").as_bytes());
        return Err(Reject::invalid(format!(
            "CloudEvents: the header {header} came more than once"
        )));
    }
    for name in REQUIRED {
        match attributes.iter().find(|a| a.name == name) {
            Some(attribute) if attribute.value.is_empty() => {
                return Err(Reject::invalid(format!(
                    "CloudEvents: the header ce-{name} is empty"
                )));
            }
            Some(attribute) if name == "specversion" && attribute.value != SPECVERSION => {
                return Err(unknown_version(&attribute.value));
            }
            Some(_) => {}
            None => {
                return Err(Reject::invalid(format!(
                    "CloudEvents: the request has neither the header ce-{name} nor an event as its body (application/cloudevents+json)"
                )));
            }
        }
    }
    Ok(attributes)
}

pub(super) fn unknown_version(said: &str) -> Reject {
    let said = excerpt(said.as_bytes());
    Reject::invalid(format!("CloudEvents: specversion is {said}, not `{SPECVERSION}`"))
}

/// What the specification lets be an attribute's name and a header's.
fn attribute_name<'a>(header: &[u8], name: &'a [u8]) -> Result<&'a str, Reject> {
    let reserved = matches!(name, b"data" | b"datacontenttype");
    std::str::from_utf8(name)
        .ok()
        .filter(|name| !reserved && !name.is_empty())
        .filter(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
        .ok_or_else(|| {
            let header = excerpt(header);
            let why = if reserved {
                "the body and content-type say it"
            } else {
                "attributes are named with a-z and 0-9 only"
            };
            Reject::invalid(format!("CloudEvents: {header} must not be a header: {why}"))
        })
}

/// A header's value in characters: quotes are taken off, percent-encoding is undone once.
fn decode(raw: &[u8]) -> Option<Cow<'_, str>> {
    let decoded = match raw.trim_ascii() {
        [b'"', quoted @ .., b'"'] => {
            let mut text = Vec::with_capacity(quoted.len());
            let mut bytes = quoted.iter();
            while let Some(byte) = bytes.next() {
                text.push(if *byte == b'\\' { *bytes.next()? } else { *byte });
            }
            Cow::Owned(form::decode(&text, Plus::IsPlus).into_owned())
        }
        plain => form::decode(plain, Plus::IsPlus),
    };
    let text = match decoded {
        Cow::Borrowed(bytes) => Cow::Borrowed(std::str::from_utf8(bytes).ok()?),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8(bytes).ok()?),
    };
    (!text.contains(char::is_control)).then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn header_values_are_decoded_as_the_http_binding_says() {
        for (raw, expected) in [
            ("plain", Some("plain")),
            (" /a?b=c+d ", Some("/a?b=c+d")),
            ("Euro%20%E2%82%AC%20%f0%9f%98%80", Some("Euro € 😀")),
            (r#""quoted \"%41\" \\""#, Some(r#"quoted "A" \"#)),
            ("\"\"", Some("")),
            ("\"", Some("\"")),
            ("100%", Some("100%")),
            ("é", Some("é")),
            ("%C0%A0", None),
            ("%00", None),
            (r#""a\""#, None),
        ] {
            assert_eq!(decode(raw.as_bytes()).as_deref(), expected, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn any_value_is_decoded_without_a_panic(bytes in any::<Vec<u8>>()) {
            if let Some(text) = decode(&bytes) {
                prop_assert!(!text.contains(char::is_control));
            }
        }

        #[test]
        fn what_the_binding_encodes_comes_back(text in "\\PC{0,20}") {
            let text = text.replace(char::is_control, "");
            let encoded = text.bytes().map(|b| match b {
                b'%' | b'"' | b' ' | 0x7f.. => format!("%{b:02X}"),
                _ => char::from(b).to_string(),
            });
            let encoded = encoded.collect::<String>();
            let decoded = decode(encoded.as_bytes());
            prop_assert_eq!(decoded.as_deref(), Some(&*text));
        }
    }
}
