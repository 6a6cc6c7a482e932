//! One member of a group for all subscriptions of a service's exclusive handlers: so that what is co-partitioned stays together.
//!
//! A group's members must all subscribe to the same topics for the range assignor to give the same partitions of each to the same
//! member. So the one member subscribes to the topics of all of them, whether or not they all run here now, and each
//! subscription that runs takes a [`Seat`], at which it is told what happens to its topics as if it were a member of its own.
//!
//! - A partition is given to the seats only once the member has it of every topic; until then it is paused. So a key is in one
//!   place also while members disagree about the topics, or have partitions one after the other (KIP-848).
//! - Whoever comes later has the member leave and join anew, so that everybody begins at what is committed.
//! - Of a topic that several read, what all of them have finished is committed.

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
use crate::kafka::group::{
    Assignor, Batch, Error, Event, Events, Member, Partition, Revocation, Settings, Topics,
};
use crate::kafka::reader::Offsets;
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
    /// Up to where each has finished a partition.
    finished: HashMap<Partition, BTreeMap<Arc<str>, i64>>,
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

    fn assigned(&self, member: &Member, partitions: Vec<Partition>) {
        let mut state = self.state();
        for partition in &partitions {
            state.finished.remove(partition);
            state.sought.remove(partition);
        }
        state.has.extend(partitions);
        let topics = self.together.topics();
        let complete = |state: &State, partition: &Partition| {
            topics
                .iter()
                .all(|topic| state.has.contains(&(Arc::from(topic.as_str()), partition.1)))
        };
        let (mut ready, mut not_yet) = (Vec::new(), Vec::new());
        for partition in &state.has {
            if state.given.contains(partition) {
                continue;
            }
            let read = state.seats.keys().any(|id| self.reads(id, &partition.0));
            if complete(&state, partition) && read {
                ready.push(partition.clone());
            } else {
                not_yet.push(partition.clone());
            }
        }
        hold_on(member.pause(&not_yet));
        state.held_back.extend(not_yet);
        let late = ready
            .iter()
            .filter(|partition| state.held_back.contains(*partition));
        let late: Vec<Partition> = late.cloned().collect();
        hold_on(member.resume(&late));
        for partition in &late {
            state.held_back.remove(partition);
        }
        state.given.extend(ready.iter().cloned());
        let ids: Vec<Arc<str>> = state.seats.keys().cloned().collect();
        for id in ids {
            let own = ready.iter().filter(|partition| self.reads(&id, &partition.0));
            let own = own.cloned().collect();
            state.tell_one(&id, Event::Assigned(own));
        }
        for partition in ready {
            if let Some(batch) = state.early.remove(&partition) {
                self.hand_on(&state, &batch);
            }
        }
    }

    /// Takes partitions from the seats, and gives which each one had.
    fn taken_away(&self, state: &mut State, partitions: &[Partition]) -> Vec<(Arc<str>, Vec<Partition>)> {
        let mut gone = Vec::new();
        for partition in partitions {
            state.has.remove(partition);
            state.early.remove(partition);
            state.held_back.remove(partition);
            state.paused.remove(partition);
            if state.given.remove(partition) {
                gone.push(partition.clone());
            }
        }
        let seats = state.seats.keys().map(|id| {
            let own = gone.iter().filter(|partition| self.reads(id, &partition.0));
            (Arc::clone(id), own.cloned().collect::<Vec<_>>())
        });
        seats.filter(|(_, own)| !own.is_empty()).collect()
    }

    fn revoked(&self, revocation: &Revocation) {
        let mut state = self.state();
        for (id, own) in self.taken_away(&mut state, &revocation.partitions) {
            state.tell_one(&id, Event::Revoked(revocation.part(own)));
        }
    }

    fn batch(&self, batch: Batch) {
        let mut state = self.state();
        let mut given = Batch::default();
        for record in batch.records {
            let partition = (Arc::clone(&record.topic), record.partition);
            if state.given.contains(&partition) {
                given.records.push(record);
            } else if state.has.contains(&partition) {
                state.early.entry(partition).or_default().records.push(record);
            }
        }
        for (partition, end) in batch.ends {
            if state.given.contains(&partition) {
                given.ends.push((partition, end));
            } else if state.has.contains(&partition) {
                let early = state.early.entry(partition.clone()).or_default();
                early.ends.push((partition, end));
            }
        }
        self.hand_on(&state, &given);
    }

    fn hand_on(&self, state: &State, batch: &Batch) {
        for (id, place) in &state.seats {
            let records = batch.records.iter();
            let ends = batch.ends.iter();
            let own = Batch {
                records: records
                    .filter(|record| self.reads(id, &record.topic))
                    .cloned()
                    .collect(),
                ends: ends
                    .filter(|((topic, _), _)| self.reads(id, topic))
                    .cloned()
                    .collect(),
            };
            if own.records.is_empty() && own.ends.is_empty() {
                continue;
            }
            place.queued.fetch_add(1, Ordering::AcqRel);
            drop(place.events.send(Event::Batch(own)));
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

    /// Commits what all that read a partition have finished of it.
    async fn commit(&self, id: &Arc<str>, positions: &Offsets, exactly: bool) -> Result<(), Error> {
        let _one = self.commits.lock().await;
        let (member, merged) = {
            let mut state = self.state();
            let mut merged = Offsets::new();
            for (partition, position) in positions {
                if exactly {
                    state.sought.insert(partition.clone());
                    merged.insert(partition.clone(), *position);
                    continue;
                }
                if state.sought.contains(partition) {
                    continue;
                }
                let finished = state.finished.entry(partition.clone()).or_default();
                finished.insert(Arc::clone(id), *position);
                let readers = self.together.members.keys();
                let readers = readers.filter(|id| self.reads(id, &partition.0));
                let each: Option<Vec<i64>> = readers.map(|id| finished.get(id).copied()).collect();
                if let Some(least) = each.and_then(|each| each.into_iter().min()) {
                    merged.insert(partition.clone(), least);
                }
            }
            (state.member.clone(), merged)
        };
        match member {
            Some(member) => member.commit(&merged).await,
            None if merged.is_empty() => Ok(()),
            None => Err(Error::NotMember {
                group: self.together.group.clone(),
                why: "the member has left".to_owned(),
            }),
        }
    }

    fn pause(&self, id: &Arc<str>, partitions: &[Partition]) -> Result<(), Error> {
        let mut state = self.state();
        for partition in partitions {
            let paused = state.paused.entry(partition.clone()).or_default();
            paused.insert(Arc::clone(id));
        }
        match &state.member {
            Some(member) => member.pause(partitions),
            None => Ok(()),
        }
    }

    fn resume(&self, id: &str, partitions: &[Partition]) -> Result<(), Error> {
        let mut state = self.state();
        let mut free = Vec::new();
        for partition in partitions {
            if let Some(paused) = state.paused.get_mut(partition) {
                paused.remove(id);
                if paused.is_empty() {
                    state.paused.remove(partition);
                }
            }
            if !state.paused.contains_key(partition) && state.given.contains(partition) {
                free.push(partition.clone());
            }
        }
        match &state.member {
            Some(member) if !free.is_empty() => member.resume(&free),
            _ => Ok(()),
        }
    }

    /// A subscription reads no more. What nobody else reads is left there.
    fn stand_up(&self, id: &Arc<str>, number: usize) {
        let mut state = self.state();
        if state.seats.get(id).is_none_or(|place| place.number != number) {
            return;
        }
        state.seats.remove(id);
        let (mut alone, mut others) = (Vec::new(), Vec::new());
        for partition in state.given.iter().filter(|(topic, _)| self.reads(id, topic)) {
            if state.seats.keys().any(|other| self.reads(other, &partition.0)) {
                others.push(partition.clone());
            } else {
                alone.push(partition.clone());
            }
        }
        if let Some(member) = &state.member {
            hold_on(member.pause(&alone));
        }
        drop(state);
        hold_on(self.resume(id, &others));
        self.changed.notify_one();
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
