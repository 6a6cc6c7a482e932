//! How a record is printed.

use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::kafka::consumer::Record;

/// 9999-12-31T23:59:59.999Z, the last time that has four digits for its year.
const LAST_MILLISECOND: i64 = 253_402_300_799_999;

/// One line: `partition@offset time key=… [name=value, …] value`. What is not there is left out, a tombstone says
/// so. What cannot be read by a human is escaped: control characters, and bytes that are not UTF-8.
pub(super) fn line(record: &Record) -> String {
    let mut line = format!("{}@{} ", record.partition, record.offset);
    match record.timestamp.filter(|ms| (0..=LAST_MILLISECOND).contains(ms)) {
        Some(ms) => {
            let time = UNIX_EPOCH + Duration::from_millis(ms.unsigned_abs());
            line.push_str(&humantime::format_rfc3339_millis(time).to_string());
        }
        None => line.push('-'),
    }
    if let Some(key) = &record.key {
        line.push_str(" key=");
        readable(&mut line, key);
    }
    if !record.headers.is_empty() {
        line.push_str(" [");
        for (i, (name, value)) in record.headers.iter().enumerate() {
            if i > 0 {
                line.push_str(", ");
            }
            readable(&mut line, name);
            if let Some(value) = value {
                line.push('=');
                readable(&mut line, value);
            }
        }
        line.push(']');
    }
    line.push(' ');
    match &record.value {
        Some(value) => readable(&mut line, value),
        None => line.push_str("(tombstone)"),
    }
    line
}

/// One JSON object. A string that is not UTF-8 is `{"base64": "…"}`.
pub(super) fn json(record: &Record) -> String {
    let optional = |bytes: &Option<Vec<u8>>| bytes.as_deref().map_or(Value::Null, text);
    let headers: Vec<Value> = record
        .headers
        .iter()
        .map(|(name, value)| json!({"name": text(name), "value": optional(value)}))
        .collect();
    let object = json!({
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": optional(&record.key),
        "headers": headers,
        "value": optional(&record.value),
    });
    object.to_string()
}

fn text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({"base64": STANDARD.encode(bytes)}),
    }
}

/// Appends `bytes` as they are, but for what would upset a terminal or a reader line by line.
fn readable(line: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => line.push_str("\\n"),
                '\r' => line.push_str("\\r"),
                '\t' => line.push_str("\\t"),
                c if c.is_control() => line.extend(c.escape_default()),
                c => line.push(c),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _infallible = write!(line, "\\x{byte:02x}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            topic: "orders".to_owned(),
            partition: 3,
            offset: 17,
            timestamp: Some(1_700_000_000_123),
            key: Some(b"customer-7".to_vec()),
            headers: vec![
                (b"content-type".to_vec(), Some(b"application/json".to_vec())),
                (b"empty".to_vec(), Some(Vec::new())),
                (b"none".to_vec(), None),
            ],
            value: Some(br#"{"a": "b\n"}"#.to_vec()),
        }
    }

    #[test]
    fn a_record_is_one_line() {
        assert_eq!(
            line(&record()),
            r#"3@17 2023-11-14T22:13:20.123Z key=customer-7 [content-type=application/json, empty=, none] {"a": "b\n"}"#
        );
        let bare = Record {
            timestamp: None,
            key: None,
            headers: Vec::new(),
            value: None,
            ..record()
        };
        assert_eq!(line(&bare), "3@17 - (tombstone)");
        let odd = Record {
            key: Some(Vec::new()),
            headers: Vec::new(),
            value: Some(b"\xff\x00 caf\xc3\xa9\n\r\t\x1b[2J".to_vec()),
            ..record()
        };
        assert_eq!(
            line(&odd),
            "3@17 2023-11-14T22:13:20.123Z key= \\xff\\u{0} café\\n\\r\\t\\u{1b}[2J"
        );
    }

    #[test]
    fn a_time_beyond_the_calendar_is_no_time() {
        for timestamp in [Some(-1), Some(i64::MAX), Some(LAST_MILLISECOND + 1)] {
            let record = Record {
                timestamp,
                ..record()
            };
            assert!(line(&record).starts_with("3@17 - key="), "{timestamp:?}");
        }
    }

    #[test]
    fn a_record_is_one_json_object() {
        assert_eq!(
            json(&record()),
            r#"{"topic":"orders","partition":3,"offset":17,"timestamp":1700000000123,"key":"customer-7","headers":[{"name":"content-type","value":"application/json"},{"name":"empty","value":""},{"name":"none","value":null}],"value":"{\"a\": \"b\\n\"}"}"#
        );
        let odd = Record {
            timestamp: None,
            key: None,
            headers: vec![(b"\xff".to_vec(), Some(b"\xfe".to_vec()))],
            value: Some(b"\xff\x00".to_vec()),
            ..record()
        };
        assert_eq!(
            json(&odd),
            r#"{"topic":"orders","partition":3,"offset":17,"timestamp":null,"key":null,"headers":[{"name":{"base64":"/w=="},"value":{"base64":"/g=="}}],"value":{"base64":"/wA="}}"#
        );
    }
}
