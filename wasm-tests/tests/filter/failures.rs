//! What goes wrong, and that the answer says no more than what is known.

use std::time::Duration;

use serde_json::json;
use sluice_proto::v1::{ErrorClass, Fate, ProduceReply, TopicFate};
use wasm_tests::{Host, Opening, Outcome, Request, failed, failed_as, stored};

use crate::common::{
    SOON, arrived, assert_error, host, open, orders, refuse, reply, reply_within, store, stored_reply, with,
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn every_class_is_answered_by_the_one_table() {
    let mut host = open(json!({}));
    for class in sluice_proto::class::ALL {
        let id = host.send(Request::post("/").json("{}"));
        let sent = arrived(&mut host, 1).remove(0);
        refuse(&mut host, &sent, class);
        let reply = host.reply(id);
        assert_error(&reply, class);
        assert_eq!(reply.json()["error"], "because", "{reply}");
    }
}

#[test]
fn a_class_from_the_future_claims_nothing() {
    let mut host = open(json!({}));
    for class in [0, 13, 9999, -1] {
        let id = host.send(Request::post("/").json("{}"));
        let sent = arrived(&mut host, 1).remove(0);
        host.answer(&sent, vec![failed_as(class, "news")]);
        assert_error(&host.reply(id), ErrorClass::OutcomeUnknown);
    }
}

#[test]
fn a_fate_that_says_nothing_claims_nothing() {
    let mut host = open(json!({"topics": ["a", "b"]}));
    let nothing = TopicFate { result: None };
    for fate in [
        vec![],
        vec![nothing.clone()],
        vec![nothing.clone(), nothing.clone()],
        // One topic only, of two.
        vec![stored(0, 1)],
        vec![stored(0, 1), nothing],
    ] {
        let id = host.send(Request::post("/").json("{}"));
        let sent = arrived(&mut host, 1).remove(0);
        host.answer(&sent, fate.clone());
        let reply = host.reply(id);
        assert!(
            reply.status == 504 || reply.code() == "partly_stored",
            "{fate:?}: {reply}"
        );
    }
}

#[test]
fn a_record_that_was_refused_as_a_whole_has_one_failure_for_all_topics() {
    let mut host = open(json!({"topics": ["a", "b"]}));
    let id = host.send(Request::post("/").json("{}"));
    let sent = arrived(&mut host, 1).remove(0);
    host.answer(
        &sent,
        vec![failed(ErrorClass::RouteMisconfigured, "no such cluster")],
    );
    assert_error(&host.reply(id), ErrorClass::RouteMisconfigured);
}

#[test]
fn past_its_deadline_a_request_is_answered_504_and_the_late_ack_is_nobodys() {
    let mut host = open(json!({"answer_timeout": 200}));
    let id = host.send(Request::post("/").json("{}"));
    let sent = arrived(&mut host, 1).remove(0);
    host.advance(Duration::from_millis(150));
    assert_eq!(host.outcome(id), Outcome::Waiting);
    // Ticks are at most 50 ms apart.
    assert_error(
        &reply_within(&mut host, id, Duration::from_millis(110)),
        ErrorClass::OutcomeUnknown,
    );
    store(&mut host, &sent, 1);
    store(&mut host, &sent, 1);
    let (next, _) = stored_reply(&mut host, Request::post("/").json("{}"));
    assert_eq!(next.status, 200);
}

#[test]
fn when_the_stream_ends_the_sent_are_unknown_and_the_unsent_are_not_stored() {
    let mut host = open(json!({"value": "body"}));
    let mut sent_ids = Vec::new();
    let mut unsent_ids = Vec::new();
    let before = host.sent().len();
    assert_eq!(before, 0);
    for n in 0..50 {
        let id = host.send(Request::post("/").body(n.to_string()));
        match host.sent().is_empty() {
            false => sent_ids.push(id),
            true => unsent_ids.push(id),
        }
    }
    assert!(
        !sent_ids.is_empty() && !unsent_ids.is_empty(),
        "{} {}",
        sent_ids.len(),
        unsent_ids.len()
    );
    let stream = host.stream();
    host.sidecar_closes(stream, 14);
    for id in sent_ids {
        assert_error(&host.reply(id), ErrorClass::OutcomeUnknown);
    }
    for id in unsent_ids {
        assert_error(&host.reply(id), ErrorClass::SidecarUnavailable);
    }
    assert!(host.sent().is_empty());
}

#[test]
fn past_the_bound_on_records_requests_are_answered_503_until_there_is_room() {
    let mut host = open(json!({"stream": {"max_outstanding_records": 3}}));
    let ids: Vec<_> = (0..3).map(|_| host.send(Request::post("/").json("{}"))).collect();
    let full = host.send(Request::post("/").json("{}"));
    assert_error(
        &reply_within(&mut host, full, Duration::from_millis(1)),
        ErrorClass::BufferFull,
    );
    let sent = arrived(&mut host, 3);
    assert!(ids.iter().all(|id| host.outcome(*id) == Outcome::Waiting));
    store(&mut host, &sent[1], 1);
    let (reply, _) = stored_reply(&mut host, Request::post("/").json("{}"));
    assert_eq!(reply.status, 200);
}

#[test]
fn past_the_bound_on_bytes_too() {
    let mut host = open(json!({"value": "body", "stream": {"max_outstanding_bytes": 10_000}}));
    let held = host.send(Request::post("/").body(vec![b'x'; 6_000]));
    let sent = arrived(&mut host, 1).remove(0);
    let full = host.send(Request::post("/").body(vec![b'x'; 6_000]));
    assert_error(&reply(&mut host, full), ErrorClass::BufferFull);
    store(&mut host, &sent, 1);
    assert_eq!(host.reply(held).status, 200);
    let (reply, _) = stored_reply(&mut host, Request::post("/").body(vec![b'x'; 6_000]));
    assert_eq!(reply.status, 200);
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

#[test]
fn a_reply_that_cannot_be_read_is_the_end_of_that_stream() {
    let mut host = open(json!({}));
    let id = host.send(Request::post("/").json("{}"));
    let sent = arrived(&mut host, 1).remove(0);
    host.sidecar_writes(sent.stream, vec![0xff; 7]);
    assert_error(&reply(&mut host, id), ErrorClass::OutcomeUnknown);
    // A late fate on it is nobody's.
    store(&mut host, &sent, 1);
    let next = host.send(Request::post("/").json("{}"));
    let again = arrived(&mut host, 1).remove(0);
    assert_ne!(again.stream, sent.stream);
    store(&mut host, &again, 1);
    assert_eq!(host.reply(next).status, 200);
}

#[test]
fn fates_of_records_that_do_not_exist_are_nobodys() {
    let mut host = open(json!({}));
    let id = host.send(Request::post("/").json("{}"));
    let sent = arrived(&mut host, 1).remove(0);
    let strangers = [0, sent.record.id + 1, u64::MAX, 1 << 33]
        .into_iter()
        .filter(|id| *id != sent.record.id)
        .map(|id| Fate {
            id,
            topics: vec![stored(0, 1)],
        });
    host.sidecar_says(
        sent.stream,
        &ProduceReply {
            fates: strangers.collect(),
            drain: false,
        },
    );
    assert_eq!(host.outcome(id), Outcome::Waiting);
    // The same fate twice, in one message.
    let fate = Fate {
        id: sent.record.id,
        topics: vec![stored(0, 1)],
    };
    host.sidecar_says(
        sent.stream,
        &ProduceReply {
            fates: vec![fate.clone(), fate],
            drain: false,
        },
    );
    assert_eq!(host.reply(id).status, 200);
    host.sidecar_writes(sent.stream, vec![]);
    assert_eq!(
        stored_reply(&mut host, Request::post("/").json("{}")).0.status,
        200
    );
}

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
fn without_stop_iteration_in_envoys_configuration_a_body_is_never_seen() {
    // Envoy keeps the body from the filter until the filter lets the request go: the request hangs. It must not be
    // taken for one without a body.
    let mut host = Host::builder(&orders(json!({"value": "body"})))
        .without_stop_iteration()
        .start()
        .unwrap();
    let id = host.send(Request::post("/").body("body"));
    host.advance(SECOND);
    assert!(host.sent().is_empty());
    assert!(matches!(host.outcome(id), Outcome::Waiting | Outcome::Replied(_)));
    // Without a body there is nothing to wait for.
    assert_eq!(stored_reply(&mut host, Request::post("/")).0.status, 200);
}

#[test]
fn the_sidecar_may_be_gone_between_any_two_requests() {
    let mut host = host();
    for round in 0..30_u64 {
        let id = host.send(Request::post("/").json("{}"));
        host.advance(Duration::from_millis(round % 4));
        for stream in host.streams().into_iter().filter(|s| s.is_open()) {
            host.sidecar_closes(stream.token, 14);
        }
        let reply = reply_within(&mut host, id, 11 * SECOND);
        let was_sent = !host.sent().is_empty();
        let class = if was_sent {
            ErrorClass::OutcomeUnknown
        } else {
            ErrorClass::SidecarUnavailable
        };
        assert_error(&reply, class);
        host.advance(SECOND * 3);
    }
}

/// More requests than Envoy's stack could answer within one callback.
const MANY: usize = 2_000;

/// That many requests whose records the sidecar has.
fn many(settings: serde_json::Value) -> (Host, Vec<wasm_tests::Id>, Vec<wasm_tests::Sent>) {
    let mut host = open(settings);
    let ids = (0..MANY)
        .map(|_| host.send(Request::post("/").body("x")))
        .collect();
    let sent = arrived(&mut host, MANY);
    (host, ids, sent)
}

/// All of them get an answer of that status before long.
fn all_answered(host: &mut Host, ids: &[wasm_tests::Id], status: u32) {
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
    let fates = sent
        .iter()
        .map(|one| Fate {
            id: one.record.id,
            topics: vec![stored(0, 1)],
        })
        .collect();
    host.sidecar_says(sent[0].stream, &ProduceReply { fates, drain: false });
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
    let fates = sent
        .iter()
        .map(|one| Fate {
            id: one.record.id,
            topics: vec![stored(0, 1)],
        })
        .collect();
    host.sidecar_says(sent[0].stream, &ProduceReply { fates, drain: false });
    host.advance(SECOND);
    for id in ids {
        assert!(matches!(host.outcome(id), Outcome::Forwarded(_)));
        host.upstream_answers(id, 204);
    }
}
