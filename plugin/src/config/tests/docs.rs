//! What the documentation says of the configuration is so.

use std::path::Path;

use super::*;

fn document(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)).unwrap()
}

/// The YAML blocks of a page that begin with the comment `# kind`, as trees.
fn examples(page: &str, kind: &str) -> Vec<Json> {
    let start = format!("```yaml\n# {kind}\n");
    let blocks = page
        .split(&start)
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap());
    let trees: Vec<Json> = blocks
        .map(|yaml| serde_saphyr::from_str(yaml).expect(yaml))
        .collect();
    assert!(!trees.is_empty(), "no example of {kind}");
    trees
}

/// The names of all fields in a tree that is written in a layer; names that the operator chooses are not among
/// them.
fn field_names(tree: &Json, names: &mut Vec<String>) {
    for (name, value) in tree.as_object().into_iter().flatten() {
        names.push(name.clone());
        if !["value_by_method", "name_mappings", "payload", "template", "by"].contains(&name.as_str()) {
            field_names(value, names);
        }
    }
}

#[test]
fn every_example_is_valid() {
    let page = document("filter.md");
    for tree in examples(&page, "the filter") {
        let config = FilterConfig::from_tree(&tree);
        assert_eq!(config.as_ref().err(), None, "{tree}");
        let config = config.unwrap();
        let entry = config.has_entries().then_some(0);
        assert!(
            config.resolve(entry, b"").unwrap().is_some(),
            "{tree} names no topic"
        );
    }
    for route in examples(&page, "a route") {
        let metadata = route.pointer("/metadata/filter_metadata/sluice");
        assert!(
            FilterConfig::default()
                .resolve_json(None, metadata)
                .unwrap()
                .is_some()
        );
    }
    let blocks = page.matches("```yaml").count();
    let checked: usize = ["the filter", "a route", "an HTTP filter"]
        .map(|kind| examples(&page, kind).len())
        .iter()
        .sum();
    assert_eq!(blocks, checked, "a block that nobody checks");
}

#[test]
fn the_filter_in_the_documentation_is_one_that_works() {
    let page = document("filter.md");
    for filter in examples(&page, "an HTTP filter") {
        let closed = json!({"match": {"prefix": "/"}, "direct_response": {"status": 503}});
        let report = envoy::check_envoy(&json!({
            "http_filters": [filter],
            "route_config": {"virtual_hosts": [{"domains": ["*"], "routes": [closed]}]},
            "static_resources": {"clusters": [{"name": "sluice"}]},
        }));
        assert_eq!((report.filters, report.produce_routes), (1, 1));
        assert_eq!((texts(&report.errors), texts(&report.warnings)), (vec![], vec![]));
    }
}

#[test]
fn every_field_is_documented() {
    let page = document("filter.md");
    let mut names = Vec::new();
    for (written, _) in every_field::table() {
        field_names(&written, &mut names);
    }
    let stream = ["max_outstanding_records", "max_outstanding_bytes", "gather_bytes"];
    let matchers = ["route_name", "host", "path_prefix", "methods"];
    names.extend(stream.iter().chain(&matchers).map(|name| (*name).to_owned()));
    for name in names {
        // A source stands with its value, as `query: name`.
        let listed = page.contains(&format!("`{name}`")) || page.contains(&format!("| `{name}: "));
        assert!(
            listed || page.contains(&format!("{{{name}: ")),
            "{name} is not in docs/filter.md"
        );
    }
}

#[test]
fn every_field_of_kongs_is_in_the_table() {
    let page = document("kong.md");
    for (name, _) in refused::KONG {
        assert!(
            page.contains(&format!("`{name}`")),
            "{name} is not in docs/kong.md"
        );
    }
}

/// The fields of `kafka-upstream` in Kong 3.15's schema.
const KONG_3_15: [&str; 28] = [
    "allowed_topics",
    "authentication",
    "bootstrap_servers",
    "cluster_name",
    "error_handling",
    "forward_body",
    "forward_headers",
    "forward_method",
    "forward_uri",
    "headers",
    "keepalive",
    "keepalive_enabled",
    "key_query_arg",
    "message_by_lua_functions",
    "producer_async",
    "producer_async_buffering_limits_messages_in_memory",
    "producer_async_flush_timeout",
    "producer_request_acks",
    "producer_request_limits_bytes_per_request",
    "producer_request_limits_messages_per_request",
    "producer_request_retries_backoff_timeout",
    "producer_request_retries_max_attempts",
    "producer_request_timeout",
    "schema_registry",
    "security",
    "timeout",
    "topic",
    "topics_query_arg",
];

#[test]
fn every_field_of_kongs_is_taken_or_refused_with_a_word() {
    for name in KONG_3_15 {
        for problem in problems(json!({name: 1.5})) {
            assert!(!problem.contains("unknown field"), "{problem}");
            let goes = ["sidecar's", "does not exist", "must be"];
            assert!(goes.iter().any(|word| problem.contains(word)), "{problem}");
        }
    }
}
