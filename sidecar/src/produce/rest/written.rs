//! One record as a JSON object.

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
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written<'a> {
    #[serde(default)]
    pub(crate) key: Option<Binary>,
    /// Not there at all, `null`, or bytes.
    #[serde(default, deserialize_with = "there")]
    pub(crate) value: Option<Option<Binary>>,
    /// A value that is JSON: its text, as it was sent.
    #[serde(borrow, default, deserialize_with = "raw")]
    pub(crate) json: Option<&'a RawValue>,
    #[serde(default)]
    pub(crate) partition: Option<i32>,
    #[serde(default)]
    pub(crate) timestamp: Option<i64>,
    #[serde(default)]
    pub(crate) headers: Vec<Object<Header>>,
}

/// A record header as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    name: String,
    value: Option<Binary>,
}

/// Bytes: a string, or `{"base64": "…"}`.
pub(crate) struct Binary(Vec<u8>);

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
pub(crate) struct Object<T>(pub(crate) T);

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
pub(crate) fn there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Binary>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// `null` is JSON like any other.
pub(crate) fn raw<'de: 'a, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'a RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// The record that is written, for `topic`; `place` is where, for errors.
pub(crate) fn record(
    common: &Common,
    topic: &str,
    place: &str,
    written: Written<'_>,
) -> Result<v1::Record, Failure> {
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
