//! The thread that asks the cluster what the producer must know, and replaces a producer that failed fatally.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::Shared;
use super::bag::Bag;
use crate::kafka::native::{Native, Renewal};

/// How long one question may take. Short, so that a stop is not kept waiting.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause after a question that was not answered.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a failed producer may take to report on what it had.
const FAILED_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest pause between two replacements of a producer that does not last.
const LONGEST: Duration = Duration::from_secs(5);
/// A producer that fails within so long after it was made is no better than the one before.
const LASTS: Duration = Duration::from_secs(60);

/// Replacements that did not help: one without the right to write fails again at once, whenever it is made.
#[derive(Default)]
struct Again {
    last: Option<(Instant, String)>,
    pause: Duration,
}

impl Again {
    /// Notes that a producer is replaced. Whether that, or why, is news.
    fn replaced(&mut self, why: &str, now: Instant) -> bool {
        let recent = self
            .last
            .take()
            .filter(|(when, _)| now.saturating_duration_since(*when) < LASTS);
        self.pause = match recent {
            Some(_) => (self.pause * 2).clamp(PAUSE, LONGEST),
            None => PAUSE,
        };
        self.last = Some((now, why.to_owned()));
        recent.is_none_or(|(_, said)| said != why)
    }

    /// When one may be replaced again.
    fn not_before(&self) -> Option<Instant> {
        self.last.as_ref().map(|(when, _)| *when + self.pause)
    }
}

/// What there is to do.
enum Task {
    Stop,
    Replace(Arc<Native>, String),
    Ask(Arc<Native>, Option<(usize, Arc<str>)>),
}

/// The thread.
pub(super) fn run(shared: &Shared) {
    // After a question that nobody answered, or a replacement that failed.
    let mut rest: Option<Instant> = None;
    let mut again = Again::default();
    loop {
        let done = match next(shared, rest, again.not_before()) {
            Task::Stop => return,
            Task::Replace(failed, why) => {
                let news = again.replaced(&why, Instant::now());
                replace(shared, &failed, &why, news)
            }
            Task::Ask(native, topic) => ask(shared, &native, topic),
        };
        rest = (!done).then(|| Instant::now() + PAUSE);
    }
}

/// Waits for something to do, and until `rest` is over; a producer is not replaced before `again`.
fn next(shared: &Shared, rest: Option<Instant>, again: Option<Instant>) -> Task {
    let mut state = shared.lock();
    loop {
        if state.stopped() {
            return Task::Stop;
        }
        let now = Instant::now();
        let rest = if state.is_fatal().is_some() {
            rest.max(again)
        } else {
            rest
        };
        let rest = rest.filter(|until| now < *until);
        if rest.is_none() {
            let native = Arc::clone(state.native());
            if let Some(why) = state.is_fatal() {
                return Task::Replace(native, why.to_owned());
            }
            let topic = state.wanted(now);
            if topic.is_some() || !state.is_up() {
                return Task::Ask(native, topic.or_else(|| state.any_known()));
            }
        }
        state = match rest.or_else(|| state.wanted_at(now)) {
            Some(at) => {
                let left = at.saturating_duration_since(now);
                let (state, _) = shared
                    .bell
                    .wait_timeout(state, left)
                    .unwrap_or_else(PoisonError::into_inner);
                state
            }
            None => shared.bell.wait(state).unwrap_or_else(PoisonError::into_inner),
        };
    }
}

/// Asks about a topic, or whether anybody is there. Whether there was an answer.
fn ask(shared: &Shared, native: &Arc<Native>, topic: Option<(usize, Arc<str>)>) -> bool {
    let answer = match &topic {
        Some((_, name)) => native.topic_info(name, ANSWER_TIMEOUT).map(Some),
        None => native.any_answer(ANSWER_TIMEOUT).map(|()| None),
    };
    let answered = answer.is_ok();
    // A slow one comes when the library asks for it, and after a refusal.
    if !answered && !native.has_slow_token() {
        native.renew_token(Renewal::IfChanged);
    }
    let now = Instant::now();
    let mut bag = Bag::default();
    let mut state = shared.lock();
    // What a client sees that has been replaced meanwhile says nothing of the new one.
    if !Arc::ptr_eq(native, state.native()) {
        return true;
    }
    let was_down = state.is_down();
    match answer {
        Err(code) => state.not_told(code, topic.map(|(key, _)| key), now),
        Ok(info) => {
            if let (Some((key, _)), Some(info)) = (topic, info) {
                state.told(key, info, now, &mut bag);
            }
            state.up(now, &mut bag);
        }
    }
    shared.log_health(was_down, &state);
    let diverting = state.is_diverting();
    let wake_driver = state.look_sooner();
    drop(state);
    if wake_driver {
        shared.driver.notify_one();
    }
    bag.send();
    if diverting {
        shared.divert();
    }
    answered
}

/// Replaces a producer. Its reports, which say what was stored, are waited for; then the new one takes over.
/// Whether there is a new one.
fn replace(shared: &Shared, failed: &Arc<Native>, why: &str, news: bool) -> bool {
    if news {
        tracing::error!(producer = shared.name, why, "fatal error: replacing the producer");
    } else {
        tracing::debug!(
            producer = shared.name,
            why,
            "fatal error again: replacing the producer"
        );
    }
    failed.purge();
    let until = Instant::now() + FAILED_TIMEOUT;
    while Instant::now() < until {
        let state = shared.lock();
        if state.handed() == state.left() || state.stopped() {
            break;
        }
        drop(state);
        std::thread::sleep(Duration::from_millis(2));
    }
    let recipe = shared
        .recipe
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let native = match Native::new(&recipe.config, recipe.login(), &shared.driver) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_last_is_replaced_ever_less_often_and_told_once() {
        let mut again = Again::default();
        let start = Instant::now();
        assert_eq!(again.not_before(), None);
        let mut now = start;
        let mut replaced = 0;
        while now < start + Duration::from_secs(60) {
            assert_eq!(again.replaced("no right", now), replaced == 0);
            // It fails again half a second after it was made.
            now = again.not_before().unwrap().max(now + Duration::from_millis(500));
            replaced += 1;
        }
        assert!((12..20).contains(&replaced), "{replaced}");
        assert!(again.replaced("something else", now), "another reason is news");
        now += LASTS;
        assert!(again.replaced("something else", now), "one that lasted");
        assert_eq!(again.not_before(), Some(now + PAUSE));
    }
}
