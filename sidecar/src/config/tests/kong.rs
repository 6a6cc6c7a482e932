//! Kong's `kafka-upstream` and `kafka-log`: configurations as Kong's documentation has them
//! (<https://developer.konghq.com/plugins/kafka-upstream/>, its examples and its reference), each field where it goes.

use serde_json::{Map, Value, json};
use sluice_filter::config::FilterConfig;

use super::*;

/// The fields that go to a cluster, under the same names.
const CLUSTER: [&str; 3] = ["bootstrap_servers", "security", "authentication"];

/// The fields that go to a profile, under the same names.
const PROFILE: [&str; 10] = [
    "timeout",
    "keepalive",
    "producer_request_acks",
    "producer_request_timeout",
    "producer_request_limits_messages_per_request",
    "producer_request_limits_bytes_per_request",
    "producer_request_retries_max_attempts",
    "producer_request_retries_backoff_timeout",
    "producer_async_flush_timeout",
    "producer_async_buffering_limits_messages_in_memory",
];

/// The id of a certificate.
const ID: &str = "38fbf6a1-1c58-4dea-a391-85abf1b92f13";

/// Both configurations that a plugin's `config` becomes, nothing in it changed: the sidecar's, and the filter's.
fn split(config: &Value) -> (Value, Value) {
    let (mut cluster, mut profile, mut filter) = (Map::new(), Map::new(), Map::new());
    for (field, value) in config.as_object().unwrap() {
        let place = match field.as_str() {
            name if CLUSTER.contains(&name) => &mut cluster,
            name if PROFILE.contains(&name) => &mut profile,
            _ => &mut filter,
        };
        place.insert(field.clone(), value.clone());
    }
    // A plugin without brokers has them from elsewhere; here they have to be somewhere.
    let brokers = json!([{"host": "localhost", "port": 9092}]);
    cluster.entry("bootstrap_servers").or_insert(brokers);
    cluster.insert("allowed_topics".to_owned(), json!(["*"]));
    let name = config["cluster_name"].as_str().unwrap_or("kong");
    let keystores = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/keystores");
    let file = |name: &str| json!({"file": keystores.join(name)});
    let sidecar = json!({
        "clusters": {name: cluster},
        "producers": {"default": profile},
        "certificates": [{"id": ID, "cert": file("chain.pem"), "key": file("key.pem")}],
    });
    (sidecar, Value::Object(filter))
}

/// The properties of librdkafka that a configuration comes to, the cluster's and the profile's.
fn properties(config: &Value) -> Result<BTreeMap<String, String>, String> {
    let (sidecar, filter) = split(config);
    let route = FilterConfig::from_tree(&filter).map_err(|problems| lines(&problems))?;
    assert!(
        route.resolve(None, b"").unwrap().is_some(),
        "{filter} names no topic"
    );
    let loaded = load(&sidecar.to_string(), env(&[])).map_err(|problems| lines(&problems))?;
    let cluster = loaded.config.clusters.into_values().next().unwrap();
    let mut all = BTreeMap::from([(
        "bootstrap.servers".to_owned(),
        cluster.bootstrap_servers.join(","),
    )]);
    let profile = loaded.config.producers["default"].properties.clone();
    for (name, value) in cluster.properties.into_iter().chain(profile) {
        all.insert(name, value.expose().to_owned());
    }
    Ok(all)
}

fn login(mechanism: &str) -> Value {
    json!({"strategy": "sasl", "mechanism": mechanism, "user": "u", "password": "p", "tokenauth": false})
}

/// A configuration, and some of what it comes to.
#[track_caller]
fn check(config: &Value, expected: &[(&str, &str)]) {
    let found = properties(config).unwrap_or_else(|problems| panic!("{config}: {problems}"));
    for (name, value) in expected {
        let got = found.get(*name).map(String::as_str);
        assert_eq!(got, Some(*value), "{name} of {config}");
    }
}

#[test]
fn brokers_and_the_fields_of_a_route() {
    check(&json!({"topic": "t"}), &[("bootstrap.servers", "localhost:9092")]);
    let everything = json!({
        "topic": "t", "bootstrap_servers": [{"host": "a", "port": 9093}, {"host": "b", "port": 9094}],
        "cluster_name": "eu", "topics_query_arg": "topic-list", "allowed_topics": ["t1", "t2"],
        "forward_method": true, "forward_uri": true, "forward_headers": true, "forward_body": true,
        "key_query_arg": "key", "producer_async": true,
    });
    check(&everything, &[("bootstrap.servers", "a:9093,b:9094")]);
    let listed = json!({
        "forward_http_headers_as_record_headers": true, "forward_all_by_default": false,
        "include_headers": ["x-request-id", "x-tenant-id"],
        "name_mappings": {"x-request-id": "trace-id", "x-tenant-id": "tenant"},
        "repeated_headers_behavior": "concatenate_by_comma",
    });
    let all_but = json!({
        "forward_http_headers_as_record_headers": true, "forward_all_by_default": true,
        "exclude_headers": ["authorization", "cookie"], "repeated_headers_behavior": "retain_duplicates",
    });
    for headers in [listed, all_but] {
        check(&json!({"topic": "t", "headers": headers}), &[]);
    }
}

#[test]
fn security_and_authentication() {
    let security = |security: Value| json!({"topic": "t", "security": security});
    check(&security(json!({"ssl": true})), &[("security.protocol", "SSL")]);
    check(
        &security(json!({"ssl": true, "ssl_verify": false})),
        &[("enable.ssl.certificate.verification", "false")],
    );
    let mtls = security(json!({"ssl": true, "certificate_id": ID}));
    check(&mtls, &[("security.protocol", "SSL")]);
    let found = properties(&mtls).unwrap();
    for name in ["ssl.key.pem", "ssl.certificate.pem"] {
        assert!(found.contains_key(name), "{name}");
    }
    for wrong in [
        json!({"certificate_id": ID}),
        json!({"ssl": true, "certificate_id": "other"}),
    ] {
        let told = properties(&security(wrong)).unwrap_err();
        assert!(told.contains("security.certificate_id"), "{told}");
    }
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let plain = json!({"topic": "t", "authentication": login(mechanism)});
        let expected = [
            ("security.protocol", "SASL_PLAINTEXT"),
            ("sasl.mechanism", mechanism),
            ("sasl.username", "u"),
            ("sasl.password", "p"),
        ];
        check(&plain, &expected);
        let encrypted = json!({"topic": "t", "authentication": login(mechanism), "security": {"ssl": true}});
        check(
            &encrypted,
            &[("security.protocol", "SASL_SSL"), ("sasl.mechanism", mechanism)],
        );
    }
}

#[test]
fn the_producers_settings() {
    let config = json!({
        "topic": "t", "timeout": 10000, "keepalive": 60000, "producer_request_acks": 1,
        "producer_request_timeout": 2000, "producer_request_limits_messages_per_request": 200,
        "producer_request_limits_bytes_per_request": 1_048_576, "producer_request_retries_max_attempts": 10,
        "producer_request_retries_backoff_timeout": 100, "producer_async_flush_timeout": 1000,
        "producer_async_buffering_limits_messages_in_memory": 50000,
    });
    let expected = [
        ("socket.timeout.ms", "10000"),
        ("connections.max.idle.ms", "60000"),
        ("acks", "1"),
        ("request.timeout.ms", "2000"),
        ("batch.num.messages", "200"),
        ("batch.size", "1048576"),
        ("retries", "10"),
        ("retry.backoff.ms", "100"),
        ("linger.ms", "1000"),
    ];
    check(&config, &expected);
    let written: Vec<&String> = config.as_object().unwrap().keys().collect();
    assert!(PROFILE.iter().all(|name| written.iter().any(|one| one == name)));
}

/// What is shown to the brokers and is no property of librdkafka's.
#[test]
fn tokens() {
    let found = |authentication: Value| {
        let (sidecar, _) =
            split(&json!({"topic": "t", "cluster_name": "main", "authentication": authentication}));
        let config = load(&sidecar.to_string(), std::iter::empty()).map_err(|problems| lines(&problems));
        config.unwrap().config.clusters.remove("main").unwrap()
    };
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let mut token = login(mechanism);
        token["tokenauth"] = json!(true);
        let delegation = found(token).delegation.unwrap();
        assert_eq!((delegation.id.expose(), delegation.hmac.expose()), ("u", "p"));
        assert_eq!(delegation.hash == ScramHash::Sha256, mechanism == "SCRAM-SHA-256");
    }
    let issuer = found(
        json!({"strategy": "sasl", "mechanism": "OAUTHBEARER", "oauthbearer": {
            "token_endpoint_url": "https://issuer.example/token", "client_id": "id", "client_secret": "s",
            "scopes": ["kafka"], "token_endpoint_tls_verify": false,
        }}),
    );
    let Some(TokenSource::Oidc(issuer)) = issuer.token.map(|token| token.source) else {
        panic!("no issuer");
    };
    assert_eq!(issuer.endpoint().to_string(), "https://issuer.example/token");
}

#[test]
fn what_goes_elsewhere_or_does_not_exist_is_refused_with_a_word() {
    for (field, value) in [
        (
            "message_by_lua_functions",
            json!(["return function(message) return message end"]),
        ),
        ("custom_fields_by_lua", json!({"a": "return 1"})),
        ("schema_registry", json!({"confluent": {}})),
        ("compression_type", json!("lz4")),
    ] {
        let told = properties(&json!({"topic": "t", field: value})).unwrap_err();
        assert!(told.starts_with(&format!("{field}: does not ")), "{told}");
    }
}

/// What docs/kong.md says a plugin becomes is what it becomes.
#[test]
fn the_example_in_the_documentation_is_right() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kong.md");
    let page = std::fs::read_to_string(page).unwrap();
    let block = |first: &str| -> Value {
        let start = format!("```yaml\n# {first}\n");
        let rest = page.split_once(&*start).expect(first).1;
        yaml_tree(rest.split_once("```").unwrap().0).unwrap()
    };
    let config = &block("Kong")["config"];
    let (mut sidecar, filter) = split(config);
    assert_eq!(filter, block("the filter"));
    sidecar.as_object_mut().unwrap().remove("certificates");
    let mut written = block("sluice.yaml");
    let login = written
        .pointer_mut("/clusters/main/authentication/password")
        .unwrap();
    assert_eq!(*login, json!({"env": "KAFKA"}));
    *login = config["authentication"]["password"].clone();
    let topics = written.pointer_mut("/clusters/main/allowed_topics").unwrap();
    assert_eq!(*topics, json!([config["topic"]]));
    *topics = json!(["*"]);
    assert_eq!(sidecar, written);
}
