//! Bearer tokens.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use crate::config::Secret;

/// Serves `router` only to requests with one of the tokens; to all when there is none.
pub(super) fn protect(router: Router, tokens: &[Secret]) -> Router {
    if tokens.is_empty() {
        return router;
    }
    let tokens: Arc<[Secret]> = Arc::from(tokens);
    router.layer(middleware::from_fn(move |request: Request, next: Next| {
        let tokens = Arc::clone(&tokens);
        async move {
            if may(request.headers(), &tokens) {
                return next.run(request).await;
            }
            refuse(request.headers())
        }
    }))
}

/// Whether the request shows one of the tokens.
pub(crate) fn may(headers: &HeaderMap, tokens: &[Secret]) -> bool {
    let Some(given) = headers
        .get(AUTHORIZATION)
        .and_then(|value| bearer(value.as_bytes()))
    else {
        return false;
    };
    // Every token is compared, and each in constant time: how long it takes says nothing about them.
    let mut found = subtle::Choice::from(0);
    for token in tokens {
        found |= token.expose().as_bytes().ct_eq(given);
    }
    found.into()
}

/// The name of the token that the request shows, if it is one of these.
pub(crate) fn name_of<'a>(headers: &HeaderMap, tokens: &'a [(String, Secret)]) -> Option<&'a str> {
    let given = bearer(headers.get(AUTHORIZATION)?.as_bytes())?;
    let mut found = None;
    for (name, token) in tokens {
        if token.expose().as_bytes().ct_eq(given).into() {
            found = found.or(Some(name.as_str()));
        }
    }
    found
}

/// The bearer token that the request shows, if it is text.
pub(crate) fn token(headers: &HeaderMap) -> Option<&str> {
    let token = bearer(headers.get(AUTHORIZATION)?.as_bytes())?;
    std::str::from_utf8(token).ok()
}

/// The token in `Bearer <token>`; the scheme's case does not matter (RFC 9110, 11.1).
pub(crate) fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

fn refuse(headers: &HeaderMap) -> Response {
    const TEXT: &str = "a bearer token is required";
    let is_grpc = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc");
    if headers.get(CONTENT_TYPE).is_some_and(is_grpc) {
        return tonic::Status::unauthenticated(TEXT).into_http();
    }
    let body =
        serde_json::json!({ "message": "not authenticated", "error": TEXT, "code": "not_authenticated" });
    let headers = [(WWW_AUTHENTICATE, "Bearer")];
    (StatusCode::UNAUTHORIZED, headers, axum::Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(header: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        may(&headers, &[Secret::new("first"), Secret::new("second")])
    }

    #[test]
    fn any_of_the_tokens_opens_and_nothing_else_does() {
        assert!(allowed(Some("Bearer first")));
        assert!(allowed(Some("bearer second")));
        for wrong in [
            "Bearer firs",
            "Bearer firstx",
            "Bearer ",
            "Basic first",
            "first",
            "",
        ] {
            assert!(!allowed(Some(wrong)), "{wrong:?}");
        }
        assert!(!allowed(None));
    }
}
