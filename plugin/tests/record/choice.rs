//! Topic, cluster, producer profile and key that a request chooses among those that the route lists.

use prost::Message as _;
use serde_json::{Value, json};
use sluice_filter::config::metadata;
use sluice_filter::record::{Reject, Topics, encode};
use sluice_filter::request::Head;
use sluice_proto::class::ErrorClass::{self, InvalidRequest, NotAuthorised, TooLarge, TopicNotAllowed};
use sluice_proto::v1::{ProduceRequest, Record};

use crate::harness::{encode_parsed, parse, record, route};

/// The record of a request that has dynamic metadata.
fn record_with(config: &Value, request: &str, dynamic: &[u8]) -> Result<Record, Reject> {
    let (headers, body) = parse(request.as_bytes());
    let headers: Vec<_> = headers.iter().map(|(n, v)| (&n[..], &v[..])).collect();
    let head = Head::new(&headers).with_metadata(dynamic);
    let mut out = Vec::new();
    encode(&mut out, 1, &route(config), &head, &body)?;
    Ok(ProduceRequest::decode(&out[..]).unwrap().records.remove(0))
}

/// A source, a request in which it says something, and how an error names it.
type Case = (Value, fn(&str) -> String, &'static str);

/// Every source.
fn sources() -> [Case; 6] {
    [
        (
            json!({"header": "X-Choice"}),
            |said| format!("POST /\nx-choice: {said}\nx-choice: second"),
            "the header x-choice",
        ),
        (
            json!({"query": "c"}),
            |said| format!("POST /?b=x&c={said}&c=second"),
            "the query argument c",
        ),
        (
            json!({"cookie": "c"}),
            |said| format!("POST /\ncookie: a=b; c={said}"),
            "the cookie c",
        ),
        (
            json!({"path": "/v1/*/{choice}/**"}),
            |said| format!("POST /v1/x/{said}/y/z?q"),
            "the path as /v1/*/{choice}/**",
        ),
        (
            json!({"path_segment": 1}),
            |said| format!("POST /x/{said}/y"),
            "segment 1 of the path",
        ),
        (
            json!({"json_pointer": "/a/0"}),
            |said| format!("POST /\ncontent-type: application/json\n\n{{\"a\":[\"{said}\"]}}"),
            "the JSON body at /a/0",
        ),
    ]
}

/// The source with the list and default of a choice.
fn choice(source: &Value, more: Value) -> Value {
    let mut choice = source.clone();
    choice
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    choice
}

/// What the record has of a field, and the class of an error where the request says something that is not listed.
type Field = (&'static str, fn(&Record) -> Vec<u8>, ErrorClass);

const FIELDS: [Field; 4] = [
    ("topic", |r| r.topics.join(",").into_bytes(), TopicNotAllowed),
    ("cluster_name", |r| r.cluster.clone().into_bytes(), NotAuthorised),
    ("producer", |r| r.producer.clone().into_bytes(), NotAuthorised),
    (
        "key",
        |r| r.key.as_deref().unwrap_or(b"none").to_vec(),
        NotAuthorised,
    ),
];

#[test]
fn each_field_is_chosen_by_each_source_among_what_is_listed() {
    for (field, got, class) in FIELDS {
        for (source, request, named) in sources() {
            let listed = json!({"allowed": ["other", "good"]});
            let config = json!({field: choice(&source, listed.clone())});
            let chosen = record(&config, request("good")).unwrap();
            assert_eq!(got(&chosen), b"good", "{config}");

            let refused = record(&config, request("secret")).unwrap_err();
            let error = format!("{field}: {named} says `secret`, which this route does not allow");
            assert_eq!((refused.class, refused.error), (class, error));

            let long = record(&config, request(&"x".repeat(5_000))).unwrap_err();
            assert_eq!(long.class, class);
            assert!(long.error.len() < 200, "{}", long.error);

            let missing = record(&config, "POST /").unwrap_err();
            let error = format!("{field}: {named} is missing, and this route has no default");
            assert_eq!((missing.class, missing.error), (InvalidRequest, error));

            let with_default = json!({"allowed": ["other", "good"], "default": "other"});
            let config = json!({field: choice(&source, with_default)});
            assert_eq!(got(&record(&config, "POST /").unwrap()), b"other", "{config}");
            assert_eq!(got(&record(&config, request("good")).unwrap()), b"good");
            let refused = record(&config, request("secret")).unwrap_err();
            assert_eq!(refused.class, class, "a default is for what is missing");
        }
    }
}

#[test]
fn each_field_is_chosen_by_dynamic_metadata() {
    let says = |value: Value| {
        metadata::encode_namespaces(&json!({"other": {"a": {"b": "x"}}, "ns": {"a": {"b": value}}}))
    };
    for (field, got, class) in FIELDS {
        let source = json!({"metadata": ["ns", "a", "b"]});
        let config = json!({field: choice(&source, json!({"allowed": ["good", "7", "true", "1.5"]}))});
        for (value, text) in [
            (json!("good"), "good"),
            (json!(7), "7"),
            (json!(true), "true"),
            (json!(1.5), "1.5"),
        ] {
            let chosen = record_with(&config, "POST /", &says(value)).unwrap();
            assert_eq!(got(&chosen), text.as_bytes(), "{config}");
        }
        let refused = record_with(&config, "POST /", &says(json!("secret"))).unwrap_err();
        let error =
            format!("{field}: the dynamic metadata ns.a.b says `secret`, which this route does not allow");
        assert_eq!((refused.class, refused.error), (class, error));

        let elsewhere = [
            Vec::new(),
            says(Value::Null),
            metadata::encode_namespaces(&json!({})),
            metadata::encode_namespaces(&json!({"other": {}})),
            metadata::encode_namespaces(&json!({"ns": {"a": "b"}})),
            metadata::encode_namespaces(&json!({"ns": {"a": {}}})),
        ];
        for dynamic in elsewhere {
            let missing = record_with(&config, "POST /", &dynamic).unwrap_err();
            let error =
                format!("{field}: the dynamic metadata ns.a.b is missing, and this route has no default");
            assert_eq!((missing.class, missing.error), (InvalidRequest, error));
        }
        for value in [json!({"c": 1}), json!(["good"])] {
            let wrong = record_with(&config, "POST /", &says(value)).unwrap_err();
            let error = format!(
                "{field}: the dynamic metadata ns.a.b is a mapping or list, not a string, number or boolean"
            );
            assert_eq!((wrong.class, wrong.error), (InvalidRequest, error));
        }
        let garbled = record_with(&config, "POST /", b"\xff\xff").unwrap_err();
        assert_eq!(garbled.class, InvalidRequest);
    }
}

#[test]
fn a_partition_may_come_from_the_path_and_from_metadata() {
    let config = json!({"partition": {"path": "/p/{n}"}});
    assert_eq!(record(&config, "POST /p/3").unwrap().partition, Some(3));
    assert_eq!(record(&config, "POST /q/3").unwrap().partition, None);
    let config = json!({"partition": {"metadata": ["ns", "n"]}});
    let dynamic = metadata::encode_namespaces(&json!({"ns": {"n": 4}}));
    let got = record_with(&config, "POST /", &dynamic).unwrap();
    assert_eq!(got.partition, Some(4));
}

#[test]
fn what_a_path_says_is_decoded() {
    let config = json!({"key": {"path": "/k/{key}"}});
    let key = |target: &str| record(&config, format!("POST {target}")).unwrap().key;
    assert_eq!(key("/k/a%2Fb+c").as_deref(), Some(&b"a/b+c"[..]));
    assert_eq!(key("/k/%ff").as_deref(), Some(&b"\xff"[..]));
    assert_eq!(key("/k/").as_deref(), None);
}

#[test]
fn nothing_that_is_not_listed_byte_by_byte_is_chosen() {
    let config = json!({"topic": {"query": "t", "allowed": ["orders"]}});
    for said in ["Orders", "orders%00", "%20orders", "orders,audit", "", "order"] {
        let refused = record(&config, format!("POST /?t={said}")).unwrap_err();
        assert_eq!(refused.class, TopicNotAllowed, "{said}");
    }
    assert_eq!(record(&config, "POST /?t=%6frders").unwrap().topics, ["orders"]);
}

#[test]
fn a_key_without_a_list_is_anything_up_to_its_bound() {
    let config = json!({"key": {"header": "k", "default": "d"}});
    let key = |said: &str| record(&config, format!("POST /\nk: {said}")).map(|record| record.key.unwrap());
    let longest = "x".repeat(65_536);
    assert_eq!(key(&longest).unwrap(), longest.as_bytes());
    let refused = key(&format!("{longest}x")).unwrap_err();
    let error = "key: the header k has 65537 bytes; a key has at most 65536";
    assert_eq!((refused.class, refused.error.as_str()), (TooLarge, error));
    assert_eq!(key("").unwrap(), "");
    let record = record(&config, "POST /").unwrap();
    assert_eq!(record.key.as_deref(), Some(&b"d"[..]));
}

#[test]
fn an_attribute_of_an_event_chooses_however_it_came() {
    let config = json!({"cloudevents": "binary", "topic": {"header": "ce-type", "allowed": ["a", "b"]}});
    let structured = "POST /\ncontent-type: application/cloudevents+json\n\n\
        {\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"s\",\"type\":\"b\",\"data\":1}";
    assert_eq!(record(&config, structured).unwrap().topics, ["b"]);
    let binary = "POST /\nce-specversion: 1.0\nce-id: 1\nce-source: s\nce-type: a\n\nx";
    assert_eq!(record(&config, binary).unwrap().topics, ["a"]);
}

#[test]
fn the_filter_is_told_the_topic_that_was_chosen() {
    let config = json!({"topic": {"query": "t", "allowed": ["a", "b"], "default": "a"}});
    let route = route(&config);
    let told = |request: &str| {
        let encoded = encode_parsed(&mut Vec::new(), 1, &route, &parse(request.as_bytes())).unwrap();
        (encoded.topics.clone(), encoded.topics.names(&route).to_vec())
    };
    assert_eq!(told("POST /?t=b"), (Topics::Chosen(1), vec!["b".to_owned()]));
    assert_eq!(told("POST /"), (Topics::Chosen(0), vec!["a".to_owned()]));
}

#[test]
fn metadata_is_asked_for_only_where_it_is_used() {
    let uses = |config: Value| route(&config).reads_metadata();
    let source = json!({"metadata": ["ns", "k"]});
    let listed = choice(&source, json!({"allowed": ["a"]}));
    for field in ["topic", "cluster_name", "producer"] {
        assert!(uses(json!({field: listed})), "{field}");
        assert!(
            !uses(json!({field: {"header": "x", "allowed": ["a"]}})),
            "{field}"
        );
        assert!(!uses(json!({field: "a"})), "{field}");
    }
    for field in ["key", "partition"] {
        assert!(uses(json!({field: source})), "{field}");
        assert!(!uses(json!({field: {"header": "x"}})), "{field}");
    }
    assert!(!uses(json!({})));
}
