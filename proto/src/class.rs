//! The one table from error class to HTTP status, code and advice, for filter and sidecar alike.

pub use crate::v1::ErrorClass;

/// What an error class is over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The HTTP status code.
    pub status: u16,
    /// The `code` of the error body.
    pub code: &'static str,
    /// The `message` of the error body: one fixed sentence per class.
    pub message: &'static str,
    /// The `Retry-After` header in seconds, where trying again later can help and cannot write twice.
    pub retry_after: Option<u32>,
}

/// What a reply's `WWW-Authenticate` header says with 401 (RFC 6750, section 3).
pub const CHALLENGE: &str = "Bearer";

const fn row(status: u16, code: &'static str, message: &'static str) -> Row {
    Row {
        status,
        code,
        message,
        retry_after: None,
    }
}

const fn unavailable(code: &'static str, message: &'static str) -> Row {
    Row {
        status: 503,
        code,
        message,
        retry_after: Some(1),
    }
}

/// The table. It has no default arm: a class without a row does not compile.
pub const fn row_of(class: ErrorClass) -> Row {
    match class {
        ErrorClass::InvalidRequest => row(400, "invalid_request", "bad request"),
        ErrorClass::NotAuthorised => row(403, "not_authorised", "not authorised"),
        ErrorClass::TopicNotAllowed => row(403, "topic_not_allowed", "topic not allowed"),
        ErrorClass::UnknownTopic => row(404, "unknown_topic", "unknown topic or partition"),
        ErrorClass::TooLarge => row(413, "too_large", "record too large"),
        ErrorClass::RouteMisconfigured => row(500, "route_misconfigured", "route misconfigured"),
        ErrorClass::BrokerRejected => row(502, "broker_rejected", "could not send message to topic"),
        ErrorClass::PartlyStored => row(502, "partly_stored", "stored in some topics only"),
        ErrorClass::BufferFull => unavailable("buffer_full", "too many records are waiting"),
        ErrorClass::SidecarUnavailable => unavailable("sidecar_unavailable", "sidecar unavailable"),
        ErrorClass::ClusterUnavailable => unavailable("cluster_unavailable", "Kafka unavailable"),
        // A class that a newer sidecar knows and this side does not: nothing may be claimed.
        ErrorClass::Unspecified | ErrorClass::OutcomeUnknown => {
            row(504, "outcome_unknown", "the record may or may not be stored")
        }
        ErrorClass::IdempotencyKeyReused => row(
            422,
            "idempotency_key_reused",
            "idempotency key used with another request",
        ),
        ErrorClass::CallerNotAuthenticated => row(
            401,
            "caller_not_authenticated",
            "bearer token missing or not accepted",
        ),
    }
}

/// Every class that can be sent, in order; for tests and for metrics labels.
pub const ALL: [ErrorClass; 14] = [
    ErrorClass::InvalidRequest,
    ErrorClass::NotAuthorised,
    ErrorClass::TopicNotAllowed,
    ErrorClass::UnknownTopic,
    ErrorClass::TooLarge,
    ErrorClass::RouteMisconfigured,
    ErrorClass::BrokerRejected,
    ErrorClass::PartlyStored,
    ErrorClass::BufferFull,
    ErrorClass::SidecarUnavailable,
    ErrorClass::ClusterUnavailable,
    ErrorClass::OutcomeUnknown,
    ErrorClass::IdempotencyKeyReused,
    ErrorClass::CallerNotAuthenticated,
];

/// The class of a failure as it came over the wire; an unknown number is [`ErrorClass::OutcomeUnknown`].
pub fn from_wire(class: i32) -> ErrorClass {
    match ErrorClass::try_from(class) {
        Ok(ErrorClass::Unspecified) | Err(_) => ErrorClass::OutcomeUnknown,
        Ok(known) => known,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_differ_and_only_not_stored_is_retried() {
        let codes: std::collections::BTreeSet<_> = ALL.iter().map(|c| row_of(*c).code).collect();
        assert_eq!(codes.len(), ALL.len());
        for class in ALL {
            let row = row_of(class);
            assert_eq!(row.retry_after.is_some(), row.status == 503, "{class:?}");
        }
    }

    #[test]
    fn a_class_from_the_future_claims_nothing() {
        assert_eq!(from_wire(9999), ErrorClass::OutcomeUnknown);
        assert_eq!(from_wire(0), ErrorClass::OutcomeUnknown);
    }
}
