//! Records for as long as a client listens: what an event stream and a WebSocket have in common.
//!
//! What it holds is its positions. Whoever has it asks for the next step when the client has taken the one before, so that a
//! client that is slow is behind, is caught up from Kafka when it goes on, and holds up nobody.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::Reads;
use super::access::Granted;
use super::cursor::Cursor;
use super::failure::{Failure, Kind};
use super::feed::{Feed, Moved, Selection};
use super::filter::{Failed, Filters};
use super::from::From;
use super::groups::{Change, Session};
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
pub(super) struct Flow {
    reader: Arc<Reader>,
    selection: Selection,
    /// None while the topic does not exist.
    feed: Option<Feed>,
    /// Of a reader of a group: most are not.
    session: Option<Box<Session>>,
    /// The last record that the client was given or that was left out, of each partition.
    seen: Cursor,
    filters: Filters,
    /// What was read, and not looked at yet.
    collected: Vec<Arc<Record>>,
    /// When the topics are looked at again.
    look_at: Instant,
    /// Whether the client knows that it has seen what was there.
    live: bool,
    count: ReadMetrics,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Step {
    /// The group gave partitions, or took them.
    Changed(Vec<Change>),
    /// Positions that were not there.
    Moved(Vec<Moved>),
    /// Records. [`Flow::saw`] is to be told of each as its turn comes; and what a filter failed on among them.
    Records(Vec<Looked>, Failed),
    /// History is done: what comes from here on is new. Once, and again after a seek.
    CaughtUp,
    /// Nothing was there, and there may be more.
    More,
    /// There is nothing now: [`Flow::wait`].
    Quiet,
}

/// A record that was there.
#[derive(Debug)]
pub(super) struct Looked {
    record: Arc<Record>,
    /// What the client is given of it; none: it is left out.
    pub(super) kept: Option<Arc<Record>>,
}

impl Flow {
    /// Finds where to start. A topic that does not exist is waited for if `wanted` says so.
    pub(super) async fn open(
        reads: &Reads,
        granted: &Granted<'_>,
        mut wanted: Wanted,
    ) -> Result<Self, Failure> {
        let reader = &granted.reader;
        let session = match &wanted.group {
            None => None,
            Some(wish) => {
                if wanted.must_exist {
                    for topic in &wanted.selection.topics {
                        reader.partitions(topic).await?;
                    }
                }
                let selection = &wanted.selection;
                let opened = Session::open(&reads.groups, &granted.home, wish, reader, selection, true);
                Some(Box::new(opened.await?))
            }
        };
        let opened = match session {
            Some(_) => Ok(Feed::empty(reader, wanted.selection.reset)),
            None => Feed::open(reader, &wanted.selection).await,
        };
        let feed = match opened {
            Ok(feed) => Some(feed),
            Err(failure) if failure.kind() == Kind::UnknownTopic && !wanted.must_exist => {
                appears(&mut wanted);
                None
            }
            Err(failure) => return Err(failure),
        };
        let look = if feed.is_some() { LOOK_FOR_PARTITIONS } else { LOOK };
        Ok(Self {
            reader: Arc::clone(reader),
            selection: wanted.selection,
            seen: feed.as_ref().map(Feed::cursor).unwrap_or_default(),
            feed,
            session,
            filters: wanted.filters,
            collected: Vec::new(),
            look_at: Instant::now() + look,
            live: false,
            count: reads.metrics.clone(),
        })
    }

    /// One of a topic that is not there and is not looked for.
    #[cfg(test)]
    pub(super) fn resting() -> Self {
        let cluster = crate::config::Cluster::default();
        let reader = Reader::new(&cluster, 1, prometheus_client::metrics::gauge::Gauge::default());
        Self {
            reader: Arc::new(reader),
            selection: Selection {
                topics: Vec::new(),
                partition: None,
                cursor: None,
                from: None,
                reset: crate::config::Reset::Latest,
            },
            feed: None,
            session: None,
            seen: Cursor::default(),
            filters: Filters::default(),
            collected: Vec::new(),
            look_at: Instant::now() + Duration::from_secs(3600),
            live: false,
            count: ReadMetrics::default(),
        }
    }

    /// What is there now, within `limits`. Waits for no record. Not cancel-safe: records may be lost that were read. To be called
    /// when what was given before is on its way.
    pub(super) async fn advance(&mut self, limits: Limits) -> Result<Step, Failure> {
        if Instant::now() >= self.look_at {
            Box::pin(self.look()).await?;
        }
        // Partitions come and go between two pieces.
        if self.collected.is_empty() {
            let changes = self.share().await?;
            if !changes.is_empty() {
                return Ok(Step::Changed(changes));
            }
        }
        let Some(feed) = &mut self.feed else {
            return Ok(Step::Quiet);
        };
        if self.session.as_ref().is_some_and(|session| !session.is_seated()) {
            return Ok(Step::Quiet);
        }
        if self.collected.is_empty() {
            let mut records = feed.collect(limits).await?;
            if let Some(session) = &mut self.session
                && !records.is_empty()
            {
                let cursor = feed.cursor();
                let gone = Box::pin(session.before(&cursor, feed)).await?;
                records.retain(|record| {
                    let mut gone = gone.iter();
                    !gone.any(|(topic, partition)| **topic == *record.topic && *partition == record.partition)
                });
            }
            self.collected = records;
        }
        let moved = feed.moved();
        for moved in &moved {
            let before = moved.position.saturating_sub(1);
            self.seen.see(&moved.topic, moved.partition, before);
        }
        if !moved.is_empty() {
            return Ok(Step::Moved(moved));
        }
        if !self.collected.is_empty() {
            return self.look_through().await;
        }
        // Past what is no record.
        feed.note(&mut self.seen);
        if !feed.caught_up() {
            return Ok(Step::More);
        }
        if self.live {
            return Ok(Step::Quiet);
        }
        self.live = true;
        Ok(Step::CaughtUp)
    }

    /// Has what the group gives read, and what it takes no more. Says what is different.
    async fn share(&mut self) -> Result<Vec<Change>, Failure> {
        let (Some(session), Some(feed)) = (&mut self.session, &mut self.feed) else {
            return Ok(Vec::new());
        };
        // In boxes, as all that goes on in groups only, or seldom: a stream of neither has no room for it.
        Box::pin(session.sent(&self.seen)).await;
        let changes = Box::pin(session.sync(feed, &self.selection)).await?;
        if !changes.is_empty() {
            self.seen = feed.cursor();
        }
        Ok(changes)
    }

    /// As [`Self::advance`], for a client that wants no records now: what the group gives and takes. Not cancel-safe.
    pub(super) async fn tend(&mut self) -> Result<Vec<Change>, Failure> {
        if self.session.is_none() {
            return Ok(Vec::new());
        }
        // They are read again when they are wanted, if they are the client's then.
        if let Some(feed) = &mut self.feed {
            feed.back_to(&std::mem::take(&mut self.collected));
        }
        self.share().await
    }

    /// What passes the filters of some of what was collected.
    async fn look_through(&mut self) -> Result<Step, Failure> {
        let slice = self.filters.slice(&self.collected).await?;
        let rest = self.collected.split_off(slice.seen);
        let seen = std::mem::replace(&mut self.collected, rest);
        self.count.records(&slice.kept);
        self.count.filter_failures(slice.failed.count);
        let mut kept = slice.kept.into_iter().peekable();
        let place = |record: &Record| (record.partition, record.offset);
        let looked = seen.into_iter().map(|record| {
            // A record that was reshaped is another one, at the same place.
            let kept = kept.next_if(|one| one.topic == record.topic && place(one) == place(&record));
            Looked { record, kept }
        });
        Ok(Step::Records(looked.collect(), slice.failed))
    }

    /// Waits for something new, until `until` at the latest. Cancel-safe.
    pub(super) async fn wait(&mut self, until: Instant) -> Result<(), Failure> {
        let until = until.min(self.look_at);
        let Some(feed) = &mut self.feed else {
            tokio::time::sleep_until(until).await;
            return Ok(());
        };
        tokio::select! {
            waited = feed.wait(until) => waited,
            () = moved_on(&mut self.session) => Ok(()),
        }
    }

    /// Resolves when [`Self::tend`] has something to do. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        moved_on(&mut self.session).await;
    }

    /// The client is given the record, or it is left out.
    pub(super) fn saw(&mut self, looked: &Looked) {
        let record = &looked.record;
        self.seen.see(&record.topic, record.partition, record.offset);
    }

    /// The last record that the client was given or that was left out, of each partition.
    pub(super) fn seen(&self) -> &Cursor {
        &self.seen
    }

    /// Whether nothing comes any more, though it might for who comes back: its seat in the group is gone.
    pub(super) fn is_over(&self) -> bool {
        self.session.as_deref().is_some_and(Session::is_over)
    }

    /// Whether acknowledgements are what moves the position of the client's group.
    pub(super) fn acknowledges(&self) -> bool {
        self.session.as_deref().is_some_and(Session::acknowledges)
    }

    /// The client has dealt with everything that `cursor` names. Positions never go back by it; where Kafka does not take them now
    /// they are committed as soon as it does.
    pub(super) async fn acknowledge(&self, cursor: &Cursor) -> Result<(), Failure> {
        match &self.session {
            Some(session) => session.dealt_with(cursor).await,
            None => Ok(()),
        }
    }

    /// Goes on somewhere else: after the records that `cursor` names, and in the partitions that it does not name where it
    /// was; or, without it, at `from`. Stays where it is if that fails. Not cancel-safe.
    pub(super) async fn seek(&mut self, cursor: Option<Cursor>, from: Option<From>) -> Result<(), Failure> {
        let (named, from) = match (cursor, from) {
            (Some(cursor), _) => (Some(cursor), None),
            (None, Some(From::At(named))) => (Some(named.before()), None),
            (None, from) => (None, from),
        };
        let known = |topic: &str| self.selection.topics.iter().any(|one| **one == *topic);
        let stray = named
            .as_ref()
            .and_then(|named| named.iter().find(|(topic, _, _)| !known(topic)));
        if let Some((topic, _, _)) = stray {
            return Err(Failure::invalid(format!(
                "the position names topic {topic}, which is not read here"
            )));
        }
        let feed = match (&self.session, &self.feed) {
            (Some(_), Some(feed)) => self.elsewhere(feed, named.as_ref(), from).await?,
            _ => {
                let cursor = named.map(|named| {
                    let mut all = self.seen.clone();
                    for (topic, partition, offset) in named.iter() {
                        all.see(topic, partition, offset);
                    }
                    all
                });
                let to = Selection {
                    cursor,
                    from,
                    ..self.selection.clone()
                };
                Feed::open(&self.reader, &to).await?
            }
        };
        self.seen = feed.cursor();
        self.feed = Some(feed);
        self.collected.clear();
        self.live = false;
        self.look_at = Instant::now() + LOOK_FOR_PARTITIONS;
        Ok(())
    }

    /// The same partitions of a group from other positions on: after what `named` has, or at `from`.
    async fn elsewhere(
        &self,
        feed: &Feed,
        named: Option<&Cursor>,
        from: Option<From>,
    ) -> Result<Feed, Failure> {
        let keys = feed.keys();
        let has = |topic: &str, partition| keys.iter().any(|(t, p)| **t == *topic && *p == partition);
        let stray =
            named.and_then(|named| named.iter().find(|(topic, partition, _)| !has(topic, *partition)));
        if let Some((topic, partition, _)) = stray {
            return Err(Failure::invalid(format!(
                "the position names {topic} partition {partition}, which the group has not given to this client"
            )));
        }
        let position = |(topic, partition): &(Arc<str>, i32)| {
            let seen = named?.seen(topic, *partition);
            let seen = seen.or_else(|| self.seen.seen(topic, *partition));
            seen.map(|seen| seen.saturating_add(1))
        };
        let found = keys.iter().map(|key| (key.clone(), position(key))).collect();
        let to = Selection {
            cursor: None,
            from,
            ..self.selection.clone()
        };
        let mut other = Feed::empty(&self.reader, self.selection.reset);
        other.include(found, &to).await?;
        Ok(other)
    }

    /// Looks for a topic that was not there, or for partitions that were not.
    async fn look(&mut self) -> Result<(), Failure> {
        match &mut self.feed {
            // The group finds them.
            Some(_) if self.session.is_some() => {
                self.look_at = Instant::now() + LOOK_FOR_PARTITIONS;
                Ok(())
            }
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

/// Resolves when the group has given or taken something.
async fn moved_on(session: &mut Option<Box<Session>>) {
    match session {
        Some(session) => Box::pin(session.changed()).await,
        None => std::future::pending().await,
    }
}

/// The name of the event by which a client is told what its group gave or took, and what it says.
pub(super) fn told(change: &Change) -> (&'static str, Value) {
    let (name, partitions): (_, Vec<Value>) = match change {
        Change::Assigned(starts) => {
            let one = |((topic, partition), position): &((Arc<str>, i32), i64)| json!({ "topic": **topic, "partition": partition, "position": position });
            ("assigned", starts.iter().map(one).collect())
        }
        Change::Revoked(gone) => {
            let one =
                |(topic, partition): &(Arc<str>, i32)| json!({ "topic": **topic, "partition": partition });
            ("revoked", gone.iter().map(one).collect())
        }
    };
    (name, json!({ "partitions": partitions }))
}

/// What a client is told of the records that a filter failed on, if there are any.
pub(super) fn failures(failed: &Failed, encoded_ids: bool) -> Option<Value> {
    let (record, error) = failed.first.as_ref()?;
    let first = record.text(encoded_ids);
    Some(json!({ "count": failed.count, "first": { "id": first, "error": error } }))
}
