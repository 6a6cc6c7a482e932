//! A disk for tests: it can be switched off, and forgets then what was not synced.

use std::io;
use std::sync::{Arc, Mutex};

use redb::{BackendError, StorageBackend};

/// A disk in memory that loses what was not synced when its power is cut.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk(pub(crate) Arc<Mutex<Platter>>);

#[derive(Debug, Default)]
pub(crate) struct Platter {
    pub(crate) now: Vec<u8>,
    synced: Vec<u8>,
    /// What was done since then, in order.
    since: Vec<Op>,
    /// How many operations work before the power is cut; `None`: all.
    pub(crate) works: Option<usize>,
    /// No more bytes than these fit.
    pub(crate) size: Option<u64>,
    /// Nothing can be written: the system has made the disk read-only.
    pub(crate) read_only: bool,
}

#[derive(Debug, Clone)]
enum Op {
    Write(usize, Vec<u8>),
    Len(usize),
}

impl Op {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Op::Len(len) => to.resize(*len, 0),
            Op::Write(at, data) => {
                let end = at + data.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[*at..end].copy_from_slice(data);
            }
        }
    }
}

impl Platter {
    fn works(&mut self) -> io::Result<()> {
        match &mut self.works {
            Some(0) => Err(io::Error::other("no power")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn op(&mut self, op: Op) -> io::Result<()> {
        self.works()?;
        if self.read_only {
            return Err(io::Error::from_raw_os_error(libc::EROFS));
        }
        let end = match &op {
            Op::Len(len) => *len,
            Op::Write(at, data) => at + data.len(),
        };
        if self.size.is_some_and(|size| end as u64 > size) {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "No space left on device",
            ));
        }
        op.apply(&mut self.now);
        self.since.push(op);
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.0.lock().unwrap().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let platter = self.0.lock().unwrap();
        let at = usize::try_from(offset).unwrap();
        let found = platter.now.get(at..at + out.len());
        out.copy_from_slice(found.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.0.lock().unwrap().op(Op::Len(usize::try_from(len).unwrap()))
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let mut platter = self.0.lock().unwrap();
        platter.works()?;
        platter.synced = platter.now.clone();
        platter.since.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let at = usize::try_from(offset).unwrap();
        self.0.lock().unwrap().op(Op::Write(at, data.to_vec()))
    }

    fn try_lock_range(&self, _: std::ops::Bound<u64>, _: std::ops::Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }
}

impl Disk {
    /// What is left after a power cut: of each write since the last sync all, nothing, or its beginning.
    pub(crate) fn after_power_cut(&self, seed: u64) -> Self {
        let platter = self.0.lock().unwrap();
        let mut left = platter.synced.clone();
        let mut random = seed | 1;
        for op in &platter.since {
            // xorshift
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let kept = match (random % 3, op) {
                (0, _) => continue,
                (1, Op::Write(at, data)) => {
                    let length = usize::try_from(random >> 8).unwrap() % data.len().max(1);
                    Op::Write(*at, data[..length].to_vec())
                }
                _ => op.clone(),
            };
            kept.apply(&mut left);
        }
        Self(Arc::new(Mutex::new(Platter {
            now: left.clone(),
            synced: left,
            ..Platter::default()
        })))
    }
}
