//! Files that redb keeps: how one is opened, what its errors mean, and the checksum that its rows have.

#[cfg(feature = "parsers")]
pub(crate) mod memory;
pub(crate) mod sealed;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, ReadableDatabase};

/// Opens a database, again if it must be.
pub(crate) type Make = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// The format of the files that redb 4 writes: the first byte of each of a file's two commit slots, which are at these places
/// behind [`MAGIC`] (redb's docs/design.md).
const FORMAT: u8 = 3;
const SLOTS: [usize; 2] = [64, 192];
const MAGIC: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";

/// What is wrong with a file, whatever it holds.
#[derive(Debug)]
pub enum Trouble {
    /// Somebody else has it open.
    InUse(PathBuf),
    /// A later version of redb, or of the sidecar, wrote it.
    Newer {
        /// The file.
        path: PathBuf,
        /// What it has, and what is known here.
        what: String,
    },
    /// It is not what was written.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// The disk, or the way to it.
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's words.
        why: String,
    },
}

/// What is kept in a file, in the words that its errors need.
pub trait Words {
    /// A directory of it, with its article.
    const DIRECTORY: &'static str;
    /// What goes on about a file that a newer sidecar wrote.
    const NEWER: &'static str;
    /// What there is once a damaged file is moved away, and what that means.
    const WITHOUT: &'static str;
}

/// Why what is kept in a file cannot be opened, read or written.
#[derive(Debug)]
pub struct Error<K> {
    /// What is wrong with the file.
    pub trouble: Trouble,
    kept: PhantomData<K>,
}

impl<K> From<Trouble> for Error<K> {
    fn from(trouble: Trouble) -> Self {
        Self {
            trouble,
            kept: PhantomData,
        }
    }
}

impl<K: Words> fmt::Display for Error<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.trouble {
            Trouble::InUse(path) => write!(
                f,
                "{} is in use by another sidecar: give each sidecar {} of its own, or stop the other one",
                path.display(),
                K::DIRECTORY
            ),
            Trouble::Newer { path, what } => write!(
                f,
                "{} {what}: it was written by a newer sidecar{}",
                path.display(),
                K::NEWER
            ),
            Trouble::Damaged { path, why } => write!(
                f,
                "{} is damaged: {why}. Nothing in it was changed; move it away to begin {}",
                path.display(),
                K::WITHOUT
            ),
            Trouble::Io { path, why } => write!(f, "{}: {why}", path.display()),
        }
    }
}

impl<K: Words + fmt::Debug> std::error::Error for Error<K> {}

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
            other => match later_format(path) {
                Some(found) => Self::Newer {
                    path: path.to_owned(),
                    what: format!("is in format {found} of redb's and this sidecar knows {FORMAT}"),
                },
                None => Self::using(path, other.into()),
            },
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

/// The format of a file that a later redb wrote. One byte that the disk changed does not make it one: both slots have it.
fn later_format(path: &Path) -> Option<u8> {
    let mut head = [0; 256];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut head))
        .ok()?;
    let [first, second] = SLOTS.map(|at| head.get(at).copied().unwrap_or_default());
    (head.starts_with(MAGIC) && first == second && first > FORMAT).then_some(first)
}

/// What keeps a database: where it is, and how it is opened.
pub(crate) struct Keeper {
    path: PathBuf,
    make: Make,
}

impl Keeper {
    /// Of a database of any making, which errors call `path`.
    pub(crate) fn new(path: PathBuf, make: Make) -> Self {
        Self { path, make }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the database, and has `prepare` do with it what is to be done first. One that cannot be used is closed again.
    ///
    /// # Errors
    /// When it cannot be opened, and what `prepare` says.
    pub(crate) fn open<T, E: From<Trouble>>(
        &self,
        prepare: impl FnOnce(&mut Database) -> Result<T, E>,
    ) -> Result<(Database, T), E> {
        let mut database =
            self.caught(|| (self.make)().map_err(|error| Trouble::opening(&self.path, error)))?;
        let prepared = self
            .caught(|| self.look(&database).map_err(E::from))
            .and_then(|()| self.caught(|| prepare(&mut database)));
        match prepared {
            Ok(prepared) => Ok((database, prepared)),
            Err(error) => {
                self.shut(Some(database));
                Err(error)
            }
        }
    }

    /// Reads what tables there are. Where that makes no sense redb panics, and once more while tables of a transaction that
    /// writes are given up for it, which would end the process: here there are none.
    fn look(&self, database: &Database) -> Result<(), Trouble> {
        let read = database.begin_read().map_err(|error| self.error(error))?;
        let tables = read.list_tables().map_err(|error| self.error(error))?;
        tables.for_each(drop);
        Ok(())
    }

    /// redb panics at some files that nobody wrote so: that is an error like others.
    ///
    /// # Errors
    /// What `body` says, and that the file is damaged if it panics.
    pub(crate) fn caught<T, E: From<Trouble>>(&self, body: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(self
                .damaged(text.unwrap_or_else(|| "it makes no sense".to_owned()))
                .into())
        })
    }

    /// Closes the database, so that another may open it.
    pub(crate) fn shut(&self, database: Option<Database>) {
        // That writes, too, and may find what makes no sense.
        let closed: Result<(), Trouble> = self.caught(|| {
            drop(database);
            Ok(())
        });
        if let Err(trouble) = closed {
            tracing::error!(path = %self.path.display(), ?trouble, "a file was not closed in order");
        }
    }

    /// Why it cannot be read or written.
    pub(crate) fn error(&self, error: impl Into<redb::Error>) -> Trouble {
        Trouble::using(&self.path, error.into())
    }

    /// That it is not what was written.
    pub(crate) fn damaged(&self, why: impl Into<String>) -> Trouble {
        Trouble::Damaged {
            path: self.path.clone(),
            why: why.into(),
        }
    }

    /// That a later sidecar wrote it, which gives what is in it version `found`; this one knows `known`.
    pub(crate) fn newer(&self, found: u64, known: u64) -> Trouble {
        Trouble::Newer {
            path: self.path.clone(),
            what: format!("has version {found} and this sidecar knows {known}"),
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
