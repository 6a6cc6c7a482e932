//! `payload`, `template`, `trigger` and `encrypt`: what the sidecar makes of a request by expressions.
//!
//! The expressions are jq, and it is the sidecar that knows jq: here is checked what a field may be, and `sluice check-config
//! --envoy` checks the rest.

use serde_json::{Map, Number, Value as Json};
use sluice_settings::Section;

use super::fields::distinct;
use super::layer::Layer;
use super::route::{Source, Template};
use super::source;

/// The parts of a record that `template` makes, or the template of the sidecar's that does.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Parts {
    /// The sidecar's name of a template, which says all the rest.
    pub(super) name: Option<String>,
    pub(super) topic: Option<String>,
    pub(super) key: Option<String>,
    pub(super) partition: Option<String>,
    headers: Vec<(String, String)>,
}

/// What `.trigger` is made of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Trigger {
    by: Vec<(String, Source)>,
    origin: Option<String>,
    operation: Option<&'static str>,
}

/// What of the body is encrypted, and with which of the sidecar's secrets.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Encrypt {
    secret: String,
    inputs: Vec<String>,
}

/// `.trigger.origin` of a route that does not say.
const ORIGIN: &str = "API";
/// The most names of `.trigger.by`.
const MAX_NAMES: usize = 32;
/// The most parts that such a name may have.
const MAX_PARTS: usize = 8;

/// Port's operations.
const OPERATIONS: [(&str, &str); 3] = [("CREATE", "CREATE"), ("DAY-2", "DAY-2"), ("DELETE", "DELETE")];

/// Any JSON.
pub(super) fn payload(section: &Section<'_>, field: &str) -> Option<Json> {
    let raw = section.raw(field)?;
    (!raw.is_null()).then(|| whole(raw))
}

/// JSON whose numbers are whole where they can be: Envoy has no others than doubles.
fn whole(json: &Json) -> Json {
    /// The largest double below which each whole number is one.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match json {
        Json::Number(number) if !number.is_i64() && !number.is_u64() => {
            let float = number.as_f64().unwrap_or_default();
            match float.fract() == 0.0 && float.abs() < EXACT {
                true => Json::Number(Number::from(float as i64)),
                false => json.clone(),
            }
        }
        Json::Array(items) => items.iter().map(whole).collect(),
        Json::Object(members) => {
            let members = members.iter().map(|(name, value)| (name.clone(), whole(value)));
            Json::Object(members.collect::<Map<_, _>>())
        }
        json => json.clone(),
    }
}

/// What `template` may make.
const PARTS: [&str; 4] = ["topic", "key", "partition", "headers"];

/// `template`: topic, key, partition and headers, or a name.
pub(super) fn parts(section: &Section<'_>, field: &str) -> Option<Parts> {
    let map = section.section(field)?;
    let mut headers = Vec::new();
    if let Some(written) = map.section("headers") {
        for name in written.keys() {
            if let Some(text) = written.string(name) {
                headers.push((name.to_owned(), text));
            }
        }
    }
    let found = Parts {
        name: map.name("name"),
        topic: map.name("topic"),
        key: map.string("key"),
        partition: map.string("partition"),
        headers,
    };
    let mut set = PARTS.iter().filter(|part| map.raw(part).is_some());
    match (map.raw("name").is_some(), set.next()) {
        (true, Some(part)) => map.problem(part, "is said by the template that `name` names: leave it out"),
        (false, None) => section.problem(
            field,
            format!(
                "must name one of {}; or `name`, a template of the sidecar's",
                PARTS.join(", ")
            ),
        ),
        _ => {}
    }
    map.finish();
    Some(found)
}

/// `trigger`: who asks, and what for.
pub(super) fn trigger(section: &Section<'_>, field: &str) -> Option<Trigger> {
    let map = section.section(field)?;
    let trusts = map.bool("trust_request").unwrap_or(false);
    let mut by: Vec<(String, Source)> = Vec::new();
    if let Some(written) = map.section("by") {
        for name in written.keys() {
            let Some(Some(key)) = source::key(&written, name) else {
                if written.raw(name).and_then(Json::as_str) == Some("none") {
                    written.problem(name, "must be a mapping");
                }
                continue;
            };
            if let Some(why) = name_problem(name, &by) {
                written.problem(name, why);
            } else if key.allowed.is_some() || key.default.is_some() {
                written.problem(name, "takes neither `allowed` nor `default`");
            } else if !trusts && !matches!(key.source, Source::Metadata(_)) {
                let what = format!(
                    "{} is what a client sends, and could be anybody's name: take it from `metadata`, or say \
                     `trust_request: true` where Envoy itself sets or removes it",
                    key.source
                );
                written.problem(name, what);
            } else {
                by.push((name.to_owned(), key.source));
            }
        }
    }
    let found = Trigger {
        by,
        origin: map.string("origin"),
        operation: map.choice("operation", &OPERATIONS),
    };
    map.finish();
    Some(found)
}

/// What is wrong with a name of `.trigger.by`, beside those that are there.
fn name_problem(name: &str, others: &[(String, Source)]) -> Option<String> {
    let legal = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if !name.split('.').all(legal) || name.split('.').count() > MAX_PARTS {
        return Some(format!(
            "is no name: 1 to {MAX_PARTS} words of a-z, A-Z, 0-9 and _ with dots between them, as user.email"
        ));
    }
    if others.len() >= MAX_NAMES {
        return Some(format!("is one more than the {MAX_NAMES} that there may be"));
    }
    let within = |one: &str, other: &str| one.strip_prefix(other).is_some_and(|rest| rest.starts_with('.'));
    let clash = others
        .iter()
        .find(|(other, _)| within(name, other) || within(other, name));
    clash.map(|(other, _)| format!("cannot be beside {other}: one is a part of the other"))
}

/// `encrypt`: inputs and the secret.
pub(super) fn encrypt(section: &Section<'_>, field: &str) -> Option<Encrypt> {
    let map = section.section(field)?;
    let secret = map.name("secret");
    if map.raw("secret").is_none() {
        map.problem(
            "secret",
            "is required: the name of one of the sidecar's `secrets`",
        );
    }
    let inputs = distinct(&map, "inputs", source::json_pointer);
    if inputs.as_ref().is_none_or(Vec::is_empty) {
        map.problem("inputs", "must name at least one input, as /password");
    }
    map.choice("encryption", &[("aes256-gcm", ())]);
    map.finish();
    Some(Encrypt {
        secret: secret?,
        inputs: inputs?,
    })
}

/// The template of a merged layer, if it has one.
pub(super) fn template(merged: &Layer) -> Option<Box<Template>> {
    let parts = match (&merged.payload, &merged.template) {
        (None, None) => return None,
        (_, parts) => parts.clone().unwrap_or_default(),
    };
    let mut definition = Map::new();
    let mut add = |name: &str, json: Option<Json>| {
        if let Some(json) = json {
            definition.insert(name.to_owned(), json);
        }
    };
    let trigger = merged.trigger.as_ref();
    let origin = trigger.and_then(|trigger| trigger.origin.as_deref());
    // The sidecar's template has an origin of its own.
    let origin = origin.or(parts.name.is_none().then_some(ORIGIN));
    let by = trigger.map(|trigger| trigger.by.clone()).unwrap_or_default();
    let makes_value = merged.makes_value();
    if parts.name.is_some() && makes_value {
        add("whole", Some(true.into()));
    }
    add("name", parts.name.clone().map(Json::from));
    add("payload", merged.payload.clone());
    if let Some(topic) = parts.topic {
        add("topic", Some(topic.into()));
        add("allowed_topics", merged.allowed_topics.clone().map(Json::from));
    }
    add("key", parts.key.map(Json::from));
    add("partition", parts.partition.map(Json::from));
    if !parts.headers.is_empty() {
        let headers = parts
            .headers
            .into_iter()
            .map(|(name, text)| (name, Json::from(text)));
        add("headers", Some(headers.collect::<Map<_, _>>().into()));
    }
    if let Some(Encrypt { secret, inputs }) = &merged.encrypt {
        let mut encrypt = Map::new();
        encrypt.insert("secret".to_owned(), secret.as_str().into());
        encrypt.insert("inputs".to_owned(), inputs.clone().into());
        add("encrypt", Some(encrypt.into()));
    }
    add("origin", origin.map(Json::from));
    add(
        "operation",
        trigger.and_then(|trigger| trigger.operation).map(Json::from),
    );
    Some(Box::new(Template {
        definition: Json::Object(definition).to_string(),
        name: parts.name,
        payload: makes_value,
        by,
    }))
}
