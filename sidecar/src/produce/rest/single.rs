//! One record: the body is its value, the rest comes from request headers.

use axum::body::Bytes;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sluice_proto::{idempotency, v1};

use super::{Common, invalid};
use crate::kafka::record::Failure;

const KEY: &str = "x-kafka-key";
const KEY_BASE64: &str = "x-kafka-key-base64";
const PARTITION: &str = "x-kafka-partition";
const TIMESTAMP: &str = "x-kafka-timestamp";
const TOMBSTONE: &str = "x-kafka-tombstone";
const HEADER: &str = "x-kafka-header-";
const HEADER_BASE64: &str = "x-kafka-header-base64-";

/// The record of a request.
pub(super) fn record(
    common: &Common,
    topic: &str,
    parts: &Parts,
    body: Bytes,
) -> Result<v1::Record, Failure> {
    let headers = &parts.headers;
    let tombstone = match one(headers, TOMBSTONE)?.map(HeaderValue::as_bytes) {
        None | Some(b"false") => false,
        Some(b"true") => true,
        Some(_) => return Err(invalid(format!("{TOMBSTONE} is neither true nor false"))),
    };
    if tombstone && !body.is_empty() {
        return Err(invalid(format!(
            "{TOMBSTONE} with a body: a tombstone has no value"
        )));
    }
    Ok(v1::Record {
        idempotency: once(parts, &body)?,
        key: key(headers)?,
        partition: number(headers, PARTITION)?,
        timestamp_ms: number(headers, TIMESTAMP)?,
        headers: record_headers(headers)?,
        value: (!tombstone).then_some(body),
        ..common.record(topic)
    })
}

fn key(headers: &HeaderMap) -> Result<Option<Bytes>, Failure> {
    match (one(headers, KEY)?, one(headers, KEY_BASE64)?) {
        (Some(_), Some(_)) => Err(invalid(format!("{KEY} and {KEY_BASE64} are both there"))),
        (Some(key), None) => Ok(Some(Bytes::copy_from_slice(key.as_bytes()))),
        (None, Some(key)) => Ok(Some(decoded(KEY_BASE64, key)?.into())),
        (None, None) => Ok(None),
    }
}

/// What the request asks for that is to be written once. All that says what the record is counts for its fingerprint:
/// method, path and query, body, and the `x-kafka-` headers in the order of their names.
fn once(parts: &Parts, body: &Bytes) -> Result<Option<v1::Idempotency>, Failure> {
    let Some(value) = one(&parts.headers, idempotency::HEADER)? else {
        return Ok(None);
    };
    let key = idempotency::key(value.as_bytes())
        .map_err(|why| invalid(format!("{}: {why}", idempotency::HEADER)))?;
    let said = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()));
    let mut said: Vec<_> = said.filter(|(name, _)| name.starts_with("x-kafka-")).collect();
    // Stable: values of one name stay in their order, which is that of the record headers.
    said.sort_by_key(|(name, _)| *name);
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let request = [parts.method.as_str().as_bytes(), target.as_bytes(), body];
    let said = said.iter().flat_map(|(name, value)| [name.as_bytes(), *value]);
    let print = idempotency::fingerprint(request.into_iter().chain(said));
    Ok(Some(v1::Idempotency {
        key: key.into_owned().into(),
        fingerprint: print.to_vec().into(),
        window_ms: 0,
    }))
}

fn record_headers(headers: &HeaderMap) -> Result<Vec<v1::Header>, Failure> {
    let mut found = Vec::new();
    for (name, value) in headers {
        if let Some(name) = own_name(name, HEADER_BASE64)? {
            let value = Some(decoded(name, value)?);
            found.push(v1::Header {
                name: name.to_owned(),
                value,
            });
        } else if let Some(name) = own_name(name, HEADER)? {
            let value = Some(value.as_bytes().to_vec());
            found.push(v1::Header {
                name: name.to_owned(),
                value,
            });
        }
    }
    Ok(found)
}

fn own_name<'a>(name: &'a HeaderName, prefix: &str) -> Result<Option<&'a str>, Failure> {
    match name.as_str().strip_prefix(prefix) {
        Some("") => Err(invalid(format!("{prefix} is followed by no name"))),
        own => Ok(own),
    }
}

/// The header's only value.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a HeaderValue>, Failure> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(invalid(format!("{name} is there more than once")));
    }
    Ok(first)
}

fn number<T: std::str::FromStr>(headers: &HeaderMap, name: &str) -> Result<Option<T>, Failure> {
    let Some(value) = one(headers, name)? else {
        return Ok(None);
    };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number
        .map(Some)
        .ok_or_else(|| invalid(format!("{name} is no whole number within its range")))
}

fn decoded(name: &str, value: &HeaderValue) -> Result<Vec<u8>, Failure> {
    STANDARD
        .decode(value.as_bytes())
        .map_err(|error| invalid(format!("{name} is no base64: {error}")))
}
