//! The reading of a spool's file, for the fuzz targets.

use std::io;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

use super::entry::{DeadLetter, Entry, Lane};
use super::store::{Changes, Store};

/// No file grows beyond this, whatever is in it.
const MOST: usize = 1 << 26;

/// A file in memory.
#[derive(Debug, Clone, Default)]
struct File(Arc<Mutex<Vec<u8>>>);

impl File {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(offset: u64, length: usize) -> io::Result<std::ops::Range<usize>> {
    let at = usize::try_from(offset).ok();
    let range = at.and_then(|at| Some(at..at.checked_add(length)?));
    range
        .filter(|range| range.end <= MOST)
        .ok_or_else(|| io::ErrorKind::StorageFull.into())
}

impl StorageBackend for File {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.bytes().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let range = place(offset, out.len())?;
        match self.bytes().get(range) {
            Some(found) => out.copy_from_slice(found),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.bytes().resize(place(len, 0)?.end, 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let range = place(offset, data.len())?;
        let mut bytes = self.bytes();
        if bytes.len() < range.end {
            bytes.resize(range.end, 0);
        }
        if let Some(to) = bytes.get_mut(range) {
            to.copy_from_slice(data);
        }
        Ok(())
    }

    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }
}

/// What is in a spool.
#[derive(Debug, Default)]
pub struct Contents {
    /// Each record's lane and its row.
    pub records: Vec<(Lane, Vec<u8>)>,
    /// The dead letters.
    pub dead: Vec<DeadLetter>,
}

fn store(file: &File) -> Result<(Store, super::store::Book), String> {
    let file = file.clone();
    let make = move || redb::Builder::new().create_with_backend(file.clone());
    Store::over(PathBuf::from("memory"), Box::new(make)).map_err(|error| error.to_string())
}

/// The bytes of a file with these records in it.
///
/// # Errors
/// When it cannot be made, which is a defect.
pub fn file(records: &[(Lane, Entry)]) -> Result<Vec<u8>, String> {
    let file = File::default();
    let (store, mut book) = store(&file)?;
    let changes = Changes {
        append: records
            .iter()
            .map(|(lane, entry)| (lane.clone(), entry.seal()))
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
    let (store, book) = store(&File(Arc::new(Mutex::new(bytes.to_vec()))))?;
    let mut contents = Contents::default();
    for (number, row) in &book.lanes {
        let found = store.read(*number, 0, usize::MAX, usize::MAX);
        let found = found.map_err(|error| error.to_string())?;
        contents
            .records
            .extend(found.into_iter().map(|(_, entry)| (row.lane(), entry)));
    }
    let dead = store
        .dead_letters(0, usize::MAX)
        .map_err(|error| error.to_string())?;
    contents.dead = dead.into_iter().map(|(_, letter)| letter).collect();
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
