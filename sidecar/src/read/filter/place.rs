//! `where`: a place in a value, and what is there: `$.customer.id==7`.
//!
//! The place is a singular query of JSONPath (RFC 9535): `$`, then `.name`, `['name']` or `[index]` as often as wanted. After `==` or
//! `!=` there is JSON; what is no JSON is text, so that quotes may be left out where text looks like nothing else.

use crate::jq::Value;

/// The longest that is read, in bytes.
const MAX_BYTES: usize = 4096;

/// What must be at a place of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Where {
    text: String,
    steps: Vec<Step>,
    equal: bool,
    /// As JSON.
    wanted: Vec<u8>,
}

/// A step further into a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A member of an object.
    Name(String),
    /// An item of an array; a negative one counts from the end.
    Index(i64),
}

impl Where {
    /// Reads a condition.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("has {} bytes, and may have {MAX_BYTES}", text.len()));
        }
        let from = text.trim_start();
        let mut rest = from
            .strip_prefix('$')
            .ok_or("does not begin with $, as $.customer.id==7 does")?;
        let mut steps = Vec::new();
        let (equal, wanted) = loop {
            let spaced = rest.trim_start();
            if let Some(wanted) = spaced.strip_prefix("==") {
                break (true, wanted);
            }
            if let Some(wanted) = spaced.strip_prefix("!=") {
                break (false, wanted);
            }
            let (step, after) = step(rest)?;
            steps.push(step);
            rest = after;
        };
        let wanted = wanted.trim();
        let json: Result<serde_json::Value, _> = serde_json::from_str(wanted);
        let json = json.unwrap_or_else(|_| wanted.into());
        Ok(Self {
            text: text.to_owned(),
            steps,
            equal,
            wanted: json.to_string().into_bytes(),
        })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The place.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether it holds for JSON; what is none has nothing anywhere.
    pub fn holds_json(&self, json: &[u8]) -> bool {
        self.holds(&Value::from_json(json).unwrap_or(Value::Null))
    }

    /// Whether it holds for a value. Where there is nothing, nothing is equal, not even `null`.
    pub(super) fn holds(&self, value: &Value) -> bool {
        let found = self
            .steps
            .iter()
            .try_fold(value.clone(), |value, step| match step {
                Step::Name(name) => value.member(name),
                Step::Index(index) => value.item(*index),
            });
        let wanted = Value::from_json(&self.wanted).ok();
        let same = found.is_some_and(|found| wanted.is_some_and(|wanted| found == wanted));
        same == self.equal
    }
}

fn step(rest: &str) -> Result<(Step, &str), String> {
    let shown = || rest.chars().take(20).collect::<String>();
    if let Some(after) = rest.strip_prefix('.') {
        let end = after
            .find(|c: char| matches!(c, '.' | '[' | '=' | '!' | '\'' | '"' | '*' | '@') || c.is_whitespace())
            .unwrap_or(after.len());
        let (name, after) = after.split_at(end);
        if name.is_empty() {
            return Err(format!(
                "has no name at {:?}: it is written .name or ['name']",
                shown()
            ));
        }
        return Ok((Step::Name(name.to_owned()), after));
    }
    let Some(inner) = rest.strip_prefix('[') else {
        return Err(if rest.is_empty() {
            "has neither == nor !=".to_owned()
        } else {
            format!(
                "has {:?} where .name, ['name'], [index], == or != is wanted",
                shown()
            )
        });
    };
    if let Some(quote) = inner.chars().next().filter(|c| matches!(c, '\'' | '"')) {
        let mut name = String::new();
        let mut chars = inner.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            if c == quote {
                let after = inner.get(at + 1..).unwrap_or_default();
                let after = after
                    .strip_prefix(']')
                    .ok_or_else(|| format!("has no ] after the name {name:?}"))?;
                return Ok((Step::Name(name), after));
            }
            if c == '\\' {
                match chars.next() {
                    Some((_, c @ ('\\' | '\'' | '"' | '/'))) => name.push(c),
                    _ => return Err(r#"has a \ before what is none of \, ', " and /"#.to_owned()),
                }
            } else {
                name.push(c);
            }
        }
        return Err(format!("has a name without an end at {:?}", shown()));
    }
    let (number, after) = inner
        .split_once(']')
        .ok_or_else(|| format!("has no ] at {:?}", shown()))?;
    let index = number
        .trim()
        .parse()
        .map_err(|_| format!("has [{number}], which is neither ['name'] nor [index]"))?;
    Ok((Step::Index(index), after))
}
