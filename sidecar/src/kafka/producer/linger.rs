//! Cutting the linger short: a lone record does not wait, and load is still gathered.
//!
//! librdkafka lingers for `linger.ms` over every batch, which is how requests come to carry many records. (With
//! no linger a broker thread sends the first record that it sees and the others after it, however fast they are
//! handed over.) `rd_kafka_flush` makes it send at once for as long as the call lasts, and it lasts until
//! nothing is in flight or its time is over: so, when there is no load, it is called for a millisecond after
//! records were handed over, from a thread of its own.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Shared;

/// How long, in milliseconds, broker threads are kept from lingering. They must see it within this time.
const CUT_MS: i32 = 1;
/// More records than this under way at once, ...
const FEW: usize = 2;
/// ... and at least this many in [`WINDOW`], are load. Fewer cost little, however they are sent.
const BRISK: usize = 20;
const WINDOW: Duration = Duration::from_millis(10);
/// How long after it was seen load is taken to last.
const CALM_AFTER: Duration = Duration::from_millis(30);

/// The load on a producer. However fast it is, one client that awaits each answer is none.
#[derive(Default)]
pub(super) struct Pace {
    loaded_until: Option<Instant>,
    window_until: Option<Instant>,
    /// Records that came in this window, and in the one before.
    came: usize,
    came_before: usize,
}

impl Pace {
    /// `came` more records came, and `pending` are under way now.
    pub(super) fn note(&mut self, came: usize, pending: usize, now: Instant) {
        match self.window_until {
            Some(until) if now < until => self.came += came,
            Some(until) => {
                let next = now < until + WINDOW;
                self.came_before = if next { self.came } else { 0 };
                self.came = came;
                self.window_until = Some(now + WINDOW);
            }
            None => {
                self.came = came;
                self.window_until = Some(now + WINDOW);
            }
        }
        if pending > FEW && self.came.max(self.came_before) >= BRISK {
            self.loaded_until = Some(now + CALM_AFTER);
        }
    }

    /// Whether there is load.
    pub(super) fn is_loaded(&self, now: Instant) -> bool {
        self.loaded_until.is_some_and(|until| now < until)
    }
}

/// What the thread is asked for.
#[derive(Default)]
pub(super) struct Linger {
    asked: Mutex<Asked>,
    bell: Condvar,
}

#[derive(Default)]
struct Asked {
    cut: bool,
    stop: bool,
}

impl Linger {
    /// Has what librdkafka holds sent now.
    pub(super) fn cut(&self) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).cut = true;
        self.bell.notify_one();
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).stop = true;
        self.bell.notify_one();
    }

    /// Waits until asked to cut; false: to stop.
    fn wait(&self) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        while !asked.cut && !asked.stop {
            asked = self.bell.wait(asked).unwrap_or_else(PoisonError::into_inner);
        }
        asked.cut = false;
        !asked.stop
    }
}

/// The thread.
pub(super) fn run(shared: &Shared) {
    while shared.linger.wait() {
        let native = std::sync::Arc::clone(shared.lock().native());
        native.send_now(CUT_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_client_is_no_load_however_fast() {
        let mut pace = Pace::default();
        let begin = Instant::now();
        for request in 0..1000 {
            let now = begin + Duration::from_micros(100 * request);
            assert!(!pace.is_loaded(now));
            pace.note(1, 1, now);
        }
    }

    #[test]
    fn a_few_records_now_and_then_are_none_either() {
        let mut pace = Pace::default();
        let begin = Instant::now();
        for burst in 0..100 {
            let now = begin + Duration::from_millis(6 * burst);
            assert!(!pace.is_loaded(now));
            pace.note(5, 5, now);
        }
    }

    #[test]
    fn load_lasts_until_it_is_over() {
        let mut pace = Pace::default();
        let begin = Instant::now();
        pace.note(BRISK / 2, 3, begin);
        assert!(!pace.is_loaded(begin));
        let then = begin + WINDOW / 2;
        pace.note(BRISK / 2, 3, then);
        assert!(pace.is_loaded(then + CALM_AFTER / 2));
        pace.note(1, 1, then + CALM_AFTER / 2);
        assert!(!pace.is_loaded(then + CALM_AFTER));
    }
}
