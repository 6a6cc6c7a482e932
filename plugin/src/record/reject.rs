//! Why a request cannot become a record.

use sluice_proto::class::ErrorClass;

use crate::config::Source;

/// Why a request cannot become a record. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// What kind of error it is; status and code follow from it.
    pub class: ErrorClass,
    /// What is wrong and where, for the client's eyes: it never holds more than a short excerpt of the request.
    pub error: String,
}

impl Reject {
    /// A request that cannot be parsed or contradicts itself.
    pub(crate) fn invalid(error: impl Into<String>) -> Self {
        Self {
            class: ErrorClass::InvalidRequest,
            error: error.into(),
        }
    }

    /// A request or record larger than a bound.
    pub(crate) fn too_large(error: impl Into<String>) -> Self {
        Self {
            class: ErrorClass::TooLarge,
            error: error.into(),
        }
    }

    /// A request that names a topic which configuration does not allow.
    pub(crate) fn topic_not_allowed(error: impl Into<String>) -> Self {
        Self {
            class: ErrorClass::TopicNotAllowed,
            error: error.into(),
        }
    }

    /// A request that chooses something that the route does not list. `field` is the one that lists it.
    pub(crate) fn not_listed(field: &str, source: &Source, said: &[u8]) -> Self {
        Self {
            class: match field {
                "topic" => ErrorClass::TopicNotAllowed,
                _ => ErrorClass::NotAuthorised,
            },
            error: format!(
                "{field}: {source} says {}, which this route does not allow",
                excerpt(said)
            ),
        }
    }
}

/// At most the first 40 bytes of something a client sent, fit to stand in an error: printable ASCII, the rest
/// escaped.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    let (shown, more) = match bytes.get(..40) {
        Some(head) if bytes.len() > 40 => (head, "…"),
        _ => (bytes, ""),
    };
    format!("`{}{more}`", shown.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_short_and_printable() {
        assert_eq!(excerpt(b"a\xff\n"), r"`a\xff\n`");
        assert_eq!(excerpt(&[b'x'; 40]), format!("`{}`", "x".repeat(40)));
        assert_eq!(excerpt(&[b'x'; 41]), format!("`{}…`", "x".repeat(40)));
    }
}
