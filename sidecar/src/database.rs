//! Files that redb keeps: how one is opened, and what its errors mean.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError};

/// Opens a database, again if it must be.
pub(crate) type Make = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// What is wrong with a file, whatever it holds.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Somebody else has it open.
    InUse(PathBuf),
    /// It is not what was written.
    Damaged { path: PathBuf, why: String },
    /// The disk, or the way to it.
    Io { path: PathBuf, why: String },
}

impl Trouble {
    /// What the system says about `path`.
    pub(crate) fn io(path: &Path, error: &io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            why: error.to_string(),
        }
    }

    /// Why the database at `path` cannot be opened.
    pub(crate) fn opening(path: &Path, error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
                Self::InUse(path.to_owned())
            }
            other => Self::using(path, other.into()),
        }
    }

    /// Why the database at `path` cannot be read or written.
    pub(crate) fn using(path: &Path, error: redb::Error) -> Self {
        let path = path.to_owned();
        match error {
            redb::Error::Io(error) if error.kind() != io::ErrorKind::InvalidData => Self::Io {
                path,
                why: error.to_string(),
            },
            other @ redb::Error::PreviousIo => Self::Io {
                path,
                why: other.to_string(),
            },
            other => Self::Damaged {
                path,
                why: other.to_string(),
            },
        }
    }
}

/// What opens the file `name` in `directory`, of which `cache` bytes are kept in memory, and its path. The directory is
/// made if it is not there.
///
/// # Errors
/// When it cannot be.
pub(crate) fn in_directory(directory: &Path, name: &str, cache: usize) -> Result<(PathBuf, Make), Trouble> {
    std::fs::create_dir_all(directory).map_err(|error| Trouble::io(directory, &error))?;
    let path = directory.join(name);
    let file = path.clone();
    let make = move || redb::Builder::new().set_cache_size(cache).create(&file);
    Ok((path, Box::new(make)))
}

/// Has a power cut keep the name of a file that was made in `directory`: it is the directory's, and not in the file.
///
/// # Errors
/// When the directory cannot be synced.
pub(crate) fn keep_name(directory: &Path) -> Result<(), Trouble> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| Trouble::io(directory, &error))
}
