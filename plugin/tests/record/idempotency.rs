//! The key under which a record is written once.

use serde_json::{Value as Json, json};
use sluice_proto::class::ErrorClass;
use sluice_proto::idempotency::fingerprint;
use sluice_proto::v1::Idempotency;

use crate::harness::{check_refused, record};

fn asked(config: Json, request: &str) -> Option<Idempotency> {
    record(&config, request).unwrap().idempotency
}

fn on() -> Json {
    json!({"value": "body", "idempotency": {}})
}

#[test]
fn a_route_that_does_not_turn_it_on_ignores_the_header() {
    assert_eq!(asked(json!({}), "POST /\nidempotency-key: a\n\nx"), None);
    assert_eq!(
        asked(json!({"idempotency": "none"}), "POST /\nidempotency-key: a\n\nx"),
        None
    );
}

#[test]
fn the_key_is_the_headers_and_the_window_the_routes() {
    let request = "POST /a?b=c\nidempotency-key: \"a b\"\n\nx";
    let expected = Idempotency {
        key: "a b".into(),
        fingerprint: fingerprint([&b"POST"[..], b"/a?b=c", b"x"]).to_vec().into(),
        window_ms: 0,
    };
    assert_eq!(asked(on(), request), Some(expected.clone()));
    let config = json!({"value": "body", "idempotency": {"header": "X-Once", "window": "1h"}});
    assert_eq!(asked(config.clone(), request), None);
    let renamed = asked(config, "POST /a?b=c\nx-once: a b\n\nx").unwrap();
    let hour = Idempotency {
        window_ms: 3_600_000,
        ..expected
    };
    assert_eq!(renamed, hour);
}

#[test]
fn method_path_query_and_body_make_another_request_and_nothing_else() {
    let print = |request: &str| asked(on(), request).unwrap().fingerprint;
    let first = print("POST /a?b=c\nidempotency-key: k\n\nx");
    for other in [
        "PUT /a?b=c\nidempotency-key: k\n\nx",
        "POST /b?b=c\nidempotency-key: k\n\nx",
        "POST /a?b=d\nidempotency-key: k\n\nx",
        "POST /a?b=c\nidempotency-key: k\n\ny",
    ] {
        assert_ne!(print(other), first, "{other}");
    }
    let again = "POST /a?b=c\nidempotency-key: k\ntraceparent: 00-1\ndate: now\ncookie: c\n\nx";
    assert_eq!(print(again), first);
    // The record itself differs: its envelope has the headers.
    let mut envelope = on();
    envelope["value"] = json!("envelope");
    envelope["forward_headers"] = json!(true);
    assert_eq!(asked(envelope, again).unwrap().fingerprint, first);
}

#[test]
fn what_is_no_key_is_refused() {
    let refused = |request: &str, error: &str| {
        check_refused(on(), request, ErrorClass::InvalidRequest, error);
    };
    refused("POST /\nidempotency-key:\n\nx", "idempotency-key: it is empty");
    refused(
        "POST /\nidempotency-key: \"a\n\nx",
        "idempotency-key: its closing quote is missing",
    );
    refused(
        "POST /\nidempotency-key: \u{e9}\n\nx",
        "idempotency-key: it is not printable ASCII",
    );
    let long = format!("POST /\nidempotency-key: {}\n\nx", "k".repeat(256));
    refused(&long, "idempotency-key: it has more than 255 bytes");
    refused(
        "POST /\nidempotency-key: a\nidempotency-key: a\n\nx",
        "idempotency-key is there more than once",
    );
    check_refused(
        json!({"idempotency": {"required": true}}),
        "POST /\n\nx",
        ErrorClass::InvalidRequest,
        "idempotency-key: it is required here and the request has none",
    );
    assert_eq!(asked(on(), "POST /\n\nx"), None);
}
