//! What the API answers that is no success: `{"message", "error", "code"}`, as everywhere, with every problem in `problems`.

use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use sluice_settings::Problem;

use crate::registry;

/// Why a request was not carried out.
#[derive(Debug)]
pub(crate) enum Error {
    /// The request cannot be read: 400.
    Unreadable(String),
    /// What it asks for cannot be: 422, or 400 where it is the request's own form.
    Invalid(Vec<Problem>),
    /// What it is about is not there: 404.
    NotFound(String),
    /// Nobody knows who asks: 401.
    NotAuthenticated(String),
    /// It is not for whoever asks: 403.
    NotAllowed(String),
    /// It is not for the API to change: 403.
    ReadOnly(String),
    /// Something else refers to it, or it is there already: 409.
    Conflict(String),
    /// It is not the version that was named: 412.
    Stale(String),
    /// It is too long: 413.
    TooLarge(String),
    /// There is no state to keep it in: 503.
    NoState,
    /// Kafka, or the state, is not to be had now: 503.
    Unavailable(String),
    /// A deployment did not answer as it should: 502.
    BadDeployment(String),
    /// Nobody knows whether it was carried out: 504.
    Unknown(String),
}

impl Error {
    /// One problem with a field.
    pub(crate) fn field(path: &str, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Problem {
            path: path.to_owned(),
            message: message.into(),
        }])
    }

    fn parts(&self) -> (StatusCode, &'static str, String) {
        match self {
            Self::Unreadable(why) => (StatusCode::BAD_REQUEST, "invalid_request", why.clone()),
            Self::Invalid(problems) => {
                let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid", told.join("; "))
            }
            Self::NotFound(why) => (StatusCode::NOT_FOUND, "not_found", why.clone()),
            Self::NotAuthenticated(why) => (StatusCode::UNAUTHORIZED, "not_authenticated", why.clone()),
            Self::NotAllowed(why) => (StatusCode::FORBIDDEN, "not_allowed", why.clone()),
            Self::ReadOnly(why) => (StatusCode::FORBIDDEN, "read_only", why.clone()),
            Self::Conflict(why) => (StatusCode::CONFLICT, "conflict", why.clone()),
            Self::Stale(why) => (
                StatusCode::PRECONDITION_FAILED,
                "precondition_failed",
                why.clone(),
            ),
            Self::TooLarge(why) => (StatusCode::PAYLOAD_TOO_LARGE, "too_large", why.clone()),
            Self::NoState => (
                StatusCode::SERVICE_UNAVAILABLE,
                "no_state",
                "the sidecar has nowhere to keep it: set `state: {cluster: …}` in its configuration"
                    .to_owned(),
            ),
            Self::Unavailable(why) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", why.clone()),
            Self::BadDeployment(why) => (StatusCode::BAD_GATEWAY, "bad_deployment", why.clone()),
            Self::Unknown(why) => (StatusCode::GATEWAY_TIMEOUT, "outcome_unknown", why.clone()),
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.parts().2)
    }
}

impl From<registry::Error> for Error {
    fn from(error: registry::Error) -> Self {
        use registry::Error as From;
        let text = error.to_string();
        match error {
            From::Unavailable(_) | From::NotStored(_) => Self::Unavailable(text),
            From::Conflict { .. } | From::Unreadable { .. } => Self::Conflict(text),
            From::TooLarge(_) => Self::TooLarge(text),
            From::Unknown(_) => Self::Unknown(text),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, code, error) = self.parts();
        let mut body = json!({"message": "the request was not carried out", "error": error, "code": code});
        if let (Self::Invalid(problems), Some(body)) = (&self, body.as_object_mut()) {
            let all = problems
                .iter()
                .map(|problem| json!({"path": problem.path, "message": problem.message}));
            body.insert("problems".to_owned(), all.collect());
        }
        let mut headers = HeaderMap::new();
        if matches!(self, Self::Unavailable(_)) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if matches!(self, Self::NotAuthenticated(_)) {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        (status, headers, Json(body)).into_response()
    }
}
