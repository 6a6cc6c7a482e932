//! Gathering a topic's records while others of it are under way, so that a request to the broker carries many.
//!
//! A record that comes while few are under way goes at once, however fast its client is. With more under way it
//! waits for their acknowledgements, together with all that come meanwhile. It would wait in librdkafka as well:
//! an idempotent producer sends nothing more for a partition that has [`UNDER_WAY`] records on their way, and its
//! broker thread polls without rest until that changes.

use std::time::{Duration, Instant};

/// `RD_KAFKA_IDEMP_MAX_INFLIGHT` of librdkafka 2.12, which counts records with it.
const UNDER_WAY: usize = 5;
/// So many records, or bytes, are not gathered further: a request that large costs little per record.
const MANY: usize = 1000;
const MANY_BYTES: usize = 256 * 1024;
/// The bounds of [`Gate::patience`].
const SHORTEST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_millis(100);

/// Whether a topic's records are handed over or gathered.
///
/// What counts is the present wave of records. When its acknowledgements take too long (a partition may have no
/// leader) the next wave begins, for which the others do not count any more: they hold up nobody for long.
#[derive(Debug, Default)]
pub(super) struct Gate {
    wave: u32,
    /// Records of the wave that were handed over and have no report yet.
    under_way: usize,
    /// When the last of them was.
    since: Option<Instant>,
    /// How long an acknowledgement takes lately.
    ack: Duration,
}

/// A record that went through the gate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pass {
    wave: u32,
    pub(super) at: Instant,
}

impl Gate {
    /// Whether records are handed over now.
    pub(super) fn open(&mut self, now: Instant) -> bool {
        if self.under_way >= UNDER_WAY && self.closed_until().is_none_or(|until| until <= now) {
            self.wave = self.wave.wrapping_add(1);
            self.under_way = 0;
        }
        self.under_way < UNDER_WAY
    }

    /// When it opens at the latest, if it is closed.
    pub(super) fn closed_until(&self) -> Option<Instant> {
        let closed = self.under_way >= UNDER_WAY;
        self.since.filter(|_| closed).map(|since| since + self.patience())
    }

    /// A record goes through.
    pub(super) fn pass(&mut self, now: Instant) -> Pass {
        self.under_way += 1;
        self.since = Some(now);
        let wave = self.wave;
        Pass { wave, at: now }
    }

    /// A record that went through has its report; `stored` if it is an acknowledgement.
    pub(super) fn reported(&mut self, pass: Pass, stored: bool, now: Instant) {
        if stored {
            let took = now.saturating_duration_since(pass.at);
            self.ack = (self.ack * 7 + took) / 8;
        }
        if pass.wave == self.wave {
            self.under_way = self.under_way.saturating_sub(1);
        }
    }

    /// How long a wave's acknowledgements are waited for.
    fn patience(&self) -> Duration {
        (self.ack * 2).clamp(SHORTEST, LONGEST)
    }
}

/// Whether this many records, of so many bytes, are not to be gathered further.
pub(super) fn is_much(records: usize, bytes: usize) -> bool {
    records >= MANY || bytes >= MANY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn filled(now: Instant) -> (Gate, Vec<Pass>) {
        let mut gate = Gate::default();
        let passes = (0..UNDER_WAY)
            .map(|_| {
                assert!(gate.open(now));
                gate.pass(now)
            })
            .collect();
        (gate, passes)
    }

    #[test]
    fn it_closes_on_a_few_and_opens_on_their_acknowledgement() {
        let begin = Instant::now();
        let (mut gate, passes) = filled(begin);
        assert!(!gate.open(begin));
        gate.reported(passes[0], true, begin + MS);
        assert!(gate.open(begin + MS));
        assert_eq!(gate.closed_until(), None);
    }

    #[test]
    fn one_client_that_awaits_each_answer_never_waits() {
        let mut gate = Gate::default();
        let begin = Instant::now();
        for request in 0..1000 {
            let now = begin + MS / 10 * request;
            assert!(gate.open(now));
            let pass = gate.pass(now);
            gate.reported(pass, true, now + MS / 20);
        }
    }

    #[test]
    fn what_is_not_acknowledged_holds_up_nobody_for_long() {
        let begin = Instant::now();
        let (mut gate, stuck) = filled(begin);
        let until = gate.closed_until().unwrap();
        assert_eq!(until, begin + SHORTEST);
        assert!(!gate.open(until - MS));
        assert!(gate.open(until));
        // The next wave's own count is what matters, whatever becomes of the one before.
        for pass in stuck {
            gate.reported(pass, false, until);
        }
        for _ in 0..UNDER_WAY {
            assert!(gate.open(until));
            gate.pass(until);
        }
        assert!(!gate.open(until));
    }

    #[test]
    fn a_slow_cluster_is_given_time() {
        let mut now = Instant::now();
        let mut gate = Gate::default();
        for _ in 0..100 {
            let pass = gate.pass(now);
            now += MS * 20;
            gate.reported(pass, true, now);
        }
        for _ in 0..UNDER_WAY {
            gate.pass(now);
        }
        let patience = gate.closed_until().unwrap() - now;
        assert!(patience > MS * 35 && patience <= MS * 40, "{patience:?}");
        let pass = gate.pass(now);
        gate.reported(pass, true, now + Duration::from_secs(60));
        assert_eq!(gate.closed_until().unwrap() - now, LONGEST);
    }
}
