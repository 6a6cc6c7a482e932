//! Configurations: any text is one, or has problems that say what is wrong.

use serde_json::Value;
use sluice_filter::config::envoy::check_envoy;
use sluice_filter::config::{FilterConfig, metadata};
use sluice_settings::Problem;

/// The filter's configuration, in both of the forms that Envoy hands it over in.
pub(crate) fn filter(data: &[u8]) {
    let from_bytes = FilterConfig::from_bytes(data);
    if let Err(problems) = &from_bytes {
        check_problems(problems);
    }
    let Ok(tree) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    assert_eq!(from_bytes, FilterConfig::from_tree(&tree));
    // A `Struct` has no numbers but doubles, and of nothing it is no bytes.
    let same = |n: &serde_json::Number| n.is_f64() || n.as_f64().is_some_and(|f| f.abs() < 9e15);
    if tree.as_object().is_none_or(|o| o.is_empty()) || !all_numbers(&tree, &same) {
        return;
    }
    let encoded = metadata::encode_struct(&tree);
    // Deeper than prost goes.
    if metadata::decode_struct(&encoded).is_err() {
        return;
    }
    // A map on the wire has no order: here it is that of the names.
    match (
        FilterConfig::from_tree(&sorted(&tree)),
        FilterConfig::from_bytes(&encoded),
    ) {
        (Ok(from_tree), Ok(from_struct)) => assert_eq!(from_tree, from_struct),
        // Numbers in the problems' texts may have a point.
        (Err(from_tree), Err(from_struct)) => assert_eq!(paths(&from_tree), paths(&from_struct)),
        (from_tree, from_struct) => panic!("{from_tree:?} from JSON, {from_struct:?} from a Struct"),
    }
    assert_eq!(
        FilterConfig::from_tree(&sorted(&tree)).is_ok(),
        from_bytes.is_ok()
    );
}

fn sorted(tree: &Value) -> Value {
    match tree {
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Object(members) => {
            let members = members.iter().map(|(name, member)| (name, sorted(member)));
            let members = members.collect::<std::collections::BTreeMap<_, _>>();
            members
                .into_iter()
                .map(|(name, member)| (name.clone(), member))
                .collect()
        }
        scalar => scalar.clone(),
    }
}

pub(crate) fn paths(problems: &[Problem]) -> Vec<&str> {
    problems.iter().map(|problem| problem.path.as_str()).collect()
}

fn all_numbers(tree: &Value, good: &dyn Fn(&serde_json::Number) -> bool) -> bool {
    match tree {
        Value::Number(number) => good(number),
        Value::Array(items) => items.iter().all(|item| all_numbers(item, good)),
        Value::Object(members) => members.values().all(|member| all_numbers(member, good)),
        _ => true,
    }
}

/// An Envoy bootstrap, as `sluice check-config --envoy` reads it.
pub(crate) fn envoy(data: &[u8]) {
    let Some(tree) = yaml(data) else { return };
    let report = check_envoy(&tree);
    assert!(
        report.filters > 0 || !report.errors.is_empty(),
        "no filter, and no error"
    );
    for problem in report.errors.iter().chain(&report.warnings) {
        assert!(!problem.message.is_empty());
    }
}

/// The sidecar's configuration.
pub(crate) fn sidecar(data: &[u8]) {
    let Some(tree) = yaml(data) else { return };
    let text = String::from_utf8_lossy(data);
    if !is_ours(&text) {
        return;
    }
    let loaded = sluice::config::load(&text, std::iter::empty());
    if let Err(problems) = &loaded {
        check_problems(problems);
    }
    // JSON is YAML: the tree says the same.
    let again = sluice::config::load(&tree.to_string(), std::iter::empty());
    assert_eq!(
        loaded.err().as_deref().map(paths),
        again.err().as_deref().map(paths)
    );
}

/// Whether reading it reads nothing of somebody else's. What a configuration may name is the operator's business, and
/// endless for some files; a library that librdkafka loads is not ours.
pub(crate) fn is_ours(text: &str) -> bool {
    !text.contains("/dev/") && !text.contains("plugin")
}

/// The tree in YAML text, which comes back when it is written as JSON.
fn yaml(data: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(data).ok()?;
    match sluice::config::yaml_tree(text) {
        Ok(tree) => {
            let again = sluice::config::yaml_tree(&tree.to_string());
            assert_eq!(again.as_ref(), Ok(&tree));
            Some(tree)
        }
        Err(problem) => {
            check_problems(&[problem]);
            None
        }
    }
}

pub(crate) fn check_problems(problems: &[Problem]) {
    assert!(!problems.is_empty());
    for problem in problems {
        assert!(!problem.message.is_empty(), "{problem:?}");
    }
}

/// A pattern that is taken matches whole names only, and one that is not says why in one line.
pub(crate) fn topics_pattern(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match sluice::config::topics_pattern(text) {
        Ok(pattern) => {
            for name in ["orders", "a", "a.b-c_d"] {
                if let Some(found) = pattern.find(name) {
                    assert_eq!(found.as_str(), name, "{text:?}");
                }
            }
        }
        Err(why) => assert!(!why.is_empty() && !why.contains('\n'), "{text:?}: {why:?}"),
    }
}
