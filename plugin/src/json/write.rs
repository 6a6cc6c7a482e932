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
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        rest = escape_block(out, rest);
        while let Some((byte, after)) = rest.split_first()
            && is_special(*byte)
            && letter(*byte).is_none()
        {
            let hex = |nibble: u8| {
                if nibble < 10 {
                    b'0' + nibble
                } else {
                    b'a' + nibble - 10
                }
            };
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 0xf)]);
            rest = after;
        }
    }
}

/// How much text at most gets room at a time.
const BLOCK: usize = 256;

/// Escapes the beginning of `text`, up to a byte that only its number can stand for; what is left.
///
/// Room is made for a block of text at once, and written with fixed lengths: through `Vec`'s own methods it takes half
/// as long again.
fn escape_block<'a>(out: &mut Vec<u8>, text: &'a [u8]) -> &'a [u8] {
    let mut rest = text.get(..BLOCK).unwrap_or(text);
    let block = rest.len();
    let start = out.len();
    // Two bytes for each, and a word beyond.
    out.resize(start + 2 * block + WORD, 0);
    let room = out.get_mut(start..).unwrap_or_default();
    let mut len = 0;
    while let Some((word, after)) = rest.split_first_chunk::<WORD>() {
        // All of it is written, and what is not plain is written over.
        put(room, len, *word);
        let plain = plain_bytes(*word);
        len += plain;
        if plain == WORD {
            rest = after;
            continue;
        }
        rest = rest.get(plain..).unwrap_or_default();
        let Some((special, after)) = rest.split_first() else {
            break;
        };
        let Some(letter) = letter(*special) else { break };
        put(room, len, [b'\\', letter]);
        len += 2;
        rest = after;
    }
    // Less than a word, or what the loop above stopped at.
    while let Some((byte, after)) = rest.split_first() {
        if is_special(*byte) {
            let Some(letter) = letter(*byte) else { break };
            put(room, len, [b'\\', letter]);
            len += 2;
        } else {
            put(room, len, [*byte]);
            len += 1;
        }
        rest = after;
    }
    out.truncate(start + len);
    text.get(block - rest.len()..).unwrap_or_default()
}

const WORD: usize = 8;

fn put<const N: usize>(room: &mut [u8], at: usize, bytes: [u8; N]) {
    if let Some(to) = room.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *to = bytes;
    }
}

/// What stands behind the backslash for a byte that cannot stand for itself; `None` if only its number will do.
fn letter(byte: u8) -> Option<u8> {
    Some(match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => return None,
    })
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
