//! Names of topics, and ids of groups, that hold claims of a token: `{claims.org}.*`.

use std::fmt;

use serde_json::{Map, Value};

use super::TopicAllowlist;
use super::read::check_topic;
use super::reads::check_group;
use crate::auth::claims::Name;

/// The most names that one template may stand for: a claim may be a list.
const MOST: usize = 1000;

/// What names that hold claims are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Topics,
    Groups,
}

impl Of {
    fn is_legal(self, name: &str) -> bool {
        match self {
            Self::Topics => check_topic(name).is_ok(),
            // A `*` at an end would be every group that begins so.
            Self::Groups => check_group(name).is_ok() && !name.contains('*'),
        }
    }
}

/// What a brace stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stands {
    /// What this claim says.
    Claim(Name),
    /// The caller's name.
    Caller,
}

/// A topic's name or a group's id, or with `*` at its end the start of one, with claims in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    of: Of,
    text: String,
    /// Text, and what the brace that follows it stands for.
    parts: Vec<(String, Stands)>,
    /// What is after the last brace.
    rest: String,
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Template {
    /// Reads one of topics; every `{…}` is a claim.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::parse_as(Of::Topics, text)
    }

    /// Reads one of groups; every `{…}` is a claim, or `{name}`, the caller's name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_group(text: &str) -> Result<Self, String> {
        Self::parse_as(Of::Groups, text)
    }

    fn parse_as(of: Of, text: &str) -> Result<Self, String> {
        let mut parts: Vec<(String, Stands)> = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let named = after.split_once('}').and_then(|(name, after)| {
                let stands = match (name, of) {
                    ("name", Of::Groups) => Ok(Stands::Caller),
                    _ => Name::parse(name.strip_prefix("claims.")?).map(Stands::Claim),
                };
                Some((stands, after))
            });
            let Some((stands, after)) = named else {
                return Err(format!("{text:?} has a brace that is no {{claims.NAME}}"));
            };
            if before.is_empty() && !parts.is_empty() {
                return Err(format!(
                    "{text:?} has two claims side by side: where one ends must be seen"
                ));
            }
            parts.push((before.to_owned(), stands?));
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
        if !of.is_legal(&legal) {
            let what = match of {
                Of::Topics => "a topic's name",
                Of::Groups => "a group's id",
            };
            return Err(format!(
                "{text:?} is neither {what} nor the start of one with a `*` at its end"
            ));
        }
        Ok(Self {
            of,
            text: text.to_owned(),
            parts,
            rest: rest.to_owned(),
        })
    }

    /// The names for a caller with these claims. A claim that is not there, or that cannot stand there, gives none: what
    /// has the character which ends it would be somebody else's name, and nothing that is no part of a topic's name
    /// gets into one.
    pub fn fill(&self, claims: &Map<String, Value>) -> Vec<String> {
        self.fill_for(Some(claims), None)
    }

    /// Whether claims are in it.
    pub fn has_claims(&self) -> bool {
        self.parts
            .iter()
            .any(|(_, stands)| matches!(stands, Stands::Claim(_)))
    }

    /// Whether the caller's name is in it.
    pub fn has_name(&self) -> bool {
        self.parts.iter().any(|(_, stands)| *stands == Stands::Caller)
    }

    /// As [`Self::fill`], for a caller that may have a name, and claims.
    pub fn fill_for(&self, claims: Option<&Map<String, Value>>, caller: Option<&str>) -> Vec<String> {
        let mut names = vec![String::new()];
        for (i, (before, stands)) in self.parts.iter().enumerate() {
            let after = self.parts.get(i + 1).map_or(&self.rest, |(text, _)| text);
            let ends = after.chars().next();
            let fits =
                |value: &String| self.of.is_legal(value) && ends.is_none_or(|end| !value.contains(end));
            let said = match stands {
                Stands::Claim(name) => claims.map(|claims| name.texts(claims)).unwrap_or_default(),
                Stands::Caller => caller.map(str::to_owned).into_iter().collect(),
            };
            let values: Vec<String> = said.into_iter().filter(fits).collect();
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
    fn a_group_begins_with_a_claim_or_is_the_callers_name() {
        let filled = |template: &str, claims: Value| {
            let Value::Object(claims) = claims else { panic!() };
            let caller = claims.get("email").and_then(Value::as_str);
            let template = Template::parse_group(template).unwrap();
            assert_eq!(template.has_name(), template.to_string().contains("{name}"));
            assert_ne!(template.has_name(), template.has_claims());
            template.fill_for(Some(&claims), caller)
        };
        assert_eq!(filled("{claims.org}.*", json!({"org": "acme"})), ["acme.*"]);
        assert_eq!(filled("{name}", json!({"email": "a b@c.d"})), ["a b@c.d"]);
        assert_eq!(filled("x-{name}", json!({"email": "a"})), ["x-a"]);
        for (template, claims) in [
            ("{claims.org}.*", json!({"org": "acme.b"})),
            ("{claims.org}.*", json!({"org": "*"})),
            ("{claims.org}.*", json!({"org": ""})),
            ("{name}", json!({"email": "a*"})),
            ("{name}", json!({"email": "a\nb"})),
            ("{name}", json!({"sub": "a"})),
        ] {
            assert_eq!(filled(template, claims.clone()), [""; 0], "{template} {claims}");
        }
        for (wrong, what) in [
            ("{claims.org}*", "separator"),
            ("{other}", "no {claims.NAME}"),
            ("{name}.a*b", "neither a group's id"),
        ] {
            let why = Template::parse_group(wrong).unwrap_err();
            assert!(why.contains(what), "{wrong}: {why}");
        }
        assert_eq!(
            Template::parse_group("{name}").unwrap().fill_for(None, Some("a")),
            ["a"]
        );
        assert_eq!(
            Template::parse_group("{name}").unwrap().fill_for(None, None),
            [""; 0]
        );
        // Topics know no name.
        assert!(Template::parse("{name}.x").is_err());
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
