//! The URL that events go to.

#[cfg(test)]
mod tests;

use hyper::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::egress::Place;
use super::template::UrlTemplate;
use crate::config::Secret;
use crate::subscriptions::event::Event;

/// All that is neither a letter, a digit nor one of `-._~` (RFC 3986, section 2.3): what is put into a URL stays in its place.
const PART: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Where events go. Scheme, host and port are always the same: a record cannot choose them.
#[derive(Debug, Clone)]
pub struct Target {
    place: Place,
    shown: String,
    path: Path,
}

#[derive(Debug, Clone)]
enum Path {
    Fixed(Uri),
    /// The record's key is between the two.
    Keyed {
        before: String,
        after: String,
    },
    Template(UrlTemplate),
}

impl Target {
    /// A webhook: an `http` or `https` URL, which may have `{{ jq }}` in its path and its query.
    ///
    /// # Errors
    /// What is wrong with it. The query, which may hold a secret, is not quoted.
    pub fn webhook(text: &str) -> Result<Self, String> {
        if text.contains("{{") {
            let template = UrlTemplate::parse(text)?;
            let (place, path) = checked(template.sample())?;
            return Ok(Self {
                shown: format!("{place}{}", template.shown(&path)),
                place,
                path: Path::Template(template),
            });
        }
        let (place, path) = checked(text)?;
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        Ok(Self {
            shown: format!("{place}{path}"),
            place,
            path: Path::Fixed(uri(url.as_str())?),
        })
    }

    /// A handler of a service at `base`: `POST {base}/{service}/{handler}`, or `POST {base}/{service}/{key}/{handler}` with the record's
    /// key, where `keyed`.
    ///
    /// # Errors
    /// What is wrong with `base`.
    pub fn handler(base: &str, service: &str, handler: &str, keyed: bool) -> Result<Self, String> {
        let (place, path) = checked(base)?;
        let url = Url::parse(base).map_err(|error| error.to_string())?;
        if url.query().is_some() {
            return Err("has a query, which a service's URI cannot have".to_owned());
        }
        let root = url.as_str().trim_end_matches('/');
        let before = format!("{root}/{}", part(service));
        let after = format!("/{}", part(handler));
        let path = path.trim_end_matches('/');
        let key = if keyed { "/…" } else { "" };
        Ok(Self {
            shown: format!("{place}{path}/{service}{key}/{handler}"),
            place,
            path: if keyed {
                Path::Keyed { before, after }
            } else {
                Path::Fixed(uri(&format!("{before}{after}"))?)
            },
        })
    }

    /// Scheme, host and port.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The target for a person: no query, no keys.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The expressions in it.
    pub(super) fn template(&self) -> Option<&UrlTemplate> {
        match &self.path {
            Path::Template(template) => Some(template),
            Path::Fixed(_) | Path::Keyed { .. } => None,
        }
    }

    /// What may be secret in its query, so that no error repeats it.
    pub(super) fn secrets(&self) -> Vec<Secret> {
        let Path::Fixed(uri) = &self.path else {
            return Vec::new();
        };
        let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        let long = pairs.filter(|(_, value)| value.len() >= 8);
        long.map(|(_, value)| Secret::new(value)).collect()
    }

    /// Whether the URL is another one for each record.
    pub(super) fn is_by_record(&self) -> bool {
        !matches!(self.path, Path::Fixed(_))
    }

    /// The URL for an event; `rendered` is that of the template.
    ///
    /// # Errors
    /// The record cannot have one.
    pub(super) fn uri(&self, event: &Event, rendered: Option<&str>) -> Result<Uri, String> {
        match &self.path {
            Path::Fixed(uri) => Ok(uri.clone()),
            Path::Template(_) => uri(rendered.unwrap_or_default()),
            Path::Keyed { before, after } => {
                let key = event
                    .record
                    .key
                    .as_deref()
                    .ok_or("has no key, and the handler's object is named by it")?;
                let key = std::str::from_utf8(key)
                    .map_err(|_| "has a key that is not UTF-8, and the handler's object is named by it")?;
                uri(&format!("{before}/{}{after}", segment(key)?))
            }
        }
    }
}

/// Where a URL leads, and its path.
fn checked(text: &str) -> Result<(Place, String), String> {
    let url = Url::parse(text).map_err(|error| format!("is no URL: {error}"))?;
    if url.fragment().is_some() {
        return Err("has a fragment (#…), which is never sent".to_owned());
    }
    let place = Place::of(&url)?;
    uri(url.as_str())?;
    Ok((place, url.path().to_owned()))
}

fn uri(text: &str) -> Result<Uri, String> {
    text.parse().map_err(|error| format!("makes no URL: {error}"))
}

/// A part of a URL that is text of somebody else's.
pub(super) fn part(text: &str) -> String {
    utf8_percent_encode(text, PART).to_string()
}

/// The same, as a whole segment of a path: what servers take for another place in the tree cannot be one.
///
/// # Errors
/// It is empty, `.` or `..`.
pub(super) fn segment(text: &str) -> Result<String, String> {
    match text {
        "" => Err("has an empty key, which cannot be in a URL's path".to_owned()),
        "." | ".." => Err(format!(
            "has the key {text:?}, which leads elsewhere in a URL's path"
        )),
        text => Ok(part(text)),
    }
}
