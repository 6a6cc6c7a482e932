//! One member of a group for all subscriptions of a service's exclusive handlers: so that what is co-partitioned stays together.
//!
//! A group's members must all subscribe to the same topics for the range assignor to give the same partitions of each to the same
//! member. So the one member subscribes to the topics of all of them, whether or not they all run here now, and each
//! subscription that runs takes a [`Seat`], at which it is told what happens to its topics as if it were a member of its own.
//!
//! - A partition is given to the seats only once the member has it of every topic; until then it is paused. So a key is in one
//!   place also while members disagree about the topics, or have partitions one after the other (KIP-848).
//! - Whoever comes later has the member leave and join anew, so that everybody begins at what is committed.
//! - Of a topic that several read, what all of them have finished is committed, and beside it what each has.

mod asked;
mod given;
mod seat;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

pub(super) use self::seat::{Incoming, Reads};
use self::seat::{Seat, SeatEvents};
use crate::config::Cluster;
use crate::kafka::group::{Assignor, Batch, Error, Event, Events, Mark, Member, Partition, Settings, Topics};
use crate::subscriptions::engine::progress::Progress;
use crate::subscriptions::running::Together;

/// How long those that are to be there are waited for before the member joins, and joins again for one that comes later.
const GATHER: Duration = Duration::from_secs(2);
const LATER: Duration = Duration::from_millis(200);
/// How long leaving the group may take.
const LEAVE: Duration = Duration::from_secs(20);
/// How long the hub before it, of other topics, is waited for.
const BEFORE: Duration = Duration::from_secs(30);
/// Batches that wait at a seat while no more are taken.
const QUEUED: usize = 2;
/// How long a partition may be incomplete before it is said.
const INCOMPLETE: Duration = Duration::from_secs(5);

/// The member, and who reads by it.
pub(super) struct Hub {
    together: Arc<Together>,
    state: Mutex<State>,
    /// Somebody came or went, or took a batch.
    changed: Arc<Notify>,
    /// So that of two commits of a partition the later one has the last word.
    commits: tokio::sync::Mutex<()>,
    ended: watch::Receiver<bool>,
}

#[derive(Default)]
struct State {
    seats: BTreeMap<Arc<str>, Place>,
    /// Nobody can come any more: it leaves the group for good.
    over: bool,
    /// Somebody came since the member joined.
    late: bool,
    member: Option<Arc<Member>>,
    /// What the member has.
    has: BTreeSet<Partition>,
    /// What of it the seats were given.
    given: HashSet<Partition>,
    /// What of the rest was paused until it is.
    held_back: HashSet<Partition>,
    /// What came of partitions that are not given yet.
    early: HashMap<Partition, Batch>,
    /// Who wants no more of a partition now.
    paused: HashMap<Partition, BTreeSet<Arc<str>>>,
    /// How far each is with a partition.
    finished: HashMap<Partition, BTreeMap<Arc<str>, Progress>>,
    /// What was committed of partitions when they were taken over.
    before: HashMap<Partition, Mark>,
    /// Partitions that were sought: nothing is committed over it before the member joins anew.
    sought: HashSet<Partition>,
}

/// What a seat has.
struct Place {
    number: usize,
    events: mpsc::UnboundedSender<Event>,
    queued: Arc<AtomicUsize>,
}

static SEATS: AtomicUsize = AtomicUsize::new(0);

impl Hub {
    /// Begins a hub once `before` has ended, which has other topics of the same service. Must be called within a runtime.
    pub(super) fn start(
        together: Arc<Together>,
        cluster: Arc<Cluster>,
        hand_over: Duration,
        before: Option<watch::Receiver<bool>>,
    ) -> Arc<Self> {
        let (ending, ended) = watch::channel(false);
        let hub = Arc::new(Self {
            together,
            state: Mutex::default(),
            changed: Arc::new(Notify::new()),
            commits: tokio::sync::Mutex::new(()),
            ended,
        });
        let own = Arc::clone(&hub);
        tokio::spawn(async move {
            if let Some(mut before) = before {
                // It ends by itself once nobody reads by it.
                drop(tokio::time::timeout(BEFORE, before.wait_for(|ended| *ended)).await);
            }
            own.run(&cluster, hand_over).await;
            ending.send_replace(true);
        });
        hub
    }

    /// Whether it is for these, and somebody may still come.
    pub(super) fn is_for(&self, together: &Together) -> bool {
        *self.together == *together && !self.state().over
    }

    /// Told once the member has left for good.
    pub(super) fn ended(&self) -> watch::Receiver<bool> {
        self.ended.clone()
    }

    /// Takes the seat of a subscription; whoever had it has it no more.
    ///
    /// # Errors
    /// It has left for good.
    pub(super) fn sit(self: &Arc<Self>, id: &Arc<str>) -> Result<(Seat, SeatEvents), String> {
        let (events, receiver) = mpsc::unbounded_channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let number = SEATS.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        if state.over {
            return Err(format!("the member of group {} has left", self.together.group));
        }
        state.late = true;
        let place = Place {
            number,
            events,
            queued: Arc::clone(&queued),
        };
        state.seats.insert(Arc::clone(id), place);
        drop(state);
        self.changed.notify_one();
        let seat = Seat {
            hub: Arc::clone(self),
            id: Arc::clone(id),
            number,
        };
        let changed = Arc::clone(&self.changed);
        Ok((
            seat,
            SeatEvents {
                receiver,
                queued,
                changed,
            },
        ))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reads(&self, id: &str, topic: &str) -> bool {
        let topics = self.together.members.get(id);
        topics.is_some_and(|topics| topics.iter().any(|own| own == topic))
    }

    async fn run(&self, cluster: &Cluster, hand_over: Duration) {
        let mut settings = Settings::new(
            self.together.group.as_str(),
            Topics::Names(self.together.topics()),
        );
        settings.properties.clone_from(&self.together.properties);
        settings.assignor = Assignor::Range;
        settings.hand_over = hand_over;
        self.gather(Instant::now() + GATHER).await;
        while !self.is_over() {
            self.state().late = false;
            match Member::join(cluster, settings.clone()).await {
                Ok((member, events)) => {
                    let member = Arc::new(member);
                    self.state().member = Some(Arc::clone(&member));
                    self.live(&member, events).await;
                }
                Err(error) => {
                    // Those that are here end with it, and come again after a while.
                    self.state().failed(&Error::Fatal {
                        group: self.together.group.clone(),
                        why: error.to_string(),
                    });
                    self.none_or_late().await;
                }
            }
            self.gather(Instant::now() + LATER).await;
        }
    }

    /// Waits until all that are to be here are, or `until`.
    async fn gather(&self, until: Instant) {
        loop {
            let (here, late) = {
                let state = self.state();
                (state.seats.len(), state.late)
            };
            if here == self.together.members.len() && late {
                return;
            }
            if tokio::time::timeout_at(until, self.changed.notified())
                .await
                .is_err()
            {
                return;
            }
        }
    }

    /// Waits until those that are here have gone, or somebody came.
    async fn none_or_late(&self) {
        loop {
            {
                let state = self.state();
                if state.late || state.seats.is_empty() {
                    return;
                }
            }
            self.changed.notified().await;
        }
    }

    /// Whether nobody is here; then nobody comes any more.
    fn is_over(&self) -> bool {
        let mut state = self.state();
        state.over = state.seats.is_empty();
        state.over
    }

    /// Hands on what happens to the member until somebody comes or all have gone; then it leaves.
    async fn live(&self, member: &Arc<Member>, mut events: Events) {
        let mut said = tokio::time::interval(INCOMPLETE);
        said.reset();
        loop {
            let (go, full) = {
                let state = self.state();
                let full = state
                    .seats
                    .values()
                    .any(|place| place.queued.load(Ordering::Acquire) >= QUEUED);
                (state.late || state.seats.is_empty(), full)
            };
            if go {
                break;
            }
            tokio::select! {
                event = events.next(), if !full => match event {
                    Some(event) => self.happened(member, event),
                    None => break,
                },
                () = self.changed.notified() => {}
                _ = said.tick() => self.say_what_is_missing(),
            }
        }
        let handed_on = async {
            while let Some(event) = events.next().await {
                // Everything is read again by the next member.
                if !matches!(event, Event::Batch(_)) {
                    self.happened(member, event);
                }
            }
        };
        if !tokio::join!(member.close(LEAVE), handed_on).0 {
            tracing::warn!(
                group = self.together.group,
                "leaving the group takes longer than {} s",
                LEAVE.as_secs()
            );
        }
        let mut state = self.state();
        let seats = std::mem::take(&mut state.seats);
        let late = state.late;
        *state = State {
            seats,
            late,
            ..State::default()
        };
    }

    fn happened(&self, member: &Member, event: Event) {
        match event {
            Event::Assigned(partitions) => self.assigned(member, partitions),
            Event::Revoked(revocation) => self.revoked(&revocation),
            Event::Lost(partitions) => {
                let mut state = self.state();
                let lost = self.taken_away(&mut state, &partitions);
                for (id, own) in lost {
                    state.tell_one(&id, Event::Lost(own));
                }
            }
            Event::Batch(batch) => self.batch(batch),
            Event::Failed(error) => self.state().failed(&error),
        }
    }

    /// Says which partitions nobody is given, since the member does not have them of all topics.
    fn say_what_is_missing(&self) {
        let state = self.state();
        let topics = self.together.topics();
        let incomplete = state.has.iter().find_map(|(topic, partition)| {
            let missing = topics
                .iter()
                .find(|other| !state.has.contains(&(Arc::from(other.as_str()), *partition)))?;
            Some((Arc::clone(topic), *partition, missing.clone()))
        });
        if let Some((topic, partition, missing)) = incomplete {
            state.failed(&Error::Unavailable {
                group: self.together.group.clone(),
                why: format!(
                    "{topic}@{partition} is not delivered, since {missing}@{partition} is not with this sidecar: {} handles one \
                     record of a key at a time, so that its topics must have as many partitions as each other, and every \
                     sidecar the same subscriptions of it",
                    self.together.service
                ),
            });
        }
    }
}

/// A partition that is not ours any more cannot be paused or resumed: an event says so.
fn hold_on(result: Result<(), Error>) {
    if let Err(error) = result {
        tracing::debug!(%error, "cannot pause or resume");
    }
}

impl State {
    fn failed(&self, error: &Error) {
        for place in self.seats.values() {
            // Whoever has gone need not know.
            drop(place.events.send(Event::Failed(error.clone())));
        }
    }

    fn tell_one(&self, id: &str, event: Event) {
        if let Some(place) = self.seats.get(id) {
            drop(place.events.send(event));
        }
    }
}
