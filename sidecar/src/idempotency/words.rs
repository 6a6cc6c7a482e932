//! What clients are told.

use std::time::{Duration, UNIX_EPOCH};

use sluice_proto::v1::ErrorClass;

use super::row::{Row, State, Topic};
use crate::kafka::error::unknown;
use crate::kafka::record::{Failure, Outcome};

/// What is known of a key's record, for `topics`.
pub(super) fn outcomes(row: &Row, topics: &[String]) -> Vec<Outcome> {
    row.topics
        .iter()
        .enumerate()
        .map(|(at, topic)| outcome(row, topic, topics.get(at)))
        .collect()
}

/// The same for one of its topics.
pub(super) fn outcome(row: &Row, topic: &Topic, name: Option<&String>) -> Outcome {
    match topic.state() {
        State::Stored => Outcome::Stored {
            partition: topic.partition,
            offset: topic.offset,
        },
        State::Accepted => Outcome::Accepted,
        State::NotStored => Failure::new(ErrorClass::ClusterUnavailable, "not stored").into(),
        State::Unknown | State::UnderWay => {
            let text = format!(
                "nobody knows whether the record of this Idempotency-Key is stored: it was sent at {}, and the broker did \
                 not say, or the sidecar ended before it did. Look for it in topic {} from then on: if it is not there, send it \
                 with a new key. Repeats with this one write nothing until it expires, at {}",
                time(row.begun_ms),
                name.map_or("", String::as_str),
                time(row.expires_ms)
            );
            unknown(text).into()
        }
    }
}

/// The last time that has four digits for its year.
const LAST_MILLISECOND: i64 = 253_402_300_799_999;

fn time(ms: i64) -> String {
    let ms = ms.clamp(0, LAST_MILLISECOND).unsigned_abs();
    let time = UNIX_EPOCH + Duration::from_millis(ms);
    humantime::format_rfc3339_millis(time).to_string()
}

pub(super) fn conflict() -> Failure {
    Failure::new(
        ErrorClass::IdempotencyKeyReused,
        "this Idempotency-Key came before with another request (method, path, query or body): use a new key for a new \
         request",
    )
}

pub(super) fn full(held: u64, max: u64) -> Failure {
    let text = format!(
        "{held} idempotency keys are held and idempotency.max_keys is {max}: none is forgotten before its window is over"
    );
    Failure::new(ErrorClass::BufferFull, text)
}

pub(super) fn broken(why: &str) -> Failure {
    Failure::new(
        ErrorClass::SidecarUnavailable,
        format!("the idempotency keys cannot be written: {why}; the record is not stored"),
    )
}

pub(super) fn stopping() -> Failure {
    Failure::new(ErrorClass::SidecarUnavailable, "the sidecar is shutting down")
}

/// The record was not handed on yet.
pub(super) fn slow_disk() -> Failure {
    Failure::new(
        ErrorClass::SidecarUnavailable,
        "the disk of the idempotency keys did not take the key in time; the record is not stored",
    )
}

/// It was, or may yet be for another's sake.
pub(super) fn under_way() -> Failure {
    unknown(
        "the record is under way and its outcome not known in time: a repeat with the same Idempotency-Key waits for it and \
         writes no second one",
    )
}
