//! JSON without a tree: text is checked in one pass and inserted as it came, strings are escaped by runs, and a
//! pointer is followed by skipping.

mod check;
mod find;
mod words;
mod write;

pub(crate) use check::{Document, Shape, TOO_DEEP, check};
pub(crate) use find::{Found, find, unescaped};
pub(crate) use write::{base64_string, escape, string, string_or_base64};
