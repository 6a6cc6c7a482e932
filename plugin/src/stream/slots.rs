//! The outstanding records of a stream.

use super::shares::{Shares, Tag};
use super::{RecordId, Token};

/// The low bits of a [`RecordId`] are a slot, the others count up: an id is never used twice.
const SLOT_BITS: u32 = 20;

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// At that position of the gathered ones.
    Gathered(usize),
    /// Handed to that stream.
    Sent(Token),
}

#[derive(Debug)]
struct Record<T> {
    /// `None` once nobody waits.
    owner: Option<T>,
    deadline_us: u64,
    bytes: usize,
    tag: Tag,
    place: Place,
}

#[derive(Debug)]
struct Slot<T> {
    /// The id of the record in it, or of the last that was.
    id: RecordId,
    record: Option<Record<T>>,
}

/// A slab.
#[derive(Debug)]
pub(super) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<usize>,
    next: u64,
    bytes: usize,
    shares: Shares,
    waiting: usize,
    /// No deadline is earlier.
    earliest_us: u64,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            next: 1,
            bytes: 0,
            shares: Shares::default(),
            waiting: 0,
            earliest_us: u64::MAX,
        }
    }
}

impl<T> Slots<T> {
    /// How many records are outstanding.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// How many bytes they have.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What clients have of it.
    pub(super) fn shares(&self) -> &Shares {
        &self.shares
    }

    /// Whether anybody waits for any of them.
    pub(super) fn anyone_waits(&self) -> bool {
        self.waiting > 0
    }

    /// The id that the next record gets.
    pub(super) fn next_id(&self) -> RecordId {
        let slot = self.free.last().copied().unwrap_or(self.slots.len());
        self.next << SLOT_BITS | slot as u64
    }

    /// Takes a gathered record under the id that [`Slots::next_id`] gave.
    pub(super) fn insert(
        &mut self,
        id: RecordId,
        (owner, tag): (T, Tag),
        deadline_us: u64,
        bytes: usize,
        at: usize,
    ) {
        self.shares.add(&tag, bytes);
        let record = Some(Record {
            owner: Some(owner),
            deadline_us,
            bytes,
            tag,
            place: Place::Gathered(at),
        });
        match self.free.pop() {
            Some(slot) => {
                if let Some(slot) = self.slots.get_mut(slot) {
                    *slot = Slot { id, record };
                }
            }
            None => self.slots.push(Slot { id, record }),
        }
        self.next += 1;
        self.bytes += bytes;
        self.waiting += 1;
        self.earliest_us = self.earliest_us.min(deadline_us);
    }

    /// Where the record is; `None` if it is not outstanding.
    pub(super) fn place(&self, id: RecordId) -> Option<Place> {
        let slot = self.slots.get(slot_of(id)).filter(|slot| slot.id == id)?;
        slot.record.as_ref().map(|record| record.place)
    }

    /// The record was handed to `stream`.
    pub(super) fn sent(&mut self, id: RecordId, stream: Token) {
        if let Some(record) = self.get_mut(id) {
            record.place = Place::Sent(stream);
        }
    }

    /// The gathered record is at another position now.
    pub(super) fn moved(&mut self, id: RecordId, at: usize) {
        if let Some(record) = self.get_mut(id) {
            record.place = Place::Gathered(at);
        }
    }

    /// The record is not outstanding any more. Gives whoever waits for it.
    pub(super) fn remove(&mut self, id: RecordId) -> Option<T> {
        let at = slot_of(id);
        let slot = self.slots.get_mut(at).filter(|slot| slot.id == id)?;
        let record = slot.record.take()?;
        self.free.push(at);
        self.bytes -= record.bytes;
        self.shares.remove(&record.tag, record.bytes);
        self.waiting -= usize::from(record.owner.is_some());
        record.owner
    }

    /// Nobody waits for the record any more. Gives whoever did.
    pub(super) fn abandon(&mut self, id: RecordId) -> Option<T> {
        let owner = self.get_mut(id)?.owner.take()?;
        self.waiting -= 1;
        Some(owner)
    }

    pub(super) fn any_sent_on(&self, stream: Token) -> bool {
        self.records()
            .any(|(_, record)| record.place == Place::Sent(stream))
    }

    /// Removes what was handed to `stream`. Gives those who wait.
    pub(super) fn remove_sent_on(&mut self, stream: Token) -> Vec<T> {
        let sent = self
            .records()
            .filter(|(_, record)| record.place == Place::Sent(stream));
        let ids: Vec<_> = sent.map(|(id, _)| id).collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// The records that somebody waits for and whose deadline has passed.
    pub(super) fn expired(&mut self, now_us: u64) -> Vec<RecordId> {
        if now_us < self.earliest_us {
            return Vec::new();
        }
        let waiting = || self.records().filter(|(_, record)| record.owner.is_some());
        let expired = waiting().filter(|(_, record)| record.deadline_us <= now_us);
        let ids = expired.map(|(id, _)| id).collect();
        let later = waiting()
            .map(|(_, record)| record.deadline_us)
            .filter(|us| *us > now_us);
        let earliest_us = later.min().unwrap_or(u64::MAX);
        self.earliest_us = earliest_us;
        ids
    }

    fn records(&self) -> impl Iterator<Item = (RecordId, &Record<T>)> {
        self.slots
            .iter()
            .filter_map(|slot| Some((slot.id, slot.record.as_ref()?)))
    }

    fn get_mut(&mut self, id: RecordId) -> Option<&mut Record<T>> {
        let slot = self.slots.get_mut(slot_of(id)).filter(|slot| slot.id == id)?;
        slot.record.as_mut()
    }
}

/// The slot of an id.
fn slot_of(id: RecordId) -> usize {
    (id & ((1 << SLOT_BITS) - 1)) as usize
}
