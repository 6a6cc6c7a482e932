//! `fields`: what of each item a client wants.

use std::collections::HashMap;

use serde_json::value::RawValue;

use super::cursor::Cursor;
use super::item::{self, Style};
use crate::kafka::reader::Record;

/// What an item has, in its order.
const NAMES: [&str; 11] = [
    "id",
    "topic",
    "partition",
    "offset",
    "timestamp",
    "key",
    "keyFormat",
    "schemaId",
    "headers",
    "value",
    "valueFormat",
];
/// The most fields that one request names.
const MOST: usize = 64;

/// Some of an item's fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    /// Which of [`NAMES`].
    names: [bool; NAMES.len()],
    /// What of the value; empty: all of it.
    parts: Parts,
}

/// Members of an object, each with those of its own that are wanted; without any it is all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Parts(Vec<(String, Parts)>);

impl Parts {
    fn add(&mut self, path: &[&str]) {
        let Some((name, rest)) = path.split_first() else {
            // All of it: what was named within it is in that.
            self.0.clear();
            return;
        };
        match self.0.iter_mut().find(|(known, _)| known == name) {
            // All of it is wanted already.
            Some((_, parts)) if parts.0.is_empty() => {}
            Some((_, parts)) => parts.add(rest),
            None => {
                let mut parts = Self::default();
                if !rest.is_empty() {
                    parts.add(rest);
                }
                self.0.push(((*name).to_owned(), parts));
            }
        }
    }

    /// Writes the members that are wanted of what is an object; false if it is none.
    fn write(&self, json: &str, out: &mut Vec<u8>) -> bool {
        let Ok(members) = serde_json::from_str::<HashMap<String, &RawValue>>(json) else {
            return false;
        };
        out.push(b'{');
        let mut first = true;
        for (name, parts) in &self.0 {
            let Some(value) = members.get(name) else { continue };
            let before = out.len();
            if !first {
                out.push(b',');
            }
            item::string(name, out);
            out.push(b':');
            if parts.0.is_empty() {
                item::json(value.get().as_bytes(), out);
            } else if !parts.write(value.get(), out) {
                // It has nothing of what is wanted.
                out.truncate(before);
                continue;
            }
            first = false;
        }
        out.push(b'}');
        true
    }
}

impl Fields {
    /// Reads a list, as `id,key,value.customer.id`.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut fields = Self {
            names: [false; NAMES.len()],
            parts: Parts::default(),
        };
        let mut whole = false;
        for (count, field) in text.split(',').map(str::trim).enumerate() {
            if count >= MOST {
                return Err(format!("names more than {MOST} fields"));
            }
            let mut path = field.split('.');
            let name = path.next().unwrap_or_default();
            let path: Vec<_> = path.collect();
            let known = NAMES
                .iter()
                .zip(&mut fields.names)
                .find(|(known, _)| **known == name);
            let Some((_, wanted)) = known else {
                return Err(format!("has {name:?}, which is none of {}", NAMES.join(", ")));
            };
            *wanted = true;
            if name != "value" && !path.is_empty() {
                return Err(format!("has {field:?}: only value has fields of its own"));
            }
            if path.iter().any(|name| name.is_empty()) {
                return Err(format!("has {field:?}, in which a name is missing"));
            }
            if name == "value" && path.is_empty() {
                whole = true;
            } else if name == "value" && !whole {
                fields.parts.add(&path);
            }
        }
        if whole {
            fields.parts = Parts::default();
        }
        Ok(fields)
    }

    /// A record's fields on one line.
    pub(super) fn write(&self, record: &Record, style: Style, encoded_id: bool, out: &mut Vec<u8>) {
        let start = out.len();
        let (schema, content) = item::framed(record, style.unframed);
        for (name, _) in NAMES.iter().zip(self.names).filter(|(_, wanted)| *wanted) {
            let before = out.len();
            out.push(if before == start { b'{' } else { b',' });
            item::string(name, out);
            out.push(b':');
            match *name {
                "id" => {
                    let id = Cursor::of(&record.topic, record.partition, record.offset);
                    item::string(&id.text(encoded_id), out);
                }
                "topic" => item::string(&record.topic, out),
                "partition" => out.extend_from_slice(record.partition.to_string().as_bytes()),
                "offset" => out.extend_from_slice(record.offset.to_string().as_bytes()),
                "timestamp" => match record.timestamp {
                    Some(ms) => out.extend_from_slice(ms.to_string().as_bytes()),
                    None => out.extend_from_slice(b"null"),
                },
                "key" => {
                    item::text(record.key.as_deref(), out);
                }
                "keyFormat" => item::string(item::text(record.key.as_deref(), &mut Vec::new()), out),
                "headers" => item::header_list(record, out),
                "valueFormat" => {
                    let kind = item::value(content.as_deref(), style.format, &mut Vec::new());
                    item::string(kind, out);
                }
                "schemaId" => match schema {
                    Some(id) => out.extend_from_slice(id.to_string().as_bytes()),
                    None => out.extend_from_slice(b"null"),
                },
                _ => self.value(content.as_deref(), style, out),
            }
        }
        if out.len() == start {
            out.push(b'{');
        }
        out.push(b'}');
    }

    /// The value, or what is wanted of it; `null` where it has no members.
    fn value(&self, content: Option<&[u8]>, style: Style, out: &mut Vec<u8>) {
        if self.parts.0.is_empty() {
            item::value(content, style.format, out);
            return;
        }
        let text = content.and_then(|value| std::str::from_utf8(value).ok());
        let before = out.len();
        if !text.is_some_and(|text| self.parts.write(text, out)) {
            out.truncate(before);
            out.extend_from_slice(b"null");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn shown(fields: &str, value: Option<&str>) -> String {
        let record = Record {
            topic: Arc::from("t"),
            partition: 1,
            offset: 7,
            timestamp: Some(12),
            key: Some("k".into()),
            headers: vec![(b"h".to_vec(), Some(b"1".to_vec()))],
            value: value.map(|text| text.to_owned().into()),
            ..Record::default()
        };
        let mut out = Vec::new();
        Fields::parse(fields)
            .unwrap()
            .write(&record, Style::default(), false, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_item_has_what_is_asked_for_in_the_order_of_items() {
        let value = Some(r#"{"a":{"b":1.50,"c":[1]},"d":null,"e":12345678901234567890123}"#);
        for (fields, item) in [
            ("id", r#"{"id":"t@1#7"}"#),
            ("offset,topic", r#"{"topic":"t","offset":7}"#),
            (
                "key,keyFormat,timestamp,partition",
                r#"{"partition":1,"timestamp":12,"key":"k","keyFormat":"string"}"#,
            ),
            (
                "headers",
                r#"{"headers":[{"name":"h","value":"1","format":"string"}]}"#,
            ),
            ("value.a.b", r#"{"value":{"a":{"b":1.50}}}"#),
            (
                "value.a.c, value.d,value.e",
                r#"{"value":{"a":{"c":[1]},"d":null,"e":12345678901234567890123}}"#,
            ),
            ("value.a.b,value.a", r#"{"value":{"a":{"b":1.50,"c":[1]}}}"#),
            ("value.a,value.a.b", r#"{"value":{"a":{"b":1.50,"c":[1]}}}"#),
            ("value.d.x,value.none", r#"{"value":{}}"#),
            (
                "value.a.b,value,valueFormat",
                r#"{"value":{"a":{"b":1.50,"c":[1]},"d":null,"e":12345678901234567890123},"valueFormat":"json"}"#,
            ),
        ] {
            assert_eq!(shown(fields, value), item, "{fields}");
        }
        assert_eq!(shown("value.a", Some("text")), r#"{"value":null}"#);
        assert_eq!(shown("value.a", None), r#"{"value":null}"#);
        assert_eq!(
            shown("value,valueFormat", None),
            r#"{"value":null,"valueFormat":"null"}"#
        );
        assert_eq!(
            shown("value.a", Some("{\"a\":\n[1,\r\n2]}")),
            r#"{"value":{"a":[1,  2]}}"#
        );
    }

    #[test]
    fn what_is_no_field_is_named() {
        for (fields, why) in [
            ("", "\"\""),
            ("nope", "\"nope\""),
            ("id,", "\"\""),
            ("key.a", "only value"),
            ("value.", "missing"),
            ("value..a", "missing"),
        ] {
            let error = Fields::parse(fields).unwrap_err();
            assert!(error.contains(why), "{fields}: {error}");
        }
        assert!(Fields::parse(&vec!["id"; 65].join(",")).is_err());
    }
}
