//! Rows as they are kept in memory: the JSON that is in the topic, and what all rows are asked for again and again.
//!
//! A parsed run takes several times what its JSON does, and a sidecar has all of them. So a row is parsed once when it comes, to
//! see that it can be, and then whenever somebody wants to have it; what lists choose by, and what the clock looks for, is beside it.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::{RawValue, to_raw_value};

use super::{Action, Entity, Item, LogLine, Run, Settings, Status, Trigger};

/// A row of an organisation.
#[derive(Debug)]
pub struct Packed {
    text: Box<RawValue>,
    head: Head,
}

/// What is known of a row without parsing it.
#[derive(Debug, PartialEq, Eq)]
pub enum Head {
    /// An action that somebody starts.
    SelfService,
    /// An action that is started by what happens.
    Automation,
    /// A run.
    Run(RunHead),
    /// An entity.
    Entity {
        /// It is gone, and its row goes when that is told.
        deleted: bool,
        /// As [`Packed::is_unfinished`].
        unfinished: bool,
    },
    /// A line of a run's log.
    Log,
    /// What programs have set of the organisation itself.
    Settings,
}

/// What is known of a run without parsing it.
#[derive(Debug, PartialEq, Eq)]
pub struct RunHead {
    /// As [`Run::status`].
    pub status: Status,
    /// As [`Run::ended_ms`].
    pub ended_ms: Option<i64>,
    /// As [`Run::deadline_ms`].
    pub deadline_ms: Option<i64>,
    unfinished: bool,
    action: Span,
    user: Span,
}

/// A part of a row's text that is a JSON string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start: u32,
    length: u32,
}

/// What is looked for in a row's text before it is read.
#[derive(Deserialize)]
struct Found<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    action: Option<&'a RawValue>,
    #[serde(borrow, default)]
    user: Option<&'a RawValue>,
}

impl Packed {
    /// The row of an item.
    ///
    /// # Errors
    /// It is nothing that could be read again: it is nested too deep.
    pub fn new(item: &Item) -> serde_json::Result<Self> {
        Self::read(to_raw_value(item)?)
    }

    /// The row that a text is.
    ///
    /// # Errors
    /// It is none that this version of Sluice knows.
    fn read(text: Box<RawValue>) -> serde_json::Result<Self> {
        let found: Found<'_> = serde_json::from_str(text.get())?;
        let head = match &*found.kind {
            "action" => match serde_json::from_str::<Action>(text.get())?.trigger {
                Trigger::SelfService { .. } => Head::SelfService,
                Trigger::Automation { .. } => Head::Automation,
            },
            "run" => {
                let run: Run = serde_json::from_str(text.get())?;
                let span = |part: Option<&RawValue>| {
                    let part = part.and_then(|part| Span::of(text.get(), part.get()));
                    part.ok_or_else(|| de::Error::custom("a run is longer than any record"))
                };
                Head::Run(RunHead {
                    status: run.status,
                    ended_ms: run.ended_ms,
                    deadline_ms: run.deadline_ms,
                    action: span(found.action)?,
                    user: span(found.user)?,
                    unfinished: run.is_unfinished(),
                })
            }
            "entity" => {
                let entity: Entity = serde_json::from_str(text.get())?;
                Head::Entity {
                    deleted: entity.deleted,
                    unfinished: entity.is_unfinished(),
                }
            }
            "log" => {
                let _readable: LogLine = serde_json::from_str(text.get())?;
                Head::Log
            }
            "settings" => {
                let _readable: Settings = serde_json::from_str(text.get())?;
                Head::Settings
            }
            other => {
                return Err(de::Error::unknown_variant(
                    other,
                    &["action", "run", "entity", "log", "settings"],
                ));
            }
        };
        Ok(Self { text, head })
    }

    /// What is known of it.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Whether anybody has still to be told anything.
    pub fn is_unfinished(&self) -> bool {
        match &self.head {
            Head::Run(RunHead { unfinished, .. }) | Head::Entity { unfinished, .. } => *unfinished,
            Head::SelfService | Head::Automation | Head::Log | Head::Settings => false,
        }
    }

    /// The run that it is.
    pub fn run(&self) -> Option<Run> {
        matches!(self.head, Head::Run(_)).then(|| self.parse())?
    }

    /// The action or automation that it is.
    pub fn action(&self) -> Option<Action> {
        matches!(self.head, Head::SelfService | Head::Automation).then(|| self.parse())?
    }

    /// The entity that it is.
    pub fn entity(&self) -> Option<Entity> {
        matches!(self.head, Head::Entity { .. }).then(|| self.parse())?
    }

    /// The line of a log that it is.
    pub fn line(&self) -> Option<LogLine> {
        matches!(self.head, Head::Log).then(|| self.parse())?
    }

    /// What is set of the organisation, if it is that.
    pub fn settings(&self) -> Option<Settings> {
        matches!(self.head, Head::Settings).then(|| self.parse())?
    }

    /// What it is.
    pub fn item(&self) -> Option<Item> {
        match self.head {
            Head::SelfService | Head::Automation => self.action().map(Item::Action),
            Head::Run(_) => self.run().map(|run| Item::Run(Box::new(run))),
            Head::Entity { .. } => self.entity().map(Item::Entity),
            Head::Log => self.line().map(Item::Log),
            Head::Settings => self.settings().map(Item::Settings),
        }
    }

    /// The same type was read from the same text when the row was made.
    fn parse<'a, T: Deserialize<'a>>(&'a self) -> Option<T> {
        let parsed = serde_json::from_str(self.text.get());
        parsed
            .inspect_err(|error| tracing::error!(%error, "a row that could be read cannot be read again"))
            .ok()
    }

    /// The action's identifier, of a run.
    pub fn run_action(&self) -> Option<Cow<'_, str>> {
        match &self.head {
            Head::Run(run) => run.action.text(self.text.get()),
            _ => None,
        }
    }

    /// Who started it, of a run.
    pub fn run_user(&self) -> Option<Cow<'_, str>> {
        match &self.head {
            Head::Run(run) => run.user.text(self.text.get()),
            _ => None,
        }
    }
}

impl PartialEq for Packed {
    fn eq(&self, other: &Self) -> bool {
        self.text.get() == other.text.get()
    }
}

/// Writes the text as it is.
impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        Self::read(text).map_err(de::Error::custom)
    }
}

impl Span {
    /// Where a part of a text is in it.
    fn of(whole: &str, part: &str) -> Option<Self> {
        let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
        let there = whole.get(start..start.checked_add(part.len())?) == Some(part);
        let (start, length) = (u32::try_from(start).ok()?, u32::try_from(part.len()).ok()?);
        there.then_some(Self { start, length })
    }

    /// The string that it is.
    fn text(self, whole: &str) -> Option<Cow<'_, str>> {
        let start = usize::try_from(self.start).ok()?;
        let part = whole.get(start..)?.get(..usize::try_from(self.length).ok()?)?;
        let plain = part.strip_prefix('"')?.strip_suffix('"')?;
        if plain.contains('\\') {
            return serde_json::from_str(part).ok().map(Cow::Owned);
        }
        Some(Cow::Borrowed(plain))
    }
}

#[cfg(test)]
pub(crate) mod tests;
