//! A file in memory, for the fuzz targets.

use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{BackendError, Builder, StorageBackend};

use super::Make;

/// No file grows beyond this, whatever is in it.
const MOST: usize = 1 << 26;

/// The file; clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    /// A file of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(Arc::new(Mutex::new(bytes.to_vec())))
    }

    /// What is in it.
    pub(crate) fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What opens it.
    pub(crate) fn make(&self) -> Make {
        let file = self.clone();
        Box::new(move || Builder::new().create_with_backend(file.clone()))
    }
}

fn place(offset: u64, length: usize) -> io::Result<std::ops::Range<usize>> {
    let at = usize::try_from(offset).ok();
    let range = at.and_then(|at| Some(at..at.checked_add(length)?));
    range
        .filter(|range| range.end <= MOST)
        .ok_or_else(|| io::ErrorKind::StorageFull.into())
}

impl StorageBackend for Memory {
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
