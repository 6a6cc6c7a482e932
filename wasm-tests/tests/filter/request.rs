//! Requests whose records are stored: each is answered once, with what became of it.

use serde_json::json;
use sluice_proto::v1::{Delivery, ErrorClass};
use wasm_tests::{Outcome, Request, accepted, failed, stored};

use crate::common::{
    arrived, assert_error, envelope, host, key_and_value, open, record_header, refuse, reply, store,
    stored_reply, text, with,
};

#[test]
fn a_json_post_is_answered_once_its_record_is_stored() {
    let mut host = host();
    let id = host.send(Request::post("/orders?a=1").json(r#"{"n":1}"#));
    let sent = arrived(&mut host, 1).remove(0);
    assert_eq!(host.outcome(id), Outcome::Waiting);
    assert_eq!(sent.record.topics, ["orders"]);
    assert_eq!(sent.record.delivery(), Delivery::Acked);
    assert_eq!(sent.record.deadline_ms, 10_000);
    assert_eq!(
        envelope(&sent),
        json!({"body": r#"{"n":1}"#, "body_args": {"n": 1}})
    );

    host.answer(&sent, vec![stored(3, 42)]);
    let reply = host.reply(id);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json(), json!({"message": "message sent"}));
    assert_eq!(reply.header("content-type").as_deref(), Some("application/json"));
    assert_eq!(reply.header("x-kafka-topic").as_deref(), Some("orders"));
    assert_eq!(reply.header("x-kafka-partition").as_deref(), Some("3"));
    assert_eq!(reply.header("x-kafka-offset").as_deref(), Some("42"));
    assert_eq!(host.open_requests(), 0);
}

#[test]
fn the_stream_is_one_and_asks_for_the_right_method() {
    let mut host = host();
    for _ in 0..5 {
        stored_reply(&mut host, Request::post("/").json("{}"));
    }
    let streams = host.streams();
    assert_eq!(streams.len(), 1, "{streams:?}");
    assert_eq!(
        (streams[0].service.as_str(), streams[0].method.as_str()),
        ("sluice.v1.Records", "Produce")
    );
}

#[test]
fn a_body_may_come_in_any_pieces() {
    let mut host = open(json!({"value": "body"}));
    let whole: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    for size in [1_000_000, 16_384, 100_000, 399_999] {
        let request = whole
            .chunks(size)
            .fold(Request::post("/"), |r, chunk| r.body(chunk));
        let (reply, sent) = stored_reply(&mut host, request);
        assert_eq!(reply.status, 200);
        assert!(
            sent.record.value.as_deref() == Some(&whole[..]),
            "pieces of {size}"
        );
    }
    // The end of the body may be a piece of its own.
    let (_, sent) = stored_reply(&mut host, Request::post("/").body("all").body(""));
    assert_eq!(sent.record.value.as_deref(), Some(&b"all"[..]));
}

#[test]
fn trailers_end_a_request_as_well() {
    let mut host = open(json!({"value": "body"}));
    let (reply, sent) = stored_reply(
        &mut host,
        Request::post("/").body("a").body("b").trailer("sum", "1"),
    );
    assert_eq!(
        (reply.status, sent.record.value.as_deref()),
        (200, Some(&b"ab"[..]))
    );
    // Without any body.
    let (reply, sent) = stored_reply(&mut host, Request::post("/").trailer("sum", "1"));
    assert_eq!(
        (reply.status, sent.record.value.as_deref()),
        (200, Some(&b""[..]))
    );
}

#[test]
fn a_request_without_a_body_needs_no_body_callback() {
    let mut host = open(json!({"forward_method": true, "forward_uri": true}));
    let (reply, sent) = stored_reply(&mut host, Request::new("GET", "/a/b?x=1&x=2&y"));
    assert_eq!(reply.status, 200);
    let value = envelope(&sent);
    assert_eq!(value["method"], "GET");
    assert_eq!(value["uri"], "/a/b?x=1&x=2&y");
    assert_eq!(value["uri_args"], json!({"x": ["1", "2"], "y": true}));
    assert_eq!(
        (&value["body"], &value["body_base64"]),
        (&json!(""), &json!(true))
    );
}

#[test]
fn requests_that_overlap_are_answered_each_with_its_own_fate() {
    let mut host = open(json!({"value": "body"}));
    let ids: Vec<_> = (0..50)
        .map(|n| host.open(Request::post(&format!("/{n}")), false))
        .collect();
    for (n, id) in ids.iter().enumerate() {
        host.body(*id, format!("{n},").as_bytes(), false);
    }
    for (n, id) in ids.iter().enumerate().rev() {
        host.body(*id, format!("{n}").as_bytes(), true);
    }
    let mut sent = arrived(&mut host, 50);
    // Fates come in no order at all.
    sent.sort_by_key(|one| one.record.id.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    for one in &sent {
        let text = text(one);
        let n: i64 = text.split(',').next().unwrap().parse().unwrap();
        assert_eq!(text, format!("{n},{n}"));
        match n % 3 {
            0 => refuse(&mut host, one, ErrorClass::BrokerRejected),
            _ => store(&mut host, one, n),
        }
        let reply = host.reply(ids[usize::try_from(n).unwrap()]);
        match n % 3 {
            0 => assert_error(&reply, ErrorClass::BrokerRejected),
            _ => assert_eq!(reply.header("x-kafka-offset").unwrap(), n.to_string()),
        }
    }
    assert_eq!(host.open_requests(), 0);
}

#[test]
fn several_topics_are_200_only_if_all_of_them_stored() {
    let mut host = open(json!({"topics": ["a", "b"]}));
    let mut answered = |fates| {
        let id = host.send(Request::post("/").json("{}"));
        let sent = arrived(&mut host, 1).remove(0);
        assert_eq!(sent.record.topics, ["a", "b"]);
        host.answer(&sent, fates);
        host.reply(id)
    };
    let no = |class| failed(class, "no");

    let reply = answered(vec![stored(0, 1), stored(2, 3)]);
    assert_eq!(reply.status, 200, "{reply}");

    let reply = answered(vec![stored(0, 1), no(ErrorClass::UnknownTopic)]);
    assert_error(&reply, ErrorClass::PartlyStored);
    let text = reply.to_string();
    for part in ["\"a\"", "\"b\"", "unknown_topic"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }

    let reply = answered(vec![
        no(ErrorClass::ClusterUnavailable),
        no(ErrorClass::ClusterUnavailable),
    ]);
    assert_error(&reply, ErrorClass::ClusterUnavailable);

    // One may be stored: nothing may be claimed.
    let reply = answered(vec![
        no(ErrorClass::ClusterUnavailable),
        no(ErrorClass::OutcomeUnknown),
    ]);
    assert_error(&reply, ErrorClass::OutcomeUnknown);
}

#[test]
fn what_is_only_accepted_is_202() {
    let mut host = open(json!({}));
    let id = host.send(
        Request::post("/")
            .settings(json!({"delivery": "buffered"}))
            .json("{}"),
    );
    let sent = arrived(&mut host, 1).remove(0);
    assert_eq!(sent.record.delivery(), Delivery::Buffered);
    host.answer(&sent, vec![accepted()]);
    let reply = host.reply(id);
    assert_eq!(
        (reply.status, reply.json()),
        (202, json!({"message": "message accepted"}))
    );
    assert_eq!(reply.header("x-kafka-offset"), None);

    // A broker that acknowledges nothing (acks=0) is no more than that either.
    let id = host.send(Request::post("/").json("{}"));
    let sent = arrived(&mut host, 1).remove(0);
    host.answer(&sent, vec![accepted()]);
    assert_eq!(host.reply(id).status, 202);
}

#[test]
fn the_answer_to_a_success_is_configurable() {
    let settings = json!({"success_status": 201, "success_message": "thanks", "reply_headers": false});
    let mut host = with(settings);
    let (reply, _) = stored_reply(&mut host, Request::post("/").json("{}"));
    assert_eq!((reply.status, reply.json()), (201, json!({"message": "thanks"})));
    assert!(
        !reply
            .headers
            .iter()
            .any(|(name, _)| name.starts_with(b"x-kafka-")),
        "{reply:?}"
    );
}

#[test]
fn requests_without_a_topic_pass_untouched() {
    let mut host = wasm_tests::Host::new(&json!({"value": "body"}));
    let request = Request::post("/x")
        .header("a", "1")
        .header("a", [0xff])
        .body("one")
        .body("two")
        .trailer("t", "2");
    let id = host.send(request.clone());
    let Outcome::Forwarded(forwarded) = host.outcome(id) else {
        panic!("{:?}", host.outcome(id));
    };
    assert_eq!(forwarded.body, b"onetwo");
    assert!(forwarded.complete);
    assert_eq!(forwarded.trailers, [(b"t".to_vec(), b"2".to_vec())]);
    assert_eq!(forwarded.headers.len(), 6);
    host.upstream_answers(id, 204);
    assert_eq!(host.open_requests(), 0);
    assert!(host.streams().is_empty(), "nothing to send, no stream");
}

#[test]
fn options_passes_unless_the_route_says_otherwise() {
    let mut host = host();
    let id = host.send(Request::new("OPTIONS", "/"));
    assert!(matches!(host.outcome(id), Outcome::Forwarded(_)));

    let wanted = Request::new("OPTIONS", "/").settings(json!({"produce_options": true}));
    let (reply, _) = stored_reply(&mut host, wanted);
    assert_eq!(reply.status, 200);
}

#[test]
fn tombstones_empty_values_and_no_keys_are_different_things() {
    let settings = json!({"value": "body", "value_by_method": {"DELETE": "none"}, "key": {"header": "id"}});
    let mut host = open(settings);
    let (_, sent) = stored_reply(&mut host, Request::post("/"));
    assert_eq!(key_and_value(&sent), (None, Some(&b""[..])));
    let (_, sent) = stored_reply(&mut host, Request::post("/").header("id", "").body("v"));
    assert_eq!(key_and_value(&sent), (Some(&b""[..]), Some(&b"v"[..])));
    let (_, sent) = stored_reply(&mut host, Request::new("DELETE", "/").header("id", "7").body("v"));
    assert_eq!(key_and_value(&sent), (Some(&b"7"[..]), None));
}

#[test]
fn credentials_stay_and_trace_headers_go_along() {
    let mut host = open(json!({"forward_headers": true}));
    let request = Request::post("/")
        .header("authorization", "Bearer sentinel")
        .header("cookie", "sentinel")
        .header("traceparent", "00-1-2-03")
        .header("x-request-id", "r-1")
        .header("x-other", "o")
        .json("{}");
    let (_, sent) = stored_reply(&mut host, request);
    assert_eq!(record_header(&sent, "traceparent"), ["00-1-2-03"]);
    assert_eq!(record_header(&sent, "x-request-id"), ["r-1"]);
    let value = text(&sent);
    assert!(!value.contains("sentinel"), "{value}");
    assert_eq!(envelope(&sent)["headers"]["host"], "kafka.test");
    let headers = format!("{:?}", sent.record.headers);
    assert!(
        !headers.contains("authorization") && !headers.contains("cookie"),
        "{headers}"
    );
}

#[test]
fn a_body_that_does_not_parse_is_400_and_nothing_is_written() {
    let mut host = open(json!({}));
    for (kind, body) in [
        ("application/json", "{\"a\": tru}"),
        ("application/json", "7"),
        ("multipart/form-data; boundary=b", "--b\r\n\r\nx"),
        ("multipart/form-data", "--b--"),
    ] {
        let id = host.send(Request::post("/").header("content-type", kind).body(body));
        assert_error(&reply(&mut host, id), ErrorClass::InvalidRequest);
    }
    assert!(host.sent().is_empty());
}

#[test]
fn a_body_past_the_bound_is_413_and_nothing_is_written() {
    let mut host = open(json!({"max_body_bytes": 10, "value": "body"}));
    let (reply_at_bound, _) = stored_reply(&mut host, Request::post("/").body("0123456789"));
    assert_eq!(reply_at_bound.status, 200);
    let whole = host.send(Request::post("/").body("0123456789a"));
    assert_error(&reply(&mut host, whole), ErrorClass::TooLarge);
    let pieces = host.send(Request::post("/").body("0123456").body("789a").body("more"));
    assert_error(&reply(&mut host, pieces), ErrorClass::TooLarge);
    assert!(host.sent().is_empty());
}

#[test]
fn past_envoys_own_buffer_envoy_answers() {
    let mut host =
        wasm_tests::Host::builder(&json!({"topic": "t", "max_body_bytes": 1_000_000, "value": "body"}))
            .buffer_limit(1000)
            .start()
            .unwrap();
    let id = host.send(
        Request::post("/")
            .body(vec![0; 600])
            .body(vec![0; 600])
            .body(vec![0; 600]),
    );
    let reply = host.reply(id);
    assert_eq!(
        (reply.status, reply.details.as_str()),
        (413, "request_payload_too_large")
    );
    assert!(host.sent().is_empty());
    host.sidecar().store_all();
    let next = host.send(Request::post("/").body("fits"));
    assert_eq!(crate::common::reply(&mut host, next).status, 200);
}
