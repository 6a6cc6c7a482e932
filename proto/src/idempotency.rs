//! `Idempotency-Key`: how its header is read, and what stands for a request. Filter and REST face do it alike.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

/// The header, unless a route names another.
pub const HEADER: &str = "idempotency-key";

/// The header of an answer that an earlier request had first; its value is `true`.
pub const REPLAYED_HEADER: &str = "idempotent-replayed";

/// The longest key, in bytes.
pub const MAX_KEY: usize = 255;

/// The longest fingerprint, in bytes.
pub const MAX_FINGERPRINT: usize = 64;

/// What is wrong with a header's value as a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadKey(&'static str);

impl std::fmt::Display for BadKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// The key in a header's value: a string of RFC 9651 (section 3.3.3) in its quotes, as
/// draft-ietf-httpapi-idempotency-key-header has it, or anything printable without them, as most clients send it.
/// `"abc"` and `abc` are the same key.
///
/// # Errors
/// It is empty, too long, not printable ASCII, or a string that does not end.
pub fn key(value: &[u8]) -> Result<Cow<'_, [u8]>, BadKey> {
    let value = value.trim_ascii();
    let key = match value.strip_prefix(b"\"") {
        Some(rest) => unquoted(rest)?,
        None => Cow::Borrowed(value),
    };
    if key.is_empty() {
        return Err(BadKey("it is empty"));
    }
    if key.len() > MAX_KEY {
        return Err(BadKey("it has more than 255 bytes"));
    }
    if !key.iter().all(|byte| (b' '..=b'~').contains(byte)) {
        return Err(BadKey("it is not printable ASCII"));
    }
    Ok(key)
}

/// What is between the quotes, the first of which is gone. Parameters may follow, and say nothing.
fn unquoted(rest: &[u8]) -> Result<Cow<'_, [u8]>, BadKey> {
    let mut key = Vec::new();
    let mut bytes = rest.iter();
    loop {
        match bytes.next() {
            None => return Err(BadKey("its closing quote is missing")),
            Some(b'"') => break,
            Some(b'\\') => match bytes.next() {
                Some(escaped @ (b'"' | b'\\')) => key.push(*escaped),
                _ => {
                    return Err(BadKey(
                        "a backslash in it is followed by neither a quote nor a backslash",
                    ));
                }
            },
            Some(byte) => key.push(*byte),
        }
    }
    match bytes.as_slice().trim_ascii() {
        [] | [b';', ..] => Ok(Cow::Owned(key)),
        _ => Err(BadKey("something follows its closing quote")),
    }
}

/// What stands for a request: a hash of its parts, each of which counts by itself.
pub fn fingerprint<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_be_a_string_or_bare() {
        let cases: [(&str, Result<&str, &str>); 16] = [
            ("abc", Ok("abc")),
            ("  abc\t", Ok("abc")),
            ("\"abc\"", Ok("abc")),
            ("\"a\\\"b\\\\c\"", Ok("a\"b\\c")),
            ("\"abc\";v=1", Ok("abc")),
            ("\"abc\" ; v=1", Ok("abc")),
            (
                "8e03978e-40d5-43dd-bc93-6894a57f9324",
                Ok("8e03978e-40d5-43dd-bc93-6894a57f9324"),
            ),
            ("a b;c", Ok("a b;c")),
            ("a\"b", Ok("a\"b")),
            ("", Err("empty")),
            ("\"\"", Err("empty")),
            ("\"abc", Err("closing quote")),
            ("\"abc\"d", Err("follows")),
            ("\"a\\bc\"", Err("backslash")),
            ("\"abc\\", Err("backslash")),
            ("ä", Err("printable")),
        ];
        for (value, expected) in cases {
            match (key(value.as_bytes()), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(*found, *expected.as_bytes(), "{value}"),
                (Err(found), Err(expected)) => {
                    assert!(found.to_string().contains(expected), "{value}: {found}")
                }
                (found, _) => panic!("{value}: {found:?}"),
            }
        }
        assert!(key(&[b'k'; MAX_KEY]).is_ok());
        assert_eq!(
            key(&[b'k'; MAX_KEY + 1]),
            Err(BadKey("it has more than 255 bytes"))
        );
        assert!(key(b"a\0b").is_err());
    }

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(fingerprint([&b"ab"[..], b"c"]), fingerprint([&b"a"[..], b"bc"]));
        assert_ne!(fingerprint([&b""[..], b"a"]), fingerprint([&b"a"[..]]));
        // SHA-256 of eight zero bytes: of one empty part.
        assert_eq!(fingerprint([&b""[..]])[..4], [0xaf, 0x55, 0x70, 0xf5]);
    }
}
