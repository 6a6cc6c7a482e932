//! The thread that asks the cluster what the producer must know, and replaces a producer that failed fatally.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::Shared;
use super::bag::Bag;
use crate::kafka::native::{Native, TopicInfo};

/// How long one question may take. Short, so that a stop is not kept waiting.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause after a question that was not answered.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a failed producer may take to report on what it had.
const FAILED_TIMEOUT: Duration = Duration::from_secs(2);

/// What there is to do.
enum Task {
    Stop,
    Replace(Arc<Native>, String),
    Ask(Arc<Native>, Option<(usize, Arc<str>)>),
}

/// The thread.
pub(super) fn run(shared: &Shared) {
    loop {
        let done = match next(shared) {
            Task::Stop => return,
            Task::Replace(failed, why) => replace(shared, &failed, &why),
            Task::Ask(native, topic) => ask(shared, &native, topic),
        };
        if !done {
            pause(shared);
        }
    }
}

/// Waits for something to do.
fn next(shared: &Shared) -> Task {
    let mut state = shared.lock();
    while !state.needs_minding() {
        state = shared.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    if state.stopped() {
        return Task::Stop;
    }
    let native = Arc::clone(state.native());
    match state.is_fatal() {
        Some(why) => Task::Replace(native, why.to_owned()),
        None => Task::Ask(native, state.wanted().or_else(|| state.any_known())),
    }
}

/// Waits a little, or until the producer stops.
fn pause(shared: &Shared) {
    let until = Instant::now() + PAUSE;
    let mut state = shared.lock();
    while !state.stopped() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        state = shared
            .bell
            .wait_timeout(state, left)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
}

/// Asks about a topic, or whether anybody is there. Whether there was an answer.
fn ask(shared: &Shared, native: &Arc<Native>, topic: Option<(usize, Arc<str>)>) -> bool {
    let answer = match &topic {
        Some((_, name)) => native.topic_info(name, ANSWER_TIMEOUT),
        None => native
            .any_answer(ANSWER_TIMEOUT)
            .map(|()| TopicInfo::Partitions(0)),
    };
    let now = Instant::now();
    let mut bag = Bag::default();
    let mut state = shared.lock();
    let answered = match answer {
        Err(code) => {
            state.not_told(code);
            false
        }
        Ok(info) => {
            let answered = topic.is_none_or(|(key, _)| state.told(key, info, now, &mut bag));
            state.up(now, &mut bag);
            answered
        }
    };
    let wake_driver = state.look_sooner();
    drop(state);
    if wake_driver {
        shared.driver.notify_one();
    }
    bag.send();
    answered
}

/// Replaces a producer. Its reports, which say what was stored, are waited for; then the new one takes over.
/// Whether there is a new one.
fn replace(shared: &Shared, failed: &Arc<Native>, why: &str) -> bool {
    tracing::error!(producer = shared.name, why, "fatal error: replacing the producer");
    failed.purge();
    let until = Instant::now() + FAILED_TIMEOUT;
    while Instant::now() < until {
        let state = shared.lock();
        if state.handed() == 0 || state.stopped() {
            break;
        }
        drop(state);
        std::thread::sleep(Duration::from_millis(2));
    }
    let native = match Native::new(&shared.config, &shared.driver) {
        Ok(native) => Arc::new(native),
        Err(why) => {
            tracing::error!(producer = shared.name, why, "cannot make a new producer");
            return false;
        }
    };
    let mut bag = Bag::default();
    shared.lock().replace(native, Instant::now(), &mut bag);
    shared.driver.notify_one();
    bag.send();
    true
}
