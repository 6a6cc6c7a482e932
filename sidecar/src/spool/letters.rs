//! The thread that writes dead letters to the topic that the configuration has for them.
//!
//! A letter stays in the file until that topic's cluster has acknowledged it, however often that is tried.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use sluice_proto::v1::{ErrorClass, Header};

use super::{DeadLetter, Lane, Shared, State};
use crate::config;
use crate::kafka::producer::Producer;
use crate::kafka::record::{Delivery, Failure, Outcome, Receipt, Recipient, Record, Submission};

/// Letters that are under way at once.
const AT_ONCE: usize = 100;
/// Numbers that are remembered, and not looked up in the file.
const REMEMBERED: usize = 10_000;
/// The first pause before a letter is tried again; doubled each time.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long a letter may be held for want of its cluster or of word of the topic.
const HELD: Duration = Duration::from_secs(10);
/// How long the thread sleeps at most.
const LOOK: Duration = Duration::from_secs(1);

/// What the names of the headers begin with that say what a dead letter is.
const PREFIX: &str = "__sluice.errors.";

/// The letters that are to be written, by their numbers.
#[derive(Default)]
pub(super) struct Letters {
    queue: VecDeque<u64>,
    queued: HashSet<u64>,
    /// The file may have some after this number that are not known here.
    unknown_after: Option<u64>,
    /// Those that were tried and are still in the file, and how often they failed.
    tried: HashMap<u64, u32>,
    later: BTreeSet<(Instant, u64)>,
    under_way: HashSet<u64>,
    outcomes: Vec<(u64, Outcome)>,
    /// What keeps them from being written, once logged.
    obstacle: Option<String>,
}

impl Letters {
    /// The file has letters from before.
    pub(super) fn look(&mut self) {
        self.unknown_after.get_or_insert(0);
    }

    /// A letter is in the file now.
    pub(super) fn add(&mut self, number: u64) {
        if self.queue.len() >= REMEMBERED {
            self.unknown_after = Some(0);
        } else if !self.tried.contains_key(&number) && self.queued.insert(number) {
            self.queue.push_back(number);
        }
    }

    /// A letter is in the file no more.
    pub(super) fn gone(&mut self, number: u64) {
        self.tried.remove(&number);
    }

    /// Letters that may be tried now.
    fn take(&mut self, now: Instant) -> Vec<u64> {
        while let Some((due, number)) = self.later.first().copied() {
            if due > now {
                break;
            }
            self.later.pop_first();
            if self.queued.insert(number) {
                self.queue.push_back(number);
            }
        }
        let room = AT_ONCE.saturating_sub(self.under_way.len());
        let taken: Vec<u64> = self.queue.drain(..room.min(self.queue.len())).collect();
        for number in &taken {
            self.queued.remove(number);
            self.tried.entry(*number).or_default();
            self.under_way.insert(*number);
        }
        taken
    }

    /// A letter that was tried is to be tried again. Whether it is the first time.
    fn again(&mut self, number: u64, now: Instant) -> bool {
        self.under_way.remove(&number);
        let Some(tries) = self.tried.get_mut(&number) else {
            return false;
        };
        let pause = PAUSE * 2_u32.pow((*tries).min(8));
        *tries += 1;
        self.later.insert((now + pause.min(LONGEST_PAUSE), number));
        *tries == 1
    }
}

/// What became of letters comes in here.
struct Inbox(Arc<Shared>);

impl Recipient for Inbox {
    fn settle(&self, outcomes: &mut Vec<(u64, Outcome)>) {
        self.0.lock().letters.outcomes.append(outcomes);
        self.0.letters.notify_one();
    }
}

/// The thread.
pub(super) fn run(shared: &Arc<Shared>, to: &config::DeadLetters) {
    let inbox: Arc<dyn Recipient> = Arc::new(Inbox(Arc::clone(shared)));
    loop {
        let mut state = shared.lock();
        let now = Instant::now();
        learn(shared, &mut state, now);
        if state.stopping {
            return;
        }
        let resting = state.resting;
        let taken = if resting {
            Vec::new()
        } else {
            state.letters.take(now)
        };
        let unknown_after = state.letters.unknown_after.filter(|_| !resting);
        if taken.is_empty()
            && let Some(after) = unknown_after
            && state.letters.queue.is_empty()
        {
            drop(state);
            find(shared, after);
            continue;
        }
        if taken.is_empty() {
            let due = state.letters.later.first().map(|(due, _)| *due);
            let wait = due.map_or(LOOK, |due| due.saturating_duration_since(now).min(LOOK));
            let wait = if resting { LOOK } else { wait };
            if state.letters.outcomes.is_empty() {
                drop(
                    shared
                        .letters
                        .wait_timeout(state, wait)
                        .unwrap_or_else(PoisonError::into_inner),
                );
            }
            continue;
        }
        drop(state);
        send(shared, to, &taken, &inbox);
    }
}

/// Looks in the file for letters that are not known.
fn find(shared: &Shared, after: u64) {
    let found = shared.store.dead_numbers(after, REMEMBERED);
    let mut state = shared.lock();
    match found {
        Ok(found) => {
            // What comes later than these is looked for when they are written.
            state.letters.unknown_after = found.last().copied();
            for number in found {
                state.letters.add(number);
            }
        }
        Err(error) => {
            say(&mut state, &error.to_string());
            // The writer opens the file again.
            drop(
                shared
                    .letters
                    .wait_timeout(state, LOOK)
                    .unwrap_or_else(PoisonError::into_inner),
            );
        }
    }
}

fn say(state: &mut State, why: &str) {
    if state.letters.obstacle.as_deref() != Some(why) {
        tracing::error!(
            why,
            "dead letters cannot be written to spool.dead_letters.topic: they stay in the spool"
        );
        state.letters.obstacle = Some(why.to_owned());
    }
}

/// Takes in what became of letters.
fn learn(shared: &Shared, state: &mut State, now: Instant) {
    let outcomes = std::mem::take(&mut state.letters.outcomes);
    for (number, outcome) in outcomes {
        shared.metrics.letter_sent(&outcome);
        match outcome {
            Outcome::Stored { .. } | Outcome::Accepted => {
                state.letters.under_way.remove(&number);
                state.letters.obstacle = None;
                state.sent.push(number);
                state.remove_since.get_or_insert(now);
                shared.writer.notify_one();
            }
            Outcome::Failed(failure) => failed(state, number, &failure, now),
        }
    }
}

fn failed(state: &mut State, number: u64, failure: &Failure, now: Instant) {
    let first = state.letters.again(number, now);
    // What is about the letter alone is told of each one, what is about the topic or its cluster once.
    let own = matches!(
        failure.class,
        ErrorClass::TooLarge | ErrorClass::BrokerRejected | ErrorClass::InvalidRequest
    );
    if !own {
        say(state, &failure.message);
    } else if first {
        tracing::error!(
            id = number,
            why = %failure.message,
            "a dead letter is not taken by spool.dead_letters.topic: it stays in the spool"
        );
    }
}

/// Hands letters over.
fn send(shared: &Shared, to: &config::DeadLetters, numbers: &[u64], inbox: &Arc<dyn Recipient>) {
    let mut submissions: Vec<(Arc<Producer>, Vec<Submission>)> = Vec::new();
    let now = Instant::now();
    for number in numbers {
        let letter = match shared.store.dead_letter(*number) {
            Ok(Some(Ok(letter))) => letter,
            Ok(Some(Err(why))) => {
                // Until somebody drops it.
                put_off(
                    shared,
                    *number,
                    &format!("dead letter {number} cannot be read: {why}"),
                    now,
                );
                continue;
            }
            // It was replayed or dropped.
            Ok(None) => {
                let mut state = shared.lock();
                state.letters.under_way.remove(number);
                state.letters.gone(*number);
                continue;
            }
            Err(error) => {
                put_off(shared, *number, &error, now);
                continue;
            }
        };
        let lane = Lane {
            cluster: to.cluster.as_ref().unwrap_or(&letter.cluster).clone(),
            producer: to.producer.clone(),
            topic: to.topic.clone(),
        };
        let (producer, label) = match shared.outlet.of(&lane) {
            Ok(outlet) => outlet,
            Err(why) => {
                put_off(shared, *number, &why, now);
                continue;
            }
        };
        let submission = Submission {
            record: record(&letter, &to.topic),
            delivery: Delivery::Spooled {
                held_until: now + HELD,
            },
            receipt: Receipt {
                recipient: Arc::clone(inbox),
                token: *number,
            },
            label,
            client: 0,
            aside: None,
        };
        let known = submissions
            .iter_mut()
            .find(|(known, _)| Arc::ptr_eq(known, &producer));
        match known {
            Some((_, all)) => all.push(submission),
            None => submissions.push((producer, vec![submission])),
        }
    }
    for (producer, mut submissions) in submissions {
        producer.submit(&mut submissions);
    }
}

fn put_off(shared: &Shared, number: u64, why: &impl std::fmt::Display, now: Instant) {
    let mut state = shared.lock();
    state.letters.again(number, now);
    say(&mut state, &why.to_string());
}

/// The letter as a record: what was given up, and in headers behind its own why, and where it was for.
fn record(letter: &DeadLetter, topic: &str) -> Record {
    let mut record = letter.entry.record(topic);
    record.partition = None;
    let time = |ms: i64| {
        let time = UNIX_EPOCH + Duration::from_millis(ms.max(0).unsigned_abs());
        humantime::format_rfc3339_millis(time).to_string()
    };
    let partition = letter.entry.partition.map(|partition| partition.to_string());
    let headers = [
        ("cluster", Some(letter.cluster.clone())),
        ("producer", Some(letter.producer.clone())),
        ("topic", Some(letter.topic.clone())),
        ("partition", partition),
        ("code", Some(letter.code.clone())),
        ("message", Some(letter.reason.clone())),
        ("spooled", Some(time(letter.entry.spooled_ms))),
        ("given_up", Some(time(letter.given_up_ms))),
    ];
    let headers = headers.into_iter().filter_map(|(name, value)| {
        Some(Header {
            name: format!("{PREFIX}{name}"),
            value: Some(value?.into_bytes()),
        })
    });
    record.headers.extend(headers);
    record
}
