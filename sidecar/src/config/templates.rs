//! Names of topics that hold claims of a token: `{claims.org}.*`.

use std::fmt;

use serde_json::{Map, Value};

use super::TopicAllowlist;
use super::read::check_topic;
use crate::auth::claims::Name;

/// The most names that one template may stand for: a claim may be a list.
const MOST: usize = 1000;

/// A topic's name, or with `*` at its end the start of one, with claims in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    /// Text, and the claim that follows it.
    parts: Vec<(String, Name)>,
    /// What is after the last claim.
    rest: String,
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Template {
    /// Reads one; every `{…}` is a claim.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts: Vec<(String, Name)> = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let named = after
                .split_once('}')
                .and_then(|(name, after)| Some((name.strip_prefix("claims.")?, after)));
            let Some((name, after)) = named else {
                return Err(format!("{text:?} has a brace that is no {{claims.NAME}}"));
            };
            if before.is_empty() && !parts.is_empty() {
                return Err(format!(
                    "{text:?} has two claims side by side: where one ends must be seen"
                ));
            }
            parts.push((before.to_owned(), Name::parse(name)?));
            rest = after;
        }
        if rest == "*" {
            return Err(format!(
                "{text:?} would let one whose claim is `a` read what is of `ab`: write a separator before the `*`"
            ));
        }
        let legal: String = parts
            .iter()
            .flat_map(|(before, _)| [before.as_str(), "x"])
            .chain([rest.strip_suffix('*').unwrap_or(rest)])
            .collect();
        check_topic(&legal).map_err(|_| {
            format!("{text:?} is neither a topic's name nor the start of one with a `*` at its end")
        })?;
        Ok(Self {
            text: text.to_owned(),
            parts,
            rest: rest.to_owned(),
        })
    }

    /// The names for a caller with these claims. A claim that is not there, or that cannot stand there, gives none: what
    /// has the character which ends it would be somebody else's name, and nothing that is no part of a topic's name
    /// gets into one.
    pub fn fill(&self, claims: &Map<String, Value>) -> Vec<String> {
        let mut names = vec![String::new()];
        for (i, (before, name)) in self.parts.iter().enumerate() {
            let after = self.parts.get(i + 1).map_or(&self.rest, |(text, _)| text);
            let ends = after.chars().next();
            let fits =
                |value: &String| check_topic(value).is_ok() && ends.is_none_or(|end| !value.contains(end));
            let values: Vec<String> = name.texts(claims).into_iter().filter(fits).collect();
            names = names
                .iter()
                .flat_map(|start| values.iter().map(move |value| format!("{start}{before}{value}")))
                .take(MOST)
                .collect();
        }
        names.into_iter().map(|name| name + &self.rest).collect()
    }
}

/// The topics of an entry that has templates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedTopics {
    /// Those without claims.
    pub fixed: TopicAllowlist,
    /// Those with.
    pub templates: Vec<Template>,
}

impl ClaimedTopics {
    /// The topics for a caller with these claims.
    pub fn fill(&self, claims: &Map<String, Value>) -> TopicAllowlist {
        let filled = self.templates.iter().flat_map(|template| template.fill(claims));
        TopicAllowlist(self.fixed.0.iter().cloned().chain(filled).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filled(template: &str, claims: Value) -> Vec<String> {
        let Value::Object(claims) = claims else { panic!() };
        Template::parse(template).unwrap().fill(&claims)
    }

    #[test]
    fn a_claim_stands_in_its_place() {
        assert_eq!(filled("{claims.org}.*", json!({"org": "acme"})), ["acme.*"]);
        assert_eq!(filled("{claims.topic}", json!({"topic": "a.b"})), ["a.b"]);
        assert_eq!(
            filled(
                "t-{claims.org}.{claims.x.y}",
                json!({"org": ["a", "b-c"], "x": {"y": 7}})
            ),
            ["t-a.7", "t-b-c.7"]
        );
    }

    #[test]
    fn no_claim_widens_what_may_be_read() {
        for value in [
            "*",
            "",
            "a*",
            ".",
            "..",
            "a.b",
            "a.*",
            "a/b",
            "{claims.org}",
            "ä",
            "a b",
            "a\n",
        ] {
            assert_eq!(
                filled("{claims.org}.*", json!({ "org": value })),
                [""; 0],
                "{value:?}"
            );
        }
        assert_eq!(filled("{claims.org}.*", json!({"other": "acme"})), [""; 0]);
        assert_eq!(filled("{claims.org}.*", json!({"org": {"a": "b"}})), [""; 0]);
        assert_eq!(
            filled("{claims.org}.{claims.team}.*", json!({"org": "a", "team": "b.c"})),
            [""; 0]
        );
        let many: Vec<String> = (0..100).map(|n| format!("v{n}")).collect();
        let claims = json!({"a": many, "b": many});
        assert_eq!(filled("{claims.a}.{claims.b}", claims).len(), MOST);
    }

    #[test]
    fn what_cannot_be_meant_is_an_error() {
        for (wrong, what) in [
            ("{claims.org}*", "separator"),
            ("{claims.a}{claims.b}.*", "side by side"),
            ("{org}.*", "no {claims.NAME}"),
            ("{claims.org.*", "no {claims.NAME}"),
            ("{claims.}.*", "claim's name"),
            ("{claims.org}.*.x", "neither"),
            ("{claims.org}/x", "neither"),
            ("a}b", "neither"),
        ] {
            let why = Template::parse(wrong).unwrap_err();
            assert!(why.contains(what), "{wrong}: {why}");
        }
    }
}
