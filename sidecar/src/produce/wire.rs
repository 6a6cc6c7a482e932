//! Outcomes as the contract has them.

use sluice_proto::v1;

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

/// A record's fate on the wire; `replayed` if an earlier record had it, and the topic, if its template chose that.
pub(super) fn fate(
    id: u64,
    outcomes: impl IntoIterator<Item = Outcome>,
    replayed: bool,
    chosen: Option<String>,
) -> v1::Fate {
    v1::Fate {
        id,
        topics: outcomes.into_iter().map(topic_fate).collect(),
        replayed,
        topic: chosen.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
