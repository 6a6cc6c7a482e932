//! What the client is told: status, headers and body of the filter's own replies.

mod body;

use std::borrow::Cow;

use sluice_proto::class::{CHALLENGE, ErrorClass, from_wire, row_of};
use sluice_proto::idempotency::REPLAYED_HEADER;
use sluice_proto::v1::topic_fate::Result as Fate;
use sluice_proto::v1::{Answer, AnswerKind, Failure, TopicFate};
use sluice_settings::Problem;

use crate::config::Route;
use crate::record::Reject;
use crate::stream::Outcome;

/// What became of a request, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The broker acknowledged the record.
    Stored,
    /// The sidecar holds it, or nobody was asked to acknowledge it.
    Accepted,
    /// It was not stored, or that is not known.
    Failed(ErrorClass),
    /// The record was written, and the reply to it came.
    Replied,
    /// The record was written, and the client was told where to ask for the reply.
    Pending,
    /// The record was written, and no reply came in time.
    NoReply,
}

impl Kind {
    /// Every kind, for metrics.
    pub fn all() -> impl Iterator<Item = Self> {
        let failed = sluice_proto::class::ALL.iter().map(|class| Self::Failed(*class));
        let awaited = [Self::Replied, Self::Pending, Self::NoReply];
        [Self::Stored, Self::Accepted]
            .into_iter()
            .chain(failed)
            .chain(awaited)
    }

    /// `stored`, `accepted`, or the class's code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Accepted => "accepted",
            Self::Failed(class) => row_of(class).code,
            Self::Replied => "replied",
            Self::Pending => "reply_pending",
            Self::NoReply => "no_reply",
        }
    }

    /// What Envoy calls `%RESPONSE_CODE_DETAILS%` of such a reply: `sluice_` and the code.
    pub fn details(self) -> &'static str {
        match self {
            Self::Stored => "sluice_stored",
            Self::Accepted => "sluice_accepted",
            Self::Replied => "sluice_replied",
            Self::Pending => "sluice_reply_pending",
            Self::NoReply => "sluice_no_reply",
            Self::Failed(class) => match class {
                ErrorClass::InvalidRequest => "sluice_invalid_request",
                ErrorClass::NotAuthorised => "sluice_not_authorised",
                ErrorClass::TopicNotAllowed => "sluice_topic_not_allowed",
                ErrorClass::UnknownTopic => "sluice_unknown_topic",
                ErrorClass::TooLarge => "sluice_too_large",
                ErrorClass::RouteMisconfigured => "sluice_route_misconfigured",
                ErrorClass::BrokerRejected => "sluice_broker_rejected",
                ErrorClass::PartlyStored => "sluice_partly_stored",
                ErrorClass::BufferFull => "sluice_buffer_full",
                ErrorClass::SidecarUnavailable => "sluice_sidecar_unavailable",
                ErrorClass::ClusterUnavailable => "sluice_cluster_unavailable",
                ErrorClass::Unspecified | ErrorClass::OutcomeUnknown => "sluice_outcome_unknown",
                ErrorClass::IdempotencyKeyReused => "sluice_idempotency_key_reused",
                ErrorClass::CallerNotAuthenticated => "sluice_caller_not_authenticated",
            },
        }
    }

    /// Its place in [`Kind::all`].
    pub fn index(self) -> usize {
        match self {
            Self::Stored => 0,
            Self::Accepted => 1,
            // A class from the future is what its row says.
            Self::Failed(ErrorClass::Unspecified) => ErrorClass::OutcomeUnknown as usize + 1,
            Self::Failed(class) => class as usize + 1,
            Self::Replied => sluice_proto::class::ALL.len() + 2,
            Self::Pending => sluice_proto::class::ALL.len() + 3,
            Self::NoReply => sluice_proto::class::ALL.len() + 4,
        }
    }

    /// Whether the record is where it should be.
    pub fn is_success(self) -> bool {
        !matches!(self, Self::Failed(_))
    }
}

/// A reply of the filter's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// What it says.
    pub kind: Kind,
    /// The HTTP status code.
    pub status: u16,
    /// The headers, besides those that Envoy adds; names may repeat.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// Headers that are a reply's own, which come after those.
    pub more_headers: Vec<(String, Vec<u8>)>,
    /// The body: JSON, unless it is a reply's.
    pub body: Cow<'static, [u8]>,
}

const JSON: (&str, Cow<'static, str>) = ("content-type", Cow::Borrowed("application/json"));

impl Reply {
    /// The reply to a request of `route` whose record went to `topics` and came to `outcome`.
    pub fn of(route: &Route, topics: &[String], outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Failed(failed) => Self::failure(failed.class, failed.error),
            Outcome::Fates(fates) => Self::of_fates(route, topics, fates),
            Outcome::Replayed(fates) => {
                let mut reply = Self::of_fates(route, topics, fates);
                reply.headers.push((REPLAYED_HEADER, "true".into()));
                reply
            }
            Outcome::Chosen { topic, outcome } => Self::of(route, std::slice::from_ref(topic), outcome),
            Outcome::Answered(fates, answer) => Self::answered(route, topics, fates, answer),
        }
    }

    /// A failure that concerns the request as a whole.
    pub fn failure(class: ErrorClass, error: &str) -> Self {
        Self::failed(class, body::failure(row_of(class), error))
    }

    /// A request that cannot become a record.
    pub fn rejected(reject: &Reject) -> Self {
        Self::failure(reject.class, &reject.error)
    }

    /// A route whose merged configuration is bad.
    pub fn misconfigured(problems: &[Problem]) -> Self {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        Self::failure(ErrorClass::RouteMisconfigured, &problems.join("; "))
    }

    fn failed(class: ErrorClass, body: Vec<u8>) -> Self {
        let row = row_of(class);
        let mut headers = vec![JSON];
        if let Some(seconds) = row.retry_after {
            headers.push(("retry-after", seconds.to_string().into()));
        }
        if row.status == 401 {
            headers.push(("www-authenticate", CHALLENGE.to_owned().into()));
        }
        Self {
            kind: Kind::Failed(class),
            status: row.status,
            headers,
            more_headers: Vec::new(),
            body: body.into(),
        }
    }

    /// What the sidecar says that the client of a record with a reply is answered.
    #[cold]
    fn answered(route: &Route, topics: &[String], fates: &[TopicFate], answer: &Answer) -> Self {
        let written = Self::of_fates(route, topics, fates);
        if !written.kind.is_success() {
            return written;
        }
        let kind = match answer.kind() {
            AnswerKind::Replied => Some(Kind::Replied),
            AnswerKind::Pending => Some(Kind::Pending),
            AnswerKind::NoReply => Some(Kind::NoReply),
            AnswerKind::Unspecified => None,
        };
        let status = u16::try_from(answer.status).ok();
        let status = status.filter(|status| (200..=599).contains(status));
        let (Some(kind), Some(status)) = (kind, status) else {
            let error = "the record is stored, and the sidecar's answer about its reply cannot be read";
            return Self::failure(ErrorClass::OutcomeUnknown, error);
        };
        // Whatever the sidecar is: what is no header would be one more, or an answer of its own.
        let name =
            |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
        let value = |value: &[u8]| !value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t');
        let headers = answer.headers.iter().filter_map(|header| {
            let said = header.value.clone().unwrap_or_default();
            (name(&header.name) && value(&said)).then(|| (header.name.clone(), said))
        });
        Self {
            kind,
            status,
            headers: written
                .headers
                .into_iter()
                .filter(|(name, _)| *name != JSON.0)
                .collect(),
            more_headers: headers.collect(),
            body: answer.body.to_vec().into(),
        }
    }

    fn of_fates(route: &Route, topics: &[String], fates: &[TopicFate]) -> Self {
        let successes = fates.iter().filter(|fate| is_success(fate)).count();
        if fates.len() == topics.len() && successes == fates.len() && successes > 0 {
            return Self::success(route, topics, fates);
        }
        // One failure may stand for every topic.
        let whole = fates.len() == 1 && successes == 0;
        if !whole && fates.len() != topics.len() {
            let error = format!(
                "the sidecar told the fate of {} topics, not {}",
                fates.len(),
                topics.len()
            );
            return Self::failure(ErrorClass::OutcomeUnknown, &error);
        }
        let (class, error) = match fates.iter().map(failure_of).collect::<Vec<_>>().as_slice() {
            [(class, error)] => return Self::failure(*class, error),
            _ if successes > 0 => (ErrorClass::PartlyStored, "see results, topic by topic"),
            failures => (worst(failures), "stored in none of the topics: see results"),
        };
        let error = match class {
            ErrorClass::OutcomeUnknown => "known to be stored in none of the topics: see results",
            _ => error,
        };
        Self::failed(class, body::failure_by_topic(row_of(class), error, topics, fates))
    }

    /// Every topic has it.
    fn success(route: &Route, topics: &[String], fates: &[TopicFate]) -> Self {
        let mut headers = vec![JSON];
        let mut kind = Kind::Stored;
        for (topic, fate) in topics.iter().zip(fates) {
            let Some(Fate::Stored(stored)) = &fate.result else {
                kind = Kind::Accepted;
                continue;
            };
            if route.reply_headers {
                headers.push(("x-kafka-topic", topic.clone().into()));
                headers.push(("x-kafka-partition", stored.partition.to_string().into()));
                headers.push(("x-kafka-offset", stored.offset.to_string().into()));
            }
        }
        let (status, body): (_, &[u8]) = match kind {
            Kind::Accepted => (202, br#"{"message":"message accepted"}"#),
            _ => (200, br#"{"message":"message sent"}"#),
        };
        Self {
            kind,
            status: route.success_status.unwrap_or(status),
            headers,
            more_headers: Vec::new(),
            body: match &route.success_message {
                Some(message) => body::message(message).into(),
                None => body.into(),
            },
        }
    }
}

fn is_success(fate: &TopicFate) -> bool {
    matches!(fate.result, Some(Fate::Stored(_) | Fate::Accepted(_)))
}

/// Class and text of a fate that is not a success.
fn failure_of(fate: &TopicFate) -> (ErrorClass, &str) {
    match &fate.result {
        Some(Fate::Failure(Failure { class, message })) => (from_wire(*class), message),
        _ => (
            ErrorClass::OutcomeUnknown,
            "the sidecar did not say what became of the record",
        ),
    }
}

/// The class that stands for several failures, when nothing is known to be stored. What may be stored counts
/// most; then what trying again cannot cure.
fn worst(failures: &[(ErrorClass, &str)]) -> ErrorClass {
    let classes = || failures.iter().map(|(class, _)| *class);
    let unknown = classes().find(|class| *class == ErrorClass::OutcomeUnknown);
    let lasting = || classes().find(|class| row_of(*class).retry_after.is_none());
    let worst = unknown.or_else(lasting).or_else(|| classes().next());
    worst.unwrap_or(ErrorClass::OutcomeUnknown)
}

#[cfg(test)]
mod tests;
