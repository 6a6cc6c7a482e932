//! How long a new record of a topic would wait for its acknowledgement, judged by what becomes of those before it.
//!
//! Three things are watched: how long an acknowledgement takes with (nearly) nothing before it, which is the
//! *base*; how long acknowledgements take now; and at what rate they come. A record is only refused where
//! acknowledgements *are* late by now, so that a burst, a cold start or a link with a long way to go are no reason:
//! then what is outstanding is held to what is acknowledged, at the present rate, within the base and the bound.
//! By Little's law that is what keeps the wait at the bound, without having to know what is slow, or how a
//! cluster's partitions share it.
//!
//! Where acknowledgements do not come late but not at all, next to nothing is let through: one record now and then,
//! so that a topic of which only one partition is stuck does not wait for that.

mod history;
mod share;

use std::time::{Duration, Instant};

use self::history::{Ages, Lately};
pub(super) use self::share::{Ask, Why, cost};

/// So many records of a topic may always wait: an idempotent producer has that many requests under way.
pub(super) const FEW: usize = 5;
/// How long the first acknowledgement of all may take: connections are made, leaders are found.
const COLD: Duration = Duration::from_secs(3);
/// Parts of the bound: how late acknowledgements are before anything is refused, and how long a rate is measured.
const LATE: u32 = 4;
const MEASURED: u32 = 8;
/// So many times the bound may pass without any acknowledgement.
const STUCK: u32 = 2;
/// How long acknowledgements may be late before it is looked at again what the base is: it may have become longer, and
/// only records that have nothing before them tell.
const DOUBT: Duration = Duration::from_secs(10);
/// It is looked at less and less often while it stays as it was, down to once in so many times that.
const SELDOM: u32 = 3;
/// For so long after a refusal a topic is held to its rate though nothing is late any more: what waits may have become
/// little for that reason only.
const HOLD: Duration = Duration::from_secs(1);
/// So many may wait in any case while acknowledgements are only late.
const SOME: usize = 64;
/// For so long a topic without records is as it was: connections are there.
const REMEMBERED: Duration = Duration::from_secs(10);
/// So much in that time is how much in a second?
fn per_second(cost: u64, time: Duration) -> u64 {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
    cost.saturating_mul(1_000_000) / micros
}

/// What is acknowledged in that time, at that cost per second.
fn within(time: Duration, rate: u64) -> u64 {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    rate.saturating_mul(millis) / 1000
}

/// What may be let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Free,
    /// As long as what waits is not more than is acknowledged in time, at this cost per second.
    Rate(u64),
    /// The same while acknowledgements do not come, at the cost per second that there was before: but for so many.
    Silence(u64, usize),
    Stuck(Duration),
}

/// What is known of a topic's acknowledgements.
#[derive(Debug)]
pub(super) struct Pace {
    bound: Duration,
    /// How long one takes with nearly nothing before it.
    base: Option<Duration>,
    /// When the first record was handed over since the last answer.
    unanswered: Option<Instant>,
    /// It was the first for a long time: it may have to wait for a connection.
    cold: bool,
    /// When a record was last let through that was to be refused.
    probed: Option<Instant>,
    /// Since when nothing waits.
    idle: Option<Instant>,
    /// Since when something does, and what was done since then.
    busy: Option<Instant>,
    done: u64,
    /// When reports came last, and when an answer did.
    last: Option<Instant>,
    heard: Option<Instant>,
    /// How long the last one took.
    recent: Duration,
    /// What is being measured.
    now: Measure,
    /// The last measurements: cost per second.
    rates: [u64; 2],
    /// The quickest acknowledgement of the last measurement.
    before: Option<Duration>,
    lately: Lately,
    ages: Ages,
    doubt: Doubt,
    /// How often in a row the base was found to be what it was.
    confirmed: u32,
    /// When a record was last refused for being late.
    refused: Option<Instant>,
}

/// Whether acknowledgements are late because much waits, or because they take that long by now.
#[derive(Debug, Clone, Copy)]
enum Doubt {
    /// They are not late.
    None,
    /// They have been since then, for want of room.
    Since(Instant),
    /// Only [`FEW`] records may wait, until one of them tells or it is that late.
    Asking { since: Instant, until: Instant },
}

/// A measurement under way.
#[derive(Debug, Default)]
struct Measure {
    /// The reports that it began with, which do not count.
    from: Option<Instant>,
    /// What was done since, up to and with the last reports.
    done: u64,
    /// The quickest acknowledgement of it.
    quickest: Option<Duration>,
}

/// One report.
#[derive(Debug, Clone, Copy)]
pub(super) struct Report {
    /// How long ago the record was handed over.
    pub(super) took: Duration,
    /// See [`cost`].
    pub(super) cost: u64,
    /// A broker said so; otherwise the client library gave up.
    pub(super) answered: bool,
    /// There were only [`FEW`] records before it.
    pub(super) lone: bool,
}

impl Pace {
    /// Of a topic whose records may wait for `bound` longer than they must. Zero: for as long as they like.
    pub(super) fn new(bound: Duration) -> Self {
        Self {
            bound,
            base: None,
            unanswered: None,
            cold: true,
            probed: None,
            idle: None,
            busy: None,
            done: 0,
            last: None,
            heard: None,
            recent: Duration::ZERO,
            now: Measure::default(),
            rates: [0; 2],
            before: None,
            lately: Lately::default(),
            ages: Ages::default(),
            doubt: Doubt::None,
            confirmed: 0,
            refused: None,
        }
    }

    /// How long a record may wait for its acknowledgement.
    pub(super) fn target(&self) -> Duration {
        self.base.unwrap_or(COLD) + self.bound
    }

    /// Cost that is acknowledged in a second, while it is measured; 0 while it is not.
    pub(super) fn per_second(&self) -> u64 {
        self.rates.into_iter().max().unwrap_or_default()
    }

    /// A record of that cost was handed over.
    pub(super) fn handed(&mut self, cost: u64, now: Instant) {
        if self.bound.is_zero() {
            return;
        }
        self.ages.handed(cost, now);
        if self.unanswered.is_none() {
            self.unanswered = Some(now);
            let old = |last: Instant| now.saturating_duration_since(last) > REMEMBERED;
            self.cold = self.last.is_none_or(old);
        }
        self.idle = None;
        self.busy.get_or_insert(now);
    }

    /// A record that was handed over has its report.
    pub(super) fn reported(&mut self, report: Report, now: Instant) {
        if self.bound.is_zero() {
            return;
        }
        if report.answered {
            self.unanswered = None;
            self.heard = Some(now);
            self.recent = report.took;
            self.learn(report, now);
        }
        if self.last.is_some_and(|last| last < now) {
            self.close();
        }
        self.last = Some(now);
        self.lately.done(report.cost, now);
        self.ages.reported(report, now);
        self.done = self.done.saturating_add(report.cost);
        match self.now.from {
            None => self.now.from = Some(now),
            Some(from) if from < now => self.now.done += report.cost,
            Some(_) => {}
        }
        let quickest = self.now.quickest.unwrap_or(report.took);
        self.now.quickest = Some(quickest.min(report.took));
    }

    /// The base: as low as was ever seen, and higher where records that had nothing before them say so.
    fn learn(&mut self, Report { took, lone, .. }: Report, now: Instant) {
        if let Doubt::Asking { since, .. } = self.doubt
            && lone
            && now.saturating_duration_since(since) >= took
        {
            let same = self.base.is_some_and(|base| took <= base + self.bound / LATE);
            self.confirmed = if same { self.confirmed + 1 } else { 0 };
            self.base = Some(took);
            self.doubt = Doubt::Since(now);
        }
        self.base = Some(match self.base {
            Some(base) if took < base => took,
            Some(base) if lone => base + (took - base) / 8,
            Some(base) => base,
            None => took,
        });
    }

    /// Ends the measurement, if it has been long enough.
    fn close(&mut self) {
        if let (Some(from), Some(last)) = (self.now.from, self.last)
            && let took = last.saturating_duration_since(from)
            && took >= self.bound / MEASURED
            && !took.is_zero()
        {
            let rate = per_second(self.now.done, took);
            self.rates = [rate, self.rates[0]];
            self.before = self.now.quickest;
            self.now = Measure {
                from: Some(last),
                ..Measure::default()
            };
        }
    }

    /// Nothing waits any more: what comes now says nothing about what came before. Unless records are refused, and
    /// nothing waits for that reason only.
    pub(super) fn idle(&mut self, now: Instant) {
        self.idle = Some(now);
        self.now = Measure::default();
        self.before = None;
        let done = std::mem::take(&mut self.done);
        if let Some(busy) = self.busy.take()
            && self.is_held(now)
        {
            // All that waited was done in that time: so much can be done at least.
            let rate = per_second(done, now.saturating_duration_since(busy));
            self.rates[0] = self.rates[0].max(rate);
        } else {
            self.rates = [0; 2];
            self.trust();
        }
    }

    /// Whether a record was refused of late.
    fn is_held(&self, now: Instant) -> bool {
        self.refused
            .is_some_and(|refused| now.saturating_duration_since(refused) <= HOLD)
    }

    /// The cluster is there again, or another client library took over: what was not answered is no sign of anything.
    pub(super) fn resume(&mut self) {
        self.unanswered = None;
    }

    /// Whether the record is let through now.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) fn admit(&mut self, mut ask: Ask<'_>, now: Instant) -> Result<(), Why> {
        // What waits for so long waits for something else.
        ask.waiting = ask.waiting.saturating_sub(self.ages.old());
        let why = match self.verdict(now) {
            Verdict::Free => {
                self.trust();
                None
            }
            Verdict::Stuck(silent) => Some(Why::Stuck(silent)),
            Verdict::Rate(_) if ask.records < FEW => None,
            Verdict::Rate(rate) => {
                let why = ask.over(self.limit(rate, ask), true, rate);
                let asks = self.asks(now) && ask.makes_way();
                why.or(asks.then(|| Why::Late(ask.wait(rate))))
            }
            Verdict::Silence(_, floor) if ask.records < floor => None,
            Verdict::Silence(rate, _) => {
                // If nothing was late before, it may be the first sign that the rate has become less.
                let known = self.recent > self.base.unwrap_or(COLD) + self.bound / LATE;
                ask.over(self.limit(rate, ask), known, rate)
            }
        };
        if why.is_some() {
            self.refused = Some(now);
            if self.is_probe(now) {
                return Ok(());
            }
        }
        why.map_or(Ok(()), Err)
    }

    /// The cost that is acknowledged in time, at that rate.
    fn limit(&self, rate: u64, ask: Ask<'_>) -> u64 {
        within(self.target().min(ask.patience), rate)
    }

    /// What it comes to now: the cost that is acknowledged in a second, and the cost that may wait, where that is held to it.
    pub(super) fn load(&mut self, now: Instant) -> (u64, Option<u64>) {
        let limit = match self.verdict(now) {
            Verdict::Free => None,
            Verdict::Rate(rate) | Verdict::Silence(rate, _) => Some(within(self.target(), rate)),
            Verdict::Stuck(_) => Some(0),
        };
        (self.lately.per_second_at(now), limit)
    }

    /// Whether acknowledgements have stopped coming, for longer than it can be for want of room.
    pub(super) fn is_stuck(&mut self, now: Instant) -> bool {
        matches!(self.verdict(now), Verdict::Stuck(_))
    }

    fn verdict(&mut self, now: Instant) -> Verdict {
        if self.bound.is_zero() {
            return Verdict::Free;
        }
        let since = |at: Instant| now.saturating_duration_since(at);
        if self.idle.is_some_and(|idle| since(idle) > self.bound) {
            self.resume();
        }
        self.close();
        let base = self.base.unwrap_or(COLD);
        let late = self.bound / LATE;
        if let Some(silent) = self.unanswered.map(since) {
            let base = if self.cold { base.max(COLD) } else { base };
            // What waits longer now is waited for longer.
            if silent > base.max(self.recent) + self.bound * STUCK {
                return Verdict::Stuck(silent);
            }
            let rate = self.before_silence();
            if silent > base + late && rate > 0 {
                let few = self.is_held(now) || silent > base + self.bound;
                let floor = if few { FEW } else { SOME };
                return Verdict::Silence(rate, floor);
            }
        }
        let quickest = self.now.quickest.or(self.before);
        let rate = match self.per_second() {
            _ if self.last.is_none() => 0,
            0 => self.lately.per_second(),
            rate if quickest.is_some_and(|took| took > base + late) => rate,
            rate if self.is_held(now) => rate.max(self.lately.per_second()),
            _ => 0,
        };
        let late = quickest.is_some_and(|took| took > base + late) || self.is_held(now);
        if rate > 0 && late {
            Verdict::Rate(rate)
        } else {
            Verdict::Free
        }
    }

    /// Cost that was acknowledged in a second until nothing came any more. What was measured last counts most: it may have
    /// become less.
    fn before_silence(&self) -> u64 {
        let (rate, lately) = (self.per_second(), self.lately.per_second());
        match rate {
            0 => lately,
            rate => rate.max(lately.min(rate.saturating_mul(2))),
        }
    }

    /// Nothing is late: the base is what it is.
    fn trust(&mut self) {
        self.doubt = Doubt::None;
        self.confirmed = 0;
    }

    /// Whether next to nothing may wait, for once, since it is in doubt what the base is.
    fn asks(&mut self, now: Instant) -> bool {
        let after = DOUBT * (1 + self.confirmed).min(SELDOM);
        self.doubt = match self.doubt {
            Doubt::None => Doubt::Since(now),
            Doubt::Since(since) if now.saturating_duration_since(since) >= after => {
                // As long as what waits takes, and what is let through then.
                let quickest = self.now.quickest.or(self.before).unwrap_or_default();
                let until = now + (quickest + self.bound) * 2;
                Doubt::Asking { since: now, until }
            }
            Doubt::Asking { until, .. } if until <= now => Doubt::Since(now),
            doubt => doubt,
        };
        matches!(self.doubt, Doubt::Asking { .. })
    }

    /// Whether a record is let through all the same: no answer has come for long, and it may be that what waits is
    /// stuck and others are not.
    fn is_probe(&mut self, now: Instant) -> bool {
        let over = |at: Option<Instant>, time: Duration| {
            at.is_none_or(|at| now.saturating_duration_since(at) >= time)
        };
        let due = over(self.heard, self.target()) && over(self.probed, self.bound / 2);
        if due {
            self.probed = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests;
