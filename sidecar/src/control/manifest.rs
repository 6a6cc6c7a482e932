//! What services a deployment has: the answer to `GET {uri}/discover`, or the manifest in the request.
//!
//! The names are those of Restate's endpoint manifest
//! (<https://github.com/restatedev/service-protocol/blob/main/endpoint_manifest_schema.json>): an SDK's own manifest is read.
//! What is about Restate's protocol (`protocolMode` and the like) has no meaning here, where a handler is plain HTTP.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sluice_settings::{Problem, Problems, Section};

/// The most services of a deployment, and handlers of a service.
const MOST: usize = 1000;
/// The longest name, in bytes.
const LONGEST: usize = 255;

/// The services of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The services, by name.
    pub services: Vec<Service>,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// What order there is.
    pub ty: Kind,
    /// Its handlers, by name.
    pub handlers: Vec<Handler>,
}

/// What order there is among a service's calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Kind {
    /// None.
    Service,
    /// One exclusive call at a time for each key.
    VirtualObject,
    /// One run for each key.
    Workflow,
}

/// A handler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handler {
    /// Its name.
    pub name: String,
    /// How it is called.
    pub ty: Mode,
    /// Whether it takes any bytes: the record's value need not be JSON.
    #[serde(default)]
    pub raw: bool,
}

/// How a handler is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Mode {
    /// One at a time for each key.
    Exclusive,
    /// As they come.
    Shared,
    /// Once for each key.
    Workflow,
}

const KINDS: &[(&str, Kind)] = &[
    ("SERVICE", Kind::Service),
    ("VIRTUAL_OBJECT", Kind::VirtualObject),
    ("WORKFLOW", Kind::Workflow),
];

const MODES: &[(&str, Mode)] = &[
    ("EXCLUSIVE", Mode::Exclusive),
    ("SHARED", Mode::Shared),
    ("WORKFLOW", Mode::Workflow),
];

impl Kind {
    /// Whether calls have a key: the record's.
    pub fn is_keyed(self) -> bool {
        self != Self::Service
    }
}

impl Manifest {
    /// Reads a manifest; `path` is where problems are told to be. Services and handlers are put in order, so that two manifests
    /// that say the same are equal.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(tree: &Value, path: &str) -> Result<Self, Vec<Problem>> {
        let problems = Problems::default();
        let section = Section::at(tree, path.to_owned(), &problems);
        if tree.is_object() && section.raw("services").is_none() {
            section.problem("services", "is required: a list of {name, ty, handlers}");
        }
        let mut services = Vec::new();
        let mut names = BTreeSet::new();
        let sections = section.sections("services").unwrap_or_default();
        if sections.len() > MOST {
            section.problem(
                "services",
                format!("are {}; a deployment has at most {MOST}", sections.len()),
            );
        }
        for service in sections.into_iter().take(MOST) {
            if let Some(found) = read_service(&service) {
                if !names.insert(found.name.clone()) {
                    service.problem("name", format!("{:?} is here twice", found.name));
                }
                services.push(found);
            }
        }
        services.sort_by(|a, b| a.name.cmp(&b.name));
        drop(section);
        if problems.is_empty() && tree.is_object() {
            Ok(Self { services })
        } else {
            Err(problems.into_vec())
        }
    }

    /// A service of it.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }
}

impl Service {
    /// A handler of it.
    pub fn handler(&self, name: &str) -> Option<&Handler> {
        self.handlers.iter().find(|handler| handler.name == name)
    }
}

fn read_service(section: &Section<'_>) -> Option<Service> {
    let name = name(section, true);
    if section.raw("ty").is_none() {
        section.problem("ty", "is required: SERVICE, VIRTUAL_OBJECT or WORKFLOW");
    }
    let ty = section.choice("ty", KINDS);
    if section.raw("handlers").is_none() {
        section.problem("handlers", "is required: a list of {name, ty}");
    }
    let sections = section.sections("handlers").unwrap_or_default();
    if sections.len() > MOST {
        section.problem(
            "handlers",
            format!("are {}; a service has at most {MOST}", sections.len()),
        );
    }
    let mut handlers = Vec::new();
    let mut names = BTreeSet::new();
    for handler in sections.into_iter().take(MOST) {
        let Some(found) = read_handler(&handler, ty) else {
            continue;
        };
        if !names.insert(found.name.clone()) {
            handler.problem("name", format!("{:?} is here twice", found.name));
        }
        handlers.push(found);
    }
    handlers.sort_by(|a, b| a.name.cmp(&b.name));
    Some(Service {
        name: name?,
        ty: ty?,
        handlers,
    })
}

fn read_handler(section: &Section<'_>, service: Option<Kind>) -> Option<Handler> {
    let name = name(section, false);
    let given = section.choice("ty", MODES);
    let raw = section.bool("raw").unwrap_or_default()
        || section.section("input").is_some_and(|input| !takes_json(&input));
    let (service, name) = (service?, name?);
    if section.raw("ty").is_some() {
        given?;
    }
    let ty = match (service, given) {
        (Kind::Service, None | Some(Mode::Shared)) => Mode::Shared,
        (Kind::Service, Some(_)) => {
            section.problem(
                "ty",
                "must be left out: a SERVICE has no keys to be exclusive for",
            );
            return None;
        }
        (Kind::VirtualObject, None) => Mode::Exclusive,
        (Kind::VirtualObject, Some(mode @ (Mode::Exclusive | Mode::Shared))) => mode,
        (Kind::VirtualObject, Some(Mode::Workflow)) => {
            section.problem("ty", "must be EXCLUSIVE or SHARED in a VIRTUAL_OBJECT");
            return None;
        }
        (Kind::Workflow, None) if name == "run" => Mode::Workflow,
        (Kind::Workflow, None) => Mode::Shared,
        (Kind::Workflow, Some(Mode::Exclusive)) => {
            section.problem("ty", "must be WORKFLOW or SHARED in a WORKFLOW");
            return None;
        }
        (Kind::Workflow, Some(Mode::Workflow)) if name != "run" => {
            section.problem(
                "ty",
                "must be SHARED: only the handler `run` of a WORKFLOW is started once for each key",
            );
            return None;
        }
        (Kind::Workflow, Some(mode)) => mode,
    };
    Some(Handler { name, ty, raw })
}

/// Whether a handler's `input: {contentType}` is JSON's, or any.
fn takes_json(input: &Section<'_>) -> bool {
    let Some(kind) = input.string("contentType") else {
        return true;
    };
    let kind = kind
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    kind.is_empty()
        || kind == "*/*"
        || kind == "application/*"
        || kind == "application/json"
        || kind.ends_with("+json")
}

/// A name of letters, digits and `_`, for services with dots too, as Restate has them.
fn name(section: &Section<'_>, dots: bool) -> Option<String> {
    if section.raw("name").is_none() {
        section.problem("name", "is required");
    }
    let name = section.name("name")?;
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || (dots && c == '.');
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if name.len() > LONGEST || !begins || name.ends_with('.') || !name.chars().all(legal) {
        let may = if dots { ", `_` and `.`" } else { " and `_`" };
        section.problem(
            "name",
            format!("must be at most {LONGEST} letters, digits{may}, the first of them a letter or `_`"),
        );
        return None;
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(tree: &Value) -> Vec<String> {
        let problems = Manifest::read(tree, "manifest").err().unwrap_or_default();
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_sdks_manifest_is_read() {
        let tree = json!({
            "protocolMode": "BIDI_STREAM", "minProtocolVersion": 1, "maxProtocolVersion": 2,
            "services": [
                {"name": "Wf", "ty": "WORKFLOW", "handlers": [{"name": "run"}, {"name": "peek", "ty": "SHARED"}]},
                {"name": "my.Greeter", "ty": "SERVICE", "documentation": "…", "handlers": [
                    {"name": "upload", "input": {"required": true, "contentType": "application/octet-stream"}},
                    {"name": "greet", "input": {"contentType": "application/json; charset=utf-8"}},
                ]},
                {"name": "Counter", "ty": "VIRTUAL_OBJECT", "handlers": [{"name": "add"}, {"name": "get", "ty": "SHARED"}]},
            ],
        });
        let manifest = Manifest::read(&tree, "").unwrap();
        let names: Vec<&str> = manifest
            .services
            .iter()
            .map(|service| service.name.as_str())
            .collect();
        assert_eq!(names, ["Counter", "Wf", "my.Greeter"]);
        let mode = |service: &str, handler: &str| {
            let handler = manifest.service(service).unwrap().handler(handler).unwrap();
            (handler.ty, handler.raw)
        };
        assert_eq!(mode("Counter", "add"), (Mode::Exclusive, false));
        assert_eq!(mode("Counter", "get"), (Mode::Shared, false));
        assert_eq!(mode("Wf", "run"), (Mode::Workflow, false));
        assert_eq!(mode("Wf", "peek"), (Mode::Shared, false));
        assert_eq!(mode("my.Greeter", "greet"), (Mode::Shared, false));
        assert_eq!(mode("my.Greeter", "upload"), (Mode::Shared, true));
        assert!(!Kind::Service.is_keyed() && Kind::VirtualObject.is_keyed() && Kind::Workflow.is_keyed());
    }

    #[test]
    fn everything_that_is_wrong_is_told() {
        assert_eq!(told(&json!([])), ["manifest: must be a mapping, not a list"]);
        assert_eq!(
            told(&json!({})),
            ["manifest.services: is required: a list of {name, ty, handlers}"]
        );
        let tree = json!({"services": [
            {"name": "9a", "ty": "ACTOR", "handlers": [{}]},
            {"name": "a", "ty": "SERVICE", "handlers": [{"name": "x", "ty": "EXCLUSIVE"}, {"name": "y.z"}]},
            {"name": "w", "ty": "WORKFLOW", "handlers": [{"name": "x", "ty": "WORKFLOW"}, {"name": "z", "ty": "EXCLUSIVE"}]},
            {"name": "o", "ty": "VIRTUAL_OBJECT", "handlers": [{"name": "x", "ty": "WORKFLOW"}, {"name": "q"}, {"name": "q"}]},
            {"name": "a", "ty": "SERVICE", "handlers": []},
            {"ty": "SERVICE"},
        ]});
        let paths: Vec<String> = told(&tree)
            .iter()
            .map(|problem| problem.split(": ").next().unwrap().to_owned())
            .collect();
        assert_eq!(
            paths,
            [
                "manifest.services[0].name",
                "manifest.services[0].ty",
                "manifest.services[0].handlers[0].name",
                "manifest.services[1].handlers[0].ty",
                "manifest.services[1].handlers[1].name",
                "manifest.services[2].handlers[0].ty",
                "manifest.services[2].handlers[1].ty",
                "manifest.services[3].handlers[0].ty",
                "manifest.services[3].handlers[2].name",
                "manifest.services[4].name",
                "manifest.services[5].name",
                "manifest.services[5].handlers",
            ]
        );
    }
}
