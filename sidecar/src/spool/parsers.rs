//! The reading of a spool's file, for the fuzz targets.

use std::path::PathBuf;

use super::entry::{DeadLetter, Entry, Lane};
use super::store::{Book, Changes, Store};
use crate::database::memory::Memory;

/// What is in a spool.
#[derive(Debug, Default)]
pub struct Contents {
    /// Each record's lane and its row.
    pub records: Vec<(Lane, Vec<u8>)>,
    /// The dead letters, and whether each has a checksum that fits.
    pub dead: Vec<(DeadLetter, bool)>,
}

fn store(file: &Memory) -> Result<(Store, Book), String> {
    Store::over(PathBuf::from("memory"), file.make()).map_err(|error| error.to_string())
}

/// The bytes of a file with these records and dead letters in it.
///
/// # Errors
/// When it cannot be made, which is a defect.
pub fn file(records: &[(Lane, Entry)], dead: &[DeadLetter]) -> Result<Vec<u8>, String> {
    let file = Memory::default();
    let (store, mut book) = store(&file)?;
    let changes = Changes {
        append: dead
            .iter()
            .map(|letter| (letter.lane(), letter.entry.seal()))
            .chain(records.iter().map(|(lane, entry)| (lane.clone(), entry.seal())))
            .collect(),
        ..Changes::default()
    };
    let done = store
        .commit(&mut book, &changes)
        .map_err(|error| error.to_string())?;
    let buried = done.appended.iter().zip(dead);
    let changes = Changes {
        bury: buried
            .map(|((lane, number), letter)| (*lane, *number, letter.clone()))
            .collect(),
        ..Changes::default()
    };
    store
        .commit(&mut book, &changes)
        .map_err(|error| error.to_string())?;
    store.compact().map_err(|error| error.to_string())?;
    store.close();
    let bytes = file.bytes().clone();
    Ok(bytes)
}

/// Opens a file of these bytes as a sidecar does, and reads all that is in it.
///
/// # Errors
/// What is wrong with it, in words.
pub fn open(bytes: &[u8]) -> Result<Contents, String> {
    let (store, book) = store(&Memory::of(bytes))?;
    let mut contents = Contents::default();
    for (number, row) in &book.lanes {
        let found = store.read(*number, 0, usize::MAX, usize::MAX);
        let found = found.map_err(|error| error.to_string())?;
        contents
            .records
            .extend(found.into_iter().map(|(_, entry)| (row.lane(), entry)));
    }
    for (number, letter) in store
        .dead_letters(0, usize::MAX)
        .map_err(|error| error.to_string())?
    {
        let Ok(letter) = letter else { continue };
        let row = store.dead_row(number).map_err(|error| error.to_string())?;
        let sealed = row == Some(letter.seal());
        contents.dead.push((letter, sealed));
    }
    Ok(contents)
}

/// The record of a row.
///
/// # Errors
/// When it is not as it was written.
pub fn entry(row: &[u8]) -> Result<Entry, String> {
    Entry::open(row)
}

/// The row of a record.
pub fn row(entry: &Entry) -> Vec<u8> {
    entry.seal()
}
