//! Sees to it that what should run runs: one task for each subscription, which is started again when it ends with an error.

mod handle;
mod task;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use self::task::Task;
use super::gate::Gate;
use super::hub::Hub;
use super::outlet::Outlet;
use super::reconcile::{Action, With, reconcile, same};
use super::runner::{Board, HAND_OVER, LEAVE, Ordered, Stop};
use super::runs::Runs;
use super::target::Targets;
use crate::config::{HeldTopic, ReplyTopic};
use crate::metrics::Metrics;
use crate::subscriptions::event::Deliver;
use crate::subscriptions::running::{Desired, State, Together};
use crate::subscriptions::spec::Spec;

/// How long a subscription that is replaced, or is to run no more, has for what is under way.
const FINISH: Duration = Duration::from_secs(20);
/// Orders that wait for a task.
const ORDERS: usize = 16;

/// Makes what hands events over.
pub trait Connect: Send + Sync + 'static {
    /// What it makes.
    type Sink: Deliver;

    /// The sink of a subscription. Called again whenever it is started.
    ///
    /// # Errors
    /// Why there is none now; for people, and without secrets.
    fn connect(&self, id: &str, spec: &Spec) -> Result<Self::Sink, String>;
}

/// Runs subscriptions.
pub struct Engine {
    shared: Arc<Shared>,
    stop: watch::Sender<Stop>,
    task: JoinHandle<()>,
}

/// Watches and steers what an [`Engine`] runs.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

/// An outlet, and the cluster's configuration that it was made of.
type Opened = (Arc<crate::config::Cluster>, Arc<Outlet>);

struct Shared {
    slots: Mutex<BTreeMap<Arc<str>, Slot>>,
    held: HeldTopic,
    replies: Vec<Arc<ReplyTopic>>,
    metrics: Arc<Metrics>,
    outlets: Mutex<BTreeMap<String, Opened>>,
    /// By cluster and service, what exclusive handlers are read by.
    hubs: Mutex<BTreeMap<(String, String), Joint>>,
    targets: Arc<Targets>,
}

/// What a service's exclusive handlers are read by, the cluster's configuration that it was made of, and whose turn it is.
struct Joint {
    cluster: Arc<crate::config::Cluster>,
    hub: Arc<Hub>,
    gate: Arc<Gate>,
    runs: Arc<Runs>,
}

/// A subscription.
struct Slot {
    /// None: it cannot run.
    with: Option<With>,
    board: Arc<Board>,
    orders: mpsc::Sender<Ordered>,
    stop: watch::Sender<Stop>,
    task: Option<JoinHandle<()>>,
}

impl Shared {
    fn slots(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The outlet of a cluster; a new one if the cluster is another now.
    fn outlet(&self, name: &str, at: &Arc<crate::config::Cluster>) -> Result<Arc<Outlet>, String> {
        let mut outlets = self.outlets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((cluster, outlet)) = outlets.get(name)
            && same(cluster, at)
        {
            return Ok(Arc::clone(outlet));
        }
        let made = Outlet::new(name, at, (&self.held, &self.replies), &self.metrics)?;
        let made = Arc::new(made);
        outlets.insert(name.to_owned(), (Arc::clone(at), Arc::clone(&made)));
        Ok(made)
    }
}

impl Shared {
    /// What a subscription is read by together with others of its service. A new one if it is of others now.
    fn joint(&self, with: &With, together: &Arc<Together>) -> (Arc<Hub>, Arc<Gate>, Arc<Runs>) {
        let name = (together.cluster.clone(), together.service.clone());
        let mut hubs = self.hubs.lock().unwrap_or_else(PoisonError::into_inner);
        let before = hubs.get(&name);
        // Those of the one before may be with their handlers still: whose turn it is stays known.
        let gate = before.map(|joint| Arc::clone(&joint.gate)).unwrap_or_default();
        let runs = before.map(|joint| Arc::clone(&joint.runs)).unwrap_or_default();
        if let Some(Joint { cluster, hub, .. }) = before
            && same(cluster, &with.cluster)
            && hub.is_for(together)
        {
            return (Arc::clone(hub), gate, runs);
        }
        let before = before.map(|joint| joint.hub.ended());
        let hub = Hub::start(
            Arc::clone(together),
            Arc::clone(&with.cluster),
            HAND_OVER + LEAVE,
            before,
        );
        let joint = Joint {
            cluster: Arc::clone(&with.cluster),
            hub: Arc::clone(&hub),
            gate: Arc::clone(&gate),
            runs: Arc::clone(&runs),
        };
        hubs.insert(name, joint);
        (hub, gate, runs)
    }
}

impl Engine {
    /// Runs what `desired` says, and goes along with its changes: events are kept in the topic `held`, and answers on a topic of
    /// `replies` are written as who waits there reads them. Must be called within a tokio runtime.
    pub fn start<C: Connect>(
        mut desired: watch::Receiver<Desired>,
        connect: C,
        (held, replies): (HeldTopic, Vec<Arc<ReplyTopic>>),
        metrics: Arc<Metrics>,
    ) -> Self {
        let shared = Arc::new(Shared {
            slots: Mutex::default(),
            held,
            replies,
            metrics,
            outlets: Mutex::default(),
            hubs: Mutex::default(),
            targets: Arc::default(),
        });
        let (stop, mut stopped) = watch::channel(Stop::No);
        let (own, connect) = (Arc::clone(&shared), Arc::new(connect));
        let now = desired.borrow_and_update().clone();
        own.apply(&now, &connect);
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    changed = desired.changed() => if changed.is_err() {
                        // Nobody can change anything any more: what runs goes on.
                        over(&mut stopped).await;
                        return;
                    },
                    () = over(&mut stopped) => return,
                }
                let now = desired.borrow_and_update().clone();
                own.apply(&now, &connect);
            }
        });
        Self { shared, stop, task }
    }

    /// How to watch and steer it.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// Takes no more records, finishes what is under way, until `until` at the latest, commits, and leaves the groups.
    pub async fn stop(self, until: Instant) {
        self.stop.send_replace(Stop::Until(until));
        if let Err(error) = self.task.await {
            tracing::error!(%error, "what supervises the subscriptions failed");
        }
        let slots = std::mem::take(&mut *self.shared.slots());
        for slot in slots.values() {
            slot.stop.send_replace(Stop::Until(until));
        }
        for (id, slot) in slots {
            if let Some(task) = slot.task
                && let Err(error) = task.await
            {
                tracing::error!(subscription = &*id, %error, "a subscription did not end in good order");
            }
        }
        let hubs = std::mem::take(&mut *self.shared.hubs.lock().unwrap_or_else(PoisonError::into_inner));
        for Joint { hub, .. } in hubs.into_values() {
            let left = Instant::now() + LEAVE;
            let mut ended = hub.ended();
            drop(tokio::time::timeout_at(left.into(), ended.wait_for(|ended| *ended)).await);
        }
        let outlets =
            std::mem::take(&mut *self.shared.outlets.lock().unwrap_or_else(PoisonError::into_inner));
        for (_, outlet) in outlets.into_values() {
            outlet.close(until).await;
        }
    }
}

impl Shared {
    fn apply<C: Connect>(self: &Arc<Self>, desired: &Desired, connect: &Arc<C>) {
        let mut slots = self.slots();
        let running: BTreeMap<Arc<str>, With> = slots
            .iter()
            .filter_map(|(id, slot)| Some((Arc::clone(id), slot.with.clone()?)))
            .collect();
        slots.retain(|id, slot| slot.with.is_some() || desired.subscriptions.contains_key(id));
        for action in reconcile(desired, &running) {
            match action {
                Action::Start(id, with) => {
                    let before = slots.remove(&id).and_then(|slot| slot.task);
                    let slot = self.launch(&id, with, before, connect);
                    slots.insert(id, slot);
                }
                Action::Replace(id, with) => {
                    let before = slots.remove(&id).and_then(Slot::end);
                    let slot = self.launch(&id, with, before, connect);
                    slots.insert(id, slot);
                }
                // It ends by itself; nobody can tell it anything any more.
                Action::Stop(id) => drop(slots.remove(&id).and_then(Slot::end)),
                Action::Refuse(id, why) => {
                    tracing::error!(subscription = &*id, why, "a subscription cannot run");
                    let task = slots.remove(&id).and_then(Slot::end);
                    let board = Board::new("");
                    board.restarted(
                        State::Failed {
                            error: why.clone(),
                            retry_in_ms: 0,
                        },
                        &why,
                    );
                    let slot = Slot {
                        with: None,
                        board: Arc::new(board),
                        orders: mpsc::channel(1).0,
                        stop: watch::channel(Stop::No).0,
                        task,
                    };
                    slots.insert(id, slot);
                }
            }
        }
    }

    fn launch<C: Connect>(
        self: &Arc<Self>,
        id: &Arc<str>,
        with: With,
        before: Option<JoinHandle<()>>,
        connect: &Arc<C>,
    ) -> Slot {
        let board = Arc::new(Board::new(with.group(id)));
        let (orders, ordered) = mpsc::channel(ORDERS);
        let (stop, stopped) = watch::channel(Stop::No);
        let task = Task {
            id: Arc::clone(id),
            with: with.clone(),
            board: Arc::clone(&board),
            shared: Arc::clone(self),
            connect: Arc::clone(connect),
        };
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                // Its events are committed before this one reads what is.
                drop(before.await);
            }
            task.run(ordered, stopped).await;
        });
        Slot {
            with: Some(with),
            board,
            orders,
            stop,
            task: Some(task),
        }
    }
}

impl Slot {
    fn end(self) -> Option<JoinHandle<()>> {
        self.stop.send_replace(Stop::Until(Instant::now() + FINISH));
        self.task
    }
}

/// Resolves when it is to stop, or nobody can say so any more.
async fn over(stop: &mut watch::Receiver<Stop>) {
    drop(stop.wait_for(|stop| *stop != Stop::No).await);
}
