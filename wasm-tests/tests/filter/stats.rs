//! The stats that operators see.

use std::time::Duration;

use serde_json::json;
use sluice_proto::v1::ErrorClass;
use wasm_tests::{Host, Outcome, Request, accepted};

use crate::common::{arrived, open, refuse, store, stored_reply, with};

fn value(host: &Host, name: &str) -> u64 {
    host.metric(name)
        .unwrap_or_else(|| panic!("no stat {name} among {:?}", host.metrics().keys()))
        .value
}

#[track_caller]
fn samples(host: &Host, name: &str) -> Vec<u64> {
    host.metric(name)
        .unwrap_or_else(|| panic!("no stat {name}"))
        .samples
        .clone()
}

#[test]
fn all_stats_exist_from_the_start() {
    let host = with(json!({}));
    let mut expected: Vec<String> = sluice_proto::class::ALL
        .iter()
        .map(|c| format!("sluice.requests.{}", sluice_proto::class::row_of(*c).code))
        .collect();
    expected.extend(
        [
            "sluice.requests.stored",
            "sluice.requests.accepted",
            "sluice.requests.departed",
            "sluice.requests.replied",
            "sluice.requests.reply_pending",
            "sluice.requests.no_reply",
            "sluice.records",
            "sluice.outstanding",
            "sluice.batch_records",
            "sluice.answer_us",
        ]
        .map(str::to_owned),
    );
    expected.sort();
    assert_eq!(host.metrics().keys().cloned().collect::<Vec<_>>(), expected);
}

#[test]
fn requests_are_counted_once_by_what_became_of_them() {
    let mut host = open(json!({}));
    let before = value(&host, "sluice.requests.stored");
    stored_reply(&mut host, Request::post("/").json("{}"));
    // Not a record at all.
    host.send(Request::post("/").json("{"));
    host.send(Request::post("/").settings(json!({"tpoic": "x"})).json("{}"));
    host.send(Request::new("OPTIONS", "/"));
    // Refused, accepted, unknown, left.
    host.send(Request::post("/").json("{}"));
    let sent = arrived(&mut host, 1).remove(0);
    refuse(&mut host, &sent, ErrorClass::UnknownTopic);
    host.send(Request::post("/").json("{}"));
    let sent = arrived(&mut host, 1).remove(0);
    host.answer(&sent, vec![accepted()]);
    let id = host.send(Request::post("/").json("{}"));
    let sent = arrived(&mut host, 1).remove(0);
    host.leave(id);
    store(&mut host, &sent, 1);
    host.send(
        Request::post("/")
            .settings(json!({"then": "continue"}))
            .json("{}"),
    );
    let sent = arrived(&mut host, 1).remove(0);
    store(&mut host, &sent, 1);
    let id = host.send(Request::post("/").json("{}"));
    arrived(&mut host, 1);
    let stream = host.stream();
    host.sidecar_closes(stream, 14);
    assert_eq!(host.reply(id).status, 504);

    host.advance(Duration::from_secs(1));
    for (name, expected) in [
        ("stored", before + 2),
        ("accepted", 1),
        ("invalid_request", 1),
        ("route_misconfigured", 1),
        ("unknown_topic", 1),
        ("outcome_unknown", 1),
        ("departed", 1),
        ("sidecar_unavailable", 0),
    ] {
        assert_eq!(
            value(&host, &format!("sluice.requests.{name}")),
            expected,
            "{name}"
        );
    }
}

#[test]
fn records_batches_and_what_is_outstanding_are_told() {
    let mut host = open(json!({"value": "body"}));
    let records = value(&host, "sluice.records");
    let batches = samples(&host, "sluice.batch_records").len();
    for _ in 0..50 {
        host.send(Request::post("/").body("x"));
    }
    let sent = arrived(&mut host, 50);
    host.advance(Duration::from_secs(1));
    assert_eq!(value(&host, "sluice.records"), records + 50);
    assert_eq!(
        samples(&host, "sluice.batch_records")[batches..]
            .iter()
            .sum::<u64>(),
        50
    );
    assert_eq!(value(&host, "sluice.outstanding"), 50);
    for one in &sent {
        store(&mut host, one, 1);
    }
    host.advance(Duration::from_secs(1));
    assert_eq!(value(&host, "sluice.outstanding"), 0);
}

#[test]
fn the_time_to_the_answer_is_told_in_microseconds() {
    let mut host = open(json!({}));
    let before = samples(&host, "sluice.answer_us").len();
    let id = host.send(Request::post("/").json("{}"));
    let sent = arrived(&mut host, 1).remove(0);
    host.advance(Duration::from_millis(250));
    store(&mut host, &sent, 1);
    assert!(matches!(host.outcome(id), Outcome::Replied(_)));
    assert_eq!(samples(&host, "sluice.answer_us")[before..], [250_000]);
}

#[test]
fn a_configuration_that_goes_takes_its_outstanding_records_along() {
    let mut host = open(json!({}));
    let id = host.send(Request::post("/").json("{}"));
    arrived(&mut host, 1);
    host.advance(Duration::from_secs(1));
    assert_eq!(value(&host, "sluice.outstanding"), 1);
    assert!(host.reconfigure(&json!({"topic": "other"})));
    host.leave(id);
    assert_eq!(host.root_contexts(), 1);
    assert_eq!(value(&host, "sluice.outstanding"), 0);
}

#[test]
fn nothing_is_logged_for_a_request() {
    let mut host = open(json!({}));
    let before = host.logs().len();
    stored_reply(&mut host, Request::post("/").json("{}"));
    let id = host.send(Request::post("/").json("{"));
    assert_eq!(host.reply(id).status, 400);
    let id = host.send(Request::post("/").json("{}"));
    let sent = arrived(&mut host, 1).remove(0);
    refuse(&mut host, &sent, ErrorClass::BrokerRejected);
    assert_eq!(host.reply(id).status, 502);
    assert_eq!(host.logs()[before..], []);
}
