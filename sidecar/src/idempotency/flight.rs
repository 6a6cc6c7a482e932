//! A key that something is done about: its record waits for the disk or for Kafka, or what became of it waits for the
//! disk.

use std::sync::Arc;
use std::time::Instant;

use sluice_proto::v1::{self, ErrorClass};

use super::row::{Row, State, Topic};
use super::words;
use crate::kafka::record::{Failure, Outcome};
use crate::produce::FateSink;

/// Who waits for what becomes of a key's record.
pub(super) struct Waiter {
    pub(super) sink: Arc<dyn FateSink>,
    /// What the sink knows the record by.
    pub(super) token: u64,
    /// When they are told at the latest.
    pub(super) deadline: Instant,
    /// Whether theirs is the record that is written.
    pub(super) first: bool,
}

impl Waiter {
    /// Tells them.
    pub(super) fn tell(self, outcomes: Vec<Outcome>) {
        let success = |outcome: &Outcome| !matches!(outcome, Outcome::Failed(_));
        let replayed = !self.first && outcomes.iter().all(success);
        self.sink.settle_many(self.token, outcomes, replayed);
    }

    /// Tells them of a failure that concerns the record as a whole.
    pub(super) fn fail(self, failure: Failure) {
        self.tell(vec![failure.into()]);
    }
}

/// A key that something is done about.
pub(super) struct Flight {
    pub(super) fingerprint: Vec<u8>,
    pub(super) waiters: Vec<Waiter>,
    pub(super) phase: Phase,
}

/// How far it is.
pub(super) enum Phase {
    /// That it is under way is not on the disk yet.
    Beginning {
        record: Box<v1::Record>,
        /// What it counts against the bound on what waits for the disk.
        bytes: u64,
        window_ms: i64,
        attempt: u64,
        /// Others with the same key and another fingerprint: what is on the disk decides who is right.
        behind: Vec<super::Ask>,
    },
    /// Its record was handed on.
    UnderWay { topics: Vec<String>, row: Row },
    /// What became of it is not on the disk yet.
    Ending {
        /// What is to be there; nothing: the key is forgotten.
        row: Option<Row>,
        answer: Vec<Outcome>,
    },
}

/// What became of a record that was handed on: what is to be remembered, and what its clients are told. `landed` are
/// the outcomes in those topics that it was handed on to.
pub(super) fn land(mut row: Row, topics: &[String], landed: Vec<Outcome>) -> (Option<Row>, Vec<Outcome>) {
    let mut landed = landed.into_iter();
    // One failure may stand for every topic.
    let whole = match (landed.len(), row.those(State::UnderWay).len()) {
        (have, want) if have == want => None,
        _ => landed.next(),
    };
    let lost = || {
        Outcome::from(Failure::new(
            ErrorClass::OutcomeUnknown,
            "the record's fate was lost",
        ))
    };
    let mut answer = Vec::with_capacity(row.topics.len());
    let before = row.clone();
    for (at, topic) in row.topics.iter_mut().enumerate() {
        if topic.state() == State::UnderWay {
            let outcome = whole.clone().or_else(|| landed.next()).unwrap_or_else(lost);
            *topic = Topic::of(&outcome);
            answer.push(outcome);
        } else {
            answer.push(words::outcome(&before, topic, topics.get(at)));
        }
    }
    let row = (!row.is_blank()).then_some(row);
    (row, answer)
}
