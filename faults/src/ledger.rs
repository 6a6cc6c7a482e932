//! What was asked, and what was answered.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// One request and what became of it. Times count from the run's beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Of this request only; the record's value carries it.
    pub id: u64,
    /// The record's key.
    pub key: String,
    /// When the schedule had it sent. Latency is measured from here.
    pub due: Duration,
    /// When it was sent.
    pub sent: Duration,
    /// When its answer came, or it was given up.
    pub answered: Duration,
    /// What was answered.
    pub answer: Answer,
    /// It was meant to be refused for what it is.
    pub poison: bool,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// An HTTP response.
    Status {
        /// Its status.
        status: u16,
        /// The `code` of an error.
        code: String,
        /// Partition and offset, if it says them.
        place: Option<(i32, i64)>,
    },
    /// There was no connection, so nothing was asked.
    NotSent,
    /// It was sent and nothing came.
    Nothing(String),
}

impl Entry {
    /// The status, if there is one.
    pub fn status(&self) -> Option<u16> {
        match self.answer {
            Answer::Status { status, .. } => Some(status),
            Answer::NotSent | Answer::Nothing(_) => None,
        }
    }

    /// Whether it was answered 2xx.
    pub fn is_success(&self) -> bool {
        self.status().is_some_and(|status| (200..300).contains(&status))
    }

    /// From when it was due until it was answered.
    pub fn took(&self) -> Duration {
        self.answered.saturating_sub(self.due)
    }
}

/// A record's value: what [`id_in`] finds again, made `size` bytes long.
pub fn value(id: u64, key: &str, seq: u64, size: usize) -> String {
    let mut text = format!("{id} {key} {seq} ");
    let missing = size.saturating_sub(text.len());
    text.extend(std::iter::repeat_n('.', missing));
    text
}

/// The id, the key and the key's sequence number in a record's value.
pub fn id_in(value: &[u8]) -> Option<(u64, &str, u64)> {
    let mut words = std::str::from_utf8(value).ok()?.split(' ');
    let id = words.next()?.parse().ok()?;
    let key = words.next()?;
    let seq = words.next()?.parse().ok()?;
    Some((id, key, seq))
}

/// The entries of a run, as they come in.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Vec<Entry>>);

impl Ledger {
    /// Writes one down.
    pub fn add(&self, entry: Entry) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    /// All so far, by id.
    pub fn entries(&self) -> Vec<Entry> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.sort_unstable_by_key(|entry| entry.id);
        all
    }

    /// What the last answers were, for messages.
    pub fn recent(&self) -> String {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts = std::collections::BTreeMap::<String, usize>::new();
        for entry in all.iter().rev().take(500) {
            let what = match &entry.answer {
                Answer::Status { status, code, .. } => format!("{status} {code}"),
                Answer::NotSent => "not sent".to_owned(),
                Answer::Nothing(why) => why.clone(),
            };
            *counts.entry(what).or_default() += 1;
        }
        let last = all.last().map(|entry| {
            format!(
                "due {:?}, sent {:?}, answered {:?}",
                entry.due, entry.sent, entry.answered
            )
        });
        format!("of the last 500 answers {counts:?}, the last {last:?}")
    }

    /// How many successes were answered after `since`.
    pub fn successes_since(&self, since: Duration) -> usize {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // They are written down about in the order of their answers.
        let recent = all.iter().rev().take(20_000);
        recent
            .filter(|entry| entry.is_success() && entry.due > since)
            .count()
    }
}
