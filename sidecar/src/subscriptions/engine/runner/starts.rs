//! A workflow is started by one event of its key.

use std::sync::Arc;

use bytes::Bytes;

use super::settle::Effect;
use super::{Runner, Starts, Step};
use crate::epoch::now_ms;
use crate::subscriptions::engine::lanes::Ticket;
use crate::subscriptions::engine::outlet::Outlet;
use crate::subscriptions::engine::runs::{May, Note};
use crate::subscriptions::event::Deliver;

/// How many are removed at once of those that have had their time.
const AT_ONCE: usize = 200;

/// What is to be noted before the handler is called.
pub(super) struct Start {
    starts: Starts,
    partition: i32,
    key: Bytes,
    note: Note,
}

impl Start {
    /// Notes it.
    ///
    /// # Errors
    /// It is not stored: the workflow is not to be started yet.
    pub(super) async fn note(&self, outlet: &Outlet) -> Result<(), String> {
        let Starts { service, runs } = &self.starts;
        outlet
            .start(service, self.partition, &self.key, Some(&self.note))
            .await?;
        runs.started(self.partition, &self.key, &self.note);
        Ok(())
    }

    /// The handler was not called, and will not be: another event may start the workflow.
    pub(super) async fn undo(&self, outlet: &Outlet) {
        let Starts { service, runs } = &self.starts;
        match outlet.start(service, self.partition, &self.key, None).await {
            Ok(()) => runs.forget(self.partition, &self.key),
            Err(why) => {
                tracing::error!(
                    event = self.note.event,
                    why,
                    "a workflow counts as started that was not"
                );
            }
        }
    }
}

impl<D: Deliver> Runner<D> {
    /// Whether an event may go, and what is to be noted before. One that may not is seen to.
    pub(super) fn may_start(&mut self, tickets: &[Ticket]) -> Option<Option<Start>> {
        let (Some(starts), [ticket]) = (self.starts.clone(), tickets) else {
            return Some(None);
        };
        let ticket = *ticket;
        let entry = self.entries.get(&ticket);
        let part = entry.and_then(|entry| self.parts.get(&entry.part));
        let Some((key, partition)) = entry.and_then(|entry| entry.key.clone()).zip(part) else {
            // Without a key it is no workflow's, and the sink refuses it.
            return Some(None);
        };
        let (event, partition, now) = (self.id_of(ticket), partition.partition, now_ms());
        match starts.runs.may(partition, &key, &event, now) {
            May::Again => Some(None),
            May::Start => {
                let retention = i64::try_from(self.spec.workflow_retention.as_millis());
                let note = Note {
                    event,
                    started_ms: now,
                    until_ms: now.saturating_add(retention.unwrap_or(i64::MAX)),
                };
                Some(Some(Start {
                    starts,
                    partition,
                    key,
                    note,
                }))
            }
            May::Not => {
                tracing::info!(
                    event,
                    "skipped: another event has started the workflow of its key"
                );
                self.metrics.already_started();
                self.settle(ticket, Effect::Finish, None);
                None
            }
            May::Wait(why) => {
                self.leave_key(ticket);
                self.read_again(tickets, &why);
                None
            }
        }
    }

    /// The subscription has a partition: what was started of it is known from now on.
    pub(super) fn enter_runs(&self, partition: i32) {
        if let Some(starts) = &self.starts {
            starts.runs.enter(partition);
        }
    }

    /// It has a partition no more.
    pub(super) fn leave_runs(&self, partition: i32) {
        if let Some(starts) = &self.starts {
            starts.runs.leave(partition);
        }
    }

    /// Removes what is known of workflows, once it has had its time.
    pub(super) fn remove_old(&mut self) {
        let Some(Starts { service, runs }) = self.starts.clone().filter(|_| !self.removing) else {
            return;
        };
        let over = runs.over(now_ms(), AT_ONCE);
        if over.is_empty() {
            return;
        }
        self.removing = true;
        let outlet = Arc::clone(&self.outlet);
        // Not a step of the runner's, which may end: what was begun is ended.
        let removing = tokio::spawn(async move {
            let mut failed = None;
            for (partition, key) in over {
                match outlet.start(&service, partition, &key, None).await {
                    Ok(()) => runs.forget(partition, &key),
                    Err(why) => {
                        runs.stays(partition, &key);
                        failed = Some(why);
                    }
                }
            }
            failed
        });
        self.steps
            .spawn(async move { Step::Removed(removing.await.unwrap_or_default()) });
    }

    pub(super) fn removed(&mut self, why: Option<String>) {
        self.removing = false;
        if let Some(why) = why {
            self.trouble(&why, None);
        }
    }
}
