//! Outcomes as the contract has them.

use sluice_proto::v1;

use super::gather::Told;
use crate::kafka::record::Outcome;

/// A topic's fate on the wire.
pub(super) fn topic_fate(outcome: Outcome) -> v1::TopicFate {
    use v1::topic_fate::Result as R;
    let result = match outcome {
        Outcome::Stored { partition, offset } => R::Stored(v1::Stored { partition, offset }),
        Outcome::Accepted => R::Accepted(v1::Accepted {}),
        Outcome::Failed(failure) => R::Failure(v1::Failure {
            class: failure.class.into(),
            message: failure.message.into_owned(),
        }),
    };
    v1::TopicFate { result: Some(result) }
}

/// A record's fate on the wire.
pub(super) fn fate(id: u64, told: Told) -> v1::Fate {
    v1::Fate {
        id,
        topics: told.outcomes.into_iter().map(topic_fate).collect(),
        replayed: told.replayed,
        topic: told.topic.unwrap_or_default(),
        answer: told.answer.map(Box::new),
    }
}

/// The same of a record that went to one topic, which its template may have chosen, and waits for no reply.
pub(super) fn single(id: u64, outcome: Outcome, chosen: Option<String>) -> v1::Fate {
    v1::Fate {
        id,
        topics: vec![topic_fate(outcome)],
        replayed: false,
        topic: chosen.unwrap_or_default(),
        answer: None,
    }
}

#[cfg(test)]
mod tests;
