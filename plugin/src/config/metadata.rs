//! Metadata: a serialised `envoy.config.core.v3.Metadata`, as Envoy's properties `xds.route_metadata` (that of the
//! route, which holds settings) and `metadata` (the dynamic metadata of a request) give it.
//!
//! Only what is needed of it is decoded: the `google.protobuf.Struct` of one namespace. prost stops at 100
//! nested messages, a Struct nests three for each level of JSON, so its depth is bounded before anything here
//! recurses.

use std::collections::BTreeMap;

use prost::Message;
use serde_json::{Map, Number, Value};

/// The namespace of the filter's settings in `filter_metadata`.
pub const NAMESPACE: &str = "sluice";

/// `envoy.config.core.v3.Metadata`, the structs left encoded. A protobuf map is a list of entries on the wire.
#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(message, repeated, tag = "1")]
    filter_metadata: Vec<MetadataEntry>,
}

#[derive(Clone, PartialEq, Message)]
struct MetadataEntry {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    /// One, unless somebody wrote the field in parts: those are one message, read one behind another (protobuf's encoding
    /// guide, "Last One Wins").
    #[prost(bytes = "vec", repeated, tag = "2")]
    value: Vec<Vec<u8>>,
}

/// `google.protobuf.Struct`.
#[derive(Clone, PartialEq, Message)]
struct Struct {
    #[prost(btree_map = "string, message", tag = "1")]
    fields: BTreeMap<String, StructValue>,
}

/// `google.protobuf.Value`.
#[derive(Clone, PartialEq, Message)]
struct StructValue {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    /// `google.protobuf.NullValue`, of which there is one.
    #[prost(int32, tag = "1")]
    Null(i32),
    #[prost(double, tag = "2")]
    Number(f64),
    #[prost(string, tag = "3")]
    String(String),
    #[prost(bool, tag = "4")]
    Bool(bool),
    #[prost(message, tag = "5")]
    Struct(Struct),
    #[prost(message, tag = "6")]
    List(ListValue),
}

/// `google.protobuf.ListValue`.
#[derive(Clone, PartialEq, Message)]
struct ListValue {
    #[prost(message, repeated, tag = "1")]
    values: Vec<StructValue>,
}

/// What the metadata holds in [`NAMESPACE`]: an object, or `None` without that namespace. Other namespaces are
/// not decoded.
///
/// # Errors
/// One sentence, when the bytes are no such message.
pub fn decode(bytes: &[u8]) -> Result<Option<Value>, String> {
    namespace(bytes, NAMESPACE)?.map(object).transpose()
}

/// One namespace of the metadata; `None` if it is not there.
fn namespace(bytes: &[u8], name: &str) -> Result<Option<Struct>, String> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let wrong = |error: prost::DecodeError| format!("cannot be decoded: {error}");
    let metadata = Metadata::decode(bytes).map_err(wrong)?;
    let ours = |entry: &&MetadataEntry| entry.key == name.as_bytes();
    // Of two entries with one key the last counts, as in every protobuf map.
    let Some(entry) = metadata.filter_metadata.iter().rev().find(ours) else {
        return Ok(None);
    };
    Struct::decode(entry.value.concat().as_slice())
        .map(Some)
        .map_err(wrong)
}

/// The text of the value at `path`, its namespace first: a string's characters, a number in decimals without an
/// exponent, `true` or `false`. `None` if there is none, or null.
///
/// # Errors
/// The rest of a sentence about it, when it is a mapping or a list, or the bytes are no such message.
pub fn text_at(bytes: &[u8], path: &[String]) -> Result<Option<String>, String> {
    let Some((first, names)) = path.split_first() else {
        return Ok(None);
    };
    let Some(fields) = namespace(bytes, first)? else {
        return Ok(None);
    };
    let mut kind = Some(Kind::Struct(fields));
    for name in names {
        // What leads to the value is a mapping, or the value is not there.
        let Some(Kind::Struct(mut fields)) = kind else {
            return Ok(None);
        };
        kind = fields.fields.remove(name).and_then(|value| value.kind);
    }
    match kind {
        None | Some(Kind::Null(_)) => Ok(None),
        Some(Kind::String(text)) => Ok(Some(text)),
        Some(Kind::Bool(b)) => Ok(Some(b.to_string())),
        Some(Kind::Number(number)) if number.is_finite() => Ok(Some(number.to_string())),
        Some(Kind::Number(_)) => Err("is a number that is not finite".to_owned()),
        Some(Kind::Struct(_) | Kind::List(_)) => {
            Err("is a mapping or list, not a string, number or boolean".to_owned())
        }
    }
}

/// A serialised `google.protobuf.Struct` as an object; `None` if it has no fields.
///
/// # Errors
/// One sentence, when the bytes are no such message.
pub fn decode_struct(bytes: &[u8]) -> Result<Option<Value>, String> {
    let found = Struct::decode(bytes).map_err(|error| format!("cannot be decoded: {error}"))?;
    if found.fields.is_empty() {
        return Ok(None);
    }
    object(found).map(Some)
}

/// `json`, an object, as the serialised `Struct` that [`decode_struct`] reads. For tests and tools.
pub fn encode_struct(json: &Value) -> Vec<u8> {
    let Value::Object(map) = json else {
        return Vec::new();
    };
    to_struct(map).encode_to_vec()
}

fn object(from: Struct) -> Result<Value, String> {
    let mut map = Map::new();
    for (name, value) in from.fields {
        map.insert(name, json(value)?);
    }
    Ok(Value::Object(map))
}

fn json(value: StructValue) -> Result<Value, String> {
    Ok(match value.kind {
        None | Some(Kind::Null(_)) => Value::Null,
        Some(Kind::Number(number)) => {
            let number =
                Number::from_f64(number).ok_or("cannot be decoded: it holds a number that is not finite")?;
            Value::Number(number)
        }
        Some(Kind::String(text)) => Value::String(text),
        Some(Kind::Bool(b)) => Value::Bool(b),
        Some(Kind::Struct(fields)) => object(fields)?,
        Some(Kind::List(list)) => Value::Array(list.values.into_iter().map(json).collect::<Result<_, _>>()?),
    })
}

/// `json`, an object, as the metadata that [`decode`] reads: what Envoy hands over for a route with
/// `filter_metadata: {sluice: …}`. For tests and tools.
pub fn encode(json: &Value) -> Vec<u8> {
    let Value::Object(map) = json else {
        return Vec::new();
    };
    let metadata = Metadata {
        filter_metadata: vec![MetadataEntry {
            key: NAMESPACE.into(),
            value: vec![to_struct(map).encode_to_vec()],
        }],
    };
    metadata.encode_to_vec()
}

/// `json`, an object of namespaces, as the metadata that [`text_at`] reads. For tests and tools.
pub fn encode_namespaces(json: &Value) -> Vec<u8> {
    let spaces = json.as_object().into_iter().flatten();
    let entry = |(name, value): (&String, &Value)| MetadataEntry {
        key: name.clone().into_bytes(),
        value: vec![encode_struct(value)],
    };
    let metadata = Metadata {
        filter_metadata: spaces.map(entry).collect(),
    };
    metadata.encode_to_vec()
}

fn to_struct(map: &Map<String, Value>) -> Struct {
    let fields = map.iter().map(|(name, value)| (name.clone(), to_value(value)));
    Struct {
        fields: fields.collect(),
    }
}

fn to_value(value: &Value) -> StructValue {
    let kind = match value {
        Value::Null => Kind::Null(0),
        Value::Bool(b) => Kind::Bool(*b),
        Value::Number(n) => Kind::Number(n.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::String(text.clone()),
        Value::Array(items) => Kind::List(ListValue {
            values: items.iter().map(to_value).collect(),
        }),
        Value::Object(map) => Kind::Struct(to_struct(map)),
    };
    StructValue { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_namespace_that_is_written_in_parts_is_one() {
        let parts = [json!({"a": 1.5}), json!({"b": "x"})];
        let metadata = Metadata {
            filter_metadata: vec![MetadataEntry {
                key: NAMESPACE.into(),
                value: parts.iter().map(encode_struct).collect(),
            }],
        };
        let found = decode(&metadata.encode_to_vec());
        assert_eq!(found, Ok(Some(json!({"a": 1.5, "b": "x"}))));
    }
}
