use std::sync::Arc;

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
        ..Record::default()
    }
}

fn shown(record: &Record, format: Format) -> Value {
    let mut out = Vec::new();
    let style = Style {
        format,
        unframed: false,
    };
    item(record, style, false, &mut out);
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
        let (text, kind) = bare(record.value.as_deref(), Format::Auto);
        (text.into_owned(), kind)
    };
    assert_eq!(of(Some(b"[1,\n2]")), ("[1,\n2]".to_owned(), "json"));
    assert_eq!(of(Some(b"a\nb")), ("a\nb".to_owned(), "string"));
    assert_eq!(of(Some(b"a\rb")), ("YQ1i".to_owned(), "base64"));
    assert_eq!(of(None), (String::new(), "null"));
}

#[test]
fn a_confluent_header_is_taken_off_where_there_is_one() {
    let unframed = |value: Option<&[u8]>, format| {
        let record = record(value);
        let style = Style {
            format,
            unframed: true,
        };
        let mut out = Vec::new();
        item(&record, style, false, &mut out);
        // Whoever reads it as it is gets it as it is.
        let whole = shown(&record, format);
        assert!(whole.get("schemaId").is_none());
        let mut again = Vec::new();
        item(&record, style, false, &mut again);
        assert_eq!(out, again);
        let item: Value = serde_json::from_slice(&out).unwrap();
        (
            item["schemaId"].clone(),
            item["value"].clone(),
            item["valueFormat"].clone(),
        )
    };
    for (bytes, format, schema, value, kind) in [
        (
            &b"\0\x01\x02\x03\x04{\"a\":1}"[..],
            Format::Auto,
            json!(16_909_060),
            json!({"a": 1}),
            "json",
        ),
        (
            b"\0\xff\xff\xff\xff\x02",
            Format::Base64,
            json!(u32::MAX),
            json!("Ag=="),
            "base64",
        ),
        (b"\0\0\0\0\x07", Format::Auto, json!(7), json!(""), "string"),
        // Too short for one, and another magic byte.
        (
            b"\0\0\0\x07",
            Format::Base64,
            Value::Null,
            json!("AAAABw=="),
            "base64",
        ),
        (
            b"\x01\0\0\0\x07x",
            Format::Base64,
            Value::Null,
            json!("AQAAAAd4"),
            "base64",
        ),
        (b"{\"a\":1}", Format::Auto, Value::Null, json!({"a": 1}), "json"),
    ] {
        assert_eq!(
            unframed(Some(bytes), format),
            (schema, value, json!(kind)),
            "{bytes:?}"
        );
    }
    assert_eq!(
        unframed(None, Format::Auto),
        (Value::Null, Value::Null, json!("null"))
    );
}
