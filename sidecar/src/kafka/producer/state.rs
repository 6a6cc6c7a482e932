//! Everything a producer knows, under one lock that is taken once for many records.

mod admission;
mod aside;
mod cluster;
mod deadlines;
mod handover;
mod refused;
mod takeover;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode as Code;
use slab::Slab;
use sluice_proto::v1::ErrorClass;

use self::admission::{Candidate, Refusal};
use super::bag::Bag;
use super::gate::Pass;
use super::pace::{self, FEW};
use super::topics::{Held, Standing, Topics};
use crate::kafka::error;
use crate::kafka::health::Health;
use crate::kafka::native::{Delivery as Report, Native};
use crate::kafka::record::{Aside, Delivery, Failure, Outcome, Receipt, Record, Submission};
use crate::kafka::trouble::Troubles;
use crate::metrics::{ProducerMetrics, Reload};

/// What a producer is held to.
pub(super) struct Limits {
    /// Records that may be outstanding.
    pub(super) records: usize,
    /// Bytes of them.
    pub(super) bytes: usize,
    /// acks=0: nobody says that a record is stored.
    pub(super) unacknowledged: bool,
    /// acks=1: a leader that dies may take with it what it has acknowledged.
    pub(super) led: bool,
    /// A topic that does not exist is created by asking about it.
    pub(super) auto_create: bool,
    /// How long a buffered record may be held; the same as librdkafka would have it.
    pub(super) buffered_for: Option<Duration>,
    /// Records are gathered while others are under way.
    pub(super) gathers: bool,
    /// How much longer than necessary a record may wait for its acknowledgement; zero is no bound.
    pub(super) queueing: Duration,
    /// Its token is that of one caller.
    pub(super) of_caller: bool,
    /// There may be several topics, each of which has its share of the bounds.
    pub(super) shared: bool,
}

/// A record whose outcome is to come.
pub(super) struct Pending {
    /// Who is told; nobody when they have been.
    receipt: Option<Receipt>,
    /// When they are told at the latest; `None` for one that is told when it is known, or was told already.
    deadline: Option<Instant>,
    /// When it is given up if librdkafka does not have it by then.
    until: Option<Instant>,
    topic: usize,
    bytes: usize,
    since: Instant,
    /// What the record says of its time.
    timestamp_ms: Option<i64>,
    /// librdkafka has it: its report is to come.
    handed: Option<Pass>,
    /// The client that has it, if one does.
    generation: u32,
    /// Its place among all records, as they came.
    order: u64,
    /// Whose it is, as the filter names it.
    client: u64,
    /// There were few records of its topic before it.
    lone: bool,
    /// It is on the sidecar's own disk.
    spooled: bool,
    /// Where it goes if the cluster goes away first.
    aside: Option<Arc<dyn Aside>>,
}

/// See the module.
pub(super) struct State {
    native: Arc<Native>,
    /// Counts the clients that took over from one that still worked.
    generation: u32,
    /// The client before, while it has records; and how many.
    retiring: Option<Arc<Native>>,
    left: usize,
    limits: Limits,
    metrics: ProducerMetrics,
    pub(super) pending: Slab<Pending>,
    /// Those of them that are on the sidecar's own disk.
    spooled: usize,
    pub(super) topics: Topics,
    bytes: usize,
    handed: usize,
    /// Counts the calls that bring submissions.
    call: u64,
    /// Counts the submissions.
    order: u64,
    /// The topics that have gathered records.
    gathering: Vec<usize>,
    pub(super) held: usize,
    health: Health,
    troubles: Troubles,
    fatal: Option<String>,
    /// Records are being put aside: nothing is handed over until that is done.
    diverting: bool,
    /// The brokers do not take the caller's token.
    refused: Option<Failure>,
    /// Nothing is taken on any more.
    closed: bool,
    stopped: bool,
    /// No deadline is before this.
    earliest: Option<Instant>,
    /// When the driver looks at deadlines next; `None` is when it is woken.
    next_look: Option<Instant>,
}

impl State {
    pub(super) fn new(native: Arc<Native>, limits: Limits, metrics: ProducerMetrics) -> Self {
        Self {
            native,
            generation: 0,
            retiring: None,
            left: 0,
            metrics,
            pending: Slab::new(),
            spooled: 0,
            topics: Topics::default(),
            bytes: 0,
            handed: 0,
            call: 0,
            order: 0,
            gathering: Vec::new(),
            limits,
            held: 0,
            health: Health::Unknown,
            troubles: Troubles::default(),
            fatal: None,
            diverting: false,
            refused: None,
            closed: false,
            stopped: false,
            earliest: None,
            next_look: None,
        }
    }

    pub(super) fn native(&self) -> &Arc<Native> {
        &self.native
    }

    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    pub(super) fn outstanding(&self) -> usize {
        self.pending.len()
    }

    /// Records without an outcome that are on the sidecar's own disk.
    pub(super) fn spooled(&self) -> usize {
        self.spooled
    }

    /// Records that librdkafka has.
    pub(super) fn handed(&self) -> usize {
        self.handed
    }

    pub(super) fn stopped(&self) -> bool {
        self.stopped
    }

    pub(super) fn stop(&mut self) {
        self.closed = true;
        self.stopped = true;
    }

    /// Whether the minder must be woken.
    pub(super) fn needs_minding(&self) -> bool {
        self.stopped || self.fatal.is_some() || !self.is_up() || self.topics.is_any_wanted()
    }

    /// Counts what became of changed files.
    pub(super) fn reloaded(&self, result: Reload) {
        self.metrics.reloaded(result);
    }

    /// Whether the cluster is known to answer.
    pub(super) fn is_up(&self) -> bool {
        self.health == Health::Up
    }

    /// Has the cluster asked about a topic that no record was submitted for yet.
    pub(super) fn look_up(&mut self, topic: &str) {
        let key = self.topics.key(topic, topic, &self.metrics, self.limits.queueing);
        self.topics.want(key);
    }

    /// Takes a record on, or refuses it.
    pub(super) fn submit(&mut self, submission: Submission, now: Instant, bag: &mut Bag) {
        let Submission {
            record,
            delivery,
            receipt,
            label,
            client,
            aside,
        } = submission;
        let key = self
            .topics
            .key(&record.topic, &label, &self.metrics, self.limits.queueing);
        let bytes = record.size();
        let spooled = matches!(delivery, Delivery::Spooled { .. });
        let candidate = Candidate {
            topic: key,
            bytes,
            client,
            delivery,
        };
        if let Some(Refusal { failure, shed }) = self.refusal(candidate, now) {
            let outcome = Outcome::Failed(failure);
            if let Some(topic) = self.topics.get(key).filter(|_| !spooled) {
                topic.metrics.records.count(&outcome);
                if let Some(shed) = shed {
                    topic.metrics.shed.count(shed);
                }
            }
            bag.settle(receipt, outcome);
            return;
        }
        let (receipt, deadline, until) = match delivery {
            Delivery::Acked { deadline } => (Some(receipt), Some(deadline), Some(deadline)),
            Delivery::Buffered => {
                bag.settle(receipt, Outcome::Accepted);
                (None, None, self.limits.buffered_for.map(|time| now + time))
            }
            Delivery::Tracked { held_until } | Delivery::Spooled { held_until } => {
                (Some(receipt), None, Some(held_until))
            }
        };
        let topic = key;
        self.order += 1;
        let order = self.order;
        let mut lone = false;
        if let Some(topic) = self.topics.get(topic) {
            lone = topic.pending < FEW;
            topic.pending += 1;
            topic.bytes += bytes;
            topic.clients.add(client, pace::cost(1, bytes));
            topic.metrics.bytes.inc_by(bytes as u64);
        }
        let key = self.pending.insert(Pending {
            receipt,
            deadline,
            until,
            topic,
            bytes,
            since: now,
            timestamp_ms: record.timestamp_ms,
            handed: None,
            generation: self.generation,
            order,
            client,
            lone,
            spooled,
            aside,
        });
        self.bytes += bytes;
        self.spooled += usize::from(spooled);
        self.expect_deadline(until);
        let held = Held {
            key,
            order,
            record,
            until,
        };
        let held = self.put_aside_at_once(held, now, bag);
        let held = held.and_then(|held| self.gather(topic, held, bytes, now));
        if let Some(held) = held {
            self.place(topic, held, now, bag);
        }
    }

    /// Begins a call that brings submissions.
    pub(super) fn begin(&mut self) {
        self.call += 1;
    }

    /// A delivery report.
    pub(super) fn delivered(&mut self, mut report: Report, now: Instant, bag: &mut Bag) {
        let left = self.is_left(report.opaque);
        if let Some(record) = report.again.take()
            && self.again(report.opaque, report.code, *record, now, bag)
        {
            return;
        }
        let outcome = match report.code {
            Code::NoError if self.limits.unacknowledged => Outcome::Accepted,
            Code::NoError if report.offset >= 0 => Outcome::Stored {
                partition: report.partition,
                offset: report.offset,
            },
            // Seen after a topic was deleted, and right after one was made: a broker that is not yet its leader refuses the
            // first batch and, being it a moment later, takes the second, and librdkafka takes the first for
            // acknowledged with it ("implicitly acked"). It is lost.
            Code::NoError => error::unknown("acknowledged without an offset").into(),
            code => error::of_delivery(code, report.status).into(),
        };
        let Some(pending) = self.pending.get(report.opaque) else {
            return;
        };
        if let Outcome::Failed(failure) = &outcome
            && error::class_of(report.code) == ErrorClass::UnknownTopic
            && let Some(topic) = self.topics.get(pending.topic)
        {
            tracing::debug!(topic = %topic.name, "{}: asking again", failure.message);
            topic.standing = Standing::Unknown;
        }
        if let Outcome::Stored { partition, offset } = outcome
            && self.limits.led
            && let Some(topic) = self.topics.get(pending.topic)
        {
            // Who was told that nobody knows does not rely on it.
            let counts = pending.receipt.is_some() || pending.deadline.is_none();
            let lost = topic.led.acknowledged(partition, offset, counts);
            if lost > 0 {
                topic.metrics.leader_lost.inc_by(lost);
                bag.lose_led(&topic.name, partition, lost);
            }
        }
        let topic = pending.topic;
        self.settle(report.opaque, outcome, now, bag);
        if left {
            self.release(topic, now, bag);
        }
    }

    /// Hands a record over once more that was refused for the sake of another in its batch, or that the client before gave
    /// back, and is not stored; or not, if its client was told that nobody knows, or it is too late.
    fn again(&mut self, key: usize, code: Code, mut record: Record, now: Instant, bag: &mut Bag) -> bool {
        let left = self.is_left(key);
        // A client that failed gives back what it has, too: that was settled, or is about to be.
        if code == Code::PurgeQueue && !left {
            return false;
        }
        let Some(pending) = self.pending.get_mut(key).filter(|_| !self.closed) else {
            return false;
        };
        if pending.deadline.is_some() && pending.receipt.is_none() {
            return false;
        }
        let Some(pass) = pending.handed.take() else {
            return false;
        };
        let (until, order) = (pending.until, pending.order);
        record.timestamp_ms = pending.timestamp_ms;
        self.handed -= 1;
        let place = pending.topic;
        if let Some(topic) = self.topics.get(place) {
            topic.gate.reported(pass, false, now);
            record.topic = topic.name.to_string();
        }
        self.expect_deadline(until);
        let held = Held {
            key,
            order,
            record,
            until,
        };
        if left {
            self.back(place, held, now, bag);
        } else {
            self.place(place, held, now, bag);
        }
        true
    }

    /// Has a record wait no more. The outcome is that of one that librdkafka may have had.
    fn forget(&mut self, key: usize, outcome: Option<&Outcome>, now: Instant) -> Option<Pending> {
        let pending = self.pending.try_remove(key)?;
        self.bytes = self.bytes.saturating_sub(pending.bytes);
        self.spooled -= usize::from(pending.spooled);
        let topic = self.topics.get(pending.topic)?;
        let cost = pace::cost(1, pending.bytes);
        if let (Some(pass), Some(outcome)) = (pending.handed, outcome) {
            self.handed -= 1;
            if pending.generation != self.generation {
                topic.left -= 1;
                self.left -= 1;
            }
            topic
                .gate
                .reported(pass, matches!(outcome, Outcome::Stored { .. }), now);
            let report = pace::Report {
                took: now.saturating_duration_since(pass.at),
                cost,
                answered: is_answer(outcome),
                lone: pending.lone,
            };
            topic.pace.reported(report, now);
        }
        topic.pending -= 1;
        topic.bytes -= pending.bytes;
        topic.clients.remove(pending.client, cost);
        if topic.pending == 0 {
            topic.pace.idle(now);
        }
        Some(pending)
    }

    /// Ends a pending record with `outcome`.
    fn settle(&mut self, key: usize, outcome: Outcome, now: Instant, bag: &mut Bag) {
        let Some(pending) = self.forget(key, Some(&outcome), now) else {
            return;
        };
        let Some(topic) = self.topics.get(pending.topic) else {
            return;
        };
        match pending.receipt {
            // Another attempt follows one that failed: only the last counts, and how long they took is not what a
            // client waited for.
            Some(receipt) if pending.spooled => {
                if matches!(outcome, Outcome::Stored { .. }) {
                    topic.metrics.records.count(&outcome);
                }
                bag.settle(receipt, outcome);
            }
            Some(receipt) => {
                topic.metrics.records.count(&outcome);
                topic
                    .metrics
                    .seconds
                    .observe(now.saturating_duration_since(pending.since).as_secs_f64());
                bag.settle(receipt, outcome);
            }
            None if pending.deadline.is_some() => topic.metrics.late.count(&outcome),
            None => {
                topic.metrics.records.count(&outcome);
                if let Outcome::Failed(failure) = &outcome {
                    topic.metrics.buffered_lost.count(&outcome);
                    bag.lose(&topic.name, failure);
                }
            }
        }
    }
}

/// Whether a broker said so; otherwise the client library gave up.
fn is_answer(outcome: &Outcome) -> bool {
    use ErrorClass::{ClusterUnavailable, OutcomeUnknown, SidecarUnavailable};
    match outcome {
        Outcome::Stored { .. } | Outcome::Accepted => true,
        Outcome::Failed(failure) => {
            ![ClusterUnavailable, OutcomeUnknown, SidecarUnavailable].contains(&failure.class)
        }
    }
}
