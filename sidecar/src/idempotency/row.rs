//! What is written of a key.
//!
//! A protobuf message for the contract's own reason: fields are only added, numbers are never reused, and unknown ones
//! are ignored, so that the file survives an upgrade of the sidecar. What cannot be done that way raises
//! [`super::store::VERSION`].

use prost::Message;
use sluice_proto::v1::ErrorClass;

use crate::database::sealed::Seal;
use crate::kafka::record::Outcome;

/// The first version wrote no checksum, and no row of its began so.
const SEAL: Seal = Seal::field(15);

/// A key's row.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Row {
    /// What stands for the first request.
    #[prost(bytes = "vec", tag = "1")]
    pub(super) fingerprint: Vec<u8>,
    /// When the key is forgotten, in milliseconds since the epoch.
    #[prost(int64, tag = "2")]
    pub(super) expires_ms: i64,
    /// When its record was last handed on, in milliseconds since the epoch.
    #[prost(int64, tag = "3")]
    pub(super) begun_ms: i64,
    /// Who did that: no two attempts have the same number.
    #[prost(fixed64, tag = "4")]
    pub(super) attempt: u64,
    /// What became of the record in each of its topics, in their order.
    #[prost(message, repeated, tag = "5")]
    pub(super) topics: Vec<Topic>,
}

/// What became of a record in one topic.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Topic {
    /// One that a later version wrote is read as [`State::Unknown`].
    #[prost(enumeration = "State", tag = "1")]
    pub(super) state: i32,
    #[prost(int32, tag = "2")]
    pub(super) partition: i32,
    #[prost(int64, tag = "3")]
    pub(super) offset: i64,
}

/// How far a record is in one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(super) enum State {
    /// It was handed on, and nobody said what became of it.
    Unknown = 0,
    /// It has the partition and the offset.
    Stored = 1,
    /// It was answered before Kafka had it.
    Accepted = 2,
    /// It is certainly not there.
    NotStored = 3,
    /// The row's attempt hands it on. Where nobody does any more, it is as good as [`State::Unknown`].
    UnderWay = 4,
}

impl Topic {
    /// One that is handed on.
    pub(super) fn under_way() -> Self {
        Self {
            state: State::UnderWay.into(),
            ..Self::default()
        }
    }

    /// What an outcome comes to.
    pub(super) fn of(outcome: &Outcome) -> Self {
        let state = |state: State| Self {
            state: state.into(),
            ..Self::default()
        };
        match outcome {
            Outcome::Stored { partition, offset } => Self {
                partition: *partition,
                offset: *offset,
                ..state(State::Stored)
            },
            Outcome::Accepted => state(State::Accepted),
            Outcome::Failed(failure) => match failure.class {
                ErrorClass::OutcomeUnknown | ErrorClass::Unspecified => state(State::Unknown),
                _ => state(State::NotStored),
            },
        }
    }
}

impl Row {
    /// The row as the file has it.
    pub(super) fn seal(&self) -> Vec<u8> {
        SEAL.close(self)
    }

    /// What is in a row of the file.
    ///
    /// # Errors
    /// When it is not as it was written; in words.
    pub(super) fn open(row: &[u8]) -> Result<Self, String> {
        SEAL.open(row)
    }

    /// The positions of the topics in that state.
    pub(super) fn those(&self, state: State) -> Vec<usize> {
        let topics = self.topics.iter().enumerate();
        topics
            .filter(|(_, topic)| topic.state() == state)
            .map(|(at, _)| at)
            .collect()
    }

    /// Another attempt writes to those topics that certainly do not have the record; whether there are any.
    pub(super) fn retry(&mut self, attempt: u64, now_ms: i64) -> bool {
        if self.those(State::NotStored).is_empty() {
            return false;
        }
        for topic in &mut self.topics {
            match topic.state() {
                State::NotStored => topic.set_state(State::UnderWay),
                // What an attempt before this one did not learn.
                State::UnderWay => topic.set_state(State::Unknown),
                State::Unknown | State::Stored | State::Accepted => {}
            }
        }
        self.attempt = attempt;
        self.begun_ms = now_ms;
        true
    }

    /// Whether there is nothing to remember.
    pub(super) fn is_blank(&self) -> bool {
        self.topics.iter().all(|topic| topic.state() == State::NotStored)
    }
}
