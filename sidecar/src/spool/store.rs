//! The spool's file: `spool.redb` in its directory, an ordered map kept by the crate redb.
//!
//! Everything that came meanwhile is one transaction, and a transaction is one fsync; a transaction that was cut off by
//! a crash or a power cut is as if it had never been begun.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use super::entry::{DeadLetter, Lane, LaneRow};
use crate::database::{self, Keeper, Make, Trouble, Words};

/// The version of what is in the file. A sidecar refuses a file of a later one.
pub const VERSION: u64 = 1;
/// The file's name in the spool's directory.
pub const FILE: &str = "spool.redb";
/// How much of the file is kept in memory, in bytes.
const CACHE: usize = 32 * 1024 * 1024;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// By the lane's number.
const LANES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("lanes");
/// By the lane's number and the record's, which grows from record to record.
const RECORDS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("records");
/// By the record's number.
const DEAD: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("dead_letters");

/// Why the spool cannot be opened, read or written.
pub type Error = database::Error<SpoolFile>;

/// What is kept is a spool.
#[derive(Debug)]
pub struct SpoolFile;

impl Words for SpoolFile {
    const DIRECTORY: &'static str = "a spool directory";
    const NEWER: &'static str = "; run that one until the spool is empty. Nothing in it was changed";
    const WITHOUT: &'static str = "with an empty spool, and keep it: it may hold records that were answered";
}

/// What is in the spool, by lane; kept beside the file by who writes it.
#[derive(Debug, Default)]
pub(super) struct Book {
    next: u64,
    pub(super) lanes: HashMap<u64, LaneRow>,
    numbers: HashMap<Lane, u64>,
    pub(super) dead: Amount,
    /// Lanes whose rows cannot be read: nobody knows where their records are to go.
    unreadable: u64,
}

/// Rows by their numbers, each or why it cannot be read.
pub(super) type Read<T> = Vec<(u64, Result<T, String>)>;

/// How much there is of something.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub records: u64,
    /// Bytes of their encoding.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: usize) {
        self.records += 1;
        self.bytes += bytes as u64;
    }

    fn take(&mut self, bytes: usize) {
        self.records = self.records.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes as u64);
    }
}

impl Book {
    /// The amount of what waits for delivery.
    pub(super) fn waiting(&self) -> Amount {
        let mut all = Amount::default();
        for row in self.lanes.values() {
            all.records += row.records;
            all.bytes += row.bytes;
        }
        all
    }

    /// The last number that was given to a record or a lane.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    fn number(&mut self, lane: &Lane) -> u64 {
        if let Some(number) = self.numbers.get(lane) {
            return *number;
        }
        let number = self.fresh();
        self.numbers.insert(lane.clone(), number);
        self.lanes.insert(number, LaneRow::new(lane));
        number
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// What one transaction changes.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Records to add, in order.
    pub(super) append: Vec<(Lane, Vec<u8>)>,
    /// Records that are delivered: the lane's number and theirs.
    pub(super) remove: Vec<(u64, u64)>,
    /// Records that are given up.
    pub(super) bury: Vec<(u64, u64, DeadLetter)>,
    /// Dead letters to deliver after all.
    pub(super) replay: Vec<u64>,
    /// Dead letters to forget.
    pub(super) forget: Vec<u64>,
    /// Dead letters that their topic has.
    pub(super) sent: Vec<u64>,
}

/// What a transaction did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// The lane's number and the record's for each that was appended, in their order.
    pub(super) appended: Vec<(u64, u64)>,
    /// The lane's number, the record's and its key, for each dead letter that is delivered after all.
    pub(super) replayed: Vec<(u64, u64, Option<Bytes>)>,
    /// The numbers of lanes that have no records any more.
    pub(super) emptied: Vec<u64>,
    /// How many dead letters were forgotten.
    pub(super) forgotten: u64,
}

/// The file. Read from any thread, written from one.
pub struct Store {
    file: Keeper,
    /// None while it could not be opened again after a failure.
    database: RwLock<Option<Database>>,
}

impl Store {
    /// Opens the spool in `directory`; makes both if they are not there.
    ///
    /// # Errors
    /// See [`Error`]. A spool that cannot be opened is left as it is.
    pub(super) fn open(directory: &Path) -> Result<(Self, Book), Error> {
        let (path, make) = database::in_directory(directory, FILE, CACHE)?;
        let opened = Self::over(path, make)?;
        database::keep_name(directory)?;
        Ok(opened)
    }

    /// A spool over a database of another making.
    pub(super) fn over(path: PathBuf, make: Make) -> Result<(Self, Book), Error> {
        let this = Self {
            file: Keeper::new(path, make),
            database: RwLock::new(None),
        };
        let book = this.reopen()?;
        Ok((this, book))
    }

    /// Opens the file, again if it was open: after a failed write there is no other way on.
    pub(super) fn reopen(&self) -> Result<Book, Error> {
        let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
        self.file.shut(slot.take());
        let (database, book) = self.file.open(|database| {
            let book = self.load(database)?;
            // What is empty is made small again: a file grows, and gives nothing back by itself.
            if book.lanes.is_empty() && book.dead.records == 0 && book.unreadable == 0 {
                database.compact().map_err(|error| self.file.error(error))?;
            }
            Ok::<_, Error>(book)
        })?;
        *slot = Some(database);
        Ok(book)
    }

    /// How large the file is, if it is one.
    pub(super) fn size(&self) -> u64 {
        std::fs::metadata(self.file.path()).map_or(0, |file| file.len())
    }

    /// Gives free space back to the disk. Nothing can be read or written meanwhile: what is in it is moved.
    ///
    /// # Errors
    /// When that fails; [`Self::reopen`] is the only way on then.
    pub(super) fn compact(&self) -> Result<(), Error> {
        let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = slot.as_mut() else {
            return Ok(());
        };
        let compacted: bool = self
            .file
            .caught(|| database.compact().map_err(|error| self.file.error(error)))?;
        tracing::debug!(compacted, "gave the spool's free space back");
        Ok(())
    }

    /// Closes the file, so that another may open it.
    pub(super) fn close(&self) {
        let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
        self.file.shut(slot.take());
    }

    fn load(&self, database: &Database) -> Result<Book, Error> {
        let error = |error: redb::Error| self.file.error(error);
        let write = database.begin_write().map_err(|why| error(why.into()))?;
        if let Some(found) = version(&write).map_err(error)?.filter(|found| *found > VERSION) {
            return Err(self.file.newer(found, VERSION).into());
        }
        let book = load(&write).map_err(error)?;
        write.commit().map_err(|why| error(why.into()))?;
        Ok(book)
    }

    fn with<T>(&self, body: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, Error> {
        let slot = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = slot.as_ref().ok_or_else(|| Trouble::Io {
            path: self.file.path().to_owned(),
            why: "the spool could not be opened again after a failure".to_owned(),
        })?;
        self.file
            .caught(|| body(database).map_err(|error| self.file.error(error).into()))
    }

    /// Makes the changes, all or none of them, and returns when they are on the disk.
    ///
    /// # Errors
    /// When they are not, as far as is known. `book` is then worth nothing: [`Self::reopen`] gives another.
    pub(super) fn commit(&self, book: &mut Book, changes: &Changes) -> Result<Done, Error> {
        self.with(|database| commit(database, book, changes))
    }

    /// Up to `records` records of the lane after number `after`, and up to `bytes` bytes but at least one.
    pub(super) fn read(
        &self,
        lane: u64,
        after: u64,
        records: usize,
        bytes: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, Error> {
        self.with(|database| {
            let read = database.begin_read()?;
            let table = read.open_table(RECORDS)?;
            let mut found = Vec::new();
            let mut size = 0;
            for row in table.range((lane, after.saturating_add(1))..=(lane, u64::MAX))? {
                let (key, value) = row?;
                let value = value.value();
                if found.len() >= records || (size + value.len() > bytes && !found.is_empty()) {
                    break;
                }
                size += value.len();
                found.push((key.value().1, value.to_vec()));
            }
            Ok(found)
        })
    }

    /// The record of that number that waits, and its lane's number and row.
    pub(super) fn find(&self, number: u64) -> Result<Option<(u64, LaneRow, Vec<u8>)>, Error> {
        for (lane, row) in self.rows()? {
            let found = self.read(lane, number.saturating_sub(1), 1, 1)?;
            if let Some((_, entry)) = found.into_iter().find(|(found, _)| *found == number) {
                return Ok(Some((lane, row, entry)));
            }
        }
        Ok(None)
    }

    /// The number and the row of every lane whose row can be read.
    pub(super) fn rows(&self) -> Result<Vec<(u64, LaneRow)>, Error> {
        let lanes = self.lanes()?.into_iter();
        Ok(lanes
            .filter_map(|(number, row)| Some((number, row.ok()?)))
            .collect())
    }

    /// Every lane's number, and its row or why that cannot be read.
    pub(super) fn lanes(&self) -> Result<Read<LaneRow>, Error> {
        self.with(|database| {
            let read = database.begin_read()?;
            let table = read.open_table(LANES)?;
            let mut found = Vec::new();
            for row in table.iter()? {
                let (number, row) = row?;
                found.push((number.value(), LaneRow::open(row.value())));
            }
            Ok(found)
        })
    }

    /// The numbers of up to `most` dead letters after number `after`.
    pub(super) fn dead_numbers(&self, after: u64, most: usize) -> Result<Vec<u64>, Error> {
        self.with(|database| {
            let read = database.begin_read()?;
            let table = read.open_table(DEAD)?;
            let rows = table.range(after.saturating_add(1)..)?.take(most);
            rows.map(|row| Ok(row?.0.value())).collect()
        })
    }

    /// The dead letter of that number, if it is there, or why it cannot be read.
    pub(super) fn dead_letter(&self, number: u64) -> Result<Option<Result<DeadLetter, String>>, Error> {
        let found = self.dead_letters(number.saturating_sub(1), 1)?;
        Ok(found
            .into_iter()
            .find_map(|(found, letter)| (found == number).then_some(letter)))
    }

    /// The row of the dead letter of that number.
    #[cfg(feature = "parsers")]
    pub(super) fn dead_row(&self, number: u64) -> Result<Option<Vec<u8>>, Error> {
        self.with(|database| {
            let read = database.begin_read()?;
            let row = read.open_table(DEAD)?.get(number)?;
            Ok(row.map(|row| row.value().to_vec()))
        })
    }

    /// Up to `records` dead letters after number `after`, each or why it cannot be read.
    pub(super) fn dead_letters(&self, after: u64, records: usize) -> Result<Read<DeadLetter>, Error> {
        self.with(|database| {
            let read = database.begin_read()?;
            let table = read.open_table(DEAD)?;
            let mut found = Vec::new();
            for row in table.range(after.saturating_add(1)..)?.take(records) {
                let (number, letter) = row?;
                found.push((number.value(), DeadLetter::open(letter.value())));
            }
            Ok(found)
        })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

/// The version of what is in the file, if it says so.
fn version(write: &redb::WriteTransaction) -> Result<Option<u64>, redb::Error> {
    let meta = write.open_table(META)?;
    let found = meta.get("version")?;
    Ok(found.map(|found| found.value()))
}

/// What is in the file, in which every table is then. What the disk changed is told of, and does not keep the rest away.
fn load(write: &redb::WriteTransaction) -> Result<Book, redb::Error> {
    let mut book = Book::default();
    let mut meta = write.open_table(META)?;
    let get = |key: &str| -> Result<u64, redb::Error> {
        Ok(meta.get(key)?.map(|value| value.value()).unwrap_or_default())
    };
    book.next = get("next")?;
    book.dead = Amount {
        records: get("dead_records")?,
        bytes: get("dead_bytes")?,
    };
    let records = write.open_table(RECORDS)?;
    let lanes = write.open_table(LANES)?;
    for row in lanes.iter()? {
        let (number, row) = row?;
        let number = number.value();
        // These numbers have no checksum: one that was given already must not be given again.
        book.next = book.next.max(number);
        if let Some(last) = records.range((number, 0)..=(number, u64::MAX))?.next_back() {
            book.next = book.next.max(last?.0.value().1);
        }
        match LaneRow::open(row.value()) {
            Ok(row) => {
                book.numbers.insert(row.lane(), number);
                book.lanes.insert(number, row);
            }
            Err(why) => {
                book.unreadable += 1;
                tracing::error!(
                    why,
                    lane = number,
                    "the name of a lane of the spool cannot be read: its records stay in the file, and are not delivered"
                );
            }
        }
    }
    let dead = write.open_table(DEAD)?;
    if let Some(last) = dead.last()? {
        book.next = book.next.max(last.0.value());
    }
    if dead.len()? != book.dead.records {
        book.dead = Amount::default();
        for letter in dead.iter()? {
            book.dead.add(letter?.1.value().len());
        }
    }
    if get("version")? != VERSION {
        meta.insert("version", VERSION)?;
    }
    Ok(book)
}

fn commit(database: &Database, book: &mut Book, changes: &Changes) -> Result<Done, redb::Error> {
    let write = database.begin_write()?;
    let mut done = Done::default();
    let mut touched = HashSet::new();
    {
        let mut records = write.open_table(RECORDS)?;
        let mut dead = write.open_table(DEAD)?;
        let add =
            |records: &mut redb::Table<'_, (u64, u64), &[u8]>, book: &mut Book, lane: &Lane, entry: &[u8]| {
                let lane = book.number(lane);
                let number = book.fresh();
                records.insert((lane, number), entry)?;
                if let Some(row) = book.lanes.get_mut(&lane) {
                    row.records += 1;
                    row.bytes += entry.len() as u64;
                }
                Ok::<_, redb::Error>((lane, number))
            };
        for (lane, entry) in &changes.append {
            let (lane, number) = add(&mut records, book, lane, entry)?;
            touched.insert(lane);
            done.appended.push((lane, number));
        }
        for id in &changes.replay {
            let found = dead.get(*id)?;
            let found = found.map(|row| (row.value().len(), DeadLetter::open(row.value())));
            // One that cannot be read stays.
            let Some((size, Ok(letter))) = found else {
                continue;
            };
            dead.remove(*id)?;
            book.dead.take(size);
            let (lane, number) = add(&mut records, book, &letter.lane(), &letter.entry.seal())?;
            touched.insert(lane);
            done.replayed.push((lane, number, letter.entry.key));
        }
        let forgotten = changes.forget.iter().map(|id| (id, 1));
        for (id, counts) in forgotten.chain(changes.sent.iter().map(|id| (id, 0))) {
            if let Some(letter) = dead.remove(*id)? {
                book.dead.take(letter.value().len());
                done.forgotten += counts;
            }
        }
        let buried = changes
            .bury
            .iter()
            .map(|(lane, number, letter)| (*lane, *number, Some(letter)));
        let removed = changes.remove.iter().map(|(lane, number)| (*lane, *number, None));
        for (lane, number, letter) in removed.chain(buried) {
            let Some(size) = records.remove((lane, number))?.map(|entry| entry.value().len()) else {
                continue;
            };
            touched.insert(lane);
            if let Some(row) = book.lanes.get_mut(&lane) {
                row.records = row.records.saturating_sub(1);
                row.bytes = row.bytes.saturating_sub(size as u64);
            }
            if let Some(letter) = letter {
                let letter = letter.seal();
                dead.insert(number, &letter[..])?;
                book.dead.add(letter.len());
            }
        }
        let mut lanes = write.open_table(LANES)?;
        for number in touched {
            match book.lanes.get(&number) {
                Some(row) if row.records > 0 => {
                    lanes.insert(number, &row.seal()[..])?;
                }
                Some(row) => {
                    book.numbers.remove(&row.lane());
                    book.lanes.remove(&number);
                    lanes.remove(number)?;
                    done.emptied.push(number);
                }
                None => {}
            }
        }
        let mut meta = write.open_table(META)?;
        meta.insert("next", book.next)?;
        meta.insert("dead_records", book.dead.records)?;
        meta.insert("dead_bytes", book.dead.bytes)?;
    }
    write.commit()?;
    Ok(done)
}

#[cfg(test)]
mod tests;
