//! Deadlines, and gauges.

use std::time::{Duration, Instant};

use sluice_proto::v1::ErrorClass;

use super::State;
use crate::kafka::error;
use crate::kafka::health::Health;
use crate::kafka::producer::bag::Bag;
use crate::kafka::record::{Failure, Outcome};

/// How often at most expired records are looked for: deadlines are kept to this.
const SWEEP_EVERY: Duration = Duration::from_millis(5);

impl State {
    pub(super) fn expect_deadline(&mut self, deadline: Option<Instant>) {
        if let Some(deadline) = deadline {
            self.earliest = Some(self.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
        }
    }

    /// Whether there is something to see to before the driver looks next.
    pub(in crate::kafka::producer) fn look_sooner(&self) -> bool {
        let next = self.earliest.into_iter().chain(self.gather.due()).min();
        next.is_some_and(|next| self.next_look.is_none_or(|planned| next < planned))
    }

    /// When the driver must look again; `None`: not before it is woken.
    pub(in crate::kafka::producer) fn next_look(&mut self) -> Option<Instant> {
        self.next_look = self.earliest.into_iter().chain(self.gather.due()).min();
        self.next_look
    }

    /// Tells those whose deadline has passed: what is held is certainly not stored, what librdkafka has may be.
    pub(in crate::kafka::producer) fn sweep(&mut self, now: Instant, bag: &mut Bag) {
        if self.earliest.is_none_or(|earliest| now < earliest) {
            return;
        }
        self.earliest = None;
        self.expire_held(now, bag);
        let mut earliest = self.earliest;
        for (_, pending) in &mut self.pending {
            let Some(deadline) = pending
                .deadline
                .filter(|_| pending.handed && pending.receipt.is_some())
            else {
                continue;
            };
            if deadline > now {
                earliest = Some(earliest.map_or(deadline, |e| e.min(deadline)));
                continue;
            }
            if let Some(receipt) = pending.receipt.take()
                && let Some(topic) = self.topics.get(pending.topic)
            {
                let waited = now.saturating_duration_since(pending.since);
                let text = format!("no acknowledgement within {} ms", waited.as_millis());
                let outcome = Outcome::Failed(error::unknown(text));
                topic.metrics.records.count(&outcome);
                topic.metrics.seconds.observe(waited.as_secs_f64());
                bag.settle(receipt, outcome);
            }
        }
        self.earliest = earliest.map(|earliest| earliest.max(now + SWEEP_EVERY));
    }

    fn expire_held(&mut self, now: Instant, bag: &mut Bag) {
        if self.held == 0 {
            return;
        }
        let why = match &self.health {
            Health::Down(why) => format!("the cluster cannot be reached: {why}"),
            Health::Unknown => "the cluster has not answered yet".to_owned(),
            Health::Up => "the cluster did not tell about the topic in time".to_owned(),
        };
        let mut expired = Vec::new();
        let mut earliest: Option<Instant> = None;
        for (_, topic) in self.topics.iter() {
            topic.held.retain(|held| match held.until {
                Some(until) if until <= now => {
                    expired.push(held.key);
                    false
                }
                Some(until) => {
                    earliest = Some(earliest.map_or(until, |e| e.min(until)));
                    true
                }
                None => true,
            });
        }
        self.held -= expired.len();
        for key in expired {
            let failure = Failure::new(ErrorClass::ClusterUnavailable, why.clone());
            self.settle(key, failure.into(), now, bag);
        }
        self.expect_deadline(earliest);
    }

    /// Brings the gauges up to date.
    pub(in crate::kafka::producer) fn measure(&self) {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.metrics.outstanding.set(number(self.pending.len()));
        self.metrics.outstanding_bytes.set(number(self.bytes));
        self.metrics.held.set(number(self.held));
        self.metrics.up.set(i64::from(self.health == Health::Up));
    }
}
