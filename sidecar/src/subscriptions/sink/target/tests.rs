use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::kafka::reader::Record;

fn event(key: Option<&[u8]>) -> Event {
    Event {
        subscription: "sub".into(),
        record: Arc::new(Record {
            topic: "t".into(),
            partition: 0,
            offset: 0,
            timestamp: None,
            key: key.map(Bytes::copy_from_slice),
            headers: Vec::new(),
            value: None,
            shown: Default::default(),
            shown_unframed: Default::default(),
        }),
        attempts: 0,
    }
}

#[test]
fn a_webhook_is_called_as_it_is_written() {
    let target = Target::webhook("HTTPS://Hooks.Example.com/a%20b?token=s3cret").unwrap();
    assert_eq!(target.shown(), "https://hooks.example.com:443/a%20b");
    let uri = target.uri(&event(None), None).unwrap();
    assert_eq!(uri, "https://hooks.example.com/a%20b?token=s3cret");
    assert!(!target.is_by_record());
    for (bad, why) in [
        ("hooks.example.com", "is no URL"),
        ("https://x/#part", "fragment"),
        ("https://", "is no URL"),
        ("gopher://x/", "only http"),
        ("https://u:pw@x/", "authentication"),
    ] {
        let found = Target::webhook(bad).unwrap_err();
        assert!(found.contains(why) && !found.contains("pw"), "{bad}: {found}");
    }
}

#[test]
fn a_handler_is_below_its_service() {
    let plain = Target::handler("http://svc:9080/base/", "Greeter", "greet", false).unwrap();
    assert_eq!(
        plain.uri(&event(None), None).unwrap(),
        "http://svc:9080/base/Greeter/greet"
    );
    assert_eq!(plain.shown(), "http://svc:9080/base/Greeter/greet");
    let keyed = Target::handler("http://svc:9080", "Counter", "add", true).unwrap();
    assert_eq!(keyed.shown(), "http://svc:9080/Counter/…/add");
    for (key, path) in [
        ("k1", "/Counter/k1/add"),
        ("a/b?c#d", "/Counter/a%2Fb%3Fc%23d/add"),
        ("../..", "/Counter/..%2F../add"),
        ("é %", "/Counter/%C3%A9%20%25/add"),
        ("...", "/Counter/.../add"),
    ] {
        let uri = keyed.uri(&event(Some(key.as_bytes())), None).unwrap();
        assert_eq!(uri.path_and_query().unwrap(), path, "{key}");
    }
    for (key, why) in [
        (None, "has no key"),
        (Some(b"\xff".as_slice()), "not UTF-8"),
        (Some(b"".as_slice()), "an empty key"),
        (Some(b"..".as_slice()), "elsewhere"),
        (Some(b".".as_slice()), "elsewhere"),
    ] {
        let found = keyed.uri(&event(key), None).unwrap_err();
        assert!(found.contains(why), "{key:?}: {found}");
    }
    assert!(
        Target::handler("http://svc/?x=1", "S", "h", false)
            .unwrap_err()
            .contains("query")
    );
}
