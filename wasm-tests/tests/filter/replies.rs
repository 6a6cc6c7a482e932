//! Routes with `reply`: the filter says what is waited for, and answers with what the sidecar says came of it.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_proto::v1::{Answer, AnswerKind, ErrorClass, Header, ReplyTo};
use wasm_tests::{Request, failed, stored};

use crate::common::{arrived, assert_error, open, reply_within};

fn settings(reply: Value) -> Value {
    json!({"value": "body", "answer_timeout": "2s", "reply": reply})
}

fn answer(kind: AnswerKind, status: u32, headers: &[(&str, &[u8])], body: &'static str) -> Answer {
    let header = |(name, value): &(&str, &[u8])| Header {
        name: (*name).to_owned(),
        value: Some(value.to_vec()),
    };
    Answer {
        kind: kind.into(),
        status,
        headers: headers.iter().map(header).collect(),
        body: body.into(),
    }
}

#[test]
fn what_a_request_prefers_goes_with_its_record() {
    let mut host = open(settings(
        json!({"topic": "replies", "wait": "3s", "max_wait": "20s"}),
    ));
    let rows: [(&[&str], u32, bool, bool); 7] = [
        (&[], 3000, false, false),
        (&["wait=10"], 10_000, true, false),
        (&["wait=100"], 20_000, true, false),
        (&["respond-async"], 0, false, true),
        (&["respond-async", "wait=4"], 4000, true, true),
        (&["wait=0"], 0, true, false),
        (&["wait=x, foo"], 3000, false, false),
    ];
    for (prefers, wait_ms, wait_preferred, respond_async) in rows {
        let mut request = Request::post("/").body("x");
        for value in prefers {
            request = request.header("prefer", value);
        }
        host.send(request);
        let sent = arrived(&mut host, 1).remove(0);
        assert!(sent.record.topics.is_empty(), "{:?}", sent.record);
        let expected = ReplyTo {
            topic: "replies".to_owned(),
            wait_ms,
            wait_preferred,
            respond_async,
            correlation_id: Vec::new(),
            topics: vec!["orders".to_owned()],
        };
        assert_eq!(sent.record.reply_to, Some(expected), "{prefers:?}");
        assert_eq!(sent.record.deadline_ms, 2000);
        host.answer(&sent, vec![failed(ErrorClass::BufferFull, "full")]);
    }
}

#[test]
fn the_answer_is_the_replys_with_where_the_record_is() {
    let mut host = open(settings(json!({"topic": "replies"})));
    let id = host.send(Request::post("/").body("x"));
    let sent = arrived(&mut host, 1).remove(0);
    let headers: [(&str, &[u8]); 2] = [("content-type", b"text/plain"), ("x-trace", b"\xe9")];
    let replied = answer(AnswerKind::Replied, 418, &headers, "tea");
    host.answer_with(&sent, vec![stored(1, 7)], replied);
    let reply = host.reply(id);
    assert_eq!((reply.status, &reply.body[..]), (418, &b"tea"[..]));
    assert_eq!(reply.header("content-type").as_deref(), Some("text/plain"));
    assert_eq!(reply.header("x-kafka-offset").as_deref(), Some("7"));
    assert!(reply.header("x-trace").is_some());
    for (kind, status) in [(AnswerKind::Pending, 202), (AnswerKind::NoReply, 504)] {
        let id = host.send(Request::post("/").body("x"));
        let sent = arrived(&mut host, 1).remove(0);
        let told = answer(kind, status, &[("location", b"/replies/abc")], "{}");
        host.answer_with(&sent, vec![stored(0, 1)], told);
        let reply = host.reply(id);
        assert_eq!(reply.status, status);
        assert_eq!(reply.header("location").as_deref(), Some("/replies/abc"));
    }
    // What a sidecar cannot mean.
    for (kind, status) in [
        (AnswerKind::Replied, 101),
        (AnswerKind::Replied, 600),
        (AnswerKind::Unspecified, 200),
    ] {
        let id = host.send(Request::post("/").body("x"));
        let sent = arrived(&mut host, 1).remove(0);
        host.answer_with(&sent, vec![stored(0, 1)], answer(kind, status, &[], "x"));
        assert_error(&host.reply(id), ErrorClass::OutcomeUnknown);
    }
    let id = host.send(Request::post("/").body("x"));
    let sent = arrived(&mut host, 1).remove(0);
    host.answer(&sent, vec![failed(ErrorClass::UnknownTopic, "no such topic")]);
    assert_error(&host.reply(id), ErrorClass::UnknownTopic);
}

#[test]
fn the_filter_waits_as_long_as_the_request_does() {
    let mut host = open(settings(json!({"topic": "replies", "wait": "5s"})));
    let id = host.send(Request::post("/").body("x"));
    let sent = arrived(&mut host, 1).remove(0);
    host.advance(Duration::from_millis(6500));
    host.answer_with(
        &sent,
        vec![stored(0, 1)],
        answer(AnswerKind::Replied, 200, &[], "late"),
    );
    assert_eq!(&host.reply(id).body[..], b"late");
    // And no longer: a sidecar that says nothing is one that does not answer.
    let id = host.send(Request::post("/").body("x"));
    arrived(&mut host, 1);
    assert_error(
        &reply_within(&mut host, id, Duration::from_secs(8)),
        ErrorClass::OutcomeUnknown,
    );
}

#[test]
fn the_sidecar_is_told_when_nobody_waits_any_more() {
    let mut host = open(settings(json!({"topic": "replies"})));
    let gone = host.send(Request::post("/").body("x"));
    let sent = arrived(&mut host, 1).remove(0);
    host.leave(gone);
    let told = arrived(&mut host, 1).remove(0);
    assert_eq!((told.record.id, told.record.withdrawn), (sent.record.id, true));
    assert_eq!(told.stream, sent.stream);
    host.answer(&sent, vec![stored(0, 1)]);
    // A route that waits for no reply says nothing.
    let mut host = open(json!({"value": "body"}));
    let gone = host.send(Request::post("/").body("x"));
    arrived(&mut host, 1);
    host.leave(gone);
    host.advance(Duration::from_millis(500));
    assert!(host.sent().is_empty());
}

#[test]
fn a_client_may_bring_its_own_id() {
    let mut host = open(settings(
        json!({"topic": "replies", "correlation_id": {"header": "x-id"}}),
    ));
    for (value, id) in [(Some("order-1"), "order-1"), (None, "")] {
        let mut request = Request::post("/").body("x");
        if let Some(value) = value {
            request = request.header("x-id", value);
        }
        host.send(request);
        let sent = arrived(&mut host, 1).remove(0);
        let asked = sent.record.reply_to.clone().expect("a reply");
        assert_eq!(asked.correlation_id, id.as_bytes());
        host.answer(&sent, vec![failed(ErrorClass::BufferFull, "full")]);
    }
    for value in ["", &"x".repeat(256)] {
        let id = host.send(Request::post("/").header("x-id", value).body("x"));
        assert_error(&host.reply(id), ErrorClass::InvalidRequest);
    }
    assert!(host.sent().is_empty());
}
