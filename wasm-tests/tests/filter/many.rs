//! Many requests at once: clients that leave, answers that come together, and memory.

use std::time::Duration;

use serde_json::json;
use sluice_proto::v1::{ErrorClass, Fate, ProduceReply};
use wasm_tests::{Host, Id, Opening, Outcome, Request, Sent, stored};

use crate::common::{
    SOON, arrived, assert_error, open, orders, reply, reply_within, store, stored_reply, with,
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_client_may_leave_at_any_time() {
    let mut host = open(json!({"value": "body"}));
    // Before its body is complete.
    let id = host.open(Request::post("/"), false);
    host.body(id, b"half", false);
    host.leave(id);
    assert_eq!(host.outcome(id), Outcome::Left);
    host.advance(SECOND / 10);
    assert!(host.sent().is_empty(), "half a request is no record");

    // While its record is under way; then the fate comes.
    let id = host.send(Request::post("/").body("whole"));
    let sent = arrived(&mut host, 1).remove(0);
    host.leave(id);
    store(&mut host, &sent, 1);
    assert_eq!(host.outcome(id), Outcome::Left);

    // While it is gathered.
    let ids: Vec<_> = (0..20).map(|_| host.send(Request::post("/").body("x"))).collect();
    for id in &ids {
        host.leave(*id);
    }
    host.advance(SECOND / 10);
    for sent in host.sent() {
        store(&mut host, &sent, 1);
    }
    // While nobody greets.
    let stream = host.stream();
    host.sidecar_closes(stream, 14);
    host.sidecar().on_open(Opening::Silent);
    let id = host.send(Request::post("/").body("x"));
    host.until(SOON, "a stream", |host| {
        host.streams().last().is_some_and(|s| s.is_open())
    });
    host.leave(id);
    let stream = host.stream();
    host.sidecar_greets(stream);
    host.sidecar().on_open(Opening::Accept);
    assert_eq!(
        stored_reply(&mut host, Request::post("/").body("x")).0.status,
        200
    );
}

#[test]
fn a_storm_of_clients_that_hang_up_harms_nobody_else() {
    let mut host = with(json!({"value": "body"}));
    for round in 0..40 {
        let ids: Vec<_> = (0..200)
            .map(|n| host.send(Request::post("/").body(format!("{round} {n}"))))
            .collect();
        if round % 2 == 0 {
            host.advance(Duration::from_millis(2));
        }
        for id in ids.iter().filter(|id| *id % 7 != 0) {
            host.leave(*id);
        }
        host.advance(Duration::from_millis(2));
        for sent in host.sent() {
            store(&mut host, &sent, 1);
        }
        for id in ids.iter().filter(|id| *id % 7 == 0) {
            assert_eq!(reply(&mut host, *id).status, 200, "round {round}");
        }
    }
    assert_eq!(
        stored_reply(&mut host, Request::post("/").body("next")).0.status,
        200
    );
    assert_eq!(host.open_requests(), 0);
}

#[test]
fn memory_does_not_grow_with_the_number_of_requests() {
    let mut host = with(json!({}));
    host.sidecar().store_all();
    let round = |host: &mut Host| {
        for _ in 0..20 {
            for _ in 0..100 {
                host.send(Request::post("/").json(r#"{"n":1}"#));
            }
            host.advance(SECOND / 10);
        }
        assert_eq!(host.sent().len(), 2_000);
    };
    round(&mut host);
    let before = host.memory_bytes();
    for _ in 0..4 {
        round(&mut host);
    }
    assert_eq!(host.memory_bytes(), before);
}

#[test]
fn a_record_that_nobody_waits_for_any_more_still_counts() {
    let mut host = open(json!({"stream": {"max_outstanding_records": 2}}));
    for _ in 0..2 {
        let id = host.send(Request::post("/").json("{}"));
        host.leave(id);
    }
    host.advance(Duration::from_millis(5));
    let full = host.send(Request::post("/").json("{}"));
    let sent = host.sent();
    if sent.len() == 2 {
        // Both were sent: Envoy may still hold them.
        assert_error(&reply(&mut host, full), ErrorClass::BufferFull);
        store(&mut host, &sent[0], 1);
        let (reply, _) = stored_reply(&mut host, Request::post("/").json("{}"));
        assert_eq!(reply.status, 200);
    } else {
        panic!("{sent:?}");
    }
}

/// More requests than Envoy's stack could answer within one callback.
const MANY: usize = 2_000;

/// That many requests whose records the sidecar has.
fn many(settings: serde_json::Value) -> (Host, Vec<Id>, Vec<Sent>) {
    let mut host = open(settings);
    let ids = (0..MANY)
        .map(|_| host.send(Request::post("/").body("x")))
        .collect();
    let sent = arrived(&mut host, MANY);
    (host, ids, sent)
}

/// The sidecar says in one message that all of them are stored.
fn store_all(host: &mut Host, sent: &[Sent]) {
    let fates = sent
        .iter()
        .map(|one| Fate {
            id: one.record.id,
            topics: vec![stored(0, 1)],
            ..Default::default()
        })
        .collect();
    host.sidecar_says(sent[0].stream, &ProduceReply { fates, drain: false });
}

/// All of them get an answer of that status before long.
fn all_answered(host: &mut Host, ids: &[Id], status: u32) {
    for id in ids {
        assert_eq!(reply_within(host, *id, SECOND).status, status);
    }
    assert_eq!(host.open_requests(), 0);
    let left = host.tick_period();
    host.advance(SECOND);
    assert_eq!(host.tick_period(), None, "{left:?}");
}

#[test]
fn a_reply_may_hold_any_number_of_fates() {
    let (mut host, ids, sent) = many(json!({"value": "body"}));
    store_all(&mut host, &sent);
    // Some clients leave before it is their turn.
    let (leaving, staying) = ids.split_at(MANY / 2);
    for id in leaving.iter().rev().take(MANY / 4) {
        host.leave(*id);
    }
    all_answered(&mut host, staying, 200);
    all_answered(&mut host, &leaving[..MANY / 4], 200);
}

#[test]
fn a_stream_may_end_with_any_number_of_records_outstanding() {
    let (mut host, ids, sent) = many(json!({"value": "body"}));
    host.sidecar_closes(sent[0].stream, 14);
    all_answered(&mut host, &ids, 504);
}

#[test]
fn any_number_of_deadlines_may_pass_at_once() {
    let (mut host, ids, _) = many(json!({"value": "body", "answer_timeout": 1_000}));
    host.advance(SECOND);
    all_answered(&mut host, &ids, 504);
}

#[test]
fn any_number_of_requests_may_wait_for_a_sidecar_that_is_not_there() {
    let mut host = Host::builder(&orders(json!({"value": "body"})))
        .opening(Opening::Silent)
        .start()
        .unwrap();
    let ids: Vec<_> = (0..MANY)
        .map(|_| host.send(Request::post("/").body("x")))
        .collect();
    host.until(SOON, "a stream", |host| !host.streams().is_empty());
    let stream = host.stream();
    host.sidecar_closes(stream, 14);
    all_answered(&mut host, &ids, 503);
}

#[test]
fn any_number_of_requests_may_go_on_at_once() {
    let (mut host, ids, sent) = many(json!({"value": "body", "then": "continue"}));
    store_all(&mut host, &sent);
    host.advance(SECOND);
    for id in ids {
        assert!(matches!(host.outcome(id), Outcome::Forwarded(_)));
        host.upstream_answers(id, 204);
    }
}
