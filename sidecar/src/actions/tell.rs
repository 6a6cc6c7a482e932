//! Telling others what rows say: runs to the topic of runs, changes to the change log and to automations.
//!
//! A row has what is still to be told, and loses it when it is told. So nothing is forgotten when a sidecar is killed in between:
//! it is told again then, by whichever sidecar finds it, and a change has an id by which that can be seen. Of one row everything is
//! told in order, but for what is told again.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::item::{Change, Item, Run, Status};
use super::org::Org;
use super::runs::{Start, run_id};
use super::store::{Watch, key};
use super::{Actions, automation, port};
use crate::epoch::now_ms;
use crate::json_api::Error;
use crate::kafka::writer::Record;

/// How many rows are told of at once.
pub(super) const TELLERS: usize = 8;
/// How long whoever changed a row waits for others to be told.
const SETTLED: Duration = Duration::from_secs(3);
/// The pause before something is told that could not be.
const PAUSE: Duration = Duration::from_millis(500);
/// How often it is tried before it is left to whoever looks for what was left.
const TRIES: usize = 3;
/// How old a change is, in milliseconds, before another sidecar than that which made it tells of it.
const LEFT_MS: i64 = 10_000;
/// How many automations may lead to one another.
const MAX_DEPTH: u32 = 10;

/// The queues of those who tell. A row's is always the same one.
pub(super) struct Queues(Vec<mpsc::UnboundedSender<Arc<str>>>);

impl Queues {
    pub(super) fn new() -> (Self, Vec<mpsc::UnboundedReceiver<Arc<str>>>) {
        let (senders, receivers) = (0..TELLERS).map(|_| mpsc::unbounded_channel()).unzip();
        (Self(senders), receivers)
    }

    fn send(&self, row: &str) {
        let mut hasher = DefaultHasher::new();
        row.hash(&mut hasher);
        let place = usize::try_from(hasher.finish() % self.0.len().max(1) as u64).unwrap_or_default();
        if let Some(queue) = self.0.get(place) {
            // Nobody listens while the sidecar ends: the row says what is still to be told.
            let _ended = queue.send(row.into());
        }
    }
}

/// What could not be told now.
pub(super) struct Later(String);

impl Actions {
    /// Has others told of a row that this sidecar has changed.
    pub(super) fn tell(&self, row: &str) {
        self.queues.send(row);
    }

    /// Waits until others have been told of a row, for a moment: it happens in any case.
    pub(super) async fn settled(&self, watch: &Watch, row: &str) {
        let told = async {
            loop {
                let changed = watch.changed();
                if self.store.row(row).is_none_or(|held| !held.value.is_unfinished()) {
                    return;
                }
                changed.await;
            }
        };
        let _later = tokio::time::timeout(SETTLED, told).await;
    }

    /// Tells of rows as they come, for as long as it is polled.
    pub(super) async fn teller(&self, mut queue: mpsc::UnboundedReceiver<Arc<str>>) {
        self.store.ready().await;
        while let Some(row) = queue.recv().await {
            let mut told = HashSet::new();
            for tried in 1..=TRIES {
                match self.tell_of(&row, &mut told).await {
                    Ok(()) => break,
                    Err(Later(why)) => {
                        tracing::warn!(row = &*row, why, tried, "a change could not be told yet");
                        self.metrics.failed_to_tell();
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
    }

    /// Has others told of what somebody left to be told.
    pub(super) fn tell_what_was_left(&self) {
        let now = now_ms();
        for row in self.store.unfinished() {
            let Some(held) = self.store.item(&row) else {
                continue;
            };
            let since = match &held.value {
                Item::Run(run) => run.updated_ms,
                Item::Entity(entity) => entity.updated_ms,
                Item::Action(_) | Item::Log(_) | Item::Settings(_) => continue,
            };
            if since.saturating_add(LEFT_MS) < now {
                self.tell(&row);
            }
        }
    }

    /// Tells everything that a row says is still to be told. `told` has what was told and is still in the row.
    async fn tell_of(&self, row: &str, told: &mut HashSet<String>) -> Result<(), Later> {
        let Some((org, kind, rest)) = key::parts(row) else {
            return Ok(());
        };
        // Of an organisation that this configuration does not have another's sidecar tells.
        let Some(org) = self.settings.orgs.get(org) else {
            return Ok(());
        };
        loop {
            let Some(held) = self.store.item(row).filter(|held| held.value.is_unfinished()) else {
                return Ok(());
            };
            let mut item = held.value.clone();
            if let Item::Run(run) = &mut item
                && run.unwritten
                && told.insert("run".to_owned())
                && let Err(why) = self.write_run(org, rest, run).await
            {
                told.remove("run");
                return Err(why);
            }
            for change in held.value.untold() {
                if told.contains(&change.id) {
                    continue;
                }
                self.tell_change(org, (kind, rest), &item, change).await?;
                told.insert(change.id.clone());
            }
            let done = match &mut item {
                Item::Run(run) => {
                    run.unwritten &= !told.contains("run");
                    run.untold.retain(|change| !told.contains(&change.id));
                    self.store.put(row, held.version, &item).await.map(drop)
                }
                Item::Entity(entity) => {
                    entity.untold.retain(|change| !told.contains(&change.id));
                    if entity.deleted && entity.untold.is_empty() {
                        self.store.delete(row, held.version).await
                    } else {
                        self.store.put(row, held.version, &item).await.map(drop)
                    }
                }
                Item::Action(_) | Item::Log(_) | Item::Settings(_) => return Ok(()),
            };
            match done {
                // What was told led to more.
                Ok(()) if item.is_unfinished() => {}
                Ok(()) => return Ok(()),
                // It has changed since: what of it is told is not told again.
                Err(Error::Conflict(_)) => {}
                Err(error) => return Err(Later(error.to_string())),
            }
        }
    }

    /// Writes a run's record; or ends the run, if that cannot be made.
    async fn write_run(&self, org: &Org, id: &str, run: &mut Run) -> Result<(), Later> {
        let handed = self.handed.take(&key::run(&org.id, id));
        if run.status.has_ended() {
            return Ok(());
        }
        let at_ms = now_ms();
        let made = match handed {
            Some(payload) => Ok(payload),
            None => self.expressions.payload(org, id, run).await,
        };
        let payload = match made {
            Ok(payload) => payload,
            Err(Error::Unavailable(why)) => return Err(Later(why)),
            Err(error) => {
                let why = match error {
                    Error::Invalid(problems) => problems
                        .iter()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                        .join("; "),
                    other => other.to_string(),
                };
                self.fail(org, id, run, &why, at_ms)
                    .map_err(|error| Later(error.to_string()))?;
                return Ok(());
            }
        };
        let value = port::message(org, id, run, payload, at_ms).map_err(Later)?;
        self.write(org, &org.runs_topic, id, &value, &[]).await?;
        self.metrics.run_written(&org.id);
        Ok(())
    }

    /// Ends a run that cannot go on, for `why`.
    fn fail(&self, org: &Org, id: &str, run: &mut Run, why: &str, at_ms: i64) -> Result<(), Error> {
        let before = port::run(id, run);
        run.status = Status::Failure;
        run.told.summary = Some(why.to_owned());
        run.updated_ms = at_ms.max(run.updated_ms.saturating_add(1));
        (run.ended_ms, run.deadline_ms) = (Some(at_ms), None);
        let trigger = port::trigger(org, None, "SLUICE", at_ms);
        let after = port::run(id, run);
        let mut change = super::runs::change("UPDATE", &trigger, at_ms, Some(id), before, after)?;
        change.depth = run.depth;
        run.untold.push(change);
        Ok(())
    }

    async fn write(
        &self,
        org: &Org,
        topic: &str,
        key: &str,
        value: &[u8],
        headers: &[(&str, &str)],
    ) -> Result<(), Later> {
        let Some(writer) = self.writers.get(&org.cluster) else {
            return Err(Later(format!("there is no cluster {}", org.cluster)));
        };
        let record = Record {
            topic,
            partition: None,
            key: key.as_bytes(),
            value: Some(value),
            headers,
        };
        let written = writer.append(record).await;
        written.map_err(|error| Later(format!("topic {topic}: {error}")))
    }

    /// Writes a change to the change log, and starts the automations that it starts.
    async fn tell_change(
        &self,
        org: &Arc<Org>,
        (kind, rest): (&str, &str),
        item: &Item,
        change: &Change,
    ) -> Result<(), Later> {
        let (resource, key, context) = match item {
            Item::Run(run) => (
                "run",
                rest.to_owned(),
                json!({"entity": run.entity, "blueprint": run.blueprint, "runId": rest, "action": run.action}),
            ),
            _ => {
                let (blueprint, id) = rest.split_once('/').unwrap_or((kind, rest));
                let context = json!({"entity": id, "blueprint": blueprint, "runId": change.run_id});
                ("entity", rest.to_owned(), context)
            }
        };
        let event = port::change(resource, context, change);
        let value = serde_json::to_vec(&event).map_err(|error| Later(error.to_string()))?;
        let headers = [("sluice-change-id", change.id.as_str())];
        self.write(org, &org.change_log_topic, &key, &value, &headers)
            .await?;
        self.metrics.change_told(&org.id);
        self.automate(org, &event, change).await
    }

    /// Starts the automations that a change starts: each once, however often the change is told.
    async fn automate(&self, org: &Arc<Org>, event: &Value, change: &Change) -> Result<(), Later> {
        for action in self.automations(org) {
            if !automation::is_about(&action, event) {
                continue;
            }
            if change.depth >= MAX_DEPTH {
                tracing::warn!(
                    org = org.id,
                    automation = action.identifier,
                    depth = change.depth,
                    "an automation is not started: so many of them have led to this change that they may go in a circle"
                );
                self.metrics.automation_failed(&org.id);
                continue;
            }
            match automation::condition(&action) {
                None => {}
                Some(condition) => match self.expressions.holds(condition, event).await {
                    Ok(true) => {}
                    Ok(false) => continue,
                    Err(why) => {
                        tracing::warn!(
                            org = org.id,
                            automation = action.identifier,
                            why,
                            "a condition fails, and does not hold"
                        );
                        self.metrics.automation_failed(&org.id);
                        continue;
                    }
                },
            }
            let subject = match event.pointer("/resourceType").and_then(Value::as_str) {
                Some("entity") => automation::subject(event),
                _ => None,
            };
            let id = run_id(
                change.at_ms,
                Some(&automation::id(&action.identifier, &change.id)),
            );
            let id = id.map_err(|error| Later(error.to_string()))?;
            self.start_automation(
                org,
                &action,
                &id,
                change.at_ms,
                (subject, event.clone(), change.depth + 1),
            )
            .await?;
        }
        Ok(())
    }

    /// Starts an automation, unless it was started already.
    pub(super) async fn start_automation(
        &self,
        org: &Arc<Org>,
        action: &super::item::Action,
        id: &str,
        at_ms: i64,
        (entity, event, depth): (Option<(String, String, Value)>, Value, u32),
    ) -> Result<(), Later> {
        let start = Start {
            org,
            action,
            operation: None,
            user: action.identifier.clone(),
            trigger: port::trigger(org, None, "AUTOMATION", at_ms),
            properties: serde_json::Map::new(),
            censored: Vec::new(),
            entity,
            event: Some(event),
            depth,
        };
        match self.start(start, id, at_ms).await {
            Ok(_) => {
                self.metrics.automation_started(&org.id);
                Ok(())
            }
            // It was started before, by whoever told of the change then.
            Err(Error::Conflict(_)) if self.store.run_of(&org.id, id).is_some() => Ok(()),
            Err(error @ (Error::Unavailable(_) | Error::Unknown(_))) => Err(Later(error.to_string())),
            Err(error) => {
                tracing::warn!(org = org.id, automation = action.identifier, %error, "an automation cannot be started");
                self.metrics.automation_failed(&org.id);
                Ok(())
            }
        }
    }
}
