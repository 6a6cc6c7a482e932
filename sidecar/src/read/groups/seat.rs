//! A place in a group that one client at a time reads from: a member of the group, or, while there is only one reader,
//! nobody.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Turn, OwnedSemaphorePermit, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Groups;
use super::ledger::Ledger;
use crate::config::Qos;
use crate::kafka::group::{Committed, Error, Event, Events, Member, Partition};
use crate::kafka::reader::Offsets;
use crate::metrics::ReadMetrics;
use crate::read::cursor::Cursor;
use crate::read::failure::Failure;
use crate::shutdown::{Phase, Shutdown};

/// How long a seat is kept for the client that left it.
pub(super) const LINGER: Duration = Duration::from_secs(30);
/// How often positions are committed that were sent.
const OFTEN: Duration = Duration::from_secs(1);
/// The same for `balanced`.
const SELDOM: Duration = Duration::from_secs(5);
/// How long a member that leaves is waited for.
const LEAVING: Duration = Duration::from_secs(15);

/// A place in a group.
pub(super) struct Seat {
    pub(super) group: Arc<str>,
    pub(super) topics: Vec<Arc<str>>,
    pub(super) qos: Qos,
    way: Way,
    kept: Arc<Committed>,
    pub(super) ledger: Turn<Ledger>,
    /// Told when there is something else in the ledger, or it is over.
    changed: watch::Sender<()>,
    state: Mutex<State>,
    /// Whether the member is one already: what it commits before, Kafka takes for somebody else's.
    joined: AtomicBool,
    metrics: ReadMetrics,
}

enum Way {
    /// No member: positions are read and written by who is none.
    Alone,
    Member(Member),
}

#[derive(Default)]
struct State {
    /// Since when no client has it; none: one does.
    idle: Option<Instant>,
    /// The position that its client was given last.
    given: Option<Cursor>,
    /// Whether that is further on than what is committed.
    owes: bool,
    over: Option<Failure>,
}

impl Seat {
    pub(super) fn new(
        (group, topics, qos): (Arc<str>, Vec<Arc<str>>, Qos),
        member: Option<Member>,
        kept: Arc<Committed>,
        metrics: ReadMetrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            group,
            topics,
            qos,
            way: member.map_or(Way::Alone, Way::Member),
            kept,
            ledger: Turn::default(),
            changed: watch::Sender::default(),
            state: Mutex::default(),
            joined: AtomicBool::new(false),
            metrics,
        })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_alone(&self) -> bool {
        matches!(self.way, Way::Alone)
    }

    /// Whether no client has it, and since when.
    pub(super) fn idle(&self) -> Option<Instant> {
        self.state().idle
    }

    /// Whether its client has been away for long.
    pub(super) fn is_left(&self) -> bool {
        self.idle().is_some_and(|since| since.elapsed() >= LINGER)
    }

    /// Whether nothing that its client was given is unacknowledged.
    pub(super) fn owes_nothing(&self) -> bool {
        !self.state().owes
    }

    /// Whether a client that has seen this is the one that left.
    pub(super) fn gave(&self, cursor: &Cursor) -> bool {
        let state = self.state();
        let Some(given) = &state.given else { return false };
        let mut named = cursor.iter().peekable();
        named.peek().is_some()
            && named.all(|(topic, partition, seen)| {
                given.seen(topic, partition).is_some_and(|given| given >= seen)
            })
    }

    /// A client takes it.
    pub(super) fn occupy(&self) {
        self.state().idle = None;
    }

    /// The client leaves it.
    pub(super) fn leave(&self) {
        self.state().idle = Some(Instant::now());
    }

    /// What the client was given last, and whether it owes an acknowledgement of it.
    pub(super) fn give(&self, cursor: Option<Cursor>, owes: bool) {
        let mut state = self.state();
        (state.given, state.owes) = (cursor, owes);
    }

    /// Why it cannot be read from any more.
    pub(super) fn over(&self) -> Option<Failure> {
        self.state().over.clone()
    }

    pub(super) fn end(&self, failure: Failure) {
        self.state().over.get_or_insert(failure);
        self.changed.send_replace(());
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Whether the group has members, as far as can be told: KIP-848's are not seen by it, nor by a broker without
    /// DescribeGroups. Kafka refuses the positions of who is none then.
    pub(super) async fn has_members(&self) -> bool {
        match self.kept.membership(&self.group).await {
            Ok(membership) => membership.members > 0,
            Err(error) => {
                tracing::debug!(group = &*self.group, %error, "the members of a group");
                false
            }
        }
    }

    /// What Kafka has of partitions.
    pub(super) async fn there(&self, keys: &[Partition]) -> Result<Offsets, Error> {
        self.kept.read(&self.group, keys).await
    }

    /// Commits positions, of the seat's own partitions or others'. The caller holds the ledger.
    pub(super) async fn commit(&self, ledger: &mut Ledger, positions: &Offsets) -> Result<(), Error> {
        if positions.is_empty() {
            return Ok(());
        }
        let committed = match &self.way {
            Way::Alone => self.kept.write(&self.group, positions).await,
            Way::Member(member) => member.commit(positions).await,
        };
        self.metrics.commit(committed.is_ok());
        committed?;
        ledger.done(positions);
        Ok(())
    }

    /// Commits what was sent, if it is a quality that does so.
    pub(super) async fn commit_sent(&self) -> Result<(), Error> {
        if !matches!(self.qos, Qos::Auto | Qos::Balanced | Qos::AtBest) {
            return Ok(());
        }
        let mut ledger = self.ledger.lock().await;
        let due = ledger.due(None);
        self.commit(&mut ledger, &due).await
    }

    /// Commits what was acknowledged; a member that has not joined yet does so once it has. Positions of other members'
    /// partitions are committed too, unless those are further on.
    pub(super) async fn commit_acknowledged(&self) -> Result<(), Error> {
        if !self.is_alone() && !self.joined.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut ledger = self.ledger.lock().await;
        let (mut due, others) = ledger.owed();
        if !others.is_empty() {
            let keys: Vec<Partition> = others.keys().cloned().collect();
            let there = self.kept.read(&self.group, &keys).await?;
            let (further, behind): (Offsets, Offsets) = others
                .into_iter()
                .partition(|(key, next)| there.get(key).is_some_and(|there| there >= next));
            ledger.done(&further);
            due.extend(behind);
        }
        self.commit(&mut ledger, &due).await
    }

    /// Heeds what was committed by others: what a client acknowledges may come by another sidecar.
    pub(super) async fn catch_up(&self) -> Result<(), Error> {
        let mut ledger = self.ledger.lock().await;
        let keys: Vec<Partition> = ledger.has().into_keys().collect();
        let there = self.kept.read(&self.group, &keys).await?;
        ledger.done(&there);
        Ok(())
    }

    /// Has the partitions, from what Kafka has. Gives what failed back.
    async fn place(&self, pending: &mut Vec<Partition>) -> Result<(), Error> {
        let Way::Member(member) = &self.way else {
            return Ok(());
        };
        if pending.is_empty() {
            return Ok(());
        }
        let there = member.committed(pending).await?;
        let mut ledger = self.ledger.lock().await;
        ledger.assign(pending.drain(..).map(|key| {
            let committed = there.get(&key).copied();
            (key, committed)
        }));
        drop(ledger);
        self.changed.send_replace(());
        Ok(())
    }

    /// The group takes partitions away: what was sent of them is committed, if it is a quality that does so.
    async fn give_up(&self, gone: &[Partition]) {
        let mut ledger = self.ledger.lock().await;
        let due = match self.qos {
            Qos::Auto | Qos::AtBest => ledger.due(Some(gone)),
            // What is acknowledged was committed then, unless Kafka did not answer.
            Qos::AtLeastOnce => {
                let (mut own, _) = ledger.owed();
                own.retain(|key, _| gone.contains(key));
                own
            }
            Qos::None | Qos::Balanced | Qos::AtMostOnce => Offsets::new(),
        };
        if let Err(error) = self.commit(&mut ledger, &due).await {
            tracing::warn!(group = &*self.group, %error, "partitions move on without what was sent of them");
        }
        ledger.revoke(gone);
        drop(ledger);
        self.changed.send_replace(());
    }

    /// Lives as long as the member does: answers the group, and commits now and then.
    pub(super) async fn run(
        self: Arc<Self>,
        mut events: Events,
        groups: std::sync::Weak<Groups>,
        room: OwnedSemaphorePermit,
        mut shutdown: Shutdown,
    ) {
        let period = if self.qos == Qos::Balanced { SELDOM } else { OFTEN };
        let mut tick = interval(period);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pending: Vec<Partition> = Vec::new();
        let mut draining = false;
        loop {
            tokio::select! {
                event = events.next() => {
                    let Some(event) = event else { break };
                    if !self.take(event, &mut pending).await {
                        break;
                    }
                }
                _ = tick.tick() => {
                    self.tend(&mut pending).await;
                    let linger = if draining { Duration::ZERO } else { LINGER };
                    if groups.upgrade().is_none_or(|groups| groups.retire(&self, linger)) {
                        break;
                    }
                }
                () = shutdown.reached(Phase::Draining), if !draining => {
                    draining = true;
                    tick = interval(Duration::from_millis(50));
                }
            }
        }
        if let Some(groups) = groups.upgrade() {
            groups.forget(&self);
        }
        self.end(Failure::new(
            crate::read::failure::Kind::Unavailable,
            format!("the member of group {} has left", self.group),
        ));
        if let Way::Member(member) = &self.way {
            let closing = member.close(LEAVING);
            tokio::pin!(closing);
            loop {
                tokio::select! {
                    _ = &mut closing => break,
                    event = events.next() => match event {
                        Some(Event::Revoked(revocation)) => self.give_up(&revocation.partitions).await,
                        Some(_) => {}
                        None => {
                            let _left = closing.await;
                            break;
                        }
                    }
                }
            }
        }
        drop(room);
    }

    /// Heeds an event. Gives whether the member goes on.
    async fn take(&self, event: Event, pending: &mut Vec<Partition>) -> bool {
        match event {
            Event::Assigned(found) => {
                self.joined.store(true, Ordering::Release);
                pending.extend(found);
                match self.place(pending).await {
                    Ok(()) => true,
                    Err(error) => self.survives(error),
                }
            }
            Event::Revoked(revocation) => {
                pending.retain(|key| !revocation.partitions.contains(key));
                self.give_up(&revocation.partitions).await;
                true
            }
            Event::Lost(gone) => {
                pending.retain(|key| !gone.contains(key));
                self.ledger.lock().await.revoke(&gone);
                self.changed.send_replace(());
                true
            }
            Event::Failed(error) => self.survives(error),
            Event::Batch(_) => true,
        }
    }

    /// Whether the member goes on after an error; if not, its client is told.
    fn survives(&self, error: Error) -> bool {
        tracing::debug!(group = &*self.group, %error, "a member of a group");
        let ends = matches!(error, Error::Fatal { .. } | Error::NotAuthorised(_))
            || matches!(&error, Error::Read(crate::kafka::reader::Error::NotAuthorised(_)));
        if ends {
            self.end(error.into());
        }
        !ends
    }

    /// What is to be done now and then.
    async fn tend(&self, pending: &mut Vec<Partition>) {
        let placed = self.place(pending).await;
        let sent = self.commit_sent().await;
        let acknowledged = self.commit_acknowledged().await;
        for error in [placed, sent, acknowledged].into_iter().filter_map(Result::err) {
            // It is tried again with the next turn.
            tracing::debug!(group = &*self.group, %error, "a member of a group");
        }
    }
}
