//! Many records: a JSON object each, in lines or in an array.

use std::marker::PhantomData;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use sluice_proto::v1;

use super::{Common, invalid};
use crate::kafka::record::Failure;

/// A record as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    #[serde(default)]
    key: Option<Binary>,
    /// Not there at all, `null`, or bytes.
    #[serde(default, deserialize_with = "there")]
    value: Option<Option<Binary>>,
    /// A value that is JSON: its text, as it was sent.
    #[serde(borrow, default, deserialize_with = "raw")]
    json: Option<&'a RawValue>,
    #[serde(default)]
    partition: Option<i32>,
    #[serde(default)]
    timestamp: Option<i64>,
    #[serde(default)]
    headers: Vec<Object<Header>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    name: String,
    value: Option<Binary>,
}

/// Bytes: a string, or `{"base64": "…"}`.
struct Binary(Vec<u8>);

impl<'de> Deserialize<'de> for Binary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Binary;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string or {\"base64\": \"…\"}")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Binary, E> {
                Ok(Binary(text.as_bytes().to_vec()))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Binary, A::Error> {
                use serde::de::Error;
                let Some((name, text)) = map.next_entry::<String, String>()? else {
                    return Err(A::Error::missing_field("base64"));
                };
                if name != "base64" {
                    return Err(A::Error::unknown_field(&name, &["base64"]));
                }
                if let Some(name) = map.next_key::<String>()? {
                    return Err(A::Error::unknown_field(&name, &["base64"]));
                }
                STANDARD.decode(text).map(Binary).map_err(A::Error::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// What is written as a JSON object. What serde derives takes a list of the fields' values as well.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for Visitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Visitor(PhantomData))
    }
}

/// Tells a field that is `null` from one that is not there.
fn there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Binary>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// `null` is JSON like any other.
fn raw<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// One record a line; empty lines are skipped.
pub(super) fn lines(common: &Common, topic: &str, body: &[u8]) -> Result<Vec<v1::Record>, Failure> {
    let mut records = Vec::new();
    for (number, line) in (1..).zip(body.split(|byte| *byte == b'\n')) {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let place = format!("line {number}");
        let Object(written) =
            serde_json::from_slice(line).map_err(|error| invalid(format!("{place}: {error}")))?;
        records.push(record(common, topic, &place, written)?);
    }
    some(records)
}

/// An array of records.
pub(super) fn array(common: &Common, topic: &str, body: &[u8]) -> Result<Vec<v1::Record>, Failure> {
    let written: Vec<Object<Written<'_>>> =
        serde_json::from_slice(body).map_err(|error| invalid(format!("the body: {error}")))?;
    let numbered = (1..).zip(written);
    some(
        numbered
            .map(|(number, Object(written))| record(common, topic, &format!("record {number}"), written))
            .collect::<Result<_, _>>()?,
    )
}

fn some(records: Vec<v1::Record>) -> Result<Vec<v1::Record>, Failure> {
    if records.is_empty() {
        return Err(invalid("the body holds no record".to_owned()));
    }
    Ok(records)
}

fn record(common: &Common, topic: &str, place: &str, written: Written<'_>) -> Result<v1::Record, Failure> {
    let value = match (written.value, written.json) {
        (Some(value), None) => value.map(|Binary(bytes)| bytes.into()),
        (None, Some(json)) => Some(Bytes::copy_from_slice(json.get().as_bytes())),
        (Some(_), Some(_)) => return Err(invalid(format!("{place}: value and json are both there"))),
        (None, None) => {
            return Err(invalid(format!(
                "{place}: neither value nor json is there; a tombstone has value null"
            )));
        }
    };
    let header = |Object(Header { name, value })| v1::Header {
        name,
        value: value.map(|Binary(bytes)| bytes),
    };
    Ok(v1::Record {
        key: written.key.map(|Binary(bytes)| bytes.into()),
        value,
        partition: written.partition,
        timestamp_ms: written.timestamp,
        headers: written.headers.into_iter().map(header).collect(),
        ..common.record(topic)
    })
}
