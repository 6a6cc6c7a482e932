//! What configuration the filter takes, and what it says about one that it does not take.

use serde_json::json;
use wasm_tests::{Host, Outcome, Request};

use crate::common::{arrived, open, reply, store, stored_reply, with};

fn rejection(configuration: impl Into<Vec<u8>>) -> String {
    let rejected = Host::builder(&json!({}))
        .raw_configuration(configuration)
        .start()
        .err()
        .expect("rejected");
    rejected
        .logs
        .iter()
        .map(|log| format!("{} {}\n", log.level, log.text))
        .collect()
}

#[test]
fn no_configuration_at_all_is_one_that_acts_on_nothing() {
    for nothing in ["", " ", "{}"] {
        let mut host = Host::builder(&json!({}))
            .raw_configuration(nothing)
            .start()
            .unwrap();
        let id = host.send(Request::post("/").json("{}"));
        assert!(matches!(host.outcome(id), Outcome::Forwarded(_)), "{nothing:?}");
    }
}

#[test]
fn a_bad_configuration_is_rejected_with_every_problem_in_the_log() {
    let bad = json!({
        "topic": "or ders",
        "tpoic": "orders",
        "value": "everything",
        "answer_timeout": -1,
        "bootstrap_servers": [],
        "stream": {"max_outstanding_records": 0},
        "routes": [{"path_prefix": "/", "max_body_bytes": "many"}],
    });
    let log = rejection(bad.to_string());
    for path in [
        "topic:",
        "tpoic:",
        "value:",
        "answer_timeout:",
        "bootstrap_servers:",
        "stream.max_outstanding_records:",
        "routes[0].max_body_bytes:",
    ] {
        assert!(
            log.lines().any(|line| line.contains(path)),
            "{path} is missing in\n{log}"
        );
    }
    // Problems are for a person to solve.
    assert!(log.lines().all(|line| line.starts_with(['4', '5'])), "{log}");
}

#[test]
fn what_is_no_json_object_is_rejected() {
    for bad in ["{", "[]", "\"topic\"", "1", "\u{0}", "{\"topic\":\"a\"} more"] {
        assert!(!rejection(bad).is_empty(), "{bad}");
    }
    assert!(!rejection(vec![0xff, 0xfe]).is_empty());
}

#[test]
fn a_new_configuration_takes_over_and_the_old_one_ends_its_requests() {
    let mut host = open(json!({"value": "body"}));
    let before = host.send(Request::post("/").body("old"));
    let old = arrived(&mut host, 1).remove(0);
    assert_eq!(old.record.topics, ["orders"]);

    assert!(host.reconfigure(&json!({"topic": "parcels", "value": "body"})));
    assert_eq!(host.root_contexts(), 2, "the old one has a request");
    let after = host.send(Request::post("/").body("new"));
    let new = arrived(&mut host, 1).remove(0);
    assert_eq!(new.record.topics, ["parcels"]);
    assert_ne!(new.stream, old.stream, "each root context has its own");

    store(&mut host, &new, 1);
    assert_eq!(reply(&mut host, after).status, 200);
    store(&mut host, &old, 2);
    assert_eq!(reply(&mut host, before).status, 200);
    assert_eq!(host.root_contexts(), 1, "the old one is over");
    let (third, sent) = stored_reply(&mut host, Request::post("/").body("more"));
    assert_eq!(
        (third.status, sent.record.topics),
        (200, vec!["parcels".to_owned()])
    );
}

#[test]
fn a_new_configuration_under_load_loses_no_request() {
    let mut host = with(json!({"value": "body"}));
    host.sidecar().store_all();
    let mut requests = Vec::new();
    for round in 0..20 {
        for n in 0..25 {
            requests.push(host.send(Request::post("/").body(format!("{round} {n}"))));
        }
        assert!(host.reconfigure(&json!({"topic": format!("t{round}"), "value": "body"})));
        host.advance(std::time::Duration::from_millis(3));
    }
    for id in requests {
        assert_eq!(reply(&mut host, id).status, 200);
    }
    assert_eq!(host.sent().len(), 500);
    host.advance(std::time::Duration::from_secs(1));
    assert_eq!((host.root_contexts(), host.open_requests()), (1, 0));
}

#[test]
fn a_bad_new_configuration_leaves_the_old_one_in_place() {
    let mut host = open(json!({}));
    assert!(!host.reconfigure(&json!({"topic": ""})));
    let (reply, sent) = stored_reply(&mut host, Request::post("/").json("{}"));
    assert_eq!(
        (reply.status, sent.record.topics),
        (200, vec!["orders".to_owned()])
    );
}
