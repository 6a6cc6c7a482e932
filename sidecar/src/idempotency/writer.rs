//! The thread that writes: everything that came while it waited for the disk in one transaction.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use sluice_proto::v1;

use super::flight::{Phase, Waiter, land};
use super::row::State as Fate;
use super::store::{Begin, End, Name, Verdict};
use super::{Ask, Shared, State, words};
use crate::epoch::now_ms;
use crate::kafka::record::{Failure, Outcome};

/// How much earlier than its client's deadline a record that is still held comes back, so that what is known is told.
const AHEAD: Duration = Duration::from_millis(50);

/// The pause after a write that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How often keys that are past their window are looked for when nothing else is written.
const PURGE_EVERY: Duration = Duration::from_secs(10);

/// What is written together.
#[derive(Default)]
pub(super) struct Batch {
    begins: Vec<Begin>,
    ends: Vec<End>,
}

/// What there is to do once it is on the disk.
#[derive(Default)]
struct After {
    told: Vec<(Waiter, Vec<Outcome>)>,
    refused: Vec<(Waiter, Failure)>,
    hand_on: Vec<(v1::Record, Instant)>,
    replays: u64,
    unknown: u64,
}

/// The thread.
pub(super) fn run(shared: &Arc<Shared>) {
    let mut purge = Instant::now();
    while let Some(batch) = next(shared, &mut purge) {
        write(shared, batch, now_ms());
    }
}

/// Waits for something to write; `None` to stop. At `purge` it looks for what is past its window.
fn next(shared: &Shared, purge: &mut Instant) -> Option<Batch> {
    let mut state = shared.lock();
    loop {
        let now = Instant::now();
        // After a failure the next attempt is put off, unless it is the last.
        let rest = state.broken.as_ref().map(|(_, until)| *until);
        let rest = rest.filter(|until| now < *until && !state.closing);
        let any = !state.begin.is_empty() || !state.end.is_empty();
        if rest.is_none() && any && (!state.closing || state.broken.is_none()) {
            return Some(take(&mut state, now_ms()));
        }
        // What cannot be written at the end is known to nobody after it: that is what the file says.
        if state.closing {
            return None;
        }
        if *purge <= now && rest.is_none() {
            drop(state);
            if shared
                .store
                .held()
                .is_ok_and(|(_, first)| first.is_some_and(|first| first <= now_ms()))
            {
                return Some(Batch::default());
            }
            *purge = Instant::now() + PURGE_EVERY;
            state = shared.lock();
            continue;
        }
        let until = rest.unwrap_or(*purge).saturating_duration_since(now);
        state = shared
            .writer
            .wait_timeout(state, until)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
}

/// Takes what waits for the disk.
pub(super) fn take(state: &mut State, now_ms: i64) -> Batch {
    let mut batch = Batch::default();
    for name in std::mem::take(&mut state.begin) {
        if let Some(flight) = state.flights.get(&name)
            && let Phase::Beginning {
                record,
                window_ms,
                attempt,
                ..
            } = &flight.phase
        {
            batch.begins.push(Begin {
                name,
                fingerprint: flight.fingerprint.clone(),
                expires_ms: now_ms.saturating_add(*window_ms),
                attempt: *attempt,
                topics: record.topics.len(),
            });
        }
    }
    for name in std::mem::take(&mut state.end) {
        if let Some(flight) = state.flights.get(&name)
            && let Phase::Ending { row, .. } = &flight.phase
        {
            let row = row.clone();
            batch.ends.push(End { name, row });
        }
    }
    batch
}

/// Writes a batch, and does what follows from it.
pub(super) fn write(shared: &Shared, batch: Batch, now_ms: i64) {
    let begun = Instant::now();
    let max = shared.settings.max_keys;
    match shared.store.commit(&batch.begins, &batch.ends, now_ms, max) {
        Ok((verdicts, held)) => {
            shared.metrics.synced(begun.elapsed());
            wrote(shared, batch, verdicts, held);
        }
        Err(error) => {
            let why = error.to_string();
            tracing::error!(why, "the idempotency keys cannot be written");
            if let Err(error) = shared.store.reopen() {
                tracing::error!(%error, "the idempotency keys cannot be opened again");
                shared.store.close();
            }
            failed(shared, batch, &why);
        }
    }
}

/// Everything is on the disk.
fn wrote(shared: &Shared, batch: Batch, verdicts: Vec<Verdict>, held: u64) {
    let mut after = After::default();
    let mut state = shared.lock();
    if state.broken.take().is_some() {
        tracing::info!("the idempotency keys can be written again");
    }
    state.held = held;
    for End { name, .. } in batch.ends {
        if let Some(flight) = state.flights.remove(&name)
            && let Phase::Ending { answer, .. } = flight.phase
        {
            after.tell(flight.waiters, &answer);
        }
    }
    let mut again = Vec::new();
    for (begin, verdict) in batch.begins.into_iter().zip(verdicts) {
        again.extend(state.judged(begin.name, verdict, shared.settings.max_keys, &mut after));
    }
    state.waiting -= after.told.len() + after.refused.len();
    let now = Instant::now();
    for ask in again {
        state.waiting -= 1;
        after.refused.extend(state.ask(ask, now));
    }
    drop(state);
    if !after.hand_on.is_empty() {
        let onward = shared
            .onward
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .upgrade();
        // Without a gateway the process is at its end, and nobody waits any more.
        if let Some(onward) = onward {
            onward.hand_on(after.hand_on, &shared.landings);
        }
    }
    shared.metrics.answered(after.replays, after.unknown);
    for (waiter, told) in after.told {
        waiter.tell(told);
    }
    shared.refuse(after.refused);
}

impl After {
    fn tell(&mut self, waiters: Vec<Waiter>, answer: &[Outcome]) {
        let success = answer
            .iter()
            .all(|outcome| !matches!(outcome, Outcome::Failed(_)));
        for waiter in waiters {
            self.replays += u64::from(success && !waiter.first);
            self.told.push((waiter, answer.to_vec()));
        }
    }
}

impl State {
    /// Goes on with a record after the verdict on it. Gives those back that waited for it.
    fn judged(&mut self, name: Name, verdict: Verdict, max: u64, after: &mut After) -> Vec<Ask> {
        let Some(mut flight) = self.flights.remove(&name) else {
            return Vec::new();
        };
        let Phase::Beginning {
            record,
            bytes,
            behind,
            ..
        } = flight.phase
        else {
            self.flights.insert(name, flight);
            return Vec::new();
        };
        self.queued = self.queued.saturating_sub(bytes);
        for ask in &behind {
            self.queued = self.queued.saturating_sub(ask.bytes);
        }
        let refuse = |waiters: Vec<Waiter>, failure: Failure, after: &mut After| {
            after
                .refused
                .extend(waiters.into_iter().map(|waiter| (waiter, failure.clone())));
        };
        match verdict {
            Verdict::Conflict => refuse(flight.waiters, words::conflict(), after),
            Verdict::Full(held) => refuse(flight.waiters, words::full(held, max), after),
            Verdict::Known(row) => {
                let answer = words::outcomes(&row, &record.topics);
                if !row.those(Fate::Unknown).is_empty() || !row.those(Fate::UnderWay).is_empty() {
                    after.unknown += flight.waiters.len() as u64;
                }
                for waiter in &mut flight.waiters {
                    waiter.first = false;
                }
                after.tell(flight.waiters, &answer);
            }
            Verdict::Begun(row) => {
                let missing = row.those(Fate::UnderWay);
                let deadline = flight.waiters.iter().map(|waiter| waiter.deadline).max();
                let topics = record.topics.clone();
                match deadline.filter(|_| !self.stopping) {
                    Some(deadline) => {
                        let mut record = *record;
                        let token = self.handed.insert(name);
                        record.id = token as u64;
                        record.topics = missing.iter().filter_map(|at| topics.get(*at).cloned()).collect();
                        let left = deadline.saturating_duration_since(Instant::now());
                        let held_until = deadline.checked_sub(AHEAD.min(left / 5)).unwrap_or(deadline);
                        after.hand_on.push((record, held_until));
                        flight.phase = Phase::UnderWay { topics, row };
                    }
                    // Nobody waits: they were told that it is not stored.
                    None => {
                        let failure = Outcome::from(words::slow_disk());
                        let landed = vec![failure; missing.len()];
                        let (row, answer) = land(row, &topics, landed);
                        flight.phase = Phase::Ending { row, answer };
                        self.end.push(name);
                    }
                }
                self.flights.insert(name, flight);
            }
        }
        behind
    }
}

/// Nothing is on the disk, as far as is known: those whose records wait to be begun are told that they are not stored,
/// and everything is tried again, since it may be there all the same.
fn failed(shared: &Shared, batch: Batch, why: &str) {
    let mut refused = Vec::new();
    let mut state = shared.lock();
    for Begin { name, .. } in &batch.begins {
        if let Some(flight) = state.flights.get_mut(name)
            && let Phase::Beginning { behind, .. } = &mut flight.phase
        {
            refused.append(&mut flight.waiters);
            let behind = std::mem::take(behind);
            for ask in behind {
                state.queued = state.queued.saturating_sub(ask.bytes);
                refused.push(ask.waiter);
            }
        }
    }
    state.waiting -= refused.len();
    state.begin.extend(batch.begins.iter().map(|begin| begin.name));
    state.end.extend(batch.ends.iter().map(|end| end.name));
    state.broken = Some((why.to_owned(), Instant::now() + PAUSE));
    drop(state);
    let refused = refused.into_iter().map(|waiter| (waiter, words::broken(why)));
    shared.refuse(refused.collect());
}
