//! The expressions of actions: payloads, and conditions of automations. They are jq, evaluated within the bounds of the
//! sidecar's `templates`, and see the secrets of their own organisation.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use serde_json::{Value as Json, json};

use super::KEPT;
use super::item::{Combinator, Condition, Run};
use super::kept::Kept;
use super::org::{Org, Settings};
use super::port;
use crate::config::Secret;
use crate::jq::template::under;
use crate::jq::{self, Failure, Limits, Program, Scope, Template, Value};
use crate::json_api::Error;

/// Evaluates expressions.
pub(super) struct Expressions {
    limits: Limits,
    /// By organisation. They are others than those of the start once the configuration's have changed.
    secrets: RwLock<BTreeMap<String, BTreeMap<String, Secret>>>,
    /// Of the `payload` of actions.
    kept: Kept<Json, Compiled>,
}

/// A payload that is compiled.
struct Compiled {
    template: Template,
    /// Whether its expressions can name `.secrets`.
    names_secrets: bool,
}

/// Compiles a payload. Takes about a millisecond for each expression.
///
/// # Errors
/// What is wrong, and where: a JSON pointer, and line and column of an expression.
pub(super) fn compile(payload: &Json) -> Result<Template, String> {
    Template::parse(payload, &[])
}

/// Compiles a condition's expression.
///
/// # Errors
/// What is wrong with it.
pub(super) fn compile_condition(expression: &str) -> Result<Arc<Program>, String> {
    Program::compile(expression, &[])
}

impl Expressions {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            limits: Limits {
                time: settings.timeout,
                output: settings.max_output_bytes,
                ..Limits::default()
            },
            secrets: RwLock::new(settings.orgs.iter().map(own_secrets).collect()),
            kept: Kept::new(KEPT),
        }
    }

    /// Has payloads of an organisation see these secrets from now on. Whether they are others.
    pub(super) fn renew(&self, org: &str, to: BTreeMap<String, Secret>) -> bool {
        let mut secrets = self.secrets.write().unwrap_or_else(PoisonError::into_inner);
        match secrets.get_mut(org) {
            Some(secrets) if *secrets != to => {
                *secrets = to;
                true
            }
            Some(_) | None => false,
        }
    }

    fn secrets(&self, org: &Org) -> Vec<(String, String)> {
        let secrets = self.secrets.read().unwrap_or_else(PoisonError::into_inner);
        let own = secrets.get(&org.id).into_iter().flatten();
        own.map(|(name, secret)| (name.clone(), secret.expose().to_owned()))
            .collect()
    }

    async fn compiled(&self, org: &Org, action: &str, payload: &Json) -> Result<Arc<Compiled>, Error> {
        if let Some(kept) = self.kept.get(&org.id, action, payload) {
            return Ok(kept);
        }
        let own = payload.clone();
        let template = tokio::task::spawn_blocking(move || compile(&own)).await;
        let template = template.map_err(|error| Error::Unavailable(error.to_string()))?;
        let compiled = Arc::new(Compiled {
            template: template.map_err(|why| Error::field("invocationMethod.payload", why))?,
            names_secrets: payload.to_string().contains("secrets"),
        });
        self.kept.put(&org.id, action, payload, Arc::clone(&compiled));
        Ok(compiled)
    }

    /// What the `payload` of a run's action gives, or what it is where the action has none.
    ///
    /// # Errors
    /// What an expression says is wrong, or which bound was reached.
    pub(super) async fn payload(&self, org: &Org, id: &str, run: &Run) -> Result<Json, Error> {
        let Some(payload) = run.invocation_method.get("payload") else {
            return Ok(port::payload(run));
        };
        let compiled = self.compiled(org, &run.action, payload).await?;
        let mut context = json!({
            "inputs": run.properties,
            "trigger": with_operation(run),
            "action": {"identifier": run.action, "title": run.title, "invocationMethod": run.invocation_method},
            "run": {"id": id, "createdBy": run.user},
            "entity": run.entity_then,
            "event": run.event,
        });
        // The payload itself is no part of what it sees.
        if let Some(method) = context
            .pointer_mut("/action/invocationMethod")
            .and_then(Json::as_object_mut)
        {
            method.remove("payload");
        }
        let secrets = compiled.names_secrets.then(|| self.secrets(org));
        let limits = self.limits;
        let made = jq::run(move |turn| {
            turn.within(limits, |scope| {
                if secrets.is_some() {
                    scope.withhold();
                }
                let input = input(&context, secrets)?;
                compiled
                    .template
                    .json(scope, &input, &[])
                    .map_err(|why| under("payload", why))
            })
        });
        let made = made.await.and_then(|made| made).map_err(of_expression)?;
        serde_json::from_slice(&made).map_err(|error| Error::Unavailable(format!("payload: {error}")))
    }

    /// Whether a condition holds of what has happened. One that fails does not.
    pub(super) async fn holds(&self, condition: &Condition, event: &Json) -> Result<bool, String> {
        let condition = condition.clone();
        let context = json!({"event": event, "diff": event.get("diff"), "trigger": event.get("trigger")});
        let limits = self.limits;
        let held = jq::run(move |turn| turn.within(limits, |scope| holds(scope, &condition, &context)));
        held.await
            .and_then(|held| held)
            .map_err(|failure| failure.to_string())
    }
}

fn with_operation(run: &Run) -> Json {
    let mut trigger = run.trigger.clone();
    if let Some(object) = trigger.as_object_mut() {
        object.insert("operation".to_owned(), json!(run.operation));
    }
    trigger
}

fn holds(scope: &Scope, condition: &Condition, context: &Json) -> Result<bool, Failure> {
    let input = input(context, None)?;
    let mut all = true;
    let mut any = false;
    for expression in &condition.expressions {
        let program = compile_condition(expression).map_err(Failure::Error)?;
        let given = scope.output(&program, input.clone(), &[])?;
        let is = matches!(given, Some(Value::Bool(true)));
        all &= is;
        any |= is;
    }
    Ok(match condition.combinator {
        Combinator::And => all,
        Combinator::Or => any,
    })
}

fn own_secrets((id, org): (&String, &Arc<Org>)) -> (String, BTreeMap<String, Secret>) {
    (id.clone(), org.secrets.clone())
}

fn input(context: &Json, secrets: Option<Vec<(String, String)>>) -> Result<Value, Failure> {
    let of = |json: &Json| {
        Value::from_json(json.to_string().as_bytes()).map_err(|why| Failure::Error(why.to_string()))
    };
    let members = context.as_object().into_iter().flatten();
    let mut all = Vec::new();
    for (name, value) in members {
        all.push((Bytes::copy_from_slice(name.as_bytes()), of(value)?));
    }
    if let Some(secrets) = secrets {
        let values = secrets
            .into_iter()
            .map(|(name, value)| (Bytes::from(name), Value::from(value.as_str())));
        all.push((Bytes::from_static(b"secrets"), Value::object(values)));
    }
    Ok(Value::object(all))
}

fn of_expression(failure: Failure) -> Error {
    match failure {
        Failure::Error(why) => Error::field("invocationMethod.payload", why.trim_start_matches('/')),
        Failure::Bound(bound) => Error::field("invocationMethod.payload", bound.to_string()),
        failure => Error::Unavailable(format!("payload: {failure}")),
    }
}
