//! Signatures against AWS's own vectors, and credentials from an STS that is made up.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::UNIX_EPOCH;

use super::*;
use crate::config::AwsRole;

/// 2015-08-30T12:36:00Z.
fn then() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_440_938_160)
}

#[test]
fn signatures_are_those_of_awss_test_suite() {
    // `v4/get-vanilla-query-order-key-case` of aws-signing-test-suite (awslabs/aws-c-auth): query-signed-request.txt.
    let credentials = Credentials::new(
        "AKIDEXAMPLE",
        "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        None,
        None,
        "test",
    );
    let url = "https://example.amazonaws.com/?Param2=value2&Param1=value1";
    let service = ("us-east-1", "service");
    let signed = presigned(url, service, credentials, then(), Duration::from_secs(3600)).unwrap();
    for expected in [
        "X-Amz-Algorithm=AWS4-HMAC-SHA256",
        "X-Amz-Credential=AKIDEXAMPLE%2F20150830%2Fus-east-1%2Fservice%2Faws4_request",
        "X-Amz-Date=20150830T123600Z",
        "X-Amz-SignedHeaders=host",
        "X-Amz-Expires=3600",
        "X-Amz-Signature=86012e2c9ad4d77369f5d81c11f75158aae4f895a085212cc6d3f923d300bed5",
    ] {
        assert!(signed.contains(&format!("&{expected}")), "{signed}");
    }
}

/// What is in a token: the URL without its query, and its parameters, in their order.
fn taken_apart(token: &str) -> (String, Vec<(String, String)>) {
    let url = String::from_utf8(URL_SAFE_NO_PAD.decode(token).unwrap()).unwrap();
    let (url, query) = url.split_once('?').unwrap();
    let pairs = form_urlencoded::parse(query.as_bytes()).into_owned();
    (url.to_owned(), pairs.collect())
}

#[test]
fn a_token_is_a_signed_request() {
    let credentials = Credentials::new("AKIDEXAMPLE", "secret", Some("a+b/c=".to_owned()), None, "test");
    let (url, pairs) = taken_apart(&signed("eu-west-1", credentials, then()).unwrap());
    assert_eq!(url, "https://kafka.eu-west-1.amazonaws.com/");
    let names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names[0], names[names.len() - 1]), ("Action", "User-Agent"));
    for (name, expected) in [
        ("Action", "kafka-cluster:Connect"),
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
        (
            "X-Amz-Credential",
            "AKIDEXAMPLE/20150830/eu-west-1/kafka-cluster/aws4_request",
        ),
        ("X-Amz-Date", "20150830T123600Z"),
        ("X-Amz-Expires", "900"),
        ("X-Amz-SignedHeaders", "host"),
        ("X-Amz-Security-Token", "a+b/c="),
    ] {
        let found: Vec<&str> = pairs
            .iter()
            .filter(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .collect();
        assert_eq!(found, [expected], "{name}");
    }
    assert!(
        pairs
            .iter()
            .any(|(name, value)| name == "User-Agent" && value.starts_with("sluice/"))
    );
    let signature = pairs.iter().find(|(name, _)| name == "X-Amz-Signature").unwrap();
    assert_eq!(signature.1.len(), 64);
}

fn iam(endpoint: String) -> AwsIam {
    AwsIam {
        region: "eu-west-1".to_owned(),
        profile: None,
        keys: Some(AwsKeys {
            id: Secret::new("AKIDSTATIC"),
            secret: Secret::new("hunter2"),
            session_token: None,
        }),
        role: Some(AwsRole {
            arn: "arn:aws:iam::123456789012:role/orders".to_owned(),
            session_name: Some("gateway-7".to_owned()),
            external_id: Some(Secret::new("between-us")),
            sts_region: Some("eu-central-1".to_owned()),
            sts_endpoint: Some(endpoint),
        }),
    }
}

/// Answers one request with a status and a body; gives the request.
fn answer(listener: TcpListener, status: &'static str, body: String) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut request, mut buffer) = (String::new(), [0; 4096]);
        let complete = |request: &str| {
            let (head, body) = request.split_once("\r\n\r\n")?;
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.trim().parse::<usize>().ok())?
            })?;
            (body.len() >= length).then_some(())
        };
        while complete(&request).is_none() {
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0, "{request}");
            request.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/xml\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        request
    })
}

#[test]
fn a_role_is_assumed_with_static_keys() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let iam = iam(format!("http://{}", listener.local_addr().unwrap()));
    let now = SystemTime::now();
    let body = |ends: SystemTime| {
        format!(
            "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
             <AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
             <SessionToken>of-the-role</SessionToken><Expiration>{}</Expiration></Credentials></AssumeRoleResult>\
             </AssumeRoleResponse>",
            humantime::format_rfc3339_seconds(ends)
        )
    };
    // The credentials end before a token would.
    let ends = now + Duration::from_secs(600);
    let asked = answer(listener, "200 OK", body(ends));
    let shown = token(&iam, now).unwrap();
    assert_eq!(shown.until_ms / 1000, since_epoch(ends).as_secs() as i64);
    let (_, pairs) = taken_apart(shown.token.expose());
    let value = |wanted: &str| &pairs.iter().find(|(name, _)| name == wanted).unwrap().1;
    assert!(value("X-Amz-Credential").starts_with("ASIAROLE/"), "{pairs:?}");
    assert_eq!(value("X-Amz-Security-Token"), "of-the-role");
    let asked = asked.join().unwrap();
    let form = asked.rsplit_once("\r\n\r\n").unwrap().1;
    let form: Vec<(String, String)> = form_urlencoded::parse(form.as_bytes()).into_owned().collect();
    for (name, expected) in [
        ("Action", "AssumeRole"),
        ("RoleArn", "arn:aws:iam::123456789012:role/orders"),
        ("RoleSessionName", "gateway-7"),
        ("ExternalId", "between-us"),
    ] {
        let pair = (name.to_owned(), expected.to_owned());
        assert!(form.contains(&pair), "{name}: {form:?}");
    }
    assert!(asked.contains("Credential=AKIDSTATIC/"), "{asked}");
    assert!(asked.contains("/eu-central-1/sts/"), "{asked}");
    // For a moment the same credentials do: nobody listens there any more.
    token(&iam, now).unwrap();
}

#[test]
fn a_role_that_may_not_be_assumed_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let iam = iam(format!("http://{}", listener.local_addr().unwrap()));
    let body =
        "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message></Error></ErrorResponse>";
    let asked = answer(listener, "403 Forbidden", body.to_owned());
    let why = token(&iam, SystemTime::now()).unwrap_err();
    asked.join().unwrap();
    assert!(
        why.starts_with("no AWS credentials: ") && why.contains("AccessDenied"),
        "{why}"
    );
    assert!(!why.contains("hunter2") && !why.contains("between-us"), "{why}");
}
