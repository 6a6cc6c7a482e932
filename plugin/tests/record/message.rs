//! The envelope, decision by decision (docs/message.md has the table).

use serde_json::json;
use sluice_proto::class::ErrorClass::{InvalidRequest, TooLarge};

use crate::harness::{check, check_refused, json_value};

#[test]
fn the_fields_are_kongs_and_come_as_asked() {
    let request = "POST /p?a=1\ncontent-type: text/plain\n\nhi";
    check(json!({}), request, r#"{"body":"hi","body_args":{}}"#);
    check(
        json!({"forward_method": true, "forward_uri": true, "forward_headers": true}),
        request,
        r#"{"method":"POST","headers":{"host":"example.com","content-type":"text/plain"},"uri":"/p?a=1","uri_args":{"a":"1"},"body":"hi","body_args":{}}"#,
    );
    check(
        json!({"forward_method": true, "forward_body": false}),
        request,
        r#"{"method":"POST"}"#,
    );
    check(
        json!({"forward_uri": true, "forward_body": false}),
        request,
        r#"{"uri":"/p?a=1","uri_args":{"a":"1"}}"#,
    );
    check(
        json!({"forward_headers": true, "forward_body": false}),
        "GET /",
        r#"{"headers":{"host":"example.com"}}"#,
    );
}

#[test]
fn header_names_are_lower_case_with_host_and_without_pseudo_headers() {
    let config = json!({"forward_headers": true, "forward_body": false});
    check(
        config.clone(),
        "GET /\nX-Mixed-Case: V",
        r#"{"headers":{"host":"example.com","x-mixed-case":"V"}}"#,
    );
    // A host header beside `:authority` says the same.
    check(
        config,
        "GET /\nhost: example.com",
        r#"{"headers":{"host":"example.com"}}"#,
    );
}

#[test]
fn credentials_are_left_out_unless_named() {
    let request = "GET /\nauthorization: a\nproxy-authorization: b\ncookie: c\nset-cookie: d\nx: e";
    let config = json!({"forward_headers": true, "forward_body": false});
    check(config, request, r#"{"headers":{"host":"example.com","x":"e"}}"#);
    let config = json!({"forward_headers": true, "forward_body": false, "credential_headers": ["Authorization", "cookie"]});
    check(
        config,
        request,
        r#"{"headers":{"host":"example.com","authorization":"a","cookie":"c","x":"e"}}"#,
    );
    // What names a record header names no envelope header.
    let config =
        json!({"forward_headers": true, "forward_body": false, "headers": {"include_headers": ["cookie"]}});
    check(config, request, r#"{"headers":{"host":"example.com","x":"e"}}"#);
}

#[test]
fn a_repeated_header_is_an_array_in_order() {
    check(
        json!({"forward_headers": true, "forward_body": false}),
        "GET /\nx: 2\ny: only\nx: 1\naccept: a,b\nx:",
        r#"{"headers":{"host":"example.com","x":["2","1",""],"y":"only","accept":"a,b"}}"#,
    );
}

#[test]
fn values_that_are_not_utf8_are_base64_wherever_they_stand() {
    let config = json!({"forward_headers": true, "forward_uri": true, "forward_method": true});
    let request = b"P\xff /\xff?a=%ff&a=\xfe&b=1\nx: \xff\nx: ok\ncontent-type: application/x-www-form-urlencoded\n\nf=%FF&f=ok";
    check(
        config,
        request,
        concat!(
            r#"{"method":{"base64":"UP8="},"#,
            r#""headers":{"host":"example.com","x":[{"base64":"/w=="},"ok"],"content-type":"application/x-www-form-urlencoded"},"#,
            r#""uri":{"base64":"L/8/YT0lZmYmYT3+JmI9MQ=="},"uri_args":{"a":[{"base64":"/w=="},{"base64":"/g=="}],"b":"1"},"#,
            r#""body":"f=%FF&f=ok","body_args":{"f":[{"base64":"/w=="},"ok"]}}"#
        ),
    );
}

#[test]
fn names_that_are_not_utf8_are_percent_encoded() {
    check(
        json!({"forward_uri": true, "forward_body": false}),
        "GET /?%ff%C3%A9=1",
        r#"{"uri":"/?%ff%C3%A9=1","uri_args":{"%FFé":"1"}}"#,
    );
}

#[test]
fn arguments_of_query_and_form_follow_nginx() {
    let text = "r=1&r=2&flag&=nameless&empty=&bad=%zz%4&sp=a+b%20c&r&&k%3D=v%26";
    let args = r#"{"r":["1","2",true],"flag":true,"empty":"","bad":"%zz%4","sp":"a b c","k=":"v&"}"#;
    check(
        json!({"forward_uri": true, "forward_body": false}),
        format!("GET /?{text}"),
        &format!(r#"{{"uri":"/?{text}","uri_args":{args}}}"#),
    );
    check(
        json!({}),
        format!("POST /\ncontent-type: application/x-www-form-urlencoded\n\n{text}"),
        &format!(r#"{{"body":"{text}","body_args":{args}}}"#),
    );
    let uri_args = |target: &str| {
        json_value(
            &json!({"forward_uri": true, "forward_body": false}),
            format!("GET {target}"),
        )
    };
    assert_eq!(uri_args("/"), r#"{"uri":"/","uri_args":{}}"#);
    assert_eq!(uri_args("/?"), r#"{"uri":"/?","uri_args":{}}"#);
    assert_eq!(uri_args("/?a=?"), r#"{"uri":"/?a=?","uri_args":{"a":"?"}}"#);
}

#[test]
fn arguments_are_never_cut() {
    let query = (0..5000)
        .map(|i| format!("a{}={i}", i % 2500))
        .collect::<Vec<_>>()
        .join("&");
    let envelope = json_value(
        &json!({"forward_uri": true, "forward_body": false}),
        format!("GET /?{query}"),
    );
    let envelope: serde_json::Value = serde_json::from_str(&envelope).unwrap();
    let args = envelope["uri_args"].as_object().unwrap();
    assert_eq!(args.len(), 2500);
    for (i, (name, value)) in args.iter().enumerate() {
        assert_eq!(
            (name, value),
            (&format!("a{i}"), &json!([i.to_string(), (i + 2500).to_string()]))
        );
    }
}

#[test]
fn the_uri_is_the_target_as_envoy_hands_it_on() {
    check(
        json!({"forward_uri": true, "forward_body": false}),
        "GET /a//b/../%41%2f?x=%41",
        r#"{"uri":"/a//b/../%41%2f?x=%41","uri_args":{"x":"A"}}"#,
    );
}

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
        let reject = crate::harness::record(
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
