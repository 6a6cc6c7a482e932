use serde_json::json;

use super::*;

const STRUCT: &str = "type.googleapis.com/google.protobuf.Struct";
const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
/// Where the one HTTP connection manager of [`bootstrap`] is.
const MANAGER: &str = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config";

/// A filter with that configuration, as shipped.
fn filter(configuration: Json) -> Json {
    json!({"name": "sluice", "typed_config": {"@type": WASM, "config": {
        "name": "sluice",
        "allow_on_headers_stop_iteration": true,
        "failure_policy": "FAIL_RELOAD",
        "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": "sluice_filter.wasm"}}},
        "configuration": {"@type": STRUCT, "value": configuration},
    }}})
}

/// A bootstrap with one listener, one virtual host for `*` and the cluster `sluice`.
fn bootstrap(filter: Json, routes: Json) -> Json {
    let router = json!({"name": "envoy.filters.http.router"});
    json!({"static_resources": {
        "listeners": [{"filter_chains": [{"filters": [{"typed_config": {
            "http_filters": [filter, router],
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        }}]}]}],
        "clusters": [{"name": "other", "type": "EDS"}, {"name": "sluice"}],
    }})
}

/// A route that fails closed, with that metadata.
fn route(metadata: Json) -> Json {
    json!({
        "match": {"prefix": "/"},
        "direct_response": {"status": 503},
        "metadata": {"filter_metadata": {"sluice": metadata}},
    })
}

fn set(tree: &mut Json, pointer: &str, value: Json) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    tree.pointer_mut(parent).unwrap()[key] = value;
}

fn texts(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn a_good_bootstrap_has_nothing_wrong() {
    let plain = json!({"match": {"prefix": "/site"}, "route": {"cluster": "other"}});
    let chooses = json!({
        "topic": {"header": "x-t", "allowed": ["a", "b"]}, "cluster_name": {"header": "x-c", "allowed": ["c", "d"]},
        "producer": "p", "template": {"name": "deploy"}, "reply": {"topic": "r"},
    });
    let tree = bootstrap(
        filter(json!({})),
        json!([plain, route(json!({"topic": "orders"})), route(chooses)]),
    );
    let wanted = |at: usize, topics: &[&str], clusters: &[&str], producer: &str| Wanted {
        path: format!("{MANAGER}.route_config.virtual_hosts[0].routes[{at}]"),
        topics: topics.iter().map(|name| (*name).to_owned()).collect(),
        clusters: clusters.iter().map(|name| (*name).to_owned()).collect(),
        producers: vec![producer.to_owned()],
        template: (producer == "p").then(|| "deploy".to_owned()),
        reply: (producer == "p").then(|| ("r".to_owned(), false)),
    };
    let expected = EnvoyReport {
        filters: 1,
        produce_routes: 2,
        wanted: vec![
            wanted(1, &["orders"], &[""], ""),
            wanted(2, &["a", "b"], &["c", "d"], "p"),
        ],
        ..EnvoyReport::default()
    };
    assert_eq!(check_envoy(&tree), expected);
}

#[test]
fn the_filter_is_known_by_its_name_its_root_or_its_code() {
    let config = "/typed_config/config";
    let found = |filter: Json| check_envoy(&bootstrap(filter, json!([]))).filters;
    let mut other = filter(json!({}));
    set(&mut other, &format!("{config}/name"), json!("mine"));
    assert_eq!(found(other.clone()), 1);
    set(
        &mut other,
        &format!("{config}/vm_config"),
        json!({"code": {"local": {"filename": "other.wasm"}}}),
    );
    assert_eq!(found(other.clone()), 0);
    let mut rooted = other.clone();
    set(&mut rooted, &format!("{config}/root_id"), json!("sluice"));
    assert_eq!(found(rooted), 1);
    let mut remote = other.clone();
    let uri = json!({"code": {"remote": {"http_uri": {"uri": "https://host/sluice_filter.wasm"}}}});
    set(&mut remote, &format!("{config}/vm_config"), uri);
    assert_eq!(found(remote), 1);
    let mut lua = filter(json!({}));
    set(
        &mut lua,
        "/typed_config/@type",
        json!("type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"),
    );
    assert_eq!(found(lua), 0);
    let mut typed = filter(json!({}));
    let config = typed["typed_config"]["config"].take();
    typed["typed_config"] = json!({
        "@type": "type.googleapis.com/xds.type.v3.TypedStruct", "type_url": WASM, "value": {"config": config},
    });
    assert_eq!(found(typed), 1);
}

#[test]
fn a_bootstrap_without_the_filter_is_not_called_good() {
    let report = check_envoy(&json!({"static_resources": {}}));
    assert_eq!(
        texts(&report.errors),
        [
            "has no filter of Sluice's: no wasm HTTP filter whose plugin is named `sluice`, or whose code is \
          sluice_filter.wasm"
        ]
    );
}

#[test]
fn the_problems_of_a_configuration_have_their_path_from_the_root() {
    let value = format!("{MANAGER}.http_filters[0].typed_config.config.configuration.value");
    let configuration = json!({"topik": "a", "routes": [{"path_prefix": "a"}]});
    let tree = bootstrap(filter(configuration.clone()), json!([]));
    let expected = [
        format!("{value}.routes[0].path_prefix: must start with `/` and have no query, not \"a\""),
        format!("{value}.topik: unknown field; did you mean `topic`?"),
    ];
    assert_eq!(texts(&check_envoy(&tree).errors), expected);

    let text = json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": configuration.to_string()});
    let mut filter = filter(json!({}));
    set(&mut filter, "/typed_config/config/configuration", text);
    assert_eq!(
        texts(&check_envoy(&bootstrap(filter.clone(), json!([]))).errors),
        expected
    );

    let bytes = STANDARD_BYTES_OF_TOPIC_SEVEN;
    let bytes = json!({"@type": "type.googleapis.com/google.protobuf.BytesValue", "value": bytes});
    set(&mut filter, "/typed_config/config/configuration", bytes);
    let errors = texts(&check_envoy(&bootstrap(filter.clone(), json!([]))).errors);
    assert_eq!(
        errors,
        [format!("{value}.topic: must be a string, not the number 7")]
    );

    set(
        &mut filter,
        "/typed_config/config/configuration",
        json!({"topic": "orders"}),
    );
    let errors = texts(&check_envoy(&bootstrap(filter, json!([]))).errors);
    assert_eq!(
        errors,
        [format!(
            "{}: must say \"@type\": {STRUCT}, and hold the configuration in `value`",
            value.trim_end_matches(".value")
        )]
    );
}

/// `{"topic": 7}` in base64.
const STANDARD_BYTES_OF_TOPIC_SEVEN: &str = "eyJ0b3BpYyI6IDd9";

#[test]
fn a_filter_that_would_hang_or_stay_down_is_told() {
    let config = format!("{MANAGER}.http_filters[0].typed_config.config");
    for (flag, wrong) in [
        (json!(false), true),
        (json!(null), true),
        (json!("true"), true),
        (json!(true), false),
    ] {
        let mut filter = filter(json!({}));
        set(
            &mut filter,
            "/typed_config/config/allow_on_headers_stop_iteration",
            flag,
        );
        let errors = texts(&check_envoy(&bootstrap(filter, json!([]))).errors);
        let expected = format!(
            "{config}.allow_on_headers_stop_iteration: must be true: without it Envoy hands the filter no body, \
             and every request with one hangs"
        );
        assert_eq!(errors, if wrong { vec![expected] } else { vec![] });
    }
    let mut camel = filter(json!({}));
    set(
        &mut camel,
        "/typed_config/config/allow_on_headers_stop_iteration",
        json!(null),
    );
    set(
        &mut camel,
        "/typed_config/config/allowOnHeadersStopIteration",
        json!(true),
    );
    assert_eq!(texts(&check_envoy(&bootstrap(camel, json!([]))).errors), [""; 0]);

    let mut open = filter(json!({}));
    set(
        &mut open,
        "/typed_config/config/failure_policy",
        json!("FAIL_OPEN"),
    );
    let warnings = texts(&check_envoy(&bootstrap(open, json!([]))).warnings);
    assert_eq!(
        warnings,
        [format!(
            "{config}.failure_policy: should be FAIL_RELOAD: otherwise a filter that failed once stays failed"
        )]
    );
}

#[test]
fn bad_metadata_is_found_where_it_is() {
    let routes = json!([
        route(json!({"topic": "ok"})),
        route(json!({"topic": "no topic", "tpic": "a"})),
        route(json!({"topics_query_arg": "t"})),
    ]);
    let path = format!("{MANAGER}.route_config.virtual_hosts[0].routes");
    let tree = bootstrap(
        filter(json!({"routes": [{"path_prefix": "/x"}, {"path_prefix": "/y"}]})),
        routes.clone(),
    );
    let of_two = [
        format!(
            "{path}[1].metadata.filter_metadata.sluice.topic: \"no topic\" is no topic name: only a-z, A-Z, 0-9, \
             `.`, `_` and `-` are legal"
        ),
        format!("{path}[1].metadata.filter_metadata.sluice.tpic: unknown field; did you mean `topic`?"),
    ];
    let of_three = format!(
        "{path}[2].metadata.filter_metadata.sluice.topics_query_arg: can name no topic: set allowed_topics, or a \
         topic of the route's own"
    );
    let errors = texts(&check_envoy(&tree).errors);
    assert_eq!(errors[..2], of_two);
    assert_eq!(errors[2..], [of_three]);
    // With a bad configuration there is nothing to merge with, but metadata can still be read.
    let errors = texts(&check_envoy(&bootstrap(filter(json!({"a": 1})), routes)).errors);
    assert_eq!(errors[1..], of_two);
}

#[test]
fn metadata_is_checked_over_the_entries_that_the_route_can_have() {
    let continues = json!({"topic": "t", "then": "continue"});
    let with = |matcher: Json| {
        let mut entry = continues.clone();
        entry
            .as_object_mut()
            .unwrap()
            .extend(matcher.as_object().unwrap().clone());
        filter(json!({"routes": [entry]}))
    };
    let mut named = route(json!({"success_status": 201, "topic": "t"}));
    set(&mut named, "/name", json!("orders"));
    set(
        &mut named,
        "/match",
        json!({
            "prefix": "/orders",
            "headers": [{"name": ":method", "string_match": {"exact": "POST"}}],
        }),
    );
    for (matcher, applies) in [
        (json!({"route_name": "orders"}), true),
        (json!({"route_name": "other"}), false),
        (json!({"path_prefix": "/"}), true),
        (json!({"path_prefix": "/orders/new"}), true),
        (json!({"path_prefix": "/other"}), false),
        (json!({"methods": ["POST", "PUT"]}), true),
        (json!({"methods": ["GET"]}), false),
        (json!({"host": "a.example"}), true),
        (json!({"host": "*.example"}), true),
        (json!({"host": "b.test"}), false),
        (json!({"host": "*.test"}), true),
        (json!({"host": "c.test"}), true),
        (json!({"host": "d.sub.net"}), true),
        (json!({"host": "*.sub.net"}), true),
        (json!({"host": "api.org"}), true),
        (json!({"host": "ported.io"}), true),
        (json!({"host": "[::1]"}), true),
    ] {
        let mut tree = bootstrap(with(matcher.clone()), json!([named.clone()]));
        let hosts = format!(
            "/{}/route_config/virtual_hosts",
            MANAGER.replace('[', "/").replace("].", "/").replace('.', "/")
        );
        let domains = json!([
            "A.example:443",
            "c.test",
            "*.net",
            "api.*",
            "ported.io:*",
            "[::1]:80"
        ]);
        set(&mut tree, &format!("{hosts}/0/domains"), domains);
        assert_eq!(!check_envoy(&tree).errors.is_empty(), applies, "{matcher}");
    }
}

#[test]
fn an_entry_that_always_matches_hides_what_is_below() {
    let base = json!({"topic": "t", "then": "continue", "routes": [
        {"path_prefix": "/", "then": "respond"},
        {"path_prefix": "/", "then": "continue"},
    ]});
    let tree = bootstrap(filter(base), json!([route(json!({"success_status": 201}))]));
    assert_eq!(texts(&check_envoy(&tree).errors), [""; 0]);
}

#[test]
fn a_produce_route_that_does_not_fail_closed_is_told() {
    let told = |metadata: Json, action: Json| {
        let mut open = route(metadata);
        open.as_object_mut().unwrap().remove("direct_response");
        open.as_object_mut()
            .unwrap()
            .extend(action.as_object().unwrap().clone());
        let report = check_envoy(&bootstrap(filter(json!({})), json!([open])));
        assert_eq!(texts(&report.errors), [""; 0]);
        texts(&report.warnings)
    };
    let warning = format!(
        "{MANAGER}.route_config.virtual_hosts[0].routes[0]: produces, and does not fail closed: give it a \
         direct_response of 503, so that a filter that is missing never looks like a success"
    );
    let upstream = json!({"route": {"cluster": "other"}});
    let produces = told(json!({"topic": "t"}), upstream.clone());
    assert_eq!(produces.as_slice(), std::slice::from_ref(&warning));
    assert_eq!(
        told(json!({"topic": "t"}), json!({"direct_response": {"status": 200}})),
        [warning]
    );
    assert_eq!(
        told(json!({"topic": "t"}), json!({"direct_response": {"status": 503}})),
        [""; 0]
    );
    assert_eq!(
        told(json!({"topic": "t", "then": "continue"}), upstream.clone()),
        [""; 0]
    );
    assert_eq!(told(json!({}), upstream), [""; 0]);
}

#[test]
fn a_cluster_without_endpoints_is_closed_too() {
    let told = |cluster: Json| {
        let mut open = route(json!({"topic": "t"}));
        open.as_object_mut().unwrap().remove("direct_response");
        open["route"] = json!({"cluster": "behind"});
        let mut tree = bootstrap(filter(json!({})), json!([open]));
        let mut named = json!({"name": "behind"});
        named
            .as_object_mut()
            .unwrap()
            .extend(cluster.as_object().unwrap().clone());
        tree["static_resources"]["clusters"]
            .as_array_mut()
            .unwrap()
            .push(named);
        check_envoy(&tree).warnings.len()
    };
    let endpoint = json!({"endpoint": {"address": {"pipe": {"path": "s"}}}});
    assert_eq!(told(json!({})), 0);
    assert_eq!(
        told(json!({"type": "STATIC", "load_assignment": {"endpoints": []}})),
        0
    );
    assert_eq!(
        told(json!({"load_assignment": {"endpoints": [{"lb_endpoints": []}]}})),
        0
    );
    assert_eq!(
        told(json!({"load_assignment": {"endpoints": [{"lb_endpoints": [endpoint]}]}})),
        1
    );
    assert_eq!(told(json!({"type": "EDS"})), 1);
    assert_eq!(told(json!({"cluster_type": {"name": "x"}})), 1);
}

#[test]
fn the_shipped_configuration_is_one_that_works() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../envoy.yaml");
    let yaml = std::fs::read_to_string(path).unwrap();
    let report = check_envoy(&serde_saphyr::from_str(&yaml).unwrap());
    assert_eq!((texts(&report.errors), texts(&report.warnings)), (vec![], vec![]));
    assert_eq!(report.filters, 1);
    assert!(report.produce_routes > 0);
}

#[test]
fn a_sidecar_cluster_that_is_not_there_is_told_once() {
    let routes = json!([
        route(json!({"topic": "a"})),
        route(json!({"topic": "b"})),
        route(json!({"topic": "c", "sidecar_cluster": "sluice"}))
    ]);
    let mut tree = bootstrap(filter(json!({"sidecar_cluster": "side"})), routes);
    let path = format!("{MANAGER}.route_config.virtual_hosts[0].routes[0]");
    let warning = format!("{path}: sends records to the cluster \"side\", which this file does not have");
    assert_eq!(texts(&check_envoy(&tree).warnings), [warning]);
    tree["dynamic_resources"] = json!({"cds_config": {"ads": {}}});
    assert_eq!(texts(&check_envoy(&tree).warnings), [""; 0]);
}

#[test]
fn routes_that_are_elsewhere_are_named_as_unchecked() {
    let mut tree = bootstrap(filter(json!({"sidecar_cluster": "side"})), json!([]));
    let manager = tree
        .pointer_mut("/static_resources/listeners/0/filter_chains/0/filters/0/typed_config")
        .unwrap();
    manager.as_object_mut().unwrap().remove("route_config");
    manager["rds"] = json!({"route_config_name": "r"});
    assert_eq!(
        texts(&check_envoy(&tree).warnings),
        [
            format!("{MANAGER}: its routes are not in this file (no route_config), and are not checked"),
            format!(
                "{MANAGER}.http_filters[0].typed_config.config: sends records to the cluster \"side\", which this \
                 file does not have"
            ),
        ]
    );
    let mut tree = bootstrap(filter(json!({})), json!([]));
    let host = tree.pointer_mut("/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0").unwrap();
    host["matcher"] = json!({"matcher_tree": {}});
    assert_eq!(
        texts(&check_envoy(&tree).warnings),
        [format!(
            "{MANAGER}.route_config.virtual_hosts[0].matcher: the routes of a matcher tree are not checked"
        )]
    );
}
