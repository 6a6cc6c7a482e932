//! What the sidecar's JSON APIs have in common: bodies, versions, and answers that are no success.

mod error;

use std::time::SystemTime;

use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_TYPE, ETAG, IF_MATCH};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::Value;

pub(crate) use self::error::Error;

/// The longest body, in bytes.
pub(crate) const MAX_BODY: usize = 1 << 20;

/// What a call gives.
pub(crate) type Answer = Result<Response, Error>;

/// A JSON body.
pub(crate) struct Json(pub(crate) Value);

impl<S: Send + Sync> FromRequest<S> for Json {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let json = is_json(request.headers());
        let body = Bytes::from_request(request, state)
            .await
            .map_err(|error| too_large(&error).into_response())?;
        // What a browser sends elsewhere without asking is never JSON.
        if !json {
            return Err(Error::Unreadable(
                "the body must be JSON, and say so: content-type: application/json".to_owned(),
            )
            .into_response());
        }
        let read = serde_json::from_slice(&body);
        read.map(Self).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            // What stands there may be a secret.
            Error::Unreadable(format!("the body is no JSON: see line {line}, column {column}"))
                .into_response()
        })
    }
}

/// A JSON body, or none.
pub(crate) struct MaybeJson(pub(crate) Value);

impl<S: Send + Sync> FromRequest<S> for MaybeJson {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let empty = request.headers().get(CONTENT_TYPE).is_none();
        if empty {
            let body = Bytes::from_request(request, state)
                .await
                .map_err(|error| too_large(&error).into_response())?;
            if body.is_empty() {
                return Ok(Self(Value::Object(serde_json::Map::new())));
            }
            return Err(
                Error::Unreadable("the body needs a content-type: application/json".to_owned())
                    .into_response(),
            );
        }
        Json::from_request(request, state)
            .await
            .map(|Json(value)| Self(value))
    }
}

fn too_large(error: &BytesRejection) -> Error {
    match error.status().as_u16() {
        413 => Error::TooLarge(format!("the body is longer than {MAX_BODY} bytes")),
        _ => Error::Unreadable(error.body_text()),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let kind = kind
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// Whether the request is about version `version`: `If-Match` names it, or is not there.
pub(crate) fn check_match(headers: &HeaderMap, version: u64) -> Result<(), Error> {
    let Some(wanted) = headers.get(IF_MATCH) else {
        return Ok(());
    };
    let wanted = wanted
        .to_str()
        .map_err(|_| Error::Unreadable("If-Match is no text".to_owned()))?;
    let mut tags = wanted.split(',').map(str::trim);
    if tags.any(|tag| tag == "*" || tag == etag(version)) {
        return Ok(());
    }
    Err(Error::Stale(format!(
        "it has version {version} now, which If-Match ({wanted}) does not name"
    )))
}

pub(crate) fn etag(version: u64) -> String {
    format!("\"{version}\"")
}

/// Adds `ETag` to an answer.
pub(crate) fn tagged(version: u64, mut response: Response) -> Response {
    if let Ok(tag) = HeaderValue::from_str(&etag(version)) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// The fields of a body, and nothing else.
pub(crate) fn object(body: Value) -> Result<serde_json::Map<String, Value>, Error> {
    match body {
        Value::Object(map) => Ok(map),
        _ => Err(Error::field("", "must be a mapping")),
    }
}

/// Fails if a field is left that nobody has read, which would do nothing; `known` are those that are read.
pub(crate) fn nothing_else(left: &serde_json::Map<String, Value>, known: &[&str]) -> Result<(), Error> {
    let Some(unknown) = left.keys().next() else {
        return Ok(());
    };
    let known = match known {
        [before @ .., last] if !before.is_empty() => format!("known are {} and {last}", before.join(", ")),
        one => format!("known is {}", one.concat()),
    };
    Err(Error::field(unknown, format!("is not known here; {known}")))
}

/// Now, as RFC 3339 has it.
pub(crate) fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// Something that nobody else has.
pub(crate) fn new_id(prefix: &str) -> Result<String, Error> {
    let mut bytes = [0; 16];
    openssl::rand::rand_bytes(&mut bytes)
        .map_err(|error| Error::Unavailable(format!("there is no randomness: {error}")))?;
    Ok(format!("{prefix}_{:032x}", u128::from_be_bytes(bytes)))
}
