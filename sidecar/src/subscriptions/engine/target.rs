//! What is known of the targets that subscriptions call: whether one is to be left alone, and how fast it may be called. All
//! subscriptions of a target (scheme, host and port) share it.
//!
//! Where their settings differ, the strictest hold. A subscription that has no circuit breaker, or no rate limit, takes no part in
//! it: it neither heeds it nor is counted.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use super::breaker::Breaker;
use super::rate::Rate;
use crate::subscriptions::running::Circuit;
use crate::subscriptions::spec::{CircuitBreaker, RateLimit};

/// The targets that somebody uses, by where they are.
#[derive(Default)]
pub(super) struct Targets(Mutex<HashMap<String, Weak<Target>>>);

struct Target(Mutex<State>);

#[derive(Default)]
struct State {
    last: u64,
    users: BTreeMap<u64, (Option<CircuitBreaker>, Option<RateLimit>)>,
    breaker: Option<Breaker>,
    rate: Option<Rate>,
    /// Requests under way of those that heed the breaker.
    under_way: usize,
}

/// A subscription's use of its target.
pub(super) struct Use {
    target: Arc<Target>,
    user: u64,
    breaks: bool,
    limits: bool,
}

/// A request that is under way. Dropped, it was given up.
pub(super) struct Pass {
    target: Arc<Target>,
    said: bool,
}

/// Whether another request may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum May {
    /// It may, with so many events at most.
    Go(usize),
    /// The target is left alone, or called by few; looked at again then, if it changes by itself.
    Rest(Option<Instant>),
    /// It is called as fast as it may be, until then.
    Slow(Instant),
}

impl Targets {
    /// A subscription calls the target at `place` from now on, with these settings, until the use is dropped.
    pub(super) fn enter(
        &self,
        place: &str,
        breaker: Option<CircuitBreaker>,
        limit: Option<RateLimit>,
        now: Instant,
    ) -> Use {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, target| target.strong_count() > 0);
        let known = all.get(place).and_then(Weak::upgrade);
        let target = known.unwrap_or_else(|| Arc::new(Target(Mutex::default())));
        all.insert(place.to_owned(), Arc::downgrade(&target));
        drop(all);
        let mut state = target.state();
        state.last += 1;
        let user = state.last;
        state.users.insert(user, (breaker, limit));
        state.set(now);
        drop(state);
        Use {
            target,
            user,
            breaks: breaker.is_some(),
            limits: limit.is_some(),
        }
    }
}

impl Target {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The strictest of the settings hold.
    fn set(&mut self, now: Instant) {
        let breakers = self.users.values().filter_map(|(breaker, _)| *breaker);
        let strictest = breakers.reduce(|a, b| CircuitBreaker {
            failures: a.failures.min(b.failures),
            open_for: a.open_for.max(b.open_for),
            slow_start: a.slow_start.max(b.slow_start),
        });
        match (&mut self.breaker, strictest) {
            (Some(breaker), Some(settings)) => breaker.set(settings),
            (breaker, settings) => *breaker = settings.map(Breaker::new),
        }
        let limits = self.users.values().filter_map(|(_, limit)| *limit);
        let strictest = limits.reduce(|a, b| RateLimit {
            per_second: a.per_second.min(b.per_second),
            burst: a.burst.min(b.burst),
        });
        match (&mut self.rate, strictest) {
            (Some(rate), Some(limit)) => rate.set(limit, now),
            (rate, limit) => *rate = limit.map(|limit| Rate::new(limit, now)),
        }
    }
}

impl Use {
    /// Whether another request may go of a subscription that has `own` under way of `most` that it may have.
    pub(super) fn may(&self, now: Instant, own: usize, most: usize) -> May {
        let mut state = self.target.state();
        if self.breaks
            && let Some(breaker) = &state.breaker
        {
            let (allowed, again) = breaker.allowed(now, most);
            // Those that recover are called by few, of all subscriptions together.
            if allowed < most && state.under_way >= allowed {
                return May::Rest(again);
            }
        }
        if own >= most {
            return May::Rest(None);
        }
        if self.limits
            && let Some(rate) = &mut state.rate
        {
            return match rate.allowed(now) {
                Ok(events) => May::Go(events),
                Err(at) => May::Slow(at),
            };
        }
        May::Go(usize::MAX)
    }

    /// A request goes, with so many events.
    pub(super) fn sent(&self, now: Instant, events: usize) -> Option<Pass> {
        let mut state = self.target.state();
        if self.limits
            && let Some(rate) = &mut state.rate
        {
            rate.sent(events);
        }
        if !self.breaks {
            return None;
        }
        state.under_way += 1;
        if let Some(breaker) = &mut state.breaker {
            breaker.sent(now);
        }
        drop(state);
        Some(Pass {
            target: Arc::clone(&self.target),
            said: false,
        })
    }

    /// How the target's circuit is; none: this subscription does not heed it.
    pub(super) fn circuit(&self, now: Instant) -> Option<Circuit> {
        let state = self.target.state();
        let breaker = state.breaker.as_ref().filter(|_| self.breaks);
        breaker.map(|breaker| breaker.circuit(now))
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut state = self.target.state();
        state.users.remove(&self.user);
        state.set(Instant::now());
    }
}

impl Pass {
    /// The request came back: whether the target was well, if that can be said. Whether it is left alone from now on.
    pub(super) fn came_back(mut self, now: Instant, well: Option<bool>) -> bool {
        self.say(now, well)
    }

    fn say(&mut self, now: Instant, well: Option<bool>) -> bool {
        if std::mem::replace(&mut self.said, true) {
            return false;
        }
        let mut state = self.target.state();
        state.under_way = state.under_way.saturating_sub(1);
        let breaker = state.breaker.as_mut();
        breaker.is_some_and(|breaker| breaker.came_back(now, well))
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.say(Instant::now(), None);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const BREAKER: CircuitBreaker = CircuitBreaker {
        failures: 4,
        open_for: SECOND,
        slow_start: SECOND,
    };

    #[test]
    fn those_of_one_target_share_its_breaker_and_the_strictest_settings_hold() {
        let (targets, now) = (Targets::default(), Instant::now());
        let lax = CircuitBreaker {
            failures: 9,
            open_for: 10 * SECOND,
            ..BREAKER
        };
        let one = targets.enter("http://a:80", Some(BREAKER), None, now);
        let two = targets.enter("http://a:80", Some(lax), None, now);
        let other = targets.enter("http://b:80", Some(BREAKER), None, now);
        let free = targets.enter("http://a:80", None, None, now);
        for n in 0..4 {
            let by = if n % 2 == 0 { &one } else { &two };
            let opened = by.sent(now, 1).unwrap().came_back(now, Some(false));
            assert_eq!(opened, n == 3);
        }
        for by in [&one, &two] {
            assert_eq!(by.circuit(now), Some(Circuit::Open));
            assert_eq!(by.may(now + 9 * SECOND, 0, 8), May::Rest(Some(now + 10 * SECOND)));
        }
        assert_eq!(other.may(now, 0, 8), May::Go(usize::MAX));
        assert_eq!(
            (free.may(now, 0, 8), free.circuit(now)),
            (May::Go(usize::MAX), None)
        );

        // One request decides, of all of them; and given up, another one does.
        let later = now + 10 * SECOND;
        assert_eq!(two.may(later, 0, 8), May::Go(usize::MAX));
        let pass = two.sent(later, 1).unwrap();
        assert_eq!(one.may(later, 0, 8), May::Rest(None));
        drop(pass);
        let later = later + SECOND;
        assert_eq!(one.may(later, 0, 8), May::Go(usize::MAX));
        assert!(!one.sent(later, 1).unwrap().came_back(later, Some(true)));
        // Slowly: one of both at first.
        let pass = one.sent(later, 1);
        assert!(matches!(two.may(later, 0, 8), May::Rest(Some(_))));
        drop(pass);
        assert_eq!(two.may(later, 0, 8), May::Go(usize::MAX));
    }

    #[test]
    fn those_of_one_target_share_its_rate_and_a_new_user_starts_with_what_is_left() {
        let (targets, now) = (Targets::default(), Instant::now());
        let limit = |per_second, burst| Some(RateLimit { per_second, burst });
        let one = targets.enter("http://a:80", None, limit(10, 20), now);
        let free = targets.enter("http://a:80", None, None, now);
        assert_eq!(one.may(now, 0, 8), May::Go(20));
        let two = targets.enter("http://a:80", None, limit(100, 5), now);
        assert_eq!((one.may(now, 0, 8), two.may(now, 0, 8)), (May::Go(5), May::Go(5)));
        assert!(one.sent(now, 4).is_none());
        assert!(two.sent(now, 1).is_none());
        assert!(matches!(one.may(now, 0, 8), May::Slow(at) if at > now && at < now + SECOND));
        assert!(matches!(two.may(now, 0, 8), May::Slow(_)));
        assert_eq!(free.may(now, 0, 8), May::Go(usize::MAX));
        assert_eq!(two.may(now + SECOND, 0, 8), May::Go(5));
        drop(two);
        assert_eq!(one.may(now + 2 * SECOND, 0, 8), May::Go(15));
        assert_eq!(one.may(now, 8, 8), May::Rest(None));
    }
}
