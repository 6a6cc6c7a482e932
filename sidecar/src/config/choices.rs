//! Values that a request chooses among those that its entry lists, in the words of the filter's configuration.

use std::fmt;

use axum::http::HeaderName;
use serde_json::Value;
use sluice_settings::Section;

use crate::auth::claims::Name;

/// What of a request chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// The first header of this name.
    Header(HeaderName),
    /// The first query argument of this name.
    Query(String),
    /// A claim of the token.
    Claim(Name),
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.named() {
            ("query", name) => write!(f, "query argument {name}"),
            (kind, name) => write!(f, "{kind} {name}"),
        }
    }
}

impl From {
    /// The word for it in the configuration, and its name.
    pub fn named(&self) -> (&'static str, String) {
        match self {
            Self::Header(name) => ("header", name.to_string()),
            Self::Query(name) => ("query", name.clone()),
            Self::Claim(name) => ("claim", name.to_string()),
        }
    }

    /// Reads it from `own`, which is `key` of `section`. None if it is wrong, which is reported.
    fn read(section: &Section<'_>, own: &Section<'_>, key: &str) -> Option<Self> {
        own.refuse(
            "metadata",
            "is Envoy's alone: have the route set a header of it (`%DYNAMIC_METADATA(…)%`), and name that one",
        );
        let header = own.name("header").and_then(|name| {
            let parsed = name.parse::<HeaderName>();
            parsed
                .map_err(|_| own.problem("header", format!("{name:?} is no header's name")))
                .ok()
        });
        let query = own.name("query");
        let claim = own.name("claim").and_then(|name| {
            let parsed = Name::parse(&name);
            parsed.map_err(|why| own.problem("claim", why)).ok()
        });
        let given = ["header", "query", "claim"];
        let given = given.iter().filter(|key| own.raw(key).is_some()).count();
        if given != 1 {
            section.problem(
                key,
                "needs one of `header`, `query` and `claim`: what of the request chooses",
            );
        }
        header
            .map(Self::Header)
            .or(query.map(Self::Query))
            .or(claim.map(Self::Claim))
    }
}

/// A value that the request chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// By what.
    pub from: From,
    /// Among these.
    pub allowed: Vec<String>,
    /// What counts where the request has nothing there.
    pub default: Option<String>,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "by {} among {}", self.from, self.allowed.join(", "))?;
        match &self.default {
            Some(default) => write!(f, ", or else {default}"),
            None => Ok(()),
        }
    }
}

/// A value that the request says, which need not be one of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// One of a list.
    Listed(Choice),
    /// Whatever is there.
    Any(From),
}

impl Said {
    /// Reads it at `key`: a choice if it has `allowed` or `default`. `more` reads what the section has besides. None if it is
    /// wrong, which is reported.
    pub(super) fn read(
        section: &Section<'_>,
        key: &str,
        check: impl Fn(&str) -> Result<(), String>,
        more: impl FnOnce(&Section<'_>),
    ) -> Option<Self> {
        let own = section.section(key)?;
        let from = From::read(section, &own, key);
        let is_listed = own.raw("allowed").is_some() || own.raw("default").is_some();
        let said = if is_listed {
            Choice::listed(&own, from, check).map(Self::Listed)
        } else {
            from.map(Self::Any)
        };
        more(&own);
        own.finish();
        said
    }

    /// What of the request says it.
    pub fn from(&self) -> &From {
        match self {
            Self::Listed(choice) => &choice.from,
            Self::Any(from) => from,
        }
    }
}

/// What a request gets instead of its choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoChoice {
    /// It says nothing, and there is no default.
    Missing,
    /// What it says is not listed.
    NotListed,
}

impl Choice {
    /// Reads the choice at `key`, each of whose values `check` must take. None if it is none, or wrong, which is reported.
    pub(super) fn read(
        section: &Section<'_>,
        key: &str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Option<Self> {
        if !matches!(section.raw(key), Some(Value::Object(_))) {
            return None;
        }
        let own = section.section(key)?;
        let from = From::read(section, &own, key);
        let choice = Self::listed(&own, from, check);
        own.finish();
        choice
    }

    /// The rest of a choice, in its own section.
    fn listed(
        own: &Section<'_>,
        from: Option<From>,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Option<Self> {
        let allowed = own.strings("allowed").unwrap_or_default();
        if allowed.is_empty() {
            own.problem(
                "allowed",
                "is required, and not empty: what the request may choose",
            );
        }
        for (i, value) in allowed.iter().enumerate() {
            if let Err(why) = check(value) {
                own.problem(&format!("allowed[{i}]"), why);
            }
        }
        let default = own.string("default");
        if let Some(default) = default.as_ref().filter(|default| !allowed.contains(default)) {
            own.problem("default", format!("{default:?} is not in `allowed`"));
        }
        Some(Self {
            from: from?,
            allowed,
            default,
        })
    }

    /// What the request chooses that says `said` there.
    ///
    /// # Errors
    /// It chooses nothing that is listed.
    pub fn choose(&self, said: Option<&[u8]>) -> Result<&str, NoChoice> {
        match said {
            Some(said) => {
                let listed = self.allowed.iter().find(|one| one.as_bytes() == said);
                listed.map(String::as_str).ok_or(NoChoice::NotListed)
            }
            None => self.default.as_deref().ok_or(NoChoice::Missing),
        }
    }
}
