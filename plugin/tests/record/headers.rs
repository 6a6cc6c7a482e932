//! Which request headers become record headers.

use serde_json::{Value, json};
use sluice_proto::class::ErrorClass::InvalidRequest;

use crate::harness::{headers_of, record};

/// Checks the record headers under a `headers` block.
#[track_caller]
fn check(block: Value, request: impl AsRef<[u8]>, expected: &str) {
    let record = record(&json!({"headers": block}), request).unwrap();
    assert_eq!(headers_of(&record), expected);
}

const REQUEST: &str = "GET /\nx-a: 1\nx-b: 2\nx-a: 3\naccept: */*";

#[test]
fn nothing_but_the_trace_is_carried_by_default() {
    check(json!({}), REQUEST, "");
}

#[test]
fn included_headers_are_carried_in_order() {
    check(
        json!({"include_headers": ["X-B", "x-a", "absent"]}),
        REQUEST,
        "x-a=1 x-b=2 x-a=3",
    );
    check(json!({"include_headers": ["host"]}), REQUEST, "host=example.com");
}

#[test]
fn all_headers_may_be_the_default_and_pseudo_headers_never_are() {
    check(
        json!({"forward_all_by_default": true}),
        REQUEST,
        "host=example.com x-a=1 x-b=2 x-a=3 accept=*/*",
    );
}

#[test]
fn exclusion_wins() {
    check(
        json!({"forward_all_by_default": true, "exclude_headers": ["x-a", "host", "accept"]}),
        REQUEST,
        "x-b=2",
    );
    check(
        json!({"include_headers": ["x-a", "x-b"], "exclude_headers": ["x-a"]}),
        REQUEST,
        "x-b=2",
    );
}

#[test]
fn headers_are_renamed() {
    check(
        json!({"include_headers": ["x-a", "x-b"], "name_mappings": {"X-A": "Alpha"}}),
        REQUEST,
        "Alpha=1 x-b=2 Alpha=3",
    );
}

#[test]
fn repeated_headers_are_kept_cut_or_joined() {
    let block = |behaviour: &str| json!({"include_headers": ["x-a", "x-b"], "name_mappings": {"x-a": "a"}, "repeated_headers_behavior": behaviour});
    check(block("retain_duplicates"), REQUEST, "a=1 x-b=2 a=3");
    check(block("take_first"), REQUEST, "a=1 x-b=2");
    check(block("concatenate_by_comma"), REQUEST, "a=1,3 x-b=2");
}

#[test]
fn the_block_can_be_switched_off() {
    check(
        json!({"forward_http_headers_as_record_headers": false, "forward_all_by_default": true, "include_headers": ["x-a"]}),
        REQUEST,
        "",
    );
}

#[test]
fn credentials_need_to_be_named() {
    let request = "GET /\nauthorization: s\nproxy-authorization: s\ncookie: s\nset-cookie: s\nx: 1";
    let config = |block: Value, named: Value| json!({"headers": block, "credential_headers": named});
    let headers = |block, named| headers_of(&record(&config(block, named), request).unwrap());
    let all = json!({"forward_all_by_default": true, "exclude_headers": ["host"]});
    assert_eq!(headers(all.clone(), json!([])), "x=1");
    assert_eq!(headers(all.clone(), json!(["cookie"])), "cookie=s x=1");
    assert_eq!(
        headers(json!({"include_headers": ["Authorization"]}), json!([])),
        "authorization=s"
    );
    assert_eq!(
        headers(json!({"include_headers": ["x"]}), json!(["cookie"])),
        "x=1"
    );
    let excluded = json!({"forward_all_by_default": true, "exclude_headers": ["cookie", "host"], "include_headers": ["cookie"]});
    assert_eq!(headers(excluded, json!(["cookie"])), "x=1");
}

#[test]
fn the_trace_and_the_request_id_are_always_carried() {
    let request = "GET /\ntraceparent: a\nx: 1\ntracestate: b\nbaggage: c\nbaggage: d\nX-Request-Id: e";
    let trace = "traceparent=a tracestate=b baggage=c baggage=d x-request-id=e";
    check(json!({}), request, trace);
    check(
        json!({"forward_http_headers_as_record_headers": false}),
        request,
        trace,
    );
    check(
        json!({"forward_all_by_default": true, "exclude_headers": ["x", "host", "traceparent", "x-request-id"]}),
        request,
        trace,
    );
    check(
        json!({"repeated_headers_behavior": "take_first"}),
        request,
        "traceparent=a tracestate=b baggage=c x-request-id=e",
    );
}

#[test]
fn values_are_bytes_as_received() {
    check(
        json!({"include_headers": ["x"]}),
        b"GET /\nx: \xff\xc3\xa9\nx:",
        r"x=\xff\xc3\xa9 x=",
    );
}

#[test]
fn a_name_that_http_does_not_have_is_refused() {
    let reject = record(
        &json!({"headers": {"forward_all_by_default": true}}),
        b"GET /\n\xff: 1",
    )
    .unwrap_err();
    assert_eq!(
        (reject.class, reject.error.as_str()),
        (
            InvalidRequest,
            "the name of a request header is empty or not ASCII"
        )
    );
    let reject = record(&json!({"forward_headers": true}), b"GET /\n\xff: 1").unwrap_err();
    assert_eq!(reject.class, InvalidRequest);
}
