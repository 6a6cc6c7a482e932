//! The thread that hands records over, and learns what became of them.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use sluice_proto::class;

use super::lane::{Verdict, Window};
use super::{DeadLetter, LaneState, Shared, State, now_ms, store, writer};
use crate::kafka::health::Health;
use crate::kafka::producer::Producer;
use crate::kafka::record::{Delivery, Outcome, Receipt, Recipient, Submission};

/// Records of a lane that are in memory at most, under way or waiting for those that are.
const WINDOW: usize = 1000;
/// The same for all lanes together; a lane has its share of it, and at least one record.
const WINDOWS: usize = 20_000;
/// Bytes that are in memory, of a lane and of all of them.
const WINDOW_BYTES: usize = 4 * 1024 * 1024;
const WINDOWS_BYTES: usize = 32 * 1024 * 1024;
/// How long a record may be held for want of its cluster or of word of its topic before it is taken back.
const HELD: Duration = Duration::from_secs(10);
/// The pause before a lane is looked at again whose cluster cannot be reached.
const DOWN: Duration = Duration::from_millis(100);
/// The same for one that the configuration lets go nowhere.
const NOWHERE: Duration = Duration::from_secs(5);
/// How often ages and deadlines are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// The `code` of a dead letter that became too old.
const EXPIRED: &str = "expired";

/// Whether another record of the lane may be in memory, with so many lanes.
pub(super) fn has_room(window: &Window, lanes: usize) -> bool {
    let (records, bytes) = room(window, lanes);
    records > 0 && bytes > 0
}

fn room(window: &Window, lanes: usize) -> (usize, usize) {
    let lanes = lanes.max(1);
    let records = (WINDOWS / lanes).clamp(1, WINDOW);
    let bytes = (WINDOWS_BYTES / lanes).clamp(1, WINDOW_BYTES);
    (
        records.saturating_sub(window.len()),
        bytes.saturating_sub(window.bytes()),
    )
}

/// What became of the records that were handed over comes in here.
struct Inbox(Arc<Shared>);

impl Recipient for Inbox {
    fn settle(&self, outcomes: &mut Vec<(u64, Outcome)>) {
        self.0.lock().outcomes.append(outcomes);
        self.0.drainer.notify_one();
    }
}

/// What is to be done without the lock.
#[derive(Default)]
struct Work {
    /// Lanes whose producer is not known yet.
    unresolved: Vec<u64>,
    /// Lanes to read more of: number, after what, how many records and bytes.
    reads: Vec<(u64, u64, usize, usize)>,
    submissions: Vec<(Arc<Producer>, Vec<Submission>)>,
}

/// The thread.
pub(super) fn run(shared: &Arc<Shared>) {
    let inbox: Arc<dyn Recipient> = Arc::new(Inbox(Arc::clone(shared)));
    let mut looked = Instant::now();
    loop {
        let mut state = shared.lock();
        let now = Instant::now();
        learn(shared, &mut state, now);
        let mut late = Vec::new();
        if now.saturating_duration_since(looked) >= LOOK {
            looked = now;
            late = writer::expire(shared, &mut state, now);
            expire(shared, &mut state);
        }
        if state.stopping {
            return;
        }
        let work = plan(&mut state, &inbox, now);
        let idle = work.unresolved.is_empty() && work.reads.is_empty() && work.submissions.is_empty();
        if idle && late.is_empty() {
            let due = state.lanes.values().filter_map(|lane| lane.due()).min();
            let wait = due.map_or(LOOK, |due| due.saturating_duration_since(now).min(LOOK));
            if state.outcomes.is_empty() {
                drop(
                    shared
                        .drainer
                        .wait_timeout(state, wait)
                        .unwrap_or_else(PoisonError::into_inner),
                );
            }
            continue;
        }
        drop(state);
        writer::tell_late(late);
        for number in work.unresolved {
            resolve(shared, number);
        }
        for (lane, after, records, bytes) in work.reads {
            read(shared, lane, after, records, bytes);
        }
        for (producer, mut submissions) in work.submissions {
            producer.submit(&mut submissions);
        }
    }
}

impl LaneState {
    /// When there is something to do about it, if nothing comes in before.
    fn due(&self) -> Option<Instant> {
        let due = self.window.due();
        self.not_before
            .map(|at| due.map_or(at, |due| due.max(at)))
            .or(due)
    }
}

/// Takes in what became of records.
fn learn(shared: &Shared, state: &mut State, now: Instant) {
    let outcomes = std::mem::take(&mut state.outcomes);
    let mut wake = false;
    for (token, outcome) in outcomes {
        let at = usize::try_from(token).unwrap_or(usize::MAX);
        let Some((number, record)) = state.under_way.try_remove(at) else {
            continue;
        };
        let Some(lane) = state.lanes.get_mut(&number) else {
            continue;
        };
        let entry = lane.window.entry(record).cloned();
        match lane.window.settled(record, &outcome, now) {
            Some(Verdict::Stored) => {
                state.remove.push((number, record));
                state.remove_since.get_or_insert(now);
                wake = true;
            }
            Some(Verdict::Again { perhaps_stored: true }) => shared.metrics.perhaps_twice(),
            Some(Verdict::Dead(failure)) => {
                if let Some(entry) = entry {
                    let letter = dead(lane, entry, class::row_of(failure.class).code, &failure.message);
                    give_up(shared, lane, &letter);
                    state.bury.push((number, record, letter));
                    wake = true;
                }
            }
            Some(Verdict::Again {
                perhaps_stored: false,
            })
            | None => {}
        }
        lane_age(state, number);
    }
    if wake {
        shared.writer.notify_one();
    }
}

fn lane_age(state: &mut State, number: u64) {
    if let Some(lane) = state.lanes.get_mut(&number) {
        lane.oldest_ms = lane.window.oldest_ms().or(lane.oldest_ms);
    }
}

fn dead(lane: &LaneState, entry: super::Entry, code: &str, reason: &str) -> DeadLetter {
    DeadLetter {
        cluster: lane.lane.cluster.clone(),
        producer: lane.lane.producer.clone(),
        topic: lane.lane.topic.clone(),
        entry,
        code: code.to_owned(),
        reason: reason.to_owned(),
        given_up_ms: now_ms(),
    }
}

fn give_up(shared: &Shared, lane: &LaneState, letter: &DeadLetter) {
    let label = lane.outlet.as_ref().map_or("", |(_, label)| label);
    shared.metrics.dead_letter(&letter.cluster, label, &letter.code);
    tracing::error!(
        cluster = letter.cluster,
        topic = letter.topic,
        code = letter.code,
        reason = letter.reason,
        "a spooled record is given up: it is a dead letter now"
    );
}

/// Gives up what is too old.
fn expire(shared: &Shared, state: &mut State) {
    let max_age = i64::try_from(shared.settings.max_age.as_millis()).unwrap_or(i64::MAX);
    let limit = now_ms().saturating_sub(max_age);
    let mut wake = false;
    for (number, lane) in &mut state.lanes {
        for (record, entry) in lane.window.expire(limit) {
            let why = lane.obstacle.as_deref().unwrap_or("Kafka did not take it");
            let reason = format!("older than spool.max_age: {why}");
            let letter = dead(lane, entry, EXPIRED, &reason);
            give_up(shared, lane, &letter);
            state.bury.push((*number, record, letter));
            wake = true;
        }
        lane.oldest_ms = lane.window.oldest_ms().or(lane.oldest_ms);
    }
    if wake {
        shared.writer.notify_one();
    }
}

/// What can be done now.
fn plan(state: &mut State, inbox: &Arc<dyn Recipient>, now: Instant) -> Work {
    let mut work = Work::default();
    if state.resting {
        return work;
    }
    let lanes = state.lanes.len();
    for (number, lane) in &mut state.lanes {
        if lane.not_before.is_some_and(|at| now < at) {
            continue;
        }
        lane.not_before = None;
        if lane.window.last() < lane.newest && has_room(&lane.window, lanes) {
            let (records, bytes) = room(&lane.window, lanes);
            work.reads.push((*number, lane.window.last(), records, bytes));
        }
        let Some((producer, label)) = &lane.outlet else {
            work.unresolved.push(*number);
            continue;
        };
        if let Health::Down(why) = producer.health() {
            lane.obstacle = Some(format!("the cluster cannot be reached: {why}"));
            lane.not_before = Some(now + DOWN);
            continue;
        }
        let mut submissions = Vec::new();
        while let Some((record, entry)) = lane.window.next(now) {
            let token = state.under_way.insert((*number, record));
            submissions.push(Submission {
                record: entry.record(&lane.lane.topic),
                delivery: Delivery::Spooled {
                    held_until: now + HELD,
                },
                receipt: Receipt {
                    recipient: Arc::clone(inbox),
                    token: token as u64,
                },
                label: Arc::clone(label),
                client: 0,
            });
        }
        if !submissions.is_empty() {
            work.submissions.push((Arc::clone(producer), submissions));
        }
    }
    work
}

/// Finds the lane's producer.
fn resolve(shared: &Shared, number: u64) {
    let Some(name) = shared.lock().lanes.get(&number).map(|lane| lane.lane.clone()) else {
        return;
    };
    let found = shared.outlet.of(&name);
    let mut state = shared.lock();
    let Some(lane) = state.lanes.get_mut(&number) else {
        return;
    };
    match found {
        Ok(outlet) => lane.outlet = Some(outlet),
        Err(why) => {
            lane.not_before = Some(Instant::now() + NOWHERE);
            if lane.obstacle.as_ref() != Some(&why) {
                tracing::error!(
                    cluster = name.cluster,
                    producer = name.producer,
                    topic = name.topic,
                    why,
                    "spooled records wait for the configuration to let them go"
                );
                lane.obstacle = Some(why);
            }
        }
    }
}

/// Reads more of a lane.
fn read(shared: &Shared, number: u64, after: u64, records: usize, bytes: usize) {
    let Some(newest) = shared.lock().lanes.get(&number).map(|lane| lane.newest) else {
        return;
    };
    let found = shared.store.read(number, after, records, bytes);
    let mut state = shared.lock();
    let Some(lane) = state.lanes.get_mut(&number) else {
        return;
    };
    let found = match found {
        Ok(found) => found,
        Err(why) => {
            lane.not_before = Some(Instant::now() + NOWHERE);
            tracing::error!(%why, "the spool cannot be read");
            return;
        }
    };
    // The number that was assumed for a lane that was there at the start is not one of its own.
    if found.is_empty() && lane.newest == newest {
        lane.newest = lane.window.last();
    }
    for (record, encoded) in found {
        match store::decode(&encoded) {
            Ok(entry) => lane.window.push(record, entry, encoded.len()),
            Err(error) => {
                // It is left where it is, for somebody to look at.
                tracing::error!(%error, record, "a spooled record cannot be read: it is passed over");
                lane.window.skip(record);
            }
        }
    }
    lane.oldest_ms = lane.window.oldest_ms().or(lane.oldest_ms);
}
