//! Whether a record is taken on.

use std::time::{Duration, Instant};

use sluice_proto::v1::ErrorClass;

use super::{Limits, State};
use crate::kafka::health::Health;
use crate::kafka::producer::pace::{Ask, Why, cost};
use crate::kafka::producer::topics::{Standing, Topic};
use crate::kafka::record::{Delivery, Failure};
use crate::metrics::Shed;

/// A topic may have waiting so many times what its producer's bounds leave to the others.
const SHARE: usize = 8;

/// A record that asks to be taken on.
#[derive(Clone, Copy)]
pub(super) struct Candidate {
    pub(super) topic: usize,
    pub(super) bytes: usize,
    pub(super) client: u64,
    pub(super) delivery: Delivery,
}

/// Why a record is not taken on.
pub(super) struct Refusal {
    pub(super) failure: Failure,
    /// There is no room for it.
    pub(super) shed: Option<Shed>,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self { failure, shed: None }
    }
}

fn full(shed: Shed, text: String) -> Refusal {
    Refusal {
        failure: Failure::new(ErrorClass::BufferFull, text),
        shed: Some(shed),
    }
}

impl State {
    /// Why a record cannot be taken on.
    pub(super) fn refusal(&mut self, candidate: Candidate, now: Instant) -> Option<Refusal> {
        if self.closed {
            let text = "the sidecar is shutting down";
            return Some(Failure::new(ErrorClass::SidecarUnavailable, text).into());
        }
        if let Some(failure) = &self.refused {
            return Some(failure.clone().into());
        }
        let bytes = candidate.bytes;
        let max_bytes = self.limits.bytes;
        if bytes > max_bytes {
            let text = format!(
                "the record has {bytes} bytes and the producer holds {max_bytes} at most \
                 (`producer_async_buffering_limits_bytes_in_memory`)"
            );
            return Some(Failure::new(ErrorClass::TooLarge, text).into());
        }
        if self.pending.len() >= self.limits.records || self.bytes + bytes > max_bytes {
            return Some(full(Shed::Bound, self.say_full()));
        }
        let left = (self.limits.records - self.pending.len(), max_bytes - self.bytes);
        let up = !matches!(self.health, Health::Down(_)) && self.fatal.is_none();
        let shared = self.limits.shared;
        let topic = self.topics.get(candidate.topic)?;
        match &topic.standing {
            Standing::Refused { failure, until } if now < *until => return Some(failure.clone().into()),
            Standing::Refused { .. } => topic.standing = Standing::Unknown,
            Standing::Known { .. } | Standing::Unknown => {}
        }
        if shared && (topic.pending >= left.0 * SHARE || topic.bytes + bytes > left.1 * SHARE) {
            let text = say_share(topic, &self.limits);
            return Some(full(Shed::TopicShare, text));
        }
        match candidate.delivery {
            // What waits in the sidecar, for word of the cluster or the topic, is held to its deadline.
            Delivery::Acked { deadline: until } | Delivery::Tracked { held_until: until }
                if up && topic.held.is_empty() =>
            {
                let patience = until.saturating_duration_since(now);
                late(topic, candidate, patience, now)
            }
            Delivery::Acked { .. }
            | Delivery::Tracked { .. }
            | Delivery::Buffered
            | Delivery::Spooled { .. } => None,
        }
    }

    /// Whether acknowledgements for the topic have stopped coming.
    pub(in crate::kafka::producer) fn is_stuck(&mut self, topic: &str, now: Instant) -> bool {
        let topic = self.topics.find(topic).and_then(|key| self.topics.get(key));
        topic.is_some_and(|topic| topic.pace.is_stuck(now))
    }

    fn say_full(&self) -> String {
        let Limits {
            records: max_records,
            bytes: max_bytes,
            ..
        } = self.limits;
        let (records, held) = (self.pending.len(), self.bytes);
        format!(
            "{records} records with {held} bytes are waiting in the producer, of {max_records} and {max_bytes} at most \
             (`producer_async_buffering_limits_messages_in_memory`, `producer_async_buffering_limits_bytes_in_memory`)"
        )
    }
}

fn say_share(topic: &Topic, limits: &Limits) -> String {
    format!(
        "{} records with {} bytes of topic {} are waiting, which is its share of the {} records and {} bytes that the \
         producer holds at most (`producer_async_buffering_limits_messages_in_memory`, \
         `producer_async_buffering_limits_bytes_in_memory`)",
        topic.pending, topic.bytes, topic.name, limits.records, limits.bytes
    )
}

/// Why a record would be acknowledged too late to be taken on.
fn late(topic: &mut Topic, candidate: Candidate, patience: Duration, now: Instant) -> Option<Refusal> {
    let ask = Ask {
        cost: cost(1, candidate.bytes),
        records: topic.pending,
        waiting: cost(topic.pending, topic.bytes),
        client: candidate.client,
        clients: &topic.clients,
        patience,
    };
    let why = topic.pace.admit(ask, now).err()?;
    let (name, records, bytes) = (&topic.name, topic.pending, topic.bytes);
    let most = topic.pace.target().min(patience).as_millis();
    Some(match why {
        Why::Late(wait) => full(
            Shed::Queueing,
            format!(
                "topic {name}: {records} records with {bytes} bytes are before it, which at the present rate are \
                 acknowledged in {} ms, {most} ms at most (`max_queueing_time`): more come than Kafka takes",
                wait.as_millis()
            ),
        ),
        Why::Share(wait) => full(
            Shed::ClientShare,
            format!(
                "topic {name}: {records} records with {bytes} bytes are before it, which at the present rate are \
                 acknowledged in {} ms, {most} ms at most (`max_queueing_time`), and this client has its share of them",
                wait.as_millis()
            ),
        ),
        Why::Stuck(silent) => full(
            Shed::Stuck,
            format!(
                "topic {name}: no broker has acknowledged anything for {} ms, and {records} records with {bytes} bytes \
                 wait for that (`max_queueing_time`)",
                silent.as_millis()
            ),
        ),
    })
}
