//! Starting runs, and changing them.

use std::sync::Arc;
use std::time::Instant;

use jsonschema::Validator;
use serde_json::{Map, Value};

use super::access::Caller;
use super::item::{Action, Change, Item, Operation, Run, Status, Told, Trigger, UserInputs};
use super::org::{Grant, Org};
use super::rules::{self, ENCRYPTION};
use super::store::{Held, key};
use super::{Actions, port};
use crate::epoch::now_ms;
use crate::json_api::{Error, new_id, nothing_else};
use crate::templates::seal;

/// The longest record of a run, in bytes: brokers take a million unless configured otherwise, with what is around it.
const MAX_RECORD: usize = 900_000;

/// An id that sorts by time: `r_`, milliseconds since 1970, and what nobody guesses, or what `of` says.
pub(super) fn run_id(at_ms: i64, of: Option<&str>) -> Result<String, Error> {
    let random = match of {
        Some(of) => of.to_owned(),
        None => new_id("r")?.split_off(2),
    };
    Ok(format!("{}{}", id_at(at_ms), random.get(..20).unwrap_or(&random)))
}

/// What the ids of runs begin with that are started at that time; those of runs that are started later come after it.
pub(super) fn id_at(at_ms: i64) -> String {
    format!("r_{:012x}", at_ms.max(0))
}

/// What starts a run.
pub(super) struct Start<'a> {
    pub(super) org: &'a Org,
    pub(super) action: &'a Action,
    pub(super) operation: Option<Operation>,
    pub(super) user: String,
    pub(super) trigger: Value,
    pub(super) properties: Map<String, Value>,
    pub(super) censored: Vec<String>,
    /// Its blueprint, its identifier, and what it is.
    pub(super) entity: Option<(String, String, Value)>,
    pub(super) event: Option<Value>,
    /// How many automations led to it.
    pub(super) depth: u32,
}

impl Actions {
    /// Starts a run of an action, as somebody asks.
    ///
    /// # Errors
    /// He may not, there is no such action, or what he gives is not what it asks for.
    pub(super) async fn invoke(
        &self,
        caller: &Caller,
        identifier: &str,
        body: Value,
    ) -> Result<(String, Run), Error> {
        let org = &caller.org;
        caller.check_action(Grant::Invoke, identifier)?;
        let action = self.action(org, identifier)?;
        let Trigger::SelfService {
            operation,
            user_inputs,
            blueprint_identifier,
        } = &action.trigger
        else {
            return Err(Error::Conflict(format!(
                "{identifier:?} is an automation: nobody starts it but what happens"
            )));
        };
        let mut fields = crate::json_api::object(body)?;
        let validator = self.validator(org, identifier, user_inputs)?;
        let given = rules::given(user_inputs, &validator, fields.remove("properties").as_ref());
        let entity = match fields.remove("entity") {
            None | Some(Value::Null) => None,
            Some(Value::String(entity)) => Some(entity),
            Some(_) => return Err(Error::field("entity", "must be the identifier of an entity")),
        };
        nothing_else(&fields, &["properties", "entity"])?;
        let mut properties = given?;
        let entity = match (entity, blueprint_identifier) {
            (Some(id), Some(blueprint)) => {
                let held = self.store.entity(&org.id, blueprint, &id);
                let held = held.filter(|held| !held.value.deleted);
                let held = held.ok_or_else(|| {
                    Error::field("entity", format!("blueprint {blueprint:?} has no entity {id:?}"))
                })?;
                let shown = port::entity(blueprint, &id, &held.value);
                Some((blueprint.clone(), id, shown))
            }
            (Some(_), None) => {
                return Err(Error::field(
                    "entity",
                    "means nothing: the action is about no blueprint",
                ));
            }
            (None, Some(_)) if *operation != Operation::Create => {
                return Err(Error::field(
                    "entity",
                    format!("is required: the action's operation is {}", operation.as_str()),
                ));
            }
            (None, _) => None,
        };
        let mut censored = Vec::new();
        for (name, schema) in &user_inputs.properties {
            let Some(value) = properties.get_mut(name).filter(|value| !value.is_null()) else {
                continue;
            };
            if schema.get(ENCRYPTION).is_some() {
                let secret = org.secret.as_ref().map_or("", |secret| secret.expose());
                let plain = match &*value {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                let sealed = seal(secret.as_bytes(), plain.as_bytes());
                *value = sealed
                    .map_err(|why| Error::Conflict(format!("the organisation's secret {why}")))?
                    .into();
                censored.push(name.clone());
            }
        }
        let at_ms = now_ms();
        let start = Start {
            org,
            action: &action,
            operation: Some(*operation),
            user: caller.user.id.clone(),
            trigger: port::trigger(org, Some(&caller.user), "API", at_ms),
            properties,
            censored,
            entity,
            event: None,
            depth: 0,
        };
        let id = run_id(at_ms, None)?;
        let key = key::run(&org.id, &id);
        let watch = self.store.watch(key.clone());
        let run = self.start(start, &id, at_ms).await?;
        self.settled(&watch, &key).await;
        Ok((id, run))
    }

    /// Starts a run with that id.
    ///
    /// # Errors
    /// Its payload cannot be made, the id is taken, or it cannot be kept.
    pub(super) async fn start(&self, start: Start<'_>, id: &str, at_ms: i64) -> Result<Run, Error> {
        let Start { org, action, .. } = start;
        let timeout = match &action.run_timeout {
            None => org.run_timeout,
            Some(text) => {
                rules::run_timeout(text).map_err(|why| Error::Conflict(format!("runTimeout: {why}")))?
            }
        };
        let timeout_ms = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
        let waits = action.required_approval;
        let (blueprint, entity, entity_then) = match start.entity {
            Some((blueprint, id, shown)) => (Some(blueprint), Some(id), Some(shown)),
            None => (None, None, None),
        };
        let mut run = Run {
            status: match waits {
                true => Status::WaitingForApproval,
                false => Status::InProgress,
            },
            action: action.identifier.clone(),
            title: action.title.clone(),
            trigger: start.trigger,
            operation: start.operation,
            user: start.user,
            invocation_method: action.invocation_method.clone(),
            properties: start.properties,
            censored: start.censored,
            entity,
            blueprint,
            entity_then,
            event: start.event,
            depth: start.depth,
            told: Told::default(),
            approval: None,
            claim: None,
            created_ms: at_ms,
            updated_ms: at_ms,
            ended_ms: None,
            timeout_ms,
            deadline_ms: (!waits).then(|| at_ms.saturating_add(timeout_ms)),
            unwritten: !waits,
            untold: Vec::new(),
        };
        // What it cannot be made of, and what no topic takes, is said to who asks, and not found out later.
        let payload = self.expressions.payload(org, id, &run).await?;
        let handed = (!waits).then(|| payload.clone());
        let length = port::message(org, id, &run, payload, at_ms)
            .map_err(Error::Unavailable)?
            .len();
        if length > MAX_RECORD {
            return Err(Error::TooLarge(format!(
                "the run's record has {length} bytes, and may have {MAX_RECORD}"
            )));
        }
        let after = port::run(id, &run);
        let mut change = change("CREATE", &run.trigger, at_ms, Some(id), Value::Null, after)?;
        change.depth = run.depth;
        run.untold.push(change);
        let key = key::run(&org.id, id);
        self.store.put(&key, 0, &Item::Run(Box::new(run.clone()))).await?;
        if let Some(payload) = handed {
            self.handed.put(&key, payload, length, Instant::now());
        }
        self.tell(&key);
        Ok(run)
    }

    /// What an action's inputs are checked with.
    fn validator(&self, org: &Org, action: &str, inputs: &UserInputs) -> Result<Arc<Validator>, Error> {
        if let Some(kept) = self.schemas.get(&org.id, action, inputs) {
            return Ok(kept);
        }
        let made = rules::validator(inputs);
        let made = made.map_err(|why| Error::Conflict(format!("userInputs.properties: {why}")))?;
        let made = Arc::new(made);
        self.schemas.put(&org.id, action, inputs, Arc::clone(&made));
        Ok(made)
    }

    /// Changes a run: `to` says how, and whether at all.
    ///
    /// # Errors
    /// There is none, somebody else changed it at the same time, or what `to` says.
    pub(super) async fn change_run(
        &self,
        org: &Org,
        id: &str,
        trigger: &Value,
        held: Held<Run>,
        to: impl FnOnce(&mut Run, i64) -> Result<bool, Error>,
    ) -> Result<Held<Run>, Error> {
        let at_ms = now_ms();
        let mut held = held;
        let was = held.value.clone();
        let mut run = was.clone();
        if !to(&mut run, at_ms)? {
            return Ok(held);
        }
        run.updated_ms = at_ms.max(was.updated_ms.saturating_add(1));
        if run.status.has_ended() && run.ended_ms.is_none() {
            run.ended_ms = Some(at_ms);
            run.deadline_ms = None;
        }
        let (before, after) = (port::run(id, &was), port::run(id, &run));
        let mut change = change("UPDATE", trigger, at_ms, Some(id), before, after)?;
        change.depth = run.depth;
        let starts = run.unwritten && !was.unwritten;
        let key = key::run(&org.id, id);
        let watch = self.store.watch(key.clone());
        let version = loop {
            run.unwritten = held.value.unwritten || starts;
            run.claim.clone_from(&held.value.claim);
            run.untold.clone_from(&held.value.untold);
            run.untold.push(change.clone());
            match self
                .store
                .put(&key, held.version, &Item::Run(Box::new(run.clone())))
                .await
            {
                Ok(version) => break version,
                Err(Error::Conflict(why)) => {
                    let now = self.store.run_of(&org.id, id);
                    let now =
                        now.filter(|now| now.version != held.version && says_the_same(&now.value, &was));
                    // Others were told of it meanwhile, or an agent took it: nobody has changed it.
                    held = now.ok_or(Error::Conflict(why))?;
                }
                Err(error) => return Err(error),
            }
        };
        self.tell(&key);
        self.settled(&watch, &key).await;
        Ok(Held { version, value: run })
    }

    /// A run that the caller may see.
    pub(super) fn run_for(&self, caller: &Caller, id: &str, grant: Grant) -> Result<Held<Run>, Error> {
        caller.check(grant)?;
        self.store.known()?;
        let held = self.store.run_of(&caller.org.id, id);
        let held = held.filter(|held| caller.may(grant, &held.value.action));
        held.ok_or_else(|| Error::NotFound(format!("no run is {id:?}")))
    }
}

/// Whether nobody has changed a run since, whatever was told of it, and whoever claimed it.
fn says_the_same(now: &Run, before: &Run) -> bool {
    let now = Run {
        unwritten: before.unwritten,
        claim: before.claim.clone(),
        untold: before.untold.clone(),
        ..now.clone()
    };
    now == *before
}

/// A change, as it is to be told.
pub(super) fn change(
    action: &str,
    trigger: &Value,
    at_ms: i64,
    run_id: Option<&str>,
    before: Value,
    after: Value,
) -> Result<Change, Error> {
    Ok(Change {
        id: new_id("c")?,
        action: action.to_owned(),
        trigger: trigger.clone(),
        run_id: run_id.map(str::to_owned),
        at_ms,
        depth: 0,
        before,
        after,
    })
}
