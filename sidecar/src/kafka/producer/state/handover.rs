//! A record's way to librdkafka: gathered, held, handed over.

use std::time::Instant;

use rdkafka::error::RDKafkaErrorCode as Code;
use sluice_proto::v1::ErrorClass;

use super::State;
use crate::kafka::error;
use crate::kafka::health::Health;
use crate::kafka::producer::bag::Bag;
use crate::kafka::producer::gather::Gathered;
use crate::kafka::producer::topics::{BELIEVED, Held, Standing};
use crate::kafka::record::{Failure, Record};

impl State {
    /// Whether the topic's next record is gathered; what comes after a gathered record always is.
    pub(super) fn gathers(&mut self, key: usize, now: Instant) -> bool {
        let on = self.gathers;
        let Some(topic) = self.topics.get(key) else {
            return false;
        };
        if self.touched.last() != Some(&key) {
            self.touched.push(key);
        }
        let gathers = topic.gathered > 0 || (on && topic.pace.is_loaded(now));
        topic.gathered += usize::from(gathers);
        gathers
    }

    /// Sends on what was gathered, when it is time.
    pub(in crate::kafka::producer) fn send_gathered(&mut self, now: Instant, bag: &mut Bag) {
        if self.gather.is_due(now) {
            self.hand_over_gathered(now, bag);
        }
    }

    pub(super) fn hand_over_gathered(&mut self, now: Instant, bag: &mut Bag) {
        let mut gathered = self.gather.take();
        for Gathered {
            key,
            topic,
            record,
            until,
        } in gathered.drain(..)
        {
            if let Some(topic) = self.topics.get(topic) {
                topic.gathered -= 1;
            }
            self.place(key, topic, record, until, now, bag);
        }
        self.gather.recycle(gathered);
    }

    /// Hands a record over, or holds it.
    pub(super) fn place(
        &mut self,
        key: usize,
        topic: usize,
        record: Record,
        until: Option<Instant>,
        now: Instant,
        bag: &mut Bag,
    ) {
        let record = match self.may_hand_over(topic) {
            true => self.hand_over(key, topic, record, now, bag),
            false => Some(record),
        };
        if let Some(record) = record {
            self.hold(key, topic, record, until);
        }
    }

    /// Whether records for the topic go to librdkafka now: order is kept by holding what comes after a held one.
    fn may_hand_over(&mut self, topic: usize) -> bool {
        let open = self.fatal.is_none() && !matches!(self.health, Health::Down(_));
        open && self
            .topics
            .get(topic)
            .is_some_and(|t| t.held.is_empty() && matches!(t.standing, Standing::Known { .. }))
    }

    fn hold(&mut self, key: usize, topic: usize, mut record: Record, until: Option<Instant>) {
        // The bytes of a whole message of many records must not be kept for the sake of one of them.
        record.key = record.key.map(|key| key.to_vec().into());
        record.value = record.value.map(|value| value.to_vec().into());
        let Some(held_in) = self.topics.get(topic) else {
            return;
        };
        held_in.held.push_back(Held { key, record, until });
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
                    pending.handed = true;
                    self.handed += 1;
                }
                None
            }
            Err(Code::Fatal) => {
                self.fatal("refused after a fatal error".to_owned());
                Some(record)
            }
            Err(Code::UnknownTopic | Code::UnknownPartition) if !fresh => {
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
        if self.fatal.is_some() || matches!(self.health, Health::Down(_)) {
            return;
        }
        while let Some(Held { key, record, until }) = self.topics.get(topic).and_then(|t| t.held.pop_front())
        {
            self.held -= 1;
            if let Some(record) = self.hand_over(key, topic, record, now, bag) {
                self.held += 1;
                let Some(held_in) = self.topics.get(topic) else {
                    return;
                };
                held_in.held.push_front(Held { key, record, until });
                if matches!(held_in.standing, Standing::Unknown) {
                    self.topics.want(topic);
                }
                return;
            }
        }
    }
}
