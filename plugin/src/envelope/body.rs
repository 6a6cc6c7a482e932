//! The envelope's `body`, `body_args`, `body_files` and `body_base64`.

use super::object;
use crate::json::{self, Shape};
use crate::media::Kind;
use crate::multipart::{self, Part};
use crate::record::{Input, Reject};

/// Appends the members that say what the body is.
pub(super) fn write(out: &mut Vec<u8>, input: &Input<'_>) -> Result<(), Reject> {
    let body = input.body;
    let kind = input.kind();
    if body.is_empty() {
        // Never parsed, whatever its type says.
        object::member(out, "body");
        out.extend_from_slice(b"\"\"");
        object::member(out, "body_args");
        out.extend_from_slice(b"{}");
        if kind == Kind::Opaque {
            base64_mark(out);
        }
        return Ok(());
    }
    if kind == Kind::Json {
        let document = input.json()?;
        if document.shape == Shape::Scalar {
            return Err(Reject::invalid(
                "the body is neither a JSON object nor a JSON array; send it as text/plain, or let the route pass bodies on untouched (value: body)",
            ));
        }
        object::member(out, "body");
        json::string(out, document.whole);
        object::member(out, "body_args");
        out.extend_from_slice(document.text.as_bytes());
        return Ok(());
    }
    let text = match kind {
        Kind::Opaque => None,
        _ => std::str::from_utf8(body).ok(),
    };
    object::member(out, "body");
    match text {
        Some(text) => json::string(out, text),
        None => json::base64_string(out, body),
    }
    match kind {
        Kind::Form => {
            object::member(out, "body_args");
            super::args(out, body);
        }
        Kind::Multipart(media) => {
            let parts = multipart::parts(media, body)
                .map_err(|fault| Reject::invalid(format!("the body is not multipart/form-data: {fault}")))?;
            object::member(out, "body_args");
            super::parts(out, &parts);
            files(out, &parts);
        }
        Kind::Json | Kind::Text | Kind::Opaque => {
            object::member(out, "body_args");
            out.extend_from_slice(b"{}");
        }
    }
    if text.is_none() {
        base64_mark(out);
    }
    Ok(())
}

fn base64_mark(out: &mut Vec<u8>) {
    object::member(out, "body_base64");
    out.extend_from_slice(b"true");
}

/// Appends `body_files`, if there is a file.
fn files(out: &mut Vec<u8>, parts: &[Part<'_>]) {
    let mut any = false;
    for part in parts {
        let Some(filename) = &part.filename else { continue };
        if any {
            out.push(b',');
        } else {
            object::member(out, "body_files");
            out.push(b'[');
            any = true;
        }
        out.extend_from_slice(b"{\"name\":");
        json::string_or_base64(out, &part.name);
        out.extend_from_slice(b",\"filename\":");
        json::string_or_base64(out, filename);
        out.extend_from_slice(b",\"content_type\":");
        match part.content_type {
            Some(content_type) => json::string_or_base64(out, content_type),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(format!(",\"size\":{}}}", part.content.len()).as_bytes());
    }
    if any {
        out.push(b']');
    }
}
