//! What brokers have in their files: the heads of record batches, which no client shows.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Kafka;

/// The head of a batch of format 2 (<https://kafka.apache.org/documentation/#recordbatch>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The partition that it is in.
    pub partition: i32,
    /// Its first record's offset there.
    pub first: i64,
    /// Its last record's.
    pub last: i64,
    /// The epoch of the leader that appended it.
    pub leader_epoch: i32,
    /// The producer that wrote it; -1 is one that is not idempotent.
    pub producer: i64,
    /// That producer's epoch.
    pub producer_epoch: i16,
    /// The sequence number of its first record.
    pub sequence: i32,
}

impl Kafka {
    /// The batches of a topic, by partition and offset, as the broker that has most of a partition has them.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn batches(&self, topic: &str) -> Result<Vec<Batch>> {
        let mut batches = Vec::new();
        for partition in 0.. {
            let name = format!("{topic}-{partition}");
            let copies = (1..=self.nodes.len()).map(|id| self.dir.join(format!("broker-{id}")).join(&name));
            let copies = copies.filter(|dir| dir.is_dir()).map(|dir| log(&dir));
            let copies: Vec<_> = copies.collect::<Result<_>>()?;
            let Some(longest) = copies.into_iter().max_by_key(Vec::len) else {
                break;
            };
            let mut rest = longest.as_slice();
            while let Some((batch, after)) = head(partition, rest) {
                batches.push(batch);
                rest = after;
            }
        }
        Ok(batches)
    }
}

/// A partition's segments, one after the other.
fn log(dir: &Path) -> Result<Vec<u8>> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
    let mut segments: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    segments.retain(|path| path.extension().is_some_and(|kind| kind == "log"));
    segments.sort();
    let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("read {}", path.display()));
    Ok(segments.iter().map(read).collect::<Result<Vec<_>>>()?.concat())
}

/// The head of the batch that the bytes begin with, and what is behind the batch; nothing where there is no whole one.
fn head(partition: i32, bytes: &[u8]) -> Option<(Batch, &[u8])> {
    fn at<const N: usize>(bytes: &[u8], from: usize) -> Option<[u8; N]> {
        bytes.get(from..from + N)?.try_into().ok()
    }
    let first = i64::from_be_bytes(at(bytes, 0)?);
    let length = usize::try_from(i32::from_be_bytes(at(bytes, 8)?)).ok()?;
    let after = bytes.get(12 + length..)?;
    let batch = Batch {
        partition,
        first,
        last: first + i64::from(i32::from_be_bytes(at(bytes, 23)?)),
        leader_epoch: i32::from_be_bytes(at(bytes, 12)?),
        producer: i64::from_be_bytes(at(bytes, 43)?),
        producer_epoch: i16::from_be_bytes(at(bytes, 51)?),
        sequence: i32::from_be_bytes(at(bytes, 53)?),
    };
    (length > 0).then_some((batch, after))
}
