//! JSON that passes through the filter, against serde_json.

use serde::de::IgnoredAny;
use serde_json::Value;
use sluice_filter::parsers::{self, Found};

/// The filter's bound unless a route sets another.
const MAX_DEPTH: u32 = 128;

/// What the filter takes for JSON is JSON, and a pointer finds in it what it finds in serde_json's tree.
pub(crate) fn json(data: &[u8]) {
    let text = std::str::from_utf8(data).ok();
    if let Some(text) = text {
        let written = String::from_utf8(parsers::json_string(text)).expect("a JSON string is UTF-8");
        assert_eq!(written, serde_json::to_string(text).unwrap());
    }
    let bounded = parsers::json(data, MAX_DEPTH);
    let document = match parsers::json(data, u32::MAX) {
        Ok(document) => document,
        Err(fault) => {
            // serde_json does not know byte order marks; docs/message.md skips one.
            let unmarked = text.map(|text| text.strip_prefix('\u{feff}').unwrap_or(text));
            let theirs = unmarked.map(serde_json::from_str::<IgnoredAny>);
            assert!(
                theirs.is_none_or(|theirs| theirs.is_err()),
                "refused: {}",
                fault.text
            );
            assert!(fault.at <= data.len());
            assert!(!fault.text.contains(char::is_control));
            assert!(bounded.is_err());
            return;
        }
    };
    assert_eq!(document.whole.as_bytes(), data);
    let around = data.strip_prefix("\u{feff}".as_bytes()).unwrap_or(data);
    let inside = around.trim_ascii();
    assert_eq!(document.text.as_bytes(), inside);
    serde_json::from_str::<IgnoredAny>(document.text).expect("serde_json takes it too");
    assert_eq!(document.composite, matches!(inside[0], b'{' | b'['));
    let depth = depth(document.text);
    match bounded {
        Ok(same) => {
            assert!(depth <= MAX_DEPTH);
            assert_eq!(same, document);
        }
        Err(fault) => assert!(depth > MAX_DEPTH, "{}", fault.text),
    }
    meaning(document.text);
}

/// How deep arrays and objects nest in a text that is JSON.
fn depth(text: &str) -> u32 {
    let (mut depth, mut deepest) = (0_u32, 0);
    let (mut quoted, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !quoted => depth -= 1,
            _ => {}
        }
    }
    deepest
}

/// How many of a tree's nodes pointers are followed to.
const NODES: usize = 200;

fn meaning(text: &str) {
    let tree = match serde_json::from_str::<Value>(text) {
        Ok(tree) => tree,
        Err(error) => {
            // What docs/message.md passes on as it was sent and a tree of numbers and characters cannot hold.
            let named = [
                "number out of range",
                "lone leading surrogate in hex escape",
                "unexpected end of hex escape",
                "recursion limit exceeded",
            ];
            let why = error.to_string();
            assert!(named.iter().any(|known| why.starts_with(known)), "{why}");
            // Whatever is found is part of the text.
            for pointer in ["", "/a", "/0", "/a/b"] {
                if let Some(Found::String(raw) | Found::Scalar(raw)) = parsers::json_find(text, pointer) {
                    assert!(text.contains(raw));
                    parsers::json_unescaped(raw);
                }
            }
            return;
        }
    };
    let mut left = NODES;
    visit(text, &mut String::new(), &tree, &mut left);
}

fn visit(text: &str, pointer: &mut String, node: &Value, left: &mut usize) {
    let Some(fewer) = left.checked_sub(1) else { return };
    *left = fewer;
    let found = parsers::json_find(text, pointer).unwrap_or_else(|| panic!("nothing at {pointer:?}"));
    match (node, found) {
        (Value::Null, Found::Null) | (Value::Object(_) | Value::Array(_), Found::Composite) => {}
        (Value::Bool(_) | Value::Number(_), Found::Scalar(raw)) => {
            assert_eq!(serde_json::from_str::<Value>(raw).unwrap(), *node);
        }
        (Value::String(expected), Found::String(raw)) => {
            assert_eq!(parsers::json_unescaped(raw).as_deref(), Some(expected.as_str()));
        }
        (node, found) => panic!("{found:?} at {pointer:?}, not {node}"),
    }
    let len = pointer.len();
    let absent = |pointer: &mut String, token: &str| {
        pointer.push('/');
        pointer.push_str(token);
        assert_eq!(parsers::json_find(text, pointer), None, "{pointer:?}");
        pointer.truncate(len);
    };
    match node {
        Value::Object(members) => {
            if !members.contains_key("no such") {
                absent(pointer, "no such");
            }
            for (name, child) in members {
                pointer.push('/');
                pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
                visit(text, pointer, child, left);
                pointer.truncate(len);
            }
        }
        Value::Array(items) => {
            for token in [
                &items.len().to_string(),
                "",
                "-",
                "-1",
                "+0",
                "00",
                "0x",
                "18446744073709551616",
            ] {
                absent(pointer, token);
            }
            for (index, child) in items.iter().enumerate() {
                pointer.push('/');
                pointer.push_str(&index.to_string());
                visit(text, pointer, child, left);
                pointer.truncate(len);
            }
        }
        _ => absent(pointer, "0"),
    }
}
