//! CloudEvents 1.0, in both modes.

use bytes::Bytes;
use serde_json::{Value, json};
use sluice_proto::class::ErrorClass::InvalidRequest;

use crate::harness::{check_refused, headers_of, json_value, record};

const BINARY: &str = "POST /\nce-specversion: 1.0\nce-id: 1-2\nce-source: /s\nce-type: com.example.t";

const STRUCTURED: &str =
    r#"{"specversion":"1.0","id":"1-2","source":"/s","type":"t","partitionkey":"p\u00e9","data":{"a":1}}"#;

fn binary() -> Value {
    json!({"cloudevents": "binary"})
}

fn structured() -> Value {
    json!({"cloudevents": "structured"})
}

fn structured_request(content_type: &str, body: &str) -> String {
    format!("POST /\ncontent-type: {content_type}\n\n{body}")
}

#[test]
fn binary_mode_maps_attributes_to_record_headers_and_keeps_the_body() {
    let request = format!(
        "{BINARY}\nce-subject: Euro%20%E2%82%AC\nx: 1\ncontent-type: application/json; charset=utf-8\n\n{{broken"
    );
    let record = record(&binary(), request).unwrap();
    assert_eq!(
        headers_of(&record),
        r"ce_specversion=1.0 ce_id=1-2 ce_source=/s ce_type=com.example.t ce_subject=Euro \xe2\x82\xac content-type=application/json; charset=utf-8"
    );
    assert_eq!(record.value, Some("{broken".into()));
}

#[test]
fn what_the_binding_maps_is_not_carried_twice() {
    let config = json!({"cloudevents": "binary", "headers": {"forward_all_by_default": true, "exclude_headers": ["host"]}});
    let record = record(
        &config,
        format!("{BINARY}\nx: 1\ntraceparent: p\ncontent-type: text/plain\n\nhi"),
    )
    .unwrap();
    assert_eq!(
        headers_of(&record),
        "x=1 traceparent=p ce_specversion=1.0 ce_id=1-2 ce_source=/s ce_type=com.example.t content-type=text/plain"
    );
}

#[test]
fn an_event_without_data_has_no_value_and_one_with_empty_data_an_empty_one() {
    assert_eq!(record(&binary(), BINARY).unwrap().value, None);
    let empty = format!("{BINARY}\ncontent-type: text/plain");
    assert_eq!(record(&binary(), empty).unwrap().value, Some(Bytes::new()));
}

#[test]
fn required_attributes_must_be_there() {
    for name in ["specversion", "id", "source", "type"] {
        let without = BINARY
            .split('\n')
            .filter(|line| !line.starts_with(&format!("ce-{name}")))
            .collect::<Vec<_>>()
            .join("\n");
        for config in [binary(), structured()] {
            check_refused(
                config.clone(),
                &without,
                InvalidRequest,
                &format!(
                    "CloudEvents: the request has neither the header ce-{name} nor an event as its body (application/cloudevents+json)"
                ),
            );
            check_refused(
                config,
                format!("{without}\nce-{name}: \n\nx"),
                InvalidRequest,
                &format!("CloudEvents: the header ce-{name} is empty"),
            );
        }
    }
}

#[test]
fn only_version_1_0_is_taken() {
    check_refused(
        binary(),
        BINARY.replace("1.0", "0.3"),
        InvalidRequest,
        "CloudEvents: specversion is `0.3`, not `1.0`",
    );
    let event = STRUCTURED.replace("1.0", "2.0");
    check_refused(
        structured(),
        structured_request("application/cloudevents+json", &event),
        InvalidRequest,
        "CloudEvents: specversion is `2.0`, not `1.0`",
    );
}

#[test]
fn attributes_that_cannot_be_are_refused() {
    for (header, error) in [
        ("ce-id: 2", "CloudEvents: the header `ce-id` came more than once"),
        (
            "ce-x: %C0%A0",
            "CloudEvents: the header `ce-x` is, once decoded, not UTF-8 without control characters",
        ),
        (
            "ce-x_y: 1",
            "CloudEvents: `ce-x_y` must not be a header: attributes are named with a-z and 0-9 only",
        ),
        (
            "ce-: 1",
            "CloudEvents: `ce-` must not be a header: attributes are named with a-z and 0-9 only",
        ),
        (
            "ce-data: 1",
            "CloudEvents: `ce-data` must not be a header: the body and content-type say it",
        ),
        (
            "ce-datacontenttype: a/b",
            "CloudEvents: `ce-datacontenttype` must not be a header: the body and content-type say it",
        ),
    ] {
        check_refused(binary(), format!("{BINARY}\n{header}"), InvalidRequest, error);
    }
}

#[test]
fn a_refusal_quotes_no_more_than_the_beginning_of_a_long_name() {
    let (name, shown) = (
        format!("ce-{}", "x".repeat(1000)),
        format!("`ce-{}…`", "x".repeat(37)),
    );
    for (headers, error) in [
        (
            format!("{name}: %ff"),
            format!("CloudEvents: the header {shown} is, once decoded, not UTF-8 without control characters"),
        ),
        (
            format!("{name}: 1\n{name}: 2"),
            format!("CloudEvents: the header {shown} came more than once"),
        ),
    ] {
        check_refused(binary(), format!("{BINARY}\n{headers}"), InvalidRequest, &error);
    }
}

#[test]
fn a_structured_event_passes_unchanged_in_either_mode() {
    for config in [binary(), structured()] {
        for body in [STRUCTURED.to_owned(), format!("\u{feff} {STRUCTURED}\n")] {
            let content_type = "application/cloudevents+json; charset=UTF-8";
            let record = record(&config, structured_request(content_type, &body)).unwrap();
            assert_eq!(headers_of(&record), format!("content-type={content_type}"));
            assert_eq!(record.value, Some(Bytes::from(body)));
        }
    }
}

#[test]
fn a_structured_event_must_be_one() {
    for (body, error) in [
        ("[]", "CloudEvents: the body is not a JSON object"),
        (
            "",
            "the body is not JSON: expected a value at line 1, column 1 (byte 0, the end of the text)",
        ),
        ("{}", "CloudEvents: the event has no string specversion"),
        (
            r#"{"specversion":"1.0","id":1}"#,
            "CloudEvents: the event has no string id",
        ),
        (
            r#"{"specversion":"1.0","id":""}"#,
            "CloudEvents: the event's id is empty",
        ),
        (
            r#"{"specversion":"1.0","id":"1","source":"s"}"#,
            "CloudEvents: the event has no string type",
        ),
    ] {
        let request = structured_request("Application/CloudEvents+JSON", body);
        check_refused(structured(), request, InvalidRequest, error);
    }
    check_refused(
        structured(),
        format!("POST /\ncontent-type: application/cloudevents+json\ncontent-encoding: gzip\n\n{STRUCTURED}"),
        InvalidRequest,
        "CloudEvents: the body has a content-encoding; send a structured event without one",
    );
}

#[test]
fn batches_and_other_formats_are_refused() {
    for content_type in [
        "application/cloudevents-batch+json",
        "application/cloudevents+avro",
        "application/cloudevents",
    ] {
        check_refused(
            binary(),
            structured_request(content_type, "[]"),
            InvalidRequest,
            "CloudEvents: of the event formats only application/cloudevents+json is taken, one event a request",
        );
    }
}

/// The event that a binary-mode request with those headers and body becomes.
fn event(headers: &str, body: &str) -> String {
    let request = format!("{BINARY}{headers}\n\n{body}");
    let record = record(&structured(), &request).unwrap();
    assert_eq!(
        headers_of(&record),
        "content-type=application/cloudevents+json; charset=UTF-8"
    );
    let event = json_value(&structured(), &request);
    let attributes = r#"{"specversion":"1.0","id":"1-2","source":"/s","type":"com.example.t""#;
    event.strip_prefix(attributes).expect("the attributes").to_owned()
}

#[test]
fn structured_mode_makes_one_json_text_of_a_binary_event() {
    assert_eq!(
        event("\ncontent-type: application/json", "{ \"n\": 1.0 }\n"),
        r#","datacontenttype":"application/json","data":{ "n": 1.0 }}"#
    );
    assert_eq!(
        event("\ncontent-type: a/b+json;x=1", "7"),
        r#","datacontenttype":"a/b+json;x=1","data":7}"#
    );
    assert_eq!(
        event("\ncontent-type: text/plain", "a\"b"),
        r#","datacontenttype":"text/plain","data":"a\"b"}"#
    );
    assert_eq!(
        event("\ncontent-type: image/png", "a"),
        r#","datacontenttype":"image/png","data_base64":"YQ=="}"#
    );
    assert_eq!(event("", "a"), r#","data_base64":"YQ=="}"#);
    assert_eq!(
        event("\ncontent-type: application/json", ""),
        r#","datacontenttype":"application/json"}"#
    );
    assert_eq!(event("\nce-ext: %22q%22", ""), r#","ext":"\"q\""}"#);
}

#[test]
fn data_that_is_not_what_its_type_says_is_refused() {
    check_refused(
        structured(),
        format!("{BINARY}\ncontent-type: application/json\n\n{{"),
        InvalidRequest,
        "the body is not JSON: expected a member's name in quotes at line 1, column 2 (byte 1, the end of the text)",
    );
    check_refused(
        structured(),
        format!("{BINARY}\ncontent-type: application/json\ncontent-encoding: gzip\n\nx"),
        InvalidRequest,
        "CloudEvents: the body has a content-encoding; send a structured event without one",
    );
}

#[test]
fn a_key_named_as_an_attribute_is_found_in_either_mode() {
    let config = json!({"cloudevents": "binary", "key": {"header": "ce-partitionkey"}});
    let key = |request: String| record(&config, request).unwrap().key;
    assert_eq!(
        key(format!("{BINARY}\nce-partitionkey: p%C3%A9")),
        Some("pé".into())
    );
    assert_eq!(
        key(structured_request("application/cloudevents+json", STRUCTURED)),
        Some("pé".into())
    );
    assert_eq!(key(BINARY.to_owned()), None);
    let config = json!({"cloudevents": "structured", "key": {"json_pointer": "/data/a"}});
    let record = record(
        &config,
        structured_request("application/cloudevents+json", STRUCTURED),
    )
    .unwrap();
    assert_eq!(record.key, Some("1".into()));
    let config = json!({"cloudevents": "binary", "key": {"json_pointer": "/a"}});
    let request = |more: &str| format!("{BINARY}\ncontent-type: a/b+json{more}\n\n{{\"a\":2}}");
    assert_eq!(
        crate::harness::record(&config, request("")).unwrap().key,
        Some("2".into())
    );
    assert!(crate::harness::record(&config, request("\ncontent-encoding: gzip")).is_err());
}

#[test]
fn a_tombstone_needs_no_attributes() {
    let config = json!({"cloudevents": "binary", "value_by_method": {"DELETE": "none"}});
    let record = record(&config, "DELETE /x").unwrap();
    assert_eq!((record.value, record.headers.len()), (None, 0));
}

#[test]
fn events_are_ordinary_requests_where_they_are_not_looked_for() {
    let config = json!({"headers": {"include_headers": ["ce-id"]}});
    let record = record(&config, format!("{BINARY}\ncontent-type: text/plain\n\nhi")).unwrap();
    assert_eq!(headers_of(&record), "ce-id=1-2");
    assert_eq!(record.value, Some(r#"{"body":"hi","body_args":{}}"#.into()));
}
