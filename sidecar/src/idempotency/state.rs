//! The keys that something is done about: who asks, who waits, what lands.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

use slab::Slab;
use sluice_proto::v1::ErrorClass;

use super::ask::Ask;
use super::flight::{Flight, Phase, Waiter, land};
use super::store::Name;
use super::words;
use crate::kafka::record::{Failure, Outcome};

/// Bytes of records that may wait for the disk at once: a disk that stands still must not fill the memory.
const MAX_QUEUED: u64 = 32 * 1024 * 1024;
/// Requests that may wait for the disk, or for the first of their key.
const MAX_WAITING: usize = 65_536;

/// Everything that is known of keys that something is done about.
pub(super) struct State {
    /// Keys that something is done about.
    pub(super) flights: HashMap<Name, Flight>,
    /// The keys of records that were handed on; the position is the record's id.
    pub(super) handed: Slab<Name>,
    /// Keys whose records wait for the disk.
    pub(super) begin: Vec<Name>,
    /// Keys whose outcome does.
    pub(super) end: Vec<Name>,
    /// Bytes of the records that wait for the disk.
    pub(super) queued: u64,
    /// How many requests wait.
    pub(super) waiting: usize,
    /// No deadline of theirs is before this.
    pub(super) earliest: Option<Instant>,
    /// The number of the last attempt.
    pub(super) attempt: u64,
    /// How many keys are on the disk.
    pub(super) held: u64,
    /// Why nothing can be written, and when that is tried again.
    pub(super) broken: Option<(String, Instant)>,
    /// Nothing more is taken on, and nothing is handed on.
    pub(super) stopping: bool,
    /// Nothing more comes to be written.
    pub(super) closing: bool,
}

impl State {
    /// Nothing is done about any key, of `held` that are on the disk.
    pub(super) fn new(held: u64) -> Self {
        Self {
            flights: HashMap::new(),
            handed: Slab::new(),
            begin: Vec::new(),
            end: Vec::new(),
            queued: 0,
            waiting: 0,
            earliest: None,
            // Not one of another life's.
            attempt: RandomState::new().hash_one(held),
            held,
            broken: None,
            stopping: false,
            closing: false,
        }
    }

    /// Takes a record on; gives back whom to refuse.
    pub(super) fn ask(&mut self, mut ask: Ask, now: Instant) -> Option<(Waiter, Failure)> {
        if self.stopping {
            return Some((ask.waiter, words::stopping()));
        }
        if self.waiting >= MAX_WAITING {
            let text = format!("{MAX_WAITING} requests with an idempotency key wait, which is the bound");
            return Some((ask.waiter, Failure::new(ErrorClass::BufferFull, text)));
        }
        let (bytes, deadline) = (ask.bytes, ask.waiter.deadline);
        let broken = self.broken.as_ref().filter(|(_, until)| now < *until);
        let queueing = match (broken, self.queued) {
            (Some((why, _)), _) => Err(words::broken(why)),
            (None, queued) if queued > 0 && queued + bytes > MAX_QUEUED => {
                let text = format!(
                    "{queued} bytes wait for the disk of the idempotency keys, of {MAX_QUEUED} at most"
                );
                Err(Failure::new(ErrorClass::BufferFull, text))
            }
            (None, _) => Ok(()),
        };
        match self.flights.entry(ask.name) {
            Entry::Occupied(mut flight) => {
                let flight = flight.get_mut();
                let same = flight.fingerprint == ask.fingerprint;
                match &mut flight.phase {
                    Phase::Beginning { behind, .. } => {
                        if let Err(failure) = queueing {
                            return Some((ask.waiter, failure));
                        }
                        if same {
                            // The first who waits is whose record is written.
                            ask.waiter.first = flight.waiters.is_empty();
                            flight.waiters.push(ask.waiter);
                        } else {
                            self.queued += bytes;
                            behind.push(ask);
                        }
                    }
                    Phase::UnderWay { .. } | Phase::Ending { .. } if same => {
                        ask.waiter.first = false;
                        flight.waiters.push(ask.waiter);
                    }
                    Phase::UnderWay { .. } | Phase::Ending { .. } => {
                        return Some((ask.waiter, words::conflict()));
                    }
                }
            }
            Entry::Vacant(free) => {
                if let Err(failure) = queueing {
                    return Some((ask.waiter, failure));
                }
                self.attempt = self.attempt.wrapping_add(1);
                self.queued += bytes;
                self.begin.push(ask.name);
                free.insert(Flight {
                    fingerprint: ask.fingerprint,
                    waiters: vec![ask.waiter],
                    phase: Phase::Beginning {
                        record: Box::new(ask.record),
                        bytes,
                        window_ms: ask.window_ms,
                        attempt: self.attempt,
                        behind: Vec::new(),
                    },
                });
            }
        }
        self.waiting += 1;
        self.earliest = Some(self.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
        None
    }

    /// A record that was handed on has its outcome.
    pub(super) fn land(&mut self, token: u64, outcomes: Vec<Outcome>) {
        let at = usize::try_from(token).unwrap_or(usize::MAX);
        let Some(name) = self.handed.try_remove(at) else {
            return;
        };
        if let Some(flight) = self.flights.get_mut(&name)
            && let Phase::UnderWay { topics, row } = &flight.phase
        {
            let (row, answer) = land(row.clone(), topics, outcomes);
            flight.phase = Phase::Ending { row, answer };
            self.end.push(name);
        }
    }

    /// Those who waited too long, and what they are told.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<(Waiter, Vec<Outcome>)> {
        let mut late = Vec::new();
        if self.earliest.is_none_or(|earliest| now < earliest) {
            return late;
        }
        for flight in self.flights.values_mut() {
            while let Some(at) = flight.waiters.iter().position(|waiter| waiter.deadline <= now) {
                let waiter = flight.waiters.swap_remove(at);
                let told = match &flight.phase {
                    // Without anybody who waits it is not handed on.
                    Phase::Beginning { .. } if flight.waiters.is_empty() => vec![words::slow_disk().into()],
                    Phase::Beginning { .. } | Phase::UnderWay { .. } => vec![words::under_way().into()],
                    Phase::Ending { answer, .. } => answer.clone(),
                };
                late.push((waiter, told));
            }
            if let Phase::Beginning { behind, .. } = &mut flight.phase {
                for ask in behind.extract_if(.., |ask| ask.waiter.deadline <= now) {
                    self.queued = self.queued.saturating_sub(ask.bytes);
                    late.push((ask.waiter, vec![words::slow_disk().into()]));
                }
            }
        }
        self.waiting -= late.len();
        self.earliest = self.next_deadline();
        late
    }

    /// When somebody has waited too long next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let behind = |flight: &Flight| match &flight.phase {
            Phase::Beginning { behind, .. } => behind.iter().map(|ask| ask.waiter.deadline).min(),
            Phase::UnderWay { .. } | Phase::Ending { .. } => None,
        };
        let flights = self.flights.values();
        flights
            .flat_map(|flight| {
                let waiters = flight.waiters.iter().map(|waiter| waiter.deadline).min();
                waiters.into_iter().chain(behind(flight))
            })
            .min()
    }
}
