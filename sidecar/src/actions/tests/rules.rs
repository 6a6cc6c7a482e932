//! What an action may be, and what may be asked of it.

use serde_json::{Value, json};

use super::two;
use crate::actions::item::Trigger;
use crate::actions::rules;
use crate::json_api::Error;

fn problems(body: &Value) -> Vec<String> {
    let settings = two();
    let read = rules::action(&settings.orgs["acme"], body);
    read.err()
        .unwrap_or_default()
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn self_service() -> Value {
    json!({
        "identifier": "deploy",
        "trigger": {
            "type": "self-service", "operation": "CREATE",
            "userInputs": {
                "properties": {
                    "version": {"type": "string", "pattern": "^v[0-9]+$"},
                    "password": {"type": "string", "minLength": 4, "encryption": "aes256-gcm"},
                    "replicas": {"type": "integer", "default": 1, "minimum": 1},
                },
                "required": ["version"],
            },
        },
        "invocationMethod": {"type": "KAFKA", "payload": {"v": "{{ .inputs.version }}"}},
    })
}

#[test]
fn what_an_action_may_not_be_is_said_with_its_place() {
    assert_eq!(problems(&self_service()), [""; 0]);
    let automation = json!({
        "identifier": "on-deploy",
        "trigger": {"type": "automation", "event": {"type": "ENTITY_CREATED", "blueprintIdentifier": "Deployment"},
            "condition": {"type": "JQ", "expressions": [".diff.after.properties.ok"], "combinator": "and"}},
        "invocationMethod": {"type": "KAFKA"},
    });
    assert_eq!(problems(&automation), [""; 0]);
    for (base, pointer, value, place) in [
        (&self_service(), "/identifier", json!("a/b"), "identifier"),
        (&self_service(), "/identifier", json!(""), "identifier"),
        (
            &self_service(),
            "/trigger/operation",
            json!("CHANGE"),
            "unknown variant `CHANGE`",
        ),
        (
            &self_service(),
            "/trigger/userInputs/required",
            json!(["x"]),
            "trigger.userInputs.required",
        ),
        (
            &self_service(),
            "/trigger/userInputs/properties/version/type",
            json!("texts"),
            "trigger.userInputs.properties",
        ),
        (
            &self_service(),
            "/trigger/userInputs/properties/version/pattern",
            json!("(?=x)"),
            "trigger.userInputs.properties",
        ),
        (
            &self_service(),
            "/trigger/userInputs/properties/version/$ref",
            json!("http://localhost:1/x"),
            "trigger.userInputs.properties",
        ),
        (
            &self_service(),
            "/trigger/userInputs/properties/password/encryption",
            json!("rot13"),
            "trigger.userInputs.properties.password.encryption",
        ),
        (
            &self_service(),
            "/invocationMethod/type",
            json!("EMAIL"),
            "invocationMethod.type",
        ),
        (
            &self_service(),
            "/invocationMethod/type",
            json!("WEBHOOK"),
            "invocationMethod.agent",
        ),
        (
            &self_service(),
            "/invocationMethod/payload/v",
            json!("{{ .inputs. }}"),
            "invocationMethod.payload",
        ),
        (&self_service(), "/runTimeout", json!("soon"), "runTimeout"),
        (&self_service(), "/runTimeout", json!("0s"), "runTimeout"),
        (&self_service(), "/colour", json!("red"), "colour"),
        (&self_service(), "/trigger/colour", json!("red"), "trigger.colour"),
        (&automation, "/requiredApproval", json!(true), "requiredApproval"),
        (
            &automation,
            "/trigger/event/type",
            json!("TIMER"),
            "trigger.event.every",
        ),
        (
            &automation,
            "/trigger/event/every",
            json!("1m"),
            "trigger.event.every",
        ),
        (
            &automation,
            "/trigger/condition/expressions/0",
            json!(".["),
            "trigger.condition.expressions[0]",
        ),
    ] {
        let mut body = base.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        match body.pointer_mut(parent).unwrap() {
            Value::Array(items) => items[name.parse::<usize>().unwrap()] = value,
            object => drop(object.as_object_mut().unwrap().insert(name.to_owned(), value)),
        }
        let told = problems(&body);
        assert!(told.iter().any(|one| one.contains(place)), "{pointer}: {told:?}");
    }
}

#[test]
fn everything_that_is_wrong_with_inputs_is_said_and_no_secret() {
    let settings = two();
    let action = rules::action(&settings.orgs["acme"], &self_service()).unwrap();
    let Trigger::SelfService { user_inputs, .. } = &action.trigger else {
        panic!()
    };
    let validator = rules::validator(user_inputs).unwrap();
    let given = rules::given(
        user_inputs,
        &validator,
        Some(&json!({"version": "v7", "password": "hunter22"})),
    )
    .unwrap();
    assert_eq!(given["replicas"], 1, "its default");
    let wrong = json!({"version": 7, "password": "x\u{1}y", "replicas": 0, "colour": "red"});
    let Err(Error::Invalid(told)) = rules::given(user_inputs, &validator, Some(&wrong)) else {
        panic!()
    };
    let told: Vec<String> = told.iter().map(ToString::to_string).collect();
    for place in [
        "properties.version",
        "properties.password",
        "properties.replicas",
        "colour",
    ] {
        assert!(told.iter().any(|one| one.contains(place)), "{place}: {told:?}");
    }
    assert!(
        !told
            .iter()
            .any(|one| one.contains("x\u{1}y") || one.contains("x\\u0001y")),
        "{told:?}"
    );
    let Err(Error::Invalid(told)) = rules::given(user_inputs, &validator, None) else {
        panic!()
    };
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(rules::given(user_inputs, &validator, Some(&json!([]))).is_err());
}
