//! Route metadata, against prost's own `Struct`.

use prost::Message;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use serde_json::Value as Json;
use sluice_filter::config::metadata::{self, NAMESPACE};
use sluice_filter::config::{FilterConfig, RouteCache};

/// `envoy.config.core.v3.Metadata` as Envoy's definition has it. Its map is a list of entries on the wire; as a map,
/// prost would take an entry whatever its wire type.
#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(message, repeated, tag = "1")]
    filter_metadata: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Struct>,
}

/// Metadata is decoded as prost decodes the whole message, and resolves to a route or to problems.
pub(crate) fn route_metadata(data: &[u8]) {
    let ours = metadata::decode(data);
    // Where prost takes all of it. The filter leaves namespaces that are not its own undecoded, so that it may take
    // what prost does not.
    if let Ok(theirs) = Metadata::decode(data) {
        dynamic(data, &theirs);
        let last = theirs
            .filter_metadata
            .iter()
            .rev()
            .find(|entry| entry.key == NAMESPACE);
        let expected = last.map(|entry| json(&entry.value.clone().unwrap_or_default()));
        let expected = expected.transpose();
        assert_eq!(ours.as_ref().ok(), expected.as_ref().ok(), "{ours:?}");
    }
    if let Ok(found) = Struct::decode(data) {
        let expected = (!found.fields.is_empty()).then(|| json(&found)).transpose();
        assert_eq!(metadata::decode_struct(data).ok(), expected.ok());
    }
    if let Ok(Some(tree)) = &ours {
        assert_eq!(
            metadata::decode(&metadata::encode(tree)).as_ref(),
            Ok(&Some(tree.clone()))
        );
        assert_eq!(
            metadata::decode_struct(&metadata::encode_struct(tree))
                .map(|tree| tree.unwrap_or_else(|| Json::Object(Default::default())))
                .as_ref(),
            Ok(tree)
        );
    }
    let config = FilterConfig::from_json(br#"{"topic": "t"}"#).expect("a configuration");
    let resolved = config.resolve(None, data);
    if let Err(problems) = &resolved {
        assert!(!problems.is_empty());
    }
    // The cache says the same, twice.
    let mut cache = RouteCache::new();
    for _ in 0..2 {
        let cached = cache.resolve(&config, None, data);
        assert_eq!(cached.is_ok(), resolved.is_ok());
        if let (Ok(cached), Ok(resolved)) = (&cached, &resolved) {
            assert_eq!(cached.as_deref(), resolved.as_ref());
        }
    }
}

/// Each value of each namespace is found where it is, and is what it is there.
fn dynamic(data: &[u8], theirs: &Metadata) {
    for entry in theirs.filter_metadata.iter().rev() {
        // Of two entries with one key the last counts.
        let last = theirs
            .filter_metadata
            .iter()
            .rev()
            .find(|one| one.key == entry.key);
        let fields = last.and_then(|last| last.value.clone()).unwrap_or_default();
        for (name, value) in &fields.fields {
            let path = [entry.key.clone(), name.clone()];
            let text = match &value.kind {
                None | Some(Kind::NullValue(_)) => Ok(None),
                Some(Kind::NumberValue(number)) if number.is_finite() => Ok(Some(format!("{number}"))),
                Some(Kind::StringValue(text)) => Ok(Some(text.clone())),
                Some(Kind::BoolValue(flag)) => Ok(Some(if *flag { "true" } else { "false" }.to_owned())),
                Some(_) => Err(()),
            };
            assert_eq!(metadata::text_at(data, &path).map_err(drop), text, "{path:?}");
            let below = [path[0].clone(), path[1].clone(), "a".to_owned()];
            if !matches!(value.kind, Some(Kind::StructValue(_))) {
                assert_eq!(metadata::text_at(data, &below), Ok(None), "{below:?}");
            }
        }
    }
}

/// The tree that a `Struct` is; `Err` if it holds a number that JSON has no text for.
fn json(from: &Struct) -> Result<Json, ()> {
    let member = |(name, value): (&String, &Value)| Ok((name.clone(), json_value(value)?));
    Ok(Json::Object(
        from.fields.iter().map(member).collect::<Result<_, ()>>()?,
    ))
}

fn json_value(value: &Value) -> Result<Json, ()> {
    Ok(match &value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::NumberValue(number)) => Json::Number(serde_json::Number::from_f64(*number).ok_or(())?),
        Some(Kind::StringValue(text)) => Json::String(text.clone()),
        Some(Kind::BoolValue(flag)) => Json::Bool(*flag),
        Some(Kind::StructValue(fields)) => json(fields)?,
        Some(Kind::ListValue(list)) => {
            Json::Array(list.values.iter().map(json_value).collect::<Result<_, ()>>()?)
        }
    })
}
