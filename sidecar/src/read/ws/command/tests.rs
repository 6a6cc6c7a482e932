use super::*;

fn said(text: &str) -> Said {
    parse(text).unwrap_or_else(|why| panic!("{why}: {text}"))
}

fn wrong(text: &str) -> String {
    said(text).command.expect_err(text)
}

#[test]
fn every_field_of_a_record_is_heeded() {
    let said = said(
        r#"{"type":"publish","id":"a\"b","topic":"t","key":{"base64":"AAE="},"value":"v","partition":3,"timestamp":4,
            "headers":[{"name":"h","value":"1"},{"name":"h","value":null}],"producer":"p","delivery":"buffered",
            "timeout_ms":7,"spool_on_outage":true,"idempotency_key":"once"}"#,
    );
    assert_eq!(said.id.as_deref(), Some(r#""a\"b""#));
    let Ok(Command::Publish(record)) = said.command else {
        panic!("{said:?}")
    };
    assert_eq!(record.topics, ["t"]);
    assert_eq!(record.key.as_deref(), Some(&[0, 1][..]));
    assert_eq!(record.value.as_deref(), Some(&b"v"[..]));
    assert_eq!((record.partition, record.timestamp_ms), (Some(3), Some(4)));
    let headers: Vec<_> = record
        .headers
        .iter()
        .map(|header| (header.name.as_str(), header.value.as_deref()))
        .collect();
    assert_eq!(headers, [("h", Some(&b"1"[..])), ("h", None)]);
    assert_eq!((record.producer.as_str(), record.deadline_ms), ("p", 7));
    assert_eq!(record.delivery(), v1::Delivery::Buffered);
    assert!(record.spool_on_outage);
    assert_eq!(&record.idempotency.unwrap().key[..], b"once");
}

#[test]
fn four_values_are_four_things() {
    let value = |text: &str| match said(text).command {
        Ok(Command::Publish(record)) => record.value,
        other => panic!("{other:?}"),
    };
    assert_eq!(value(r#"{"type":"publish","value":null}"#), None);
    assert_eq!(
        value(r#"{"type":"publish","value":""}"#).as_deref(),
        Some(&b""[..])
    );
    assert_eq!(
        value(r#"{"type":"publish","json":null}"#).as_deref(),
        Some(&b"null"[..])
    );
    assert_eq!(
        value(r#"{"type":"publish","json":{"a": 1.0}}"#).as_deref(),
        Some(&br#"{"a": 1.0}"#[..])
    );
    assert!(wrong(r#"{"type":"publish"}"#).contains("neither value nor json"));
    assert!(wrong(r#"{"type":"publish","value":"a","json":1}"#).contains("both"));
}

#[test]
fn a_key_stands_for_one_record() {
    let print = |text: &str| match said(text).command {
        Ok(Command::Publish(mut record)) => {
            fingerprint(&mut record);
            record.idempotency.unwrap().fingerprint
        }
        other => panic!("{other:?}"),
    };
    let base = print(r#"{"type":"publish","idempotency_key":"k","topic":"t","key":"a","value":"v"}"#);
    assert_eq!(
        base,
        print(r#"{"id":9,"value":"v","type":"publish","idempotency_key":"k","topic":"t","key":"a"}"#)
    );
    for other in [
        r#"{"type":"publish","idempotency_key":"k","topic":"u","key":"a","value":"v"}"#,
        r#"{"type":"publish","idempotency_key":"k","topic":"t","key":"av","value":""}"#,
        r#"{"type":"publish","idempotency_key":"k","topic":"t","key":"a","value":null}"#,
        r#"{"type":"publish","idempotency_key":"k","topic":"t","key":"a","value":"v","partition":0}"#,
        r#"{"type":"publish","idempotency_key":"k","topic":"t","key":"a","value":"v","timestamp":1}"#,
        r#"{"type":"publish","idempotency_key":"k","topic":"t","key":"a","value":"v","headers":[{"name":"h","value":null}]}"#,
        r#"{"type":"publish","idempotency_key":"k","topic":"t","key":"a","value":"v","headers":[{"name":"h","value":""}]}"#,
    ] {
        assert_ne!(base, print(other), "{other}");
    }
}

#[test]
fn positions_are_read() {
    assert!(
        matches!(said(r#"{"type":"ack","cursor":"t@0#5"}"#).command, Ok(Command::Ack(c)) if c == Cursor::of("t", 0, 5))
    );
    assert!(
        matches!(said(r#"{"type":"seek","cursor":"dEAwIzU"}"#).command, Ok(Command::Seek(Some(c), None)) if c == Cursor::of("t", 0, 5))
    );
    assert!(matches!(
        said(r#"{"type":"seek","from":"-5","id":7}"#).command,
        Ok(Command::Seek(None, Some(From::Last(5))))
    ));
    assert!(matches!(said(r#"{"type":"pause"}"#).command, Ok(Command::Pause)));
    assert!(matches!(
        said(r#" {"id":null,"type":"resume"} "#).command,
        Ok(Command::Resume)
    ));
}

#[test]
fn what_is_wrong_is_said_with_the_id() {
    for (text, what) in [
        (r#"{"id":1,"type":"publish","value":"a","valeu":1}"#, "valeu"),
        (r#"{"id":1,"type":"publish","value":5}"#, "invalid type"),
        (
            r#"{"id":1,"type":"publish","value":"a","partition":"0"}"#,
            "invalid type",
        ),
        (r#"{"id":1,"type":"publish","value":{"base64":"!"}}"#, "Invalid"),
        (
            r#"{"id":1,"type":"publish","value":"a","delivery":"soon"}"#,
            "soon",
        ),
        (
            r#"{"id":1,"type":"publish","value":"a","idempotency_key":""}"#,
            "idempotency_key",
        ),
        (
            r#"{"id":1,"type":"publish","value":"a","headers":[["h","v"]]}"#,
            "an object",
        ),
        (r#"{"id":1,"type":"ack"}"#, "cursor"),
        (r#"{"id":1,"type":"ack","from":"latest"}"#, "from"),
        (r#"{"id":1,"type":"ack","cursor":"t"}"#, "cursor"),
        (r#"{"id":1,"type":"seek"}"#, "one of them"),
        (
            r#"{"id":1,"type":"seek","from":"latest","cursor":"t@0#1"}"#,
            "one of them",
        ),
        (r#"{"id":1,"type":"seek","from":"then"}"#, "from"),
        (r#"{"id":1,"type":"pause","for":5}"#, "for"),
        (r#"{"id":1,"type":"subscribe"}"#, "publish, ack"),
        (r#"{"id":1}"#, "missing"),
    ] {
        let said = said(text);
        assert_eq!(said.id.as_deref(), Some("1"), "{text}");
        let why = said.command.expect_err(text);
        assert!(why.contains(what), "{text}: {why}");
    }
    for text in [
        r#"{"type":5}"#,
        r#"{"id":true,"type":"pause"}"#,
        r#"{"id":{},"type":"pause"}"#,
        r#"{"id":1,"id":2,"type":"pause"}"#,
    ] {
        assert!(said(text).id.is_none() && said(text).command.is_err(), "{text}");
    }
    let long = format!(r#"{{"type":"pause","id":"{}"}}"#, "x".repeat(MAX_ID));
    assert!(wrong(&long).contains("128"));
}

#[test]
fn what_is_no_object_ends_it() {
    for text in [
        "",
        "hello",
        "[1]",
        "5",
        "{",
        r#"{"type":"pause"} x"#,
        r#"{"type":}"#,
        "null",
        r#""{}""#,
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
}
