//! An Envoy that keeps request bodies to itself.

use std::time::Duration;

use serde_json::json;
use sluice_proto::v1::ErrorClass;
use wasm_tests::{Host, Outcome, Request};

use crate::common::{assert_error, orders, reply_within, stored_reply, with};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_missing_stop_iteration_setting_is_named_to_client_and_log() {
    let mut host = Host::builder(&orders(json!({})))
        .without_stop_iteration()
        .start()
        .unwrap();
    let ids: Vec<_> = (0..3).map(|_| host.send(Request::post("/").json("{}"))).collect();
    host.leave(ids[1]);
    for id in [ids[0], ids[2]] {
        let reply = reply_within(&mut host, id, 7 * SECOND);
        assert_error(&reply, ErrorClass::RouteMisconfigured);
        assert!(
            reply
                .json()
                .to_string()
                .contains("allow_on_headers_stop_iteration"),
            "{reply}"
        );
    }
    assert_eq!(host.outcome(ids[1]), Outcome::Left);
    let told = host
        .logs()
        .iter()
        .filter(|log| log.text.contains("allow_on_headers_stop_iteration"));
    assert_eq!(told.count(), 1);
    host.advance(2 * SECOND);
    assert_eq!(host.tick_period(), None, "nobody waits any more");
}

#[test]
fn a_slow_client_is_not_mistaken_for_a_missing_setting() {
    let mut host = with(json!({}));
    let slow = host.open(Request::post("/").header("content-length", "2"), false);
    assert_eq!(
        stored_reply(&mut host, Request::post("/").json("{}")).0.status,
        200
    );
    host.advance(20 * SECOND);
    assert_eq!(host.outcome(slow), Outcome::Waiting);
    assert_eq!(host.tick_period(), None, "bodies do come");
}
