//! `SLUICE__A__B=value` variables over a configuration, against a plain reading of docs/sidecar.md.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::config;

/// What is a secret as a value.
const SECRET: &str = "s3cret";

/// Variables, a line each, up to a line `---`; the configuration behind it.
pub(crate) fn environment(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (head, yaml) = text.split_once("\n---\n").unwrap_or((text, ""));
    let env = head
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect::<BTreeMap<_, _>>();
    if !config::is_ours(text) {
        return;
    }
    let loaded = sluice::config::load(yaml, env.clone().into_iter());
    if let Err(problems) = &loaded {
        config::check_problems(problems);
        // Whoever sets a property or a token sets a secret.
        let secret = |(name, value): (&String, &String)| {
            let name = name.to_lowercase();
            value.contains(SECRET) && ["_properties_", "_tokens"].iter().any(|part| name.contains(part))
        };
        if text.matches(SECRET).count() == 1 && env.iter().any(secret) {
            let quotes = |problem: &sluice_settings::Problem| problem.message.contains(SECRET);
            assert!(!problems.iter().any(quotes), "{problems:?}");
        }
    }
    let Ok(mut tree) = sluice::config::yaml_tree(yaml) else {
        assert!(loaded.is_err());
        return;
    };
    let laid = lay(&mut tree, &env);
    // A value that is the name of a variable is looked up, and there is none without them.
    if tree.to_string().contains("\"env\"") {
        return;
    }
    // A name in the environment may hold what YAML has no room for.
    if sluice::config::yaml_tree(&tree.to_string()).as_ref() != Ok(&tree) {
        return;
    }
    let plain = sluice::config::load(&tree.to_string(), std::iter::empty());
    match (laid, loaded, plain) {
        (Some(()), Ok(with), Ok(plain)) => {
            assert_eq!(format!("{:?}", with.config), format!("{:?}", plain.config));
            let properties = |loaded: &sluice::config::Loaded| {
                let clusters = loaded
                    .config
                    .clusters
                    .values()
                    .map(|cluster| cluster.properties.clone());
                let producers = loaded
                    .config
                    .producers
                    .values()
                    .map(|profile| profile.properties.clone());
                clusters.chain(producers).collect::<Vec<_>>()
            };
            assert_eq!(properties(&with), properties(&plain));
        }
        (Some(()), Err(with), Err(plain)) => assert_eq!(config::paths(&with), config::paths(&plain)),
        // A variable that cannot be laid over the tree is a problem, whatever else is.
        (None, Err(_), _) => {}
        (laid, loaded, plain) => panic!("{laid:?}: {loaded:?} with variables, {plain:?} from {tree}"),
    }
}

/// Lays the variables over the tree; `None` if one of them cannot be.
fn lay(tree: &mut Value, env: &BTreeMap<String, String>) -> Option<()> {
    let mut ours = env
        .iter()
        .map(|(name, value)| (name.to_lowercase(), name, value))
        .filter(|(_, name, _)| {
            name.get(..8)
                .is_some_and(|head| head.eq_ignore_ascii_case("sluice__"))
        })
        .collect::<Vec<_>>();
    ours.sort();
    let mut all = Some(());
    let mut set = Vec::new();
    for (lower, _, text) in ours {
        let segments = lower[8..].split("__").collect::<Vec<_>>();
        let value = sluice::config::yaml_tree(text).ok();
        let place = value.and_then(|value| {
            let empty = segments.iter().any(|segment| segment.is_empty());
            if empty {
                None
            } else {
                put(tree, &segments, "", value)
            }
        });
        // What two variables set is set by neither for sure.
        let again = place.as_ref().is_some_and(|place| set.contains(place));
        if place.is_none() || again {
            all = None;
        }
        set.extend(place);
    }
    all
}

/// Puts a value where the segments say, and gives where that is.
fn put(node: &mut Value, segments: &[&str], parent: &str, value: Value) -> Option<Vec<String>> {
    let Some((segment, rest)) = segments.split_first() else {
        over(node, value);
        return Some(Vec::new());
    };
    let index = segment.parse::<usize>();
    if node.is_null() {
        *node = match index {
            Ok(_) => Value::Array(Vec::new()),
            Err(_) => Value::Object(Map::new()),
        };
    }
    let (name, child) = match node {
        Value::Object(members) => {
            let name = key(members, segment, parent)?;
            let child = members.entry(name.clone()).or_insert(Value::Null);
            (name, child)
        }
        Value::Array(items) => {
            let index = index.ok()?;
            if index == items.len() {
                items.push(Value::Null);
            }
            (index.to_string(), items.get_mut(index)?)
        }
        _ => return None,
    };
    let mut path = put(child, rest, segment, value)?;
    path.insert(0, name);
    Some(path)
}

/// A key that is there is met whatever its case, and `_` meets `-` and `.`; one that is not is made.
fn key(members: &Map<String, Value>, segment: &str, parent: &str) -> Option<String> {
    let alike = |text: &str| text.to_lowercase().replace(['-', '.'], "_");
    if members.contains_key(segment) {
        return Some(segment.to_owned());
    }
    let found = members
        .keys()
        .filter(|key| alike(key) == alike(segment))
        .collect::<Vec<_>>();
    match &found[..] {
        [] if parent == "properties" => Some(segment.replace('_', ".")),
        [] => Some(segment.to_owned()),
        [one] => Some((*one).clone()),
        _ => None,
    }
}

/// A mapping goes over one key by key, anything else replaces.
fn over(node: &mut Value, value: Value) {
    match (node, value) {
        (Value::Object(members), Value::Object(new)) => {
            for (name, value) in new {
                over(members.entry(name).or_insert(Value::Null), value);
            }
        }
        (node, value) => *node = value,
    }
}
