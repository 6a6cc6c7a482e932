use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use super::*;

fn record(value: Option<&[u8]>) -> Record {
    Record {
        topic: Arc::from("t"),
        partition: 1,
        offset: 7,
        timestamp: Some(12),
        key: Some(Bytes::from_static(b"k")),
        headers: vec![
            (b"a".to_vec(), Some(b"1".to_vec())),
            (b"a".to_vec(), None),
            (b"\xff".to_vec(), Some(b"\xfe".to_vec())),
        ],
        value: value.map(Bytes::copy_from_slice),
        shown: OnceLock::new(),
    }
}

fn shown(record: &Record, format: Format) -> Value {
    let mut out = Vec::new();
    item(record, format, false, &mut out);
    assert!(
        !out.contains(&b'\n') && !out.contains(&b'\r'),
        "more than one line"
    );
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn an_item_has_all_that_the_record_has() {
    let expected = json!({
        "id": "t@1#7", "topic": "t", "partition": 1, "offset": 7, "timestamp": 12,
        "key": "k", "keyFormat": "string",
        "headers": [
            { "name": "a", "value": "1", "format": "string" },
            { "name": "a", "value": null, "format": "null" },
            { "name": "/w==", "nameFormat": "base64", "value": "/g==", "format": "base64" },
        ],
        "value": { "n": 1 }, "valueFormat": "json",
    });
    let record = record(Some(b"{\"n\":\r\n1}"));
    assert_eq!(shown(&record, Format::Auto), expected);
    // The second time from what was kept.
    assert_eq!(shown(&record, Format::Auto), expected);
}

#[test]
fn a_value_is_what_it_can_be_and_the_item_says_which() {
    let of = |bytes: Option<&[u8]>, format| {
        let shown = shown(&record(bytes), format);
        (
            shown["value"].clone(),
            shown["valueFormat"].as_str().unwrap().to_owned(),
        )
    };
    let is = |value: Value, kind: &str| (value, kind.to_owned());
    assert_eq!(of(None, Format::Auto), is(Value::Null, "null"));
    assert_eq!(of(Some(b"null"), Format::Auto), is(Value::Null, "json"));
    assert_eq!(of(Some(b""), Format::Auto), is(json!(""), "string"));
    assert_eq!(of(Some(b"text"), Format::Auto), is(json!("text"), "string"));
    assert_eq!(of(Some(b"01"), Format::Auto), is(json!("01"), "string"));
    assert_eq!(
        of(Some(b"{\"a\":1} x"), Format::Auto),
        is(json!("{\"a\":1} x"), "string")
    );
    assert_eq!(of(Some(b"\xff"), Format::Auto), is(json!("/w=="), "base64"));
    assert_eq!(of(Some(b"\"\xff\""), Format::Auto), is(json!("Iv8i"), "base64"));
    assert_eq!(of(Some(b"[1]"), Format::String), is(json!("[1]"), "string"));
    assert_eq!(of(Some(b"[1]"), Format::Base64), is(json!("WzFd"), "base64"));
    assert_eq!(of(Some(b"x"), Format::Json), is(json!("eA=="), "base64"));
    assert_eq!(of(Some(b"\xff"), Format::String), is(json!("/w=="), "base64"));
}

#[test]
fn a_bare_value_has_no_carriage_return() {
    let of = |bytes: Option<&[u8]>| {
        let record = record(bytes);
        let (text, kind) = bare(&record, Format::Auto);
        (text.into_owned(), kind)
    };
    assert_eq!(of(Some(b"[1,\n2]")), ("[1,\n2]".to_owned(), "json"));
    assert_eq!(of(Some(b"a\nb")), ("a\nb".to_owned(), "string"));
    assert_eq!(of(Some(b"a\rb")), ("YQ1i".to_owned(), "base64"));
    assert_eq!(of(None), (String::new(), "null"));
}
