//! How a record can end, as its owner is told.

use sluice_proto::class::ErrorClass;
use sluice_proto::v1::{Answer, Fate, TopicFate};

/// What became of a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The sidecar said, topic by topic.
    Fates(Vec<TopicFate>),
    /// The same, of an earlier record with the same idempotency key: this one was not written.
    Replayed(Vec<TopicFate>),
    /// The sidecar said, of a record whose topic its template chose.
    Chosen {
        /// The topic.
        topic: String,
        /// What became of it there.
        outcome: Box<Outcome>,
    },
    /// The same, and what the client is answered: the reply to the record, or that there is none yet.
    Answered(Vec<TopicFate>, Box<Answer>),
    /// It is known without the sidecar.
    Failed(Failed),
}

impl From<Fate> for Outcome {
    fn from(fate: Fate) -> Self {
        let outcome = if let Some(answer) = fate.answer {
            Self::Answered(fate.topics, answer)
        } else if fate.replayed {
            Self::Replayed(fate.topics)
        } else {
            Self::Fates(fate.topics)
        };
        // It goes into a header.
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        match !fate.topic.is_empty() && fate.topic.bytes().all(legal) {
            false => outcome,
            true => Self::Chosen {
                topic: fate.topic,
                outcome: Box::new(outcome),
            },
        }
    }
}

/// A failure of the stream itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed {
    /// What kind.
    pub class: ErrorClass,
    /// What happened, for people.
    pub error: &'static str,
}

const fn not_stored(error: &'static str) -> Failed {
    Failed {
        class: ErrorClass::SidecarUnavailable,
        error,
    }
}

const fn unknown(error: &'static str) -> Failed {
    Failed {
        class: ErrorClass::OutcomeUnknown,
        error,
    }
}

pub(super) const FULL: Failed = Failed {
    class: ErrorClass::BufferFull,
    error: "too many records of this Envoy worker wait for their fate (`stream.max_outstanding_records`, \
            `stream.max_outstanding_bytes`)",
};
pub(super) const CLIENT_FULL: Failed = Failed {
    class: ErrorClass::BufferFull,
    error: "this client has its share of the records of this Envoy worker that may wait for their fate \
            (`stream.max_outstanding_records`, `stream.max_outstanding_bytes`)",
};
pub(super) const ROUTE_FULL: Failed = Failed {
    class: ErrorClass::BufferFull,
    error: "too many records of this route and this Envoy worker wait for their fate (the route's \
            `max_outstanding_records`)",
};
pub(super) const TOO_LARGE: Failed = Failed {
    class: ErrorClass::TooLarge,
    error: "the record alone is larger than `stream.max_outstanding_bytes`",
};
pub(super) const UNREACHABLE: Failed = not_stored("no stream to the sidecar can be opened");
pub(super) const LATE_UNSENT: Failed =
    not_stored("the record could not be sent to the sidecar within `answer_timeout`");
pub(super) const CLOSED_UNSENT: Failed =
    not_stored("the stream to the sidecar ended before the record was sent");
pub(super) const LATE_SENT: Failed = unknown("the sidecar did not answer within `answer_timeout`");
pub(super) const CLOSED_SENT: Failed = unknown("the stream to the sidecar ended before it answered");
pub(super) const GARBLED_SENT: Failed = unknown("the sidecar's reply cannot be read");
