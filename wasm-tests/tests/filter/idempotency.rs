//! Idempotency keys: the filter passes them on, and says of an answer that it is an earlier one's.

use serde_json::json;
use sluice_proto::idempotency::fingerprint;
use sluice_proto::v1::ErrorClass;
use wasm_tests::{Outcome, Request, accepted, failed, stored};

use crate::common::{arrived, assert_error, open, reply, stored_reply, with};

#[test]
fn a_key_goes_with_the_record_and_a_repeat_says_that_it_is_one() {
    let mut host = open(json!({"value": "body", "idempotency": {"window": "1m"}}));
    let request = || {
        Request::post("/a?b=c")
            .header("idempotency-key", "\"k\"")
            .body("x")
    };
    let (first, sent) = stored_reply(&mut host, request());
    let asked = sent.record.idempotency.expect("a key");
    assert_eq!(asked.key, "k");
    let print = fingerprint([&b"POST"[..], b"/a?b=c", b"x"]);
    assert_eq!(asked.fingerprint, &print[..]);
    assert_eq!(asked.window_ms, 60_000);
    assert_eq!((first.status, first.header("idempotent-replayed")), (200, None));

    let id = host.send(request());
    let sent = arrived(&mut host, 1).remove(0);
    host.replay(&sent, vec![stored(0, 7)]);
    let again = host.reply(id);
    assert_eq!((again.status, again.json()), (first.status, first.json()));
    assert_eq!(again.header("x-kafka-offset"), first.header("x-kafka-offset"));
    assert_eq!(again.header("idempotent-replayed").as_deref(), Some("true"));

    let id = host.send(request());
    let sent = arrived(&mut host, 1).remove(0);
    host.replay(&sent, vec![accepted()]);
    let accepted = host.reply(id);
    assert_eq!(accepted.status, 202);
    assert_eq!(accepted.header("idempotent-replayed").as_deref(), Some("true"));

    let id = host.send(request());
    let sent = arrived(&mut host, 1).remove(0);
    host.answer(
        &sent,
        vec![failed(ErrorClass::IdempotencyKeyReused, "another body")],
    );
    assert_error(&host.reply(id), ErrorClass::IdempotencyKeyReused);
}

#[test]
fn what_is_no_key_is_answered_at_once_and_sends_nothing() {
    let mut host = with(json!({"idempotency": {"required": true}}));
    let long = "k".repeat(256);
    let bad = [Some(""), Some("\"k"), Some(long.as_str()), Some("k\u{e9}"), None];
    for key in bad {
        let mut request = Request::post("/").json("{}");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let id = host.send(request);
        assert_error(&reply(&mut host, id), ErrorClass::InvalidRequest);
    }
    assert!(host.sent().is_empty());
}

#[test]
fn a_route_without_it_passes_no_key_on() {
    let mut host = open(json!({}));
    let request = Request::post("/").header("idempotency-key", "k").json("{}");
    let (_, sent) = stored_reply(&mut host, request);
    assert_eq!(sent.record.idempotency, None);
}

/// A repeat that goes on to its upstream is a success like the first.
#[test]
fn a_repeat_continues_as_the_first_did() {
    let mut host = open(json!({"value": "body", "idempotency": {}, "then": "continue"}));
    let id = host.send(Request::post("/").header("idempotency-key", "k").body("x"));
    let sent = arrived(&mut host, 1).remove(0);
    host.replay(&sent, vec![stored(0, 7)]);
    assert!(matches!(host.outcome(id), Outcome::Forwarded(_)));
}
