//! The REST face's records as JSON, against a plain reading of docs/http-api.md.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use sluice::produce::rest::parsers;
use sluice_proto::v1::{Header, Record};

/// A body of lines: what the documentation says each line is, and the same as an array.
pub(crate) fn records(data: &[u8]) {
    // As an array. Whatever is taken is as many records as there are items.
    if let Ok(records) = parsers::array("t", data) {
        let items = serde_json::from_slice::<Vec<Value>>(data);
        assert!(items.is_err_and(unrepresentable) || items_agree(data, &records));
    }
    let records = parsers::lines("t", data);
    if let Err(text) = &records {
        assert!(
            text.starts_with("line ") || text == "the body holds no record",
            "{text:?}"
        );
    }
    let lines = data
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
        .collect::<Vec<_>>();
    // The same lines as an array. JSON knows less white space than the lines that are skipped.
    let array = parsers::array("t", &[b"[", &lines.join(&b","[..])[..], b"]"].concat());
    if let Ok(records) = &records {
        assert_eq!(array.as_ref(), Ok(records));
        assert_eq!(records.len(), lines.len());
    }
    let trees = lines
        .iter()
        .map(|line| serde_json::from_slice::<Value>(line))
        .collect::<Result<Vec<_>, _>>();
    let Ok(trees) = trees else { return };
    let expected = trees.iter().map(record).collect::<Option<Vec<_>>>();
    match (&records, expected) {
        (Ok(records), Some(expected)) => agree(records, &expected),
        (Ok(records), None) => panic!("{records:?} from {}", data.escape_ascii()),
        (Err(_), None) => {}
        // A tree has lost the names that were there twice, which are refused. Written again they are there once.
        (Err(text), Some(expected)) => {
            let again = trees
                .iter()
                .map(|tree| tree.to_string() + "\n")
                .collect::<String>();
            match parsers::lines("t", again.as_bytes()) {
                Ok(records) => agree(&records, &expected),
                Err(_) => assert!(expected.is_empty(), "{text} in {again}"),
            }
        }
    }
}

/// Whether a tree of numbers and characters cannot hold what the `json` of a record can.
fn unrepresentable(error: serde_json::Error) -> bool {
    let text = error.to_string();
    let named = [
        "number out of range",
        "lone leading surrogate in hex escape",
        "unexpected end of hex escape",
        "recursion limit exceeded",
    ];
    named.iter().any(|known| text.starts_with(known))
}

fn items_agree(data: &[u8], records: &[Record]) -> bool {
    let items = serde_json::from_slice::<Vec<Value>>(data).expect("an array");
    let expected = items.iter().map(record).collect::<Option<Vec<_>>>();
    agree(
        records,
        &expected.expect("what is taken is what the documentation says"),
    );
    true
}

/// A record as read from a tree, its value apart where that is JSON.
struct Expected {
    record: Record,
    json: Option<Value>,
}

fn agree(records: &[Record], expected: &[Expected]) {
    assert_eq!(records.len(), expected.len());
    for (record, expected) in records.iter().zip(expected) {
        let mut record = record.clone();
        if let Some(json) = &expected.json {
            let text = record.value.take().expect("a value");
            assert_eq!(serde_json::from_slice::<Value>(&text).ok().as_ref(), Some(json));
        }
        assert_eq!(record, expected.record);
    }
}

/// The record that an object is; `None` if it is none.
fn record(tree: &Value) -> Option<Expected> {
    let members = tree.as_object()?;
    only(
        members,
        &["key", "value", "json", "partition", "timestamp", "headers"],
    )?;
    let mut record = Record {
        topics: vec!["t".to_owned()],
        delivery: sluice_proto::v1::Delivery::Acked.into(),
        ..Record::default()
    };
    record.key = match members.get("key") {
        None | Some(Value::Null) => None,
        Some(key) => Some(binary(key)?.into()),
    };
    let json = members.get("json").cloned();
    match (members.get("value"), &json) {
        (Some(Value::Null), None) | (None, Some(_)) => {}
        (Some(value), None) => record.value = Some(binary(value)?.into()),
        (Some(_), Some(_)) | (None, None) => return None,
    }
    let integer = |name: &str| match members.get(name) {
        None | Some(Value::Null) => Some(None),
        Some(number) => number.as_i64().map(Some),
    };
    record.partition = integer("partition")?.map(i32::try_from).transpose().ok()?;
    record.timestamp_ms = integer("timestamp")?;
    if let Some(headers) = members.get("headers") {
        record.headers = headers.as_array()?.iter().map(header).collect::<Option<_>>()?;
    }
    Some(Expected { record, json })
}

fn header(tree: &Value) -> Option<Header> {
    let members = tree.as_object()?;
    only(members, &["name", "value"])?;
    let value = match members.get("value") {
        None | Some(Value::Null) => None,
        Some(value) => Some(binary(value)?),
    };
    let name = members.get("name")?.as_str()?.to_owned();
    Some(Header { name, value })
}

fn binary(tree: &Value) -> Option<Vec<u8>> {
    match tree {
        Value::String(text) => Some(text.as_bytes().to_vec()),
        Value::Object(members) => {
            only(members, &["base64"])?;
            STANDARD.decode(members.get("base64")?.as_str()?).ok()
        }
        _ => None,
    }
}

fn only(members: &Map<String, Value>, names: &[&str]) -> Option<()> {
    members
        .keys()
        .all(|name| names.contains(&name.as_str()))
        .then_some(())
}
