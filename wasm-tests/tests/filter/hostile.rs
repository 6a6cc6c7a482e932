//! Input of clients and behaviour of hosts that nobody asked for: an answer, never a trap.

use std::time::Duration;

use serde_json::json;
use sluice_proto::v1::ErrorClass;
use wasm_tests::{Host, Outcome, Request, Status};

use crate::common::{arrived, assert_error, envelope, open, orders, reply, store, stored_reply};

/// Everything forwarded, so that everything is looked at.
fn everything() -> serde_json::Value {
    json!({
        "forward_method": true, "forward_uri": true, "forward_headers": true, "forward_body": true,
        "headers": {"forward_all_by_default": true},
        "key": {"header": "x-junk"},
        "max_body_bytes": 16 << 20,
    })
}

/// The request gets an answer, and the worker lives on.
#[track_caller]
fn survives(host: &mut Host, request: Request) -> u32 {
    host.sidecar().store_all();
    let id = host.send(request);
    let status = reply(host, id).status;
    let next = host.send(Request::post("/").json("{}"));
    assert_eq!(reply(host, next).status, 200);
    host.sent();
    status
}

#[test]
fn headers_that_are_not_text() {
    let mut host = open(everything());
    let junk: Vec<u8> = (0x80..=0xff).collect();
    let request = Request::post("/a\u{e9}?q=%ff&%fe=1")
        .header(":path", [b"/\xff?".as_slice(), &junk].concat())
        .header(":authority", &junk)
        .header("content-type", &junk)
        .header("x-junk", &junk)
        .header("x-junk", b"\xc3\x28")
        .header("traceparent", b"\xff")
        .header("x-request-id", b"\x00\x01")
        .body(junk.clone());
    assert_eq!(survives(&mut host, request), 200);
    // A name that is none.
    assert_eq!(
        survives(
            &mut host,
            Request::post("/").raw_header(b"\xff\xfe", b"1").json("{}")
        ),
        400
    );
    assert_eq!(
        survives(&mut host, Request::post("/").raw_header(b"", b"").json("{}")),
        400
    );
}

#[test]
fn a_header_value_that_is_not_utf8_is_base64() {
    let mut host = open(json!({"forward_headers": true}));
    let (_, sent) = stored_reply(&mut host, Request::post("/").header("x", b"a\xff").json("{}"));
    assert_eq!(envelope(&sent)["headers"]["x"], json!({"base64": "Yf8="}));
}

#[test]
fn a_megabyte_of_headers() {
    let mut host = open(everything());
    let one = Request::post("/")
        .header("x-large", vec![b'x'; 1 << 20])
        .json("{}");
    assert_eq!(survives(&mut host, one), 200);
    let many = (0..10_000).fold(Request::post("/"), |r, n| {
        r.header(&format!("x-{n}"), "v".repeat(90))
    });
    assert_eq!(survives(&mut host, many.json("{}")), 200);
    let same = (0..10_000).fold(Request::post("/"), |r, _| r.header("x-same", "v".repeat(90)));
    assert_eq!(survives(&mut host, same.json("{}")), 200);
    let target = format!("/?{}", "a=b&".repeat(250_000));
    assert_eq!(survives(&mut host, Request::post(&target).json("{}")), 200);
}

#[test]
fn bodies_of_every_size() {
    let mut host = Host::builder(&orders(everything()))
        .buffer_limit(16 << 20)
        .start()
        .unwrap();
    for kind in [
        "",
        "application/json",
        "application/x-www-form-urlencoded",
        "text/plain",
        "multipart/form-data; boundary=b",
    ] {
        for size in [0, 1, 10 << 20] {
            let body = vec![b'['; size];
            let request = Request::post("/").header("content-type", kind);
            let request = body.chunks(1 << 20).fold(request, |r, chunk| r.body(chunk));
            let status = survives(&mut host, request);
            assert!([200, 400, 413].contains(&status), "{kind} of {size}: {status}");
        }
    }
    // Valid ones, too.
    let array = format!("[{}1]", "1,".repeat(5 << 20));
    assert_eq!(survives(&mut host, Request::post("/").json(&array)), 200);
    let form = "a=b&".repeat(2 << 20);
    let request = Request::post("/")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form);
    assert_eq!(survives(&mut host, request), 200);
}

#[test]
fn multipart_of_every_brokenness() {
    let mut host = open(everything());
    let whole = "--b\r\nContent-Disposition: form-data; name=\"a\"; filename=\"f\"\r\nContent-Type: x\r\n\r\nv\r\n--b--\r\n";
    for cut in 0..=whole.len() {
        let request = Request::post("/").header("content-type", "multipart/form-data; boundary=b");
        let status = survives(&mut host, request.body(&whole.as_bytes()[..cut]));
        assert!([200, 400].contains(&status), "cut at {cut}: {status}");
    }
    for kind in [
        "multipart/form-data",
        "multipart/form-data; boundary",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"",
        "multipart/form-data; boundary=\"b",
        "multipart/form-data; boundary=b; boundary=c",
        "multipart/form-data; BOUNDARY=\"b\"",
        "multipart/form-data; boundary=\u{fc}",
        "multipart/form-data;;;;",
    ] {
        let status = survives(
            &mut host,
            Request::post("/").header("content-type", kind).body(whole),
        );
        assert!([200, 400].contains(&status), "{kind}: {status}");
    }
}

#[test]
fn json_as_deep_as_a_body_is_long() {
    let mut host = Host::builder(&orders(everything()))
        .buffer_limit(16 << 20)
        .start()
        .unwrap();
    for body in [
        "[".repeat(1_000_000),
        "{\"a\":".repeat(1_000_000),
        format!("{}{}", "[".repeat(500_000), "]".repeat(500_000)),
    ] {
        assert_eq!(survives(&mut host, Request::post("/").json(&body)), 400);
    }
    let deepest = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(survives(&mut host, Request::post("/").json(&deepest(128))), 200);
    assert_eq!(survives(&mut host, Request::post("/").json(&deepest(129))), 400);
    // As deep as configuration can allow.
    let deep = Request::post("/")
        .settings(json!({"max_json_depth": 1000}))
        .json(&deepest(1000));
    assert_eq!(survives(&mut host, deep), 200);
}

#[test]
fn json_of_every_brokenness() {
    let mut host = open(everything());
    for body in [
        "{\"a\":\"\\ud800\"}",
        "[\"\\u0000\"]",
        "\u{feff}{}",
        "{\"a\":1e999999}",
        "{\"id\":null}",
        "{\"id\":{}}",
        "{\"\":{}}",
    ] {
        let status = survives(&mut host, Request::post("/").json(body));
        assert!([200, 400].contains(&status), "{body}: {status}");
    }
    let mut junk = b"{\"a\":\"".to_vec();
    junk.extend([0xff, 0xfe]);
    junk.extend(b"\"}");
    let request = Request::post("/")
        .header("content-type", "application/json")
        .body(junk);
    assert_eq!(survives(&mut host, request), 400);
}

#[test]
fn requests_that_lack_what_every_request_has() {
    let mut host = open(everything());
    let bare = Request::default();
    let id = host.send(bare);
    assert_ne!(host.outcome(id), Outcome::Left);
    assert_eq!(
        survives(&mut host, Request::default().header(":method", "").body("x")) / 100,
        2
    );
    assert_eq!(survives(&mut host, Request::new("BREW", "*")) / 100, 2);
}

const ODD: &[Status] = &[
    Status::NotFound,
    Status::BadArgument,
    Status::ParseFailure,
    Status::Empty,
    Status::InternalFailure,
    Status::Unimplemented,
];

/// The host calls that a request makes, and what else than OK they may say. Where the SDK has to be asked, because it
/// keeps the tokens, these are the statuses that Envoy gives. To act for a context that exists is what the SDK itself
/// demands of a host.
const CALLS: [(&str, &[Status]); 11] = [
    ("proxy_get_header_map_pairs", ODD),
    ("proxy_get_buffer_bytes", ODD),
    ("proxy_get_property", ODD),
    (
        "proxy_grpc_stream",
        &[Status::ParseFailure, Status::InternalFailure],
    ),
    ("proxy_grpc_send", ODD),
    ("proxy_set_tick_period_milliseconds", ODD),
    ("proxy_define_metric", ODD),
    ("proxy_increment_metric", ODD),
    ("proxy_record_metric", ODD),
    ("proxy_continue_stream", ODD),
    ("proxy_send_local_response", ODD),
];

/// Calls that, refused once, can leave the present request without an answer.
const LAST_WORDS: [&str; 3] = [
    "proxy_continue_stream",
    "proxy_send_local_response",
    "proxy_set_tick_period_milliseconds",
];

/// A worker whose host refuses that call from its first request on; metrics from the start.
fn faulty(call: &str, status: Status, times: usize) -> Host {
    let builder = Host::builder(&orders(json!({"answer_timeout": 100})));
    let at_start = if call == "proxy_define_metric" { times } else { 0 };
    let mut host = builder.fault(call, status, at_start).start().unwrap();
    host.fault(call, status, times);
    host.sidecar().store_all();
    host
}

#[test]
fn a_host_that_answers_oddly_once_costs_no_more_than_the_present_request() {
    for (call, statuses) in CALLS {
        for status in statuses {
            let mut host = faulty(call, *status, 1);
            let id = host.send(Request::post("/").header("a", "b").json("{}"));
            let continued = host.send(Request::post("/").settings(json!({"then": "continue"})).body("x"));
            host.advance(Duration::from_secs(5));
            for id in [id, continued] {
                let outcome = host.outcome(id);
                let over = !matches!(outcome, Outcome::Waiting);
                assert!(
                    over || LAST_WORDS.contains(&call),
                    "{call} {status:?}: {outcome:?}"
                );
                host.leave(id);
            }
            let next = host.send(Request::post("/").json("{}"));
            host.until(
                Duration::from_secs(5),
                &format!("an answer after {call} gave {status:?}"),
                |host| matches!(host.outcome(next), Outcome::Replied(_)),
            );
        }
    }
}

#[test]
fn a_host_that_refuses_everything_of_a_kind_does_not_trap_the_filter() {
    for (call, statuses) in CALLS {
        for status in statuses {
            let mut host = faulty(call, *status, usize::MAX);
            for _ in 0..3 {
                host.send(Request::post("/").json("{}"));
                host.send(Request::post("/").settings(json!({"then": "continue"})).body("x"));
                host.advance(Duration::from_secs(1));
            }
        }
    }
}

#[test]
fn a_send_that_fails_claims_nothing() {
    let mut host = open(json!({}));
    host.fault("proxy_grpc_send", Status::InternalFailure, 1);
    let id = host.send(Request::post("/").json("{}"));
    let reply_to_it = reply(&mut host, id);
    assert!(reply_to_it.status >= 500, "{reply_to_it}");
    let next = host.send(Request::post("/").json("{}"));
    let sent = arrived(&mut host, 1).remove(0);
    store(&mut host, &sent, 1);
    assert_eq!(host.reply(next).status, 200);
}

#[test]
fn metadata_of_every_brokenness() {
    let mut host = open(json!({}));
    for bytes in [
        &b"\xff"[..],
        b"\x0a",
        b"\x0a\xff\xff\xff\xff\x0f",
        b"\x0a\x02\x0a",
        b"\x00",
        &[0x0a; 999],
    ] {
        let id = host.send(Request::post("/").raw_metadata(bytes).json("{}"));
        let outcome = host.outcome(id);
        assert!(
            matches!(&outcome, Outcome::Replied(reply) if reply.code() == "route_misconfigured"),
            "{bytes:x?}: {outcome:?}"
        );
    }
    let long = vec![0xff; 5 << 20];
    let id = host.send(Request::post("/").raw_metadata(&long).json("{}"));
    assert_error(&reply(&mut host, id), ErrorClass::RouteMisconfigured);
    // Large, but whole, and of others.
    let others = json!({"other": {"text": "x".repeat(5 << 20)}});
    assert_eq!(
        stored_reply(&mut host, Request::post("/").metadata(&others).json("{}"))
            .0
            .status,
        200
    );
}
