//! Records that are put aside when the cluster goes away: those that were not handed over, and have somewhere to go.
//!
//! What comes after them must not be there before them. So a cluster that goes counts as there for those who ask
//! ([`State::takes`]) until all that was taken on is put aside; what they bring meanwhile is held, and put aside as well.

use std::collections::{HashSet, VecDeque};
use std::time::Instant;

use super::{Pending, State};
use crate::kafka::producer::bag::Bag;
use crate::kafka::producer::topics::Held;

impl Pending {
    fn may_go(&self) -> bool {
        self.aside.is_some() && self.receipt.is_some()
    }

    /// It might, had it not been answered.
    fn stays(&self) -> bool {
        self.aside.is_some() && self.receipt.is_none()
    }
}

impl State {
    /// Whether the cluster takes the topic's records.
    pub(in crate::kafka::producer) fn takes(&mut self, topic: &str, now: Instant) -> bool {
        (!self.is_down() || self.diverting) && !self.is_stuck(topic, now)
    }

    /// Whether records are being put aside: then [`State::divert`] is due.
    pub(in crate::kafka::producer) fn is_diverting(&self) -> bool {
        self.diverting
    }

    /// Puts aside what may go, which the bag then has: it must be sent before this is called again. Whether it must be.
    pub(in crate::kafka::producer) fn divert(&mut self, now: Instant, bag: &mut Bag) -> bool {
        if !self.diverting {
            return false;
        }
        self.put_aside(now, bag);
        self.diverting = bag.aside() > 0;
        if !self.diverting {
            self.release_all(now, bag);
        }
        self.diverting
    }

    /// Puts a record aside whose sender was told that the cluster is there just before it was gone.
    pub(super) fn put_aside_at_once(&mut self, held: Held, now: Instant, bag: &mut Bag) -> Option<Held> {
        let gone = self.is_down() && !self.diverting;
        if gone && self.pending.get(held.key).is_some_and(Pending::may_go) {
            self.go(held, now, bag);
            return None;
        }
        Some(held)
    }

    /// Puts aside what is held or gathered and may go.
    pub(super) fn put_aside(&mut self, now: Instant, bag: &mut Bag) {
        let mut going = Vec::new();
        let pending = &self.pending;
        let is = |held: &Held, what: fn(&Pending) -> bool| pending.get(held.key).is_some_and(what);
        for (_, topic) in self.topics.iter() {
            // One that was answered stays in memory, and none of its key leaves it behind.
            let waiting = topic.held.iter().chain(&topic.gathered);
            let staying = waiting.filter(|held| is(held, Pending::stays));
            let staying: HashSet<_> = staying.filter_map(|held| held.record.key.clone()).collect();
            let goes = |held: &Held| {
                let key = held.record.key.as_ref();
                is(held, Pending::may_go) && key.is_none_or(|key| !staying.contains(key))
            };
            let split = |queue: &mut VecDeque<Held>| {
                let (gone, left): (Vec<_>, Vec<_>) = queue.drain(..).partition(goes);
                *queue = left.into();
                gone
            };
            let held = split(&mut topic.held);
            let gathered = split(&mut topic.gathered);
            self.held -= held.len();
            topic.gathered_bytes -= gathered.iter().map(|held| held.record.size()).sum::<usize>();
            going.extend(held.into_iter().chain(gathered));
        }
        for held in going {
            self.go(held, now, bag);
        }
    }

    fn go(&mut self, held: Held, now: Instant, bag: &mut Bag) {
        if let Some(pending) = self.forget(held.key, None, now)
            && let (Some(aside), Some(receipt)) = (pending.aside, pending.receipt)
        {
            bag.put_aside(aside, held.record, receipt);
        }
    }
}
