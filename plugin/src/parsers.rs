//! The parsers of untrusted bytes, for the fuzz targets: the filter itself reaches them by other ways.

use std::borrow::Cow;

use crate::form::{self, Plus};
use crate::json::{self, Shape};
use crate::media::{self, MediaType};
use crate::multipart;

/// What a JSON pointer leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'a> {
    /// A string: what stands between its quotes, escapes and all.
    String(&'a str),
    /// A number, `true` or `false`, as sent.
    Scalar(&'a str),
    /// `null`.
    Null,
    /// An object or an array.
    Composite,
}

/// A part of a multipart body that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part<'a> {
    /// The field's name; never empty.
    pub name: Cow<'a, [u8]>,
    /// The file's name.
    pub filename: Option<Cow<'a, [u8]>>,
    /// The part's own `content-type`, as sent.
    pub content_type: Option<&'a [u8]>,
    /// What it holds.
    pub content: &'a [u8],
}

/// A text that is JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<'a> {
    /// All that was sent.
    pub whole: &'a str,
    /// The value as it was sent, without what stands around it.
    pub text: &'a str,
    /// Whether it is an object or an array.
    pub composite: bool,
}

/// What is wrong with a text, and at which byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The offset of the offending byte; the length of the text where more was expected.
    pub at: usize,
    /// In words.
    pub text: String,
}

/// Checks that `bytes` are one JSON value, nested at most `max_depth` deep.
///
/// # Errors
/// What is wrong, and where.
pub fn json(bytes: &[u8], max_depth: u32) -> Result<Json<'_>, Fault> {
    let document = json::check(bytes, max_depth).map_err(|fault| Fault {
        at: fault.at,
        text: fault.describe(bytes).to_string(),
    })?;
    Ok(Json {
        whole: document.whole,
        text: document.text,
        composite: document.shape != Shape::Scalar,
    })
}

/// Follows a JSON pointer from the top of [`Json::text`].
pub fn json_find<'a>(text: &'a str, pointer: &str) -> Option<Found<'a>> {
    Some(match json::find(text, pointer)? {
        json::Found::String(raw) => Found::String(raw),
        json::Found::Scalar(text) => Found::Scalar(text),
        json::Found::Null => Found::Null,
        json::Found::Composite => Found::Composite,
    })
}

/// The characters of a JSON string whose inside is `raw`.
pub fn json_unescaped(raw: &str) -> Option<Cow<'_, str>> {
    json::unescaped(raw)
}

/// `text` as a JSON string.
pub fn json_string(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    json::string(&mut out, text);
    out
}

/// An argument's name and value, decoded; no value if it came without `=`.
pub type Arg<'a> = (Cow<'a, [u8]>, Option<Cow<'a, [u8]>>);

/// The arguments of a query or form.
pub fn form(text: &[u8]) -> Vec<Arg<'_>> {
    form::args(text)
        .map(|arg| (arg.name.clone(), arg.value()))
        .collect()
}

/// Decodes the percent-encoding of a path.
pub fn path_decoded(raw: &[u8]) -> Cow<'_, [u8]> {
    form::decode(raw, Plus::IsPlus)
}

/// The named parts of a `multipart/form-data` body whose type, boundary and all, is `content_type`.
///
/// # Errors
/// What is wrong, in words.
pub fn multipart<'a>(content_type: &'a [u8], body: &'a [u8]) -> Result<Vec<Part<'a>>, String> {
    let parts = multipart::parts(MediaType::new(content_type), body).map_err(|fault| fault.to_string())?;
    let open = |part: multipart::Part<'a>| Part {
        name: part.name,
        filename: part.filename,
        content_type: part.content_type,
        content: part.content,
    };
    Ok(parts.into_iter().map(open).collect())
}

/// The first parameter of that name (lower case) of a media type.
pub fn media_parameter<'a>(content_type: &'a [u8], name: &str) -> Option<Cow<'a, [u8]>> {
    MediaType::new(content_type).parameter(name)
}

/// Whether `content_type` is the media type `name` (lower case).
pub fn media_is(content_type: &[u8], name: &str) -> bool {
    MediaType::new(content_type).is(name)
}

/// The parameters that follow a media type's first semicolon.
pub fn media_parameters(text: &[u8]) -> Vec<(&[u8], Cow<'_, [u8]>)> {
    media::parameters(text).collect()
}
