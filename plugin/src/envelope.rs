//! The envelope: Kong's JSON object of a request's parts.

mod body;
mod object;

use crate::form;
use crate::json;
use crate::multipart::Part;
use crate::record::{Input, Reject, header_name, is_credential};

/// Appends the envelope that the route's `forward_*` settings ask for.
pub(crate) fn write(out: &mut Vec<u8>, input: &Input<'_>) -> Result<(), Reject> {
    let forward = input.route.forward;
    out.push(b'{');
    if forward.method {
        object::member(out, "method");
        json::string_or_base64(out, input.head.method());
    }
    if forward.headers {
        object::member(out, "headers");
        headers(out, input)?;
    }
    if forward.uri {
        object::member(out, "uri");
        json::string_or_base64(out, input.head.target());
        object::member(out, "uri_args");
        args(out, input.head.query().unwrap_or_default());
    }
    if forward.body {
        body::write(out, input)?;
    }
    out.push(b'}');
    Ok(())
}

/// About how many bytes [`write`] appends for a request with that body.
pub(crate) fn size_hint(body: &[u8]) -> usize {
    // Text comes twice, the first time with its quotes escaped.
    body.len() * 2 + body.len() / 4 + 64
}

fn headers(out: &mut Vec<u8>, input: &Input<'_>) -> Result<(), Reject> {
    let named = &input.route.credential_headers;
    let withheld = |name: &[u8]| is_credential(name) && !named.iter().any(|n| n.as_bytes() == name);
    let fields = input
        .fields()
        .filter(|(name, _)| !withheld(name))
        .collect::<Vec<_>>();
    for (name, _) in &fields {
        header_name(name)?;
    }
    object::write(
        out,
        &fields,
        |(name, _)| name,
        |out, (_, value)| json::string_or_base64(out, value),
    );
    Ok(())
}

/// Appends the arguments of a query or form body as an object.
pub(crate) fn args(out: &mut Vec<u8>, text: &[u8]) {
    let args = form::args(text).collect::<Vec<_>>();
    object::write(
        out,
        &args,
        |arg| &arg.name,
        |out, arg| match arg.value() {
            Some(value) => json::string_or_base64(out, &value),
            None => out.extend_from_slice(b"true"),
        },
    );
}

/// Appends the parts of a multipart form as an object.
pub(crate) fn parts(out: &mut Vec<u8>, parts: &[Part<'_>]) {
    object::write(
        out,
        parts,
        |part| &part.name,
        |out, part| json::string_or_base64(out, part.content),
    );
}
