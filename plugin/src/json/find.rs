//! RFC 6901 pointers into text that is known to be JSON.

use std::borrow::Cow;

use super::words::plain_bytes;

/// What a pointer leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// A string: what stands between its quotes, escapes and all.
    String(&'a str),
    /// A number, `true` or `false`, as sent.
    Scalar(&'a str),
    /// `null`.
    Null,
    /// An object or an array.
    Composite,
}

/// Follows `pointer` from the top of `text`, which must have been checked. Of members with the same name the last
/// counts, as most readers have it.
pub(crate) fn find<'a>(text: &'a str, pointer: &str) -> Option<Found<'a>> {
    let mut cursor = Cursor { text, at: 0 };
    // What stands before the first slash is empty, and so is the pointer to the whole.
    for token in pointer.split('/').skip(1) {
        let name = if token.contains('~') {
            Cow::Owned(token.replace("~1", "/").replace("~0", "~"))
        } else {
            Cow::Borrowed(token)
        };
        cursor = match cursor.peek() {
            Some(b'{') => cursor.member(&name)?,
            Some(b'[') => cursor.element(&name)?,
            _ => return None,
        };
    }
    cursor.found()
}

/// The characters of a JSON string whose inside is `raw`; `None` if an escape gives half a surrogate pair, which is
/// no character.
pub(crate) fn unescaped(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.contains('\\') {
        return Some(Cow::Borrowed(raw));
    }
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((plain, after)) = rest.split_once('\\') {
        text.push_str(plain);
        let mut chars = after.chars();
        let character = match chars.next()? {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let (unit, after) = code_unit(chars.as_str())?;
                chars = after.chars();
                if let 0xd800..0xdc00 = unit {
                    let (low, after) = code_unit(after.strip_prefix("\\u")?)?;
                    chars = after.chars();
                    char::decode_utf16([unit, low]).next()?.ok()?
                } else {
                    char::from_u32(u32::from(unit))?
                }
            }
            other => other,
        };
        text.push(character);
        rest = chars.as_str();
    }
    text.push_str(rest);
    Some(Cow::Owned(text))
}

/// Four hexadecimal digits, and what follows.
fn code_unit(text: &str) -> Option<(u16, &str)> {
    let (digits, rest) = text.split_at_checked(4)?;
    Some((u16::from_str_radix(digits, 16).ok()?, rest))
}

/// A place in checked JSON where a value begins.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next place that holds no white space.
    fn space(mut self) -> Self {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.peek() {
            self.at += 1;
        }
        self
    }

    fn step(self, bytes: usize) -> Self {
        Self {
            at: self.at + bytes,
            ..self
        }
    }

    fn until(self, end: Self) -> &'a str {
        self.text.get(self.at..end.at).unwrap_or_default()
    }

    fn found(self) -> Option<Found<'a>> {
        Some(match self.peek()? {
            b'{' | b'[' => Found::Composite,
            b'"' => Found::String(self.inside()?.0),
            b'n' => Found::Null,
            _ => Found::Scalar(self.until(self.after())),
        })
    }

    /// The inside of the string that begins here, and the place behind it.
    fn inside(self) -> Option<(&'a str, Self)> {
        let end = self.after();
        let inside = self.text.get(self.at + 1..end.at.checked_sub(1)?)?;
        Some((inside, end))
    }

    /// The value of the last member with that name, of the object that begins here.
    fn member(self, name: &str) -> Option<Self> {
        let mut found = None;
        let mut cursor = self.step(1).space();
        while cursor.peek()? == b'"' {
            let (raw, after) = cursor.inside()?;
            // Behind the colon.
            cursor = after.space().step(1).space();
            if unescaped(raw).is_some_and(|text| text == name) {
                found = Some(cursor);
            }
            cursor = cursor.after().space();
            if cursor.peek()? != b',' {
                break;
            }
            cursor = cursor.step(1).space();
        }
        found
    }

    /// The element with that index, of the array that begins here.
    fn element(self, index: &str) -> Option<Self> {
        let canonical = index == "0" || !index.starts_with(['0', '+']);
        let index = index.parse::<usize>().ok().filter(|_| canonical)?;
        let mut cursor = self.step(1).space();
        if cursor.peek()? == b']' {
            return None;
        }
        for _ in 0..index {
            cursor = cursor.after().space();
            if cursor.peek()? != b',' {
                return None;
            }
            cursor = cursor.step(1).space();
        }
        Some(cursor)
    }

    /// The place behind the value that begins here.
    fn after(mut self) -> Self {
        let mut depth = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => self = self.after_string(),
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    self.at += 1;
                }
                b',' | b':' | b' ' | b'\n' | b'\t' | b'\r' => {
                    self.at += 1;
                    continue;
                }
                _ => self = self.after_word(),
            }
            if depth == 0 {
                break;
            }
        }
        self
    }

    /// Behind a number or a literal.
    fn after_word(mut self) -> Self {
        while !matches!(
            self.peek(),
            None | Some(b',' | b'}' | b']' | b' ' | b'\n' | b'\t' | b'\r')
        ) {
            self.at += 1;
        }
        self
    }

    fn after_string(mut self) -> Self {
        self.at += 1;
        loop {
            let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
            if let Some((word, _)) = rest.split_first_chunk::<8>() {
                let plain = plain_bytes(*word);
                self.at += plain;
                if plain == 8 {
                    continue;
                }
            }
            match self.peek() {
                Some(b'\\') => self.at += 2,
                Some(b'"') => return self.step(1),
                Some(_) => self.at += 1,
                None => return self,
            }
        }
    }
}

#[cfg(test)]
mod tests;
