//! What there was lately, and what has been waiting for long.

use std::time::{Duration, Instant};

use super::{Report, per_second};

/// What waits for so long, or twice that, does not wait for what comes before it.
const OLD: Duration = Duration::from_secs(5);

/// What is acknowledged in a second, whether or not more could be.
#[derive(Debug, Default)]
pub(super) struct Lately {
    from: Option<Instant>,
    done: u64,
    rates: [u64; 2],
}

impl Lately {
    /// So much was acknowledged.
    pub(super) fn done(&mut self, cost: u64, now: Instant) {
        let from = *self.from.get_or_insert(now);
        let took = now.saturating_duration_since(from);
        if took >= Duration::from_secs(1) {
            self.rates = [per_second(self.done, took), self.rates[0]];
            self.from = Some(now);
            self.done = 0;
        }
        self.done += cost;
    }

    /// In the last whole second, or since then if that was longer ago.
    pub(super) fn per_second_at(&self, now: Instant) -> u64 {
        match self.from.map(|from| now.saturating_duration_since(from)) {
            Some(took) if took >= Duration::from_secs(1) => per_second(self.done, took),
            Some(_) => self.rates[0],
            None => 0,
        }
    }

    /// The most in a second, of the last two.
    pub(super) fn per_second(&self) -> u64 {
        self.rates.into_iter().max().unwrap_or_default()
    }
}

/// What was handed over and has no report, by when that was.
#[derive(Debug, Default)]
pub(super) struct Ages {
    /// Since when a record counts as young, and as one of those before.
    young_since: Option<Instant>,
    since: Option<Instant>,
    young: u64,
    before: u64,
    old: u64,
}

impl Ages {
    /// What has waited for so long that it waits for something else than what comes before it.
    pub(super) fn old(&self) -> u64 {
        self.old
    }

    /// A record of that cost waits from now on.
    pub(super) fn handed(&mut self, cost: u64, now: Instant) {
        let young = |at: Instant| now.saturating_duration_since(at) < OLD;
        if !self.young_since.is_some_and(young) {
            self.since = self.young_since;
            self.young_since = Some(now);
            self.old += std::mem::take(&mut self.before);
            self.before = std::mem::take(&mut self.young);
        }
        self.young += cost;
    }

    /// A record waits no more.
    pub(super) fn reported(&mut self, report: Report, now: Instant) {
        let at = now.checked_sub(report.took);
        let among = if at >= self.young_since {
            &mut self.young
        } else if at >= self.since {
            &mut self.before
        } else {
            &mut self.old
        };
        *among = among.saturating_sub(report.cost);
    }
}
