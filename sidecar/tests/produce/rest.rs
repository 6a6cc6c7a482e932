//! The REST face.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;
use rdkafka::Message;
use rdkafka::message::Headers;
use serde_json::json;
use sluice_proto::v1::topic_fate::Result as Fated;
use sluice_proto::v1::{ErrorClass, ProduceReply, ProduceRequest, Record};

use crate::http::{self, Answer};
use crate::support::{Sidecar, config, failure, mock, profile, read, record, stored, text};

const ORDERS: &str = "/topics/orders/records";
const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");
const ARRAY: (&str, &str) = ("content-type", "application/vnd.sluice.records+json");

fn check_error(answer: &Answer, status: u16, code: &str) -> String {
    assert_eq!(answer.status.as_u16(), status, "{answer:?}");
    let body = answer.json();
    assert_eq!(body["code"], code, "{body}");
    assert!(
        body["message"]
            .as_str()
            .is_some_and(|message| !message.is_empty()),
        "{body}"
    );
    assert_eq!(answer.header("retry-after").is_some(), status == 503);
    body["error"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_body_is_the_value_and_headers_say_the_rest() {
    let mock = mock(&[("orders", 3)]);
    let sidecar = Sidecar::on(&mock).await;
    let headers = [
        ("content-type", "application/json"),
        ("x-kafka-key", "k"),
        ("x-kafka-partition", "2"),
        ("x-kafka-timestamp", "1234"),
        ("x-kafka-header-a", "1"),
        ("x-kafka-header-a", "2"),
        ("x-kafka-header-base64-b", "/w=="),
    ];
    // An array is a value like any other: its media type is not that of records.
    let answer = http::post(&sidecar.url(ORDERS), &headers, "[1, 2]").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json(), json!({"message": "message sent"}));
    assert_eq!(answer.header("x-kafka-topic"), Some("orders"));
    assert_eq!(answer.header("x-kafka-partition"), Some("2"));
    assert_eq!(answer.header("x-kafka-offset"), Some("0"));
    let messages = read(&mock, "orders", 2, 1).await;
    assert_eq!(
        (text(&messages[0]).as_str(), messages[0].key()),
        ("[1, 2]", Some(&b"k"[..]))
    );
    let headers: Vec<(&str, Option<&[u8]>)> = messages[0]
        .headers()
        .unwrap()
        .iter()
        .map(|header| (header.key, header.value))
        .collect();
    assert_eq!(
        headers,
        [
            ("a", Some(&b"1"[..])),
            ("a", Some(&b"2"[..])),
            ("b", Some(&b"\xff"[..]))
        ]
    );
}

#[tokio::test]
async fn an_empty_body_is_an_empty_value_and_a_tombstone_is_asked_for() {
    let mock = mock(&[("orders", 1)]);
    let sidecar = Sidecar::on(&mock).await;
    let key = ("x-kafka-key-base64", "/w==");
    for headers in [&[key][..], &[key, ("x-kafka-tombstone", "true")]] {
        assert_eq!(http::post(&sidecar.url(ORDERS), headers, "").await.status, 200);
    }
    let messages = read(&mock, "orders", 0, 2).await;
    assert_eq!(
        (messages[0].key(), messages[0].payload()),
        (Some(&b"\xff"[..]), Some(&b""[..]))
    );
    assert_eq!(
        (messages[1].key(), messages[1].payload()),
        (Some(&b"\xff"[..]), None)
    );
}

/// Whatever a request calls its fields and topics, an error is a line that somebody can read.
#[tokio::test]
async fn what_an_error_quotes_of_a_request_is_bounded() {
    let mock = mock(&[("orders", 1)]);
    let sidecar = Sidecar::on(&mock).await;
    let long = "x".repeat(100_000);
    let (line, array) = (format!("{{\"{long}\":1}}"), format!("[{{\"{long}\":1}}]"));
    let (query, topic) = (&long[..5000], format!("/topics/{}/records", &long[..5000]));
    let rows = [
        (
            ORDERS,
            "",
            &[NDJSON][..],
            line.as_str(),
            400,
            "invalid_request",
            "line 1: unknown field",
        ),
        (
            ORDERS,
            "",
            &[ARRAY],
            &array,
            400,
            "invalid_request",
            "the body: unknown field",
        ),
        (ORDERS, query, &[], "v", 400, "invalid_request", "query: "),
        (&topic, "", &[], "v", 400, "invalid_request", "topic: "),
    ];
    for (path, query, headers, body, status, code, begin) in rows {
        let answer = http::post(&sidecar.url(&format!("{path}?{query}")), headers, body.to_owned()).await;
        let text = check_error(&answer, status, code);
        assert!(text.len() <= 500 && text.starts_with(begin), "{text}");
    }
}

#[tokio::test]
async fn what_does_not_add_up_is_refused_and_nothing_is_written() {
    let mock = mock(&[("orders", 1)]);
    let sidecar = Sidecar::on(&mock).await;
    type Row = (
        &'static str,
        &'static [(&'static str, &'static str)],
        &'static str,
        &'static str,
    );
    let rows: [Row; 17] = [
        ("", &[("x-kafka-partition", "two")], "x", "x-kafka-partition"),
        ("", &[("x-kafka-partition", "-1")], "x", "-1"),
        ("", &[("x-kafka-timestamp", "now")], "x", "x-kafka-timestamp"),
        (
            "",
            &[("x-kafka-key", "a"), ("x-kafka-key", "b")],
            "x",
            "more than once",
        ),
        (
            "",
            &[("x-kafka-key", "a"), ("x-kafka-key-base64", "YQ==")],
            "x",
            "both",
        ),
        ("", &[("x-kafka-key-base64", "???")], "x", "x-kafka-key-base64"),
        ("", &[("x-kafka-header-", "a")], "x", "no name"),
        ("", &[("x-kafka-tombstone", "true")], "x", "tombstone"),
        ("", &[("x-kafka-tombstone", "1")], "", "neither"),
        ("?delivery=later", &[], "x", "delivery"),
        ("?dlivery=buffered", &[], "x", "dlivery"),
        ("", &[NDJSON], "{\"value\":\"a\"}\n{\"value\":", "line 2"),
        ("", &[ARRAY], "[{\"value\":\"a\"},{\"key\":\"b\"}]", "record 2"),
        ("", &[ARRAY], "[]", "no record"),
        // A list of the fields' values is no object.
        ("", &[NDJSON], "[\"key\",\"value\"]", "line 1"),
        ("", &[ARRAY], "[[\"key\",\"value\"]]", "an object"),
        (
            "",
            &[NDJSON],
            "{\"value\":\"a\",\"headers\":[[\"a\",\"b\"]]}",
            "an object",
        ),
    ];
    for (query, headers, body, part) in rows {
        let answer = http::post(&sidecar.url(&format!("{ORDERS}{query}")), headers, body).await;
        let text = check_error(&answer, 400, "invalid_request");
        assert!(text.contains(part), "{part}: {text}");
    }
    let no_text = http::post(&sidecar.url("/topics/%ff/records"), &[], "x").await;
    assert!(check_error(&no_text, 400, "invalid_request").contains("UTF-8"));
    let cut_off = r#"{"value":"x","headers":[{"name":"a\u0000b","value":"1"}]}"#;
    let answer = http::post(&sidecar.url(ORDERS), &[NDJSON], cut_off).await;
    check_error(&answer, 400, "invalid_request");
    let why = answer.json()["results"][0]["error"].to_string();
    assert!(why.contains("zero byte"), "{why}");
    assert_eq!(
        http::post(&sidecar.url(ORDERS), &[], "x")
            .await
            .header("x-kafka-offset"),
        Some("0")
    );
}

#[tokio::test]
async fn errors_have_their_status_and_shape() {
    let mock = mock(&[("orders", 1)]);
    let mut config = config(&mock.bootstrap_servers());
    config.max_request_bytes = 100;
    let sidecar = Sidecar::start(config).await;
    let answer = http::post(&sidecar.url("/topics/nowhere/records"), &[], "x").await;
    assert!(check_error(&answer, 404, "unknown_topic").contains("nowhere"));
    let answer = http::post(&sidecar.url(ORDERS), &[], "x".repeat(101)).await;
    assert!(check_error(&answer, 413, "too_large").contains("100"));
    let answer = http::post(&sidecar.url(&format!("{ORDERS}?cluster_name=west")), &[], "x").await;
    assert!(check_error(&answer, 500, "route_misconfigured").contains("west"));
    check_error(
        &http::post(&sidecar.url("/elsewhere"), &[], "x").await,
        404,
        "not_found",
    );
    let put = hyper::Request::put(sidecar.url(ORDERS));
    let put = put.body(http_body_util::Full::default()).unwrap();
    check_error(&http::request(put).await.unwrap(), 405, "method_not_allowed");
}

#[tokio::test]
async fn a_full_buffer_says_when_to_come_again() {
    let mock = mock(&[("orders", 1)]);
    let mut config = config(&mock.bootstrap_servers());
    profile(&mut config).max_records = 0;
    let sidecar = Sidecar::start(config).await;
    let answer = http::post(&sidecar.url(ORDERS), &[], "x").await;
    check_error(&answer, 503, "buffer_full");
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn a_buffered_record_is_accepted() {
    let mock = mock(&[("orders", 1)]);
    let sidecar = Sidecar::on(&mock).await;
    let url = sidecar.url(&format!(
        "{ORDERS}?cluster_name=main&producer=default&delivery=buffered"
    ));
    let answer = http::post(&url, &[], "x").await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()),
        (202, json!({"message": "message accepted"}))
    );
    assert_eq!(answer.header("x-kafka-offset"), None);
    read(&mock, "orders", 0, 1).await;
}

#[tokio::test]
async fn a_client_may_say_how_long_it_waits() {
    let sidecar = Sidecar::start(config("127.0.0.1:1")).await;
    let answer = http::post(&sidecar.url(&format!("{ORDERS}?timeout_ms=200")), &[], "x").await;
    check_error(&answer, 503, "cluster_unavailable");
}

#[tokio::test]
async fn lines_and_arrays_carry_many_records_with_a_result_each() {
    let mock = mock(&[("orders", 1)]);
    let sidecar = Sidecar::on(&mock).await;
    let lines = r#"{"value":"a","key":"k","headers":[{"name":"h","value":"1"},{"name":"h","value":null}]}
        {"value":{"base64":"/w=="},"key":{"base64":"/g=="},"partition":0,"timestamp":5}

        {"json":{"b": 1.0, "a":[ ]}}
        {"value":null,"key":""}"#;
    let answer = http::post(&sidecar.url(ORDERS), &[NDJSON], lines).await;
    let result = |offset| json!({"topic": "orders", "status": 200, "partition": 0, "offset": offset});
    let results: Vec<_> = (0..4).map(result).collect();
    assert_eq!(
        answer.json(),
        json!({"message": "message sent", "results": results}),
        "{answer:?}"
    );
    let array = r#"[{"value":"x"},{"json":1},{"value":"y","partition":7}]"#;
    let answer = http::post(&sidecar.url(ORDERS), &[ARRAY], array).await;
    check_error(&answer, 502, "partly_stored");
    let results = &answer.json()["results"];
    assert_eq!((&results[0], &results[1]), (&result(4), &result(5)));
    assert_eq!(
        (&results[2]["status"], &results[2]["code"]),
        (&json!(404), &json!("unknown_topic"))
    );

    let messages = read(&mock, "orders", 0, 6).await;
    let seen: Vec<_> = messages.iter().map(|m| (m.key(), m.payload())).collect();
    type Seen = (Option<&'static [u8]>, Option<&'static [u8]>);
    let expected: [Seen; 6] = [
        (Some(b"k"), Some(b"a")),
        (Some(b"\xfe"), Some(b"\xff")),
        (None, Some(b"{\"b\": 1.0, \"a\":[ ]}")),
        (Some(b""), None),
        (None, Some(b"x")),
        (None, Some(b"1")),
    ];
    assert_eq!(seen, expected);
    let headers: Vec<_> = messages[0]
        .headers()
        .unwrap()
        .iter()
        .map(|h| (h.key, h.value))
        .collect();
    assert_eq!(headers, [("h", Some(&b"1"[..])), ("h", None)]);
}

#[tokio::test]
async fn null_is_json_and_no_tombstone() {
    let mock = mock(&[("orders", 1)]);
    let sidecar = Sidecar::on(&mock).await;
    let answer = http::post(
        &sidecar.url(ORDERS),
        &[ARRAY],
        r#"[{"json":null}, {"value":null}]"#,
    )
    .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let messages = read(&mock, "orders", 0, 2).await;
    assert_eq!(
        (messages[0].payload(), messages[1].payload()),
        (Some(&b"null"[..]), None)
    );
    let both = http::post(&sidecar.url(ORDERS), &[ARRAY], r#"[{"json":null,"value":null}]"#).await;
    assert!(check_error(&both, 400, "invalid_request").contains("both there"));
}

#[tokio::test]
async fn many_records_of_which_none_is_stored_have_the_class_of_one() {
    let mock = mock(&[]);
    let sidecar = Sidecar::on(&mock).await;
    let answer = http::post(&sidecar.url(ORDERS), &[ARRAY], r#"[{"value":"x"},{"value":"y"}]"#).await;
    check_error(&answer, 404, "unknown_topic");
    assert_eq!(answer.json()["results"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn the_contracts_own_messages_go_over_http_too() {
    let mock = mock(&[("orders", 1), ("audit", 1)]);
    let sidecar = Sidecar::on(&mock).await;
    let url = sidecar.url(ORDERS);
    let proto = ("content-type", "application/x-protobuf");
    let both = Record {
        topics: vec!["orders".to_owned(), "audit".to_owned()],
        ..record(9, "", "b")
    };
    let request = ProduceRequest {
        records: vec![record(7, "orders", "a"), both],
    };
    let answer = http::post(&url, &[proto], request.encode_to_vec()).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("content-type")),
        (200, Some("application/x-protobuf"))
    );
    let reply = ProduceReply::decode(answer.body).unwrap();
    let ids: Vec<(u64, usize)> = reply
        .fates
        .iter()
        .map(|fate| (fate.id, fate.topics.len()))
        .collect();
    assert_eq!(ids, [(7, 1), (9, 2)]);
    for fate in &reply.fates {
        fate.topics
            .iter()
            .for_each(|topic| assert_eq!(stored(topic.result.as_ref().unwrap()).0, 0));
    }
    // Failures are fates, not statuses.
    let request = ProduceRequest {
        records: vec![Record {
            cluster: "west".to_owned(),
            ..record(1, "orders", "a")
        }],
    };
    let answer = http::post(&url, &[proto], request.encode_to_vec()).await;
    let reply = ProduceReply::decode(answer.body).unwrap();
    let fated: &Fated = reply.fates[0].topics[0].result.as_ref().unwrap();
    assert_eq!(failure(fated).0, ErrorClass::RouteMisconfigured);
    // The path is what is routed and allowed by others: it must be true.
    let request = ProduceRequest {
        records: vec![record(1, "audit", "a")],
    };
    let answer = http::post(&url, &[proto], request.encode_to_vec()).await;
    assert!(check_error(&answer, 400, "invalid_request").contains("orders"));
    check_error(&http::post(&url, &[proto], "\u{7}").await, 400, "invalid_request");
}

#[tokio::test]
async fn every_frozen_request_is_stored_as_it_is_described() {
    let mock = mock(&[]);
    let mut config = config(&mock.bootstrap_servers());
    profile(&mut config).allow_auto_create_topics = true;
    let clusters = ["eu"].map(|name| (name.to_owned(), config.clusters["main"].clone()));
    config.clusters.extend(clusters);
    let profiles = ["fast"].map(|name| (name.to_owned(), config.producers["default"].clone()));
    config.producers.extend(profiles);
    let sidecar = Sidecar::start(config).await;
    let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/contract/v1"));
    for name in [
        "default_envelope",
        "everything",
        "tombstone",
        "empty_key",
        "partition_zero",
        "several_records",
    ] {
        let message = std::fs::read(folder.join(format!("produce_request_{name}.bin"))).unwrap();
        let request = ProduceRequest::decode(&message[..]).unwrap();
        let mut stream = sidecar.stream().await;
        stream.send(request.records.clone()).await;
        let fates = stream.fates(request.records.len()).await;
        for (id, topics) in fates {
            let sent = request.records.iter().find(|record| record.id == id).unwrap();
            assert_eq!(topics.len(), sent.topics.len(), "{name}");
            for (topic, fate) in sent.topics.iter().zip(&topics) {
                let (partition, offset) = match fate.result.as_ref().unwrap() {
                    Fated::Accepted(_) => continue,
                    fated => stored(fated),
                };
                let count = usize::try_from(offset).unwrap() + 1;
                let found = read(&mock, topic, partition, count).await.pop().unwrap();
                assert_eq!(
                    found.payload(),
                    sent.value.as_deref(),
                    "{name}: {}",
                    STANDARD.encode(&message)
                );
                assert_eq!(found.key(), sent.key.as_deref(), "{name}");
            }
        }
    }
}
