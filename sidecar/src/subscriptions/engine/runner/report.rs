//! What is committed, and what is told.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::Runner;
use super::Step;
use super::state::{At, Part, Phase};
use crate::epoch::now_ms;
use crate::kafka::group;
use crate::subscriptions::engine::progress::Progresses;
use crate::subscriptions::event::Deliver;
use crate::subscriptions::running::{Partition, State, Status, Trouble};

/// How a subscription is: written by its task, read by everybody.
pub(in super::super) struct Board(Mutex<Status>);

impl Board {
    /// Of a subscription that has not begun.
    pub(in super::super) fn new(group: &str) -> Self {
        Self(Mutex::new(Status {
            state: State::Starting,
            group: group.to_owned(),
            partitions: Vec::new(),
            in_flight: 0,
            retrying: 0,
            waiting: 0,
            parked: 0,
            already_started: 0,
            circuit: None,
            last_error: None,
            restarts: 0,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it is.
    pub(in super::super) fn status(&self) -> Status {
        self.lock().clone()
    }

    /// It does something else now.
    pub(in super::super) fn set(&self, state: State) {
        self.lock().state = state;
    }

    /// Its task ended by itself, and begins anew: nothing of what it had is left.
    pub(in super::super) fn restarted(&self, state: State, error: &str) {
        self.trouble(error, None);
        let mut status = self.lock();
        status.state = state;
        status.partitions.clear();
        status.in_flight = 0;
        status.restarts += 1;
    }

    /// Something went wrong; `event` is the id of the event that it was about.
    pub(super) fn trouble(&self, error: &str, event: Option<String>) {
        tracing::debug!(event, error, "a subscription has trouble");
        self.lock().last_error = Some(Trouble {
            at_ms: now_ms(),
            error: error.to_owned(),
            event,
        });
    }
}

impl<D: Deliver> Runner<D> {
    /// Something went wrong.
    pub(super) fn trouble(&self, error: &str, event: Option<String>) {
        self.board.trouble(error, event);
    }

    /// The member has joined its group.
    pub(super) fn joined(&mut self) {
        self.joined = true;
        self.report();
    }

    /// What is to be committed.
    pub(super) fn progress(&self) -> Progresses {
        self.parts.values().filter_map(Part::to_commit).collect()
    }

    /// Commits what has moved, one commit at a time: of two either may be the last.
    pub(super) fn commit(&mut self) {
        if self.committing {
            return;
        }
        let progress = self.progress();
        if progress.is_empty() {
            return;
        }
        self.committing = true;
        let member = Arc::clone(&self.member);
        self.steps.spawn(async move {
            let done = member.commit(&progress).await;
            Step::Committed(progress, done.err())
        });
    }

    /// A commit ended. What Kafka did not take, or did not answer, is committed again by the next one.
    pub(super) fn committed(&mut self, progress: Progresses, error: Option<group::Error>) {
        self.committing = false;
        if let Some(error) = error {
            return self.trouble(&error.to_string(), None);
        }
        for (key, progress) in progress {
            if let Some(part) = self
                .by_name
                .get(&key)
                .and_then(|number| self.parts.get_mut(number))
                && part.phase == Phase::Active
            {
                part.committed = Some(progress);
            }
        }
    }

    /// The commit of partitions that go to another member ended.
    pub(super) fn closed(&mut self, error: Option<group::Error>) {
        self.handing_over = self.handing_over.saturating_sub(1);
        if let Some(error) = error {
            self.trouble(&error.to_string(), None);
        }
    }

    /// Tells how it is.
    pub(super) fn report(&self) {
        let mut partitions: Vec<Partition> = self
            .parts
            .values()
            .map(|part| {
                let position = part.prefix.position();
                Partition {
                    topic: part.topic.to_string(),
                    partition: part.partition,
                    position,
                    committed: part.committed.as_ref().map(|progress| progress.position),
                    end: part.end,
                    lag: part
                        .end
                        .zip(position)
                        .map(|(end, position)| (end - position).max(0)),
                    buffered: part.buffered,
                    paused: part.paused,
                }
            })
            .collect();
        partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        let (mut retrying, mut waiting, mut parked) = (0, 0, 0);
        for entry in self.entries.values() {
            match entry.at {
                At::Parked => parked += 1,
                At::Held => retrying += 1,
                _ if entry.held.is_some() && entry.attempts == 0 => waiting += 1,
                _ => {}
            }
        }
        self.metrics.held(retrying, waiting, parked);
        self.metrics
            .lag(partitions.iter().filter_map(|part| part.lag).sum());
        self.metrics.partitions(partitions.len());
        let now = Instant::now();
        let mut status = self.board.lock();
        status.state = match &self.paused {
            _ if self.draining => State::Stopping,
            Some(reason) => State::Paused {
                reason: reason.clone(),
            },
            None if !self.joined => State::Starting,
            None => State::Running,
        };
        status.partitions = partitions;
        status.in_flight = self.requests.len();
        status.retrying = retrying;
        status.waiting = waiting;
        status.parked = parked;
        status.already_started = self.metrics.were_started();
        status.circuit = self.target.circuit(now);
    }
}
