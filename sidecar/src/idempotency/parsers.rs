//! The reading of a file of keys, for the fuzz targets.

use std::path::PathBuf;

use super::row::{Row, State, Topic};
use super::store::{Begin, End, Store, Verdict};
use crate::database::memory::Memory;
use crate::kafka::record::Outcome;

/// When all of it was written, and how long it counts.
const NOW_MS: i64 = 1_700_000_000_000;
const WINDOW_MS: i64 = 60_000;

/// A file, and the rows that are in it.
pub type Written = (Vec<u8>, Vec<Vec<u8>>);

fn begin(key: u8, attempt: u64) -> Begin {
    Begin {
        name: [key; 32],
        fingerprint: vec![key; 32],
        expires_ms: NOW_MS + WINDOW_MS,
        attempt,
        topics: usize::from(key % 2) + 1,
    }
}

fn store(file: &Memory) -> Result<Store, String> {
    Store::over(PathBuf::from("memory"), file.make()).map_err(|error| error.to_string())
}

/// The bytes of a file with so many keys in it, in every state, and their rows.
///
/// # Errors
/// When it cannot be made, which is a defect.
pub fn file(keys: u8) -> Result<Written, String> {
    let words = |error: super::Error| error.to_string();
    let file = Memory::default();
    let store = store(&file)?;
    let begins: Vec<Begin> = (0..keys).map(|key| begin(key, 7)).collect();
    let (verdicts, _) = store.commit(&begins, &[], NOW_MS, u64::MAX).map_err(words)?;
    let mut ends = Vec::new();
    for ((begin, verdict), at) in begins.iter().zip(verdicts).zip(0_i32..) {
        let Verdict::Begun(row) = verdict else {
            return Err(format!("{verdict:?}"));
        };
        let stored = Topic::of(&Outcome::Stored {
            partition: at,
            offset: i64::from(at) * 1000,
        });
        let topics = match at % 4 {
            0 => continue,
            1 => vec![Topic::of(&Outcome::Accepted); row.topics.len()],
            2 => vec![Topic::default(); row.topics.len()],
            _ => vec![stored; row.topics.len()],
        };
        let row = Some(Row { topics, ..row });
        ends.push(End {
            name: begin.name,
            row,
        });
    }
    store.commit(&[], &ends, NOW_MS, u64::MAX).map_err(words)?;
    let rows = store.rows().map_err(words)?;
    drop(store);
    let bytes = file.bytes().clone();
    Ok((bytes, rows))
}

/// Opens a file of these bytes as a sidecar does, and gives the rows that are in it. Nothing is written to it after that: in a
/// damaged one redb may panic while it gives up what it was writing for another panic, and that ends any process.
///
/// # Errors
/// What is wrong with it, in words.
pub fn open(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let words = |error: super::Error| error.to_string();
    let store = store(&Memory::of(bytes))?;
    store.held().map_err(words)?;
    store.rows().map_err(words)
}

/// A row as it is written again when it can be read, and whether it says that nobody knows what became of its record.
///
/// # Errors
/// When it is not as it was written.
pub fn row(row: &[u8]) -> Result<(Vec<u8>, bool), String> {
    let row = Row::open(row)?;
    Ok((row.seal(), !row.those(State::Unknown).is_empty()))
}
