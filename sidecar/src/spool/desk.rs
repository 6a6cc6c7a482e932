//! Looking into a spool, and what is done with dead letters: for `sluice spool`, whether a sidecar has it open or not.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::entry::LaneRow;
use super::store::{self, Book, Changes, FILE, Store};
use super::{DeadLetter, Error, Spool};

/// How many dead letters are told of, or dealt with, at once.
pub const AT_ONCE: usize = 1000;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Order {
    /// The lanes, and the dead letters after this number without what is in them, [`AT_ONCE`] at most.
    List {
        /// 0 for the first ones.
        after: u64,
    },
    /// One dead letter with all that is in it.
    Show(u64),
    /// Deliver these dead letters after all; none: every one.
    Replay(Option<Vec<u64>>),
    /// Forget these dead letters; none: every one.
    Drop(Option<Vec<u64>>),
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
                    Some((found, letter)) if found == number => Ok(whole(*number, letter)),
                    _ => Err(format!("there is no dead letter {number}")),
                }
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
        let lanes = self.rows()?;
        let letters = self.letters(after, AT_ONCE)?;
        let letters = letters.iter().map(|(number, letter)| brief(*number, letter));
        Ok(json!({"lanes": lanes, "dead_letters": letters.collect::<Vec<_>>()}))
    }

    #[doc(hidden)]
    fn rows(&self) -> Result<Vec<Value>, String>;
    #[doc(hidden)]
    fn letters(&self, after: u64, most: usize) -> Result<Vec<(u64, DeadLetter)>, String>;
    #[doc(hidden)]
    fn change(&self, replay: Vec<u64>, forget: Vec<u64>) -> Result<(u64, u64), String>;
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

fn whole(number: u64, letter: &DeadLetter) -> Value {
    let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => json!({"base64": STANDARD.encode(bytes)}),
    };
    let optional = |bytes: Option<&[u8]>| bytes.map_or(Value::Null, text);
    let entry = &letter.entry;
    let headers = entry.headers.iter();
    let headers =
        headers.map(|header| json!({"name": header.name, "value": optional(header.value.as_deref())}));
    let mut all = brief(number, letter);
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
    let mut rows = store.rows().map_err(|error| error.to_string())?;
    rows.sort_by_key(|(_, row)| row.lane());
    let row = |(number, row): &(u64, LaneRow)| {
        let first = store.read(*number, 0, 1, 1).map_err(|error| error.to_string())?;
        let first = first.first().and_then(|(_, entry)| store::decode(entry).ok());
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

fn letters(store: &Store, after: u64, most: usize) -> Result<Vec<(u64, DeadLetter)>, String> {
    store.dead_letters(after, most).map_err(|error| error.to_string())
}

impl Desk for Spool {
    fn rows(&self) -> Result<Vec<Value>, String> {
        rows(&self.shared.store)
    }

    fn letters(&self, after: u64, most: usize) -> Result<Vec<(u64, DeadLetter)>, String> {
        letters(&self.shared.store, after, most)
    }

    fn change(&self, replay: Vec<u64>, forget: Vec<u64>) -> Result<(u64, u64), String> {
        self.revise(replay, forget)
    }
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
    /// As [`Spool::open`]: [`Error::InUse`] when a sidecar has it.
    pub fn open(directory: &Path) -> Result<Option<Self>, Error> {
        if !directory.join(FILE).exists() {
            return Ok(None);
        }
        let (store, book) = Store::open(directory)?;
        let book = Mutex::new(book);
        Ok(Some(Self { store, book }))
    }
}

impl Desk for Closed {
    fn rows(&self) -> Result<Vec<Value>, String> {
        rows(&self.store)
    }

    fn letters(&self, after: u64, most: usize) -> Result<Vec<(u64, DeadLetter)>, String> {
        letters(&self.store, after, most)
    }

    fn change(&self, replay: Vec<u64>, forget: Vec<u64>) -> Result<(u64, u64), String> {
        let changes = Changes {
            replay,
            forget,
            ..Changes::default()
        };
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let done = self.store.commit(&mut book, &changes);
        let done = done.map_err(|error| error.to_string())?;
        Ok((done.replayed.len() as u64, done.forgotten))
    }
}
