//! Which automations something that happens starts.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::item::{Action, Condition, EventKind, Trigger};

/// Whether an action is an automation that is started by such an event, whatever its condition says.
pub(super) fn is_about(action: &Action, event: &Value) -> bool {
    let Trigger::Automation { event: wanted, .. } = &action.trigger else {
        return false;
    };
    let said = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let fits = match (said("/resourceType"), said("/action")) {
        ("entity", "CREATE") => matches!(wanted.kind, EventKind::EntityCreated | EventKind::AnyEntityChange),
        ("entity", "UPDATE") => matches!(wanted.kind, EventKind::EntityUpdated | EventKind::AnyEntityChange),
        ("entity", "DELETE") => matches!(wanted.kind, EventKind::EntityDeleted | EventKind::AnyEntityChange),
        ("run", "CREATE") => matches!(wanted.kind, EventKind::RunCreated | EventKind::AnyRunChange),
        ("run", "UPDATE") => matches!(wanted.kind, EventKind::RunUpdated | EventKind::AnyRunChange),
        _ => false,
    };
    let is = |wanted: &Option<String>, pointer: &str| {
        wanted.as_deref().is_none_or(|wanted| wanted == said(pointer))
    };
    action.publish
        && fits
        && is(&wanted.blueprint_identifier, "/context/blueprint")
        && is(&wanted.action_identifier, "/context/action")
        // It would start itself for ever.
        && !(said("/resourceType") == "run" && said("/context/action") == action.identifier)
}

/// What must hold besides.
pub(super) fn condition(action: &Action) -> Option<&Condition> {
    match &action.trigger {
        Trigger::Automation { condition, .. } => condition.as_ref(),
        Trigger::SelfService { .. } => None,
    }
}

/// How often a timer's automation starts, in milliseconds.
pub(super) fn every(action: &Action) -> Option<i64> {
    match &action.trigger {
        Trigger::Automation { event, .. } if event.kind == EventKind::Timer && action.publish => {
            let every = super::rules::every(event.every.as_deref()?).ok()?;
            i64::try_from(every.as_millis()).ok()
        }
        Trigger::Automation { .. } | Trigger::SelfService { .. } => None,
    }
}

/// The entity that an event is about, as it is now, or was: its blueprint, its identifier, and what it is.
pub(super) fn subject(event: &Value) -> Option<(String, String, Value)> {
    let said = |pointer: &str| Some(event.pointer(pointer)?.as_str()?.to_owned());
    let now = event.pointer("/diff/after").filter(|after| !after.is_null());
    let shown = now.or_else(|| event.pointer("/diff/before"))?.clone();
    Some((said("/context/blueprint")?, said("/context/entity")?, shown))
}

/// A part of a run's id that is the same whenever the same automation is started for the same cause.
pub(super) fn id(automation: &str, cause: &str) -> String {
    let digest = Sha256::new()
        .chain_update(automation)
        .chain_update([0])
        .chain_update(cause)
        .finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
