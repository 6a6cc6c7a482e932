//! A client takes over from one that still works, whose certificates or secrets have changed.
//!
//! What the old one has stays with it until its reports are there. Meanwhile a topic's new records are held, and so they
//! come after those: no two clients have records of one topic at a time, and each topic goes over by itself.

use std::sync::Arc;
use std::time::Instant;

use super::State;
use crate::kafka::native::Native;
use crate::kafka::producer::bag::Bag;
use crate::kafka::producer::topics::{Held, Standing};

impl State {
    /// Puts `native` in the place of the client that there is, which keeps the records that it has.
    ///
    /// Only one client retires at a time: [`Self::retired`] comes before the next call.
    pub(in crate::kafka::producer) fn take_over(&mut self, native: Arc<Native>) {
        for (_, pending) in self.pending.iter().filter(|(_, p)| p.handed.is_some()) {
            if let Some(topic) = self.topics.get(pending.topic) {
                topic.left += 1;
                self.left += 1;
            }
        }
        self.retiring = Some(std::mem::replace(&mut self.native, native));
        self.generation = self.generation.wrapping_add(1);
        for (_, topic) in self.topics.iter() {
            if let Standing::Known { handle, .. } = &mut topic.standing {
                match self.native.topic(&topic.name) {
                    Some(of_the_new_one) => *handle = of_the_new_one,
                    None => topic.standing = Standing::Unknown,
                }
            }
        }
    }

    /// The client before, as long as it has not given up its place.
    pub(in crate::kafka::producer) fn retiring(&self) -> Option<&Arc<Native>> {
        self.retiring.as_ref()
    }

    /// How many records it has.
    pub(in crate::kafka::producer) fn left(&self) -> usize {
        self.left
    }

    /// Takes the client before out, which has no records any more; to be dropped without the lock.
    pub(in crate::kafka::producer) fn retired(&mut self) -> Option<Arc<Native>> {
        self.retiring.take()
    }

    /// Whether the client before has this record.
    pub(super) fn is_left(&self, key: usize) -> bool {
        let of_before =
            |pending: &super::Pending| pending.handed.is_some() && pending.generation != self.generation;
        self.pending.get(key).is_some_and(of_before)
    }

    /// The client before gave back a record that it had not sent. It goes to where it was among those that are held.
    pub(super) fn back(&mut self, topic: usize, mut held: Held, now: Instant, bag: &mut Bag) {
        held.record.detach();
        let Some(found) = self.topics.get(topic) else {
            return;
        };
        let at = found.held.partition_point(|other| other.order < held.order);
        found.held.insert(at, held);
        found.left -= 1;
        self.left -= 1;
        self.held += 1;
        self.release(topic, now, bag);
    }
}
