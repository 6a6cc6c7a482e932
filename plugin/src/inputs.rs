//! The inputs of a request: what its body holds, as JSON, for the sidecar's expressions.

use std::borrow::Cow;

use crate::envelope;
use crate::media::Kind;
use crate::multipart;
use crate::record::{Input, Reject, excerpt};

/// What the sidecar takes for JSON besides `application/json`, of records that come to it by themselves.
const JSON_TYPES: &str = "application/*+json";

/// The inputs of a request: a JSON body as it is, without what stands around it, or the fields of a form as an object.
/// `None` if it has no body.
pub(crate) fn of<'a>(input: &Input<'a>) -> Result<Option<Cow<'a, [u8]>>, Reject> {
    if input.body.is_empty() {
        return Ok(None);
    }
    Ok(Some(match input.kind() {
        Kind::Json => input.json()?.text.as_bytes().into(),
        kind => fields(kind, input.content_type(), input.body)?.into(),
    }))
}

/// The same of a body with that `content-type` and `content-encoding`, by the same rules but for JSON: that it is some is not
/// looked at, since what evaluates expressions does.
///
/// # Errors
/// What is wrong with it, in words that hold no more than an excerpt of the request.
pub fn of_body<'a>(
    content_type: Option<&[u8]>,
    content_encoding: Option<&[u8]>,
    body: &'a [u8],
) -> Result<Option<Cow<'a, [u8]>>, String> {
    if body.is_empty() {
        return Ok(None);
    }
    Ok(Some(
        match Kind::of(content_type, content_encoding, &[JSON_TYPES.to_owned()]) {
            Kind::Json => body.into(),
            kind => fields(kind, content_type, body)
                .map_err(|reject| reject.error)?
                .into(),
        },
    ))
}

/// A form's fields, in the shape that they have in an envelope's `body_args`. What is sent as a file is no field.
fn fields(kind: Kind<'_>, content_type: Option<&[u8]>, body: &[u8]) -> Result<Vec<u8>, Reject> {
    let mut out = Vec::new();
    match kind {
        Kind::Form => envelope::args(&mut out, body),
        Kind::Multipart(media) => {
            let parts = multipart::parts(media, body)
                .map_err(|fault| Reject::invalid(format!("the body is not multipart/form-data: {fault}")))?;
            let fields: Vec<_> = parts.into_iter().filter(|part| part.filename.is_none()).collect();
            envelope::parts(&mut out, &fields);
        }
        Kind::Json | Kind::Text | Kind::Opaque => {
            let said = content_type.map_or_else(|| "nothing".to_owned(), excerpt);
            return Err(Reject::invalid(format!(
                "this record is made of the inputs in a JSON body or a form, and the content-type says {said}: send \
                 application/json, application/x-www-form-urlencoded or multipart/form-data, without a content-encoding"
            )));
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(content_type: &str, body: &str) -> Result<String, String> {
        let found = of_body(Some(content_type.as_bytes()), None, body.as_bytes())?;
        Ok(String::from_utf8(found.unwrap().into_owned()).unwrap())
    }

    #[test]
    fn fields_of_forms_are_inputs_and_files_are_not() {
        let form = "application/x-www-form-urlencoded; charset=utf-8";
        for (body, expected) in [
            ("a=1&b=x+y%26&c", r#"{"a":"1","b":"x y&","c":true}"#),
            ("a=1&a=2&=nameless", r#"{"a":["1","2"]}"#),
            ("a=%ff", r#"{"a":{"base64":"/w=="}}"#),
            ("&", "{}"),
        ] {
            assert_eq!(inputs(form, body).unwrap(), expected);
        }
        let multipart = "--b\r\ncontent-disposition: form-data; name=a\r\n\r\n1\r\n\
                         --b\r\ncontent-disposition: form-data; name=f; filename=\"\"\r\n\r\nfile\r\n\
                         --b\r\ncontent-disposition: form-data; name=a\r\n\r\n2\r\n--b--\r\n";
        let media = "multipart/form-data; boundary=b";
        assert_eq!(inputs(media, multipart).unwrap(), r#"{"a":["1","2"]}"#);
        let cut = inputs(media, "--b\r\n").unwrap_err();
        assert!(cut.starts_with("the body is not multipart/form-data: "), "{cut}");
    }

    #[test]
    fn json_is_as_it_came_and_anything_else_is_refused() {
        assert_eq!(inputs("application/json", " {\"a\": 1}").unwrap(), " {\"a\": 1}");
        assert_eq!(inputs("application/problem+json", "1").unwrap(), "1");
        assert_eq!(of_body(None, None, b""), Ok(None));
        let why = inputs("text/plain", "x").unwrap_err();
        assert!(why.contains("the content-type says `text/plain`"), "{why}");
        let why = of_body(None, None, b"{}").unwrap_err();
        assert!(why.contains("the content-type says nothing"), "{why}");
        let gzip = of_body(Some(b"application/json"), Some(b"gzip"), b"{}");
        assert!(gzip.unwrap_err().contains("without a content-encoding"));
    }
}
