//! Is this JSON? One pass over the bytes, without recursion; the grammar is RFC 8259's, nothing more.

use std::fmt;

use super::words::plain_bytes;

/// A text that is JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Document<'a> {
    /// All that was sent.
    pub(crate) whole: &'a str,
    /// The value as it was sent, without byte order mark and white space around.
    pub(crate) text: &'a str,
    /// What it is.
    pub(crate) shape: Shape,
}

/// What a JSON value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Object,
    Array,
    Scalar,
}

/// Why a [`Fault`]: the bound on nesting, which is the caller's, not JSON's.
pub(crate) const TOO_DEEP: &str = "nested too deep";

/// Where and why a text is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The offset of the offending byte; the length of the text where more was expected.
    pub(crate) at: usize,
    /// What was expected there.
    pub(crate) why: &'static str,
}

impl Fault {
    /// The fault in words, with line and column (in characters, from 1) for a text that starts with `bytes`.
    pub(crate) fn describe(self, bytes: &[u8]) -> impl fmt::Display + use<> {
        let before = bytes.get(..self.at).unwrap_or(bytes);
        let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        // Continuation bytes of UTF-8 begin no character.
        let column = 1 + before
            .iter()
            .skip(line_start)
            .filter(|b| **b & 0xc0 != 0x80)
            .count();
        let Self { at, why } = self;
        let end = if at >= bytes.len() {
            ", the end of the text"
        } else {
            ""
        };
        format!("{why} at line {line}, column {column} (byte {at}{end})")
    }
}

/// Checks that `bytes` are one JSON value, in UTF-8, nested at most `max_depth` deep. A byte order mark and white
/// space may stand around it.
pub(crate) fn check(bytes: &[u8], max_depth: u32) -> Result<Document<'_>, Fault> {
    let text = std::str::from_utf8(bytes).map_err(|error| Fault {
        at: error.valid_up_to(),
        why: "not UTF-8",
    })?;
    let mut scan = Scan {
        bytes,
        at: if text.starts_with('\u{feff}') { 3 } else { 0 },
    };
    scan.space();
    let start = scan.at;
    let shape = match scan.peek() {
        Some(b'{') => Shape::Object,
        Some(b'[') => Shape::Array,
        _ => Shape::Scalar,
    };
    scan.value(max_depth)?;
    let end = scan.at;
    scan.space();
    if scan.at < bytes.len() {
        return Err(scan.fault("expected nothing more"));
    }
    Ok(Document {
        whole: text,
        text: text.get(start..end).unwrap_or_default(),
        shape,
    })
}

/// Which of the open values are objects: one bit each, the innermost lowest.
#[derive(Default)]
struct Nesting {
    depth: u32,
    inner: u64,
    outer: Vec<u64>,
}

impl Nesting {
    fn open(&mut self, object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.outer.push(self.inner);
        }
        self.depth += 1;
        self.inner = self.inner << 1 | u64::from(object);
    }

    /// Closes the innermost; whether another is open.
    fn close(&mut self) -> bool {
        self.depth -= 1;
        self.inner >>= 1;
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.inner = self.outer.pop().unwrap_or_default();
        }
        self.depth > 0
    }

    fn in_object(&self) -> bool {
        self.inner & 1 == 1
    }
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn fault(&self, why: &'static str) -> Fault {
        Fault { at: self.at, why }
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn value(&mut self, max_depth: u32) -> Result<(), Fault> {
        let mut open = Nesting::default();
        loop {
            // A value begins here.
            let complete = match self.peek() {
                Some(b'"') => {
                    self.string()?;
                    true
                }
                Some(opening @ (b'{' | b'[')) => {
                    if open.depth >= max_depth {
                        return Err(self.fault(TOO_DEEP));
                    }
                    let object = opening == b'{';
                    open.open(object);
                    self.at += 1;
                    self.space();
                    if self.peek() == Some(if object { b'}' } else { b']' }) {
                        false
                    } else {
                        if object {
                            self.name()?;
                        }
                        continue;
                    }
                }
                Some(b'-' | b'0'..=b'9') => {
                    self.number()?;
                    true
                }
                Some(b't') => self.literal(b"true")?,
                Some(b'f') => self.literal(b"false")?,
                Some(b'n') => self.literal(b"null")?,
                _ => return Err(self.fault("expected a value")),
            };
            if complete && open.depth == 0 {
                return Ok(());
            }
            // A value ended here, or an empty array or object is about to.
            loop {
                self.space();
                match (self.peek(), open.in_object()) {
                    (Some(b','), in_object) => {
                        self.at += 1;
                        self.space();
                        if in_object {
                            self.name()?;
                        }
                        break;
                    }
                    (Some(b'}'), true) | (Some(b']'), false) => {
                        self.at += 1;
                        if !open.close() {
                            return Ok(());
                        }
                    }
                    (_, true) => return Err(self.fault("expected `,` or `}`")),
                    (_, false) => return Err(self.fault("expected `,` or `]`")),
                }
            }
        }
    }

    /// A member's name and its colon.
    fn name(&mut self) -> Result<(), Fault> {
        if self.peek() != Some(b'"') {
            return Err(self.fault("expected a member's name in quotes"));
        }
        self.string()?;
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.fault("expected `:`"));
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    /// A string, from its opening quote on.
    fn string(&mut self) -> Result<(), Fault> {
        let mut rest = self.bytes.get(self.at + 1..).unwrap_or_default();
        loop {
            while let Some((word, after)) = rest.split_first_chunk::<8>() {
                let plain = plain_bytes(*word);
                if plain == 8 {
                    rest = after;
                    continue;
                }
                rest = rest.get(plain..).unwrap_or_default();
                break;
            }
            let Some((byte, after)) = rest.split_first() else {
                self.at = self.bytes.len();
                return Err(self.fault("expected a closing quote"));
            };
            self.at = self.bytes.len() - rest.len();
            match byte {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => {
                    self.escape()?;
                    rest = self.bytes.get(self.at..).unwrap_or_default();
                }
                0..0x20 => return Err(self.fault("a control character must be escaped")),
                _ => rest = after,
            }
        }
    }

    fn escape(&mut self) -> Result<(), Fault> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => {
                let digits = self.bytes.get(self.at + 2..self.at + 6).unwrap_or_default();
                if digits.len() < 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
                    return Err(self.fault("expected four hexadecimal digits after `\\u`"));
                }
                self.at += 6;
                Ok(())
            }
            _ => Err(self.fault("no such escape")),
        }
    }

    fn literal(&mut self, word: &[u8]) -> Result<bool, Fault> {
        if self.bytes.get(self.at..).unwrap_or_default().starts_with(word) {
            self.at += word.len();
            Ok(true)
        } else {
            Err(self.fault("expected a value"))
        }
    }

    fn number(&mut self) -> Result<(), Fault> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
            if matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(self.fault("a number must not have leading zeros"));
            }
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start {
            return Err(self.fault("expected a digit"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
