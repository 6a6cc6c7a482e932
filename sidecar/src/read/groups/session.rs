//! One client of a group: what polls and streams ask where they are to read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::watch;

use super::seat::Seat;
use super::{Groups, Home, Wish};
use crate::config::Qos;
use crate::kafka::group::{Error, Partition};
use crate::kafka::reader::{Error as ReadError, Reader, When};
use crate::read::cursor::Cursor;
use crate::read::failure::{Failure, Kind};
use crate::read::feed::{Feed, Selection};

/// How often another seat is looked for when the one that was found is somebody else's by then.
const ATTEMPTS: usize = 3;

/// What has become of the partitions of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::read) enum Change {
    /// It reads these as well, from these offsets on.
    Assigned(Vec<(Partition, i64)>),
    /// It does not read these any more.
    Revoked(Vec<Partition>),
}

/// A client of a group, for as long as it reads: it has a seat, which it leaves when this is dropped.
pub(in crate::read) struct Session {
    groups: Arc<Groups>,
    home: Home,
    seat: Arc<Seat>,
    reader: Arc<Reader>,
    changes: watch::Receiver<()>,
    /// What its feed reads, and since which assignment.
    has: BTreeMap<Partition, u64>,
    /// What the client has seen, as it says itself.
    cursor: Option<Cursor>,
    /// Partitions for which that does not count any more.
    placed: BTreeSet<Partition>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.seat.leave();
    }
}

impl Session {
    /// A client of a group that reads what `selection` says; `stays`: for long. Its cursor is an acknowledgement, with
    /// at-least-once. Does not wait for partitions.
    ///
    /// # Errors
    /// There are too many members, the cursor names what does not exist, Kafka does not let the sidecar use the group, or
    /// does not answer.
    pub(in crate::read) async fn open(
        groups: &Arc<Groups>,
        home: &Home,
        wish: &Wish,
        reader: &Arc<Reader>,
        selection: &Selection,
        stays: bool,
    ) -> Result<Self, Failure> {
        let cursor = selection.cursor.clone();
        for _ in 0..ATTEMPTS {
            let seat = groups
                .seat(home, wish, &selection.topics, cursor.as_ref(), stays)
                .await?;
            let session = Self {
                groups: Arc::clone(groups),
                home: home.clone(),
                changes: seat.changes(),
                seat,
                reader: Arc::clone(reader),
                has: BTreeMap::new(),
                cursor: cursor.clone(),
                placed: BTreeSet::new(),
            };
            if session.seat.is_alone() && !session.is_only_one().await? {
                groups.share(home, &wish.group);
                continue;
            }
            let acknowledged = match &cursor {
                Some(cursor) if wish.qos == Qos::AtLeastOnce => session.acknowledge(cursor).await,
                Some(cursor) => check(cursor, reader).await.map_err(Error::from),
                None => Ok(()),
            };
            match acknowledged {
                Err(Error::NotMember { .. }) if session.seat.is_alone() => {
                    groups.share(home, &wish.group);
                    continue;
                }
                // It is owed, and committed as soon as can be.
                Ok(()) | Err(Error::NotMember { .. }) => {}
                Err(Error::Unavailable { .. }) if !session.seat.is_alone() => {}
                Err(error) => return Err(error.into()),
            }
            if wish.qos == Qos::AtLeastOnce && !session.seat.is_alone() {
                session.seat.catch_up().await?;
            }
            return Ok(session);
        }
        Err(Failure::new(
            Kind::Unavailable,
            format!("group {} got other readers while it was looked at", wish.group),
        ))
    }

    /// Takes all partitions of the topics, as who is alone. Gives whether it is: nobody else has moved the position, and the
    /// group has no member that can be seen.
    async fn is_only_one(&self) -> Result<bool, Failure> {
        let mut keys: Vec<Partition> = Vec::new();
        for topic in &self.seat.topics {
            let count = self.reader.partitions(topic).await?;
            keys.extend((0..count).map(|partition| (Arc::clone(topic), partition)));
        }
        let mut ledger = self.seat.ledger.lock().await;
        let known = ledger.has();
        let there = self.seat.there(&keys).await?;
        if known.is_empty() && self.seat.has_members().await {
            return Ok(false);
        }
        // Its own client may have been to another sidecar: then it has seen what is there.
        let seen = |key: &Partition| {
            let seen = self.cursor.as_ref().and_then(|cursor| cursor.seen(&key.0, key.1));
            seen.map(|seen| seen.saturating_add(1)) >= there.get(key).copied()
        };
        let moved = |key: &Partition| {
            known.contains_key(key) && there.get(key).copied() != ledger.committed(key) && !seen(key)
        };
        if self.seat.qos != Qos::None && keys.iter().any(moved) {
            return Ok(false);
        }
        ledger.done(&there);
        let new = keys.into_iter().filter(|key| !known.contains_key(key));
        ledger.assign(new.map(|key| {
            let committed = there.get(&key).copied();
            (key, committed)
        }));
        Ok(true)
    }

    /// Whether nobody else reads the group, as far as is known.
    pub(in crate::read) fn is_alone(&self) -> bool {
        self.seat.is_alone()
    }

    /// Whether nothing comes any more: another session is to be opened.
    pub(in crate::read) fn is_over(&self) -> bool {
        self.seat.over().is_some()
    }

    /// Whether it reads anything now.
    pub(in crate::read) fn is_seated(&self) -> bool {
        !self.has.is_empty()
    }

    /// Resolves when [`Self::sync`] has something to do. Cancel-safe.
    pub(in crate::read) async fn changed(&mut self) {
        // The seat is held, and so is the sender.
        let _changed = self.changes.changed().await;
    }

    /// Has the feed read what is the client's now. Gives what is different from before.
    ///
    /// # Errors
    /// The seat is over, or where to start cannot be found; then the feed is as it was, without what went.
    pub(in crate::read) async fn sync(
        &mut self,
        feed: &mut Feed,
        selection: &Selection,
    ) -> Result<Vec<Change>, Failure> {
        self.changes.mark_unchanged();
        if let Some(failure) = self.seat.over() {
            return Err(failure);
        }
        let ledger = self.seat.ledger.lock().await;
        let now = ledger.has();
        let mut changes = Vec::new();
        let gone = self
            .has
            .iter()
            .filter(|(key, since)| now.get(*key) != Some(*since));
        let gone: Vec<Partition> = gone.map(|(key, _)| key.clone()).collect();
        let mut new = Vec::new();
        for (key, since) in &now {
            if self.has.get(key) == Some(since) {
                continue;
            }
            let said = self.cursor.as_ref().filter(|_| !self.placed.contains(key));
            let said = said.and_then(|cursor| cursor.seen(&key.0, key.1));
            let said = said.map(|seen| seen.saturating_add(1));
            let position = match self.seat.qos {
                Qos::None => said,
                Qos::AtMostOnce | Qos::AtLeastOnce => ledger.committed(key),
                Qos::Auto | Qos::Balanced | Qos::AtBest => said.or_else(|| ledger.position(key)),
            };
            new.push((key.clone(), position, *since));
        }
        drop(ledger);
        if !gone.is_empty() {
            feed.exclude(&gone);
            for key in &gone {
                self.has.remove(key);
            }
            changes.push(Change::Revoked(gone));
        }
        if !new.is_empty() {
            let found = new
                .iter()
                .map(|(key, position, _)| (key.clone(), *position))
                .collect();
            let starts = feed.include(found, selection).await?;
            for (key, _, since) in new {
                self.placed.insert(key.clone());
                self.has.insert(key, since);
            }
            changes.push(Change::Assigned(starts));
        }
        Ok(changes)
    }

    /// The client was given everything up to `cursor`.
    pub(in crate::read) async fn sent(&self, cursor: &Cursor) {
        let mut ledger = self.seat.ledger.lock().await;
        ledger.sent(cursor, &self.has);
        let owes = !ledger.due(None).is_empty();
        let any = cursor.iter().next().is_some();
        self.seat.give(any.then(|| cursor.clone()), owes);
    }

    /// Commits what was sent, of who is alone: members do so by themselves.
    pub(in crate::read) fn settle(&self) {
        if !self.seat.is_alone() {
            return;
        }
        let (groups, home, seat) = (
            Arc::clone(&self.groups),
            self.home.clone(),
            Arc::clone(&self.seat),
        );
        tokio::spawn(async move {
            match seat.commit_sent().await {
                Ok(()) => {}
                Err(Error::NotMember { .. }) => groups.share(&home, &seat.group),
                // It is committed after the next page.
                Err(error) => {
                    tracing::debug!(group = &*seat.group, %error, "the position of a group's reader")
                }
            }
        });
    }

    /// To be called before records are given to the client, up to `cursor`: with at-most-once they are committed, and the
    /// records of the partitions that it gives are not to be sent.
    ///
    /// # Errors
    /// Kafka does not take the position; nothing is to be sent, and the feed goes back to what is committed at the next
    /// [`Self::sync`].
    pub(in crate::read) async fn before(
        &mut self,
        cursor: &Cursor,
        feed: &mut Feed,
    ) -> Result<Vec<Partition>, Failure> {
        if self.seat.qos != Qos::AtMostOnce {
            return Ok(Vec::new());
        }
        let mut ledger = self.seat.ledger.lock().await;
        let (due, gone) = ledger.before(cursor, &self.has);
        let committed = self.seat.commit(&mut ledger, &due).await;
        drop(ledger);
        if let Err(error) = committed {
            let all: Vec<Partition> = std::mem::take(&mut self.has).into_keys().collect();
            feed.exclude(&all);
            return Err(match error {
                // The group is on the move; its reader goes on with what it has then.
                Error::NotMember { .. } => Failure::new(Kind::Unavailable, error.to_string()),
                error => error.into(),
            });
        }
        Ok(gone)
    }

    /// The client has everything that `cursor` names: it is not sent again. Positions never go back by it.
    ///
    /// # Errors
    /// The cursor names what does not exist, or Kafka does not take it now: then it is tried again for as long as the member
    /// lives.
    async fn acknowledge(&self, cursor: &Cursor) -> Result<(), Error> {
        check(cursor, &self.reader).await?;
        let topics = &self.seat.topics;
        self.seat.ledger.lock().await.acknowledge(cursor, topics);
        self.seat.commit_acknowledged().await
    }

    /// Whether the group's position is what the client acknowledges.
    pub(in crate::read) fn acknowledges(&self) -> bool {
        self.seat.qos == Qos::AtLeastOnce
    }

    /// The client, which listens, has dealt with everything that `cursor` names. What Kafka does not take now is owed, and
    /// committed as soon as can be.
    ///
    /// # Errors
    /// The cursor names what does not exist, or it cannot be found out whether it does.
    pub(in crate::read) async fn dealt_with(&self, cursor: &Cursor) -> Result<(), Failure> {
        match self.acknowledge(cursor).await {
            Ok(()) | Err(Error::NotMember { .. } | Error::Unavailable { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether there is what a cursor names: a position past the end would have records passed over that nobody has seen.
async fn check(cursor: &Cursor, reader: &Reader) -> Result<(), ReadError> {
    let mut keys: Vec<Partition> = Vec::new();
    for (topic, partition, _) in cursor.iter() {
        let topic: Arc<str> = match keys.last() {
            Some((known, _)) if **known == *topic => Arc::clone(known),
            _ => Arc::from(topic),
        };
        if partition >= reader.partitions(&topic).await? {
            return Err(ReadError::UnknownPartition {
                topic: topic.to_string(),
                partition,
            });
        }
        keys.push((topic, partition));
    }
    let ends = reader.offsets(&keys, When::Latest).await?;
    for (topic, partition, offset) in cursor.iter() {
        let key = keys.iter().find(|(t, p)| **t == *topic && *p == partition);
        if key
            .and_then(|key| ends.get(key))
            .is_some_and(|end| offset >= *end)
        {
            return Err(ReadError::OutOfRange {
                topic: topic.to_owned(),
                partition,
                offset,
            });
        }
    }
    Ok(())
}
