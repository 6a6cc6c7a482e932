//! What the spool's threads share.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use slab::Slab;

use super::bridge::Parked;
use super::entry::{DeadLetter, Entry, Lane, LaneRow};
use super::follow::{Following, Place};
use super::lane::Window;
use super::letters::Letters;
use super::store::{Amount, Book};
use crate::kafka::producer::Producer;
use crate::kafka::record::{Outcome, Receipt};

/// Who waits for a record to be on the disk.
pub(super) struct Waiting {
    pub(super) receipt: Receipt,
    pub(super) deadline: Instant,
}

/// A record that waits for the disk.
pub(super) struct Queued {
    pub(super) waiting: usize,
    pub(super) lane: Lane,
    pub(super) entry: Entry,
    /// Its key's.
    pub(super) place: Option<Place>,
    pub(super) encoded: Vec<u8>,
}

/// A record that is delivered.
pub(super) struct Removal {
    pub(super) lane: u64,
    pub(super) number: u64,
    /// Its key's.
    pub(super) place: Option<Place>,
}

/// Something that an operator wants to be done.
pub(super) struct Command {
    /// Dead letters to deliver after all.
    pub(super) replay: Vec<u64>,
    /// Dead letters to forget.
    pub(super) forget: Vec<u64>,
    /// Records to forget that waited, and are in memory no more.
    pub(super) discard: Vec<Removal>,
    pub(super) reply: mpsc::SyncSender<Result<(u64, u64), String>>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) waiting: Slab<Waiting>,
    pub(super) append: Vec<Queued>,
    /// Bytes of what waits for the disk, that which is being written included, or for records of its key.
    pub(super) queued: u64,
    pub(super) remove: Vec<Removal>,
    /// When the oldest of those, or of `sent`, was delivered.
    pub(super) remove_since: Option<Instant>,
    pub(super) bury: Vec<(u64, u64, DeadLetter)>,
    pub(super) letters: Letters,
    /// Dead letters that their topic has.
    pub(super) sent: Vec<u64>,
    pub(super) commands: Vec<Command>,
    /// Records that are not to be put into a window when they are read, and their lanes.
    pub(super) discarded: HashMap<u64, u64>,
    /// What is on the disk.
    pub(super) stored: Amount,
    pub(super) dead: Amount,
    pub(super) lanes: HashMap<u64, LaneState>,
    /// Those of them that there may be something to do about.
    pub(super) work: Vec<u64>,
    /// When there may be something to do about which.
    pub(super) timers: BTreeSet<(Instant, u64)>,
    /// The keys that later records must follow.
    pub(super) following: Following<Parked>,
    /// Lanes with records from before the start that were not read yet: nobody knows their keys.
    pub(super) unread: HashSet<Lane>,
    /// The last number that is known to be on the disk.
    pub(super) newest: u64,
    /// The last number from before the start.
    old: u64,
    /// From which number to which records are counted only when they are read.
    uncounted: Vec<(u64, u64)>,
    /// What became of records that were handed over.
    pub(super) outcomes: Vec<(u64, Outcome)>,
    /// The lane and the number of each of those.
    pub(super) under_way: Slab<(u64, u64)>,
    /// Why nothing can be written, and when that is tried again.
    pub(super) broken: Option<(String, Instant)>,
    /// Nothing more is handed over.
    pub(super) resting: bool,
    /// Nothing more is taken on, and nothing more is learnt.
    pub(super) stopping: bool,
    /// Nothing more comes to be written.
    pub(super) closing: bool,
}

/// A lane with records.
pub(super) struct LaneState {
    pub(super) lane: Lane,
    pub(super) window: Window,
    /// No record on the disk has a higher number.
    pub(super) newest: u64,
    /// Nothing is tried before this.
    pub(super) not_before: Option<Instant>,
    pub(super) outlet: Option<(Arc<Producer>, Arc<str>)>,
    /// What keeps it from being delivered, once logged.
    pub(super) obstacle: Option<String>,
    /// When its oldest record was spooled.
    pub(super) oldest_ms: Option<i64>,
    /// It is in [`State::work`].
    touched: bool,
}

impl State {
    pub(super) fn lane(&mut self, number: u64, lane: &Lane, grace: Duration) -> &mut LaneState {
        self.lanes.entry(number).or_insert_with(|| LaneState {
            lane: lane.clone(),
            window: Window::new(grace),
            newest: 0,
            not_before: None,
            outlet: None,
            obstacle: None,
            oldest_ms: None,
            touched: false,
        })
    }

    /// There may be something to do about the lane.
    pub(super) fn touch(&mut self, number: u64) {
        if let Some(lane) = self.lanes.get_mut(&number)
            && !std::mem::replace(&mut lane.touched, true)
        {
            self.work.push(number);
        }
    }

    /// The lanes that there may be something to do about, now.
    pub(super) fn take_work(&mut self, now: Instant) -> Vec<u64> {
        while let Some((due, number)) = self.timers.first().copied().filter(|(due, _)| *due <= now) {
            self.timers.remove(&(due, number));
            self.touch(number);
        }
        let work = std::mem::take(&mut self.work);
        for number in &work {
            if let Some(lane) = self.lanes.get_mut(number) {
                lane.touched = false;
            }
        }
        work
    }

    /// Has everything be read that the file holds from before the start.
    pub(super) fn begin(&mut self, book: &Book, grace: Duration) {
        self.old = book.next();
        self.newest = book.next();
        self.unread = book.lanes.values().map(LaneRow::lane).collect();
        self.adopt(book, 0, grace);
    }

    /// Has everything be read again that the book tells of. Those of a higher number than `counted` are counted then.
    pub(super) fn adopt(&mut self, book: &Book, counted: u64, grace: Duration) {
        if book.next() > counted {
            self.uncounted.push((counted, book.next()));
        }
        self.lanes.retain(|number, _| book.lanes.contains_key(number));
        for (number, row) in &book.lanes {
            self.lane(*number, &row.lane(), grace).newest = book.next();
            self.touch(*number);
        }
        self.amount(book);
    }

    /// Whether a record is counted only when it is read.
    pub(super) fn is_uncounted(&self, number: u64) -> bool {
        let mut ranges = self.uncounted.iter();
        ranges.any(|(after, last)| (*after < number) && (number <= *last))
    }

    /// The lane is read up to there, or wholly.
    pub(super) fn was_read(&mut self, lane: &Lane, up_to: u64) {
        if up_to >= self.old {
            self.unread.remove(lane);
        }
    }

    /// The place of a key, if there is one.
    pub(super) fn place(&self, lane: &Lane, key: Option<&bytes::Bytes>) -> Option<Place> {
        key.map(|key| self.following.place(lane, key))
    }

    pub(super) fn amount(&mut self, book: &Book) {
        self.stored = book.waiting();
        self.dead = book.dead;
    }
}
