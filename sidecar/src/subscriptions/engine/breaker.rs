//! The circuit breaker of a target, and its slow start.

use std::time::Instant;

use crate::subscriptions::running::Circuit;
use crate::subscriptions::spec::CircuitBreaker;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many requests failed, one after the other.
    Closed(u32),
    /// Nothing goes until then.
    Open(Instant),
    /// One request is under way that decides.
    Trying,
    /// Well since then; so many failed, one after the other.
    Slow(Instant, u32),
}

/// Decides how many requests a target may have at once.
#[derive(Debug)]
pub(super) struct Breaker {
    settings: CircuitBreaker,
    state: State,
}

impl Breaker {
    /// A target that nothing is known against.
    pub(super) fn new(settings: CircuitBreaker) -> Self {
        Self {
            settings,
            state: State::Closed(0),
        }
    }

    /// It has other settings from now on, and is as it was.
    pub(super) fn set(&mut self, settings: CircuitBreaker) {
        self.settings = settings;
    }

    /// How many requests may be under way, of `most`; and when that is to be asked again, where it changes by itself.
    pub(super) fn allowed(&self, now: Instant, most: usize) -> (usize, Option<Instant>) {
        match self.state {
            State::Closed(_) => (most, None),
            State::Open(until) if now < until => (0, Some(until)),
            State::Open(_) => (1, None),
            // The one that decides is under way.
            State::Trying => (0, None),
            State::Slow(since, _) => {
                let whole = self.settings.slow_start;
                let gone = now.saturating_duration_since(since);
                if gone >= whole {
                    return (most, None);
                }
                let share = gone.as_secs_f64() / whole.as_secs_f64();
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_precision_loss,
                    clippy::cast_sign_loss,
                    reason = "a share of a small number"
                )]
                let more = (most.saturating_sub(1) as f64 * share) as usize;
                (1 + more, Some(now + (whole - gone).min(whole / 20)))
            }
        }
    }

    /// A request is sent.
    pub(super) fn sent(&mut self, now: Instant) {
        match self.state {
            State::Open(until) if now >= until => self.state = State::Trying,
            State::Slow(since, failed)
                if now.saturating_duration_since(since) >= self.settings.slow_start =>
            {
                self.state = State::Closed(failed);
            }
            _ => {}
        }
    }

    /// A request came back, or was given up (`None`): whether the target was well. Whether the breaker opened.
    pub(super) fn came_back(&mut self, now: Instant, well: Option<bool>) -> bool {
        let opened = State::Open(now + self.settings.open_for);
        let (next, opens) = match (self.state, well) {
            (State::Trying, None) => (State::Open(now), false),
            (State::Trying, Some(true)) => (State::Slow(now, 0), false),
            (State::Trying, Some(false)) => (opened, true),
            (State::Closed(_), Some(true)) => (State::Closed(0), false),
            (State::Slow(since, _), Some(true)) => (State::Slow(since, 0), false),
            (State::Closed(n) | State::Slow(_, n), Some(false)) if n + 1 >= self.settings.failures => {
                (opened, true)
            }
            (State::Closed(n), Some(false)) => (State::Closed(n + 1), false),
            (State::Slow(since, n), Some(false)) => (State::Slow(since, n + 1), false),
            // What was sent before it opened says nothing new.
            (state, _) => (state, false),
        };
        self.state = next;
        opens
    }

    /// How it is, for people.
    pub(super) fn circuit(&self, now: Instant) -> Circuit {
        match self.state {
            State::Slow(since, _) if now.saturating_duration_since(since) < self.settings.slow_start => {
                Circuit::SlowStart
            }
            State::Closed(_) | State::Slow(..) => Circuit::Closed,
            State::Open(until) if now < until => Circuit::Open,
            State::Open(_) | State::Trying => Circuit::HalfOpen,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn breaker() -> Breaker {
        Breaker::new(CircuitBreaker {
            failures: 3,
            open_for: 10 * SECOND,
            slow_start: 20 * SECOND,
        })
    }

    #[test]
    fn it_opens_tries_one_and_starts_slowly() {
        let (mut breaker, now) = (breaker(), Instant::now());
        for well in [false, false, true, false, false] {
            assert!(!breaker.came_back(now, Some(well)));
        }
        assert_eq!(breaker.allowed(now, 8), (8, None));
        assert!(breaker.came_back(now, Some(false)));
        assert_eq!(breaker.allowed(now, 8), (0, Some(now + 10 * SECOND)));
        assert_eq!(breaker.circuit(now), Circuit::Open);
        // One that was sent before.
        assert!(!breaker.came_back(now, Some(true)));
        assert_eq!(breaker.circuit(now), Circuit::Open);

        let later = now + 10 * SECOND;
        assert_eq!(breaker.allowed(later, 8), (1, None));
        breaker.sent(later);
        assert_eq!(breaker.allowed(later, 8), (0, None));
        assert!(breaker.came_back(later, Some(false)));
        assert_eq!(breaker.circuit(later), Circuit::Open);

        let later = later + 10 * SECOND;
        breaker.sent(later);
        assert_eq!(breaker.circuit(later), Circuit::HalfOpen);
        breaker.came_back(later, Some(true));
        assert_eq!(breaker.circuit(later), Circuit::SlowStart);
        assert_eq!(breaker.allowed(later, 9), (1, Some(later + SECOND)));
        assert_eq!(breaker.allowed(later + 10 * SECOND, 9).0, 5);
        assert_eq!(breaker.allowed(later + 20 * SECOND, 9), (9, None));
        breaker.sent(later + 20 * SECOND);
        assert_eq!(breaker.circuit(later + 20 * SECOND), Circuit::Closed);
    }

    #[test]
    fn a_trial_that_was_given_up_is_made_again() {
        let (mut breaker, now) = (breaker(), Instant::now());
        for _ in 0..3 {
            breaker.came_back(now, Some(false));
        }
        let later = now + 10 * SECOND;
        breaker.sent(later);
        breaker.came_back(later, None);
        assert_eq!(breaker.allowed(later, 8), (1, None));
    }

    proptest! {
        /// Whatever happens, there is a time at which something may go again, unless a trial is under way.
        #[test]
        fn it_is_never_stuck(events in prop::collection::vec((0_u8..4, 0_u64..15), 0..60)) {
            let (mut breaker, mut now) = (breaker(), Instant::now());
            let mut trying = false;
            for (event, seconds) in events {
                now += Duration::from_secs(seconds);
                match event {
                    0 if breaker.allowed(now, 4).0 > 0 => {
                        breaker.sent(now);
                        trying = breaker.state == State::Trying;
                    }
                    0 => {}
                    n => {
                        breaker.came_back(now, [None, Some(true), Some(false)][usize::from(n) - 1]);
                        trying = false;
                    }
                }
                let (allowed, again) = breaker.allowed(now, 4);
                prop_assert!(allowed <= 4);
                prop_assert!(allowed > 0 || again.is_some() || trying);
            }
            if !trying {
                prop_assert!(breaker.allowed(now + 10 * SECOND, 4).0 > 0);
            }
        }
    }
}
