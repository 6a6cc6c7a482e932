//! JSON objects, written member by member.

use crate::json;
use crate::record::Grouped;

/// Begins a member of the object that is being written. Nothing in `name` needs an escape.
pub(super) fn member(out: &mut Vec<u8>, name: &'static str) {
    // No value ends with an opening brace.
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Appends an object with one member for each distinct name, in the order of first appearance: a value that is alone
/// stands for itself, several are an array.
pub(super) fn write<T>(
    out: &mut Vec<u8>,
    items: &[T],
    name: impl Fn(&T) -> &[u8],
    mut value: impl FnMut(&mut Vec<u8>, &T),
) {
    out.push(b'{');
    let grouped = Grouped::new(items, &name);
    for (i, first) in grouped.firsts().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let alone = grouped.is_last(first);
        for (nth, item) in grouped.from(first).filter_map(|i| items.get(i)).enumerate() {
            if nth == 0 {
                write_name(out, name(item));
                out.push(b':');
            }
            match (alone, nth) {
                (true, _) => {}
                (false, 0) => out.push(b'['),
                (false, _) => out.push(b','),
            }
            value(out, item);
        }
        if !alone {
            out.push(b']');
        }
    }
    out.push(b'}');
}

/// A name must be a string: bytes that are not UTF-8 come percent-encoded.
fn write_name(out: &mut Vec<u8>, name: &[u8]) {
    out.push(b'"');
    for chunk in name.utf8_chunks() {
        json::escape(out, chunk.valid());
        for byte in chunk.invalid() {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    out.push(b'"');
}
