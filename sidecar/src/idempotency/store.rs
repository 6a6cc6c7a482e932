//! The file of the keys: `idempotency.redb` in its directory, an ordered map kept by the crate redb.
//!
//! Everything that came meanwhile is one transaction, and a transaction is one fsync; a transaction that was cut off by
//! a crash or a power cut is as if it had never been begun.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::row::{Row, Topic};
use crate::database::{self, Keeper, Make, Words};

/// The version of what is in the file. A sidecar refuses a file of a later one.
pub const VERSION: u64 = 1;
/// The file's name in its directory.
pub const FILE: &str = "idempotency.redb";
/// How much of the file is kept in memory, in bytes.
const CACHE: usize = 32 * 1024 * 1024;
/// So many keys that are past their window are removed beside what is written, besides one for each that is added.
const PURGE_BESIDE: usize = 64;
/// So many are when there is nothing else to write.
const PURGE_ALONE: usize = 5000;

/// A key within its scope: a hash of both.
pub(super) type Name = [u8; 32];

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const KEYS: TableDefinition<'_, &Name, &[u8]> = TableDefinition::new("keys");
/// When each of those is forgotten.
const EXPIRY: TableDefinition<'_, (i64, &Name), ()> = TableDefinition::new("expiry");
const HELD: &str = "keys";

/// Why the keys cannot be opened, read or written.
pub type Error = database::Error<KeyFile>;

/// What is kept are keys.
#[derive(Debug)]
pub struct KeyFile;

impl Words for KeyFile {
    const DIRECTORY: &'static str = "an idempotency directory";
    const NEWER: &'static str = ". Nothing in it was changed; run that one, or move it away to begin without keys: what was written under them may then be written twice";
    const WITHOUT: &'static str = "without keys: what was written under them may then be written twice";
}

/// A record that asks to be written.
#[derive(Debug, Clone)]
pub(super) struct Begin {
    pub(super) name: Name,
    pub(super) fingerprint: Vec<u8>,
    pub(super) expires_ms: i64,
    pub(super) attempt: u64,
    /// How many topics it is for.
    pub(super) topics: usize,
}

/// What becomes of such a record.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    /// It is to be written to those topics that the row calls [`State::UnderWay`](super::row::State::UnderWay).
    Begun(Row),
    /// The key came before, and this is what became of its record.
    Known(Row),
    /// The key came before, with another request.
    Conflict,
    /// So many keys are held already.
    Full(u64),
}

/// What becomes of a key; without a row it is forgotten.
#[derive(Debug, Clone)]
pub(super) struct End {
    pub(super) name: Name,
    pub(super) row: Option<Row>,
}

/// The file.
pub(super) struct Store {
    file: Keeper,
    /// None while it could not be opened again after a failure.
    database: Mutex<Option<Database>>,
}

impl Store {
    /// Opens the file in `directory`; makes both if they are not there.
    ///
    /// # Errors
    /// See [`Error`]. A file that cannot be opened is left as it is.
    pub(super) fn open(directory: &Path) -> Result<Self, Error> {
        let (path, make) = database::in_directory(directory, FILE, CACHE)?;
        let this = Self::over(path, make)?;
        database::keep_name(directory)?;
        Ok(this)
    }

    /// The same over a database of another making.
    pub(super) fn over(path: PathBuf, make: Make) -> Result<Self, Error> {
        let this = Self {
            file: Keeper::new(path, make),
            database: Mutex::new(None),
        };
        this.reopen()?;
        if !this.shrink() {
            this.reopen()?;
        }
        Ok(this)
    }

    /// Makes what is empty small again: a file grows, and gives nothing back by itself. Whether it is open still.
    fn shrink(&self) -> bool {
        let empty = self.held().is_ok_and(|(held, _)| held == 0);
        let mut slot = self.lock();
        match &mut *slot {
            Some(database) if empty => {
                let compacted: Result<bool, Error> = self
                    .file
                    .caught(|| database.compact().map_err(|error| self.file.error(error).into()));
                compacted.is_ok()
            }
            _ => true,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Database>> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the file, again if it was open: after a failed write there is no other way on.
    pub(super) fn reopen(&self) -> Result<(), Error> {
        let mut slot = self.lock();
        self.file.shut(slot.take());
        *slot = Some(self.make()?);
        Ok(())
    }

    fn make(&self) -> Result<Database, Error> {
        let (database, ()) = self.file.open(|database| self.prepare(database))?;
        Ok(database)
    }

    /// Closes the file, so that another may open it.
    pub(super) fn close(&self) {
        let mut slot = self.lock();
        self.file.shut(slot.take());
    }

    /// Makes what is not there yet. Writes nothing where nothing is missing: a full disk can still be read.
    fn prepare(&self, database: &Database) -> Result<(), Error> {
        let found = || -> Result<Option<u64>, redb::Error> {
            let read = database.begin_read()?;
            match read.open_table(META) {
                Ok(meta) => Ok(meta.get("version")?.map(|value| value.value())),
                Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        match found().map_err(|error| self.file.error(error))? {
            Some(VERSION) => return Ok(()),
            Some(found) if found > VERSION => return Err(self.file.newer(found, VERSION).into()),
            Some(_) | None => {}
        }
        let make = || -> Result<(), redb::Error> {
            let write = database.begin_write()?;
            write.open_table(META)?.insert("version", VERSION)?;
            write.open_table(KEYS)?;
            write.open_table(EXPIRY)?;
            write.commit()?;
            Ok(())
        };
        Ok(make().map_err(|error| self.file.error(error))?)
    }

    fn with<T>(&self, body: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, Error> {
        let mut slot = self.lock();
        let database = match &mut *slot {
            Some(database) => database,
            none => none.insert(self.make()?),
        };
        self.file
            .caught(|| body(database).map_err(|error| self.file.error(error).into()))
    }

    /// Every row.
    #[cfg(feature = "parsers")]
    pub(super) fn rows(&self) -> Result<Vec<Vec<u8>>, Error> {
        self.with(|database| {
            let read = database.begin_read()?;
            let keys = read.open_table(KEYS)?;
            keys.iter()?.map(|row| Ok(row?.1.value().to_vec())).collect()
        })
    }

    /// How many keys there are, and when the first of them is past its window.
    pub(super) fn held(&self) -> Result<(u64, Option<i64>), Error> {
        self.with(|database| {
            let read = database.begin_read()?;
            let held = read.open_table(META)?.get(HELD)?.map_or(0, |held| held.value());
            let next = read.open_table(EXPIRY)?.first()?.map(|(key, _)| key.value().0);
            Ok((held, next))
        })
    }

    /// Writes what became of `ends`, forgets what is past its window, and gives a verdict on each of `begins`, in order
    /// and none of a name twice. Returns when all of it is on the disk.
    ///
    /// # Errors
    /// When it is not, as far as is known: [`Self::reopen`] tells.
    pub(super) fn commit(
        &self,
        begins: &[Begin],
        ends: &[End],
        now_ms: i64,
        max_keys: u64,
    ) -> Result<(Vec<Verdict>, u64), Error> {
        self.with(|database| commit(database, begins, ends, now_ms, max_keys))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

type Keys<'t> = redb::Table<'t, &'static Name, &'static [u8]>;
type Expiry<'t> = redb::Table<'t, (i64, &'static Name), ()>;

/// The tables of a transaction.
struct Writing<'t> {
    keys: Keys<'t>,
    expiry: Expiry<'t>,
    held: u64,
    changed: bool,
}

impl Writing<'_> {
    fn get(&self, name: &Name) -> Result<Option<Row>, redb::Error> {
        Ok(self.keys.get(name)?.map(|row| decode(row.value())))
    }

    fn put(&mut self, name: &Name, row: &Row) -> Result<(), redb::Error> {
        self.changed = true;
        let before = self.keys.insert(name, &row.seal()[..])?;
        let before = before.map(|before| decode(before.value()).expires_ms);
        match before {
            Some(expires_ms) if expires_ms == row.expires_ms => return Ok(()),
            Some(expires_ms) => drop(self.expiry.remove((expires_ms, name))?),
            None => self.held += 1,
        }
        self.expiry.insert((row.expires_ms, name), ())?;
        Ok(())
    }

    fn remove(&mut self, name: &Name) -> Result<(), redb::Error> {
        let before = match self.keys.remove(name)? {
            Some(before) => decode(before.value()).expires_ms,
            None => return Ok(()),
        };
        self.changed = true;
        self.held = self.held.saturating_sub(1);
        self.expiry.remove((before, name))?;
        Ok(())
    }

    /// Forgets up to `most` keys whose window is over.
    fn purge(&mut self, now_ms: i64, most: usize) -> Result<(), redb::Error> {
        let mut over = Vec::new();
        for found in self.expiry.range(..=(now_ms, &[u8::MAX; 32]))?.take(most) {
            let (key, _) = found?;
            let (expires_ms, name) = key.value();
            over.push((expires_ms, *name));
        }
        for (expires_ms, name) in over {
            self.remove(&name)?;
            // Its row, if it cannot be read, did not say when.
            self.expiry.remove((expires_ms, &name))?;
        }
        Ok(())
    }

    fn begin(&mut self, begin: &Begin, now_ms: i64, max_keys: u64) -> Result<Verdict, redb::Error> {
        let Begin { name, .. } = begin;
        let found = self.get(name)?.filter(|row| row.expires_ms > now_ms);
        let Some(mut row) = found else {
            let row = Row {
                fingerprint: begin.fingerprint.clone(),
                expires_ms: begin.expires_ms,
                begun_ms: now_ms,
                attempt: begin.attempt,
                topics: vec![Topic::under_way(); begin.topics],
            };
            // One that is past its window makes room for itself.
            if self.held >= max_keys && self.get(name)?.is_none() {
                return Ok(Verdict::Full(self.held));
            }
            self.put(name, &row)?;
            return Ok(Verdict::Begun(row));
        };
        if row.topics.is_empty() {
            row.topics = vec![Topic::default(); begin.topics];
            return Ok(Verdict::Known(row));
        }
        if row.fingerprint != begin.fingerprint {
            return Ok(Verdict::Conflict);
        }
        // A write that failed was there all the same.
        if row.attempt == begin.attempt {
            return Ok(Verdict::Begun(row));
        }
        if !row.retry(begin.attempt, now_ms) {
            return Ok(Verdict::Known(row));
        }
        self.put(name, &row)?;
        Ok(Verdict::Begun(row))
    }
}

fn commit(
    database: &Database,
    begins: &[Begin],
    ends: &[End],
    now_ms: i64,
    max_keys: u64,
) -> Result<(Vec<Verdict>, u64), redb::Error> {
    let write = database.begin_write()?;
    let mut verdicts = Vec::with_capacity(begins.len());
    let (held, changed) = {
        let mut meta = write.open_table(META)?;
        let held = meta.get(HELD)?.map_or(0, |held| held.value());
        let mut writing = Writing {
            keys: write.open_table(KEYS)?,
            expiry: write.open_table(EXPIRY)?,
            held,
            changed: false,
        };
        for End { name, row } in ends {
            match row.as_ref().filter(|row| row.expires_ms > now_ms) {
                Some(row) => writing.put(name, row)?,
                None => writing.remove(name)?,
            }
        }
        let purge = match begins.len() + ends.len() {
            0 => PURGE_ALONE,
            some => some + PURGE_BESIDE,
        };
        writing.purge(now_ms, purge)?;
        for begin in begins {
            verdicts.push(writing.begin(begin, now_ms, max_keys)?);
        }
        if writing.held != held {
            meta.insert(HELD, writing.held)?;
        }
        (writing.held, writing.changed)
    };
    // Who only asks does not wait for the disk.
    match changed {
        true => write.commit()?,
        false => write.abort()?,
    }
    Ok((verdicts, held))
}

/// A row; of one that cannot be read nothing is known until its window is over, and nothing else is held up by it.
fn decode(row: &[u8]) -> Row {
    Row::open(row).unwrap_or_else(|why| {
        tracing::error!(why, "the row of an idempotency key cannot be read");
        Row {
            expires_ms: i64::MAX,
            ..Row::default()
        }
    })
}

#[cfg(test)]
mod tests;
