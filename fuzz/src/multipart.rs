//! Multipart bodies, against a splitting by lines and against multer.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::stream;
use sluice_filter::parsers::{self, Part};

/// The first line is the content type, the rest the body.
pub(crate) fn multipart(data: &[u8]) {
    let mut halves = data.splitn(2, |b| *b == b'\n');
    let (content_type, body) = (
        halves.next().unwrap_or_default(),
        halves.next().unwrap_or_default(),
    );
    let result = parsers::multipart(content_type, body);
    let boundary = parsers::media_parameter(content_type, "boundary").filter(|boundary| !boundary.is_empty());
    if parsers::media_is(content_type, "multipart/form-data") && !body.is_empty() {
        // As a template's inputs: what is no file.
        let inputs = sluice_filter::inputs::of_body(Some(content_type), None, body);
        assert_eq!(inputs.is_ok(), result.is_ok(), "{inputs:?}");
        if let (Ok(Some(inputs)), Ok(parts)) = (inputs, &result) {
            let inputs: serde_json::Value = serde_json::from_slice(&inputs).expect("JSON");
            let any = parts.iter().any(|part| part.filename.is_none());
            assert_eq!(inputs.as_object().expect("an object").is_empty(), !any);
        }
    }
    let Some(boundary) = boundary else {
        assert!(result.is_err(), "parts without a boundary");
        return;
    };
    let split = split(body, &boundary);
    match &result {
        Ok(parts) => {
            let sections = split.sections.as_ref().expect("a closing boundary");
            pieces(parts, sections, body);
            compose(parts);
        }
        Err(fault) => {
            assert!(
                !fault.is_empty() && !fault.contains(char::is_control),
                "{fault:?}"
            );
            let header = fault.contains("header line");
            assert!(header || split.sections.is_none(), "{fault}");
        }
    }
    if let Ok(boundary) = std::str::from_utf8(&boundary)
        && difference(body, boundary, &split).is_none()
    {
        let theirs = multer(body, boundary);
        assert_eq!(
            result.as_ref().ok().map(|parts| owned(parts)),
            theirs,
            "{result:?}"
        );
    }
}

/// A body between its boundaries.
struct Split<'a> {
    /// What stands between two boundaries, without the line break before the second; `None` if none closes.
    sections: Option<Vec<&'a [u8]>>,
    /// How many lines are boundaries, the closing one included.
    delimiters: usize,
    /// Where the closing boundary's line ends.
    end: usize,
}

/// Line by line: whether a line is a boundary, from its two ends.
fn split<'a>(body: &'a [u8], boundary: &[u8]) -> Split<'a> {
    let mut sections = Vec::new();
    let mut begun: Option<usize> = None;
    let (mut at, mut delimiters) = (0, 0);
    for line in body.split_inclusive(|b| *b == b'\n') {
        let start = at;
        at += line.len();
        let text = line
            .strip_suffix(b"\n")
            .map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line));
        let Some(rest) = text
            .strip_prefix(b"--")
            .and_then(|text| text.strip_prefix(boundary))
        else {
            continue;
        };
        let blank = |text: &[u8]| text.iter().all(|b| matches!(b, b' ' | b'\t'));
        let closes = rest.strip_prefix(b"--").is_some_and(blank);
        if !closes && !blank(rest) {
            continue;
        }
        delimiters += 1;
        if let Some(begun) = begun {
            let section = body.get(begun..start).unwrap_or_default();
            let section = section
                .strip_suffix(b"\n")
                .map_or(section, |s| s.strip_suffix(b"\r").unwrap_or(s));
            sections.push(section);
        }
        if closes {
            return Split {
                sections: Some(sections),
                delimiters,
                end: at,
            };
        }
        begun = Some(at);
    }
    Split {
        sections: None,
        delimiters,
        end: at,
    }
}

/// Each part is the end of a section, behind its headers; in order.
fn pieces(parts: &[Part<'_>], sections: &[&[u8]], body: &[u8]) {
    assert!(parts.len() <= sections.len());
    let offset = |piece: &[u8]| piece.as_ptr().addr() - body.as_ptr().addr();
    let mut sections = sections.iter();
    for part in parts {
        assert!(!part.name.is_empty());
        let end = |piece: &[u8]| offset(piece) + piece.len();
        let section = sections
            .find(|section| offset(section) <= offset(part.content) && end(part.content) == end(section));
        let section = section.unwrap_or_else(|| panic!("{part:?} is the end of no section"));
        let headers = &section[..section.len() - part.content.len()];
        assert!(headers.is_empty() || headers.ends_with(b"\n") || part.content.is_empty());
    }
}

/// Written again, with a boundary that occurs in none of them, the parts are the same.
fn compose(parts: &[Part<'_>]) {
    // A line break in a name is one that was folded, and a filename's may have been percent-encoded.
    let breaks = |text: &[u8]| text.contains(&b'\n') || text.contains(&b'\r');
    if parts
        .iter()
        .any(|part| breaks(&part.name) || part.filename.as_deref().is_some_and(breaks))
    {
        return;
    }
    if parts.iter().any(|part| part.content_type.is_some_and(breaks)) {
        return;
    }
    let boundary = "composed".to_owned();
    let mut body = Vec::new();
    let quoted = |text: &[u8]| {
        let mut quoted = vec![b'"'];
        for byte in text {
            if matches!(byte, b'"' | b'\\') {
                quoted.push(b'\\');
            }
            quoted.push(*byte);
        }
        quoted.push(b'"');
        quoted
    };
    for part in parts {
        body.extend_from_slice(format!("--{boundary}\r\nContent-Disposition: form-data; name=").as_bytes());
        body.extend_from_slice(&quoted(&part.name));
        if let Some(filename) = &part.filename {
            body.extend_from_slice(b"; filename=");
            body.extend_from_slice(&quoted(filename));
        }
        body.extend_from_slice(b"\r\n");
        if let Some(content_type) = part.content_type {
            body.extend_from_slice(b"Content-Type: ");
            body.extend_from_slice(content_type);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"\r\n");
        body.extend_from_slice(part.content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    if parts
        .iter()
        .any(|part| memchr_like(part.content, boundary.as_bytes()))
    {
        return;
    }
    let content_type = format!("multipart/form-data; boundary={boundary}");
    let again = parsers::multipart(content_type.as_bytes(), &body).expect("what was composed comes apart");
    assert_eq!(owned(&again), owned(parts));
}

fn memchr_like(text: &[u8], piece: &[u8]) -> bool {
    text.windows(piece.len()).any(|window| window == piece)
}

/// Name, filename, content type, content.
type Owned = (Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>, Vec<u8>);

fn owned(parts: &[Part<'_>]) -> Vec<Owned> {
    let one = |part: &Part<'_>| {
        (
            part.name.to_vec(),
            part.filename.as_ref().map(|name| name.to_vec()),
            part.content_type.map(<[u8]>::to_vec),
            part.content.to_vec(),
        )
    };
    parts.iter().map(one).collect()
}

/// The named parts as multer finds them; `None` if it refuses the body.
fn multer(body: &[u8], boundary: &str) -> Option<Vec<Owned>> {
    let whole = stream::iter([Ok::<_, Infallible>(Bytes::copy_from_slice(body))]);
    let mut form = multer::Multipart::new(whole, boundary);
    let mut parts = Vec::new();
    loop {
        // All of the body is there, so that nothing is waited for.
        let field = form
            .next_field()
            .now_or_never()
            .expect("an answer at once")
            .ok()?;
        let Some(field) = field else { return Some(parts) };
        let name = field.name().unwrap_or_default().as_bytes().to_vec();
        let filename = field.file_name().map(|name| name.as_bytes().to_vec());
        let content_type = field
            .headers()
            .get("content-type")
            .map(|value| value.as_bytes().trim_ascii().to_vec());
        let content = field
            .bytes()
            .now_or_never()
            .expect("a field at once")
            .ok()?
            .to_vec();
        // It lists parts without a name too; docs/message.md leaves them in the body.
        if !name.is_empty() {
            parts.push((name, filename, content_type, content));
        }
    }
}

/// Why multer and docs/message.md see the body differently; `None` if nothing in it is a reason.
fn difference(body: &[u8], boundary: &str, split: &Split<'_>) -> Option<&'static str> {
    let body = &body[..split.end];
    for (at, byte) in body.iter().enumerate() {
        let crlf = match byte {
            b'\n' => at > 0 && body[at - 1] == b'\r',
            b'\r' => body.get(at + 1) == Some(&b'\n'),
            _ => continue,
        };
        if !crlf {
            return Some("bare line feeds are line breaks here; multer knows CRLF only");
        }
    }
    let delimiter = format!("--{boundary}");
    let occurrences = body
        .windows(delimiter.len())
        .filter(|window| *window == delimiter.as_bytes())
        .count();
    if occurrences != split.delimiters {
        return Some("a boundary is a whole line here; multer takes it anywhere");
    }
    if boundary.starts_with('-') || boundary.ends_with([' ', '\t', '-']) {
        return Some("a boundary that cannot be told from the dashes and the padding around it");
    }
    for section in split.sections.iter().flatten() {
        let Some(end) = section.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Some("a part may lack the empty line behind its headers here, or the headers");
        };
        if section.starts_with(b"\r\n") {
            return Some("a part may lack headers here");
        }
        let mut seen = Vec::new();
        for line in section[..end].split(|b| *b == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let Some(colon) = line.iter().position(|b| *b == b':') else {
                return Some("a header line without a colon is folded to nothing by some");
            };
            let (name, value) = (&line[..colon], &line[colon + 1..]);
            let token = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
            if name.is_empty() || !name.iter().all(token) {
                return Some("header names may be anything here, and lines may be folded");
            }
            if value.iter().any(|b| matches!(b, 0..0x20 | 0x7f) && *b != b'\t') {
                return Some("header values may hold control characters here");
            }
            let name = name.to_ascii_lowercase();
            if name == b"content-disposition" && !plain_disposition(value) {
                return Some("a disposition that is not plain");
            }
            if seen.contains(&name) {
                return Some("of a header that came twice the first counts here; multer takes the last");
            }
            seen.push(name);
        }
        if seen.len() > 32 {
            return Some("multer takes 32 headers");
        }
    }
    None
}

/// `form-data`, with `name` and `filename` at most once each. multer takes any type, names in lower case only, does
/// not undo `\\`, knows no `filename*`, drops what is not UTF-8, and looks for names in other parameters' values.
fn plain_disposition(value: &[u8]) -> bool {
    let Ok(value) = std::str::from_utf8(value) else {
        return false;
    };
    let mut seen = Vec::new();
    let Some(mut rest) = value.trim_matches([' ', '\t']).strip_prefix("form-data") else {
        return false;
    };
    while let Some(parameter) = rest.strip_prefix(';') {
        let Some((name, after)) = parameter.trim_start_matches(' ').split_once('=') else {
            return false;
        };
        if !["name", "filename"].contains(&name) || seen.contains(&name) {
            return false;
        }
        seen.push(name);
        let text = if let Some(quoted) = after.strip_prefix('"') {
            let Some((text, after)) = quoted.split_once('"') else {
                return false;
            };
            rest = after;
            text
        } else {
            let end = after.find(';').unwrap_or(after.len());
            rest = &after[end..];
            &after[..end]
        };
        let quoted = after.starts_with('"');
        if text.contains('\\') || text.contains("name") || (!quoted && text.contains(['"', ' ', '\t'])) {
            return false;
        }
        if !quoted && text.is_empty() {
            return false;
        }
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELD: &str = "Content-Disposition: form-data; name=a\r\n";

    /// Whether the two see the same in a body with the boundary `b`, and the reason if they need not.
    fn compared(body: &str) -> (bool, Option<&'static str>) {
        let ours = parsers::multipart(b"multipart/form-data; boundary=b", body.as_bytes());
        let theirs = multer(body.as_bytes(), "b");
        let split = split(body.as_bytes(), b"b");
        let same = ours.ok().map(|parts| owned(&parts)) == theirs;
        (same, difference(body.as_bytes(), "b", &split))
    }

    #[test]
    fn what_is_left_out_of_the_comparison_differs() {
        for body in [
            // Bare line feeds.
            format!("--b\n{FIELD}\nv\n--b--\n"),
            // A boundary within a line.
            format!("x--b\r\n{FIELD}\r\nv\r\n--b--"),
            format!("--b\r\n{FIELD}\r\n\r\n--bx\r\n--b--"),
            // No empty line, or no headers.
            format!("--b\r\n{FIELD}\r\n--b--"),
            format!("--b\r\n\r\nv\r\n--b\r\n{FIELD}\r\nw\r\n--b--"),
            // Headers that HTTP does not know.
            format!("--b\r\n{FIELD} : x\r\n\r\nv\r\n--b--"),
            format!("--b\r\n{FIELD}x: \u{1}\r\n\r\nv\r\n--b--"),
            format!("--b\r\n{FIELD}Content-Disposition: form-data; name=b\r\n\r\nv\r\n--b--"),
            format!("--b\r\n{FIELD}{}\r\nv\r\n--b--", "x: y\r\n".repeat(40)),
            // Dispositions.
            "--b\r\nContent-Disposition: attachment; name=a\r\n\r\nv\r\n--b--".to_owned(),
            "--b\r\nContent-Disposition: form-data; NAME=a\r\n\r\nv\r\n--b--".to_owned(),
            "--b\r\nContent-Disposition: form-data; name=\"a\\\\b\"\r\n\r\nv\r\n--b--".to_owned(),
            "--b\r\nContent-Disposition: form-data; name=a; filename*=UTF-8''b\r\n\r\nv\r\n--b--".to_owned(),
            "--b\r\nContent-Disposition: form-data; filename=\"; name=b\"; name=a\r\n\r\nv\r\n--b--"
                .to_owned(),
        ] {
            let (same, reason) = compared(&body);
            assert!(reason.is_some(), "{body:?} is compared");
            assert!(!same, "{body:?} need not be left out: {reason:?}");
        }
    }

    #[test]
    fn what_senders_send_is_compared() {
        for body in [
            "--b--".to_owned(),
            format!("preamble\r\n--b\r\n{FIELD}\r\nv\r\n--b-- \t\r\nepilogue --b"),
            format!("--b\r\n{FIELD}\r\n\r\n--b--\r\n"),
            format!(
                "--b\r\n{FIELD}\r\n--c\r\n\r\n--b \r\n{FIELD}Content-Type: x/y; z\r\n\r\n\0\r\n--b--\r\n"
            ),
            "--b\r\nContent-Disposition: form-data; name=\"é a;\"; filename=\"\"\r\n\r\nv\r\n--b--"
                .to_owned(),
            // Refused by both.
            format!("--b\r\n{FIELD}\r\nv"),
            "nothing".to_owned(),
            String::new(),
        ] {
            assert_eq!(compared(&body), (true, None), "{body:?}");
        }
    }
}
