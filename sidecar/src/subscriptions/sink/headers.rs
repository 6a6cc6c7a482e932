//! Record headers that become request headers.

#[cfg(test)]
mod tests;

use hyper::HeaderMap;
use hyper::header::{CONNECTION, HeaderName, HeaderValue};

use crate::kafka::reader::Record;

/// What says how a message is framed, or what holds for one connection only (RFC 9110, section 7.6.1; RFC 9113, section 8.2.2).
const FRAMING: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// What says who is calling: whoever wrote a record must not say that of the sidecar.
const IDENTITY: &[&str] = &[
    "authorization",
    "cookie",
    "forwarded",
    "proxy-authenticate",
    "proxy-authorization",
    "set-cookie",
    "via",
    "x-real-ip",
];
/// The same, by how they begin.
const IDENTITY_PREFIXES: &[&str] = &["x-envoy-", "x-forwarded-"];
/// What the sidecar says itself.
const OWN: &[&str] = &["idempotency-key"];
/// The same, by how they begin.
const OWN_PREFIXES: &[&str] = &["ce-", "kafka.", "restate.", "webhook-", "x-port-"];

/// Adds the headers of a record that may be a request's, in order, and gives the number of those that may not: whose names are none in
/// HTTP, whose values have control characters in them, and those that this module names. `of_event`: `ce_` headers are attributes of an
/// event and not added.
pub(super) fn carry(record: &Record, of_event: bool, out: &mut HeaderMap) -> usize {
    let mut dropped = 0;
    let listed = connection_options(record);
    for (name, value) in &record.headers {
        if of_event && attribute(name).is_some() {
            continue;
        }
        let Ok(name) = HeaderName::from_bytes(name) else {
            dropped += 1;
            continue;
        };
        // Its content is that of the body, which says so itself.
        if name == hyper::header::CONTENT_TYPE {
            continue;
        }
        let value = HeaderValue::from_bytes(value.as_deref().unwrap_or_default());
        match value {
            Ok(value) if is_carried(name.as_str()) && !listed.contains(&name) => {
                out.append(name, value);
            }
            _ => dropped += 1,
        }
    }
    dropped
}

/// The name of an attribute, of a header that is one in CloudEvents' Kafka binding.
pub(super) fn attribute(name: &[u8]) -> Option<&str> {
    std::str::from_utf8(name.strip_prefix(b"ce_")?).ok()
}

/// The value of a record's header as text; the last one where there are several.
pub(super) fn text<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    let same = |own: &[u8]| own.eq_ignore_ascii_case(name.as_bytes());
    let found = record.headers.iter().rev().find(|(own, _)| same(own))?;
    std::str::from_utf8(found.1.as_deref()?).ok()
}

fn is_carried(name: &str) -> bool {
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    !FRAMING.contains(&name)
        && !IDENTITY.contains(&name)
        && !OWN.contains(&name)
        && !begins(IDENTITY_PREFIXES)
        && !begins(OWN_PREFIXES)
}

/// Whether a header may be one of `headers` in the options, which is the operator's own.
pub(super) fn may_be_set(name: &HeaderName) -> bool {
    let name = name.as_str();
    let framing = FRAMING.contains(&name) && name != "content-type" && name != "content-encoding";
    let own = OWN.contains(&name) || OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    !framing && !own && !name.starts_with("proxy-")
}

/// What the record's own `connection` lists: it held for the connection that the record came by.
fn connection_options(record: &Record) -> Vec<HeaderName> {
    let is_connection = |name: &[u8]| name.eq_ignore_ascii_case(CONNECTION.as_str().as_bytes());
    let values = record.headers.iter().filter(|(name, _)| is_connection(name));
    values
        .flat_map(|(_, value)| value.as_deref().unwrap_or_default().split(|byte| *byte == b','))
        .filter_map(|option| HeaderName::from_bytes(option.trim_ascii()).ok())
        .collect()
}
