//! What is next of one lane, and what becomes of a record that was tried. Knows no clock, no disk and no Kafka.
//!
//! Of the records of one key only the first is ever under way: whatever becomes of it (stored, refused, lost on the
//! way, tried again), the next one follows it. That is what keeps a key's order, whatever producer profile is used and
//! wherever the sidecar dies. Records of different keys, and records without a key, are under way together.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sluice_proto::class;
use sluice_proto::v1::ErrorClass;

use super::entry::Entry;
use crate::kafka::record::{Failure, Outcome};

/// How often a record that Kafka refuses for what it is is tried by itself: others in its request may be the reason.
const ALONE: u32 = 3;
/// The first pause before a record is tried again; doubled each time.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A record in the window: read from the disk, or not yet on it for long.
struct Slot {
    entry: Entry,
    size: usize,
    tries: u32,
    /// How often it was refused when it was tried by itself.
    alone: u32,
    /// Since when Kafka says that there is no such topic, or that it may not be written.
    refused_since: Option<Instant>,
    under_way: bool,
    /// No earlier record of its key is in the window.
    first: bool,
}

/// What is to be done about a record after it was tried.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is delivered.
    Stored,
    /// It is tried again; the broker may have it already.
    Again {
        /// Whether it may be stored twice.
        perhaps_stored: bool,
    },
    /// It is given up.
    Dead(Failure),
}

/// The part of a lane that is in memory.
pub(super) struct Window {
    slots: BTreeMap<u64, Slot>,
    bytes: usize,
    /// Records that may go now.
    ready: VecDeque<u64>,
    /// Records of a key that has an earlier one in the window, in order.
    chains: HashMap<Bytes, VecDeque<u64>>,
    /// Records that are tried again later.
    later: Vec<(Instant, u64)>,
    /// Records to be tried while nothing else of the lane is.
    suspects: VecDeque<u64>,
    /// The one of them that is being tried.
    suspect: Option<u64>,
    under_way: usize,
    refused_since: Option<Instant>,
    /// How long Kafka may say so.
    grace: Duration,
    /// The last record that was put in.
    last: u64,
}

impl Window {
    pub(super) fn new(grace: Duration) -> Self {
        Self {
            slots: BTreeMap::new(),
            bytes: 0,
            ready: VecDeque::new(),
            chains: HashMap::new(),
            later: Vec::new(),
            suspects: VecDeque::new(),
            suspect: None,
            under_way: 0,
            refused_since: None,
            grace,
            last: 0,
        }
    }

    /// The number of the last record that was put in: what comes after it is to be read.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Bytes of the encoded entries in it.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the oldest record in it was spooled, in milliseconds since the epoch.
    pub(super) fn oldest_ms(&self) -> Option<i64> {
        self.slots.values().next().map(|slot| slot.entry.spooled_ms)
    }

    /// Puts in the record that follows the last one.
    pub(super) fn push(&mut self, number: u64, entry: Entry, size: usize) {
        debug_assert!(number > self.last, "records come in their order");
        self.last = number;
        self.bytes += size;
        let mut first = true;
        if let Some(key) = &entry.key {
            match self.chains.get_mut(key) {
                Some(chain) => {
                    chain.push_back(number);
                    first = false;
                }
                None => drop(self.chains.insert(key.clone(), VecDeque::new())),
            }
        }
        if first {
            self.ready.push_back(number);
        }
        let slot = Slot {
            entry,
            size,
            tries: 0,
            alone: 0,
            refused_since: None,
            under_way: false,
            first,
        };
        self.slots.insert(number, slot);
    }

    /// The next record to be tried; it is under way from now on. `None`: nothing can be for now.
    pub(super) fn next(&mut self, now: Instant) -> Option<(u64, &Entry)> {
        if let Some(at) = self.later.iter().position(|(due, _)| *due <= now) {
            let (_, number) = self.later.swap_remove(at);
            self.ready.push_front(number);
        }
        if self.suspect.is_some() {
            return None;
        }
        let number = if self.suspects.is_empty() {
            self.ready.pop_front()?
        } else if self.under_way == 0 {
            let suspect = self.suspects.pop_front()?;
            self.suspect = Some(suspect);
            suspect
        } else {
            return None;
        };
        let slot = self.slots.get_mut(&number)?;
        slot.under_way = true;
        self.under_way += 1;
        Some((number, &slot.entry))
    }

    /// When there will be one, if nothing comes back before.
    pub(super) fn due(&self) -> Option<Instant> {
        self.later.iter().map(|(due, _)| *due).min()
    }

    /// What is to become of a record that was tried. What is not tried again leaves the window.
    pub(super) fn settled(&mut self, number: u64, outcome: &Outcome, now: Instant) -> Option<Verdict> {
        let slot = self.slots.get_mut(&number).filter(|slot| slot.under_way)?;
        slot.under_way = false;
        self.under_way -= 1;
        let alone = self.suspect.take_if(|suspect| *suspect == number).is_some();
        let failure = match outcome {
            Outcome::Stored { .. } | Outcome::Accepted => {
                self.refused_since = None;
                self.leave(number);
                return Some(Verdict::Stored);
            }
            Outcome::Failed(failure) => failure,
        };
        match failure.class {
            ErrorClass::TooLarge | ErrorClass::BrokerRejected | ErrorClass::InvalidRequest => {
                slot.alone += u32::from(alone);
                if slot.alone >= ALONE {
                    self.leave(number);
                    return Some(Verdict::Dead(failure.clone()));
                }
                // In its place: of those that were refused together the first is tried first.
                let at = self.suspects.partition_point(|other| *other < number);
                self.suspects.insert(at, number);
                return Some(Verdict::Again {
                    perhaps_stored: false,
                });
            }
            ErrorClass::UnknownTopic | ErrorClass::NotAuthorised => {
                let of_record = *slot.refused_since.get_or_insert(now);
                let since = of_record.min(*self.refused_since.get_or_insert(now));
                if now.saturating_duration_since(since) >= self.grace {
                    self.leave(number);
                    return Some(Verdict::Dead(failure.clone()));
                }
            }
            _ => {}
        }
        let pause = PAUSE * 2_u32.pow(slot.tries.min(8));
        slot.tries += 1;
        self.later.push((now + pause.min(LONGEST_PAUSE), number));
        Some(Verdict::Again {
            perhaps_stored: class::row_of(failure.class).status == 504,
        })
    }

    /// Takes out what was spooled before `limit_ms` and is not under way.
    pub(super) fn expire(&mut self, limit_ms: i64) -> Vec<(u64, Entry)> {
        let old = |(number, slot): (&u64, &Slot)| (slot.entry.spooled_ms < limit_ms).then_some(*number);
        // Spooled in this order, but for a clock that was set back and for what was replayed.
        let old: Vec<u64> = self.slots.iter().filter_map(old).collect();
        self.take_out(&old)
    }

    /// Takes out those of these, in their order, that are there and not under way.
    pub(super) fn take_out(&mut self, numbers: &[u64]) -> Vec<(u64, Entry)> {
        let idle = |number: &&u64| self.slots.get(number).is_some_and(|slot| !slot.under_way);
        let out: Vec<u64> = numbers.iter().filter(idle).copied().collect();
        if out.is_empty() {
            return Vec::new();
        }
        let gone = |number: &u64| out.binary_search(number).is_ok();
        self.ready.retain(|number| !gone(number));
        self.suspects.retain(|number| !gone(number));
        self.later.retain(|(_, number)| !gone(number));
        for chain in self.chains.values_mut() {
            chain.retain(|number| !gone(number));
        }
        let entry = |number: u64| {
            let entry = self.entry(number)?.clone();
            self.leave(number);
            Some((number, entry))
        };
        out.into_iter().filter_map(entry).collect()
    }

    /// Passes over a record that is not put in.
    pub(super) fn skip(&mut self, number: u64) {
        self.last = number;
    }

    /// Takes a record out, and has the next one of its key go.
    fn leave(&mut self, number: u64) {
        let Some(slot) = self.slots.remove(&number) else {
            return;
        };
        self.bytes -= slot.size;
        let Some(key) = slot.entry.key.filter(|_| slot.first) else {
            return;
        };
        match self.chains.get_mut(&key).and_then(VecDeque::pop_front) {
            Some(next) => {
                if let Some(slot) = self.slots.get_mut(&next) {
                    slot.first = true;
                }
                self.ready.push_back(next);
            }
            None => drop(self.chains.remove(&key)),
        }
    }

    /// The entry of a record that is in the window.
    pub(super) fn entry(&self, number: u64) -> Option<&Entry> {
        self.slots.get(&number).map(|slot| &slot.entry)
    }
}

#[cfg(test)]
mod tests;
