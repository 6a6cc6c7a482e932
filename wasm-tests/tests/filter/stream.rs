//! The stream to the sidecar: opened when needed, never written to before it may be, and left when it drains.

use std::time::Duration;

use serde_json::json;
use sluice_proto::v1::{ErrorClass, ProduceReply};
use wasm_tests::{Host, Opening, Outcome, Request, stored};

use crate::common::{
    SOON, arrived, assert_error, host, open, orders, reply, reply_within, store, stored_reply, with,
};

const SECOND: Duration = Duration::from_secs(1);

fn opening(opening: Opening, settings: serde_json::Value) -> Host {
    Host::builder(&orders(settings)).opening(opening).start().unwrap()
}

#[test]
fn a_worker_without_requests_opens_no_stream_and_does_not_tick() {
    let mut host = host();
    host.advance(SECOND * 60);
    assert!(host.streams().is_empty());
    assert_eq!(host.tick_period(), None);
}

#[test]
fn an_idle_stream_does_not_tick() {
    let mut host = open(json!({}));
    host.advance(SECOND * 60);
    assert_eq!(host.tick_period(), None);
    assert_eq!(host.streams().len(), 1, "and stays open");
}

#[test]
fn nothing_is_written_before_the_sidecars_greeting() {
    let mut host = opening(Opening::Silent, json!({}));
    let id = host.send(Request::post("/").json("{}"));
    host.until(SOON, "a stream", |host| !host.streams().is_empty());
    host.advance(SECOND / 2);
    assert!(host.sent().is_empty());
    let stream = host.stream();
    host.sidecar_greets(stream);
    let sent = arrived(&mut host, 1).remove(0);
    store(&mut host, &sent, 1);
    assert_eq!(host.reply(id).status, 200);
}

#[test]
fn a_sidecar_that_never_greets_gets_nothing() {
    let mut host = opening(Opening::Silent, json!({"answer_timeout": 500}));
    let id = host.send(Request::post("/").json("{}"));
    let reply = reply_within(&mut host, id, SECOND);
    assert_error(&reply, ErrorClass::SidecarUnavailable);
    host.advance(SECOND * 5);
    assert!(host.sent().is_empty());
}

#[test]
fn whoever_answers_without_the_sidecars_header_gets_nothing() {
    let mut host = opening(Opening::Stranger, json!({}));
    let id = host.send(Request::post("/").json("{}"));
    let reply = reply_within(&mut host, id, SECOND * 11);
    assert_error(&reply, ErrorClass::SidecarUnavailable);
    assert!(host.sent().is_empty());
}

#[test]
fn without_a_sidecar_requests_are_answered_at_once() {
    let mut host = opening(Opening::Refuse(14), json!({}));
    let id = host.send(Request::post("/").json("{}"));
    let first = reply_within(&mut host, id, Duration::from_millis(5));
    assert_error(&first, ErrorClass::SidecarUnavailable);
    // Attempts back off: a storm of requests is no storm of attempts.
    for _ in 0..1000 {
        let id = host.send(Request::post("/").json("{}"));
        assert_error(
            &reply_within(&mut host, id, Duration::from_millis(5)),
            ErrorClass::SidecarUnavailable,
        );
    }
    assert!(host.streams().len() < 100, "{}", host.streams().len());
    // It comes back, and the filter finds it without being told.
    host.sidecar().on_open(Opening::Accept);
    host.sidecar().store_all();
    host.until(SECOND * 10, "a success", |host| {
        let id = host.send(Request::post("/").json("{}"));
        reply(host, id).status == 200
    });
}

#[test]
fn a_cluster_that_envoy_does_not_have_is_an_answer_too() {
    let mut host = Host::builder(&orders(json!({"sidecar_cluster": "nowhere"})))
        .start()
        .unwrap();
    for _ in 0..3 {
        let id = host.send(Request::post("/").json("{}"));
        let reply = reply(&mut host, id);
        assert_error(&reply, ErrorClass::SidecarUnavailable);
    }
}

#[test]
fn the_sidecar_restarts_and_the_next_request_is_stored() {
    let mut host = open(json!({}));
    for round in 0..10 {
        let old = host.stream();
        host.sidecar_closes(old, [0, 13, 14][round % 3]);
        let (reply, sent) = stored_reply(&mut host, Request::post("/").json("{}"));
        assert_eq!(reply.status, 200);
        assert_ne!(sent.stream, old);
        host.advance(SECOND * 2);
    }
}

#[test]
fn a_sidecar_that_drains_gets_nothing_more_and_is_waited_for() {
    let mut host = open(json!({"value": "body"}));
    let before = host.send(Request::post("/").body("before"));
    let old = arrived(&mut host, 1).remove(0);
    host.sidecar_says(
        old.stream,
        &ProduceReply {
            fates: vec![],
            drain: true,
        },
    );

    let after = host.send(Request::post("/").body("after"));
    let new = arrived(&mut host, 1).remove(0);
    assert_ne!(new.stream, old.stream);
    store(&mut host, &new, 2);
    assert_eq!(host.reply(after).status, 200);

    assert_eq!(host.outcome(before), Outcome::Waiting);
    store(&mut host, &old, 1);
    assert_eq!(host.reply(before).status, 200);
    // The old stream owes nothing more: the filter ends it.
    host.advance(SECOND);
    let stream = host
        .streams()
        .into_iter()
        .find(|s| s.token == old.stream)
        .unwrap();
    assert!(stream.half_closed || stream.reset, "{stream:?}");
}

#[test]
fn a_drain_that_comes_with_the_last_fates_loses_none_of_them() {
    let mut host = open(json!({}));
    let id = host.send(Request::post("/").json("{}"));
    let sent = arrived(&mut host, 1).remove(0);
    let fates = vec![sluice_proto::v1::Fate {
        id: sent.record.id,
        topics: vec![stored(0, 9)],
        replayed: false,
        answer: None,
    }];
    host.sidecar_says(sent.stream, &ProduceReply { fates, drain: true });
    assert_eq!(host.reply(id).status, 200);
    let (reply, next) = stored_reply(&mut host, Request::post("/").json("{}"));
    assert_eq!(reply.status, 200);
    assert_ne!(next.stream, sent.stream);
}

#[test]
fn under_load_messages_carry_many_records() {
    let mut host = open(json!({"value": "body"}));
    let before = host.sidecar().batches().len();
    let ids: Vec<_> = (0..200)
        .map(|n| host.send(Request::post("/").body(n.to_string())))
        .collect();
    let sent = arrived(&mut host, 200);
    let messages = host.sidecar().batches().len() - before;
    assert!(messages <= 20, "{messages} messages for 200 records");
    for (n, one) in sent.iter().enumerate() {
        assert_eq!(
            one.record.value.as_deref(),
            Some(n.to_string().as_bytes()),
            "in order"
        );
        store(&mut host, one, 1);
    }
    for id in ids {
        assert_eq!(host.reply(id).status, 200);
    }
}

#[test]
fn a_lone_request_is_sent_at_once() {
    let mut host = open(json!({}));
    host.send(Request::post("/").json("{}"));
    // Without any time passing.
    assert_eq!(host.sent().len(), 1);
}

#[test]
fn a_record_larger_than_a_window_goes_in_one_message() {
    let mut host = Host::builder(&orders(json!({"value": "body", "max_body_bytes": 8 << 20})))
        .buffer_limit(8 << 20)
        .start()
        .unwrap();
    let body: Vec<u8> = (0..5 << 20).map(|n: u32| n.to_le_bytes()[0]).collect();
    let (reply, sent) = stored_reply(&mut host, Request::post("/").body(body.clone()));
    assert_eq!(reply.status, 200);
    assert!(sent.record.value.as_deref() == Some(&body[..]));
}

#[test]
fn routes_with_different_settings_share_one_stream() {
    let mut host = open(json!({}));
    let a = host.send(
        Request::post("/")
            .settings(json!({"topic": "a", "value": "body"}))
            .body("x"),
    );
    let b = host.send(
        Request::post("/")
            .settings(json!({"topic": "b", "delivery": "buffered"}))
            .json("{}"),
    );
    let c = host.send(
        Request::post("/")
            .settings(json!({"topics": ["c", "d"], "answer_timeout": 60_000}))
            .json("{}"),
    );
    let sent = arrived(&mut host, 3);
    assert!(sent.iter().all(|one| one.stream == sent[0].stream));
    let topics: Vec<_> = sent.iter().map(|one| one.record.topics.join("+")).collect();
    assert_eq!(topics, ["a", "b", "c+d"]);
    assert_eq!(sent[2].record.deadline_ms, 60_000);
    for one in sent.iter().rev() {
        store(&mut host, one, 5);
    }
    for (id, topic) in [(a, "a"), (b, "b")] {
        assert_eq!(host.reply(id).header("x-kafka-topic").as_deref(), Some(topic));
    }
    assert_eq!(host.reply(c).status, 200);
}

#[test]
fn two_sidecar_clusters_have_a_stream_each() {
    let mut host = Host::builder(&orders(json!({})))
        .cluster("second", "127.0.0.1:9")
        .start()
        .unwrap();
    stored_reply(&mut host, Request::post("/").json("{}"));
    let (reply, sent) = stored_reply(
        &mut host,
        Request::post("/")
            .settings(json!({"sidecar_cluster": "second"}))
            .json("{}"),
    );
    assert_eq!(reply.status, 200);
    assert_eq!(host.streams().len(), 2);
    // The end of one leaves the other alone.
    let other = host
        .streams()
        .into_iter()
        .find(|s| s.token != sent.stream)
        .unwrap()
        .token;
    let id = host.send(Request::post("/").json("{}"));
    arrived(&mut host, 1);
    host.sidecar_closes(sent.stream, 14);
    assert_eq!(host.outcome(id), Outcome::Waiting);
    host.sidecar_closes(other, 14);
    assert_error(&host.reply(id), ErrorClass::OutcomeUnknown);
}

#[test]
fn a_slow_topic_holds_up_nobody() {
    let mut host = with(json!({"value": "body"}));
    host.sidecar().script(|record| {
        let after = if record.topics == ["slow"] {
            5 * SECOND
        } else {
            Duration::from_millis(2)
        };
        Some(wasm_tests::Verdict {
            after,
            topics: vec![stored(0, 0)],
        })
    });
    let mut slow = Vec::new();
    let mut worst = Duration::ZERO;
    for _ in 0..100 {
        slow.push(host.send(Request::post("/").settings(json!({"topic": "slow"})).body("x")));
        let id = host.send(Request::post("/").body("x"));
        let mut waited = Duration::ZERO;
        while host.outcome(id) == Outcome::Waiting {
            host.advance(Duration::from_millis(1));
            waited += Duration::from_millis(1);
            assert!(waited < SECOND);
        }
        worst = worst.max(waited);
    }
    // 1 ms to gather, 2 ms of the sidecar's, and the first has to open the stream.
    assert!(worst <= Duration::from_millis(6), "{worst:?}");
    assert!(slow.iter().all(|id| host.outcome(*id) == Outcome::Waiting));
    host.advance(6 * SECOND);
    assert!(slow.iter().all(|id| host.reply(*id).status == 200));
}
