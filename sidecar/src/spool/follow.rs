//! Which keys have records in the spool, and the records that wait until theirs has none. Knows no clock, no disk and
//! no Kafka.
//!
//! A record that is not spooled must not overtake one of its key that is. It waits in its key's line, in memory, until
//! what is before it is delivered and off the disk, and then goes to the producer with all that came meanwhile: so a key
//! leaves the spool even if its clients never pause.
//!
//! Keys are counted by a hash of lane and key, in a table of fixed size: of two that share a place, one may follow the
//! other needlessly.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use super::entry::Lane;

/// Places of the table: 4 MiB, of which the system gives what is written to.
const PLACES: usize = 1 << 20;
/// For so many records of a key that Kafka takes, one that waited for long is spooled: fewer come than go.
const GO_FOR_ONE: u32 = 2;

/// The place of a key.
pub(super) type Place = usize;

/// See the module. `T` is a record that waits.
pub(super) struct Following<T> {
    hasher: RandomState,
    /// Records that are spooled, by their keys' places.
    counts: Vec<u32>,
    /// How many that are together.
    counted: usize,
    lines: BTreeMap<Place, Line<T>>,
    /// Lines whose records may go.
    ready: Vec<Place>,
}

/// The records that wait for one place.
struct Line<T> {
    waiting: VecDeque<T>,
    /// How many spooled ones have gone meanwhile, less what was spooled for it.
    gone: u32,
    /// Those before them are being handed over.
    leaving: bool,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            gone: 0,
            leaving: false,
        }
    }
}

impl<T> Default for Following<T> {
    fn default() -> Self {
        Self::with_places(PLACES)
    }
}

impl<T> Following<T> {
    fn with_places(places: usize) -> Self {
        Self {
            hasher: RandomState::new(),
            counts: vec![0; places],
            counted: 0,
            lines: BTreeMap::new(),
            ready: Vec::new(),
        }
    }

    /// The place of a lane's key.
    pub(super) fn place(&self, lane: &Lane, key: &[u8]) -> Place {
        let hash = self.hasher.hash_one((lane, key));
        usize::try_from(hash % self.counts.len() as u64).unwrap_or_default()
    }

    /// Whether a record of that place must follow.
    pub(super) fn is_busy(&self, place: Place) -> bool {
        self.counts.get(place).is_some_and(|count| *count > 0) || self.lines.contains_key(&place)
    }

    /// Whether one of any place must.
    pub(super) fn is_any_busy(&self) -> bool {
        self.counted > 0 || !self.lines.is_empty()
    }

    /// A record is spooled. Gives the records that must be spooled before it, counted as well.
    pub(super) fn spool(&mut self, place: Place) -> Vec<T> {
        let before = self.take_line(place);
        self.count(place);
        before
    }

    /// A record is on the disk.
    pub(super) fn count(&mut self, place: Place) {
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
            self.counted += 1;
        }
    }

    /// A record is on the disk no more.
    pub(super) fn uncount(&mut self, place: Place) {
        let Some(count) = self.counts.get_mut(place).filter(|count| **count > 0) else {
            return;
        };
        *count -= 1;
        self.counted -= 1;
        if let Some(line) = self.lines.get_mut(&place) {
            line.gone += 1;
            if *count == 0 && !line.leaving {
                self.ready.push(place);
            }
        }
    }

    /// A record waits for those of its place.
    pub(super) fn wait(&mut self, place: Place, record: T) {
        let free = self.counts.get(place).is_none_or(|count| *count == 0);
        let line = self.lines.entry(place).or_default();
        // The last of them has gone since it was asked.
        if free && line.waiting.is_empty() && !line.leaving {
            self.ready.push(place);
        }
        line.waiting.push_back(record);
    }

    /// Whether there are lines whose records may go.
    pub(super) fn is_any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The lines whose records may go now. Each is told of with [`Self::left`] when they are handed over; what comes until
    /// then waits behind them.
    pub(super) fn take_ready(&mut self) -> Vec<(Place, Vec<T>)> {
        let mut taken = Vec::new();
        for place in std::mem::take(&mut self.ready) {
            let free = self.counts.get(place).is_none_or(|count| *count == 0);
            if let Some(line) = self.lines.get_mut(&place).filter(|line| free && !line.leaving) {
                line.leaving = true;
                taken.push((place, line.waiting.drain(..).collect()));
            }
        }
        taken
    }

    /// What was taken of a line is handed over.
    pub(super) fn left(&mut self, place: Place) {
        let Some(line) = self.lines.get_mut(&place) else {
            return;
        };
        line.leaving = false;
        if line.waiting.is_empty() {
            self.lines.remove(&place);
        } else {
            self.ready.push(place);
        }
    }

    /// Has a line's records be spooled instead: they are counted, and given in their order.
    pub(super) fn take_line(&mut self, place: Place) -> Vec<T> {
        let Some(line) = self.lines.get_mut(&place) else {
            return Vec::new();
        };
        let waiting: Vec<T> = line.waiting.drain(..).collect();
        if !line.leaving {
            self.lines.remove(&place);
        }
        for _ in &waiting {
            self.count(place);
        }
        waiting
    }

    /// Has the first of a line be spooled instead if `late` says so of it, and enough have gone for that. It is counted.
    pub(super) fn take_late(&mut self, place: Place, late: impl Fn(&T) -> bool) -> Option<T> {
        let line = self.lines.get_mut(&place)?;
        if line.gone < GO_FOR_ONE || !line.waiting.front().is_some_and(late) {
            return None;
        }
        line.gone -= GO_FOR_ONE;
        let first = line.waiting.pop_front()?;
        self.count(place);
        Some(first)
    }

    /// Takes out those that `over` says so of: they are not to wait any longer.
    pub(super) fn take_over(&mut self, place: Place, over: impl Fn(&T) -> bool) -> Vec<T> {
        let Some(line) = self.lines.get_mut(&place) else {
            return Vec::new();
        };
        let (gone, left): (Vec<T>, Vec<T>) = line.waiting.drain(..).partition(over);
        line.waiting = left.into();
        if line.waiting.is_empty() && !line.leaving {
            self.lines.remove(&place);
        }
        gone
    }

    /// The places that have lines, with the first record of each.
    pub(super) fn lines(&self) -> Vec<(Place, Option<&T>)> {
        let lines = self.lines.iter();
        lines
            .map(|(place, line)| (*place, line.waiting.front()))
            .collect()
    }

    /// How many records wait.
    pub(super) fn waiting(&self) -> usize {
        self.lines.values().map(|line| line.waiting.len()).sum()
    }
}

#[cfg(test)]
mod tests;
