//! What happens because time goes by: runs that take too long, timers, runs that are forgotten, and telling what was left.
//!
//! Every sidecar does it, and whoever is first has done it: the others' changes are refused.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use super::item::Status;
use super::org::Org;
use super::runs::run_id;
use super::store::key;
use super::{Actions, automation, port};
use crate::epoch::now_ms;
use crate::json_api::Error;

/// How often it is looked.
const TICK: Duration = Duration::from_secs(1);
/// After how many ticks it is looked for what was left to be told.
const LEFT: u64 = 5;
/// How often it is looked for what may be forgotten.
const FORGET: Duration = Duration::from_secs(60);
/// How many runs are forgotten at once.
const FORGOTTEN_AT_ONCE: usize = 16;
/// How many lines of a log are read at a time.
const LINES: usize = 1_000;

impl Actions {
    /// Looks at the clock for as long as it is polled.
    pub(super) async fn clock(&self) {
        tokio::join!(self.ticking(), self.forgetting());
    }

    async fn ticking(&self) {
        self.store.ready().await;
        let mut ticks = HashMap::new();
        let mut interval = tokio::time::interval(TICK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for turn in 0_u64.. {
            interval.tick().await;
            if self.store.known().is_err() {
                continue;
            }
            self.time_out().await;
            for org in self.settings.orgs.values() {
                self.timers(org, &mut ticks).await;
            }
            if turn % LEFT == 0 {
                self.tell_what_was_left();
            }
        }
    }

    /// Ends runs that have taken too long.
    async fn time_out(&self) {
        let now = now_ms();
        for row in self.store.overdue(now) {
            let Some((org, _, id)) = key::parts(&row) else {
                continue;
            };
            let Some(org) = self.settings.orgs.get(org) else {
                continue;
            };
            let Some(held) = self.store.run_of(&org.id, id) else {
                continue;
            };
            let trigger = port::trigger(org, None, "SLUICE", now);
            let ended = self.change_run(org, id, &trigger, held, |run, _| {
                if run.status != Status::InProgress {
                    return Ok(false);
                }
                let took = Duration::from_millis(u64::try_from(run.timeout_ms).unwrap_or_default());
                let took = humantime::format_duration(took);
                run.status = Status::Failure;
                run.told.status_label = Some("Timed out".to_owned());
                run.told.summary = Some(format!("nobody finished it within {took}"));
                Ok(true)
            });
            match ended.await {
                Ok(_) => self.metrics.timed_out(&org.id),
                // Somebody else did, or it has gone on.
                Err(Error::Conflict(_)) => {}
                Err(error) => {
                    tracing::warn!(org = org.id, run = id, %error, "a run that takes too long cannot be ended")
                }
            }
        }
    }

    /// Starts the automations whose time has come. `ticks` has when each came last.
    async fn timers(&self, org: &Arc<Org>, ticks: &mut HashMap<String, i64>) {
        let now = now_ms();
        for action in self.automations(org) {
            let Some(every) = automation::every(&action) else {
                continue;
            };
            let at_ms = now - now.rem_euclid(every.max(1));
            let name = format!("{}/{}/{every}", org.id, action.identifier);
            let before = ticks.insert(name.clone(), at_ms);
            // What was due before this sidecar knew of it is another's to start.
            if before.is_none_or(|before| before == at_ms) {
                continue;
            }
            let cause = format!("{name}/{at_ms}");
            let Ok(id) = run_id(at_ms, Some(&automation::id(&action.identifier, &cause))) else {
                continue;
            };
            let event = json!({
                "action": "TIMER", "resourceType": "timer", "id": cause, "context": {}, "diff": null,
                "trigger": port::trigger(org, None, "TIMER", at_ms),
            });
            let holds = match automation::condition(&action) {
                None => Ok(true),
                Some(condition) => self.expressions.holds(condition, &event).await,
            };
            match holds {
                Ok(true) => {
                    let started = self
                        .start_automation(org, &action, &id, at_ms, (None, event, 1))
                        .await;
                    if started.is_err() {
                        // It is tried again at the next tick of the clock.
                        ticks.insert(name, before.unwrap_or_default());
                    }
                }
                Ok(false) => {}
                Err(why) => {
                    tracing::warn!(
                        org = org.id,
                        automation = action.identifier,
                        why,
                        "a condition fails, and does not hold"
                    );
                    self.metrics.automation_failed(&org.id);
                }
            }
        }
    }

    /// Looks for runs that ended long ago for as long as it is polled: there may be many, and what takes too long does not wait for it.
    async fn forgetting(&self) {
        self.store.ready().await;
        let mut interval = tokio::time::interval(FORGET);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            if self.store.known().is_err() {
                continue;
            }
            for org in self.settings.orgs.values() {
                self.forget(org).await;
            }
        }
    }

    /// Deletes all runs of an organisation that ended long ago, and their logs.
    async fn forget(&self, org: &Org) {
        let retention = i64::try_from(org.retention.as_millis()).unwrap_or(i64::MAX);
        let until = now_ms().saturating_sub(retention);
        let mut from: Option<Arc<str>> = None;
        loop {
            let (rows, next) = self.store.ended_before(&org.id, until, from.as_deref());
            let forgotten = stream::iter(rows).map(Ok).try_for_each_concurrent(FORGOTTEN_AT_ONCE, async |row| {
                let Some((_, _, id)) = key::parts(&row.key) else {
                    return Ok(());
                };
                let forgotten = self.forget_run(org, id, row.version).await;
                forgotten.inspect_err(|error| {
                    tracing::warn!(org = org.id, run = id, %error, "a run that ended long ago cannot be deleted");
                })
            });
            if forgotten.await.is_err() {
                return;
            }
            match next {
                Some(next) => from = Some(next),
                None => return,
            }
        }
    }

    async fn forget_run(&self, org: &Org, id: &str, version: u64) -> Result<(), Error> {
        for number in 0..self.store.next_line(&org.id, id) {
            let row = key::line(&org.id, id, number);
            if let Some(held) = self.store.row(&row) {
                ignore_conflict(self.store.delete(&row, held.version).await)?;
            }
            if number % LINES == 0 {
                tokio::task::yield_now().await;
            }
        }
        ignore_conflict(self.store.delete(&key::run(&org.id, id), version).await)
    }
}

/// Another sidecar was first.
fn ignore_conflict(done: Result<(), Error>) -> Result<(), Error> {
    match done {
        Err(Error::Conflict(_)) => Ok(()),
        done => done,
    }
}
