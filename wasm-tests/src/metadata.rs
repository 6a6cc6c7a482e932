//! Route metadata as Envoy's property `xds.route_metadata` gives it: the bytes of an
//! `envoy.config.core.v3.Metadata`, whose field 1, `filter_metadata`, maps a namespace to a `Struct`.

use std::collections::BTreeMap;

use prost::Message;
use prost_types::{ListValue, Struct, Value, value::Kind};

/// `envoy.config.core.v3.Metadata`, without the typed half, which operators of this filter have no use for.
#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(btree_map = "string, message", tag = "1")]
    filter_metadata: BTreeMap<String, Struct>,
}

/// The bytes of a Metadata whose namespaces are the members of `filter_metadata`. A namespace that is not an
/// object cannot exist in Envoy; it becomes an empty one.
pub(crate) fn encode(filter_metadata: &serde_json::Value) -> Vec<u8> {
    Metadata {
        filter_metadata: members(filter_metadata, structure),
    }
    .encode_to_vec()
}

/// The bytes of a `Struct` with the members of `json`.
pub(crate) fn encode_struct(json: &serde_json::Value) -> Vec<u8> {
    structure(json).encode_to_vec()
}

fn members<T>(of: &serde_json::Value, each: fn(&serde_json::Value) -> T) -> BTreeMap<String, T> {
    of.as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), each(value)))
        .collect()
}

fn structure(json: &serde_json::Value) -> Struct {
    Struct {
        fields: members(json, value),
    }
}

fn value(json: &serde_json::Value) -> Value {
    let kind = match json {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(b) => Kind::BoolValue(*b),
        serde_json::Value::Number(n) => Kind::NumberValue(n.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(s) => Kind::StringValue(s.clone()),
        serde_json::Value::Array(all) => Kind::ListValue(ListValue {
            values: all.iter().map(value).collect(),
        }),
        serde_json::Value::Object(_) => Kind::StructValue(structure(json)),
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_namespace_is_a_struct_under_its_name() {
        // Field 1 (entry: key 1 "s", value 2 Struct{field 1 (entry: key 1 "t", value 2 Value{string 3 "o"})}).
        assert_eq!(
            encode(&json!({"s": {"t": "o"}})),
            b"\x0a\x0f\x0a\x01s\x12\x0a\x0a\x08\x0a\x01t\x12\x03\x1a\x01o"
        );
        assert_eq!(encode(&json!({})), b"");
    }

    #[test]
    fn numbers_are_doubles_and_null_is_a_value() {
        let bytes = encode(&json!({"s": {"n": 1, "z": null, "l": [true]}}));
        let back = Metadata::decode(&*bytes).unwrap();
        let fields = &back.filter_metadata["s"].fields;
        assert_eq!(fields["n"].kind, Some(Kind::NumberValue(1.0)));
        assert_eq!(fields["z"].kind, Some(Kind::NullValue(0)));
        assert!(matches!(&fields["l"].kind, Some(Kind::ListValue(l)) if l.values.len() == 1));
    }
}
