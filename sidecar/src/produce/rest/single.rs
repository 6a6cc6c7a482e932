//! One record: the body is its value, the rest comes from request headers.

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sluice_proto::v1;

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
    headers: &HeaderMap,
    body: Bytes,
) -> Result<v1::Record, Failure> {
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
