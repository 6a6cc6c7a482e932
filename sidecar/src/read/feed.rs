//! The records of some partitions from some positions on: what polls and streams both read.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::cursor::Cursor;
use super::failure::{Failure, Kind};
use super::from::From;
use crate::config::Reset;
use crate::kafka::reader::{Error, Handle, Limits, Offsets, Reader, Record, View, When};

/// The most partitions that one request reads.
const MAX_PARTITIONS: usize = 1024;
/// How often a position may turn out not to be there within one step: once it does, and a second time if retention is just
/// then at work.
const RESETS: usize = 3;

/// What is to be read.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    pub(crate) topics: Vec<Arc<str>>,
    /// Of each topic; all of them without it.
    pub(crate) partition: Option<i32>,
    pub(crate) cursor: Option<Cursor>,
    pub(crate) from: Option<From>,
    pub(crate) reset: Reset,
}

/// A position that was not there, and where reading goes on instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) requested: i64,
    pub(crate) position: i64,
    /// `gone`, when it is before the first record, or `beyond`, when it is after the last.
    pub(crate) reason: &'static str,
}

/// A partition of a topic.
type Key = (Arc<str>, i32);

/// Positions, and what follows the ends.
pub(crate) struct Feed {
    reader: Arc<Reader>,
    wake: Arc<Notify>,
    reset: Reset,
    parts: Vec<Part>,
    moved: Vec<Moved>,
}

struct Part {
    topic: Arc<str>,
    partition: i32,
    /// The offset that was not seen yet.
    position: i64,
    /// Whether there was nothing at the position.
    caught_up: bool,
    tail: Option<Handle>,
}

impl Feed {
    /// Finds the partitions, and where to start in each.
    pub(crate) async fn open(reader: &Arc<Reader>, selection: &Selection) -> Result<Self, Failure> {
        let mut feed = Self::empty(reader, selection.reset);
        let mut found = Vec::new();
        for topic in &selection.topics {
            let count = reader.partitions(topic).await?;
            check(selection, topic, count)?;
            match selection.partition {
                Some(one) => found.push((Arc::clone(topic), one)),
                None => found.extend((0..count).map(|partition| (Arc::clone(topic), partition))),
            }
        }
        if found.len() > MAX_PARTITIONS {
            return Err(Failure::invalid(format!(
                "the request reads {} partitions, and may read {MAX_PARTITIONS}: name fewer topics, or a partition",
                found.len()
            )));
        }
        feed.start(found, selection).await?;
        Ok(feed)
    }

    /// Reads nothing yet: [`Self::include`] says what.
    pub(crate) fn empty(reader: &Arc<Reader>, reset: Reset) -> Self {
        Self {
            reader: Arc::clone(reader),
            wake: Arc::new(Notify::new()),
            reset,
            parts: Vec::new(),
            moved: Vec::new(),
        }
    }

    /// Reads these partitions too, from these positions, or where the selection says what has none. Gives where it starts. If
    /// it fails, none of them is read.
    pub(crate) async fn include(
        &mut self,
        found: Vec<(Key, Option<i64>)>,
        selection: &Selection,
    ) -> Result<Vec<(Key, i64)>, Failure> {
        let mut cursor = Cursor::default();
        for ((topic, partition), position) in &found {
            if let Some(position) = position {
                cursor.see(topic, *partition, position.saturating_sub(1));
            }
        }
        let placed = Selection {
            cursor: Some(cursor),
            ..selection.clone()
        };
        let keys: Vec<_> = found.into_iter().map(|(key, _)| key).collect();
        if self.parts.len() + keys.len() > MAX_PARTITIONS {
            return Err(Failure::invalid(format!(
                "the group gives more than {MAX_PARTITIONS} partitions, which is what one client may read: name fewer topics"
            )));
        }
        if let Err(failure) = self.start(keys.clone(), &placed).await {
            self.exclude(&keys);
            return Err(failure);
        }
        let new = self.parts.iter().filter_map(|part| {
            let key = (Arc::clone(&part.topic), part.partition);
            keys.contains(&key).then_some((key, part.position))
        });
        Ok(new.collect())
    }

    /// Does not read these partitions any more.
    pub(crate) fn exclude(&mut self, gone: &[Key]) {
        let is_gone = |part: &Part| gone.iter().any(|(t, p)| *t == part.topic && *p == part.partition);
        self.parts.retain(|part| !is_gone(part));
    }

    /// The partitions that are read.
    pub(crate) fn keys(&self) -> Vec<Key> {
        let keys = self
            .parts
            .iter()
            .map(|part| (Arc::clone(&part.topic), part.partition));
        keys.collect()
    }

    /// Puts the partitions where the selection says.
    async fn start(&mut self, found: Vec<(Arc<str>, i32)>, selection: &Selection) -> Result<(), Failure> {
        let at = |(topic, partition): &(Arc<str>, i32)| {
            let seen = selection.cursor.as_ref().and_then(|c| c.seen(topic, *partition));
            let named = match &selection.from {
                Some(From::At(cursor)) => cursor.seen(topic, *partition),
                _ => None,
            };
            seen.map(|seen| seen.saturating_add(1)).or(named)
        };
        let (placed, open): (Vec<_>, Vec<_>) = found.into_iter().partition(|key| at(key).is_some());
        // What a tail has, nobody needs to be asked about.
        let mut unsure = Vec::new();
        for key in placed {
            let position = at(&key).unwrap_or_default();
            match self.reader.join_running(&key.0, key.1, position, &self.wake) {
                Some(tail) => self.add(key, position, false, Some(tail)),
                None => unsure.push((key, position)),
            }
        }
        let keys: Vec<_> = unsure.iter().map(|(key, _)| key).chain(&open).cloned().collect();
        let ends = self.reader.offsets(&keys, When::Latest).await?;
        let end = |key: &(Arc<str>, i32)| ends.get(key).copied().unwrap_or_default();
        for (key, position) in unsure {
            let end = end(&key);
            self.add(key, position, position == end, None);
            if position > end {
                self.put_back(self.parts.len().saturating_sub(1)).await?;
            }
        }
        let starts = self.beginnings(&open, &ends, selection).await?;
        for key in open {
            let position = starts.get(&key).copied().unwrap_or_default();
            let caught_up = position >= end(&key);
            self.add(key, position, caught_up, None);
        }
        self.parts
            .sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        self.parts.shrink_to_fit();
        Ok(())
    }

    fn add(&mut self, key: (Arc<str>, i32), position: i64, caught_up: bool, tail: Option<Handle>) {
        let (topic, partition) = key;
        self.parts.push(Part {
            topic,
            partition,
            position,
            caught_up,
            tail,
        });
    }

    /// Where partitions start that have no position.
    async fn beginnings(
        &self,
        open: &[(Arc<str>, i32)],
        ends: &Offsets,
        selection: &Selection,
    ) -> Result<Offsets, Failure> {
        let by_default = match selection.reset {
            Reset::Latest => From::Latest,
            Reset::Earliest => From::Earliest,
            Reset::None if open.is_empty() => From::Latest,
            Reset::None => match &selection.from {
                Some(From::Earliest | From::Latest | From::Time(_) | From::Last(_)) => From::Latest,
                Some(From::At(_)) | None => {
                    let (topic, partition) = open.first().cloned().unwrap_or_default();
                    return Err(Failure::new(
                        Kind::NoPosition,
                        format!(
                            "auto_offset_reset is none, and the request does not say where to start in {topic} \
                             partition {partition}: name it in cursor, or set from"
                        ),
                    ));
                }
            },
        };
        let offsets = match selection.from.as_ref().unwrap_or(&by_default) {
            From::Earliest => self.reader.offsets(open, When::Earliest).await?,
            From::Latest => ends.clone(),
            From::Time(ms) => self.reader.offsets(open, When::At(*ms)).await?,
            From::Last(count) => {
                let first = self.reader.offsets(open, When::Earliest).await?;
                let last = |(key, first): ((Arc<str>, i32), i64)| {
                    let end = ends.get(&key).copied().unwrap_or_default();
                    (key, end.saturating_sub(*count).max(first))
                };
                first.into_iter().map(last).collect()
            }
            From::At(_) if by_default == From::Earliest => self.reader.offsets(open, When::Earliest).await?,
            From::At(_) => ends.clone(),
        };
        Ok(offsets)
    }

    /// A partition's position is not there: goes where `auto_offset_reset` says.
    async fn put_back(&mut self, at: usize) -> Result<(), Failure> {
        let Some(part) = self.parts.get_mut(at) else {
            return Ok(());
        };
        let key = (Arc::clone(&part.topic), part.partition);
        let keys = std::slice::from_ref(&key);
        let of = |offsets: Offsets| offsets.get(&key).copied().unwrap_or_default();
        let first = of(self.reader.offsets(keys, When::Earliest).await?);
        let end = of(self.reader.offsets(keys, When::Latest).await?);
        let requested = part.position;
        if (first..=end).contains(&requested) {
            return Ok(());
        }
        part.position = match self.reset {
            Reset::Latest => end,
            Reset::Earliest => first,
            Reset::None => {
                return Err(Failure::new(
                    Kind::OutOfRange,
                    format!(
                        "{}@{}#{requested} is not there, and auto_offset_reset is none: the partition has {first} to \
                         {end}",
                        part.topic, part.partition
                    ),
                ));
            }
        };
        part.caught_up = part.position == end;
        part.tail = None;
        self.moved.push(Moved {
            topic: Arc::clone(&part.topic),
            partition: part.partition,
            requested,
            position: part.position,
            reason: if requested < first { "gone" } else { "beyond" },
        });
        Ok(())
    }

    /// What is there now: within `limits`, but one record at least. Waits for no record.
    pub(crate) async fn collect(&mut self, limits: Limits) -> Result<Vec<Arc<Record>>, Failure> {
        let count = self.parts.len();
        let mut all = Vec::new();
        let mut left = limits;
        // Not always the same first: a request that reads on where another ended begins with another partition.
        let sum = self.parts.iter().map(|part| part.position.unsigned_abs());
        let first = sum.fold(0, u64::wrapping_add) % u64::try_from(count.max(1)).unwrap_or(1);
        let first = usize::try_from(first).unwrap_or_default();
        for at in (first..count).chain(0..first) {
            // Most of the time there is something in one partition, and nothing in all others.
            let nothing = |part: &Part| {
                part.caught_up && part.tail.as_ref().is_some_and(|tail| !tail.has(part.position))
            };
            if self.parts.get(at).is_some_and(nothing) {
                continue;
            }
            let records = match self.step(at, left).await {
                Ok(records) => records,
                // What others gave is past their positions, and would be lost. It fails again when it is asked next.
                Err(_) if !all.is_empty() => break,
                Err(failure) => return Err(failure),
            };
            let bytes: usize = records.iter().map(|record| record.size()).sum();
            left.records = left.records.saturating_sub(records.len());
            left.bytes = left.bytes.saturating_sub(bytes);
            all.extend(records);
            if left.records == 0 || left.bytes == 0 {
                break;
            }
        }
        Ok(all)
    }

    /// The next records of one partition.
    async fn step(&mut self, at: usize, limits: Limits) -> Result<Vec<Arc<Record>>, Failure> {
        for _ in 0..RESETS {
            let Some(part) = self.parts.get_mut(at) else {
                return Ok(Vec::new());
            };
            if part.tail.is_none() {
                let (topic, position) = (&part.topic, part.position);
                part.tail = self
                    .reader
                    .join_running(topic, part.partition, position, &self.wake);
            }
            match part.tail.as_ref().map(|tail| tail.after(part.position, limits)) {
                Some(Ok(View::Here { records, next })) => {
                    part.position = next;
                    part.caught_up = records.is_empty();
                    return Ok(records);
                }
                Some(Ok(View::Behind)) => {}
                // Whatever ended the tail, reading says it again if it still holds.
                Some(Err(_)) => {
                    part.tail = None;
                    part.caught_up = false;
                }
                None if part.caught_up => return Ok(Vec::new()),
                None => {}
            }
            let (topic, partition, position) = (&part.topic, part.partition, part.position);
            // In boxes, as all that a stream seldom waits for: while it waits for news it has no room for it.
            let read = match &part.tail {
                Some(tail) => {
                    let read = self.reader.catch_up(tail, topic, partition, position, limits);
                    Box::pin(read).await
                }
                None => Box::pin(self.reader.read(topic, partition, position, limits)).await,
            };
            match read {
                Ok(batch) => {
                    part.position = batch.next;
                    part.caught_up = batch.ended;
                    return Ok(batch.records);
                }
                Err(Error::OutOfRange { .. }) => Box::pin(self.put_back(at)).await?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::new(
            Kind::Unavailable,
            format!("a partition's offsets changed {RESETS} times while they were looked at"),
        ))
    }

    /// Goes back to before these records, which were collected and will not be used, in the order in which they were collected.
    pub(crate) fn back_to(&mut self, unused: &[Arc<Record>]) {
        for record in unused.iter().rev() {
            let part = self
                .parts
                .iter_mut()
                .find(|part| part.topic == record.topic && part.partition == record.partition);
            if let Some(part) = part {
                part.position = record.offset;
                part.caught_up = false;
            }
        }
    }

    /// Whether everything was read that is there.
    pub(crate) fn caught_up(&self) -> bool {
        self.parts.iter().all(|part| part.caught_up)
    }

    /// Waits for something new, until `until` at the latest. Cancel-safe.
    pub(crate) async fn wait(&mut self, until: Instant) -> Result<(), Failure> {
        for part in &mut self.parts {
            if part.tail.is_none() {
                let joined = self
                    .reader
                    .join(&part.topic, part.partition, part.position, &self.wake);
                part.tail = Some(Box::pin(joined).await?);
            }
        }
        let is_there = |part: &Part| part.tail.as_ref().is_some_and(|tail| tail.has(part.position));
        if !self.parts.iter().any(is_there) {
            // At `until`, or earlier, it is looked again.
            let _woken_or_late = timeout_at(until, self.wake.notified()).await;
        }
        Ok(())
    }

    /// Starts on partitions that a topic has by now and did not have, at their first records.
    pub(crate) async fn look_for_partitions(&mut self, selection: &Selection) -> Result<(), Failure> {
        if selection.partition.is_some() {
            return Ok(());
        }
        for topic in &selection.topics {
            let count = self.reader.partitions(topic).await?;
            let known = self.parts.iter().filter(|part| part.topic == *topic).count();
            let known = i32::try_from(known).unwrap_or(i32::MAX);
            for partition in known..count {
                if self.parts.len() >= MAX_PARTITIONS {
                    return Ok(());
                }
                self.add((Arc::clone(topic), partition), 0, false, None);
            }
        }
        Ok(())
    }

    /// Everything that was seen.
    pub(crate) fn cursor(&self) -> Cursor {
        let mut cursor = Cursor::default();
        self.note(&mut cursor);
        cursor.shrink();
        cursor
    }

    /// Notes everything that was seen in a cursor.
    pub(crate) fn note(&self, cursor: &mut Cursor) {
        for part in &self.parts {
            cursor.see(&part.topic, part.partition, part.position.saturating_sub(1));
        }
    }

    /// The positions that were not there, since this was asked last.
    pub(crate) fn moved(&mut self) -> Vec<Moved> {
        std::mem::take(&mut self.moved)
    }
}

/// Whether what the request names is there.
fn check(selection: &Selection, topic: &str, count: i32) -> Result<(), Failure> {
    let from = match &selection.from {
        Some(From::At(cursor)) => Some(cursor),
        _ => None,
    };
    let named = selection.cursor.iter().chain(from).flat_map(Cursor::iter);
    let named = named
        .filter(|(named, _, _)| *named == topic)
        .map(|(_, partition, _)| partition);
    match named
        .chain(selection.partition)
        .find(|partition| *partition >= count)
    {
        None => Ok(()),
        Some(partition) => Err(Failure::new(
            Kind::UnknownPartition,
            format!(
                "topic {topic} has the partitions 0 to {}, and no {partition}",
                count - 1
            ),
        )),
    }
}
