//! The thread that hands records over, and learns what became of them.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use sluice_proto::class;

use super::bridge::{Parked, Refused};
use super::follow::Place;
use super::lane::{Verdict, Window};
use super::state::{LaneState, Removal, State};
use super::{DeadLetter, Entry, Shared, writer};
use crate::epoch::now_ms;
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
/// The same while records wait in memory for those of their key.
const LOOK_AFTER_LINES: Duration = Duration::from_millis(50);
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
    /// Records that wait no more for those of their key.
    lines: Vec<(Place, Vec<Parked>)>,
}

impl Work {
    fn is_nothing(&self) -> bool {
        let lanes = self.unresolved.is_empty() && self.reads.is_empty() && self.submissions.is_empty();
        lanes && self.lines.is_empty()
    }
}

/// The thread.
pub(super) fn run(shared: &Arc<Shared>) {
    let inbox: Arc<dyn Recipient> = Arc::new(Inbox(Arc::clone(shared)));
    let mut looked = Instant::now();
    let mut expired = looked;
    loop {
        let mut state = shared.lock();
        let now = Instant::now();
        learn(shared, &mut state, now);
        let mut late = Vec::new();
        let mut refused = Refused::new();
        let lines = state.following.waiting() > 0;
        let look = if lines { LOOK_AFTER_LINES } else { LOOK };
        if now.saturating_duration_since(looked) >= look {
            looked = now;
            late = writer::expire(shared, &mut state, now);
            if now.saturating_duration_since(expired) >= LOOK {
                expired = now;
                expire(shared, &mut state);
            }
            shared.look_after_lines(&mut state, now, &mut refused);
            if !state.append.is_empty() {
                shared.writer.notify_one();
            }
        }
        if state.stopping {
            return;
        }
        let work = plan(&mut state, &inbox, now);
        shared.tell_followed(&state);
        if work.is_nothing() && late.is_empty() && refused.is_empty() {
            let due = state.timers.first().map(|(due, _)| *due);
            let wait = due.map_or(look, |due| due.saturating_duration_since(now).min(look));
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
        shared.refuse(refused);
        // Before what was spooled behind them.
        shared.hand_over(work.lines);
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
        let entry = lane.window.entry(record);
        let key = entry.and_then(|entry| entry.key.clone());
        let entry = entry.filter(|_| matches!(outcome, Outcome::Failed(_))).cloned();
        match lane.window.settled(record, &outcome, now) {
            Some(Verdict::Stored) => {
                let place = key.map(|key| state.following.place(&lane.lane, &key));
                state.remove.push(Removal {
                    lane: number,
                    number: record,
                    place,
                });
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
        state.touch(number);
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

fn dead(lane: &LaneState, entry: Entry, code: &str, reason: &str) -> DeadLetter {
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
    let mut touched = Vec::new();
    for (number, lane) in &mut state.lanes {
        for (record, entry) in lane.window.expire(limit) {
            let why = lane.obstacle.as_deref().unwrap_or("Kafka did not take it");
            let reason = format!("older than spool.max_age: {why}");
            let letter = dead(lane, entry, EXPIRED, &reason);
            give_up(shared, lane, &letter);
            state.bury.push((*number, record, letter));
            touched.push(*number);
        }
        lane.oldest_ms = lane.window.oldest_ms().or(lane.oldest_ms);
    }
    if !touched.is_empty() {
        shared.writer.notify_one();
    }
    for number in touched {
        state.touch(number);
    }
}

/// What can be done now.
fn plan(state: &mut State, inbox: &Arc<dyn Recipient>, now: Instant) -> Work {
    let mut work = Work::default();
    if state.resting {
        return work;
    }
    work.lines = state.following.take_ready();
    let lanes = state.lanes.len();
    for number in state.take_work(now) {
        let Some(lane) = state.lanes.get_mut(&number) else {
            continue;
        };
        if let Some(at) = lane.not_before.filter(|at| now < *at) {
            state.timers.insert((at, number));
            continue;
        }
        lane.not_before = None;
        if lane.window.last() < lane.newest && has_room(&lane.window, lanes) {
            let (records, bytes) = room(&lane.window, lanes);
            work.reads.push((number, lane.window.last(), records, bytes));
        }
        let Some((producer, label)) = &lane.outlet else {
            work.unresolved.push(number);
            continue;
        };
        if let Health::Down(why) = producer.health() {
            lane.obstacle = Some(format!("the cluster cannot be reached: {why}"));
            lane.not_before = Some(now + DOWN);
            state.timers.insert((now + DOWN, number));
            continue;
        }
        let mut submissions = Vec::new();
        while let Some((record, entry)) = lane.window.next(now) {
            let token = state.under_way.insert((number, record));
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
                aside: None,
            });
        }
        if let Some(due) = lane.window.due() {
            state.timers.insert((due, number));
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
    state.touch(number);
}

/// Reads more of a lane.
fn read(shared: &Shared, number: u64, after: u64, records: usize, bytes: usize) {
    let Some(newest) = shared.lock().lanes.get(&number).map(|lane| lane.newest) else {
        return;
    };
    let found = shared.store.read(number, after, records, bytes);
    let mut state = shared.lock();
    let State { lanes, discarded, .. } = &mut *state;
    let Some(lane) = lanes.get_mut(&number) else {
        return;
    };
    let found = match found {
        Ok(found) => found,
        Err(why) => {
            lane.not_before = Some(Instant::now() + NOWHERE);
            tracing::error!(%why, "the spool cannot be read");
            state.touch(number);
            return;
        }
    };
    // The number that was assumed for a lane that was there at the start is not one of its own.
    if found.is_empty() && lane.newest == newest {
        lane.newest = lane.window.last();
    }
    let name = lane.lane.clone();
    let all = found.is_empty();
    let mut keys = Vec::new();
    for (record, encoded) in found {
        if discarded.contains_key(&record) {
            lane.window.skip(record);
            continue;
        }
        match Entry::open(&encoded) {
            Ok(entry) => {
                keys.push((record, entry.key.clone()));
                lane.window.push(record, entry, encoded.len());
            }
            Err(why) => {
                // It is left where it is, for somebody to look at.
                tracing::error!(why, record, "a spooled record cannot be read: it is passed over");
                lane.window.skip(record);
            }
        }
    }
    lane.oldest_ms = lane.window.oldest_ms().or(lane.oldest_ms);
    let up_to = if all { u64::MAX } else { lane.window.last() };
    for (record, key) in keys {
        if state.is_uncounted(record)
            && let Some(place) = state.place(&name, key.as_ref())
        {
            state.following.count(place);
        }
    }
    state.was_read(&name, up_to);
    state.touch(number);
}
