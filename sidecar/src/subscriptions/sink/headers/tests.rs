use proptest::prelude::*;

use super::*;

fn record(headers: &[(&[u8], Option<&[u8]>)]) -> Record {
    Record {
        topic: "t".into(),
        partition: 0,
        offset: 0,
        timestamp: None,
        key: None,
        headers: headers
            .iter()
            .map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec)))
            .collect(),
        value: None,
        shown: Default::default(),
        shown_unframed: Default::default(),
    }
}

#[test]
fn what_is_a_request_header_is_carried_in_order() {
    let record = record(&[
        (b"traceparent", Some(b"00-a-b-01")),
        (b"X-Tag", Some(b"1")),
        (b"x-tag", Some("é".as_bytes())),
        (b"empty", Some(b"")),
        (b"null", None),
        (b"x-request-id", Some(b"7")),
    ]);
    let mut out = HeaderMap::new();
    assert_eq!(carry(&record, false, &mut out), 0);
    assert_eq!(out["traceparent"], "00-a-b-01");
    let tags: Vec<_> = out.get_all("x-tag").iter().map(HeaderValue::as_bytes).collect();
    assert_eq!(tags, [b"1".as_slice(), "é".as_bytes()]);
    assert_eq!(
        (out["empty"].as_bytes(), out["null"].as_bytes()),
        (b"".as_slice(), b"".as_slice())
    );
    assert_eq!(out.len(), 6);
}

#[test]
fn what_would_be_dangerous_is_dropped_and_counted() {
    let bad: &[(&[u8], &[u8])] = &[
        (b"Host", b"evil"),
        (b"Authorization", b"Bearer x"),
        (b"proxy-authorization", b"x"),
        (b"Cookie", b"a=b"),
        (b"content-length", b"3"),
        (b"Transfer-Encoding", b"chunked"),
        (b"connection", b"close, X-Listed"),
        (b"x-listed", b"1"),
        (b"te", b"trailers"),
        (b"upgrade", b"h2c"),
        (b"keep-alive", b"1"),
        (b"expect", b"100-continue"),
        (b"x-forwarded-for", b"127.0.0.1"),
        (b"X-Envoy-Internal", b"true"),
        (b"forwarded", b"for=1"),
        (b":path", b"/admin"),
        (b":authority", b"evil"),
        (b"bad name", b"1"),
        (b"", b"1"),
        ("é".as_bytes(), b"1"),
        (b"split", b"1\r\nhost: evil"),
        (b"nul", b"\0"),
        (b"webhook-id", b"1"),
        (b"webhook-signature", b"v1,x"),
        (b"idempotency-key", b"1"),
        (b"kafka.topic", b"1"),
        (b"restate.subscription.id", b"1"),
        (b"ce-id", b"1"),
    ];
    let pairs: Vec<_> = bad.iter().map(|(name, value)| (*name, Some(*value))).collect();
    let mut out = HeaderMap::new();
    assert_eq!(carry(&record(&pairs), false, &mut out), bad.len(), "{out:?}");
    assert!(out.is_empty(), "{out:?}");
}

#[test]
fn an_operator_may_set_authorization_but_no_framing() {
    let may = |name: &str| may_be_set(&name.parse().unwrap());
    for good in [
        "authorization",
        "cookie",
        "content-type",
        "x-forwarded-for",
        "x-api-key",
    ] {
        assert!(may(good), "{good}");
    }
    for bad in [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "webhook-id",
        "kafka.key",
        "idempotency-key",
        "proxy-authorization",
    ] {
        assert!(!may(bad), "{bad}");
    }
}

proptest! {
    #[test]
    fn no_header_breaks_out(headers in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..12), prop::collection::vec(any::<u8>(), 0..12)), 0..8)) {
        let pairs: Vec<_> = headers.iter().map(|(name, value)| (name.as_slice(), Some(value.as_slice()))).collect();
        let mut out = HeaderMap::new();
        let dropped = carry(&record(&pairs), false, &mut out);
        let skipped = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"content-type")).count();
        prop_assert_eq!(dropped + out.len() + skipped, headers.len());
        for (name, value) in &out {
            prop_assert!(is_carried(name.as_str()));
            prop_assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
        }
    }
}
