//! `SLUICE__A__B=value`: one value of the configuration, from the environment.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sluice_settings::Problems;

use super::yaml;

const PREFIX: &str = "SLUICE__";

/// Which part of the tree came from which variable.
#[derive(Debug, Default)]
pub(super) struct Overrides(Vec<(String, String)>);

impl Overrides {
    /// The variable that set `path`, or something that `path` is a part of.
    pub(super) fn origin(&self, path: &str) -> Option<&str> {
        let covers = |set: &str| {
            let rest = path.strip_prefix(set);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.find(covers)
    }

    /// The variable that set something below `path`.
    pub(super) fn origin_below(&self, path: &str) -> Option<&str> {
        let below = |set: &str| {
            set.strip_prefix(path)
                .is_some_and(|rest| rest.starts_with(['.', '[']))
        };
        self.find(below)
    }

    fn find(&self, right: impl Fn(&str) -> bool) -> Option<&str> {
        let mut latest_first = self.0.iter().rev();
        let (_, variable) = latest_first.find(|(set, _)| right(set))?;
        Some(variable)
    }
}

/// Lays the variables of `env` over `tree`, in the order of their names, so that a part follows its whole.
pub(super) fn apply(tree: &mut Value, env: &BTreeMap<String, String>, problems: &Problems) -> Overrides {
    let mut overrides = Overrides::default();
    let mut ours: Vec<(String, &String, &String)> = env
        .iter()
        .filter_map(|(name, value)| Some((lower_suffix(name)?, name, value)))
        .collect();
    ours.sort();
    for (suffix, name, text) in ours {
        match set(tree, &suffix, text) {
            Ok(path) => {
                let twice = overrides.0.iter().find(|(set, _)| *set == path);
                if let Some((_, other)) = twice {
                    problems.report(name, format!("sets {path}, which {other} sets too"));
                } else {
                    overrides.0.push((path, name.clone()));
                }
            }
            Err(message) => problems.report(name, message),
        }
    }
    overrides
}

/// What follows the prefix, in lower case; `None` if the variable is not ours.
fn lower_suffix(name: &str) -> Option<String> {
    let prefix = name.get(..PREFIX.len())?;
    prefix
        .eq_ignore_ascii_case(PREFIX)
        .then(|| name.get(PREFIX.len()..).unwrap_or_default().to_lowercase())
}

/// Sets what `suffix` names and gives its path.
fn set(tree: &mut Value, suffix: &str, text: &str) -> Result<String, String> {
    let value = yaml::parse_value(text)?;
    let segments: Vec<&str> = suffix.split("__").collect();
    if segments.iter().any(|segment| segment.is_empty()) {
        return Err("has an empty part: write SLUICE__A__B for the key b of a".to_owned());
    }
    let mut node = tree;
    let mut path = String::new();
    let mut in_properties = false;
    for segment in segments {
        let child;
        (child, node) = enter(node, segment, &path, in_properties)?;
        path = child;
        in_properties = segment == "properties";
    }
    merge(node, value);
    Ok(path)
}

/// The child of `node` that `segment` names, with its path; it is made if it is not there.
fn enter<'a>(
    node: &'a mut Value,
    segment: &str,
    path: &str,
    in_properties: bool,
) -> Result<(String, &'a mut Value), String> {
    if node.is_null() {
        *node = if segment.parse::<usize>().is_ok() {
            Value::Array(Vec::new())
        } else {
            Value::Object(Map::new())
        };
    }
    match node {
        Value::Object(map) => {
            let key = key_for(map, segment, in_properties)?;
            let child = if path.is_empty() {
                key.clone()
            } else {
                format!("{path}.{key}")
            };
            Ok((child, map.entry(key).or_insert(Value::Null)))
        }
        Value::Array(items) => {
            let length = items.len();
            let wrong =
                || format!("{path} is a list of {length}: write an index from 0 to {length} after it");
            let index: usize = segment.parse().map_err(|_| wrong())?;
            if index == length {
                items.push(Value::Null);
            }
            let item = items.get_mut(index).ok_or_else(wrong)?;
            Ok((format!("{path}[{index}]"), item))
        }
        _ => Err(format!(
            "goes below {path}, which is neither a mapping nor a list"
        )),
    }
}

/// The key of `map` that `segment` means: the one that is there, whatever its case and its `-` and `.`, or a new
/// one. librdkafka's properties are written with dots, so that a new one below `properties` gets dots.
fn key_for(map: &Map<String, Value>, segment: &str, in_properties: bool) -> Result<String, String> {
    if map.contains_key(segment) {
        return Ok(segment.to_owned());
    }
    let mut alike = map.keys().filter(|key| fold(key) == fold(segment));
    match (alike.next(), alike.next()) {
        (Some(one), Some(other)) => Err(format!("could mean {one} or {other}: set it in the file")),
        (Some(one), None) => Ok(one.clone()),
        (None, _) if in_properties => Ok(segment.replace('_', ".")),
        (None, _) => Ok(segment.to_owned()),
    }
}

fn fold(key: &str) -> String {
    key.to_lowercase().replace(['-', '.'], "_")
}

/// Lays `value` over `node`: mappings key by key, everything else as a whole.
fn merge(node: &mut Value, value: Value) {
    match (node, value) {
        (Value::Object(map), Value::Object(new)) => {
            for (key, value) in new {
                merge(map.entry(key).or_insert(Value::Null), value);
            }
        }
        (node, value) => *node = value,
    }
}
