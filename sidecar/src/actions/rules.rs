//! What an action may be, and what somebody may ask of it.

use std::time::Duration;

use jsonschema::{PatternOptions, Validator};
use serde_json::{Map, Value, json};
use sluice_settings::{Problem, Problems, parse_duration};

use super::expressions::{compile, compile_condition};
use super::item::{Action, EventKind, Trigger, UserInputs};
use super::org::Org;
use crate::json_api::Error;

/// The longest identifier, in characters.
const MAX_IDENTIFIER: usize = 100;
/// The most inputs that an action asks for.
const MAX_INPUTS: usize = 200;
/// The most expressions of a condition.
const MAX_CONDITIONS: usize = 20;
/// How often a timer may come.
const LEAST_EVERY: Duration = Duration::from_secs(1);
/// The longest that a run may take.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
/// What marks an input that is to be encrypted, and how.
pub(super) const ENCRYPTION: &str = "encryption";
const AES: &str = "aes256-gcm";
/// Where an action's record may go. `WEBHOOK` and `GITLAB` are for agents that read it from Kafka.
const METHODS: &[&str] = &["KAFKA", "WEBHOOK", "GITLAB"];

/// Checks what an action, a run, an entity or a blueprint is called: it stands in paths and in keys of records.
///
/// # Errors
/// What a name is.
pub(super) fn identifier(text: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | ':' | '=');
    let dots = text == "." || text == "..";
    if text.is_empty() || text.len() > MAX_IDENTIFIER || dots || !text.chars().all(legal) {
        return Err(format!(
            "{text:?} is no identifier: 1 to {MAX_IDENTIFIER} of the characters a-z, A-Z, 0-9, `.`, `_`, `-`, `@`, `:` and `=`"
        ));
    }
    Ok(())
}

/// Reads an action, and finds everything that is wrong with it. Compiles its expressions, which takes about a millisecond for each.
///
/// # Errors
/// All of that.
pub(super) fn action(org: &Org, body: &Value) -> Result<Action, Vec<Problem>> {
    let one = |path: &str, message: String| {
        vec![Problem {
            path: path.to_owned(),
            message,
        }]
    };
    let action: Action =
        serde_json::from_value(body.clone()).map_err(|error| one("", format!("is no action: {error}")))?;
    let problems = Problems::default();
    if let Err(why) = identifier(&action.identifier) {
        problems.report("identifier", why);
    }
    unknown(body, &problems);
    if let Some(timeout) = &action.run_timeout
        && let Err(why) = run_timeout(timeout)
    {
        problems.report("runTimeout", why);
    }
    match &action.trigger {
        Trigger::SelfService {
            user_inputs,
            blueprint_identifier,
            ..
        } => {
            inputs(org, user_inputs, &problems);
            if let Some(blueprint) = blueprint_identifier
                && let Err(why) = identifier(blueprint)
            {
                problems.report("trigger.blueprintIdentifier", why);
            }
        }
        Trigger::Automation { event, condition } => {
            match (&event.every, event.kind) {
                (None, EventKind::Timer) => problems.report("trigger.event.every", "is required, as 15m"),
                (Some(every), EventKind::Timer) => {
                    if let Err(why) = self::every(every) {
                        problems.report("trigger.event.every", why);
                    }
                }
                (Some(_), _) => problems.report("trigger.event.every", "is for events of type TIMER"),
                (None, _) => {}
            }
            if action.required_approval {
                problems.report(
                    "requiredApproval",
                    "nobody is there to ask when an automation starts",
                );
            }
            let condition = condition.as_ref();
            if condition.is_some_and(|condition| condition.expressions.len() > MAX_CONDITIONS) {
                problems.report(
                    "trigger.condition.expressions",
                    format!("may be {MAX_CONDITIONS} at most"),
                );
            }
            for (i, expression) in condition.into_iter().flat_map(|one| &one.expressions).enumerate() {
                if let Err(why) = compile_condition(expression) {
                    problems.report(format!("trigger.condition.expressions[{i}]"), why);
                }
            }
        }
    }
    method(&action.invocation_method, &problems);
    if problems.is_empty() {
        Ok(action)
    } else {
        Err(problems.into_vec())
    }
}

/// A field that nobody knows is a field that does nothing.
fn unknown(body: &Value, problems: &Problems) {
    const TOP: &[&str] = &[
        "identifier",
        "title",
        "description",
        "trigger",
        "invocationMethod",
        "requiredApproval",
        "runTimeout",
        "publish",
        "createdAt",
        "updatedAt",
    ];
    const TRIGGER: &[&str] = &[
        "type",
        "operation",
        "userInputs",
        "blueprintIdentifier",
        "event",
        "condition",
    ];
    const INPUTS: &[&str] = &["properties", "required", "order"];
    const EVENT: &[&str] = &["type", "blueprintIdentifier", "actionIdentifier", "every"];
    const CONDITION: &[&str] = &["type", "expressions", "combinator"];
    let places = [
        ("", TOP),
        ("/trigger", TRIGGER),
        ("/trigger/userInputs", INPUTS),
        ("/trigger/event", EVENT),
        ("/trigger/condition", CONDITION),
    ];
    for (place, known) in places {
        let there = body
            .pointer(place)
            .and_then(Value::as_object)
            .into_iter()
            .flatten();
        for (name, _) in there.filter(|(name, _)| !known.contains(&name.as_str())) {
            let path = format!("{place}/{name}");
            problems.report(
                path.trim_start_matches('/').replace('/', "."),
                format!("is not known here; known are {}", known.join(", ")),
            );
        }
    }
}

fn method(method: &Map<String, Value>, problems: &Problems) {
    let kind = method.get("type").and_then(Value::as_str);
    match kind {
        None => problems.report("invocationMethod.type", "is required, as KAFKA"),
        Some(kind) if !METHODS.contains(&kind) => problems.report(
            "invocationMethod.type",
            format!("{kind:?} is none of {}", METHODS.join(", ")),
        ),
        Some("KAFKA") => {}
        Some(kind) if method.get("agent") != Some(&Value::Bool(true)) => problems.report(
            "invocationMethod.agent",
            format!("must be true: a {kind} is called by an agent that reads the run from Kafka"),
        ),
        Some("WEBHOOK") if !method.get("url").is_some_and(Value::is_string) => {
            problems.report("invocationMethod.url", "is required");
        }
        Some(_) => {}
    }
    match (kind, method.get("payload")) {
        (_, None) => {}
        (Some("KAFKA"), Some(payload)) => {
            if let Err(why) = compile(payload) {
                problems.report("invocationMethod.payload", why);
            }
        }
        (_, Some(_)) => problems.report(
            "invocationMethod.payload",
            "is for type KAFKA: agents make their own of the run",
        ),
    }
}

fn inputs(org: &Org, inputs: &UserInputs, problems: &Problems) {
    if inputs.properties.len() > MAX_INPUTS {
        problems.report(
            "trigger.userInputs.properties",
            format!("may be {MAX_INPUTS} at most"),
        );
    }
    for (list, names) in [("required", &inputs.required), ("order", &inputs.order)] {
        for name in names.iter().filter(|name| !inputs.properties.contains_key(*name)) {
            problems.report(
                format!("trigger.userInputs.{list}"),
                format!("{name:?} is none of properties"),
            );
        }
    }
    for (name, schema) in &inputs.properties {
        let Some(encryption) = schema.get(ENCRYPTION) else {
            continue;
        };
        let path = format!("trigger.userInputs.properties.{name}.{ENCRYPTION}");
        if encryption != AES {
            problems.report(path, format!("must be {AES}"));
        } else if org
            .secret
            .as_ref()
            .is_none_or(|secret| secret.expose().len() < 32)
        {
            problems.report(
                path,
                format!(
                    "takes a `secret` of 32 bytes or more, which organisation {} has not",
                    org.id
                ),
            );
        }
    }
    if let Err(why) = validator(inputs) {
        problems.report("trigger.userInputs.properties", why);
    }
}

/// What inputs are checked with. It fetches nothing, and its patterns take time that grows with the text only.
pub(super) fn validator(inputs: &UserInputs) -> Result<Validator, String> {
    let schema = json!({
        "type": "object",
        "properties": inputs.properties,
        "required": inputs.required,
        "additionalProperties": false,
    });
    jsonschema::options()
        .offline()
        .with_pattern_options(PatternOptions::regex())
        .should_validate_formats(true)
        .build(&schema)
        .map_err(|error| format!("are no JSON Schemas: {error}"))
}

/// The inputs that somebody gave, with the defaults of those he did not. `validator` is what [`validator`] makes of `inputs`.
///
/// # Errors
/// Everything that is wrong with them. What was given is not quoted where it is to be encrypted.
pub(super) fn given(
    inputs: &UserInputs,
    validator: &Validator,
    given: Option<&Value>,
) -> Result<Map<String, Value>, Error> {
    let mut all = match given {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(given)) => given.clone(),
        Some(_) => return Err(Error::field("properties", "must be an object")),
    };
    for (name, schema) in &inputs.properties {
        if let (None, Some(default)) = (all.get(name), schema.get("default")) {
            all.insert(name.clone(), default.clone());
        }
    }
    let whole = Value::Object(all.clone());
    let problems: Vec<Problem> = validator
        .iter_errors(&whole)
        .map(|error| {
            let at = error.instance_path().to_string();
            let name = at.trim_start_matches('/').split('/').next().unwrap_or_default();
            let secret = inputs
                .properties
                .get(name)
                .is_some_and(|schema| schema.get(ENCRYPTION).is_some());
            Problem {
                path: format!("properties{}", at.replace('/', ".")),
                message: match secret {
                    true => format!("violates `{}`", error.kind().keyword()),
                    false => error.to_string(),
                },
            }
        })
        .collect();
    if problems.is_empty() {
        Ok(all)
    } else {
        Err(Error::Invalid(problems))
    }
}

/// How long a run may take.
pub(super) fn run_timeout(text: &str) -> Result<Duration, String> {
    within(text, Duration::from_millis(1), LONGEST)
}

/// How often a timer comes.
pub(super) fn every(text: &str) -> Result<Duration, String> {
    within(text, LEAST_EVERY, LONGEST)
}

fn within(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    if duration < least || duration > most {
        return Err(format!(
            "{text:?} is not from {} to {}",
            humantime::format_duration(least),
            humantime::format_duration(most)
        ));
    }
    Ok(duration)
}
