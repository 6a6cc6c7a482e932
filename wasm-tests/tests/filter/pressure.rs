//! Whose records they are, while there is little room.

use std::time::Duration;

use serde_json::json;
use sluice_proto::v1::ErrorClass;
use wasm_tests::{Host, Request};

use crate::common::{arrived, assert_error, open, refuse, reply, store, stored_reply};

fn from(address: &str) -> Request {
    Request::post("/").source(address).json("{}")
}

/// How often the filter asked where a request came from.
fn asked(host: &Host) -> usize {
    host.reads("source\0address")
}

#[test]
fn nobody_is_asked_where_it_comes_from_while_there_is_room() {
    let mut host = open(json!({}));
    for _ in 0..10 {
        let (_, sent) = stored_reply(&mut host, from("10.0.0.1:5000"));
        assert_eq!(sent.record.client, 0);
    }
    assert_eq!(asked(&host), 0);
}

#[test]
fn after_the_sidecar_had_no_room_clients_are_told_apart_for_two_seconds() {
    let mut host = open(json!({}));
    let id = host.send(from("10.0.0.1:5000"));
    let sent = arrived(&mut host, 1).remove(0);
    refuse(&mut host, &sent, ErrorClass::BufferFull);
    assert_error(&reply(&mut host, id), ErrorClass::BufferFull);
    let client = |host: &mut Host, address| stored_reply(host, from(address)).1.record.client;
    let one = client(&mut host, "10.0.0.1:5000");
    assert_ne!(one, 0);
    assert_eq!(
        client(&mut host, "10.0.0.1:5001"),
        one,
        "another connection of it"
    );
    assert_ne!(client(&mut host, "10.0.0.2:5000"), one);
    assert_eq!(client(&mut host, ""), 0, "nothing is known");
    assert_eq!(asked(&host), 4);
    host.advance(Duration::from_secs(2));
    assert_eq!(client(&mut host, "10.0.0.1:5000"), 0);
    assert_eq!(asked(&host), 4);
}

#[test]
fn a_client_leaves_room_for_others() {
    let mut host = open(json!({"stream": {"max_outstanding_records": 20}}));
    // A quarter is taken before anybody is told apart.
    let greedy: Vec<_> = (0..20).map(|_| host.send(from("10.0.0.1:5000"))).collect();
    let modest = host.send(from("10.0.0.2:5000"));
    let sent = arrived(&mut host, 18);
    assert_error(&host.reply(greedy[19]), ErrorClass::BufferFull);
    let text = host.reply(greedy[19]).json()["error"].to_string();
    assert!(text.contains("this client"), "{text}");
    for (offset, one) in (0..).zip(&sent) {
        store(&mut host, one, offset);
    }
    assert_eq!(host.reply(modest).status, 200);
}

#[test]
fn a_route_with_a_bound_has_no_more_than_that() {
    let mut host = open(json!({"value": "body"}));
    let bounded = || {
        Request::post("/")
            .settings(json!({"topic": "bounded", "max_outstanding_records": 2}))
            .body("x")
    };
    host.send(bounded());
    let left = host.send(bounded());
    let refused = host.send(bounded());
    let sent = arrived(&mut host, 2);
    assert_error(&host.reply(refused), ErrorClass::BufferFull);
    let text = host.reply(refused).json()["error"].to_string();
    assert!(text.contains("the route's `max_outstanding_records`"), "{text}");
    let (reply, _) = stored_reply(&mut host, Request::post("/").body("another route's"));
    assert_eq!(reply.status, 200);
    // Envoy may hold the record of a client that left.
    host.leave(left);
    let refused = host.send(bounded());
    assert_error(&host.reply(refused), ErrorClass::BufferFull);
    for one in &sent {
        store(&mut host, one, 1);
    }
    assert_eq!(stored_reply(&mut host, bounded()).0.status, 200);
    assert_eq!(asked(&host), 0);
}
