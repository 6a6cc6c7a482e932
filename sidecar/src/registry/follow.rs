//! Reading the topic, from the beginning and then as it goes on, and telling who waits what became of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::name::Name;
use super::table::{Applied, Content, Table};
#[cfg(test)]
use super::table::{Proposed, encode};
use super::{Inner, Phase, Registry, upkeep};
use crate::epoch::now_ms;
use crate::kafka::log;

/// How often it is asked where the topic ends.
const PULSE: Duration = Duration::from_secs(5);
/// The pause before the topic is looked for again, doubled each time up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Registry<V> {
    /// Reads the topic for as long as it is polled, and takes dead records back.
    pub async fn run(self: Arc<Self>) {
        let mut pause = PAUSES.0;
        let upkeep = upkeep::run(&self);
        let pulse = async {
            loop {
                tokio::time::sleep(PULSE).await;
                let asked = Instant::now();
                match self.log.end().await {
                    Ok(end) => {
                        let mut inner = self.lock();
                        inner.ended(asked, end);
                        self.metrics.lag(end.saturating_sub(inner.position));
                        self.metrics.caught_up(inner.caught_up);
                    }
                    Err(error) => tracing::debug!(%error, topic = self.topic(), "nobody says where it ends"),
                }
            }
        };
        let reading = async {
            loop {
                let Err(error) = self.read(&mut pause).await;
                let why = format!("topic {}: {error}", self.topic());
                if self.enter(Phase::Away(why)) {
                    tracing::warn!(topic = self.topic(), %error, "the state cannot be read");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        };
        tokio::select! {
            () = upkeep => {}
            () = pulse => {}
            () = reading => {}
        }
    }

    /// Reads from the beginning, until that is not possible any more. The rows that were known before are shown until all of
    /// the topic was read.
    async fn read(&self, pause: &mut Duration) -> Result<std::convert::Infallible, log::Error> {
        self.log.prepare().await?;
        let asked = Instant::now();
        let end = self.log.end().await?;
        let mut following = self.log.follow().await?;
        let mut fresh = Table::default();
        loop {
            let next = following.next().await?;
            for record in &next.records {
                self.apply(&mut fresh, record);
            }
            if next.position >= end {
                self.begin(fresh, next.position, asked);
                break;
            }
        }
        *pause = PAUSES.0;
        loop {
            match following.next().await {
                Ok(next) => self.take(&next),
                Err(error @ log::Error::Gone(_)) => return Err(error),
                Err(error) => {
                    if self.enter(Phase::Away(format!("topic {}: {error}", self.topic()))) {
                        tracing::warn!(topic = self.topic(), %error, "the state cannot be read on");
                    }
                    tokio::time::sleep(*pause).await;
                    *pause = (*pause * 2).min(PAUSES.1);
                    continue;
                }
            }
            *pause = PAUSES.0;
        }
    }

    /// Knows these rows, as if they had been read, and no topic.
    #[cfg(test)]
    pub(crate) fn hold<'a>(&self, rows: impl IntoIterator<Item = (&'a str, V)>) {
        let mut table = Table::default();
        for (nonce, (key, value)) in (0..).zip(rows) {
            let name = Name {
                key: key.into(),
                version: 1,
                nonce,
            };
            let value = encode(&Proposed::Value(&value)).unwrap_or_default();
            let _accepted = table.apply(name.to_string().as_bytes(), Some(&value), 0, 0);
        }
        self.begin(table, 0, Instant::now());
    }

    /// Everything that was in the topic is in `table`.
    fn begin(&self, table: Table<V>, position: i64, asked: Instant) {
        let mut inner = self.lock();
        let unreadable = table
            .starting_with("")
            .filter_map(|(key, row)| match &row.content {
                Content::Unreadable(why) => Some((key, why)),
                Content::Value(_) | Content::Deleted | Content::Closed => None,
            });
        for (key, why) in unreadable {
            tracing::warn!(row = &**key, %why, "what another version of Sluice wrote is kept, and not used");
        }
        if table.foreign() > 0 {
            let (topic, records) = (self.topic(), table.foreign());
            tracing::warn!(
                topic,
                records,
                "records of the state's topic are not Sluice's: they are left alone"
            );
        }
        if let Some(observer) = &self.observer {
            let mut rows = table
                .starting_with("")
                .map(|(key, row)| (key, row.version, &row.content));
            observer.begin(&mut rows);
        }
        inner.table = table;
        inner.position = position;
        inner.ends.clear();
        inner.caught_up = asked;
        inner.phase = Phase::Ready;
        self.measure(&inner);
        drop(inner);
        self.tell();
    }

    fn take(&self, next: &log::Next) {
        let mut inner = self.lock();
        let changed = !next.records.is_empty() || inner.phase != Phase::Ready;
        for record in &next.records {
            let name = record.key.as_deref().and_then(Name::parse);
            let before = name.as_ref().and_then(|name| inner.table.current(&name.key));
            let applied = self.apply(&mut inner.table, record);
            let Some(name) = name else { continue };
            let accepted = match applied {
                Applied::Accepted => true,
                Applied::Refused => false,
                Applied::Repeated | Applied::Swept | Applied::Foreign => continue,
            };
            if let (true, Some(observer)) = (accepted, &self.observer)
                && let Some((key, row)) = inner.table.entry(&name.key)
            {
                observer.changed(key, row.version, &row.content);
            }
            if let Some(waiting) = inner.waiting.remove(&name.nonce) {
                // Ours: we take back what it made dead. Others do so much later, if we do not.
                inner.table.hasten(if accepted {
                    before.as_ref().unwrap_or(&name)
                } else {
                    &name
                });
                self.dead.notify_one();
                // Whoever asked may have gone.
                let _gone = waiting.send(accepted);
            }
        }
        inner.moved(next.position);
        inner.phase = Phase::Ready;
        self.measure(&inner);
        drop(inner);
        if changed {
            self.tell();
        }
    }

    /// Whether it is another phase than before, but for the words.
    fn enter(&self, phase: Phase) -> bool {
        let mut inner = self.lock();
        let other = std::mem::discriminant(&inner.phase) != std::mem::discriminant(&phase);
        self.metrics.ready(phase == Phase::Ready);
        inner.phase = phase;
        drop(inner);
        self.tell();
        other
    }

    /// Tells the metrics what is known now.
    fn measure(&self, inner: &Inner<V>) {
        let (rows, dead) = inner.table.size();
        self.metrics.size(rows, dead);
        self.metrics.caught_up(inner.caught_up);
        self.metrics.ready(inner.phase == Phase::Ready);
        if let Some((_, end)) = inner.ends.back() {
            self.metrics.lag(end.saturating_sub(inner.position));
        } else {
            self.metrics.lag(0);
        }
    }

    fn apply(&self, table: &mut Table<V>, record: &crate::kafka::reader::Record) -> Applied {
        let key = record.key.as_deref().unwrap_or_default();
        let due = now_ms().saturating_add(upkeep::OTHERS_MS);
        let applied = table.apply(
            key,
            record.value.as_deref(),
            record.timestamp.unwrap_or_default(),
            due,
        );
        self.metrics.read(applied.as_str());
        applied
    }

    fn tell(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}
