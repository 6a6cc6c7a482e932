//! What goes to the handler when, and what its answers mean.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;

use super::settle::Effect;
use super::starts::Start;
use super::state::At;
use super::{Delivered, Request, Runner, Step};
use crate::kafka::reader::Record;
use crate::subscriptions::engine::lanes::Ticket;
use crate::subscriptions::engine::outlet::Outlet;
use crate::subscriptions::engine::target::{May, Pass};
use crate::subscriptions::event::{Deliver, Event, Outcome};

/// Why an event is parked whose record is gone.
const GONE: &str = "its record is there no more, neither where it is held nor where it is from: it cannot be delivered, and is \
                    parked until it is dropped";

/// An event, and where to read it if it is not in memory.
struct Wanted {
    id: String,
    record: Option<Arc<Record>>,
    held: Option<i64>,
    attempts: u32,
}

impl<D: Deliver> Runner<D> {
    /// Lets go what is due.
    pub(super) fn release_due(&mut self) {
        let now = Instant::now();
        while let Some((at, ticket)) = self.due.first().copied()
            && at <= now
        {
            self.due.pop_first();
            if let Some(entry) = self.entries.get_mut(&ticket) {
                entry.due = None;
            }
            if self
                .entries
                .get(&ticket)
                .is_some_and(|entry| entry.at == At::Held)
            {
                self.put(ticket, At::Queued);
                self.lanes.release(ticket);
            }
        }
    }

    /// Begins as many requests as may be.
    pub(super) fn dispatch(&mut self) {
        if self.paused.is_some() || self.draining {
            return self.pass();
        }
        while self.lanes.ready() > 0 {
            let now = Instant::now();
            let most = self.spec.concurrency;
            let events = match self.target.may(now, self.requests.len(), most) {
                May::Go(events) => events,
                May::Rest(again) => {
                    if self.requests.len() < most {
                        self.pass();
                    }
                    if let Some(at) = again {
                        self.wake_at(at);
                    }
                    return;
                }
                May::Slow(at) => {
                    self.pass();
                    return self.wake_at(at);
                }
            };
            let size = match self.spec.batch {
                None => 1,
                Some(batch) => {
                    if self.lanes.gatherable(batch.max_records) < batch.max_records {
                        let full = *self.gathering.get_or_insert(now) + batch.max_wait;
                        if now < full {
                            return self.wake_at(full);
                        }
                    }
                    self.gathering = None;
                    batch.max_records
                }
            };
            let alone = |ticket| {
                let entry = self.entries.get(&ticket);
                entry.is_none_or(|entry| {
                    entry.alone || entry.attempts > 0 || matches!(entry.at, At::Spilling { .. })
                })
            };
            let tickets = self.lanes.next(size.min(events), alone);
            let spilling = tickets.first().filter(|ticket| {
                self.entries
                    .get(ticket)
                    .is_some_and(|entry| matches!(entry.at, At::Spilling { .. }))
            });
            match spilling.copied() {
                // It goes when it is written: else what says that it is held could come after what says that it is not.
                Some(ticket) => self.put(ticket, At::Spilling { wanted: true }),
                None if self.enter(&tickets) => {
                    if let Some(start) = self.may_start(&tickets) {
                        self.begin(tickets, start, now);
                    }
                }
                // It has its turn with its key once those have had theirs that are there or waited before.
                None => {}
            }
        }
        self.gathering = None;
    }

    /// Whether events have their keys to themselves. They go in a request of their own where that matters: no batch has the URL
    /// of an object.
    fn enter(&mut self, tickets: &[Ticket]) -> bool {
        let Some(turns) = &mut self.turns else {
            return true;
        };
        let mut all = true;
        for ticket in tickets {
            let key = self.entries.get(ticket).and_then(|entry| entry.key.as_ref());
            // Without a key it is not an object's, and the sink refuses it.
            all &= key.is_none_or(|key| turns.enter(*ticket, key));
        }
        if !all {
            for ticket in tickets {
                self.lanes.hold(*ticket);
            }
        }
        all
    }

    /// Others may have their turn with the keys that it is ours with: nothing goes for now.
    fn pass(&mut self) {
        if let Some(turns) = &mut self.turns {
            turns.pass();
        }
    }

    /// An event is not with the handler, and does not wait to be.
    pub(super) fn leave_key(&mut self, ticket: Ticket) {
        if let Some(turns) = &mut self.turns {
            turns.leave(ticket);
        }
    }

    fn begin(&mut self, tickets: Vec<Ticket>, start: Option<Start>, now: Instant) {
        let wanted: Vec<Wanted> = tickets
            .iter()
            .filter_map(|ticket| {
                let entry = self.entries.get(ticket)?;
                Some(Wanted {
                    id: self.id_of(*ticket),
                    record: entry.record.clone(),
                    held: entry.held,
                    attempts: entry.attempts,
                })
            })
            .collect();
        for ticket in &tickets {
            self.put(*ticket, At::Delivering);
        }
        let pass = self.target.sent(now, tickets.len());
        let number = self.number();
        let (sink, outlet, id) = (
            Arc::clone(&self.sink),
            Arc::clone(&self.outlet),
            Arc::clone(&self.id),
        );
        let task = self.steps.spawn(async move {
            let delivered = deliver(&*sink, &outlet, &id, wanted, start).await;
            Step::Delivered(number, delivered)
        });
        self.requests.insert(number, Request { tickets, task, pass });
        self.metrics.in_flight(self.requests.len());
    }

    /// Gives up a request: its events go again, unless somebody else sees to them.
    pub(super) fn give_up(&mut self, request: u64) {
        let Some(Request { tickets, task, .. }) = self.requests.remove(&request) else {
            return;
        };
        task.abort();
        for ticket in &tickets {
            self.leave_key(*ticket);
        }
        self.metrics.abandoned(tickets.len());
        self.give_back(&tickets);
    }

    /// Events of a request are to go again.
    fn give_back(&mut self, tickets: &[Ticket]) {
        for ticket in tickets {
            self.put(*ticket, At::Queued);
        }
        for ticket in tickets {
            self.lanes.again(*ticket);
        }
    }

    fn came_back(&self, pass: Option<Pass>, well: Option<bool>) {
        if pass.is_some_and(|pass| pass.came_back(Instant::now(), well)) {
            tracing::warn!(
                subscription = &*self.id,
                "the handler failed too often: it is left alone for circuit_breaker.open_for"
            );
        }
    }

    /// A request ended.
    pub(super) fn delivered(&mut self, request: u64, delivered: Delivered) {
        let Some(Request { tickets, pass, .. }) = self.requests.remove(&request) else {
            return;
        };
        self.metrics.in_flight(self.requests.len());
        for ticket in &tickets {
            self.leave_key(*ticket);
        }
        let outcome = match delivered {
            Delivered::Asked(outcome, took) => {
                self.metrics.took(took);
                outcome
            }
            Delivered::NotRead(why) => {
                return self.read_again(&tickets, &why);
            }
            Delivered::Gone => {
                if tickets.len() > 1 {
                    return self.one_by_one(&tickets);
                }
                // Never finished without a word, whatever on_failure says: there is nothing to make a dead letter of.
                for ticket in tickets {
                    if let Some(entry) = self.entries.get_mut(&ticket) {
                        GONE.clone_into(&mut entry.error);
                    }
                    let id = self.id_of(ticket);
                    tracing::error!(event = id, "{GONE}");
                    self.trouble(GONE, Some(id));
                    self.settle(ticket, Effect::Park, None);
                }
                return;
            }
        };
        let well = match &outcome {
            // An answer that is passed on may be one of a handler that is not well.
            Outcome::Done { reply } => Some(reply.as_ref().is_none_or(|reply| reply.status < 500)),
            Outcome::Dropped => Some(true),
            Outcome::Retry { status, .. } => Some(status.is_some_and(|status| status < 500)),
            Outcome::Poison { status, .. } => status.map(|_| true),
        };
        self.came_back(pass, well);
        match outcome {
            Outcome::Done { reply } => {
                self.metrics.delivered(tickets.len());
                for ticket in tickets {
                    match &reply {
                        Some(reply) if self.spec.replies() => {
                            self.settle(ticket, Effect::Reply, Some(reply.clone()));
                        }
                        _ => self.settle(ticket, Effect::Finish, None),
                    }
                }
            }
            Outcome::Dropped => {
                for ticket in tickets {
                    self.metrics.dropped();
                    self.settle(ticket, Effect::Finish, None);
                }
            }
            Outcome::Retry { why, status, after } => self.retry(&tickets, &why, status, after),
            Outcome::Poison { .. } if tickets.len() > 1 => self.one_by_one(&tickets),
            Outcome::Poison { why, status } => {
                for ticket in tickets {
                    self.failed(ticket, &why, status);
                    self.fail(ticket, &why);
                }
            }
        }
    }

    /// Which event of a request is to blame is known when each goes by itself.
    fn one_by_one(&mut self, tickets: &[Ticket]) {
        for ticket in tickets {
            if let Some(entry) = self.entries.get_mut(ticket) {
                entry.alone = true;
            }
        }
        self.give_back(tickets);
    }
}

async fn deliver<D: Deliver>(
    sink: &D,
    outlet: &Outlet,
    id: &Arc<str>,
    wanted: Vec<Wanted>,
    start: Option<Start>,
) -> Delivered {
    let mut events = Vec::with_capacity(wanted.len());
    for one in wanted {
        let record = match (one.record, one.held) {
            (Some(record), _) => record,
            (None, Some(at)) => match outlet.fetch(&one.id, at).await {
                Ok(record) => Arc::new(record),
                Err(Some(why)) => return Delivered::NotRead(why),
                Err(None) => return Delivered::Gone,
            },
            (None, None) => return Delivered::Gone,
        };
        events.push(Event {
            subscription: Arc::clone(id),
            record,
            attempts: one.attempts,
        });
    }
    if let Some(start) = &start
        && let Err(why) = start.note(outlet).await
    {
        return Delivered::NotRead(why);
    }
    let started = Instant::now();
    // A sink that panics over an event would do so again: the others must not suffer.
    let outcome = AssertUnwindSafe(sink.deliver(&events)).catch_unwind().await;
    let outcome = outcome.unwrap_or_else(|_| Outcome::Poison {
        why: "handing it over failed within the sidecar: this is a defect".to_owned(),
        status: None,
    });
    let took = started.elapsed();
    if let Some(start) = &start
        && matches!(outcome, Outcome::Poison { status: None, .. })
    {
        // Nothing was sent: it is no request.
        start.undo(outlet).await;
    }
    Delivered::Asked(outcome, took)
}
