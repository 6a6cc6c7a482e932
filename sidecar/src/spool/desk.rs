//! Looking into a spool, and what an operator does with what is in it: for `sluice spool`, whether a sidecar has it open
//! or not.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::entry::{Entry, LaneRow};
use super::state::{Removal, State};
use super::store::{Book, Changes, Done, FILE, Read, Store};
use super::{DeadLetter, Error, Orders, Spool};

/// How many records are told of, or dealt with, at once.
pub const AT_ONCE: usize = 1000;
/// Bytes of records that are read for that.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Order {
    /// The lanes, and the dead letters after this number without what is in them, [`AT_ONCE`] at most.
    List {
        /// 0 for the first ones.
        after: u64,
    },
    /// The records that wait, of the lane of this number and those after it, without what is in them, [`AT_ONCE`] at most.
    Waiting {
        /// 0 for the first one.
        lane: u64,
        /// Those of that lane that come after this number.
        after: u64,
    },
    /// One dead letter, or record that waits, with all that is in it.
    Show(u64),
    /// Deliver these dead letters after all; none: every one.
    Replay(Option<Vec<u64>>),
    /// Forget these dead letters; none: every one.
    Drop(Option<Vec<u64>>),
    /// Forget these records that wait for Kafka: they are not delivered.
    Discard(Vec<u64>),
}

/// A record that waits.
#[doc(hidden)]
pub struct Found {
    lane: u64,
    number: u64,
    row: LaneRow,
    /// What it is, or why that cannot be read.
    entry: Result<Entry, String>,
}

impl Found {
    fn look(store: &Store, number: u64) -> Result<Option<Self>, String> {
        let found = store.find(number).map_err(|error| error.to_string())?;
        Ok(found.map(|(lane, row, encoded)| Self {
            lane,
            number,
            row,
            entry: Entry::open(&encoded),
        }))
    }

    fn brief(&self) -> Value {
        json!({
            "id": self.number,
            "cluster": self.row.cluster,
            "producer": self.row.producer,
            "topic": self.row.topic,
            "spooled_ms": self.entry.as_ref().ok().map(|entry| entry.spooled_ms),
        })
    }

    fn whole(&self) -> Result<Value, String> {
        match &self.entry {
            Ok(entry) => Ok(whole(self.brief(), entry)),
            Err(why) => Err(format!("record {} cannot be read: {why}", self.number)),
        }
    }
}

/// A spool that can be looked into.
pub trait Desk {
    /// Carries out an order.
    ///
    /// # Errors
    /// In words for people, when the disk fails or there is no such dead letter.
    fn carry_out(&self, order: &Order) -> Result<Value, String> {
        match order {
            Order::List { after } => self.list(*after),
            Order::Show(number) => {
                let found = self.letters(number.saturating_sub(1), 1)?;
                match found.first() {
                    Some((found, Ok(letter))) if found == number => {
                        Ok(whole(brief(*number, letter), &letter.entry))
                    }
                    Some((found, Err(why))) if found == number => {
                        Err(format!("dead letter {number} cannot be read: {why}"))
                    }
                    _ => match Found::look(self.store(), *number)? {
                        Some(found) => found.whole(),
                        None => Err(format!("the spool has no record {number}")),
                    },
                }
            }
            Order::Waiting { lane, after } => waiting(self.store(), *lane, *after),
            Order::Discard(numbers) => {
                let mut found = Vec::new();
                let numbers: BTreeSet<u64> = numbers.iter().copied().collect();
                for number in numbers {
                    found.extend(Found::look(self.store(), number)?);
                }
                let (dropped, under_way) = self.discard(found)?;
                for found in &dropped {
                    tracing::warn!(
                        id = found.number,
                        cluster = found.row.cluster,
                        producer = found.row.producer,
                        topic = found.row.topic,
                        "an operator dropped a record that waited for Kafka: it is not delivered"
                    );
                }
                let dropped: Vec<Value> = dropped.iter().map(Found::brief).collect();
                Ok(json!({"dropped": dropped, "under_way": under_way}))
            }
            Order::Replay(Some(numbers)) => {
                let (replayed, _) = self.change(numbers.clone(), Vec::new())?;
                Ok(json!({"replayed": replayed}))
            }
            Order::Drop(Some(numbers)) => {
                let (_, dropped) = self.change(Vec::new(), numbers.clone())?;
                Ok(json!({"dropped": dropped}))
            }
            Order::Replay(None) => Ok(json!({"replayed": self.all(true)?})),
            Order::Drop(None) => Ok(json!({"dropped": self.all(false)?})),
        }
    }

    /// Replays or forgets every dead letter that there is, some at a time.
    #[doc(hidden)]
    fn all(&self, replay: bool) -> Result<u64, String> {
        let (mut after, mut done) = (0, 0);
        loop {
            let found = self.letters(after, AT_ONCE)?;
            let Some((last, _)) = found.last() else {
                return Ok(done);
            };
            after = *last;
            let numbers = found.into_iter().map(|(number, _)| number).collect();
            let (replayed, forgotten) = match replay {
                true => self.change(numbers, Vec::new())?,
                false => self.change(Vec::new(), numbers)?,
            };
            done += replayed + forgotten;
        }
    }

    #[doc(hidden)]
    fn list(&self, after: u64) -> Result<Value, String> {
        let lanes = rows(self.store())?;
        let letters = self.letters(after, AT_ONCE)?;
        let letters = letters.iter().map(|(number, letter)| match letter {
            Ok(letter) => brief(*number, letter),
            Err(why) => json!({"id": number, "code": "unreadable", "reason": why}),
        });
        Ok(json!({"lanes": lanes, "dead_letters": letters.collect::<Vec<_>>()}))
    }

    #[doc(hidden)]
    fn letters(&self, after: u64, most: usize) -> Result<Read<DeadLetter>, String> {
        let found = self.store().dead_letters(after, most);
        found.map_err(|error| error.to_string())
    }

    #[doc(hidden)]
    fn store(&self) -> &Store;
    #[doc(hidden)]
    fn change(&self, replay: Vec<u64>, forget: Vec<u64>) -> Result<(u64, u64), String>;
    /// Forgets records that wait, but those that are on their way to Kafka. Gives the former, and the latter's numbers.
    #[doc(hidden)]
    fn discard(&self, found: Vec<Found>) -> Result<(Vec<Found>, Vec<u64>), String>;
}

fn brief(number: u64, letter: &DeadLetter) -> Value {
    json!({
        "id": number,
        "cluster": letter.cluster,
        "producer": letter.producer,
        "topic": letter.topic,
        "code": letter.code,
        "reason": letter.reason,
        "spooled_ms": letter.entry.spooled_ms,
        "given_up_ms": letter.given_up_ms,
    })
}

fn whole(mut all: Value, entry: &Entry) -> Value {
    let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => json!({"base64": STANDARD.encode(bytes)}),
    };
    let optional = |bytes: Option<&[u8]>| bytes.map_or(Value::Null, text);
    let headers = entry.headers.iter();
    let headers =
        headers.map(|header| json!({"name": header.name, "value": optional(header.value.as_deref())}));
    if let Some(all) = all.as_object_mut() {
        all.extend([
            ("partition".to_owned(), json!(entry.partition)),
            ("timestamp".to_owned(), json!(entry.timestamp_ms)),
            ("key".to_owned(), optional(entry.key.as_deref())),
            ("headers".to_owned(), headers.collect()),
            ("value".to_owned(), optional(entry.value.as_deref())),
        ]);
    }
    all
}

fn rows(store: &Store) -> Result<Vec<Value>, String> {
    let mut rows = store.lanes().map_err(|error| error.to_string())?;
    // Those that cannot be read come last.
    rows.sort_by_key(|(number, row)| row.as_ref().map(LaneRow::lane).map_err(|_| *number));
    let row = |(number, row): &(u64, Result<LaneRow, String>)| {
        let row = match row {
            Ok(row) => row,
            Err(why) => return Ok(json!({"lane": number, "unreadable": why})),
        };
        let first = store.read(*number, 0, 1, 1).map_err(|error| error.to_string())?;
        let first = first.first().and_then(|(_, entry)| Entry::open(entry).ok());
        Ok(json!({
            "cluster": row.cluster,
            "producer": row.producer,
            "topic": row.topic,
            "records": row.records,
            "bytes": row.bytes,
            "oldest_ms": first.map(|entry| entry.spooled_ms),
        }))
    };
    rows.iter().map(row).collect()
}

/// The records that wait, from a lane and a number in it on.
fn waiting(store: &Store, first: u64, after: u64) -> Result<Value, String> {
    let mut rows = store.rows().map_err(|error| error.to_string())?;
    rows.retain(|(lane, _)| *lane >= first);
    rows.sort_by_key(|(lane, _)| *lane);
    let mut told = Vec::new();
    for (lane, row) in rows {
        let after = if lane == first { after } else { 0 };
        let room = AT_ONCE.saturating_sub(told.len());
        let found = store
            .read(lane, after, room, MOST_BYTES)
            .map_err(|error| error.to_string())?;
        let full = found.len() >= room || found.len() as u64 != row.records;
        for (number, encoded) in found {
            let found = Found {
                lane,
                number,
                row: row.clone(),
                entry: Entry::open(&encoded),
            };
            let mut brief = found.brief();
            if let Some(brief) = brief.as_object_mut() {
                brief.extend([
                    ("lane".to_owned(), json!(lane)),
                    ("bytes".to_owned(), json!(encoded.len())),
                ]);
            }
            told.push(brief);
        }
        // Perhaps not all of it: the next page begins in this lane.
        if full && !told.is_empty() {
            break;
        }
    }
    Ok(json!({"records": told}))
}

impl Desk for Spool {
    fn store(&self) -> &Store {
        &self.shared.store
    }

    fn change(&self, replay: Vec<u64>, forget: Vec<u64>) -> Result<(u64, u64), String> {
        self.command(|_| Orders {
            replay,
            forget,
            ..Orders::default()
        })
    }

    fn discard(&self, found: Vec<Found>) -> Result<(Vec<Found>, Vec<u64>), String> {
        let (mut dropped, mut under_way) = (Vec::new(), Vec::new());
        self.command(|state| {
            let mut orders = Orders::default();
            let State { lanes, discarded, .. } = state;
            discarded.retain(|number, lane| lanes.get(lane).is_some_and(|lane| lane.window.last() < *number));
            for found in found {
                match take_out(state, &found) {
                    Taken::Out(removal) => {
                        orders.discard.push(removal);
                        dropped.push(found);
                    }
                    Taken::UnderWay => under_way.push(found.number),
                    Taken::Gone => {}
                }
            }
            orders
        })?;
        Ok((dropped, under_way))
    }
}

/// What became of a record that is to be forgotten.
enum Taken {
    Out(Removal),
    UnderWay,
    /// It was delivered meanwhile.
    Gone,
}

/// Takes a record out of its lane's window, or keeps it from ever getting there.
fn take_out(state: &mut State, found: &Found) -> Taken {
    let Found { lane: at, number, .. } = *found;
    let Some(lane) = state.lanes.get_mut(&at) else {
        return Taken::Gone;
    };
    let mut removal = Removal {
        lane: at,
        number,
        place: None,
    };
    // What cannot be read was passed over.
    let Ok(entry) = &found.entry else {
        return Taken::Out(removal);
    };
    let read = lane.window.last() >= number;
    if read && lane.window.entry(number).is_none() {
        return Taken::Gone;
    }
    if read && lane.window.take_out(&[number]).is_empty() {
        return Taken::UnderWay;
    }
    if !read {
        state.discarded.insert(number, at);
    }
    if read || !state.is_uncounted(number) {
        removal.place = state.place(&found.row.lane(), entry.key.as_ref());
    }
    state.touch(at);
    Taken::Out(removal)
}

/// A spool that no sidecar has open.
pub struct Closed {
    store: Store,
    book: Mutex<Book>,
}

impl Closed {
    /// Opens the spool in `directory`; none if there is none.
    ///
    /// # Errors
    /// As [`Spool::open`]: the trouble is that it is in use when a sidecar has it.
    pub fn open(directory: &Path) -> Result<Option<Self>, Error> {
        if !directory.join(FILE).exists() {
            return Ok(None);
        }
        let (store, book) = Store::open(directory)?;
        let book = Mutex::new(book);
        Ok(Some(Self { store, book }))
    }

    fn commit(&self, changes: &Changes) -> Result<Done, String> {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let done = self.store.commit(&mut book, changes);
        done.map_err(|error| error.to_string())
    }
}

impl Desk for Closed {
    fn store(&self) -> &Store {
        &self.store
    }

    fn discard(&self, found: Vec<Found>) -> Result<(Vec<Found>, Vec<u64>), String> {
        let changes = Changes {
            remove: found.iter().map(|found| (found.lane, found.number)).collect(),
            ..Changes::default()
        };
        self.commit(&changes)?;
        Ok((found, Vec::new()))
    }

    fn change(&self, replay: Vec<u64>, forget: Vec<u64>) -> Result<(u64, u64), String> {
        let changes = Changes {
            replay,
            forget,
            ..Changes::default()
        };
        let done = self.commit(&changes)?;
        Ok((done.replayed.len() as u64, done.forgotten))
    }
}
