//! `multipart/form-data` (RFC 7578, and RFC 2046 section 5.1 below it), over a body that is all there.
//!
//! Lenient where senders are: line breaks may be bare LF, and what stands before the first and behind the closing
//! boundary is skipped. Strict where data would be lost: a body without its closing boundary was cut off.

use std::borrow::Cow;
use std::fmt;

use memchr::memmem;

use crate::form::{self, Plus};
use crate::media::MediaType;

/// A part that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    /// The field's name; never empty.
    pub(crate) name: Cow<'a, [u8]>,
    /// The file's name. A part that has one, even an empty one, is a file.
    pub(crate) filename: Option<Cow<'a, [u8]>>,
    /// The part's own `content-type`, as sent.
    pub(crate) content_type: Option<&'a [u8]>,
    /// What it holds.
    pub(crate) content: &'a [u8],
}

/// Why a body is not what its type says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The type names no boundary.
    NoBoundary,
    /// No boundary was found at all.
    NoParts,
    /// The closing boundary is missing; the last one found begins at this byte.
    CutOff { at: usize },
    /// A line among a part's headers is none. Parts count from 1.
    BadHeader { part: usize, at: usize },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBoundary => f.write_str("its content-type has no boundary parameter"),
            Self::NoParts => f.write_str("the boundary that its content-type names does not occur in it"),
            Self::CutOff { at } => write!(
                f,
                "the closing boundary is missing after the boundary at byte {at}: the body was cut off"
            ),
            Self::BadHeader { part, at } => {
                write!(f, "part {part} has a header line without a colon at byte {at}")
            }
        }
    }
}

/// The parts of `body` that are named, in order. `media` is its type, which names the boundary.
pub(crate) fn parts<'a>(media: MediaType<'a>, body: &'a [u8]) -> Result<Vec<Part<'a>>, Fault> {
    let boundary = media
        .parameter("boundary")
        .filter(|b| !b.is_empty())
        .ok_or(Fault::NoBoundary)?;
    let delimiter = [b"--", &*boundary].concat();
    let mut found = Vec::new();
    let mut begun: Option<Delimiter> = None;
    let mut count = 0;
    for at in memmem::find_iter(body, &delimiter) {
        let Some(here) = Delimiter::at(body, at, delimiter.len()) else {
            continue;
        };
        if let Some(before) = begun {
            count += 1;
            let section = body.get(before.end..here.start).unwrap_or_default();
            found.extend(part(section, before.end, count)?);
        }
        if here.closes {
            return Ok(found);
        }
        begun = Some(here);
    }
    Err(begun.map_or(Fault::NoParts, |last| Fault::CutOff { at: last.at }))
}

/// A line that is a boundary.
#[derive(Debug, Clone, Copy)]
struct Delimiter {
    /// Where its dashes stand.
    at: usize,
    /// Where the line break before it begins, which belongs to it.
    start: usize,
    /// Where the next line begins.
    end: usize,
    /// Whether it closes the body.
    closes: bool,
}

impl Delimiter {
    /// The boundary whose dashes stand at `at`; `None` if the line is something else.
    fn at(body: &[u8], at: usize, len: usize) -> Option<Self> {
        let start = match body.get(..at)? {
            [] => 0,
            [.., b'\r', b'\n'] => at - 2,
            [.., b'\n'] => at - 1,
            _ => return None,
        };
        let rest = body.get(at + len..)?;
        let (closes, rest) = match rest {
            [b'-', b'-', rest @ ..] => (true, rest),
            _ => (false, rest),
        };
        let padding = rest.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        let rest = match rest.get(padding..)? {
            [b'\r', b'\n', rest @ ..] | [b'\n', rest @ ..] => rest,
            [] => &[],
            _ => return None,
        };
        Some(Self {
            at,
            start,
            end: body.len() - rest.len(),
            closes,
        })
    }
}

/// The part in `section`, which begins at byte `offset` of the body; `None` if it has no name.
fn part(section: &[u8], offset: usize, number: usize) -> Result<Option<Part<'_>>, Fault> {
    let mut disposition = None;
    let mut content_type = None;
    let mut rest = section;
    while !rest.is_empty() {
        let (line, after) = header(rest);
        let at = offset + section.len() - rest.len();
        rest = after;
        if line.is_empty() {
            break;
        }
        let mut halves = line.splitn(2, |b| *b == b':');
        let (Some(name), Some(value)) = (halves.next(), halves.next()) else {
            return Err(Fault::BadHeader { part: number, at });
        };
        let (name, value) = (name.trim_ascii(), value.trim_ascii());
        if name.eq_ignore_ascii_case(b"content-disposition") {
            disposition.get_or_insert(value);
        } else if name.eq_ignore_ascii_case(b"content-type") {
            content_type.get_or_insert(value);
        }
    }
    let Some(disposition) = disposition.map(MediaType::new).filter(|d| d.is("form-data")) else {
        return Ok(None);
    };
    let Some(name) = disposition.parameter("name").filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let filename = disposition
        .parameter("filename")
        .or_else(|| disposition.parameter("filename*").map(extended));
    Ok(Some(Part {
        name,
        filename,
        content_type,
        content: rest,
    }))
}

/// The header that `text` begins with, with the lines that continue it, and what follows its line break.
fn header(text: &[u8]) -> (&[u8], &[u8]) {
    let mut end = 0;
    loop {
        let rest = text.get(end..).unwrap_or_default();
        end += memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        let (line, after) = text.split_at_checked(end).unwrap_or((text, &[]));
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || !matches!(after, [b' ' | b'\t', ..]) {
            return (line, after);
        }
    }
}

/// `UTF-8''percent-encoded` (RFC 8187), which RFC 7578 forbids and some send.
fn extended(value: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    let encoded = value.splitn(3, |b| *b == b'\'').nth(2);
    encoded
        .map(|encoded| form::decode(encoded, Plus::IsPlus).into_owned().into())
        .unwrap_or(value)
}

#[cfg(test)]
mod tests;
