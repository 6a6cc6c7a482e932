//! What is read back: what is held, and the records that it is of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Outlet, RUNS};
use crate::kafka::reader::{Error, Limits, Record, When};
use crate::subscriptions::engine::held::{Held, Id, partition_of};
use crate::subscriptions::engine::runs;

/// Records that are read at once while what is held is looked through, and their bytes.
const PAGE: Limits = Limits {
    records: 2000,
    bytes: 4 << 20,
};

/// A held event as it was found.
#[derive(Debug)]
pub(in super::super) struct Found {
    /// Its offset in the source's partition.
    pub(in super::super) offset: i64,
    /// Where it is in the held topic.
    pub(in super::super) at: i64,
    /// What it says.
    pub(in super::super) held: Held,
}

impl Outlet {
    /// What is held of a subscription's partitions, by partition and in order.
    ///
    /// # Errors
    /// The topic is not there and cannot be created, or Kafka does not answer.
    pub(in super::super) async fn load(
        &self,
        subscription: &str,
        of: &[(Arc<str>, i32)],
    ) -> Result<BTreeMap<(Arc<str>, i32), Vec<Found>>, String> {
        let partitions = self.ensure().await?;
        let topic: Arc<str> = Arc::from(self.held.topic.as_str());
        let own: BTreeSet<i32> = of
            .iter()
            .map(|(topic, partition)| partition_of(subscription, topic, *partition, partitions))
            .collect();
        let keys: Vec<(Arc<str>, i32)> = own.iter().map(|n| (Arc::clone(&topic), *n)).collect();
        let mut all: BTreeMap<(Arc<str>, i32), BTreeMap<i64, Found>> =
            of.iter().map(|key| (key.clone(), BTreeMap::new())).collect();
        self.scan(&topic, &keys, |record| note(&mut all, subscription, record))
            .await?;
        let in_order = |found: BTreeMap<i64, Found>| found.into_values().collect();
        Ok(all
            .into_iter()
            .map(|(key, found)| (key, in_order(found)))
            .collect())
    }

    /// Which workflows of a service's partitions were started.
    ///
    /// # Errors
    /// As of [`Self::load`].
    pub(in super::super) async fn started(
        &self,
        service: &str,
        of: &BTreeSet<i32>,
    ) -> Result<runs::Found, String> {
        let partitions = self.ensure().await?;
        let topic: Arc<str> = Arc::from(self.held.topic.as_str());
        let own = of
            .iter()
            .map(|partition| partition_of(RUNS, service, *partition, partitions));
        let own: BTreeSet<i32> = own.collect();
        let keys: Vec<(Arc<str>, i32)> = own.iter().map(|n| (Arc::clone(&topic), *n)).collect();
        let mut found = runs::Found::default();
        self.scan(&topic, &keys, |record| {
            found.note(
                service,
                record.key.as_deref().unwrap_or_default(),
                record.value.as_ref(),
            );
        })
        .await?;
        Ok(found)
    }

    /// Looks at everything that is in the held topic's partitions, up to the ends that they have now.
    pub(in super::super) async fn scan(
        &self,
        topic: &Arc<str>,
        keys: &[(Arc<str>, i32)],
        mut look: impl FnMut(&Record),
    ) -> Result<(), String> {
        let words = |error: Error| format!("cannot read {topic}: {error}");
        let first = self.reader.offsets(keys, When::Earliest).await.map_err(words)?;
        let ends = self.reader.offsets(keys, When::Latest).await.map_err(words)?;
        for key in keys {
            let end = ends.get(key).copied().unwrap_or_default();
            let mut next = first.get(key).copied().unwrap_or_default();
            while next < end {
                let page = self.reader.read(&key.0, key.1, next, PAGE).await.map_err(words)?;
                if page.next <= next && page.records.is_empty() {
                    return Err(format!(
                        "{topic}@{}#{next} does not come, though {end} is the end",
                        key.1
                    ));
                }
                for record in &page.records {
                    look(record);
                }
                next = page.next;
            }
        }
        Ok(())
    }

    /// The record of a held event: from where it is held or, if it is too large for that, from where it is from.
    ///
    /// # Errors
    /// It is there no more (`None`), or Kafka does not answer.
    pub(in super::super) async fn fetch(&self, id: &str, at: i64) -> Result<Record, Option<String>> {
        let parts = Id::read(id).ok_or(None)?;
        let partitions = self.ensure().await.map_err(Some)?;
        let partition = partition_of(parts.subscription, parts.topic, parts.partition, partitions);
        let held: Arc<str> = Arc::from(self.held.topic.as_str());
        let found = self.one(&held, partition, at).await?;
        let ours = found.key.as_deref() == Some(id.as_bytes());
        let value = found.value.as_ref().filter(|_| ours).ok_or(None)?;
        let source: Arc<str> = Arc::from(parts.topic);
        let decoded = Held::read(value).map_err(|_| None)?;
        if let Some(record) = decoded.record(&source, parts.partition, parts.offset) {
            return Ok(record);
        }
        let found = self.one(&source, parts.partition, parts.offset).await?;
        Ok(Record {
            topic: Arc::clone(&found.topic),
            partition: found.partition,
            offset: found.offset,
            timestamp: found.timestamp,
            key: found.key.clone(),
            headers: found.headers.clone(),
            value: found.value.clone(),
            shown: std::sync::OnceLock::new(),
            shown_unframed: std::sync::OnceLock::new(),
        })
    }

    /// The record at an offset.
    pub(in super::super) async fn one(
        &self,
        topic: &Arc<str>,
        partition: i32,
        offset: i64,
    ) -> Result<Arc<Record>, Option<String>> {
        let one = Limits { records: 1, bytes: 1 };
        let page = match self.reader.read(topic, partition, offset, one).await {
            Ok(page) => page,
            Err(Error::OutOfRange { .. } | Error::UnknownTopic(_) | Error::UnknownPartition { .. }) => {
                return Err(None);
            }
            Err(error) => return Err(Some(error.to_string())),
        };
        let first = page.records.into_iter().next();
        only(first, topic, partition, offset, page.next)
    }
}

/// The record at `offset`, if it is what was found. It is there no more only if something behind it was reached.
fn only(
    found: Option<Arc<Record>>,
    topic: &str,
    partition: i32,
    offset: i64,
    next: i64,
) -> Result<Arc<Record>, Option<String>> {
    match found {
        Some(record) if record.offset == offset => Ok(record),
        Some(record) if record.offset > offset => Err(None),
        None if next > offset => Err(None),
        Some(_) | None => Err(Some(format!("{topic}@{partition}#{offset} does not come"))),
    }
}

/// Takes a record of the held topic into account.
fn note(all: &mut BTreeMap<(Arc<str>, i32), BTreeMap<i64, Found>>, subscription: &str, record: &Record) {
    let id = record
        .key
        .as_deref()
        .and_then(|key| std::str::from_utf8(key).ok());
    let Some(id) = id.and_then(Id::read).filter(|id| id.subscription == subscription) else {
        return;
    };
    let Some(found) = all.get_mut(&(Arc::from(id.topic), id.partition)) else {
        return;
    };
    match record.value.as_ref().map(Held::read) {
        None => drop(found.remove(&id.offset)),
        Some(Ok(held)) => {
            let (offset, at) = (id.offset, record.offset);
            // What may be large is read again when it is needed.
            let held = Held {
                value: None,
                headers: Vec::new(),
                ..held
            };
            found.insert(offset, Found { offset, at, held });
        }
        Some(Err(error)) => {
            tracing::error!(topic = %record.topic, partition = record.partition, offset = record.offset, error, "a held event cannot be read");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_gone_only_if_something_behind_it_was_reached() {
        let at = |offset| {
            Some(Arc::new(Record {
                topic: Arc::from("t"),
                partition: 0,
                offset,
                timestamp: None,
                key: None,
                headers: Vec::new(),
                value: None,
                shown: std::sync::OnceLock::new(),
                shown_unframed: std::sync::OnceLock::new(),
            }))
        };
        assert_eq!(only(at(5), "t", 0, 5, 6).map(|record| record.offset), Ok(5));
        assert_eq!(only(at(7), "t", 0, 5, 8).err(), Some(None));
        assert_eq!(only(None, "t", 0, 5, 6).err(), Some(None));
        for found in [only(None, "t", 0, 5, 5), only(at(4), "t", 0, 5, 5)] {
            let why = found.err().flatten();
            assert_eq!(why.as_deref(), Some("t@0#5 does not come"));
        }
    }
}
