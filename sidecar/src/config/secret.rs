//! Values that may be secrets: written down, or taken from a file or an environment variable.

use serde_json::Value;
use sluice_settings::Section;

use super::Secret;
use super::read::Context;
use super::reads::check_group;
use crate::subscriptions::sink::Secrets;

/// Where a value was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// In the configuration.
    Inline,
    /// In a file or a variable that the configuration names.
    Elsewhere,
}

/// Whether a field's value may be written in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inline {
    /// It is no secret.
    Fine,
    /// It is one.
    Warned,
}

/// The value of `key`, where there is one that can be had; what is wrong is reported. A secret that stands in the
/// configuration is a warning, unless a variable put it there.
pub(super) fn field(
    section: &Section<'_>,
    key: &str,
    inline: Inline,
    context: &Context<'_>,
) -> Option<Secret> {
    let path = section.path_of(key);
    let (secret, origin) = written(section.raw(key)?, &path, context)?;
    if inline == Inline::Warned {
        warn_of_inline(origin, path, "a secret", context);
    }
    Some(secret)
}

/// Warns of a secret that is written in the configuration.
pub(super) fn warn_of_inline(origin: Origin, path: String, what: &str, context: &Context<'_>) {
    if origin == Origin::Inline && context.overrides.origin(&path).is_none() {
        context.warnings.report(
            path,
            format!("{what} is written in the configuration; {{file: …}} or {{env: …}} keeps it out"),
        );
    }
}

/// The scalar at `path`, or what the `{file: …}` or `{env: …}` there refers to. Reports what is wrong with it
/// without quoting it.
pub(super) fn read(value: &Value, path: &str, context: &Context<'_>) -> Option<(Secret, Origin)> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Object(_) => return referred(value, path, context),
        Value::Array(_) | Value::Null => {
            context.problems.report(
                path,
                "must be a string, number or boolean, or {file: …} or {env: …}",
            );
            return None;
        }
    };
    Some((Secret::new(text), Origin::Inline))
}

fn referred(value: &Value, path: &str, context: &Context<'_>) -> Option<(Secret, Origin)> {
    let section = Section::at(value, path.to_owned(), context.problems);
    let file = section.name("file");
    let variable = section.name("env");
    let typed = section.raw("file").is_some() || section.raw("env").is_some();
    section.finish();
    let text = match (file, variable) {
        (Some(file), None) => {
            context.depends_on(&file);
            std::fs::read_to_string(&file)
                .map(|text| text.trim_end_matches(['\n', '\r']).to_owned())
                .map_err(|error| format!("cannot read {file}: {error}"))
        }
        (None, Some(variable)) => context
            .env
            .get(&variable)
            .cloned()
            .ok_or_else(|| format!("the environment has no {variable}")),
        (Some(_), Some(_)) => Err("has both `file` and `env`: keep one".to_owned()),
        (None, None) if typed => return None,
        (None, None) => Err("needs `file` or `env`".to_owned()),
    };
    match text {
        Ok(text) => Some((Secret::new(text), Origin::Elsewhere)),
        Err(why) => {
            context.problems.report(path, why);
            None
        }
    }
}

impl Secrets for Context<'_> {
    fn secret(&self, value: &Value, path: String) -> Option<Secret> {
        let (secret, origin) = written(value, &path, self)?;
        warn_of_inline(origin, path, "a secret", self);
        Some(secret)
    }

    fn text(&self, value: &Value, path: String) -> Option<String> {
        let (text, _) = written(value, &path, self)?;
        Some(text.expose().to_owned())
    }
}

/// As [`read`], of what must not be empty.
fn written(value: &Value, path: &str, context: &Context<'_>) -> Option<(Secret, Origin)> {
    let found = read(value, path, context)?;
    if found.0.expose().is_empty() {
        context.problems.report(path, "must not be empty");
        return None;
    }
    Some(found)
}

/// `tokens:`, of which each may have a `name` beside its `file` or `env`: all of them, and those that have one.
pub(super) fn named_tokens(
    section: &Section<'_>,
    context: &Context<'_>,
) -> (Vec<Secret>, Vec<(String, Secret)>) {
    let all = tokens_of(section, true, context);
    let named = all
        .iter()
        .filter_map(|(name, token)| Some((name.clone()?, token.clone())));
    let named = named.collect();
    (all.into_iter().map(|(_, token)| token).collect(), named)
}

/// `tokens:`, the bearer tokens that a listener takes.
pub(super) fn tokens(section: &Section<'_>, context: &Context<'_>) -> Vec<Secret> {
    let all = tokens_of(section, false, context);
    all.into_iter().map(|(_, token)| token).collect()
}

fn tokens_of(
    section: &Section<'_>,
    may_have_names: bool,
    context: &Context<'_>,
) -> Vec<(Option<String>, Secret)> {
    let Some(items) = section.raw("tokens") else {
        return Vec::new();
    };
    let Value::Array(items) = items else {
        section.problem("tokens", "must be a list");
        return Vec::new();
    };
    if items.is_empty() {
        section.problem("tokens", "must not be empty; leave it out to ask for no token");
    }
    let mut tokens = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let path = section.path_of(&format!("tokens[{i}]"));
        let mut item = item.clone();
        let name = match item.as_object_mut().filter(|_| may_have_names) {
            Some(map) => map.shift_remove("name"),
            None => None,
        };
        let name = match name {
            None => None,
            Some(Value::String(name)) if check_group(&name).is_ok() => Some(name),
            Some(_) => {
                let name = format!("{path}.name");
                context
                    .problems
                    .report(name, "must be 1 to 255 bytes of text without control characters");
                continue;
            }
        };
        let Some((token, origin)) = read(&item, &path, context) else {
            continue;
        };
        let text = token.expose();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            context
                .problems
                .report(path, "must be visible ASCII characters without spaces");
            continue;
        }
        warn_of_inline(origin, path, "a token", context);
        tokens.push((name, token));
    }
    tokens
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;
    use sluice_settings::Problems;

    use super::*;
    use crate::config::env::Overrides;
    use crate::subscriptions::sink::{Authentication, Options};

    #[test]
    fn the_secrets_of_a_sink_are_from_files_and_variables() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from-file\n").unwrap();
        let (problems, warnings) = (Problems::default(), Problems::default());
        let env = BTreeMap::from([("TOKEN".to_owned(), "from-variable".to_owned())]);
        let overrides = Overrides::default();
        let context = Context::new((&problems, &warnings), &env, &overrides);
        let tree = json!({
            "authentication": {"bearer": {"token": {"env": "TOKEN"}}},
            "tls": {"ca": {"file": file.path()}},
            "headers": {"x-api-key": "inline", "x-plain": "no secret"},
            "signature": {"port_secret": {"env": "NOWHERE"}},
        });
        let options = Options::read(&Section::root(&tree, &problems), &context);
        let token = Authentication::Bearer(Secret::new("from-variable"));
        assert_eq!(options.authentication, Some(token));
        assert_eq!(options.client.tls.ca.as_deref(), Some("from-file"));
        assert!(context.files.borrow().contains(file.path()));
        let told = |problems: Problems| {
            problems
                .into_vec()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        drop(context);
        let warned = told(warnings);
        assert!(
            warned.len() == 1 && warned[0].starts_with("headers.x-api-key: a secret"),
            "{warned:?}"
        );
        let wrong = told(problems);
        assert_eq!(wrong, ["signature.port_secret: the environment has no NOWHERE"]);
    }
}
