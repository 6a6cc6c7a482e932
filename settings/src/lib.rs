//! Reads a configuration tree (a [`Value`]) and reports *every* problem in it with its path.
//!
//! serde stops at the first mistake; an operator wants the whole list. A [`Section`] is one mapping of the
//! tree. Each getter takes a key, returns `None` where the key is absent (or null), and reports a value of the
//! wrong shape to the shared [`Problems`]. [`Section::finish`] reports the keys that nobody asked for.
//!
//! ```
//! use sluice_settings::{Problems, Section};
//! let problems = Problems::default();
//! let tree = serde_json::json!({"topic": 7, "topik": "orders"});
//! let section = Section::root(&tree, &problems);
//! assert_eq!(section.string("topic"), None);
//! section.finish();
//! let all: Vec<String> = problems.into_vec().iter().map(ToString::to_string).collect();
//! assert_eq!(all, ["topic: must be a string, not the number 7", "topik: unknown field; did you mean `topic`?"]);
//! ```

mod duration;

use std::cell::RefCell;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Map, Value};

pub use duration::parse_duration;

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where in the tree, as `routes[2].topic`; empty for the whole.
    pub path: String,
    /// What is wrong, naming the bound or the cure.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// Collects problems while a tree is read.
#[derive(Debug, Default)]
pub struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    /// Reports a problem at `path`.
    pub fn report(&self, path: impl Into<String>, message: impl Into<String>) {
        self.0.borrow_mut().push(Problem {
            path: path.into(),
            message: message.into(),
        });
    }

    /// Whether nothing was reported.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Everything reported, in the order of reading.
    pub fn into_vec(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}

/// One mapping of the tree.
pub struct Section<'a> {
    path: String,
    map: Option<&'a Map<String, Value>>,
    problems: &'a Problems,
    asked: RefCell<Vec<String>>,
}

impl<'a> Section<'a> {
    /// The whole tree; anything but a mapping (or null) is a problem.
    pub fn root(tree: &'a Value, problems: &'a Problems) -> Self {
        Self::at(tree, String::new(), problems)
    }

    /// `value`, found at `path`, as a section.
    pub fn at(value: &'a Value, path: String, problems: &'a Problems) -> Self {
        let map = match value {
            Value::Object(map) => Some(map),
            Value::Null => None,
            other => {
                problems.report(
                    path.clone(),
                    format!("must be a mapping, not {}", describe(other)),
                );
                None
            }
        };
        Self {
            path,
            map,
            problems,
            asked: RefCell::default(),
        }
    }

    /// The path of this section; empty for the root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The path of `key` in this section.
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// The keys that are set (to anything but null), in the order written.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.map
            .into_iter()
            .flatten()
            .filter(|(_, v)| !v.is_null())
            .map(|(k, _)| k.as_str())
    }

    /// Reports a problem with the value of `key`.
    pub fn problem(&self, key: &str, message: impl Into<String>) {
        self.problems.report(self.path_of(key), message);
    }

    /// The value of `key` as it is; `None` if absent or null. Marks the key as known.
    pub fn raw(&self, key: &str) -> Option<&'a Value> {
        self.asked.borrow_mut().push(key.to_owned());
        self.map?.get(key).filter(|value| !value.is_null())
    }

    /// Marks `key` as one that must not be here; if it is set, `message` says where it goes.
    pub fn refuse(&self, key: &str, message: &str) {
        if self.raw(key).is_some() {
            self.problem(key, message);
        }
    }

    fn mistyped(&self, key: &str, wanted: &str, value: &Value) {
        self.problem(key, format!("must be {wanted}, not {}", describe(value)));
    }

    /// A string.
    pub fn string(&self, key: &str) -> Option<String> {
        match self.raw(key)? {
            Value::String(s) => Some(s.clone()),
            other => {
                self.mistyped(key, "a string", other);
                None
            }
        }
    }

    /// A string that is not empty.
    pub fn name(&self, key: &str) -> Option<String> {
        let s = self.string(key)?;
        if s.is_empty() {
            self.problem(key, "must not be empty");
            return None;
        }
        Some(s)
    }

    /// A boolean.
    pub fn bool(&self, key: &str) -> Option<bool> {
        match self.raw(key)? {
            Value::Bool(b) => Some(*b),
            other => {
                self.mistyped(key, "true or false", other);
                None
            }
        }
    }

    /// A whole number within `range` (both ends included).
    pub fn integer(&self, key: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let value = self.raw(key)?;
        let number = value.as_i64().or_else(|| whole(value));
        match number {
            Some(n) if range.contains(&n) => Some(n),
            Some(n) => {
                self.problem(
                    key,
                    format!("must be from {} to {}, not {n}", range.start(), range.end()),
                );
                None
            }
            None => {
                self.mistyped(key, "a whole number", value);
                None
            }
        }
    }

    /// A time, given as a number of milliseconds or as text with a unit (`250ms`, `5s`, `2m`, `1h`, `7d`), within
    /// `range` milliseconds.
    pub fn millis(&self, key: &str, range: RangeInclusive<i64>) -> Option<Duration> {
        let value = self.raw(key)?;
        let Value::String(text) = value else {
            let ms = self.integer(key, range)?;
            return Some(Duration::from_millis(ms.unsigned_abs()));
        };
        match parse_duration(text) {
            Ok(d) if range.contains(&i64::try_from(d.as_millis()).unwrap_or(i64::MAX)) => Some(d),
            Ok(_) => {
                self.problem(
                    key,
                    format!(
                        "must be from {} ms to {} ms, not {text:?}",
                        range.start(),
                        range.end()
                    ),
                );
                None
            }
            Err(why) => {
                self.problem(key, why);
                None
            }
        }
    }

    /// One of the named choices.
    pub fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let value = self.raw(key)?;
        let found = value
            .as_str()
            .and_then(|s| choices.iter().find(|(name, _)| *name == s));
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.mistyped(key, &format!("one of {}", names.join(", ")), value);
        }
        found.map(|(_, t)| *t)
    }

    /// A list of strings.
    pub fn strings(&self, key: &str) -> Option<Vec<String>> {
        let items = self.list(key)?;
        let mut strings = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            match item {
                Value::String(s) => strings.push(s.clone()),
                other => self.mistyped(&format!("{key}[{i}]"), "a string", other),
            }
        }
        Some(strings)
    }

    /// A mapping from strings to scalars (string, number, boolean), as text, in the order written.
    pub fn scalars(&self, key: &str) -> Option<Vec<(String, String)>> {
        let section = self.section(key)?;
        let mut pairs = Vec::new();
        for name in section.keys() {
            match section.raw(name) {
                Some(Value::String(s)) => pairs.push((name.to_owned(), s.clone())),
                Some(Value::Bool(b)) => pairs.push((name.to_owned(), b.to_string())),
                Some(value @ Value::Number(n)) => {
                    pairs.push((
                        name.to_owned(),
                        whole(value).map_or_else(|| n.to_string(), |n| n.to_string()),
                    ));
                }
                Some(other) => section.mistyped(name, "a string, number or boolean", other),
                None => {}
            }
        }
        Some(pairs)
    }

    /// A list of anything.
    pub fn list(&self, key: &str) -> Option<&'a [Value]> {
        match self.raw(key)? {
            Value::Array(items) => Some(items),
            other => {
                self.mistyped(key, "a list", other);
                None
            }
        }
    }

    /// A mapping below this one.
    pub fn section(&self, key: &str) -> Option<Section<'a>> {
        let value = self.raw(key)?;
        if !value.is_object() {
            self.mistyped(key, "a mapping", value);
            return None;
        }
        Some(Section::at(value, self.path_of(key), self.problems))
    }

    /// A list of mappings.
    pub fn sections(&self, key: &str) -> Option<Vec<Section<'a>>> {
        let items = self.list(key)?;
        let section = |(i, item)| Section::at(item, self.path_of(&format!("{key}[{i}]")), self.problems);
        Some(items.iter().enumerate().map(section).collect())
    }

    /// A mapping from names to mappings, in the order written.
    pub fn named_sections(&self, key: &str) -> Option<Vec<(String, Section<'a>)>> {
        let section = self.section(key)?;
        let one = |name: &'a str| {
            let value = section.raw(name)?;
            Some((
                name.to_owned(),
                Section::at(value, section.path_of(name), self.problems),
            ))
        };
        Some(section.keys().filter_map(one).collect())
    }

    /// Reports every key that no getter asked for.
    pub fn finish(self) {
        let asked = self.asked.borrow();
        for key in self.map.into_iter().flatten().map(|(k, _)| k) {
            if asked.iter().any(|a| a == key) {
                continue;
            }
            let near = asked
                .iter()
                .map(|a| (distance(a, key), a))
                .min_by_key(|(d, _)| *d);
            let near = near.filter(|(d, _)| *d <= 1 + key.len() / 5);
            let hint = near
                .map(|(_, a)| format!("; did you mean `{a}`?"))
                .unwrap_or_default();
            self.problem(key, format!("unknown field{hint}"));
        }
    }
}

/// A number written as `5.0`, as protobuf's `Struct` holds every number, is the whole number 5.
#[allow(clippy::cast_possible_truncation, reason = "the range is checked first")]
fn whole(value: &Value) -> Option<i64> {
    let n = value.as_f64()?;
    (n.fract() == 0.0 && n.abs() < 9e15).then_some(n as i64)
}

/// Names a value in a message without quoting more than a little of it.
fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(b) => format!("{b}"),
        Value::Number(n) => format!("the number {n}"),
        Value::String(s) if s.chars().count() > 40 => "a long string".to_owned(),
        Value::String(s) => format!("the string {s:?}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}

/// The Levenshtein distance of two keys.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, cb) in row.iter_mut().skip(1).zip(b.chars()) {
            let best = (diagonal + usize::from(ca != cb)).min(*cell + 1).min(left + 1);
            diagonal = *cell;
            *cell = best;
            left = best;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems_of(tree: &Value, read: impl Fn(&Section<'_>)) -> Vec<String> {
        let problems = Problems::default();
        let section = Section::root(tree, &problems);
        read(&section);
        section.finish();
        problems.into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_problem_is_named_with_its_path() {
        let tree = json!({"a": {"n": 0}, "list": [{"x": 1}, 3], "mode": "fast", "wait": "5 parsecs"});
        let all = problems_of(&tree, |root| {
            let a = root.section("a").unwrap();
            a.integer("n", 1..=9);
            a.finish();
            for item in root.sections("list").unwrap() {
                item.bool("x");
            }
            root.choice("mode", &[("acked", 1), ("buffered", 2)]);
            root.millis("wait", 0..=10);
        });
        assert_eq!(
            all,
            [
                "a.n: must be from 1 to 9, not 0",
                "list[1]: must be a mapping, not the number 3",
                "list[0].x: must be true or false, not the number 1",
                "mode: must be one of acked, buffered, not the string \"fast\"",
                "wait: \"5 parsecs\" is not a time; write it as 250ms, 5s, 2m, 1h or 7d",
            ]
        );
    }

    #[test]
    fn a_struct_number_is_whole() {
        let tree = json!({"n": 5.0, "wait": 250.0, "half": 1.5, "props": {"a": 3.0, "b": true}});
        let all = problems_of(&tree, |root| {
            assert_eq!(root.integer("n", 0..=9), Some(5));
            assert_eq!(root.millis("wait", 0..=1000), Some(Duration::from_millis(250)));
            assert_eq!(root.integer("half", 0..=9), None);
            let props = root.scalars("props").unwrap();
            assert_eq!(props, [("a".into(), "3".into()), ("b".into(), "true".into())]);
        });
        assert_eq!(all, ["half: must be a whole number, not the number 1.5"]);
    }

    #[test]
    fn null_is_absent_and_unknown_keys_are_reported() {
        let tree = json!({"topic": null, "sucess_status": 200});
        let all = problems_of(&tree, |root| {
            assert_eq!(root.string("topic"), None);
            root.integer("success_status", 200..=299);
        });
        assert_eq!(
            all,
            ["sucess_status: unknown field; did you mean `success_status`?"]
        );
    }
}
