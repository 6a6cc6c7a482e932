//! JSON strings, written into a buffer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::words::{is_special, plain_bytes};

/// Appends `text` as a JSON string.
pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    escape(out, text);
    out.push(b'"');
}

/// Appends bytes as a JSON string, or, if they are not UTF-8, as `{"base64":"…"}`.
pub(crate) fn string_or_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => string(out, text),
        Err(_) => {
            out.extend_from_slice(b"{\"base64\":");
            base64_string(out, bytes);
            out.push(b'}');
        }
    }
}

/// Appends bytes as a JSON string of their base64 (RFC 4648 section 4, with padding).
pub(crate) fn base64_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let start = out.len();
    // Four characters for every three bytes begun.
    out.resize(start + bytes.len().div_ceil(3) * 4, b'=');
    let written = out
        .get_mut(start..)
        .and_then(|room| STANDARD.encode_slice(bytes, room).ok());
    debug_assert_eq!(written, Some(out.len() - start));
    out.push(b'"');
}

/// Appends `text` as it stands between the quotes of a JSON string.
pub(crate) fn escape(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + bytes.len() / 4 + 8);
    let mut rest = bytes;
    while let Some((word, after)) = rest.split_first_chunk::<8>() {
        let plain = plain_bytes(*word);
        // The whole word is written and what is not plain taken back: cheaper than a copy of variable length.
        out.extend_from_slice(word);
        if plain == 8 {
            rest = after;
            continue;
        }
        out.truncate(out.len() - (8 - plain));
        if let Some((special, after)) = rest.get(plain..).and_then(<[u8]>::split_first) {
            escape_special(out, *special);
            rest = after;
        }
    }
    for byte in rest {
        if is_special(*byte) {
            escape_special(out, *byte);
        } else {
            out.push(*byte);
        }
    }
}

fn escape_special(out: &mut Vec<u8>, byte: u8) {
    let letter = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            let hex = |nibble: u8| {
                if nibble < 10 {
                    b'0' + nibble
                } else {
                    b'a' + nibble - 10
                }
            };
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[hex(byte >> 4), hex(byte & 0xf)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', letter]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn control_characters_are_escaped_the_short_way_where_there_is_one() {
        let text = "\0\u{1}\u{8}\t\n\u{b}\u{c}\r\u{1f} \"\\/\u{7f}é";
        assert_eq!(
            written(|out| string(out, text)),
            "\"\\u0000\\u0001\\b\\t\\n\\u000b\\f\\r\\u001f \\\"\\\\/\u{7f}é\""
        );
    }

    #[test]
    fn bytes_that_are_not_text_come_as_base64() {
        assert_eq!(
            written(|out| string_or_base64(out, b"a\xff")),
            r#"{"base64":"Yf8="}"#
        );
        assert_eq!(written(|out| string_or_base64(out, "é".as_bytes())), "\"é\"");
        assert_eq!(written(|out| base64_string(out, b"")), "\"\"");
    }

    proptest! {
        #[test]
        fn strings_are_those_of_serde_json(text in any::<String>(), pad in 0..9_usize) {
            let text = format!("{}{text}\"{text}", " ".repeat(pad));
            prop_assert_eq!(written(|out| string(out, &text)), serde_json::to_string(&text).unwrap());
        }

        #[test]
        fn base64_is_that_of_its_crate(bytes in any::<Vec<u8>>()) {
            prop_assert_eq!(written(|out| base64_string(out, &bytes)), format!("\"{}\"", STANDARD.encode(&bytes)));
        }
    }
}
