//! The filter's configuration, from the bytes that Envoy hands over to the route that a request gets.

mod cache;
mod docs;
mod entries;
mod every_field;
mod files;
mod hostile;
mod merge;
mod metadata_bytes;
mod payloads;
mod replies;

use serde_json::{Value as Json, json};
use sluice_settings::Problem;

use super::*;

fn config(tree: Json) -> FilterConfig {
    FilterConfig::from_json(tree.to_string().as_bytes()).unwrap()
}

fn texts(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

/// The problems of a configuration that has some.
fn problems(tree: Json) -> Vec<String> {
    texts(&FilterConfig::from_json(tree.to_string().as_bytes()).unwrap_err())
}

/// The route of a request without an entry, the metadata's `sluice` being `tree`.
fn with_metadata(config: &FilterConfig, tree: Json) -> Result<Option<Route>, Vec<String>> {
    let resolved = config.resolve(None, &metadata::encode(&tree));
    resolved.map_err(|problems| texts(&problems))
}

#[test]
fn envoy_hands_over_a_serialised_struct_or_the_text_of_a_string() {
    let long = "x".repeat(0x7b);
    for tree in [
        json!({"topic": "orders", "answer_timeout": 60000, "routes": [{"path_prefix": "/", "value": "body"}]}),
        json!({"success_message": long}),
        json!({}),
    ] {
        let expected = config(tree.clone());
        let text = tree.to_string();
        for bytes in [
            metadata::encode_struct(&tree),
            text.clone().into_bytes(),
            format!("\n{text}").into_bytes(),
        ] {
            assert_eq!(FilterConfig::from_bytes(&bytes).unwrap(), expected, "{bytes:?}");
        }
    }
    let bad = json!({"tpoic": 1});
    let told = FilterConfig::from_bytes(&metadata::encode_struct(&bad)).unwrap_err();
    assert_eq!(texts(&told), problems(bad));
    for neither in ["{", "\n", "\n\n{x", "topic: orders", "\u{fe}"] {
        assert_eq!(
            FilterConfig::from_bytes(neither.as_bytes()),
            FilterConfig::from_json(neither.as_bytes())
        );
    }
}

#[test]
fn no_configuration_is_an_empty_one() {
    let config = FilterConfig::from_json(b"").unwrap();
    assert_eq!(config, FilterConfig::from_json(b" {} ").unwrap());
    assert_eq!(config.resolve(None, b""), Ok(None));
    assert_eq!(*config.stream(), StreamSettings::default());
    let route = with_metadata(&config, json!({"topic": "orders"})).unwrap();
    assert_eq!(route.unwrap().topics, ["orders"]);
}

#[test]
fn what_is_no_mapping_is_refused() {
    assert_eq!(problems(json!([])), ["must be a mapping, not a list"]);
    let problems = texts(&FilterConfig::from_json(b"{\"topic\": ").unwrap_err());
    assert_eq!(
        problems,
        ["the configuration is not JSON: EOF while parsing a value at line 1 column 10"]
    );
}

#[test]
fn without_a_topic_the_filter_does_not_act() {
    for tree in [
        json!({}),
        json!({"forward_method": true}),
        json!({"topics": []}),
        json!({"topics_query_arg": "t"}),
        json!({"allowed_topics": ["a"]}),
        json!({"topics_query_arg": "t", "allowed_topics": []}),
    ] {
        assert_eq!(config(tree.clone()).resolve(None, b""), Ok(None), "{tree}");
    }
    for tree in [
        json!({"topic": "a"}),
        json!({"topics": ["a", "b"]}),
        json!({"topics_query_arg": "t", "allowed_topics": ["a"]}),
    ] {
        assert!(
            config(tree.clone()).resolve(None, b"").unwrap().is_some(),
            "{tree}"
        );
    }
}

#[test]
fn the_stream_is_bounded_as_written() {
    let stream = |tree: Json| *config(json!({"stream": tree})).stream();
    let default = StreamSettings::default();
    assert_eq!(default.max_outstanding_records, 10_000);
    assert_eq!(default.max_outstanding_bytes, 64 * 1024 * 1024);
    assert_eq!(default.gather_bytes, 64 * 1024);
    let records = StreamSettings {
        max_outstanding_records: 7,
        ..default
    };
    assert_eq!(stream(json!({"max_outstanding_records": 7.0})), records);
    let bytes = StreamSettings {
        max_outstanding_bytes: 7,
        ..default
    };
    assert_eq!(stream(json!({"max_outstanding_bytes": 7})), bytes);
    let gather = StreamSettings {
        gather_bytes: 7,
        ..default
    };
    assert_eq!(stream(json!({"gather_bytes": 7})), gather);
}

#[test]
fn the_sidecar_is_the_cluster_sluice_unless_named() {
    assert_eq!(config(json!({})).sidecar_cluster(), "sluice");
    assert_eq!(
        config(json!({"sidecar_cluster": "side"})).sidecar_cluster(),
        "side"
    );
}
