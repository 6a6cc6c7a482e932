//! What goes into a producer and what comes out of it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use sluice_proto::v1::{ErrorClass, Header};

/// One record for one topic. No key, an empty key, no value and an empty value are four different things.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// The topic.
    pub topic: String,
    /// The partition; absent: chosen by the partitioner.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; absent is a tombstone.
    pub value: Option<Bytes>,
    /// Record headers, in order; names may repeat.
    pub headers: Vec<Header>,
    /// Milliseconds since the epoch, at least 1; absent: when it is handed to the client.
    pub timestamp_ms: Option<i64>,
}

impl Record {
    /// What it counts against a bound in bytes: key, value, header names and header values.
    pub fn size(&self) -> usize {
        let of = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self
            .headers
            .iter()
            .map(|h| h.name.len() + h.value.as_ref().map_or(0, Vec::len))
            .sum();
        of(&self.key) + of(&self.value) + headers
    }

    /// Copies key and value: what is kept for long must not keep the bytes of a whole message of many records.
    pub fn detach(&mut self) {
        for bytes in [&mut self.key, &mut self.value].into_iter().flatten() {
            *bytes = Bytes::copy_from_slice(bytes);
        }
    }
}

/// What became of a record in one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The broker acknowledged it.
    Stored {
        /// Its partition.
        partition: i32,
        /// Its offset in the partition.
        offset: i64,
    },
    /// It is held in memory, or was sent without asking for an acknowledgement.
    Accepted,
    /// It was not stored, or (class `OutcomeUnknown`) nobody knows.
    Failed(Failure),
}

/// Why a record was not, or may not be, stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The class that decides the answer.
    pub class: ErrorClass,
    /// What happened, for people; [`MAX_MESSAGE`] bytes at most.
    pub message: Cow<'static, str>,
}

/// The bytes that a [`Failure`]'s message has at most, whatever of the request it quotes.
pub const MAX_MESSAGE: usize = 500;
/// What stands for what was cut out of it.
const CUT: &str = " […] ";

impl Failure {
    /// A failure of `class`. Of a message that is too long the middle is left out: how it begins says what is wrong, and
    /// how it ends where.
    pub fn new(class: ErrorClass, message: impl Into<Cow<'static, str>>) -> Self {
        let mut message = message.into();
        if message.len() > MAX_MESSAGE {
            let half = (MAX_MESSAGE - CUT.len()) / 2;
            let begin = message.floor_char_boundary(half);
            let end = message.ceil_char_boundary(message.len() - half);
            message.to_mut().replace_range(begin..end, CUT);
        }
        Self { class, message }
    }
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Who wants to know what became of records.
///
/// Called from producer threads: it must not block and must not call back into the producer.
pub trait Recipient: Send + Sync {
    /// Takes the outcomes, each with the token its submission carried, and leaves the vector empty.
    fn settle(&self, outcomes: &mut Vec<(u64, Outcome)>);
}

/// Where one submission's outcome goes.
#[derive(Clone)]
pub struct Receipt {
    /// Who is told, exactly once.
    pub recipient: Arc<dyn Recipient>,
    /// What the recipient knows the submission by.
    pub token: u64,
}

/// When a submission's outcome is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// When the broker has acknowledged it, or at this moment at the latest.
    Acked {
        /// What is not known by then is told as `OutcomeUnknown`, or as not stored where that is certain.
        deadline: Instant,
    },
    /// As soon as the producer holds it.
    Buffered,
    /// When its outcome is known, however long that takes: somebody else sees to it that nobody waits too long.
    Tracked {
        /// While it has not been handed to the client library it is given back (as not stored) at this moment.
        held_until: Instant,
    },
    /// When its outcome is known, however long that takes. It is on the sidecar's own disk: an outcome other than that
    /// it is stored is an attempt that failed, not a record that was lost.
    Spooled {
        /// While it has not been handed to the client library it is given back (as not stored) at this moment.
        held_until: Instant,
    },
}

/// Where a record goes that a producer has, and has not handed over, when its cluster goes away.
pub trait Aside: Send + Sync {
    /// Takes it, and answers whoever waits. What is taken first is before what is taken later.
    ///
    /// Called from producer threads: it must not block and must not call back into the producer.
    fn take(&self, record: Record, receipt: Receipt);
}

/// A record on its way into a producer.
pub struct Submission {
    /// The record.
    pub record: Record,
    /// When its outcome is told.
    pub delivery: Delivery,
    /// To whom.
    pub receipt: Receipt,
    /// Which of the allowlist's entries let it in: what its metrics are counted under.
    pub label: Arc<str>,
    /// Whose it is, as the filter names clients; 0 is whoever is not named. No client has more than its share of what may
    /// wait.
    pub client: u64,
    /// Where it goes if the cluster goes away before it is handed over. Without that it is held as long as it may be; so is one
    /// that was answered already.
    pub aside: Option<Arc<dyn Aside>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_keeps_its_ends_and_is_bounded() {
        let of = |text: String| Failure::new(ErrorClass::InvalidRequest, text).message;
        let whole = "é".repeat(MAX_MESSAGE / 2);
        assert_eq!(of(whole.clone()), whole);
        for name in ["x", "é", "\u{1f980}"] {
            let message = of(format!("unknown field `{}` at line 7", name.repeat(10_000)));
            assert!(
                message.len() <= MAX_MESSAGE && message.len() > MAX_MESSAGE - 10,
                "{message}"
            );
            assert!(message.starts_with("unknown field `") && message.ends_with(" at line 7"));
        }
    }
}
