//! Answers to requests that get no records.

use axum::http::header::{RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::kafka::group;
use crate::kafka::reader::Error;

/// Why a request gets no records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    kind: Kind,
    /// What happened, for people.
    text: String,
    challenge: Challenge,
}

/// What `WWW-Authenticate` says (RFC 6750, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Challenge {
    /// Nothing; of a request that is not authenticated, that a token is wanted.
    Usual,
    /// That the token is not good.
    InvalidToken,
    /// That it is good, and does not say enough.
    InsufficientScope,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The request is wrong.
    Invalid,
    /// It is no WebSocket's, and the path has nothing else.
    NoUpgrade,
    /// The page that asks is another site's.
    Origin,
    /// The path has another method.
    Method,
    /// It has no token, or none that is good.
    NotAuthenticated,
    /// No entry of `reads` lets the caller read the topic.
    NotAllowed,
    /// No entry of `reads` lets the caller use the group.
    GroupNotAllowed,
    /// Kafka does not let the sidecar.
    NotAuthorised,
    /// There is no such topic.
    UnknownTopic,
    /// The topic has no such partition.
    UnknownPartition,
    /// There is no such record.
    NoRecord,
    /// `auto_offset_reset` is `none`, and there is no position to start at.
    NoPosition,
    /// `auto_offset_reset` is `none`, and the position is not there.
    OutOfRange,
    /// The view would have more than it may.
    ViewTooLarge,
    /// A filter of the configuration fails on the record.
    FilterFailed,
    /// Kafka does not answer.
    Unavailable,
    /// The keys cannot be had that tell whether the token is good.
    NoKeys,
    /// There is no room for the reply.
    Overloaded,
}

impl Failure {
    pub(crate) fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            challenge: Challenge::Usual,
        }
    }

    /// The request has a token that is not good.
    pub(crate) fn bad_token(text: impl Into<String>) -> Self {
        Self {
            challenge: Challenge::InvalidToken,
            ..Self::new(Kind::NotAuthenticated, text)
        }
    }

    /// The request has a token that is good, and does not open this.
    pub(crate) fn not_enough(text: impl Into<String>) -> Self {
        Self {
            challenge: Challenge::InsufficientScope,
            ..Self::new(Kind::NotAllowed, text)
        }
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, text)
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// What happened, for people.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Status, code and message.
    fn row(&self) -> (u16, &'static str, &'static str) {
        match self.kind {
            Kind::Invalid => (400, "invalid_request", "invalid request"),
            Kind::NoUpgrade => (426, "upgrade_required", "upgrade required"),
            Kind::Origin => (403, "origin_not_allowed", "origin not allowed"),
            Kind::Method => (405, "method_not_allowed", "method not allowed"),
            Kind::NotAuthenticated => (401, "not_authenticated", "not authenticated"),
            Kind::NotAllowed => (403, "topic_not_allowed", "topic not allowed"),
            Kind::GroupNotAllowed => (403, "group_not_allowed", "group not allowed"),
            Kind::NotAuthorised => (403, "not_authorised", "not authorised"),
            Kind::UnknownTopic => (404, "unknown_topic", "unknown topic"),
            Kind::UnknownPartition => (404, "unknown_partition", "unknown partition"),
            Kind::NoRecord => (404, "no_record", "no such record"),
            Kind::NoPosition => (409, "no_position", "no position to start at"),
            Kind::OutOfRange => (409, "offset_out_of_range", "offset out of range"),
            Kind::ViewTooLarge => (413, "view_too_large", "the view is too large"),
            Kind::FilterFailed => (422, "filter_failed", "the filter failed"),
            Kind::Unavailable => (503, "unavailable", "Kafka unavailable"),
            Kind::NoKeys => (503, "unavailable", "keys unavailable"),
            Kind::Overloaded => (503, "overloaded", "overloaded"),
        }
    }

    /// The code of the answer.
    pub(crate) fn code(&self) -> &'static str {
        let (_, code, _) = self.row();
        code
    }

    /// As [`Self::body`], with the status of the answer in it, for who gets it otherwise than as one.
    pub(crate) fn body_with_status(&self) -> Value {
        let mut body = self.body();
        if let Some(body) = body.as_object_mut() {
            body.insert("status".to_owned(), self.row().0.into());
        }
        body
    }

    /// The body of the answer, which is also what a stream says before it ends.
    pub(crate) fn body(&self) -> Value {
        let (_, code, message) = self.row();
        json!({ "message": message, "error": self.text, "code": code })
    }

    /// Whether the same may do later.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self.kind, Kind::Unavailable | Kind::NoKeys | Kind::Overloaded)
    }
}

impl std::convert::From<Error> for Failure {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::UnknownTopic(_) => Kind::UnknownTopic,
            Error::UnknownPartition { .. } => Kind::UnknownPartition,
            Error::NotAuthorised(_) => Kind::NotAuthorised,
            Error::OutOfRange { .. } => Kind::OutOfRange,
            Error::Unavailable(_) => Kind::Unavailable,
        };
        Self::new(kind, error.to_string())
    }
}

impl std::convert::From<group::Error> for Failure {
    fn from(error: group::Error) -> Self {
        let kind = match error {
            group::Error::Read(error) => return error.into(),
            group::Error::NotAuthorised(_) => Kind::NotAuthorised,
            group::Error::NotMember { .. }
            | group::Error::Unavailable { .. }
            | group::Error::Fatal { .. } => Kind::Unavailable,
        };
        Self::new(kind, error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, _, _) = self.row();
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self.body())).into_response();
        let headers = response.headers_mut();
        if self.may_pass() {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.kind == Kind::NoUpgrade {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        let challenge = match self.challenge {
            Challenge::Usual if self.kind == Kind::NotAuthenticated => {
                Some(HeaderValue::from_static("Bearer"))
            }
            Challenge::Usual => None,
            Challenge::InvalidToken => challenge("invalid_token", &self.text),
            Challenge::InsufficientScope => challenge("insufficient_scope", &self.text),
        };
        if let Some(challenge) = challenge {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// `error` and `error_description`, which is within the characters that it may have.
fn challenge(error: &str, text: &str) -> Option<HeaderValue> {
    let legal = |c: &char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\');
    let text: String = text.chars().filter(legal).collect();
    HeaderValue::from_str(&format!("Bearer error=\"{error}\", error_description=\"{text}\"")).ok()
}
