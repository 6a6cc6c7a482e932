//! A record's way to librdkafka: gathered, held, handed over.

use std::collections::VecDeque;
use std::time::Instant;

use rdkafka::error::RDKafkaErrorCode as Code;
use sluice_proto::v1::ErrorClass;

use super::State;
use crate::kafka::error;
use crate::kafka::producer::bag::Bag;
use crate::kafka::producer::pace;
use crate::kafka::producer::topics::{BELIEVED, DOUBT_TRIES, Held, PAUSE, Standing};
use crate::kafka::record::{Failure, Record};

impl State {
    /// Has the record wait for those that are under way; gives it back when it is not to.
    pub(super) fn gather(&mut self, topic: usize, held: Held, bytes: usize, now: Instant) -> Option<Held> {
        let (gathers, call) = (self.limits.gathers, self.call);
        let Some(found) = self.topics.get(topic).filter(|_| gathers) else {
            return Some(held);
        };
        if found.passes(call, now) {
            return Some(held);
        }
        if found.gathered.is_empty() {
            self.gathering.push(topic);
        }
        found.gathered.push_back(held);
        found.gathered_bytes += bytes;
        None
    }

    /// Hands over what was gathered, as far as it is time.
    pub(in crate::kafka::producer) fn send_gathered(&mut self, now: Instant, bag: &mut Bag) {
        let mut at = 0;
        while let Some(topic) = self.gathering.get(at).copied() {
            let mut gathered = VecDeque::new();
            if let Some(topic) = self.topics.get(topic) {
                if !topic.is_due(now) {
                    at += 1;
                    continue;
                }
                gathered = topic.take_gathered();
            }
            self.gathering.swap_remove(at);
            for held in gathered {
                self.place(topic, held, now, bag);
            }
        }
    }

    /// When something that was gathered is to be handed over, whether or not reports come.
    pub(super) fn gathered_until(&mut self) -> Option<Instant> {
        let topics = &mut self.topics;
        self.gathering
            .iter()
            .filter_map(|topic| topics.get(*topic)?.gate.closed_until())
            .min()
    }

    /// Hands a record over, or holds it.
    pub(super) fn place(&mut self, topic: usize, held: Held, now: Instant, bag: &mut Bag) {
        let Held {
            key,
            order,
            record,
            until,
        } = held;
        let record = match self.may_hand_over(topic) {
            true => self.hand_over(key, topic, record, now, bag),
            false => Some(record),
        };
        if let Some(record) = record {
            let held = Held {
                key,
                order,
                record,
                until,
            };
            self.hold(topic, held);
        }
    }

    /// Whether records for the topic go to librdkafka now: order is kept by holding what comes after a held one.
    fn may_hand_over(&mut self, topic: usize) -> bool {
        self.is_open()
            && self.topics.get(topic).is_some_and(|t| {
                t.left == 0 && t.held.is_empty() && matches!(t.standing, Standing::Known { .. })
            })
    }

    /// Whether anything goes to librdkafka now.
    fn is_open(&self) -> bool {
        self.fatal.is_none() && !self.is_down() && !self.is_diverting()
    }

    fn hold(&mut self, topic: usize, mut held: Held) {
        held.record.detach();
        let Some(held_in) = self.topics.get(topic) else {
            return;
        };
        held_in.held.push_back(held);
        let unknown = matches!(held_in.standing, Standing::Unknown);
        self.held += 1;
        if unknown {
            self.topics.want(topic);
        }
    }

    /// Hands a record to librdkafka; gives it back when it must be held instead.
    fn hand_over(
        &mut self,
        key: usize,
        topic: usize,
        record: Record,
        now: Instant,
        bag: &mut Bag,
    ) -> Option<Record> {
        let Some(found) = self.topics.get(topic) else {
            return Some(record);
        };
        let Standing::Known {
            handle,
            partitions,
            since,
        } = &found.standing
        else {
            return Some(record);
        };
        let fresh = now.saturating_duration_since(*since) < BELIEVED;
        if let Some(partition) = record.partition.filter(|p| p >= partitions) {
            if !fresh {
                found.standing = Standing::Unknown;
                return Some(record);
            }
            let text = format!(
                "topic {} has no partition {partition}: it has {partitions}, counted from 0",
                found.name
            );
            self.settle(key, Failure::new(ErrorClass::UnknownTopic, text).into(), now, bag);
            return None;
        }
        match self.native.produce(handle, &record, key) {
            Ok(()) => {
                if let Some(pending) = self.pending.get_mut(key) {
                    pending.handed = Some(found.gate.pass(now));
                    pending.generation = self.generation;
                    found.pace.handed(pace::cost(1, pending.bytes), now);
                    self.handed += 1;
                }
                found.refusals = 0;
                None
            }
            Err(Code::Fatal) => {
                self.fatal("refused after a fatal error".to_owned());
                Some(record)
            }
            // Also when the cluster has just said that it is there: an older answer to a question of librdkafka's own may come
            // after ours.
            Err(Code::UnknownTopic | Code::UnknownPartition) if !fresh || found.refusals < DOUBT_TRIES => {
                found.refusals += 1;
                found.not_before = Some(now + PAUSE);
                found.standing = Standing::Unknown;
                Some(record)
            }
            Err(code) => {
                self.settle(key, error::not_stored(code).into(), now, bag);
                None
            }
        }
    }

    /// Hands over what was held for a topic, in order, as far as possible.
    pub(super) fn release(&mut self, topic: usize, now: Instant, bag: &mut Bag) {
        let left = self.topics.get(topic).is_some_and(|topic| topic.left > 0);
        if left || !self.is_open() {
            return;
        }
        while let Some(Held {
            key,
            order,
            record,
            until,
        }) = self.topics.get(topic).and_then(|t| t.held.pop_front())
        {
            self.held -= 1;
            if let Some(record) = self.hand_over(key, topic, record, now, bag) {
                self.held += 1;
                let Some(held_in) = self.topics.get(topic) else {
                    return;
                };
                held_in.held.push_front(Held {
                    key,
                    order,
                    record,
                    until,
                });
                if matches!(held_in.standing, Standing::Unknown) {
                    self.topics.want(topic);
                }
                return;
            }
        }
    }
}
