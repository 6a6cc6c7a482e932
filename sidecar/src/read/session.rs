//! A subscription that goes on for as long as its client listens: what an event stream and a WebSocket have in common.
//!
//! What it holds is its positions. Whoever has it asks for the next step when the client has taken the one before, so that a
//! client that is slow is behind, is caught up from Kafka when it goes on, and holds up nobody.

use std::sync::Arc;

use tokio::time::{Duration, Instant};

use super::access::Granted;
use super::cursor::Cursor;
use super::failure::{Failure, Kind};
use super::feed::{Feed, Moved, Selection};
use super::from::From;
use super::poll::{LOOK, appears};
use super::query::Wanted;
use crate::kafka::reader::{Limits, Reader, Record};
use crate::metrics::ReadMetrics;

/// What is read at once.
pub(super) const PIECE: Limits = Limits {
    records: 500,
    bytes: 64 * 1024,
};
/// How long Kafka is left alone when it did not answer.
pub(super) const PAUSE: Duration = Duration::from_secs(1);
/// How often partitions are looked for that a topic did not have.
const LOOK_FOR_PARTITIONS: Duration = Duration::from_secs(5);

/// One client's positions.
pub(super) struct Session {
    reader: Arc<Reader>,
    selection: Selection,
    /// None while the topic does not exist.
    feed: Option<Feed>,
    /// The last record that the client was given, of each partition.
    seen: Cursor,
    /// When the topics are looked at again.
    look_at: Instant,
    /// Whether the client knows that it has seen what was there.
    live: bool,
    count: ReadMetrics,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Step {
    /// Positions that were not there, and then records. [`Session::saw`] is to be told of each record as it is given.
    Piece(Vec<Moved>, Vec<Arc<Record>>),
    /// History is done: what comes from here on is new. Once, and again after a seek.
    CaughtUp,
    /// Nothing was there, and there may be more.
    More,
    /// There is nothing now: [`Session::wait`].
    Quiet,
}

impl Session {
    /// Finds where to start. A topic that does not exist is waited for if `wanted` says so.
    pub(super) async fn open(
        granted: &Granted<'_>,
        mut wanted: Wanted,
        count: ReadMetrics,
    ) -> Result<Self, Failure> {
        let feed = match Feed::open(&granted.reader, &wanted.selection).await {
            Ok(feed) => Some(feed),
            Err(failure) if failure.kind() == Kind::UnknownTopic && !wanted.must_exist => {
                appears(&mut wanted);
                None
            }
            Err(failure) => return Err(failure),
        };
        let look = if feed.is_some() { LOOK_FOR_PARTITIONS } else { LOOK };
        Ok(Self {
            reader: Arc::clone(&granted.reader),
            selection: wanted.selection,
            seen: feed.as_ref().map(Feed::cursor).unwrap_or_default(),
            feed,
            look_at: Instant::now() + look,
            live: false,
            count,
        })
    }

    /// What is there now, within `limits`. Waits for no record. Not cancel-safe: records may be lost that were read.
    pub(super) async fn advance(&mut self, limits: Limits) -> Result<Step, Failure> {
        if Instant::now() >= self.look_at {
            self.look().await?;
        }
        let Some(feed) = &mut self.feed else {
            return Ok(Step::Quiet);
        };
        let records = feed.collect(limits).await?;
        let moved = feed.moved();
        for moved in &moved {
            let before = moved.position.saturating_sub(1);
            self.seen.see(&moved.topic, moved.partition, before);
        }
        self.count.records(&records);
        if !records.is_empty() || !moved.is_empty() {
            return Ok(Step::Piece(moved, records));
        }
        // Past what is no record.
        self.seen = feed.cursor();
        if !feed.caught_up() {
            return Ok(Step::More);
        }
        if self.live {
            return Ok(Step::Quiet);
        }
        self.live = true;
        Ok(Step::CaughtUp)
    }

    /// Waits for something new, until `until` at the latest. Cancel-safe.
    pub(super) async fn wait(&mut self, until: Instant) -> Result<(), Failure> {
        let until = until.min(self.look_at);
        match &mut self.feed {
            Some(feed) => feed.wait(until).await,
            None => {
                tokio::time::sleep_until(until).await;
                Ok(())
            }
        }
    }

    /// The client was given the record.
    pub(super) fn saw(&mut self, record: &Record) {
        self.seen.see(&record.topic, record.partition, record.offset);
    }

    /// The last record that the client was given, of each partition.
    pub(super) fn seen(&self) -> &Cursor {
        &self.seen
    }

    /// Goes on somewhere else: after the records that `cursor` names, and in the partitions that it does not name where it
    /// was; or, without it, at `from`. Stays where it is if that fails. Not cancel-safe.
    pub(super) async fn seek(&mut self, cursor: Option<Cursor>, from: Option<From>) -> Result<(), Failure> {
        let at = match (cursor, from) {
            (Some(cursor), _) => Err(cursor),
            (None, Some(From::At(named))) => Err(named.before()),
            (None, from) => Ok(from),
        };
        let to = match at {
            Ok(from) => Selection {
                cursor: None,
                from,
                ..self.selection.clone()
            },
            Err(named) => {
                let known = |topic: &str| self.selection.topics.iter().any(|one| **one == *topic);
                if let Some((topic, _, _)) = named.iter().find(|(topic, _, _)| !known(topic)) {
                    return Err(Failure::invalid(format!(
                        "the position names topic {topic}, which is not read here"
                    )));
                }
                let mut all = self.seen.clone();
                for (topic, partition, offset) in named.iter() {
                    all.see(topic, partition, offset);
                }
                Selection {
                    cursor: Some(all),
                    ..self.selection.clone()
                }
            }
        };
        let feed = Feed::open(&self.reader, &to).await?;
        self.seen = feed.cursor();
        self.feed = Some(feed);
        self.live = false;
        self.look_at = Instant::now() + LOOK_FOR_PARTITIONS;
        Ok(())
    }

    /// Looks for a topic that was not there, or for partitions that were not.
    async fn look(&mut self) -> Result<(), Failure> {
        match &mut self.feed {
            Some(feed) => {
                self.look_at = Instant::now() + LOOK_FOR_PARTITIONS;
                feed.look_for_partitions(&self.selection).await
            }
            None => {
                self.look_at = Instant::now() + LOOK;
                match Feed::open(&self.reader, &self.selection).await {
                    Ok(feed) => {
                        self.seen = feed.cursor();
                        self.feed = Some(feed);
                        Ok(())
                    }
                    Err(failure) if failure.kind() == Kind::UnknownTopic => Ok(()),
                    Err(failure) => Err(failure),
                }
            }
        }
    }
}
