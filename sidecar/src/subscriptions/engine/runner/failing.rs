//! What becomes of events that could not be delivered.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use super::Runner;
use super::settle::Effect;
use super::state::At;
use crate::epoch::now_ms;
use crate::subscriptions::engine::backoff::{self, Failed, Verdict};
use crate::subscriptions::engine::lanes::Ticket;
use crate::subscriptions::event::Deliver;
use crate::subscriptions::spec::OnFailure;

/// The pause before a held event is read again, when that failed.
const READ_AGAIN: Duration = Duration::from_secs(1);

impl<D: Deliver> Runner<D> {
    /// Held events could not be read back: not an attempt.
    pub(super) fn read_again(&mut self, tickets: &[Ticket], why: &str) {
        self.trouble(why, None);
        let at = Instant::now() + READ_AGAIN;
        for ticket in tickets {
            self.put(*ticket, At::Queued);
        }
        for ticket in tickets {
            self.lanes.hold(*ticket);
            if self.lanes.is_held(*ticket) {
                self.hold_until(*ticket, at);
            }
        }
    }

    /// An event at the beginning of its lane, which is held, waits.
    pub(super) fn hold_until(&mut self, ticket: Ticket, at: Instant) {
        if let Some(entry) = self.entries.get_mut(&ticket) {
            if let Some(due) = entry.due.replace(at) {
                self.due.remove(&(due, ticket));
            }
            self.due.insert((at, ticket));
        }
        self.put(ticket, At::Held);
    }

    pub(super) fn failed(&mut self, ticket: Ticket, why: &str, status: Option<u16>) {
        let id = self.id_of(ticket);
        if let Some(entry) = self.entries.get_mut(&ticket) {
            entry.attempts = entry.attempts.saturating_add(1);
            why.clone_into(&mut entry.error);
            entry.status = status;
            if entry.first_failed_ms == 0 {
                entry.first_failed_ms = now_ms();
            }
        }
        self.trouble(why, Some(id));
    }

    pub(super) fn retry(
        &mut self,
        tickets: &[Ticket],
        why: &str,
        status: Option<u16>,
        after: Option<Duration>,
    ) {
        self.metrics.retried(tickets.len());
        // Of each lane the first one waits; the others are behind it again.
        let mut first = Vec::new();
        for ticket in tickets {
            self.failed(*ticket, why, status);
            if self.lanes.first(*ticket) == Some(*ticket) {
                first.push(*ticket);
            } else {
                self.put(*ticket, At::Queued);
            }
        }
        for ticket in first {
            self.lanes.only(ticket);
            let Some(entry) = self.entries.get(&ticket) else {
                continue;
            };
            let elapsed = u64::try_from(now_ms() - entry.first_failed_ms).unwrap_or_default();
            let failed = Failed {
                attempts: entry.attempts,
                elapsed: Duration::from_millis(elapsed),
                after,
            };
            match backoff::after(&self.spec.retry, failed, random(ticket)) {
                Verdict::Again(pause) => self.hold(ticket, Instant::now() + pause),
                Verdict::Exhausted(bound) => self.fail(ticket, &format!("{why}; {bound}")),
            }
        }
    }

    /// An event cannot be delivered: `on_failure` says what becomes of it.
    pub(super) fn fail(&mut self, ticket: Ticket, why: &str) {
        let id = self.id_of(ticket);
        if let Some(entry) = self.entries.get_mut(&ticket) {
            why.clone_into(&mut entry.error);
        }
        match self.spec.on_failure {
            OnFailure::Park if self.is_new_and_full(ticket) => {
                let reason = format!(
                    "{} events are held, and max_held allows no more: retry or drop parked ones, or raise it, and resume",
                    self.held_count()
                );
                self.stop_at(ticket, reason);
            }
            OnFailure::Park => self.settle(ticket, Effect::Park, None),
            OnFailure::DeadLetter { .. } => self.settle(ticket, Effect::DeadLetter, None),
            OnFailure::Skip => {
                tracing::warn!(event = id, why, "an event was skipped");
                self.metrics.skipped();
                self.settle(ticket, Effect::Finish, None);
            }
            OnFailure::Pause => self.stop_at(ticket, format!("event {id} cannot be delivered: {why}")),
        }
    }

    /// Whether an event is not in the held topic and there is no room for it.
    pub(super) fn is_new_and_full(&self, ticket: Ticket) -> bool {
        let new = self
            .entries
            .get(&ticket)
            .is_some_and(|entry| entry.held.is_none());
        new && self.held_count() >= self.spec.max_held
    }

    /// Nothing more is delivered, until somebody resumes the subscription; the event then goes again.
    pub(super) fn stop_at(&mut self, ticket: Ticket, reason: String) {
        if self.is_leaving(ticket) {
            // The next one who has its partition will see for itself.
            return self.leave_behind(ticket);
        }
        tracing::error!(subscription = &*self.id, reason, "the subscription is paused");
        self.put(ticket, At::Held);
        self.lanes.hold(ticket);
        self.stopped.insert(ticket);
        self.paused.get_or_insert(reason);
        self.report();
    }
}

/// From 0 to 1. It need not be hard to guess.
fn random(of: u64) -> f64 {
    let bits = RandomState::new().hash_one(of) >> 40;
    f64::from(u32::try_from(bits).unwrap_or_default()) / f64::from(1_u32 << 24)
}
