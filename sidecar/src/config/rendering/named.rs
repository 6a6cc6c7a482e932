//! `templates.named:`, templates in the words of the filter's routes.

use std::collections::BTreeMap;

use axum::http::HeaderName;
use serde_json::{Map, Value as Json};
use sluice_settings::Section;

use crate::config::read::{Context, check_name, check_topic};
use crate::templates::{Definition, Named, NamedSecret};

/// The most names of `.trigger.by`, and the most parts of one, as in the filter.
const MAX_NAMES: usize = 32;
const MAX_PARTS: usize = 8;
/// What `template` may have.
const PARTS: [&str; 4] = ["topic", "key", "partition", "headers"];
/// Port's operations.
const OPERATIONS: &[(&str, &str)] = &[("CREATE", "CREATE"), ("DAY-2", "DAY-2"), ("DELETE", "DELETE")];

/// Reads and compiles all of them; what is wrong with an expression is a problem of its template.
pub(super) fn read(
    templates: &Section<'_>,
    secrets: &BTreeMap<String, NamedSecret>,
    root: &Section<'_>,
    context: &Context<'_>,
) -> BTreeMap<String, Named> {
    let mut all = BTreeMap::new();
    for (name, section) in templates.named_sections("named").unwrap_or_default() {
        check_name(&section, &name, context);
        let (definition, by) = one(&section);
        let compiled = Definition::compile(&Json::Object(definition).to_string());
        let compiled = compiled.map_err(|why| context.problems.report(section.path(), why));
        let Ok(compiled) = compiled else {
            section.finish();
            continue;
        };
        if let Some(secret) = compiled.encrypts_with()
            && !secrets.contains_key(secret)
            // One that is there and wrong is reported there.
            && root.raw("secrets").is_none_or(|secrets| secrets.get(secret).is_none())
        {
            section.problem("encrypt.secret", format!("no secret is named {secret:?}"));
        }
        section.finish();
        all.insert(
            name,
            Named {
                definition: compiled,
                by,
            },
        );
    }
    all
}

/// The definition, and who asks.
fn one(section: &Section<'_>) -> (Map<String, Json>, Vec<(String, HeaderName)>) {
    let mut definition = Map::new();
    let mut add = |name: &str, json: Option<Json>| {
        if let Some(json) = json {
            definition.insert(name.to_owned(), json);
        }
    };
    let payload = section.raw("payload").cloned();
    let template = section.section("template");
    if payload.is_none() && template.as_ref().is_none_or(|map| map.keys().next().is_none()) {
        section.problem(
            "payload",
            format!("is required, or `template` with one of {}", PARTS.join(", ")),
        );
    }
    add("payload", payload);
    if let Some(map) = template {
        for part in ["topic", "key", "partition"] {
            add(part, map.string(part).map(Json::from));
        }
        if let Some(headers) = map.section("headers") {
            let written = headers.keys().filter_map(|name| {
                let text = headers.string(name)?;
                Some((name.to_owned(), Json::from(text)))
            });
            add("headers", Some(Json::Object(written.collect())));
        }
        if map.raw("topic").is_none() {
            section.refuse(
                "allowed_topics",
                "is what `template.topic` may choose, and there is none",
            );
        }
        map.finish();
    } else {
        section.refuse(
            "allowed_topics",
            "is what `template.topic` may choose, and there is none",
        );
    }
    let allowed = section.strings("allowed_topics").unwrap_or_default();
    for (i, topic) in allowed.iter().enumerate() {
        if let Err(why) = check_topic(topic) {
            section.problem(&format!("allowed_topics[{i}]"), why);
        }
    }
    let legal: Vec<Json> = allowed
        .into_iter()
        .filter(|topic| check_topic(topic).is_ok())
        .map(Json::from)
        .collect();
    let chooses = section
        .raw("template")
        .is_some_and(|map| map.get("topic").is_some());
    add(
        "allowed_topics",
        (chooses && !legal.is_empty()).then(|| legal.into()),
    );
    if let Some(map) = section.section("encrypt") {
        let secret = map.name("secret");
        if map.raw("secret").is_none() {
            map.problem("secret", "is required: the name of one of `secrets`");
        }
        let inputs = map.strings("inputs").unwrap_or_default();
        if inputs.is_empty() {
            map.problem("inputs", "must name at least one input, as /password");
        }
        map.choice("encryption", &[("aes256-gcm", ())]);
        map.finish();
        if section.raw("payload").is_none() {
            section.problem(
                "encrypt",
                "is for a template with a `payload`: the value of a record without one holds the inputs as they came",
            );
        }
        if let Some(secret) = secret {
            add(
                "encrypt",
                Some(serde_json::json!({ "secret": secret, "inputs": inputs })),
            );
        }
    }
    let mut by = Vec::new();
    if let Some(map) = section.section("trigger") {
        by = self::by(&map);
        add("origin", map.string("origin").map(Json::from));
        add("operation", map.choice("operation", OPERATIONS).map(Json::from));
        map.finish();
    }
    (definition, by)
}

/// `trigger.by`: who asks, over REST.
fn by(trigger: &Section<'_>) -> Vec<(String, HeaderName)> {
    let trusts = trigger.bool("trust_request").unwrap_or_default();
    let mut all: Vec<(String, HeaderName)> = Vec::new();
    let Some(map) = trigger.section("by") else {
        return all;
    };
    for name in map.keys() {
        let Some(source) = map.section(name) else { continue };
        source.refuse(
            "metadata",
            "is Envoy's alone: have the route set a header of it (`%DYNAMIC_METADATA(…)%`), and name that one",
        );
        let header = source.name("header");
        if header.is_none() && source.raw("header").is_none() && source.raw("metadata").is_none() {
            source.problem("header", "is required: the header that says it");
        }
        source.finish();
        let Some(text) = header else { continue };
        let Ok(header) = text.parse::<HeaderName>() else {
            map.problem(name, format!("{text:?} is no header's name"));
            continue;
        };
        let within =
            |one: &str, other: &str| one.strip_prefix(other).is_some_and(|rest| rest.starts_with('.'));
        let clash = all
            .iter()
            .find(|(other, _)| within(name, other) || within(other, name));
        if !is_name(name) {
            let why = format!(
                "is no name: 1 to {MAX_PARTS} words of a-z, A-Z, 0-9 and _ with dots between them, as user.email"
            );
            map.problem(name, why);
        } else if let Some((other, _)) = clash {
            map.problem(
                name,
                format!("cannot be beside {other}: one is a part of the other"),
            );
        } else if all.len() >= MAX_NAMES {
            map.problem(
                name,
                format!("is one more than the {MAX_NAMES} that there may be"),
            );
        } else if !trusts {
            let why = format!(
                "the header {header} is what a client sends, and could be anybody's name: say `trust_request: true` where \
                 whoever is before the sidecar sets or removes it"
            );
            map.problem(name, why);
        } else {
            all.push((name.to_owned(), header));
        }
    }
    all
}

fn is_name(name: &str) -> bool {
    let legal = |part: &str| {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        !part.is_empty() && part.bytes().all(word)
    };
    name.split('.').all(legal) && name.split('.').count() <= MAX_PARTS
}

#[cfg(test)]
mod tests {
    use crate::config::load;

    const SECRET: &str = "secrets: {org: {value: {env: ORG}, topics: ['ORG.*']}}";

    fn with(lines: &str) -> Result<crate::config::Config, Vec<String>> {
        let yaml =
            format!("clusters: {{main: {{brokers: ['a:1'], allowed_topics: ['*']}}}}\n{SECRET}\n{lines}");
        let env = [("ORG".to_owned(), "0123456789abcdef0123456789abcdef".to_owned())];
        let loaded = load(&yaml, env.into_iter());
        loaded
            .map(|loaded| loaded.config)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    fn wrong(lines: &str, told: &str) {
        let problems = with(lines).unwrap_err();
        assert!(
            problems.iter().any(|problem| problem.starts_with(told)),
            "{lines}: {problems:?}"
        );
    }

    #[test]
    fn templates_are_read_by_name_and_compiled() {
        let config = with(
            "templates: {named: {deploy: {payload: {a: '{{ .inputs.a }}'}, template: {topic: '{{ .inputs.t }}', key: k, partition: '1', \
             headers: {h: x}}, allowed_topics: [ORG.b], encrypt: {secret: org, inputs: [/p], encryption: aes256-gcm}, \
             trigger: {origin: UI, operation: DAY-2, by: {user.email: {header: X-User}}, trust_request: true}}}}\n\
             writes: [{topics: ['ORG.*'], template: deploy}]",
        )
        .unwrap();
        let named = &config.templates.named["deploy"];
        assert!(named.definition.makes_value());
        assert_eq!(named.definition.encrypts_with(), Some("org"));
        assert_eq!(named.by[0].0, "user.email");
        assert_eq!(named.by[0].1, "x-user");
        let write = &config.templates.writes[0];
        assert_eq!(
            (write.cluster.as_str(), write.template.as_str()),
            ("main", "deploy")
        );
        assert_eq!(write.topics.0, ["ORG.*"]);
    }

    #[test]
    fn a_bad_template_is_an_error_at_the_start() {
        let named = |fields: &str| format!("templates: {{named: {{deploy: {{{fields}}}}}}}");
        for (fields, told) in [
            (
                "payload: {a: '{{ nope }}'}",
                "templates.named.deploy: payload/a: \"nope\" calls nope",
            ),
            (
                "template: {key: '{{ .'}",
                "templates.named.deploy: key: the expression that begins",
            ),
            (
                "template: {topic: '{{ | }}', key: k}",
                "templates.named.deploy: topic: ",
            ),
            (
                "trigger: {origin: UI}",
                "templates.named.deploy.payload: is required, or `template`",
            ),
            (
                "template: {}",
                "templates.named.deploy.payload: is required, or `template`",
            ),
            (
                "payload: 1, value: body",
                "templates.named.deploy.value: unknown field",
            ),
            (
                "payload: 1, template: {name: x}",
                "templates.named.deploy.template.name: unknown field",
            ),
            (
                "payload: 1, allowed_topics: [a]",
                "templates.named.deploy.allowed_topics: is what",
            ),
            (
                "template: {topic: x}, allowed_topics: ['a b']",
                "templates.named.deploy.allowed_topics[0]: \"a b\" is no topic's name",
            ),
            (
                "template: {key: k}, encrypt: {secret: org, inputs: [/p]}",
                "templates.named.deploy.encrypt: is for",
            ),
            (
                "payload: 1, encrypt: {secret: other, inputs: [/p]}",
                "templates.named.deploy.encrypt.secret: no secret",
            ),
            (
                "payload: 1, encrypt: {secret: org, inputs: [p]}",
                "templates.named.deploy: encrypt.inputs: \"p\"",
            ),
            (
                "payload: 1, encrypt: {inputs: []}",
                "templates.named.deploy.encrypt.secret: is required",
            ),
            (
                "payload: 1, trigger: {by: {user.id: {header: x-user}}}",
                "templates.named.deploy.trigger.by.user.id: the header x-user is what a client sends",
            ),
            (
                "payload: 1, trigger: {by: {user.id: {metadata: [a, b]}}}",
                "templates.named.deploy.trigger.by.user.id.metadata: is Envoy's alone",
            ),
            (
                "payload: 1, trigger: {operation: READ}",
                "templates.named.deploy.trigger.operation: must be one of",
            ),
        ] {
            wrong(&named(fields), told);
        }
        for (lines, told) in [
            (
                "writes: [{topics: [a], template: none}]",
                "writes[0].template: no template",
            ),
            ("writes: [{topics: [a]}]", "writes[0].template: is required"),
            ("writes: [{template: none}]", "writes[0].topics: is required"),
            (
                "writes: [{topics: [a], template: x, cluster: other}]",
                "writes[0].cluster: no cluster",
            ),
        ] {
            wrong(lines, told);
        }
    }
}
