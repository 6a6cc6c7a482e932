//! Messages as Port's consumers know them: the records of runs and of changes, and their signature.
//!
//! The shapes are those of Port's Kafka backend (docs.port.io, "Kafka" under self-service actions), the signature what
//! `validate_incoming_signature` of [port-agent](https://github.com/port-labs/port-agent) (`app/invokers/webhook_invoker.py`)
//! takes.

use std::io;

use serde::Serialize;
use serde_json::ser::Formatter;
use serde_json::{Map, Value, json};

use super::item::{Change, Entity, Run, Status};
use super::org::{Org, User};
use crate::subscriptions::sink::Key;

/// Who did something, from where, and when.
pub(super) fn trigger(org: &Org, user: Option<&User>, origin: &str, at_ms: i64) -> Value {
    let mut by = Map::new();
    by.insert("orgId".to_owned(), org.id.as_str().into());
    if let Some(user) = user {
        by.insert("userId".to_owned(), user.id.as_str().into());
        by.insert(
            "user".to_owned(),
            json!({"email": user.email, "firstName": user.first_name, "lastName": user.last_name}),
        );
    }
    json!({"by": by, "origin": origin, "at": time(at_ms)})
}

/// Milliseconds since 1970 in RFC 3339.
pub(super) fn time(ms: i64) -> String {
    let since = std::time::Duration::from_millis(u64::try_from(ms).unwrap_or_default());
    humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + since).to_string()
}

/// A run, as the API shows it.
pub(super) fn run(id: &str, run: &Run) -> Value {
    json!({
        "id": id,
        "status": run.status,
        "statusLabel": run.told.status_label,
        "link": run.told.link,
        "summary": run.told.summary,
        "externalRunId": run.told.external_run_id,
        "response": run.told.response,
        "action": {"identifier": run.action, "title": run.title, "operation": run.operation},
        "blueprint": run.blueprint,
        "entity": run.entity,
        "properties": run.properties,
        "censoredProperties": run.censored,
        "trigger": run.trigger,
        "createdBy": run.user,
        "createdAt": time(run.created_ms),
        "updatedAt": time(run.updated_ms),
        "endedAt": run.ended_ms.map(time),
        "deadline": run.deadline_ms.map(time),
        "requiredApproval": run.status == Status::WaitingForApproval || run.approval.is_some(),
        "approval": run.approval.as_ref().map(|approval| json!({
            "by": approval.by,
            "status": if approval.approved { "APPROVE" } else { "DECLINE" },
            "description": approval.description,
            "at": time(approval.at_ms),
        })),
    })
}

/// An entity, as the API shows it.
pub(super) fn entity(blueprint: &str, id: &str, entity: &Entity) -> Value {
    json!({
        "identifier": id,
        "blueprint": blueprint,
        "title": entity.title,
        "icon": entity.icon,
        "team": entity.team,
        "properties": entity.properties,
        "relations": entity.relations,
        "createdAt": time(entity.created_ms),
        "createdBy": entity.created_by,
        "updatedAt": time(entity.updated_ms),
        "updatedBy": entity.updated_by,
    })
}

/// The record of a run, without its `payload`.
fn envelope(id: &str, run: &Run) -> Map<String, Value> {
    let mut message = Map::new();
    let context = json!({"entity": run.entity, "blueprint": run.blueprint, "runId": id});
    for (name, value) in [
        ("action", run.action.as_str().into()),
        ("resourceType", "run".into()),
        ("status", "TRIGGERED".into()),
        ("trigger", run.trigger.clone()),
        ("context", context),
    ] {
        message.insert(name.to_owned(), value);
    }
    message
}

/// The record of a run that goes with `payload`, for who gets it from the sidecar itself.
pub(super) fn unsigned(id: &str, run: &Run, payload: Value) -> Value {
    let mut message = envelope(id, run);
    message.insert("payload".to_owned(), payload);
    message.into()
}

/// `payload` of a run whose action says nothing about it.
pub(super) fn payload(run: &Run) -> Value {
    json!({
        "entity": run.entity_then,
        "action": {
            "identifier": run.action,
            "title": run.title,
            "invocationMethod": run.invocation_method,
            "trigger": run.operation.map(|operation| operation.as_str()),
        },
        "properties": run.properties,
        "censoredProperties": run.censored,
    })
}

/// The record of a run that goes with `payload`: signed, where the organisation has a secret.
///
/// # Errors
/// OpenSSL cannot sign it.
pub(super) fn message(org: &Org, id: &str, run: &Run, payload: Value, at_ms: i64) -> Result<Vec<u8>, String> {
    let mut message = envelope(id, run);
    message.insert("payload".to_owned(), payload);
    if let Some(secret) = &org.secret {
        let timestamp = (at_ms / 1000).to_string();
        // What is signed is what is left when an agent has taken the two headers out, or for GitLab all of them.
        let gitlab = run
            .invocation_method
            .get("type")
            .is_some_and(|kind| kind == "GITLAB");
        if !gitlab {
            message.insert("headers".to_owned(), Map::new().into());
        }
        let signed = as_python_has_it(&message)?;
        let signature = Key::plain(secret)?.port(&timestamp, &signed)?;
        message.insert(
            "headers".to_owned(),
            json!({"X-Port-Signature": signature, "X-Port-Timestamp": timestamp}),
        );
    }
    serde_json::to_vec(&message).map_err(|error| error.to_string())
}

/// What happened, as the change log has it, and automations see it as `.event`.
pub(super) fn change(kind: &str, context: Value, change: &Change) -> Value {
    json!({
        "action": change.action,
        "resourceType": kind,
        "status": "SUCCESS",
        "trigger": change.trigger,
        "context": context,
        "diff": {"before": change.before, "after": change.after},
        "id": change.id,
    })
}

/// JSON as an agent has it that reads a record and writes it again: by Python's `json.dumps` without spaces, of which only numbers
/// that are no integers look different (`repr` of a float: <https://docs.python.org/3/library/functions.html#repr>).
fn as_python_has_it(message: &Map<String, Value>) -> Result<Vec<u8>, String> {
    let mut signed = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut signed, Python);
    message
        .serialize(&mut serializer)
        .map_err(|error| error.to_string())?;
    Ok(signed)
}

struct Python;

impl Formatter for Python {
    fn write_f64<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let power: i32 = exponent.parse().unwrap_or_default();
        if (-4..16).contains(&power) {
            return write!(writer, "{value:?}");
        }
        let sign = if power < 0 { '-' } else { '+' };
        write!(writer, "{digits}e{sign}{:02}", power.unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `python3 -c 'import json; print(json.dumps([...], separators=(",", ":"), ensure_ascii=False))'` prints them.
    #[test]
    fn what_is_signed_is_what_python_writes() {
        let value = json!({
            "n": [0, -7, 3.0, -0.0, 0.1, 1e15, 1e16, 1.5e22, 0.0001, 0.00001, -2.5e-7, 9_007_199_254_740_993_u64, 1e300],
            "t": "Grüße \u{2028} \" \\ / \u{7} \t \u{7f} \u{1F600}",
        });
        let signed = as_python_has_it(value.as_object().unwrap()).unwrap();
        let expected = concat!(
            r#"{"n":[0,-7,3.0,-0.0,0.1,1000000000000000.0,1e+16,1.5e+22,0.0001,1e-05,-2.5e-07,9007199254740993,1e+300],"#,
            "\"t\":\"Grüße \u{2028} \\\" \\\\ / \\u0007 \\t \u{7f} \u{1F600}\"}"
        );
        assert_eq!(String::from_utf8(signed).unwrap(), expected);
    }
}
