//! `groups`, `group` and `qos` of an entry of `reads`.

use sluice_settings::Section;

use crate::config::{ChosenFrom, Said, TopicAllowlist};

/// The longest id of a group, in bytes: what a broker's file names and most tools take.
const MAX_GROUP: usize = 255;

/// The consumer groups that the readers of an entry may use.
#[derive(Debug, Clone, Default)]
pub struct ReadGroups {
    /// `groups`: their ids, or starts of them with a `*` at the end.
    pub allowed: TopicAllowlist,
    /// `group`: what of the request says its group.
    pub said: Option<Said>,
    /// `group.prefix`: what comes before what it says.
    pub prefix: String,
    /// `qos`: where the request says none.
    pub qos: Qos,
}

impl ReadGroups {
    /// Whether a reader has the group that `said` comes to, and may name no other: it is one of a list, or the token's.
    pub fn is_fixed(&self) -> bool {
        matches!(self.said, Some(Said::Listed(_) | Said::Any(ChosenFrom::Claim(_))))
    }

    /// What they are, for people.
    pub fn named(&self) -> String {
        match self.allowed.0.as_slice() {
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

pub(super) fn read(section: &Section<'_>) -> ReadGroups {
    let mut groups = ReadGroups::default();
    let mut prefix = None;
    let check = |id: &str| check_group(id).map_err(|why| format!("{id:?} {why}"));
    groups.said = Said::read(section, "group", check, |group| {
        if group.raw("allowed").is_some() {
            group.refuse("prefix", "is set beside `allowed`, which has whole ids");
        } else if let Some(text) = group.string("prefix") {
            match check_group(&text) {
                Ok(()) => prefix = Some(text),
                Err(why) => group.problem("prefix", why),
            }
        }
    });
    groups.prefix = prefix.unwrap_or_default();
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
            for (i, entry) in names.iter().enumerate() {
                let name = entry.strip_suffix('*').unwrap_or(entry);
                if entry != "*"
                    && let Err(why) = check_group(name)
                {
                    section.problem(&format!("groups[{i}]"), format!("{entry:?} {why}"));
                }
            }
            groups.allowed = TopicAllowlist(names);
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
    fn ids_of_groups_are_bounded() {
        assert!(check_group("ORG_ID.app 1/ü").is_ok());
        for bad in ["", "a\nb", &"g".repeat(256)] {
            assert!(check_group(bad).is_err(), "{bad}");
        }
    }
}
