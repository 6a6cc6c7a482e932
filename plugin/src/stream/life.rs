//! How streams begin, drain and end.

use prost::Message as _;
use sluice_proto::v1::{ProduceRequest, Record};

use super::outcome::{CLOSED_SENT, CLOSED_UNSENT, UNREACHABLE};
use super::slots::Place;
use super::{Effects, Failed, HEALTHY_US, MAX_DRAINING, Outcome, State, Stream, Token};

impl<T> Stream<T> {
    /// The sidecar takes no more records on `stream`.
    pub(super) fn drain(&mut self, stream: Token, now_us: u64, effects: &mut impl Effects<T>) {
        if self.current() != Some(stream) {
            return;
        }
        self.draining.push(stream);
        if self.draining.len() > MAX_DRAINING {
            let oldest = self.draining.remove(0);
            effects.cancel(oldest);
            self.fail_sent(oldest, CLOSED_SENT, effects);
        }
        // A sidecar that drains every stream it is offered must not be offered one after the other.
        if self.was_healthy(now_us) {
            self.open(now_us, effects);
        } else {
            self.fail_open(now_us, effects);
        }
    }

    /// Ends the streams that drained and owe nothing more.
    pub(super) fn retire(&mut self, effects: &mut impl Effects<T>) {
        let slots = &self.slots;
        self.draining.retain(|token| {
            let owes = slots.any_sent_on(*token);
            if !owes {
                effects.close(*token);
            }
            owes
        });
    }

    pub(super) fn open(&mut self, now_us: u64, effects: &mut impl Effects<T>) {
        match effects.open() {
            Some(token) => {
                let since_us = now_us;
                self.state = State::Opening { token, since_us };
            }
            None => self.fail_open(now_us, effects),
        }
    }

    /// Whether the current stream did any good, so that another may be opened at once.
    pub(super) fn was_healthy(&self, now_us: u64) -> bool {
        match self.state {
            State::Open { since_us, fates, .. } => fates || now_us.saturating_sub(since_us) >= HEALTHY_US,
            _ => false,
        }
    }

    /// There is no stream, and there will be none for a while.
    pub(super) fn fail_open(&mut self, now_us: u64, effects: &mut impl Effects<T>) {
        let retry_us = now_us.saturating_add(self.backoff.next_us());
        self.state = State::Closed { retry_us };
        self.fail_gathered(UNREACHABLE, effects);
    }

    /// `stream`, which is one of ours, is no more.
    pub(super) fn lost(&mut self, stream: Token, sent: Failed, now_us: u64, effects: &mut impl Effects<T>) {
        if self.current() != Some(stream) {
            self.draining.retain(|token| *token != stream);
            self.fail_sent(stream, sent, effects);
        } else if self.is_open() {
            let healthy = self.was_healthy(now_us);
            let wait_us = if healthy { 0 } else { self.backoff.next_us() };
            let retry_us = now_us.saturating_add(wait_us);
            self.state = State::Closed { retry_us };
            self.fail_sent(stream, sent, effects);
            self.fail_gathered(CLOSED_UNSENT, effects);
        } else {
            self.fail_open(now_us, effects);
        }
        self.quicken();
    }

    /// Tells the sidecar, on the streams that they went on, which records nobody waits for any more.
    #[cold]
    pub(super) fn withdraw(&mut self, now_us: u64, effects: &mut impl Effects<T>) {
        let mut rest = std::mem::take(&mut self.withdrawn);
        while let Some((_, token)) = rest.first().copied() {
            let (now, later) = rest
                .into_iter()
                .partition::<Vec<_>, _>(|(_, other)| *other == token);
            rest = later;
            // Those whose fates came meanwhile are nothing to the sidecar any more.
            let owed = now
                .into_iter()
                .filter(|(id, _)| self.slots.place(*id) == Some(Place::Sent(token)));
            let records: Vec<_> = owed
                .map(|(id, _)| Record {
                    id,
                    withdrawn: true,
                    ..Record::default()
                })
                .collect();
            if records.is_empty() || !self.has(token) {
                continue;
            }
            let message = ProduceRequest { records }.encode_to_vec();
            if !effects.send(token, &message, 0) {
                effects.cancel(token);
                self.lost(token, CLOSED_SENT, now_us, effects);
            }
        }
    }

    pub(super) fn fail_sent(&mut self, stream: Token, failed: Failed, effects: &mut impl Effects<T>) {
        for owner in self.slots.remove_sent_on(stream) {
            effects.answer(owner, Outcome::Failed(failed));
        }
    }

    pub(super) fn fail_gathered(&mut self, failed: Failed, effects: &mut impl Effects<T>) {
        for id in self.gather.take_ids() {
            if let Some(owner) = self.slots.remove(id) {
                effects.answer(owner, Outcome::Failed(failed));
            }
        }
    }
}
