//! `groups`, `group` and `qos` of an entry of `reads`.

use serde_json::{Map, Value};
use sluice_settings::Section;

use crate::config::{ChosenFrom, Said, Template, TopicAllowlist};

/// What an id has that claims stand in.
const BRACES: [char; 2] = ['{', '}'];
/// The longest id of a group, in bytes: what a broker's file names and most tools take.
const MAX_GROUP: usize = 255;

/// The consumer groups that the readers of an entry may use.
#[derive(Debug, Clone, Default)]
pub struct ReadGroups {
    /// `groups`: their ids, or starts of them with a `*` at the end.
    pub allowed: TopicAllowlist,
    /// Those of `groups` that hold claims of the caller's.
    pub claimed: Vec<Template>,
    /// `group`: what of the request says its group.
    pub said: Option<Said>,
    /// `group.prefix`: what comes before what it says.
    pub prefix: String,
    /// The same where it holds claims.
    pub claimed_prefix: Option<Template>,
    /// `qos`: where the request says none.
    pub qos: Qos,
}

/// Who reads, so far as it is known.
#[derive(Debug, Clone, Copy, Default)]
pub struct Who<'a> {
    /// What the token of an issuer's says.
    pub claims: Option<&'a Map<String, Value>>,
    /// What the issuer calls the caller, or the configuration whoever has the token.
    pub name: Option<&'a str>,
}

impl ReadGroups {
    /// Whether a reader has the group that `said` comes to, and may name no other: it is one of a list, or the token's.
    pub fn is_fixed(&self) -> bool {
        matches!(self.said, Some(Said::Listed(_) | Said::Any(ChosenFrom::Claim(_))))
    }

    /// Whether the caller may use the group.
    pub fn allow(&self, group: &str, who: Who<'_>) -> bool {
        let filled = |template: &Template| TopicAllowlist(template.fill_for(who.claims, who.name));
        self.allowed.allows(group) || self.claimed.iter().any(|template| filled(template).allows(group))
    }

    /// What comes before what the request says; none: there is nothing of the caller that makes it.
    pub fn prefix_for(&self, who: Who<'_>) -> Option<String> {
        match &self.claimed_prefix {
            None => Some(self.prefix.clone()),
            Some(template) => template.fill_for(who.claims, who.name).into_iter().next(),
        }
    }

    /// What they are, for people.
    pub fn named(&self) -> String {
        let claimed = self.claimed.iter().map(ToString::to_string);
        let all: Vec<String> = self.allowed.0.iter().cloned().chain(claimed).collect();
        match all.as_slice() {
            [] => "none".to_owned(),
            all => all.join(", "),
        }
    }
}

/// What holds for the records that a group is given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Qos {
    /// No position is kept.
    None,
    /// As [`Self::AtBest`].
    #[default]
    Auto,
    /// The position is committed now and then.
    Balanced,
    /// The position is committed soon after records were sent, and when a partition moves on.
    AtBest,
    /// The position is committed before records are sent.
    AtMostOnce,
    /// The position is committed when the client says that it has the records.
    AtLeastOnce,
}

/// All of them, by name.
pub(super) const QOS: [(&str, Qos); 6] = [
    ("none", Qos::None),
    ("auto", Qos::Auto),
    ("balanced", Qos::Balanced),
    ("at-best", Qos::AtBest),
    ("at-most-once", Qos::AtMostOnce),
    ("at-least-once", Qos::AtLeastOnce),
];

impl Qos {
    /// Its name.
    pub fn name(self) -> &'static str {
        QOS.iter()
            .find(|(_, qos)| *qos == self)
            .map_or("auto", |(name, _)| name)
    }

    /// That of a name.
    pub fn of(name: &str) -> Option<Self> {
        QOS.iter().find(|(known, _)| *known == name).map(|(_, qos)| *qos)
    }
}

/// Whether something can be a group's id.
///
/// # Errors
/// Why not, in words.
pub fn check_group(id: &str) -> Result<(), String> {
    if id.is_empty() {
        return Err("is empty".to_owned());
    }
    if id.len() > MAX_GROUP {
        return Err(format!("is {} bytes long, and may be {MAX_GROUP}", id.len()));
    }
    match id.chars().find(|c| c.is_control()) {
        Some(_) => Err("has a control character in it".to_owned()),
        None => Ok(()),
    }
}

/// Checks a list of groups' ids, and of starts of ids with a `*` at their ends.
pub(in crate::config) fn check_ids(section: &Section<'_>, key: &str, ids: &[String]) {
    for (i, entry) in ids.iter().enumerate() {
        let name = entry.strip_suffix('*').unwrap_or(entry);
        if entry != "*"
            && let Err(why) = check_group(name)
        {
            section.problem(&format!("{key}[{i}]"), format!("{entry:?} {why}"));
        }
    }
}

/// Reads the fields of an entry; `names`: some of its tokens have names.
pub(super) fn read(section: &Section<'_>, names: bool) -> ReadGroups {
    let mut groups = ReadGroups::default();
    let has_jwt = section.raw("jwt").is_some();
    let template = |key: &str, text: &str| {
        let template = Template::parse_group(text).map_err(|why| section.problem(key, why));
        let template = template.ok()?;
        if template.has_claims() && !has_jwt {
            section.problem(key, "has a claim in it, which only a token has: set `jwt`");
        } else if template.has_name() && !has_jwt && !names {
            section.problem(
                key,
                "has the caller's name in it, which nobody has: set `jwt`, or give `tokens` names",
            );
        }
        Some(template)
    };
    let (mut prefix, mut claimed_prefix) = (None, None);
    let check = |id: &str| check_group(id).map_err(|why| format!("{id:?} {why}"));
    groups.said = Said::read(section, "group", check, |group| {
        if group.raw("allowed").is_some() {
            group.refuse("prefix", "is set beside `allowed`, which has whole ids");
        } else if let Some(text) = group.string("prefix") {
            match check_group(&text) {
                Ok(()) if text.contains(BRACES) && text.ends_with('*') => {
                    group.problem("prefix", "ends in a `*`: it is the start of every id as it is");
                }
                Ok(()) if text.contains(BRACES) => claimed_prefix = template("group.prefix", &text),
                Ok(()) => prefix = Some(text),
                Err(why) => group.problem("prefix", why),
            }
        }
    });
    groups.prefix = prefix.unwrap_or_default();
    groups.claimed_prefix = claimed_prefix;
    if let Some(Said::Listed(choice)) = &groups.said {
        section.refuse(
            "groups",
            "is set beside `group.allowed`, which lists them already",
        );
        groups.allowed = TopicAllowlist(choice.allowed.clone());
        groups.qos = section.choice("qos", &QOS).unwrap_or_default();
        return groups;
    }
    match section.strings("groups") {
        Some(names) => {
            check_ids(section, "groups", &names);
            for (i, entry) in names.into_iter().enumerate() {
                if entry.contains(BRACES) {
                    groups.claimed.extend(template(&format!("groups[{i}]"), &entry));
                } else {
                    groups.allowed.0.push(entry);
                }
            }
        }
        None if groups.claimed_prefix.is_some() => {
            let prefix = groups.claimed_prefix.iter().map(ToString::to_string).collect::<String>();
            groups.claimed.extend(template("group.prefix", &format!("{prefix}*")));
        }
        None if !groups.prefix.is_empty() => {
            groups.allowed = TopicAllowlist(vec![format!("{}*", groups.prefix)]);
        }
        // The issuer says whose group it is.
        None if groups.is_fixed() => groups.allowed = TopicAllowlist(vec!["*".to_owned()]),
        None if groups.said.is_some() => section.problem(
            "groups",
            "is required where `group` has no `prefix` and no `allowed`: [\"*\"] lets a client use any group of the cluster",
        ),
        None => {}
    }
    groups.qos = section.choice("qos", &QOS).unwrap_or_default();
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_qos_are_read_back() {
        for (name, qos) in QOS {
            assert_eq!((qos.name(), Qos::of(name)), (name, Some(qos)));
        }
        assert_eq!(Qos::of("exactly-once"), None);
    }

    #[test]
    fn what_is_not_known_of_a_caller_stands_in_no_group() {
        let problems = |entry: &str| {
            let yaml = format!(
                "clusters: {{main: {{bootstrap_servers: a, allowed_topics: [t]}}}}\n\
                 jwt: {{idp: {{issuer: i, audiences: [s], jwks: {{url: 'https://keys'}}}}}}\n\
                 reads: [{{topics: [t], max_wait: 0, {entry}}}]"
            );
            let problems = crate::config::load(&yaml, std::iter::empty())
                .err()
                .unwrap_or_default();
            problems.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        for entry in [
            "jwt: {provider: idp}, groups: ['{claims.org}.*', '{name}', x]",
            "jwt: {provider: idp}, group: {header: x-app, prefix: '{claims.org}.'}",
            "tokens: [{env: T, name: a}], groups: ['{name}']",
        ] {
            let found = problems(entry);
            assert!(
                found.iter().all(|problem| problem.contains("has no T")),
                "{entry}: {found:?}"
            );
        }
        for (entry, told) in [
            (
                "tokens: [t], groups: ['{claims.org}.*']",
                "reads[0].groups[0]: has a claim in it",
            ),
            (
                "tokens: [t], groups: ['{name}']",
                "reads[0].groups[0]: has the caller's name in it",
            ),
            (
                "anonymous: true, groups: ['{name}']",
                "reads[0].groups[0]: has the caller's name in it",
            ),
            (
                "jwt: {provider: idp}, groups: ['{claims.org}*']",
                "reads[0].groups[0]: \"{claims.org}*\" would let",
            ),
            (
                "jwt: {provider: idp}, groups: ['{org}.*']",
                "reads[0].groups[0]: \"{org}.*\" has a brace",
            ),
            (
                "jwt: {provider: idp}, group: {header: x-app, prefix: '{claims.org}'}",
                "reads[0].group.prefix: \"{claims.org}*\" would let",
            ),
            (
                "jwt: {provider: idp}, group: {header: x-app, prefix: '{claims.org}.*'}",
                "reads[0].group.prefix: ends in a `*`",
            ),
            (
                "tokens: [{env: T, name: ''}]",
                "reads[0].tokens[0].name: must be 1 to 255 bytes",
            ),
        ] {
            let found = problems(entry);
            assert!(
                found.iter().any(|problem| problem.starts_with(told)),
                "{entry}: {found:?}"
            );
        }
    }

    #[test]
    fn ids_of_groups_are_bounded() {
        assert!(check_group("ORG_ID.app 1/ü").is_ok());
        for bad in ["", "a\nb", &"g".repeat(256)] {
            assert!(check_group(bad).is_err(), "{bad}");
        }
    }
}
