//! How fast events go to a target.

use std::time::{Duration, Instant};

use crate::subscriptions::spec::RateLimit;

/// A bucket of tokens: one for each event.
#[derive(Debug)]
pub(super) struct Rate {
    settings: RateLimit,
    tokens: f64,
    at: Instant,
}

impl Rate {
    /// A full one.
    pub(super) fn new(settings: RateLimit, now: Instant) -> Self {
        Self {
            settings,
            tokens: f64::from(settings.burst),
            at: now,
        }
    }

    /// It has another limit from now on; what is left is left.
    pub(super) fn set(&mut self, settings: RateLimit, now: Instant) {
        self.fill(now);
        self.settings = settings;
        self.tokens = self.tokens.min(f64::from(settings.burst));
    }

    fn fill(&mut self, now: Instant) {
        let gone = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens =
            (self.tokens + gone * f64::from(self.settings.per_second)).min(f64::from(self.settings.burst));
        self.at = self.at.max(now);
    }

    /// How many events may go now; where there is none, when there will be.
    pub(super) fn allowed(&mut self, now: Instant) -> Result<usize, Instant> {
        self.fill(now);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from 0 to burst"
        )]
        let whole = self.tokens.max(0.0) as usize;
        if whole > 0 {
            return Ok(whole);
        }
        let wait = (1.0 - self.tokens) / f64::from(self.settings.per_second);
        // A little more, so that rounding does not make it two waits.
        Err(now + Duration::from_secs_f64(wait) + Duration::from_micros(10))
    }

    /// So many went.
    pub(super) fn sent(&mut self, events: usize) {
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        self.tokens -= f64::from(events);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_and_then_as_fast_as_allowed() {
        let now = Instant::now();
        let mut rate = Rate::new(
            RateLimit {
                per_second: 10,
                burst: 3,
            },
            now,
        );
        assert_eq!(rate.allowed(now), Ok(3));
        rate.sent(3);
        let next = rate.allowed(now).unwrap_err();
        let wait = next - now;
        assert!(
            wait >= Duration::from_millis(100) && wait < Duration::from_millis(101),
            "{wait:?}"
        );
        assert_eq!(rate.allowed(next), Ok(1));
        assert_eq!(rate.allowed(now + Duration::from_secs(60)), Ok(3));
    }

    proptest! {
        #[test]
        fn no_more_go_than_the_rate_allows(
            per_second in 1_u32..1000, burst in 1_u32..50, waits in prop::collection::vec(0_u64..500, 1..100),
        ) {
            let start = Instant::now();
            let (mut now, mut sent) = (start, 0_usize);
            let mut rate = Rate::new(RateLimit { per_second, burst }, now);
            for wait in waits {
                now += Duration::from_millis(wait);
                if let Ok(n) = rate.allowed(now) {
                    rate.sent(n);
                    sent += n;
                }
                let most = f64::from(burst) + (now - start).as_secs_f64() * f64::from(per_second);
                prop_assert!(sent as f64 <= most + 0.001, "{sent} of {most}");
            }
        }
    }
}
