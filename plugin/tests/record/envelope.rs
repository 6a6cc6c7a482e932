//! The envelope's parts beside the body, decision by decision.

use serde_json::json;

use crate::harness::{check, json_value};

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
