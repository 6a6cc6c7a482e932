//! Deadlines, and gauges.

use std::time::{Duration, Instant};

use sluice_proto::v1::ErrorClass;

use super::State;
use crate::kafka::error;
use crate::kafka::health::Health;
use crate::kafka::producer::bag::Bag;
use crate::kafka::producer::pace;
use crate::kafka::record::{Failure, Outcome};
use crate::metrics::{Load, Loads};

/// How often at most expired records are looked for: deadlines are kept to this.
const SWEEP_EVERY: Duration = Duration::from_millis(5);

impl State {
    pub(super) fn expect_deadline(&mut self, deadline: Option<Instant>) {
        if let Some(deadline) = deadline {
            self.earliest = Some(self.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
        }
    }

    /// Whether there is something to see to before the driver looks next.
    pub(in crate::kafka::producer) fn look_sooner(&mut self) -> bool {
        let next = self.earliest.into_iter().chain(self.gathered_until()).min();
        next.is_some_and(|next| self.next_look.is_none_or(|planned| next < planned))
    }

    /// When the driver must look again; `None`: not before it is woken.
    pub(in crate::kafka::producer) fn next_look(&mut self) -> Option<Instant> {
        self.next_look = self.earliest.into_iter().chain(self.gathered_until()).min();
        self.next_look
    }

    /// Tells those whose deadline has passed: what is held is certainly not stored, what librdkafka has may be.
    pub(in crate::kafka::producer) fn sweep(&mut self, now: Instant, bag: &mut Bag) {
        if self.earliest.is_none_or(|earliest| now < earliest) {
            return;
        }
        self.earliest = None;
        self.expire_waiting(now, bag);
        let mut earliest = self.earliest;
        for (_, pending) in &mut self.pending {
            let Some(deadline) = pending
                .deadline
                .filter(|_| pending.handed.is_some() && pending.receipt.is_some())
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

    /// Gives up what waits in the sidecar for too long.
    fn expire_waiting(&mut self, now: Instant, bag: &mut Bag) {
        let mut expired = Vec::new();
        let mut earliest: Option<Instant> = None;
        let mut expect = |next: Option<Instant>| earliest = earliest.into_iter().chain(next).min();
        if self.held > 0 {
            let why = match &self.health {
                Health::Down(why) => format!("the cluster cannot be reached: {why}"),
                Health::Unknown => "the cluster has not answered yet".to_owned(),
                Health::Up => "the cluster did not tell about the topic in time".to_owned(),
            };
            for (_, topic) in self.topics.iter() {
                let (gone, next) = topic.expire_held(now);
                expect(next);
                self.held -= gone.len();
                expired.extend(gone.into_iter().map(|held| (held.key, why.clone())));
            }
        }
        let topics = &mut self.topics;
        self.gathering.retain(|key| {
            let Some(topic) = topics.get(*key) else {
                return false;
            };
            let (gone, next) = topic.expire_gathered(now);
            expect(next);
            let why = "the records before it are not acknowledged yet";
            expired.extend(gone.into_iter().map(|held| (held.key, why.to_owned())));
            !topic.gathered.is_empty()
        });
        for (key, why) in expired {
            self.settle(
                key,
                Failure::new(ErrorClass::ClusterUnavailable, why).into(),
                now,
                bag,
            );
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

    /// Adds what waits of each topic, and what of it is acknowledged.
    pub(in crate::kafka::producer) fn weigh(&mut self, loads: &mut Loads, now: Instant) {
        for (_, topic) in self.topics.iter() {
            let (per_second, limit) = topic.pace.load(now);
            let load = Load {
                records: topic.pending as u64,
                bytes: pace::cost(topic.pending, topic.bytes),
                per_second,
                limit,
            };
            loads.add(&topic.metrics, load);
        }
    }
}
