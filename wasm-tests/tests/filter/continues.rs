//! `then: continue`: the request goes on to its upstream once its record is stored.

use serde_json::json;
use sluice_proto::v1::ErrorClass;
use wasm_tests::{Forwarded, Host, Id, Outcome, Request};

use crate::common::{arrived, assert_error, open, refuse, reply, store};

fn forwarded(host: &Host, id: Id) -> Forwarded {
    match host.outcome(id) {
        Outcome::Forwarded(forwarded) => forwarded,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stored_request_goes_on_whole() {
    let mut host = open(json!({}));
    let settings = json!({"then": "continue"});
    for (request, body) in [
        (Request::new("GET", "/a"), ""),
        (Request::post("/a").json("{\"a\":1}"), "{\"a\":1}"),
        (Request::post("/a").body("one").body("two").body(""), "onetwo"),
        (
            Request::post("/a").body("one").body("two").trailer("t", "1"),
            "onetwo",
        ),
    ] {
        let id = host.send(request.settings(settings.clone()));
        let sent = arrived(&mut host, 1).remove(0);
        assert_eq!(host.outcome(id), Outcome::Waiting, "not before it is stored");
        store(&mut host, &sent, 1);
        let forwarded = forwarded(&host, id);
        assert!(forwarded.complete);
        assert_eq!(forwarded.body, body.as_bytes());
        host.upstream_answers(id, 200);
    }
    assert_eq!(host.open_requests(), 0);
}

#[test]
fn one_that_is_not_stored_is_answered_with_the_error() {
    let mut host = open(json!({"then": "continue"}));
    let id = host.send(Request::post("/").json("{}"));
    let sent = arrived(&mut host, 1).remove(0);
    refuse(&mut host, &sent, ErrorClass::UnknownTopic);
    assert_error(&host.reply(id), ErrorClass::UnknownTopic);
    // So is one that cannot become a record.
    let id = host.send(Request::post("/").json("{"));
    assert_error(&reply(&mut host, id), ErrorClass::InvalidRequest);
}

#[test]
fn on_error_continue_lets_it_go_all_the_same() {
    let mut host = open(json!({"then": "continue", "on_error": "continue"}));
    let id = host.send(Request::post("/").json("{}"));
    let sent = arrived(&mut host, 1).remove(0);
    refuse(&mut host, &sent, ErrorClass::UnknownTopic);
    assert!(forwarded(&host, id).complete);

    // A record that cannot even be made.
    let id = host.send(Request::post("/").json("{"));
    assert_eq!(forwarded(&host, id).body, b"{");
    assert!(forwarded(&host, id).complete);

    // The sidecar goes.
    let id = host.send(Request::post("/").body("a").body("b"));
    arrived(&mut host, 1);
    let stream = host.stream();
    host.sidecar_closes(stream, 14);
    assert_eq!(forwarded(&host, id).body, b"ab");
}

#[test]
fn a_client_that_leaves_after_its_request_went_on_harms_nobody() {
    let mut host = open(json!({"then": "continue"}));
    let id = host.send(Request::post("/").json("{}"));
    let sent = arrived(&mut host, 1).remove(0);
    store(&mut host, &sent, 1);
    host.leave(id);
    let id = host.send(Request::post("/").json("{}"));
    let sent = arrived(&mut host, 1).remove(0);
    host.leave(id);
    store(&mut host, &sent, 1);
    assert_eq!(host.open_requests(), 0);
}
