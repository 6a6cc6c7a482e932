//! Cutting the linger short, so that a lone record does not wait and load is still gathered.
//!
//! librdkafka lingers for `linger.ms` over every batch. `rd_kafka_flush` makes it send at once for as long as
//! the call lasts, and it lasts until nothing is in flight or its time is over: so it is called from a thread
//! of its own, for a millisecond, when a record is handed over, nothing is in flight and there is no load
//! ([`Pace`]). Under load the linger gathers what would otherwise be many small requests.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Shared;

/// How long, in milliseconds, broker threads are kept from lingering. They must see it within this time.
const CUT_MS: i32 = 1;

/// More records than this in flight at once are load.
const FEW: usize = 2;

/// How long after it was seen load is taken to last.
const CALM_AFTER: Duration = Duration::from_millis(10);

/// Whether there is load: many records at once. However fast it is, one client that awaits each answer is none.
#[derive(Default)]
pub(super) struct Pace {
    loaded_until: Option<Instant>,
}

impl Pace {
    /// Records were handed over and `in_flight` are under way now, `before` without them. Whether to send them
    /// at once.
    pub(super) fn cut_short(&mut self, before: usize, in_flight: usize, now: Instant) -> bool {
        let calm = self.loaded_until.is_none_or(|until| until <= now);
        if in_flight > FEW {
            self.loaded_until = Some(now + CALM_AFTER);
        }
        before == 0 && in_flight > 0 && calm
    }
}

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
    fn a_lone_client_is_never_kept_waiting() {
        let mut pace = Pace::default();
        let begin = Instant::now();
        for request in 0..1000 {
            assert!(pace.cut_short(0, 1, begin + Duration::from_micros(200 * request)));
        }
    }

    #[test]
    fn load_is_gathered_until_it_is_over() {
        let mut pace = Pace::default();
        let begin = Instant::now();
        assert!(pace.cut_short(0, 1, begin));
        assert!(!pace.cut_short(1, 3, begin));
        assert!(!pace.cut_short(0, 1, begin + CALM_AFTER / 2));
        assert!(pace.cut_short(0, 1, begin + CALM_AFTER));
    }
}
