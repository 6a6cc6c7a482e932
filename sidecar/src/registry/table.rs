//! What the records of a registry's topic say, one after the other. It knows no Kafka, and no time but that it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::name::Name;

/// The format of values that this version writes.
const FORMAT: u32 = 1;

/// What a row holds.
#[derive(Debug)]
pub enum Content<V> {
    /// This.
    Value(Arc<V>),
    /// It was deleted; the row stays for a while, so that late proposals find it.
    Deleted,
    /// It was deleted long ago, and is about to be forgotten: nobody may write it until it is.
    Closed,
    /// What another version of Sluice wrote, and this one cannot read: it is kept, and cannot be changed. (In a box, so that all
    /// other rows are the smaller.)
    Unreadable(Box<Arc<str>>),
}

impl<V> Clone for Content<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Value(value) => Self::Value(Arc::clone(value)),
            Self::Deleted => Self::Deleted,
            Self::Closed => Self::Closed,
            Self::Unreadable(why) => Self::Unreadable(why.clone()),
        }
    }
}

/// A row as it is now.
#[derive(Debug)]
pub struct Row<V> {
    /// How often it was changed.
    pub version: u64,
    /// What it holds.
    pub content: Content<V>,
    /// As bytes, which need no alignment: there are many rows.
    nonce: [u8; 16],
    /// When it was written, in milliseconds since 1970.
    at_ms: i64,
}

/// What became of a record.
#[derive(Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is the row's content now.
    Accepted,
    /// Another was first, or the row has gone on since.
    Refused,
    /// The same record was here before.
    Repeated,
    /// A record was taken back that says nothing any more.
    Swept,
    /// It is no record of a registry: it is left alone.
    Foreign,
}

impl Applied {
    /// As the metrics have it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Repeated => "repeated",
            Self::Swept => "swept",
            Self::Foreign => "foreign",
        }
    }
}

/// What a record proposes.
#[derive(Debug)]
pub enum Proposed<'a, V> {
    /// That the row hold this.
    Value(&'a V),
    /// That it be deleted.
    Deleted,
    /// That nobody write it any more until it is forgotten.
    Closed,
}

#[derive(Serialize)]
struct Written<'a, V> {
    format: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a V>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    closed: bool,
}

#[derive(Deserialize)]
struct Read<'a> {
    format: u32,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    #[serde(default)]
    closed: bool,
}

/// The value of a record that proposes this.
///
/// # Errors
/// When serde cannot write it.
pub fn encode<V: Serialize>(proposed: &Proposed<'_, V>) -> Result<Vec<u8>, serde_json::Error> {
    let (value, closed) = match proposed {
        Proposed::Value(value) => (Some(*value), false),
        Proposed::Deleted => (None, false),
        Proposed::Closed => (None, true),
    };
    serde_json::to_vec(&Written {
        format: FORMAT,
        value,
        closed,
    })
}

fn decode<V: DeserializeOwned>(bytes: &[u8]) -> Content<V> {
    let unreadable = |why: String| Content::Unreadable(Box::new(why.into()));
    let read: Read<'_> = match serde_json::from_slice(bytes) {
        Ok(read) => read,
        Err(error) => return unreadable(format!("it is no JSON of a registry: {}", position(&error))),
    };
    if read.format != FORMAT {
        return unreadable(format!(
            "it has format {}, and this version of Sluice reads format {FORMAT}",
            read.format
        ));
    }
    let Some(value) = read.value.filter(|value| value.get() != "null") else {
        return if read.closed {
            Content::Closed
        } else {
            Content::Deleted
        };
    };
    match serde_json::from_str(value.get()) {
        Ok(value) => Content::Value(Arc::new(value)),
        Err(error) => unreadable(format!(
            "this version of Sluice does not know what it says: {}",
            position(&error)
        )),
    }
}

/// Where the trouble is; not what is there, which may be a secret.
fn position(error: &serde_json::Error) -> String {
    format!("see line {}, column {}", error.line(), error.column())
}

/// Records that say nothing any more and are still in the topic.
#[derive(Debug, Clone, Copy)]
struct Dead {
    /// From when on they may be taken back, in milliseconds of the caller's clock.
    due_ms: i64,
}

/// The rows that the records so far make.
#[derive(Debug)]
pub struct Table<V> {
    rows: BTreeMap<Arc<str>, Row<V>>,
    dead: BTreeMap<Name, Dead>,
    /// Rows that are deleted, by when.
    deleted: BTreeSet<(i64, Arc<str>)>,
    /// Rows that are closed, by when.
    closed: BTreeSet<(i64, Arc<str>)>,
    foreign: u64,
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self {
            rows: BTreeMap::new(),
            dead: BTreeMap::new(),
            deleted: BTreeSet::new(),
            closed: BTreeSet::new(),
            foreign: 0,
        }
    }
}

impl<V> Table<V> {
    /// A row.
    pub fn get(&self, key: &str) -> Option<&Row<V>> {
        self.rows.get(key)
    }

    /// A row, and its key as the table has it.
    pub fn entry(&self, key: &str) -> Option<(&Arc<str>, &Row<V>)> {
        self.rows.get_key_value(key)
    }

    /// The rows whose keys begin with `prefix`, which ends with a slash, and come after `from`; or with `back` those before it, the
    /// last first.
    pub fn between<'a>(
        &'a self,
        prefix: &'a str,
        from: Option<&'a str>,
        back: bool,
    ) -> Box<dyn Iterator<Item = (&'a Arc<str>, &'a Row<V>)> + 'a> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let within = move |(key, _): &(&Arc<str>, &Row<V>)| key.starts_with(prefix);
        if back {
            // What comes after all keys that begin so: no character is between a slash and a zero.
            let end = format!("{}0", prefix.strip_suffix('/').unwrap_or(prefix));
            let to = from.map_or(Excluded(end.as_str()), Excluded);
            let rows = self.rows.range::<str, _>((Included(prefix), to));
            return Box::new(rows.rev().take_while(within));
        }
        let start = from.map_or(Included(prefix), Excluded);
        let rows = self.rows.range::<str, _>((start, Unbounded));
        Box::new(rows.take_while(within))
    }

    /// The rows whose keys begin with `prefix`, in order of their keys.
    pub fn starting_with<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a Arc<str>, &'a Row<V>)> {
        let from = std::ops::Bound::Included(prefix);
        let range = self.rows.range::<str, _>((from, std::ops::Bound::Unbounded));
        range.take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// How many rows hold something, and how many records say nothing any more and are still in the topic.
    pub fn size(&self) -> (usize, usize) {
        let gone = self.deleted.len() + self.closed.len();
        (self.rows.len().saturating_sub(gone), self.dead.len())
    }

    /// How many records were read that are no registry's.
    pub fn foreign(&self) -> u64 {
        self.foreign
    }

    /// The version that a row has; 0: there is none.
    pub fn version(&self, key: &str) -> u64 {
        self.rows.get(key).map_or(0, |row| row.version)
    }

    /// Records that are to be taken back by now, `most` at most; they are not told again before `again_ms`.
    pub fn due(&mut self, now_ms: i64, again_ms: i64, most: usize) -> Vec<Name> {
        let due = self.dead.iter_mut().filter(|(_, dead)| dead.due_ms <= now_ms);
        let told = due.take(most).map(|(name, dead)| {
            dead.due_ms = again_ms;
            name.clone()
        });
        told.collect()
    }

    /// `name` may be taken back at once.
    pub fn hasten(&mut self, name: &Name) {
        if let Some(dead) = self.dead.get_mut(name) {
            dead.due_ms = i64::MIN;
        }
    }

    /// What the row has now, as the name of its record.
    pub fn current(&self, key: &str) -> Option<Name> {
        let (key, row) = self.rows.get_key_value(key)?;
        Some(row.name(key))
    }

    /// Rows that were deleted before `before_ms`: they may be closed. `most` at most.
    pub fn closable(&self, before_ms: i64, most: usize) -> Vec<Name> {
        let old = self.deleted.iter().take_while(|(at, _)| *at < before_ms);
        let names = old.filter_map(|(_, key)| self.current(key));
        names.take(most).collect()
    }

    /// Rows that were closed before `before_ms`, of which nothing else is in the topic and nothing was taken back since then: taking
    /// back what closed them forgets them. `most` at most.
    pub fn forgettable(&self, before_ms: i64, most: usize) -> Vec<Name> {
        let old = self.closed.iter().take_while(|(at, _)| *at < before_ms);
        let alone = |key: &Arc<str>| {
            let first = Name {
                key: Arc::clone(key),
                version: 0,
                nonce: 0,
            };
            let next = self.dead.range(first..).next();
            next.is_none_or(|(name, _)| name.key != *key)
        };
        let names = old
            .filter(|(_, key)| alone(key))
            .filter_map(|(_, key)| self.current(key));
        names.take(most).collect()
    }

    /// A row that is closed is so from `at_ms` on, if that is later: another record of it was taken back then, and somebody who did
    /// not know may be about to do so once more. That has to be in the topic before the row is forgotten: whoever read the
    /// record, and neither it nor what took it back first afterwards, would forget with it what the row has become.
    fn stays_closed(&mut self, key: &str, at_ms: i64) {
        let Some(row) = self.rows.get_mut(key).filter(|row| row.at_ms < at_ms) else {
            return;
        };
        let key: Arc<str> = key.into();
        if self.closed.remove(&(row.at_ms, Arc::clone(&key))) {
            self.closed.insert((at_ms, key));
            row.at_ms = at_ms;
        }
    }

    fn forget(&mut self, key: &str) -> Option<(Arc<str>, Row<V>)> {
        let (key, row) = self.rows.remove_entry(key)?;
        let when = (row.at_ms, key);
        self.deleted.remove(&when);
        self.closed.remove(&when);
        let (_, key) = when;
        Some((key, row))
    }
}

impl<V> Row<V> {
    fn name(&self, key: &Arc<str>) -> Name {
        Name {
            key: Arc::clone(key),
            version: self.version,
            nonce: u128::from_be_bytes(self.nonce),
        }
    }
}

impl<V: DeserializeOwned> Table<V> {
    /// Takes the next record of the topic. `at_ms` is its own time, `due_ms` from when on it, or what it replaces, may be
    /// taken back.
    pub fn apply(&mut self, key: &[u8], value: Option<&[u8]>, at_ms: i64, due_ms: i64) -> Applied {
        let Some(name) = Name::parse(key) else {
            self.foreign += 1;
            return Applied::Foreign;
        };
        let Some(value) = value else {
            self.dead.remove(&name);
            if self.current(&name.key).is_some_and(|current| current == name) {
                self.forget(&name.key);
            } else {
                self.stays_closed(&name.key, at_ms);
            }
            return Applied::Swept;
        };
        if let Some(current) = self.current(&name.key) {
            if current == name {
                return Applied::Repeated;
            }
            if name.version <= current.version {
                let known = self.dead.insert(name, Dead { due_ms }).is_some();
                return if known {
                    Applied::Repeated
                } else {
                    Applied::Refused
                };
            }
            self.forget(&current.key);
            self.dead.insert(current, Dead { due_ms });
        }
        let row = Row {
            version: name.version,
            content: decode(value),
            nonce: name.nonce.to_be_bytes(),
            at_ms,
        };
        let gone = match row.content {
            Content::Deleted => Some(&mut self.deleted),
            Content::Closed => Some(&mut self.closed),
            Content::Value(_) | Content::Unreadable(_) => None,
        };
        if let Some(gone) = gone {
            gone.insert((at_ms, Arc::clone(&name.key)));
        }
        self.rows.insert(name.key, row);
        Applied::Accepted
    }
}

#[cfg(test)]
mod tests;
