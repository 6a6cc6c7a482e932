//! One subscription's task. It has all of the subscription's state, so that nothing is locked and nothing is between two states.

mod deliver;
mod failing;
mod intake;
mod leaving;
mod orders;
mod replay;
mod reply;
mod report;
mod settle;
mod starts;
mod state;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};

use self::intake::Closing;
use self::replay::Replay;
use self::settle::Effect;
use self::state::{Entry, Part};
use super::gate::{Gate, Turns};
use super::hub::{Hub, Incoming, Reads};
use super::lanes::{self, Lanes, Ticket};
use super::outlet::{Found, Outlet};
use super::progress::Progresses;
use super::reconcile::With;
use super::runs::Runs;
use super::target::{Pass, Targets, Use};
use crate::kafka::group::{self, Event, Member, Settings};
use crate::kafka::reader::Offsets;
use crate::metrics::SubscriptionMetrics;
use crate::subscriptions::event::{Deliver, Outcome};
use crate::subscriptions::running::{Order, Refused, Told};
use crate::subscriptions::spec::{Spec, Topics};

pub(super) use self::report::Board;

/// How long what is under way may take when its partition goes to another sidecar.
pub(super) const HAND_OVER: Duration = Duration::from_secs(15);
/// How often positions are committed, and the status is told.
const TURN: Duration = Duration::from_millis(500);
/// How long leaving the group may take.
pub(super) const LEAVE: Duration = Duration::from_secs(5);

/// An order, and who waits for what comes of it.
pub(super) type Ordered = (Order, oneshot::Sender<Result<Told, Refused>>);

/// Whether, and until when, to finish what is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Not at all.
    No,
    /// Until then at the latest.
    Until(Instant),
}

/// How a task ended that was not stopped by an error.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// It was told to.
    Stopped,
    /// It is to begin anew at once, from what is committed.
    Again,
}

/// What a runner is made of.
pub(super) struct Parts<D> {
    pub(super) id: Arc<str>,
    pub(super) with: With,
    pub(super) sink: Arc<D>,
    pub(super) outlet: Arc<Outlet>,
    pub(super) board: Arc<Board>,
    pub(super) metrics: SubscriptionMetrics,
    pub(super) targets: Arc<Targets>,
    /// Where it is read together with others of its service, and whose turn it is with a key of theirs.
    pub(super) together: Option<(Arc<Hub>, Arc<Gate>)>,
    /// Which workflows of its service were started, where it starts them.
    pub(super) starts: Option<Starts>,
}

/// What is known of the workflows of a service.
#[derive(Clone)]
pub(super) struct Starts {
    pub(super) service: Arc<str>,
    pub(super) runs: Arc<Runs>,
}

/// What ended of what was begun.
enum Step {
    /// What is known of partitions.
    Loaded(Vec<lanes::Part>, Known),
    /// A request.
    Delivered(u64, Delivered),
    /// What had to be written for an event.
    Settled(Ticket, Effect, Result<Option<i64>, String>),
    /// Positions were committed, or were not.
    Committed(Progresses, Option<group::Error>),
    /// The positions of partitions that go to another member.
    Closed(Option<group::Error>),
    /// A page of a replay.
    Page(u64, Result<crate::kafka::reader::Batch, String>),
    /// Workflows of which nothing need be known any more; those that could not be removed from the topic, and why.
    Removed(Option<String>),
    /// Where a seek goes.
    Sought(Result<Offsets, String>, oneshot::Sender<Result<Told, Refused>>),
}

/// What is known of partitions that are taken over.
struct Known {
    /// What is held.
    held: BTreeMap<group::Partition, Vec<Found>>,
    /// How far they are.
    progress: Progresses,
}

/// What came of a request.
enum Delivered {
    /// The handler was asked.
    Asked(Outcome, Duration),
    /// A held event could not be read back.
    NotRead(String),
    /// A held event, or the record that it is of, is there no more.
    Gone,
}

/// A request that is under way.
struct Request {
    tickets: Vec<Ticket>,
    task: AbortHandle,
    /// None: its target's circuit breaker is not heeded.
    pass: Option<Pass>,
}

/// One subscription's task.
pub(super) struct Runner<D> {
    /// Whether a commit is under way.
    committing: bool,
    /// How many commits of partitions that go to another member are.
    handing_over: usize,
    id: Arc<str>,
    spec: Arc<Spec>,
    sink: Arc<D>,
    outlet: Arc<Outlet>,
    board: Arc<Board>,
    metrics: SubscriptionMetrics,
    member: Arc<Reads>,
    /// Whose turn it is with the keys of its service, where one record of a key is with any of its handlers at a time.
    turns: Option<Turns>,
    starts: Option<Starts>,
    /// What is known of workflows is being removed.
    removing: bool,
    steps: JoinSet<Step>,
    lanes: Lanes,
    parts: HashMap<lanes::Part, Part>,
    by_name: HashMap<group::Partition, lanes::Part>,
    entries: HashMap<Ticket, Entry>,
    requests: HashMap<u64, Request>,
    /// When held events are due.
    due: std::collections::BTreeSet<(Instant, Ticket)>,
    closing: Vec<Closing>,
    replays: BTreeMap<u64, Replay>,
    /// Events that wait for somebody to resume the subscription.
    stopped: HashSet<Ticket>,
    /// What is called, which other subscriptions may call too.
    target: Use,
    /// Why nothing is delivered.
    paused: Option<String>,
    /// The group has said what is ours.
    joined: bool,
    /// Events of partitions that are being closed have nothing under way any more.
    unswept: bool,
    /// Nothing more is begun.
    draining: bool,
    /// Since when a batch waits for more.
    gathering: Option<Instant>,
    /// When something changes by itself that no timer of an event is for.
    wake: Option<Instant>,
    /// Bytes of held events that are in memory all the same.
    cached: usize,
    last: u64,
}

impl<D: Deliver> Runner<D> {
    /// Joins the group and delivers until it is stopped.
    ///
    /// # Errors
    /// What it cannot go on after; in words without secrets.
    pub(super) async fn run(
        parts: Parts<D>,
        orders: &mut mpsc::Receiver<Ordered>,
        stop: &mut watch::Receiver<Stop>,
    ) -> Result<Exit, String> {
        parts.outlet.ensure().await?;
        let Parts {
            id,
            with,
            sink,
            outlet,
            board,
            metrics,
            together,
            targets,
            starts,
        } = parts;
        let spec = with.spec;
        let (member, events) = match &together {
            Some((hub, _)) => {
                let (seat, events) = hub.sit(&id)?;
                (Reads::Together(seat), Incoming::Together(events))
            }
            None => {
                let topics = match &spec.source.topics {
                    Topics::Names(names) => group::Topics::Names(names.clone()),
                    Topics::Pattern(_, pattern) => group::Topics::Pattern(pattern.clone()),
                };
                let mut settings = Settings::new(spec.group(&id, &with.cluster), topics);
                settings.properties.clone_from(&spec.properties);
                settings.hand_over = HAND_OVER + LEAVE;
                let joined = Member::join(&with.cluster, settings).await;
                let (member, events) = joined.map_err(|error| error.to_string())?;
                (Reads::Alone(Arc::clone(&id), member), Incoming::Alone(events))
            }
        };
        let now = Instant::now();
        let mut runner = Self {
            committing: false,
            handing_over: 0,
            target: targets.enter(&sink.place(), spec.circuit_breaker, spec.rate_limit, now),
            paused: spec.paused.then(|| "its `paused` is true".to_owned()),
            id,
            spec,
            sink,
            outlet,
            board,
            metrics,
            member: Arc::new(member),
            turns: together.map(|(_, gate)| Turns::new(gate)),
            starts,
            removing: false,
            steps: JoinSet::new(),
            lanes: Lanes::default(),
            parts: HashMap::new(),
            by_name: HashMap::new(),
            entries: HashMap::new(),
            requests: HashMap::new(),
            due: std::collections::BTreeSet::new(),
            closing: Vec::new(),
            replays: BTreeMap::new(),
            stopped: HashSet::new(),
            joined: false,
            unswept: false,
            draining: false,
            gathering: None,
            wake: None,
            cached: 0,
            last: 0,
        };
        runner.live(events, orders, stop).await
    }

    async fn live(
        &mut self,
        mut events: Incoming,
        orders: &mut mpsc::Receiver<Ordered>,
        stop: &mut watch::Receiver<Stop>,
    ) -> Result<Exit, String> {
        let mut turn = tokio::time::interval(TURN);
        turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.sweep();
            self.release_due();
            self.dispatch();
            self.flow();
            self.close_what_is_done();
            let wake = self.next_wake();
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => self.happened(event)?,
                    None => return Err("the member has left its group".to_owned()),
                },
                Some(step) = self.steps.join_next() => {
                    if let Some(exit) = self.step(step).await? {
                        self.leave(events).await;
                        return Ok(exit);
                    }
                }
                Some(ordered) = orders.recv() => self.order(ordered),
                ticket = turn_of(&mut self.turns) => self.lanes.release_first(ticket),
                _ = turn.tick() => {
                    self.commit();
                    self.remove_old();
                    self.report();
                }
                () = tokio::time::sleep_until(wake.into()) => {}
                until = stopped(stop) => {
                    self.drain(&mut events, until).await;
                    self.leave(events).await;
                    return Ok(Exit::Stopped);
                }
            }
        }
    }

    fn happened(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Assigned(partitions) => self.assigned(&partitions),
            Event::Revoked(revocation) => self.revoked(revocation),
            Event::Lost(partitions) => self.lost(&partitions),
            Event::Batch(batch) => {
                for record in batch.records {
                    self.record(record);
                }
                for (partition, end) in batch.ends {
                    self.ended(&partition, end);
                }
            }
            Event::Failed(error @ group::Error::Fatal { .. }) => return Err(error.to_string()),
            Event::Failed(error) => self.trouble(&error.to_string(), None),
        }
        Ok(())
    }

    async fn step(&mut self, step: Result<Step, tokio::task::JoinError>) -> Result<Option<Exit>, String> {
        match step {
            Ok(Step::Loaded(parts, known)) => self.loaded(&parts, known),
            Ok(Step::Delivered(request, delivered)) => self.delivered(request, delivered),
            Ok(Step::Settled(ticket, effect, result)) => self.settled(ticket, effect, result),
            Ok(Step::Committed(progress, error)) => self.committed(progress, error),
            Ok(Step::Closed(error)) => self.closed(error),
            Ok(Step::Removed(why)) => self.removed(why),
            Ok(Step::Page(replay, page)) => self.page(replay, page),
            Ok(Step::Sought(positions, waiting)) => return Ok(self.sought(positions, waiting).await),
            Err(error) if error.is_cancelled() => {}
            Err(error) => return Err(format!("a part of the task failed: {error}")),
        }
        Ok(None)
    }

    /// When there is something to do that no event tells of.
    fn next_wake(&mut self) -> Instant {
        let due = self.due.first().map(|(at, _)| *at);
        let closing = self.closing.iter().map(|closing| closing.until).min();
        let wakes = [self.wake.take(), due, closing];
        let latest = Instant::now() + TURN;
        wakes.into_iter().flatten().min().unwrap_or(latest).min(latest)
    }

    /// Nothing of ours waits for its turn with a key any more.
    fn wait_no_more(&mut self) {
        if let Some(turns) = &mut self.turns {
            turns.stop();
        }
    }

    fn wake_at(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

impl<D> Drop for Runner<D> {
    fn drop(&mut self) {
        if let Some(starts) = &self.starts {
            for part in self.parts.values() {
                starts.runs.leave(part.partition);
            }
        }
    }
}

/// The next event whose turn it is with its key.
async fn turn_of(turns: &mut Option<Turns>) -> Ticket {
    match turns {
        Some(turns) => turns.next().await,
        None => std::future::pending().await,
    }
}

/// Resolves when the task is to stop: until when what is under way may take.
async fn stopped(stop: &mut watch::Receiver<Stop>) -> Instant {
    match stop.wait_for(|stop| *stop != Stop::No).await.map(|stop| *stop) {
        Ok(Stop::Until(until)) => until,
        // Whoever could say so is gone.
        Ok(Stop::No) | Err(_) => Instant::now(),
    }
}
