//! Values from JSON, and to it.

use std::fmt;
use std::io::Write as _;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use super::meter;
use super::value::Value;

impl Value {
    /// Of JSON.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        // Names are not copied into anything that is counted while they are read.
        meter::bytes(json.len());
        serde_json::from_slice(json)
    }

    /// As JSON on one line, `most` bytes of it at most: more ends the evaluation.
    pub(super) fn write(&self, out: &mut Vec<u8>, most: usize) {
        if !self.put(out, most) {
            meter::too_much_output(most);
        }
    }

    /// The beginning of it as JSON, for errors: somewhat more than `most` bytes at most.
    pub(super) fn write_part(&self, out: &mut Vec<u8>, most: usize) {
        if !self.put(out, most) {
            out.truncate(most);
            out.extend_from_slice("…".as_bytes());
        }
    }

    /// As JSON in text.
    pub(super) fn to_json(&self) -> Self {
        let mut out = Vec::new();
        self.put_counted(&mut out);
        Self::part(Bytes::from(out))
    }

    fn put_counted(&self, out: &mut Vec<u8>) {
        // What it takes is counted as it grows, by the same walk.
        let mut counted = 0;
        self.walk(out, &mut |length| {
            meter::bytes(length.saturating_sub(counted));
            counted = counted.max(length);
            true
        });
    }

    fn put(&self, out: &mut Vec<u8>, most: usize) -> bool {
        self.walk(out, &mut |length| length <= most)
    }

    /// Writes it while `goes_on` takes the length that `out` then has.
    fn walk(&self, out: &mut Vec<u8>, goes_on: &mut impl FnMut(usize) -> bool) -> bool {
        meter::steps(1);
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Int(number) => formatted(out, format_args!("{number}")),
            Self::Large(number) => formatted(out, format_args!("{number}")),
            Self::Float(number) => float(*number, out),
            Self::Text(text) => return string(text, out, goes_on),
            Self::Array(array) => {
                out.push(b'[');
                for (at, item) in array.items.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    if !item.walk(out, goes_on) {
                        return false;
                    }
                }
                out.push(b']');
            }
            Self::Object(object) => {
                out.push(b'{');
                for (at, (name, value)) in object.map.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    if !string(name, out, goes_on) {
                        return false;
                    }
                    out.push(b':');
                    if !value.walk(out, goes_on) {
                        return false;
                    }
                }
                out.push(b'}');
            }
        }
        goes_on(out.len())
    }
}

fn formatted(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    // Writing into memory does not fail.
    out.write_fmt(text).unwrap_or_default();
}

/// As jq: what is no number is null, and what is too large the largest that there is.
fn float(number: f64, out: &mut Vec<u8>) {
    let number = number.clamp(-f64::MAX, f64::MAX);
    serde_json::to_writer(out, &number).unwrap_or_default();
}

fn string(text: &[u8], out: &mut Vec<u8>, goes_on: &mut impl FnMut(usize) -> bool) -> bool {
    // Known before it is written: one text may be most of what there may be, and six times as long escaped.
    let escaped = text.iter().map(|byte| match byte {
        b'"' | b'\\' => 2_usize,
        0..=0x1f => 6,
        _ => 1,
    });
    if !goes_on(out.len().saturating_add(2).saturating_add(escaped.sum())) {
        return false;
    }
    serde_json::to_writer(&mut *out, &super::value::utf8(text)).unwrap_or_default();
    goes_on(out.len())
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Json;

        impl<'de> Visitor<'de> for Json {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Bool(value))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
                Ok(Value::Int(number))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
                Ok(Value::number(number.into()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
                Ok(Value::Float(number))
            }

            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value::from(text))
            }

            fn visit_string<E>(self, text: String) -> Result<Value, E> {
                Ok(Value::text(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
                let mut failed = None;
                let array = Value::array(std::iter::from_fn(|| {
                    items.next_element().unwrap_or_else(|why| {
                        failed = Some(why);
                        None
                    })
                }));
                failed.map_or(Ok(array), Err)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
                let mut failed = None;
                let object = Value::object(std::iter::from_fn(|| {
                    members.next_entry::<String, Value>().unwrap_or_else(|why| {
                        failed = Some(why);
                        None
                    })
                }));
                failed.map_or(Ok(object), Err)
            }
        }

        from.deserialize_any(Json)
    }
}
