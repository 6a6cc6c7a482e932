//! What holds for any request.

use proptest::prelude::*;
use proptest::sample::select;
use prost::Message as _;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use sluice_filter::record::Reject;
use sluice_proto::v1::{Delivery, Header, ProduceRequest, Record};

use crate::harness::{Headers, encode_of_client, encode_parsed, json_value, route};

/// Routes that between them use everything.
fn configs() -> Vec<Value> {
    let everything = json!({
        "topic": "t", "topics_query_arg": "to", "allowed_topics": ["a", "b"],
        "forward_method": true, "forward_uri": true, "forward_headers": true,
        "credential_headers": ["cookie"], "json_content_types": ["application/*+json"],
        "headers": {"forward_all_by_default": true, "repeated_headers_behavior": "concatenate_by_comma"},
        "key": {"query": "k"}, "partition": {"cookie": "p"}
    });
    vec![
        json!({}),
        everything,
        json!({"value": "body", "key": {"path_segment": 1}, "headers": {"forward_all_by_default": true, "repeated_headers_behavior": "take_first"}}),
        json!({"key": {"json_pointer": "/a/0"}}),
        json!({"cloudevents": "binary", "key": {"header": "ce-k"}}),
        json!({"cloudevents": "structured", "key": {"header": "ce-k"}}),
        json!({"value": "none"}),
    ]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<Vec<u8>>(),
        any::<String>().prop_map(String::into_bytes),
        "[ -~]{0,12}".prop_map(String::into_bytes)
    ]
}

fn header() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let name = select(vec![
        "x",
        "y",
        "host",
        "cookie",
        "authorization",
        "traceparent",
        "content-encoding",
        "ce-k",
        "ce-id",
        "content-type",
        "",
        "\u{e9}",
    ]);
    (
        name,
        prop_oneof![bytes(), Just(b"p=1; q".to_vec()), Just(b"identity".to_vec())],
    )
        .prop_map(|(name, value)| (name.as_bytes().to_vec(), value))
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let pieces = select(vec![
        "{",
        "}",
        "[1]",
        "\"a\":",
        "{\"a\":[1]}",
        "\"",
        ",",
        "\\u00e9",
        "--b\r\n",
        "--b--\r\n",
        "Content-Disposition: form-data; name=a\r\n\r\n",
        "filename=",
        "a=1&",
        "%ff",
        "+",
        "\n",
        "{\"specversion\":\"1.0\",\"id\":\"i\",\"source\":\"s\",\"type\":\"t\"}",
    ]);
    prop_oneof![
        bytes(),
        proptest::collection::vec(pieces, 0..8).prop_map(|pieces| pieces.concat().into_bytes())
    ]
}

/// Any request, with an eye to what the filter looks at.
fn request() -> impl Strategy<Value = (Headers, Vec<u8>)> {
    let content_type = select(vec![
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=b",
        "multipart/form-data",
        "text/plain",
        "application/octet-stream",
        "application/cloudevents+json",
        "application/a+json",
        ";=\"",
    ]);
    let event = select(vec![false, true]);
    (
        bytes(),
        bytes(),
        content_type,
        event,
        proptest::collection::vec(header(), 0..8),
        body(),
    )
        .prop_map(|(method, path, content_type, event, others, body)| {
            let mut headers: Headers = vec![
                (b":method".to_vec(), method),
                (b":path".to_vec(), [b"/p/", &path[..], b"?k=1"].concat()),
                (b":authority".to_vec(), b"h".to_vec()),
                (b"content-type".to_vec(), content_type.into()),
            ];
            if event {
                for attribute in ["specversion", "source", "type"] {
                    headers.push((format!("ce-{attribute}").into_bytes(), b"1.0".to_vec()));
                }
            }
            headers.extend(others);
            (headers, body)
        })
}

fn encoded(config: &Value, request: &(Headers, Vec<u8>)) -> Result<Vec<u8>, Reject> {
    let mut out = Vec::new();
    encode_parsed(&mut out, 1, &route(config), request).map(|_| out)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_request_becomes_a_canonical_record_or_is_refused_in_words(request in request()) {
        for config in configs() {
            match encoded(&config, &request) {
                Ok(bytes) => {
                    let decoded = ProduceRequest::decode(&bytes[..]).unwrap();
                    prop_assert_eq!(decoded.records.len(), 1);
                    prop_assert_eq!(decoded.encode_to_vec(), bytes, "what another encoder writes");
                }
                Err(reject) => {
                    prop_assert!(!reject.error.is_empty() && reject.error.len() < 300, "{}", reject.error);
                    prop_assert!(reject.error.chars().all(|c| !c.is_control()), "{}", reject.error);
                }
            }
        }
    }

    #[test]
    fn an_envelope_is_json_whatever_is_in_it(request in request()) {
        for config in [&configs()[0], &configs()[1]] {
            if let Ok(bytes) = encoded(config, &request) {
                let record = ProduceRequest::decode(&bytes[..]).unwrap().records.remove(0);
                let value = std::str::from_utf8(record.value.as_deref().unwrap()).unwrap();
                let parsed = serde_json::from_str::<IgnoredAny>(value);
                prop_assert!(parsed.is_ok(), "{} in {}", parsed.unwrap_err(), value);
            }
        }
    }

    #[test]
    fn a_record_holds_what_the_request_held(
        id in any::<u64>(),
        key in proptest::option::of(any::<Vec<u8>>()),
        partition in proptest::option::of(0..=i32::MAX),
        others in proptest::collection::vec(("[a-z]{1,9}", any::<Vec<u8>>()), 0..6),
        body in any::<Vec<u8>>(),
        body_repeats in select(vec![1, 40, 2000]),
        buffered in any::<bool>(),
        cluster in "[a-z]{0,5}",
        client in any::<u64>(),
    ) {
        let body = body.repeat(body_repeats);
        let mut config = json!({
            "topics": ["a", "b"], "value": "body", "producer_async": buffered, "spool_on_outage": buffered, "answer_timeout": 70_000, "producer": "p",
            "key": {"header": "key-header"}, "partition": {"header": "partition-header"},
            "headers": {"forward_all_by_default": true, "exclude_headers": ["key-header", "partition-header", "cookie"]}
        });
        if !cluster.is_empty() {
            config["cluster_name"] = json!(cluster);
        }
        let mut headers: Headers = vec![(b":method".to_vec(), b"PUT".to_vec())];
        headers.extend(others.iter().map(|(n, v)| (n.clone().into_bytes(), v.clone())));
        headers.extend(key.iter().map(|key| (b"key-header".to_vec(), key.clone())));
        headers.extend(partition.iter().map(|p| (b"partition-header".to_vec(), p.to_string().into_bytes())));
        let expected = Record {
            id,
            cluster,
            producer: "p".into(),
            topics: vec!["a".into(), "b".into()],
            key: key.map(Into::into),
            partition,
            headers: others.iter().map(|(n, v)| Header { name: n.clone(), value: Some(v.clone()) }).collect(),
            timestamp_ms: None,
            delivery: if buffered { Delivery::Buffered } else { Delivery::Acked }.into(),
            spool_on_outage: buffered,
            idempotency: None,
            client,
            bearer_token: String::new(),
            template: None,
            reply_to: None,
            withdrawn: false,
            deadline_ms: 70_000,
            value: Some(body.clone().into()),
        };
        let mut out = Vec::new();
        encode_of_client(&mut out, id, &route(&config), &(headers, body), client).unwrap();
        prop_assert_eq!(ProduceRequest::decode(&out[..]).unwrap().records, vec![expected]);
    }

    #[test]
    fn json_text_passes_verbatim(value in json_object(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let envelope = json_value(&json!({}), format!("POST /\ncontent-type: application/json\n\n{text}"));
        let expected = format!(r#"{{"body":{},"body_args":{text}}}"#, serde_json::to_string(&text).unwrap());
        prop_assert_eq!(envelope, expected);
    }
}

fn json_object() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(4, 30, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..5)
                .prop_map(|map| map.into_iter().collect()),
        ]
    });
    proptest::collection::btree_map(any::<String>(), value, 0..5).prop_map(|map| map.into_iter().collect())
}

#[test]
fn encodings_that_follow_one_another_are_one_request() {
    let route = route(&json!({"value": "body"}));
    let mut out = Vec::new();
    for id in 0..5 {
        let body = vec![b'x'; 100 * usize::try_from(id).unwrap()];
        encode_parsed(&mut out, id, &route, &(Vec::new(), body)).unwrap();
    }
    let records = ProduceRequest::decode(&out[..]).unwrap().records;
    assert_eq!(
        records
            .iter()
            .map(|r| (r.id, r.value.as_ref().unwrap().len()))
            .collect::<Vec<_>>(),
        [(0, 0), (1, 100), (2, 200), (3, 300), (4, 400)]
    );
}
