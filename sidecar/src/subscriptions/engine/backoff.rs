//! When an event that failed is tried again.

use std::time::Duration;

use crate::subscriptions::spec::Retry;

/// What comes of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is tried again after this.
    Again(Duration),
    /// It is not: why, for people.
    Exhausted(String),
}

/// What is known of an event that failed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failed {
    /// How often it was tried, this time included.
    pub(super) attempts: u32,
    /// For how long it has been tried.
    pub(super) elapsed: Duration,
    /// `Retry-After`.
    pub(super) after: Option<Duration>,
}

/// Decides, as `retry` says. `random` is a number from 0 to 1: the pause is between half of what it would be and all of it, so
/// that events that failed together are not tried together. Never sooner than `Retry-After`, which the longest pause does not cut
/// short: the handler knows better.
pub(super) fn after(retry: &Retry, failed: Failed, random: f64) -> Verdict {
    let Failed {
        attempts,
        elapsed,
        after,
    } = failed;
    if let Some(most) = retry.attempts.filter(|most| attempts >= *most) {
        return Verdict::Exhausted(format!(
            "tried {attempts} times, and retry.max_attempts is {most}"
        ));
    }
    let doubled = 2_u32.saturating_pow(attempts.saturating_sub(1).min(31));
    let whole = retry.initial.saturating_mul(doubled).min(retry.max);
    let pause = whole.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0);
    let pause = pause.max(after.unwrap_or_default());
    if let Some(most) = retry.elapsed.filter(|most| elapsed.saturating_add(pause) > *most) {
        return Verdict::Exhausted(format!(
            "tried for {} s, and retry.max_elapsed is {} s",
            elapsed.as_secs(),
            most.as_secs()
        ));
    }
    Verdict::Again(pause)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn retry() -> Retry {
        Retry {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(2),
            attempts: None,
            elapsed: None,
        }
    }

    fn failed(attempts: u32) -> Failed {
        Failed {
            attempts,
            elapsed: Duration::ZERO,
            after: None,
        }
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pauses: Vec<Verdict> = (1..8).map(|n| after(&retry(), failed(n), 1.0)).collect();
        let ms = [100, 200, 400, 800, 1600, 2000, 2000];
        assert_eq!(pauses, ms.map(|ms| Verdict::Again(Duration::from_millis(ms))));
        let pause = Verdict::Again(Duration::from_millis(200));
        assert_eq!(after(&retry(), failed(3), 0.0), pause);
    }

    #[test]
    fn the_handler_may_ask_for_longer() {
        let asked = |after| Failed {
            after: Some(Duration::from_secs(after)),
            ..failed(1)
        };
        assert_eq!(
            after(&retry(), asked(60), 1.0),
            Verdict::Again(Duration::from_secs(60))
        );
        assert_eq!(
            after(&retry(), asked(0), 1.0),
            Verdict::Again(Duration::from_millis(100))
        );
    }

    #[test]
    fn attempts_and_time_are_bounded_where_that_is_said() {
        let mut bounded = retry();
        bounded.attempts = Some(3);
        assert!(matches!(after(&bounded, failed(2), 0.5), Verdict::Again(_)));
        let Verdict::Exhausted(why) = after(&bounded, failed(3), 0.5) else {
            panic!("a fourth attempt")
        };
        assert_eq!(why, "tried 3 times, and retry.max_attempts is 3");
        bounded = retry();
        bounded.elapsed = Some(Duration::from_secs(10));
        let late = Failed {
            elapsed: Duration::from_millis(9950),
            ..failed(9)
        };
        assert!(
            matches!(after(&bounded, late, 0.5), Verdict::Exhausted(why) if why.contains("retry.max_elapsed is 10 s"))
        );
        assert!(matches!(
            after(&retry(), failed(u32::MAX), 0.5),
            Verdict::Again(_)
        ));
    }

    proptest! {
        #[test]
        fn a_pause_is_within_its_bounds(attempts in 1_u32.., random in 0.0_f64..=1.0) {
            let Verdict::Again(pause) = after(&retry(), failed(attempts), random) else {
                return Err(TestCaseError::fail("exhausted"));
            };
            prop_assert!(pause >= Duration::from_millis(50) && pause <= Duration::from_secs(2));
        }
    }
}
