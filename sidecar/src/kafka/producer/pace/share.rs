//! Whose record is let through where not all can be, for what waits already.

use std::time::Duration;

use crate::kafka::producer::clients::Clients;

/// What a record costs besides its bytes: what Kafka's protocol adds, about.
const PER_RECORD: u64 = 100;
/// Where more waits than is acknowledged in time, clients are let through that have no more than their part of that; for
/// those that have nothing waiting the parts are of so many halves of it. In all so many times of it may wait.
const NEWCOMERS: u64 = 3;
const MOST: u64 = 2;

/// What `records` records of `bytes` bytes cost.
pub(in crate::kafka::producer) fn cost(records: usize, bytes: usize) -> u64 {
    (bytes as u64).saturating_add((records as u64).saturating_mul(PER_RECORD))
}

/// A record that asks to be let through.
#[derive(Debug, Clone, Copy)]
pub(in crate::kafka::producer) struct Ask<'a> {
    /// Its [`cost`].
    pub(in crate::kafka::producer) cost: u64,
    /// Records of the topic that wait already, and what they cost.
    pub(in crate::kafka::producer) records: usize,
    pub(in crate::kafka::producer) waiting: u64,
    /// Whose it is, and what each client has waiting.
    pub(in crate::kafka::producer) client: u64,
    pub(in crate::kafka::producer) clients: &'a Clients,
    /// How long its client waits.
    pub(in crate::kafka::producer) patience: Duration,
}

impl Ask<'_> {
    /// What those of the same client cost.
    fn own(&self) -> u64 {
        self.clients.of(self.client, self.waiting).min(self.waiting)
    }

    /// What would wait if no client had more than this one with the record, or with so much.
    fn up_to(&self, level: u64) -> u64 {
        let waiting = self.clients.up_to(level, self.waiting).min(self.waiting);
        waiting.saturating_add(self.cost)
    }

    /// Whether it is one of those that are not let through while it is asked what the base is. Clients that have little of
    /// what waits need not make way: it becomes little without the others'.
    pub(super) fn makes_way(&self) -> bool {
        let own = self.own();
        own > 0 && self.up_to(own + self.cost) > self.waiting / 2
    }

    /// How long what waits takes, while so much is acknowledged in a second.
    pub(super) fn wait(&self, rate: u64) -> Duration {
        Duration::from_millis(self.waiting.saturating_mul(1000) / rate.max(1))
    }

    /// Why the record is not let through while `limit` is acknowledged in time, at that rate, if it is not.
    ///
    /// Where more waits than that, it is as max-min fairness has it: a client that would have no more than its part of it is
    /// let through, and the others wait until there is room again. `certain`: the rate is what it is, and not what it was.
    pub(super) fn over(&self, limit: u64, certain: bool, rate: u64) -> Option<Why> {
        let all = self.waiting.saturating_add(self.cost);
        if all <= limit {
            return None;
        }
        let own = self.own();
        let halves = if certain { NEWCOMERS } else { 2 };
        let for_newcomers = limit.saturating_mul(halves) / 2;
        let parts = if own == 0 { for_newcomers } else { limit };
        let fits = all <= limit.saturating_mul(MOST);
        if fits && self.up_to(own + self.cost) <= parts {
            return None;
        }
        let others = fits && own < self.waiting && self.up_to(self.cost) <= for_newcomers;
        let why = if others { Why::Share } else { Why::Late };
        Some(why(self.wait(rate)))
    }
}

/// Why a record is not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kafka::producer) enum Why {
    /// It would be acknowledged only after so long.
    Late(Duration),
    /// So would what its client has waiting by now; others' records are let through.
    Share(Duration),
    /// For so long there has been no acknowledgement, though there was something to acknowledge.
    Stuck(Duration),
}
