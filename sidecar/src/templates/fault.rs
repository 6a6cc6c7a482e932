//! Why a record cannot be made, as its client is told and as it is counted.

use sluice_proto::v1::ErrorClass;

use crate::jq;
use crate::kafka::record::Failure;

/// What was wrong, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// What was sent.
    Request,
    /// An expression said so.
    Expression,
    /// A bound was reached.
    Bound,
    /// The topic that was chosen.
    Topic,
    /// The template, or a secret that it names.
    Misconfigured,
    /// Too much waited.
    NoRoom,
    /// There was no time left.
    Late,
    /// What evaluates expressions.
    Engine,
}

impl Cause {
    /// The word, as the metric has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Expression => "expression",
            Self::Bound => "bound",
            Self::Topic => "topic",
            Self::Misconfigured => "misconfigured",
            Self::NoRoom => "no_room",
            Self::Late => "late",
            Self::Engine => "engine",
        }
    }
}

/// Why a record cannot be made.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) cause: Cause,
    pub(super) failure: Failure,
}

impl Fault {
    fn new(cause: Cause, class: ErrorClass, text: impl Into<String>) -> Self {
        Self {
            cause,
            failure: Failure::new(class, text.into()),
        }
    }

    /// The request is none that a record can be made of.
    pub(super) fn request(text: impl Into<String>) -> Self {
        Self::new(Cause::Request, ErrorClass::InvalidRequest, text)
    }

    /// The topic is none of those that may be chosen.
    pub(super) fn topic(text: String) -> Self {
        Self::new(Cause::Topic, ErrorClass::TopicNotAllowed, text)
    }

    /// The template is none, or names what there is not.
    pub(super) fn misconfigured(text: impl Into<String>) -> Self {
        Self::new(Cause::Misconfigured, ErrorClass::RouteMisconfigured, text)
    }

    /// No time was left.
    pub(super) fn late() -> Self {
        let text = "the record's template was not evaluated in the time that its client waits; not stored";
        Self::new(Cause::Late, ErrorClass::BufferFull, text)
    }

    /// The expressions failed.
    pub(super) fn of_expression(failure: jq::Failure) -> Self {
        match failure {
            jq::Failure::Error(why) => Self::new(
                Cause::Expression,
                ErrorClass::InvalidRequest,
                format!("template: {}", why.trim_start_matches('/')),
            ),
            jq::Failure::Bound(bound) => Self::new(
                Cause::Bound,
                ErrorClass::InvalidRequest,
                format!("template: {bound}"),
            ),
            failure => Self::new(
                Cause::Engine,
                ErrorClass::BufferFull,
                format!("template: {failure}; not stored"),
            ),
        }
    }
}
