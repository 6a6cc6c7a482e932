//! Readers of consumer groups: whose position is Kafka's, and who share the partitions of their topics.
//!
//! A client sits on a [`Seat`]: that of a member, which has the partitions that the group gives it, or that of nobody, while
//! the group has a single reader and Kafka takes its positions from who is no member. [`Groups`] finds the seat of a client
//! that comes back, by the cursor that it was given. What is read, and how, is the feed's business: it is told which
//! partitions come and go.

mod ledger;
mod seat;
mod session;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use self::seat::{LINGER, Seat};
pub(super) use self::session::{Change, Session};
use super::cursor::Cursor;
use super::failure::{Failure, Kind};
use crate::config::{Cluster, Qos};
use crate::kafka::group::{Committed, Member, Settings, Topics};
use crate::metrics::ReadMetrics;
use crate::shutdown::Shutdown;

/// How long the seats of a sidecar that shuts down are waited for.
const LEAVING: Duration = Duration::from_secs(10);

/// The seats of all groups.
pub(super) struct Groups {
    max: usize,
    room: Arc<Semaphore>,
    groups: Mutex<HashMap<Key, Group>>,
    metrics: ReadMetrics,
    shutdown: Shutdown,
}

/// A group of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    cluster: String,
    group: Arc<str>,
}

#[derive(Default)]
struct Group {
    /// The seat of its only reader.
    alone: Option<Arc<Seat>>,
    /// Until when every reader is a member, since there were several.
    shared: Option<Instant>,
    members: Vec<Arc<Seat>>,
}

/// What a request wants to read of a group.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) group: Arc<str>,
    pub(super) qos: Qos,
}

/// Where a group is.
#[derive(Clone)]
pub(super) struct Home {
    /// The sidecar's name of the cluster.
    pub(super) name: String,
    pub(super) cluster: Arc<Cluster>,
    pub(super) kept: Arc<Committed>,
}

impl Groups {
    /// At most `max` members at once.
    pub(super) fn new(max: usize, metrics: ReadMetrics, shutdown: Shutdown) -> Arc<Self> {
        Arc::new(Self {
            max,
            room: Arc::new(Semaphore::new(max)),
            groups: Mutex::default(),
            metrics,
            shutdown,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Group>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The seat of a client that shows `cursor`; `stays`: it reads for long. It has it until it leaves.
    async fn seat(
        self: &Arc<Self>,
        home: &Home,
        wish: &Wish,
        topics: &[Arc<str>],
        cursor: Option<&Cursor>,
        stays: bool,
    ) -> Result<Arc<Seat>, Failure> {
        let key = Key {
            cluster: home.name.clone(),
            group: Arc::clone(&wish.group),
        };
        let fits =
            |seat: &Arc<Seat>| *seat.topics == *topics && seat.qos == wish.qos && seat.over().is_none();
        // Who acknowledges is known by what it was given; of the others any may go on.
        let its_own = |seat: &Arc<Seat>| match cursor {
            Some(cursor) => seat.gave(cursor),
            None => wish.qos != Qos::AtLeastOnce || seat.owes_nothing(),
        };
        let what = (Arc::clone(&wish.group), topics.to_vec(), wish.qos);
        {
            let mut groups = self.lock();
            groups.retain(|_, group| group.lives());
            let group = groups.entry(key.clone()).or_default();
            let idle = |seat: &&Arc<Seat>| seat.idle().is_some() && fits(seat);
            let mut found = group.members.iter().filter(idle).find(|seat| its_own(seat));
            if wish.qos != Qos::AtLeastOnce {
                found = found.or_else(|| group.members.iter().find(idle));
            }
            if let Some(seat) = found {
                seat.occupy();
                return Ok(Arc::clone(seat));
            }
            // A record that is sent without being the member that has it may be sent by that one, too.
            let may_be_alone =
                !stays && wish.qos != Qos::AtMostOnce && group.shared.is_none() && group.members.is_empty();
            match &group.alone {
                None if may_be_alone => {
                    let seat = Seat::new(what, None, Arc::clone(&home.kept), self.metrics.clone());
                    group.alone = Some(Arc::clone(&seat));
                    return Ok(seat);
                }
                Some(seat) if may_be_alone && idle(&seat) && (its_own(seat) || seat.is_left()) => {
                    seat.occupy();
                    return Ok(Arc::clone(seat));
                }
                _ => group.share(),
            }
        }
        let room = Arc::clone(&self.room).try_acquire_owned();
        let Ok(room) = room else {
            return self.any_idle(&key, fits).await.ok_or_else(|| {
                self.metrics.group_refused();
                Failure::new(
                    Kind::Overloaded,
                    format!(
                        "the sidecar's readers have {} members of groups, which is as many as there may be (max_members)",
                        self.max
                    ),
                )
            });
        };
        let names = topics.iter().map(|topic| (**topic).to_owned()).collect();
        let mut settings = Settings::new(&*wish.group, Topics::Names(names));
        settings.records = false;
        let (member, events) = Member::join(&home.cluster, settings).await?;
        let seat = Seat::new(what, Some(member), Arc::clone(&home.kept), self.metrics.clone());
        self.metrics.members().inc();
        self.lock()
            .entry(key)
            .or_default()
            .members
            .push(Arc::clone(&seat));
        let (running, groups) = (Arc::clone(&seat), Arc::downgrade(self));
        tokio::spawn(running.run(events, groups, room, self.shutdown.clone()));
        Ok(seat)
    }

    /// A seat of the group that nobody has: what its client did not acknowledge comes again.
    async fn any_idle(&self, key: &Key, fits: impl Fn(&Arc<Seat>) -> bool) -> Option<Arc<Seat>> {
        let found = {
            let groups = self.lock();
            let members = &groups.get(key)?.members;
            let idle = members.iter().filter(|seat| seat.idle().is_some() && fits(seat));
            let seat = Arc::clone(idle.min_by_key(|seat| seat.idle())?);
            seat.occupy();
            seat
        };
        found.give(None, false);
        if found.qos == Qos::AtLeastOnce {
            found.ledger.lock().await.rewind();
        }
        Some(found)
    }

    /// The group has other readers: from now on all are members.
    fn share(&self, home: &Home, group: &Arc<str>) {
        let key = Key {
            cluster: home.name.clone(),
            group: Arc::clone(group),
        };
        self.lock().entry(key).or_default().share();
    }

    /// Takes a seat away that nobody has had for so long. Gives whether it was.
    fn retire(&self, seat: &Arc<Seat>, linger: Duration) -> bool {
        // Seats are taken with the lock held.
        let mut groups = self.lock();
        if seat.idle().is_none_or(|since| since.elapsed() < linger) {
            return false;
        }
        remove(&mut groups, seat);
        true
    }

    /// A member leaves.
    fn forget(&self, seat: &Arc<Seat>) {
        self.metrics.members().dec();
        remove(&mut self.lock(), seat);
    }

    /// Waits until all members have left their groups, which they do once the sidecar shuts down and their clients are gone.
    pub(super) async fn drained(&self) {
        let max = u32::try_from(self.max).unwrap_or(u32::MAX);
        if tokio::time::timeout(LEAVING, self.room.acquire_many(max))
            .await
            .is_err()
        {
            tracing::warn!("members of groups did not leave within {} s", LEAVING.as_secs());
        }
    }
}

fn remove(groups: &mut HashMap<Key, Group>, seat: &Arc<Seat>) {
    for group in groups.values_mut() {
        group.members.retain(|known| !Arc::ptr_eq(known, seat));
    }
}

impl Group {
    /// Whoever is alone is told, and comes back as a member.
    fn share(&mut self) {
        self.shared = Some(Instant::now() + LINGER);
        if let Some(seat) = self.alone.take() {
            seat.end(Failure::new(
                Kind::Unavailable,
                format!("group {} has another reader now", seat.group),
            ));
        }
    }

    /// Forgets what is over. Gives whether anything is left.
    fn lives(&mut self) -> bool {
        if !self.members.is_empty() {
            self.shared = Some(Instant::now() + LINGER);
        }
        self.shared = self.shared.filter(|until| *until > Instant::now());
        if self.alone.as_ref().is_some_and(|seat| seat.over().is_some()) {
            self.alone = None;
        }
        let forgotten = |seat: &Arc<Seat>| seat.idle().is_some_and(|since| since.elapsed() > LINGER * 10);
        if self.alone.as_ref().is_some_and(forgotten) {
            self.alone = None;
        }
        self.alone.is_some() || self.shared.is_some() || !self.members.is_empty()
    }
}
