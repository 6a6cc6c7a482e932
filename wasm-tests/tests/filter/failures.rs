//! What goes wrong, and that the answer says no more than what is known.

use std::time::Duration;

use serde_json::json;
use sluice_proto::v1::{ErrorClass, Fate, ProduceReply, TopicFate};
use wasm_tests::{Host, Outcome, Request, failed, failed_as, stored};

use crate::common::{
    arrived, assert_error, host, open, orders, refuse, reply, reply_within, store, stored_reply,
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
    for class in [0, 1000, 9999, -1] {
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
            replayed: false,
            answer: None,
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
        replayed: false,
        answer: None,
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
