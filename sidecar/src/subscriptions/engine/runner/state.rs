//! What a runner knows of partitions and events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::Runner;
use crate::kafka::group::Partition;
use crate::kafka::reader::Record;
use crate::subscriptions::engine::lanes::{self, Lane, Ticket};
use crate::subscriptions::engine::prefix::Prefix;
use crate::subscriptions::engine::progress::Progress;
use crate::subscriptions::event::Deliver;
use crate::subscriptions::spec::Ordering;

/// How far a partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// What is held of it is not known yet.
    Loading,
    /// Its records are delivered.
    Active,
    /// It goes to another member.
    Closing,
}

/// A partition that the member has.
pub(super) struct Part {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) prefix: Prefix,
    pub(super) phase: Phase,
    /// Records that hold the prefix up, and their bytes.
    pub(super) buffered: usize,
    pub(super) bytes: usize,
    /// Events that something is under way for.
    pub(super) busy: usize,
    /// Whether the member was told to take no more of it.
    pub(super) paused: bool,
    pub(super) end: Option<i64>,
    pub(super) committed: Option<Progress>,
    /// By offset, what is in the held topic.
    pub(super) held: BTreeMap<i64, Ticket>,
    /// What came while it was loading.
    pub(super) early: Vec<Arc<Record>>,
}

impl Part {
    /// How far it is, if that is not committed.
    pub(super) fn to_commit(&self) -> Option<(Partition, Progress)> {
        let progress = self.prefix.progress()?;
        let moved = self.committed.as_ref() != Some(&progress);
        moved.then(|| ((Arc::clone(&self.topic), self.partition), progress))
    }
}

/// What is happening to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// It waits for its turn.
    Queued,
    /// It is written to the held topic, since it waits behind one that is held; its turn may have come meanwhile.
    Spilling { wanted: bool },
    /// The handler has it.
    Delivering,
    /// What must be written for it is.
    Settling,
    /// It waits for its time, and its lane with it.
    Held,
    /// It is in the held topic, and in no lane.
    Parked,
}

impl At {
    fn is_busy(self) -> bool {
        matches!(self, Self::Spilling { .. } | Self::Delivering | Self::Settling)
    }
}

/// An event that is not finished.
pub(super) struct Entry {
    pub(super) part: lanes::Part,
    pub(super) offset: i64,
    pub(super) key: Option<Bytes>,
    /// None: it must be read from where it is held.
    pub(super) record: Option<Arc<Record>>,
    pub(super) size: usize,
    pub(super) at: At,
    /// Whether it holds its partition's prefix up.
    pub(super) tracked: bool,
    /// Where it is in the held topic.
    pub(super) held: Option<i64>,
    pub(super) attempts: u32,
    /// In milliseconds since 1970; 0: it has not.
    pub(super) first_failed_ms: i64,
    pub(super) due: Option<Instant>,
    /// It goes in a request of its own, since it failed together with others.
    pub(super) alone: bool,
    pub(super) error: String,
    pub(super) status: Option<u16>,
    /// The replay that it is of.
    pub(super) replay: Option<u64>,
}

impl Entry {
    /// A record that is new.
    pub(super) fn new(part: lanes::Part, record: Arc<Record>) -> Self {
        Self {
            part,
            offset: record.offset,
            key: record.key.clone(),
            size: record.size(),
            record: Some(record),
            at: At::Queued,
            tracked: true,
            held: None,
            attempts: 0,
            first_failed_ms: 0,
            due: None,
            alone: false,
            error: String::new(),
            status: None,
            replay: None,
        }
    }

    /// Whether its time has not come at `now`.
    pub(super) fn waits(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due > now)
    }
}

impl<D: Deliver> Runner<D> {
    /// The lane of an event.
    pub(super) fn lane(&self, ticket: Ticket, part: lanes::Part, key: Option<&Bytes>) -> Lane {
        match (self.spec.ordering, key) {
            (Ordering::Key, Some(key)) => Lane::Key(part, key.clone()),
            (Ordering::Partition, _) => Lane::Partition(part),
            (Ordering::Key | Ordering::None, _) => Lane::Alone(part, ticket),
        }
    }

    /// An event's id.
    pub(super) fn id_of(&self, ticket: Ticket) -> String {
        let entry = self.entries.get(&ticket);
        let part = entry.and_then(|entry| self.parts.get(&entry.part));
        match (entry, part) {
            (Some(entry), Some(part)) => {
                format!("{}/{}/{}/{}", self.id, part.topic, part.partition, entry.offset)
            }
            _ => self.id.to_string(),
        }
    }

    /// Something else is happening to an event.
    pub(super) fn put(&mut self, ticket: Ticket, at: At) {
        let Some(entry) = self.entries.get_mut(&ticket) else {
            return;
        };
        let before = std::mem::replace(&mut entry.at, at);
        if let Some(part) = self.parts.get_mut(&entry.part) {
            match (before.is_busy(), at.is_busy()) {
                (false, true) => part.busy += 1,
                (true, false) => part.busy -= 1,
                _ => {}
            }
            self.unswept |= part.phase == Phase::Closing && !at.is_busy();
        }
    }

    /// An event is in the held topic, or has been there: it holds nothing up.
    pub(super) fn untrack(&mut self, ticket: Ticket) {
        let Some(entry) = self.entries.get_mut(&ticket) else {
            return;
        };
        if !std::mem::take(&mut entry.tracked) {
            return;
        }
        if let Some(part) = self.parts.get_mut(&entry.part) {
            part.prefix.finish(entry.offset);
            part.buffered -= 1;
            part.bytes -= entry.size;
        }
    }

    /// An event that is in the held topic need not be in memory; it is while there is room.
    pub(super) fn cache(&mut self, ticket: Ticket) {
        let room = self.spec.buffer.bytes.saturating_sub(self.cached);
        let Some(entry) = self.entries.get_mut(&ticket) else {
            return;
        };
        if entry.record.is_none() {
            return;
        }
        if entry.size <= room {
            self.cached += entry.size;
        } else {
            entry.record = None;
        }
    }

    /// An event is finished: nothing is known of it any more.
    pub(super) fn forget(&mut self, ticket: Ticket) {
        self.untrack(ticket);
        if let Some(entry) = self.entries.get(&ticket)
            && let Some(part) = self.parts.get_mut(&entry.part)
            && part.held.get(&entry.offset) == Some(&ticket)
        {
            part.held.remove(&entry.offset);
        }
        self.leave_behind(ticket);
    }

    /// Forgets an event that somebody else will see to: it is not finished.
    pub(super) fn leave_behind(&mut self, ticket: Ticket) {
        self.put(ticket, At::Queued);
        self.lanes.done(ticket);
        self.leave_key(ticket);
        self.stopped.remove(&ticket);
        let Some(entry) = self.entries.remove(&ticket) else {
            return;
        };
        self.uncache(&entry);
        if let Some(due) = entry.due {
            self.due.remove(&(due, ticket));
        }
        if let Some(replay) = entry.replay {
            self.replayed(replay);
        }
    }

    pub(super) fn uncache(&mut self, entry: &Entry) {
        if entry.held.is_some() && entry.record.is_some() {
            self.cached -= entry.size;
        }
    }

    /// How many events are in the held topic.
    pub(super) fn held_count(&self) -> usize {
        self.parts.values().map(|part| part.held.len()).sum()
    }

    /// Whether something is under way for an event.
    pub(super) fn is_busy(&self) -> bool {
        self.parts.values().any(|part| part.busy > 0)
    }
}
