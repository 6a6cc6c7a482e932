//! What a record is made of.

use std::cell::OnceCell;

use super::Reject;
use crate::config::Route;
use crate::json::{self, Document};
use crate::media::{Kind, MediaType};
use crate::request::Head;

/// A request and what its route wants of it.
pub(crate) struct Input<'a> {
    pub(crate) route: &'a Route,
    pub(crate) head: Head<'a>,
    pub(crate) body: &'a [u8],
    /// The body as JSON, once somebody asked for it.
    json: OnceCell<Document<'a>>,
}

impl<'a> Input<'a> {
    pub(crate) fn new(route: &'a Route, head: Head<'a>, body: &'a [u8]) -> Self {
        Self {
            route,
            head,
            body,
            json: OnceCell::new(),
        }
    }

    /// The `content-type`, as sent.
    pub(crate) fn content_type(&self) -> Option<&'a [u8]> {
        self.head.get("content-type")
    }

    /// The media type; that of nothing if there is no `content-type`.
    pub(crate) fn media_type(&self) -> MediaType<'a> {
        MediaType::new(self.content_type().unwrap_or_default())
    }

    /// What the body is said to be.
    pub(crate) fn kind(&self) -> Kind<'a> {
        let encoding = self.head.get("content-encoding");
        Kind::of(self.content_type(), encoding, &self.route.json_content_types)
    }

    /// The body as JSON, whatever its type says.
    pub(crate) fn json(&self) -> Result<Document<'a>, Reject> {
        if let Some(document) = self.json.get() {
            return Ok(*document);
        }
        let max_depth = self.route.max_json_depth;
        let document = json::check(self.body, max_depth).map_err(|fault| {
            let bound = if fault.why == json::TOO_DEEP {
                format!(", max_json_depth is {max_depth}")
            } else {
                String::new()
            };
            Reject::invalid(format!(
                "the body is not JSON: {}{bound}",
                fault.describe(self.body)
            ))
        })?;
        Ok(*self.json.get_or_init(|| document))
    }

    /// The header fields, in order, without pseudo-headers; `:authority` is `host`, as in HTTP/1.1.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut authority = false;
        self.head.all().filter_map(move |(name, value)| match name {
            b":authority" => {
                authority = true;
                Some((&b"host"[..], value))
            }
            // Both say the same (RFC 9113 section 8.3.1), and pseudo-headers come first.
            b"host" if authority => None,
            [b':', ..] => None,
            _ => Some((name, value)),
        })
    }
}

/// Whether a header (lower case) holds a secret that says who the client is.
pub(crate) fn is_credential(name: &[u8]) -> bool {
    matches!(
        name,
        b"authorization" | b"proxy-authorization" | b"cookie" | b"set-cookie"
    )
}

/// Refuses a header's name that no text could stand for. HTTP knows only ASCII names, and no empty one (RFC 9110
/// section 5.1).
pub(crate) fn header_name(name: &[u8]) -> Result<&[u8], Reject> {
    if name.is_ascii() && !name.is_empty() {
        Ok(name)
    } else {
        Err(Reject::invalid(
            "the name of a request header is empty or not ASCII",
        ))
    }
}
