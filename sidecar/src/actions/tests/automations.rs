//! What starts an automation.

use serde_json::{Value, json};

use crate::actions::automation;
use crate::actions::item::Action;

#[test]
fn an_automation_is_started_by_what_it_is_about() {
    let action = |event: Value| -> Action {
        serde_json::from_value(json!({
            "identifier": "auto", "trigger": {"type": "automation", "event": event}, "invocationMethod": {"type": "KAFKA"},
        }))
        .unwrap()
    };
    let event = |resource: &str, what: &str, context: Value| json!({"resourceType": resource, "action": what, "context": context});
    let made = event(
        "entity",
        "CREATE",
        json!({"blueprint": "Deployment", "entity": "d"}),
    );
    let gone = event(
        "entity",
        "DELETE",
        json!({"blueprint": "Deployment", "entity": "d"}),
    );
    let started = event("run", "CREATE", json!({"action": "deploy"}));
    let own = event("run", "CREATE", json!({"action": "auto"}));
    for (wanted, about) in [
        (json!({"type": "ENTITY_CREATED"}), [true, false, false, false]),
        (json!({"type": "ENTITY_DELETED"}), [false, true, false, false]),
        (json!({"type": "ENTITY_UPDATED"}), [false; 4]),
        (json!({"type": "ANY_ENTITY_CHANGE"}), [true, true, false, false]),
        (
            json!({"type": "ANY_ENTITY_CHANGE", "blueprintIdentifier": "Deployment"}),
            [true, true, false, false],
        ),
        (
            json!({"type": "ANY_ENTITY_CHANGE", "blueprintIdentifier": "deployment"}),
            [false; 4],
        ),
        // Not by its own runs.
        (json!({"type": "RUN_CREATED"}), [false, false, true, false]),
        (
            json!({"type": "ANY_RUN_CHANGE", "actionIdentifier": "deploy"}),
            [false, false, true, false],
        ),
        (json!({"type": "RUN_UPDATED"}), [false; 4]),
        (json!({"type": "TIMER", "every": "1m"}), [false; 4]),
    ] {
        let one = action(wanted.clone());
        let is = [&made, &gone, &started, &own].map(|event| automation::is_about(&one, event));
        assert_eq!(is, about, "{wanted}");
    }
    let mut off = action(json!({"type": "ENTITY_CREATED"}));
    off.publish = false;
    assert!(!automation::is_about(&off, &made));
    assert_eq!(
        automation::every(&action(json!({"type": "TIMER", "every": "1m"}))),
        Some(60_000)
    );
}
