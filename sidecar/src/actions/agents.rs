//! Runs for agents that ask for them, instead of reading them from Kafka.

use std::time::Duration;

use serde_json::Value;

use super::access::Caller;
use super::item::{Claim, Item, Run, Status};
use super::org::Grant;
use super::reports::text;
use super::store::key;
use super::{Actions, port};
use crate::epoch::now_ms;
use crate::json_api::{Error, nothing_else};

/// How long a run may be claimed by an agent that has not said that it has it.
const CLAIMED: Duration = Duration::from_secs(60);
/// The most runs that an agent gets at once.
const MAX_CLAIMED: usize = 100;

impl Actions {
    /// Gives an agent runs that nobody has: each to one agent at a time.
    pub(super) async fn claim(&self, caller: &Caller, body: Value) -> Result<Vec<Value>, Error> {
        caller.check(Grant::Report)?;
        self.store.catch_up().await?;
        let mut fields = crate::json_api::object(body)?;
        let by = text(&mut fields, "installationId")?;
        let by = by.ok_or_else(|| Error::field("installationId", "is required: whose the runs are to be"))?;
        let method = text(&mut fields, "invocationMethod")?;
        let limit = match fields.remove("limit") {
            None => MAX_CLAIMED,
            Some(limit) => limit
                .as_u64()
                .and_then(|limit| usize::try_from(limit).ok())
                .filter(|limit| (1..=MAX_CLAIMED).contains(limit))
                .ok_or_else(|| Error::field("limit", format!("must be from 1 to {MAX_CLAIMED}")))?,
        };
        nothing_else(&fields, &["installationId", "limit", "invocationMethod"])?;
        let org = &caller.org;
        let mut claimed = Vec::new();
        for row in self.store.open(&org.id) {
            if claimed.len() == limit {
                break;
            }
            let Some((_, _, id)) = key::parts(&row) else {
                continue;
            };
            let Some(held) = self.store.run_of(&org.id, id) else {
                continue;
            };
            let at_ms = now_ms();
            if !is_free(&held.value, method.as_deref(), at_ms)
                || !caller.may(Grant::Report, &held.value.action)
            {
                continue;
            }
            let mut run = held.value;
            take(&mut run, &by, at_ms);
            match self
                .store
                .put(&row, held.version, &Item::Run(Box::new(run.clone())))
                .await
            {
                Ok(_) => {}
                // It is another's, or goes on.
                Err(Error::Conflict(_)) => continue,
                Err(error) if claimed.is_empty() => return Err(error),
                Err(_) => break,
            }
            let body = port::unsigned(id, &run, port::payload(&run));
            let mut payload = run.invocation_method.clone();
            payload.insert("body".to_owned(), body);
            claimed.push(serde_json::json!({"id": id, "payload": payload}));
        }
        Ok(claimed)
    }

    /// Notes that an agent has runs which it claimed: how many of them.
    pub(super) async fn ack(&self, caller: &Caller, body: Value) -> Result<usize, Error> {
        caller.check(Grant::Report)?;
        self.store.catch_up().await?;
        let mut fields = crate::json_api::object(body)?;
        let ids: Vec<String> = fields
            .remove("runIds")
            .and_then(|ids| serde_json::from_value(ids).ok())
            .ok_or_else(|| Error::field("runIds", "is required: a list of texts"))?;
        nothing_else(&fields, &["runIds"])?;
        let mut acked = 0;
        for id in ids.iter().take(MAX_CLAIMED) {
            let Some(held) = self.store.run_of(&caller.org.id, id) else {
                continue;
            };
            let mut run = held.value;
            if !keep(&mut run) || !caller.may(Grant::Report, &run.action) {
                continue;
            }
            match self
                .store
                .put(
                    &key::run(&caller.org.id, id),
                    held.version,
                    &Item::Run(Box::new(run)),
                )
                .await
            {
                Ok(_) => acked += 1,
                Err(Error::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(acked)
    }
}

/// Whether an agent may have it.
fn is_free(run: &Run, method: Option<&str>, at_ms: i64) -> bool {
    let says = |name: &str| run.invocation_method.get(name);
    run.status == Status::InProgress
        && says("agent") == Some(&Value::Bool(true))
        && method.is_none_or(|method| says("type").is_some_and(|kind| kind == method))
        && run
            .claim
            .as_ref()
            .is_none_or(|claim| !claim.acked && claim.until_ms <= at_ms)
}

/// An agent has it from `at_ms` on, for as long as it may say nothing.
fn take(run: &mut Run, by: &str, at_ms: i64) {
    run.claim = Some(Claim {
        by: by.to_owned(),
        until_ms: at_ms.saturating_add(i64::try_from(CLAIMED.as_millis()).unwrap_or(i64::MAX)),
        acked: false,
    });
}

/// The agent that has it says so: nobody else gets it any more. Whether nobody had said so yet.
fn keep(run: &mut Run) -> bool {
    match run.claim.as_mut().filter(|claim| !claim.acked) {
        Some(claim) => {
            claim.acked = true;
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::tests::run;

    /// A run that an agent may have.
    fn for_agents() -> Run {
        let mut run = run();
        run.status = Status::InProgress;
        run.invocation_method.insert("agent".to_owned(), true.into());
        run
    }

    #[test]
    fn a_claim_that_is_not_acknowledged_is_over_after_a_minute() {
        let (start, minute) = (1_700_000_000_000, 60_000);
        let mut run = for_agents();
        assert!(is_free(&run, None, start));
        take(&mut run, "one", start);
        assert!(!is_free(&run, None, start) && !is_free(&run, None, start + minute - 1));
        assert!(is_free(&run, None, start + minute));
        // Another agent has its own minute.
        take(&mut run, "two", start + minute);
        assert_eq!(run.claim.as_ref().map(|claim| claim.by.as_str()), Some("two"));
        assert!(!is_free(&run, None, start + 2 * minute - 1));
        assert!(is_free(&run, None, start + 2 * minute));
        // Whoever is first to say that it has it has it, once and for good.
        assert!(keep(&mut run) && !keep(&mut run));
        assert!(!is_free(&run, None, start + 2 * minute) && !is_free(&run, None, i64::MAX));
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing_twice() {
        let mut run = for_agents();
        take(&mut run, "one", 1_000_000);
        assert!(!is_free(&run, None, 0));
        take(&mut run, "one", i64::MAX);
        assert!(!is_free(&run, None, i64::MAX - 1));
    }
}
