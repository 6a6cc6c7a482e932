//! The key and the explicit partition.

use serde_json::{Value, json};
use sluice_proto::class::ErrorClass::InvalidRequest;

use crate::harness::{check_refused, record};

/// Checks the key that a source gives; `None` is no key.
#[track_caller]
fn check(source: Value, request: impl AsRef<[u8]>, key: Option<&[u8]>) {
    let config = json!({"value": "body", "key": source});
    assert_eq!(record(&config, request).unwrap().key.as_deref(), key);
}

#[test]
fn no_source_is_no_key() {
    assert_eq!(record(&json!({}), "GET /?key=1\nkey: 1").unwrap().key, None);
}

#[test]
fn a_query_argument_is_decoded_and_the_first_counts() {
    let source = json!({"query": "k"});
    check(source.clone(), "GET /?a=1&k=x+y%2Fz%ff&k=2", Some(b"x y/z\xff"));
    check(source.clone(), "GET /?%6B=v", Some(b"v"));
    check(source.clone(), "GET /?k=", Some(b""));
    check(source.clone(), "GET /?k", Some(b""));
    check(source.clone(), "GET /?kk=1", None);
    check(source, "GET /", None);
}

#[test]
fn kongs_key_query_arg_is_the_same() {
    let config = json!({"key_query_arg": "k"});
    assert_eq!(
        record(&config, "GET /?k=v").unwrap().key.as_deref(),
        Some(&b"v"[..])
    );
}

#[test]
fn a_header_is_taken_as_received() {
    let source = json!({"header": "X-Key"});
    check(
        source.clone(),
        b"GET /\nx-key: \xff%41\nx-key: 2",
        Some(b"\xff%41"),
    );
    check(source.clone(), "GET /\nx-key:", Some(b""));
    check(source, "GET /", None);
    check(json!({"header": "host"}), "GET /", Some(b"example.com"));
}

#[test]
fn a_cookie_is_found_among_others() {
    let source = json!({"cookie": "sid"});
    check(
        source.clone(),
        "GET /\ncookie: a=1; sid=x=y ; sid=2",
        Some(b"x=y"),
    );
    check(
        source.clone(),
        "GET /\ncookie: a=1\ncookie: sid=\"q\"",
        Some(b"\"q\""),
    );
    check(source.clone(), "GET /\ncookie: sid=", Some(b""));
    check(source.clone(), "GET /\ncookie: sid; xsid=1", None);
    check(source, "GET /", None);
}

#[test]
fn a_path_segment_is_decoded_and_an_empty_one_is_none() {
    let segment = |n: u32| json!({"path_segment": n});
    check(segment(0), "GET /orders/7?x=/9", Some(b"orders"));
    check(segment(1), "GET /orders/a%2Fb+c", Some(b"a/b+c"));
    check(segment(1), "GET /orders/", None);
    check(segment(1), "GET /orders//7", None);
    check(segment(2), "GET /orders//7", Some(b"7"));
    check(segment(1), "GET /orders?x=/7", None);
    check(segment(0), "GET /", None);
}

#[test]
fn a_json_pointer_gives_characters_or_the_text_of_a_scalar() {
    let request = |body: &str| format!("POST /\ncontent-type: application/json\n\n{body}");
    let source = json!({"json_pointer": "/a/0/id"});
    let body = |id: &str| request(&format!(r#"{{"a":[{{"id":{id}}}]}}"#));
    check(source.clone(), body(r#""x""#), Some(b"x"));
    check(source.clone(), body(r#""\u00e9\n\"""#), Some("é\n\"".as_bytes()));
    check(source.clone(), body("\"\""), Some(b""));
    check(source.clone(), body("12.50"), Some(b"12.50"));
    check(source.clone(), body("true"), Some(b"true"));
    check(source.clone(), body("null"), None);
    check(source.clone(), request("{}"), None);
    check(source.clone(), request("[1]"), None);
    check(source.clone(), request(""), None);
    check(source, "DELETE /", None);
}

#[test]
fn a_json_pointer_needs_a_json_body_and_a_scalar() {
    let config = json!({"value": "body", "key": {"json_pointer": "/id"}});
    let refused = |content_type: &str, body: &str, error: &str| {
        let request = format!("POST /\ncontent-type: {content_type}\n\n{body}");
        check_refused(config.clone(), request, InvalidRequest, error);
    };
    refused(
        "application/json",
        r#"{"id":[]}"#,
        "key: at /id stands an object or array, not a string, number or boolean",
    );
    refused(
        "application/json",
        r#"{"id":"\ud800"}"#,
        "key: the string at /id holds half a surrogate pair, which is no character",
    );
    refused(
        "application/json",
        "{",
        "the body is not JSON: expected a member's name in quotes at line 1, column 2 (byte 1, the end of the text)",
    );
    refused(
        "text/plain",
        r#"{"id":1}"#,
        "key: it stands in the JSON body at /id, and the content-type and content-encoding say that the body is not JSON",
    );
}

#[test]
fn a_json_pointer_follows_the_routes_json_types_and_shares_the_envelope() {
    let config = json!({"key": {"json_pointer": "/id"}, "json_content_types": ["application/*+json"]});
    let record = record(&config, "POST /\ncontent-type: application/a+json\n\n{\"id\":1}").unwrap();
    assert_eq!(record.key.as_deref(), Some(&b"1"[..]));
    assert_eq!(
        record.value.as_deref(),
        Some(&br#"{"body":"{\"id\":1}","body_args":{"id":1}}"#[..])
    );
}

/// The partition that a request is given.
fn partition(source: Value, request: &str) -> Option<i32> {
    record(&json!({"value": "body", "partition": source}), request)
        .unwrap()
        .partition
}

#[test]
fn a_partition_is_fixed_or_named_by_the_request_or_left_to_the_producer() {
    assert_eq!(partition(json!({"fixed": 0}), "GET /?p=1"), Some(0));
    let source = json!({"query": "p"});
    assert_eq!(partition(source.clone(), "GET /?p=0"), Some(0));
    assert_eq!(partition(source.clone(), "GET /?p=2147483647"), Some(i32::MAX));
    assert_eq!(partition(source.clone(), "GET /?p=007"), Some(7));
    assert_eq!(partition(source, "GET /"), None);
    let body = "POST /\ncontent-type: application/json\n\n{\"p\":12}";
    assert_eq!(partition(json!({"json_pointer": "/p"}), body), Some(12));
    assert_eq!(partition(json!({"header": "x-p"}), "GET /\nx-p: 3"), Some(3));
}

#[test]
fn a_partition_that_is_no_number_from_0_is_refused() {
    for said in [
        "",
        "-1",
        "%2B1",
        "1.0",
        "x",
        "2147483648",
        "%201",
        "%FF",
        "99999999999999999999",
    ] {
        let config = json!({"value": "body", "partition": {"query": "p"}});
        let reject = record(&config, format!("GET /?p={said}")).unwrap_err();
        assert_eq!(reject.class, InvalidRequest, "{said}");
        assert!(
            reject.error.contains("no whole number from 0 to 2147483647"),
            "{}",
            reject.error
        );
    }
    check_refused(
        json!({"value": "body", "partition": {"header": "p"}}),
        format!("GET /\np: {}", "9".repeat(1000)),
        InvalidRequest,
        &format!(
            "partition: `{}…` is no whole number from 0 to 2147483647",
            "9".repeat(40)
        ),
    );
}
