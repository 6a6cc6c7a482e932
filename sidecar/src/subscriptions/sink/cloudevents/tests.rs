use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::kafka::reader::Record;

fn event(headers: &[(&str, &str)], key: Option<&str>) -> Event {
    let headers = headers
        .iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), Some(value.as_bytes().to_vec())));
    Event {
        subscription: "sub_1".into(),
        record: Arc::new(Record {
            topic: "orders".into(),
            partition: 3,
            offset: 7,
            timestamp: Some(1_767_225_600_123),
            key: key.map(|key| Bytes::copy_from_slice(key.as_bytes())),
            headers: headers.collect(),
            value: None,
            shown: Default::default(),
            shown_unframed: Default::default(),
        }),
        attempts: 0,
    }
}

fn options() -> CloudEvents {
    CloudEvents {
        mode: Mode::Structured,
        source: None,
        r#type: TYPE.to_owned(),
    }
}

fn object(event: &Event, bytes: Option<&str>, content_type: &str, is_json: bool) -> (String, Value) {
    let bytes = bytes.map(|text| Bytes::copy_from_slice(text.as_bytes()));
    let data = Data {
        bytes: bytes.as_ref(),
        content_type: content_type.into(),
        is_json,
    };
    let mut out = Vec::new();
    options().object(event, &data, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let value = serde_json::from_str(&text).unwrap();
    (text, value)
}

#[test]
fn a_record_is_an_event_of_where_it_is() {
    let (text, value) = object(
        &event(&[], Some("k1")),
        Some("{\"n\": 1.10}"),
        "application/json",
        true,
    );
    assert_eq!(
        value,
        json!({
            "specversion": "1.0", "id": "sub_1/orders/3/7", "source": "/topics/orders", "type": TYPE,
            "subject": "partition:3#7", "time": "2026-01-01T00:00:00.123Z", "partitionkey": "k1",
            "datacontenttype": "application/json", "data": {"n": 1.1},
        })
    );
    assert!(text.ends_with(",\"data\":{\"n\": 1.10}}"), "{text}");
}

#[test]
fn data_is_json_text_or_base64() {
    let of = |bytes, content_type, is_json| object(&event(&[], None), bytes, content_type, is_json).1;
    assert_eq!(of(Some("é"), "text/plain", false)["data"], "é");
    assert_eq!(
        of(Some("<a/>"), "application/xml", false)["data_base64"],
        "PGEvPg=="
    );
    let none = of(None, "application/json", true);
    assert!(none.get("data").is_none() && none.get("datacontenttype").is_none());
}

#[test]
fn a_record_that_is_an_event_keeps_its_attributes() {
    let own = [
        ("ce_specversion", "1.0"),
        ("ce_id", "e 1"),
        ("ce_source", "/mine"),
        ("ce_type", "made"),
        ("ce_myext", "50% \"é\""),
        ("ce_BAD", "x"),
    ];
    let made = event(&own, None);
    let (_, value) = object(&made, None, "", false);
    assert_eq!(
        (&value["id"], &value["source"], &value["type"]),
        (&json!("e 1"), &json!("/mine"), &json!("made"))
    );
    assert!(value.get("subject").is_none() && value.get("BAD").is_none());
    let mut headers = HeaderMap::new();
    options().headers(&made, &mut headers);
    assert_eq!(headers["ce-id"], "e%201");
    assert_eq!(headers["ce-myext"], "50%25%20%22%C3%A9%22");
    assert_eq!(headers["ce-specversion"], "1.0");
    // Of another version, or none, nothing is known.
    let (_, value) = object(
        &event(&[("ce_specversion", "0.3"), ("ce_id", "x")], None),
        None,
        "",
        false,
    );
    assert_eq!(
        (&value["specversion"], &value["id"]),
        (&json!("1.0"), &json!("sub_1/orders/3/7"))
    );
}
