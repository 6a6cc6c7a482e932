//! What the envelope makes of a body, decision by decision.

use serde_json::json;
use sluice_proto::class::ErrorClass::{InvalidRequest, TooLarge};

use crate::harness::{check, check_refused, json_value, record};

#[test]
fn a_media_type_is_exact_whatever_its_case_and_parameters() {
    let envelope = |content_type: &str| {
        json_value(
            &json!({}),
            format!("POST /\ncontent-type: {content_type}\n\n{{\"a\":1}}"),
        )
    };
    let text = r#"{"body":"{\"a\":1}","body_args":{}}"#;
    let parsed = r#"{"body":"{\"a\":1}","body_args":{"a":1}}"#;
    let base64 = r#"{"body":"eyJhIjoxfQ==","body_args":{},"body_base64":true}"#;
    for content_type in [
        "application/json",
        "APPLICATION/Json;charset=utf-8",
        "application/json ; x",
    ] {
        assert_eq!(envelope(content_type), parsed, "{content_type}");
    }
    for content_type in [
        "text/plain",
        "Text/Plain; charset=utf-8",
        "text/html",
        "application/xml",
        "text/xml",
        "application/soap+xml; action=x",
    ] {
        assert_eq!(envelope(content_type), text, "{content_type}");
    }
    for content_type in [
        "application/json-patch+json",
        "application/problem+json",
        "text/csv",
        "text/plainer",
        "application/octet-stream",
        "json",
        "application/json, application/json",
        "multipart/mixed; boundary=b",
    ] {
        assert_eq!(envelope(content_type), base64, "{content_type}");
    }
}

#[test]
fn further_types_are_json_when_the_route_says_so() {
    let envelope = |content_type: &str| {
        let config = json!({"json_content_types": ["application/*+json", "text/x-json"]});
        json_value(&config, format!("POST /\ncontent-type: {content_type}\n\n[]"))
    };
    for content_type in [
        "application/problem+json",
        "application/json-patch+json;v=1",
        "TEXT/X-JSON",
        "application/json",
    ] {
        assert_eq!(
            envelope(content_type),
            r#"{"body":"[]","body_args":[]}"#,
            "{content_type}"
        );
    }
    for content_type in ["text/problem+json", "application/+json", "application/x-json"] {
        assert!(envelope(content_type).contains("base64"), "{content_type}");
    }
}

#[test]
fn text_that_is_not_utf8_and_every_other_type_are_base64() {
    check(
        json!({}),
        b"POST /\ncontent-type: text/plain\n\n\xff",
        r#"{"body":"/w==","body_args":{},"body_base64":true}"#,
    );
    check(
        json!({}),
        b"POST /\ncontent-type: image/png\n\n\x89PNG",
        r#"{"body":"iVBORw==","body_args":{},"body_base64":true}"#,
    );
}

#[test]
fn no_content_type_is_base64_whatever_the_method() {
    for method in ["GET", "POST", "DELETE", "HEAD"] {
        check(
            json!({}),
            format!("{method} /"),
            r#"{"body":"","body_args":{},"body_base64":true}"#,
        );
        check(
            json!({}),
            format!("{method} /\n\nhi"),
            r#"{"body":"aGk=","body_args":{},"body_base64":true}"#,
        );
    }
}

#[test]
fn an_empty_body_is_never_parsed() {
    for content_type in [
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=b",
        "multipart/form-data",
        "text/plain",
    ] {
        check(
            json!({}),
            format!("POST /\ncontent-type: {content_type}"),
            r#"{"body":"","body_args":{}}"#,
        );
    }
    check(
        json!({}),
        "POST /\ncontent-type: application/octet-stream",
        r#"{"body":"","body_args":{},"body_base64":true}"#,
    );
}

#[test]
fn a_body_that_is_not_what_its_type_says_is_refused_with_what_and_where() {
    for (content_type, body, error) in [
        (
            "application/json",
            "{\"a\" 1}",
            "the body is not JSON: expected `:` at line 1, column 6 (byte 5)",
        ),
        (
            "application/json",
            " ",
            "the body is not JSON: expected a value at line 1, column 2 (byte 1, the end of the text)",
        ),
        (
            "multipart/form-data",
            "x",
            "the body is not multipart/form-data: its content-type has no boundary parameter",
        ),
        (
            "multipart/form-data; boundary=b",
            "--b\n\n1\n",
            "the body is not multipart/form-data: the closing boundary is missing after the boundary at byte 0: the body was cut off",
        ),
    ] {
        check_refused(
            json!({}),
            format!("POST /\ncontent-type: {content_type}\n\n{body}"),
            InvalidRequest,
            error,
        );
    }
    check_refused(
        json!({}),
        b"POST /\ncontent-type: application/json\n\n[\"\xff\"]",
        InvalidRequest,
        "the body is not JSON: not UTF-8 at line 1, column 3 (byte 2)",
    );
}

#[test]
fn a_body_that_is_not_forwarded_is_not_parsed() {
    check(
        json!({"forward_method": true, "forward_body": false}),
        "POST /\ncontent-type: application/json\n\n{broken",
        r#"{"method":"POST"}"#,
    );
}

#[test]
fn a_json_scalar_at_the_top_is_refused() {
    for body in ["1", "\"text\"", "true", "null", " -0.5 "] {
        check_refused(
            json!({}),
            format!("POST /\ncontent-type: application/json\n\n{body}"),
            InvalidRequest,
            "the body is neither a JSON object nor a JSON array; send it as text/plain, or let the route pass bodies on untouched (value: body)",
        );
    }
}

#[test]
fn json_comes_through_exactly_as_sent() {
    for body in [
        r#"{"n":123456789012345678901234567890.10,"b":1,"a":2,"b":3}"#,
        r#"[1.0,1e5,-0,1E+2]"#,
        r#"{"empty":[],"object":{}}"#,
        r#"["\ud800","\u00e9\/","é"]"#,
        "{ \"spaced\" : [ 1 ,\t2 ] }",
    ] {
        let quoted = serde_json::to_string(body).unwrap();
        check(
            json!({}),
            format!("POST /\ncontent-type: application/json\n\n{body}"),
            &format!(r#"{{"body":{quoted},"body_args":{body}}}"#),
        );
    }
    check(
        json!({}),
        "POST /\ncontent-type: application/json\n\n [1]\r\n",
        r#"{"body":" [1]\r\n","body_args":[1]}"#,
    );
}

#[test]
fn lenient_json_is_refused_and_a_byte_order_mark_is_kept_in_body_only() {
    for body in [
        "[0x10]",
        "[+1]",
        "[01]",
        "[NaN]",
        "[Infinity]",
        "[\"a\tb\"]",
        "[1,]",
        "{a:1}",
        "['a']",
        "[1]//",
        "[.5]",
    ] {
        let reject = record(
            &json!({}),
            format!("POST /\ncontent-type: application/json\n\n{body}"),
        );
        assert_eq!(reject.expect_err(body).class, InvalidRequest);
    }
    check(
        json!({}),
        "POST /\ncontent-type: application/json\n\n\u{feff}[1]",
        "{\"body\":\"\u{feff}[1]\",\"body_args\":[1]}",
    );
}

#[test]
fn json_may_nest_as_deep_as_configured() {
    let request = |depth: usize| {
        format!(
            "POST /\ncontent-type: application/json\n\n{}{}",
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };
    assert!(json_value(&json!({}), request(128)).ends_with(&format!("{}}}", "]".repeat(128))));
    check_refused(
        json!({}),
        request(129),
        InvalidRequest,
        "the body is not JSON: nested too deep at line 1, column 129 (byte 128), max_json_depth is 128",
    );
    json_value(&json!({"max_json_depth": 3}), request(3));
    check_refused(
        json!({"max_json_depth": 3}),
        request(4),
        InvalidRequest,
        "the body is not JSON: nested too deep at line 1, column 4 (byte 3), max_json_depth is 3",
    );
}

#[test]
fn a_form_or_multipart_body_that_is_not_utf8_is_base64_and_parsed() {
    check(
        json!({}),
        b"POST /\ncontent-type: application/x-www-form-urlencoded\n\na=\xff&b=1",
        r#"{"body":"YT3/JmI9MQ==","body_args":{"a":{"base64":"/w=="},"b":"1"},"body_base64":true}"#,
    );
    check(
        json!({}),
        b"POST /\ncontent-type: multipart/form-data; boundary=b\n\n--b\ncontent-disposition: form-data; name=a\n\n\xff\n--b--",
        r#"{"body":"LS1iCmNvbnRlbnQtZGlzcG9zaXRpb246IGZvcm0tZGF0YTsgbmFtZT1hCgr/Ci0tYi0t","body_args":{"a":{"base64":"/w=="}},"body_base64":true}"#,
    );
}

#[test]
fn a_body_with_a_content_encoding_is_base64_unparsed() {
    for content_type in [
        "application/json",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    ] {
        check(
            json!({}),
            format!("POST /\ncontent-type: {content_type}\ncontent-encoding: gzip\n\nzip"),
            r#"{"body":"emlw","body_args":{},"body_base64":true}"#,
        );
    }
    check(
        json!({}),
        "POST /\ncontent-type: text/plain\ncontent-encoding: Identity\n\nplain",
        r#"{"body":"plain","body_args":{}}"#,
    );
}

#[test]
fn bodies_of_any_size_up_to_the_limit_are_carried_and_larger_ones_refused() {
    let body = "x".repeat(300_000);
    check(
        json!({}),
        format!("POST /\ncontent-type: text/plain\n\n{body}"),
        &format!(r#"{{"body":"{body}","body_args":{{}}}}"#),
    );
    let config = json!({"max_body_bytes": 4});
    check(
        config.clone(),
        "POST /\ncontent-type: text/plain\n\n1234",
        r#"{"body":"1234","body_args":{}}"#,
    );
    check_refused(
        config,
        "POST /\ncontent-type: text/plain\n\n12345",
        TooLarge,
        "the request body has 5 bytes, max_body_bytes is 4",
    );
}

/// A multipart request with that boundary parameter and body; line feeds stand for CRLF.
fn multipart(parameter: &str, body: &str) -> String {
    format!(
        "POST /\ncontent-type: multipart/form-data; {parameter}\n\n{}",
        body.replace('\n', "\r\n")
    )
}

/// The end of an envelope: everything from `body_args` on.
fn from_body_args(request: impl AsRef<[u8]>) -> String {
    let envelope = json_value(&json!({}), request);
    let at = envelope.find(r#""body_args""#).unwrap();
    envelope[at..].to_owned()
}

#[test]
fn multipart_is_parsed_by_rfc_7578() {
    let body = "preamble\n--b\nContent-Disposition: form-data; name=\"a\"\n\n1\n--b\nContent-Disposition: form-data; name=c\n\n\
                two\nlines\n--b\n\nnameless\n--b\nContent-Disposition: form-data; name=a\n\n2\n--b--\nepilogue";
    let args = r#""body_args":{"a":["1","2"],"c":"two\r\nlines"}}"#;
    for parameter in [
        "boundary=b",
        "boundary=\"b\"",
        "Boundary=b",
        "charset=utf-8;BOUNDARY=b",
    ] {
        assert_eq!(from_body_args(multipart(parameter, body)), args, "{parameter}");
    }
    // LF only.
    let request = format!("POST /\ncontent-type: multipart/form-data; boundary=b\n\n{body}");
    assert_eq!(from_body_args(request), args.replace("\\r\\n", "\\n"));
    check(
        json!({}),
        multipart("boundary=b", "--b\n\nnameless\n--b--\n"),
        r#"{"body":"--b\r\n\r\nnameless\r\n--b--\r\n","body_args":{}}"#,
    );
    check_refused(
        json!({}),
        multipart("boundary=b", "--b\nno colon\n\n1\n--b--"),
        InvalidRequest,
        "the body is not multipart/form-data: part 1 has a header line without a colon at byte 5",
    );
}

#[test]
fn a_file_is_a_string_if_it_can_be_and_listed_in_body_files() {
    let text = "--b\nContent-Disposition: form-data; name=\"f\"; filename=\"é.txt\"\nContent-Type: text/plain\n\nhi\n--b\n\
                Content-Disposition: form-data; name=\"g\"; filename=\"\"\n\n\n--b--";
    assert_eq!(
        from_body_args(multipart("boundary=b", text)),
        concat!(
            r#""body_args":{"f":"hi","g":""},"#,
            r#""body_files":[{"name":"f","filename":"é.txt","content_type":"text/plain","size":2},{"name":"g","filename":"","content_type":null,"size":0}]}"#
        )
    );
    let binary = b"POST /\ncontent-type: multipart/form-data; boundary=b\n\n--b\nContent-Disposition: form-data; name=f; filename=x\n\n\xff\xfe\n--b--";
    assert_eq!(
        from_body_args(binary),
        r#""body_args":{"f":{"base64":"//4="}},"body_files":[{"name":"f","filename":"x","content_type":null,"size":2}],"body_base64":true}"#
    );
}
