//! Nothing that anybody writes makes the filter panic.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

/// Names that mean something, and some that do not.
fn key() -> impl Strategy<Value = String> {
    let known = [
        "topic",
        "topics",
        "topics_query_arg",
        "allowed_topics",
        "value",
        "value_by_method",
        "forward_body",
        "json_content_types",
        "max_json_depth",
        "key",
        "key_query_arg",
        "partition",
        "fixed",
        "query",
        "header",
        "cookie",
        "path_segment",
        "json_pointer",
        "path",
        "allowed",
        "default",
        "cluster_name",
        "producer",
        "headers",
        "include_headers",
        "name_mappings",
        "credential_headers",
        "cloudevents",
        "delivery",
        "producer_async",
        "success_status",
        "max_body_bytes",
        "answer_timeout",
        "then",
        "on_error",
        "stream",
        "gather_bytes",
        "routes",
        "route_name",
        "host",
        "path_prefix",
        "methods",
        "timeout",
        "static_resources",
        "listeners",
        "http_filters",
        "typed_config",
        "config",
        "configuration",
        "@type",
        "route_config",
        "virtual_hosts",
        "match",
        "metadata",
        "filter_metadata",
        "sluice",
        "domains",
        "vm_config",
        "clusters",
    ];
    prop_oneof![9 => proptest::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => any::<String>()]
}

fn text() -> impl Strategy<Value = String> {
    let known = [
        "orders",
        "none",
        "body",
        "envelope",
        "continue",
        "respond",
        "binary",
        "buffered",
        "/",
        "/~",
        "*.",
        "*",
        "5s",
        "-1s",
        "GET",
        ":path",
        "application/*+json",
        "[::1]:1",
        "sluice",
        "type.googleapis.com/google.protobuf.Struct",
        "type.googleapis.com/x.Wasm",
    ];
    prop_oneof![
        proptest::sample::select(known.to_vec()).prop_map(str::to_owned),
        any::<String>()
    ]
}

fn tree() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        (-1i64..300).prop_map(Json::from),
        text().prop_map(Json::from),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Json::from),
            btree_map(key(), inner, 0..6).prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn any_tree_is_a_configuration_or_has_problems(base in tree(), over in tree()) {
        let config = match FilterConfig::from_json(base.to_string().as_bytes()) {
            Ok(config) => config,
            Err(problems) => {
                prop_assert!(!problems.is_empty());
                FilterConfig::default()
            }
        };
        let entry = config.has_entries().then_some(0);
        if let Err(problems) = config.resolve_json(entry, Some(&over)) {
            prop_assert!(!problems.is_empty());
        }
    }

    #[test]
    fn any_tree_is_a_bootstrap_to_look_at(tree in tree()) {
        envoy::check_envoy(&tree);
    }

    #[test]
    fn any_bytes_are_a_configuration_or_have_problems(bytes in vec(any::<u8>(), 0..64)) {
        if let Err(problems) = FilterConfig::from_json(&bytes) {
            prop_assert!(!problems.is_empty());
        }
    }

    #[test]
    fn any_bytes_are_metadata_or_a_problem(bytes in vec(any::<u8>(), 0..64)) {
        let decoded = metadata::decode(&bytes);
        prop_assert!(decoded.is_ok_and(|tree| tree.is_none_or(|tree| tree.is_object())) || metadata::decode(&bytes).is_err());
    }

    #[test]
    fn damaged_metadata_is_metadata_or_a_problem(
        tree in tree(),
        at in any::<prop::sample::Index>(),
        to in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = metadata::encode(&json!({"topic": "orders", "x": tree}));
        let at = at.index(bytes.len());
        bytes[at] = to;
        let _either = metadata::decode(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        let _either = metadata::decode(&bytes);
    }

    #[test]
    fn whole_metadata_comes_back(tree in tree()) {
        let tree = json!({"topic": "orders", "x": tree});
        let back = metadata::decode(&metadata::encode(&tree)).unwrap().unwrap();
        prop_assert_eq!(as_doubles(back), as_doubles(tree));
    }
}

/// The tree with every number as the double it is in a `Struct`.
fn as_doubles(tree: Json) -> Json {
    match tree {
        Json::Number(n) => Json::from(n.as_f64()),
        Json::Array(items) => items.into_iter().map(as_doubles).collect(),
        Json::Object(map) => map
            .into_iter()
            .map(|(key, value)| (key, as_doubles(value)))
            .collect(),
        other => other,
    }
}
