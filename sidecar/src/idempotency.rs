//! Idempotency keys: a record that comes again with the same key is answered as the first was, and written once.
//!
//! ```text
//!  ask ──► known to be under way? ──yes──► waits for it
//!              │ no
//!              ▼
//!        queue ──► writer: one transaction, one fsync ──► on the disk before? ──yes──► the first answer again
//!                     ▲                                        │ no: "under way" is on the disk now
//!                     │                                        ▼
//!                     └──────── outcome ◄──────────────── handed on
//!                     │
//!                     └──► on the disk ──► answered
//! ```
//!
//! - That a record is under way is on the disk before it is handed on, and what became of it before it is answered: after
//!   a crash in between nobody knows, and a repeat is told so and writes nothing.
//! - What is certainly not stored is forgotten, so that a repeat is tried like new.
//! - No key is forgotten before its window is over: past the bound on keys a record is refused.
//! - One thread writes ([`writer`]): what comes while it waits for the disk shares the next fsync.
//!
//! `docs/idempotency.md` says what holds.

mod ask;
mod flight;
#[cfg(feature = "parsers")]
pub mod parsers;
mod row;
mod state;
mod store;
mod words;
mod writer;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sluice_proto::v1::{self, ErrorClass};
use tokio::sync::Notify;

pub(crate) use self::ask::{Ask, MAX_WINDOW_MS, MIN_WINDOW_MS};
use self::flight::{Phase, Waiter};
use self::state::State;
use self::store::Store;
pub use self::store::{Error, FILE, VERSION};
use crate::config;
use crate::database::Trouble;
use crate::kafka::record::{Failure, Outcome, Recipient};
use crate::metrics::IdempotencyMetrics;
use crate::produce::FateSink;

/// How often at most deadlines are looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Where records go.
pub(crate) trait Onward: Send + Sync {
    /// Hands the records on, in order, each to its own topics and with its own id. Those that are still held at their time
    /// come back as not stored.
    fn hand_on(&self, records: Vec<(v1::Record, Instant)>, to: &Arc<Landings>);
}

/// The keys of a sidecar. Dropping them without [`Keys::close`] leaves what is queued unanswered.
pub struct Keys {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    settings: config::Idempotency,
    store: Store,
    onward: Mutex<Weak<dyn Onward>>,
    landings: Arc<Landings>,
    metrics: IdempotencyMetrics,
    state: Mutex<State>,
    /// Rung when there is something to write.
    writer: Condvar,
    /// Rung when somebody waits.
    clock: Notify,
}

impl Shared {
    /// The state. A panic elsewhere must not stop every other record, so a poisoned lock is taken all the same.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of records that were handed on comes in here.
pub(crate) struct Landings(Weak<Shared>);

impl Recipient for Landings {
    fn settle(&self, outcomes: &mut Vec<(u64, Outcome)>) {
        let landed = outcomes.drain(..).map(|(token, outcome)| (token, vec![outcome]));
        self.land(landed.collect());
    }
}

impl FateSink for Landings {
    fn settle_many(&self, token: u64, outcomes: Vec<Outcome>, _: bool) {
        self.land(vec![(token, outcomes)]);
    }
}

impl Landings {
    fn land(&self, landed: Vec<(u64, Vec<Outcome>)>) {
        let Some(shared) = self.0.upgrade() else {
            return;
        };
        let mut state = shared.lock();
        for (token, outcomes) in landed {
            state.land(token, outcomes);
        }
        drop(state);
        shared.writer.notify_one();
    }
}

impl Keys {
    /// Opens the keys. [`Keys::start`] sets them to work.
    ///
    /// # Errors
    /// When they cannot be opened: somebody else has them, they are of a later version or damaged, or the disk is. They
    /// are left as they are then.
    pub(crate) fn open(settings: &config::Idempotency, metrics: IdempotencyMetrics) -> Result<Self, Error> {
        let store = Store::open(&settings.directory)?;
        Self::over(settings, store, metrics)
    }

    fn over(
        settings: &config::Idempotency,
        store: Store,
        metrics: IdempotencyMetrics,
    ) -> Result<Self, Error> {
        let (held, _) = store.held()?;
        if held > 0 {
            tracing::info!(keys = held, "idempotency keys are held from before");
        }
        let shared = Arc::new_cyclic(|shared: &Weak<Shared>| Shared {
            settings: settings.clone(),
            store,
            onward: Mutex::new(Weak::<Nowhere>::new()),
            landings: Arc::new(Landings(shared.clone())),
            metrics,
            state: Mutex::new(State::new(held)),
            writer: Condvar::new(),
            clock: Notify::new(),
        });
        Ok(Self {
            shared,
            thread: Mutex::default(),
        })
    }

    /// Begins to work, and hands records on to `onward`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(crate) fn start(&self, onward: Weak<dyn Onward>) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        *shared.onward.lock().unwrap_or_else(PoisonError::into_inner) = onward;
        tokio::spawn(keep_deadlines(Arc::downgrade(&shared)));
        let thread = std::thread::Builder::new()
            .name("idempotency".to_owned())
            .spawn(move || writer::run(&shared))
            .map_err(|error| Trouble::Io {
                path: self.shared.settings.directory.clone(),
                why: format!("cannot start a thread: {error}"),
            })?;
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(())
    }

    /// How long a key is kept whose record does not say.
    pub(crate) fn window(&self) -> Duration {
        self.shared.settings.window
    }

    /// Takes the records on. Each waiter is told exactly once. Never waits for the disk.
    pub(crate) fn ask(&self, asks: Vec<Ask>) {
        let mut refused = Vec::new();
        let mut state = self.shared.lock();
        let before = state.earliest;
        for ask in asks {
            refused.extend(state.ask(ask, Instant::now()));
        }
        let sooner = state.earliest != before;
        drop(state);
        self.shared.writer.notify_one();
        if sooner {
            self.shared.clock.notify_one();
        }
        self.shared.refuse(refused);
    }

    /// Brings the gauges up to date.
    pub(crate) fn measure(&self) {
        let state = self.shared.lock();
        self.shared.metrics.measure(state.held, state.waiting);
    }

    /// Hands nothing more on, and takes nothing more on. Those whose records were not handed on are told so.
    pub(crate) fn stop(&self) {
        let mut refused = Vec::new();
        {
            let mut state = self.shared.lock();
            state.stopping = true;
            let State { flights, waiting, .. } = &mut *state;
            for flight in flights.values_mut() {
                if let Phase::Beginning { behind, .. } = &mut flight.phase {
                    refused.append(&mut flight.waiters);
                    refused.extend(behind.drain(..).map(|ask| ask.waiter));
                }
            }
            *waiting -= refused.len();
        }
        let refused = refused.into_iter().map(|waiter| (waiter, words::stopping()));
        self.shared.refuse(refused.collect());
    }

    /// Writes what is queued, and closes the file. Blocks for the disk.
    pub(crate) fn close(&self) {
        self.stop();
        self.shared.lock().closing = true;
        self.shared.writer.notify_all();
        self.shared.clock.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The last who held a gateway may have been the thread itself.
        let other = thread.filter(|thread| thread.thread().id() != std::thread::current().id());
        if other.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the idempotency keys failed");
        }
        self.shared.store.close();
        let mut left = Vec::new();
        for (_, flight) in self.shared.lock().flights.drain() {
            let told = match flight.phase {
                Phase::Ending { answer, .. } => answer,
                Phase::Beginning { .. } | Phase::UnderWay { .. } => vec![words::under_way().into()],
            };
            left.extend(flight.waiters.into_iter().map(|waiter| (waiter, told.clone())));
        }
        for (waiter, told) in left {
            waiter.tell(told);
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    /// Tells those whose records are not taken on.
    fn refuse(&self, refused: Vec<(Waiter, Failure)>) {
        for (waiter, failure) in refused {
            if failure.class == ErrorClass::IdempotencyKeyReused {
                self.metrics.conflict();
            }
            self.metrics.refused(failure.class);
            waiter.fail(failure);
        }
    }
}

/// The task that tells those who waited too long.
async fn keep_deadlines(shared: Weak<Shared>) {
    loop {
        let Some(this) = shared.upgrade() else {
            return;
        };
        let now = Instant::now();
        let (late, next, closing) = {
            let mut state = this.lock();
            (state.expire(now), state.earliest, state.closing)
        };
        for (waiter, told) in late {
            waiter.tell(told);
        }
        if closing {
            return;
        }
        // Who comes may have less time than those who wait.
        let come = this.clock.notified();
        match next {
            Some(next) => tokio::select! {
                () = come => {}
                () = tokio::time::sleep_until(next.into()) => {}
            },
            None => come.await,
        }
        drop(this);
        tokio::time::sleep(LOOK).await;
    }
}

/// What there is before there is anything.
struct Nowhere;

impl Onward for Nowhere {
    fn hand_on(&self, _: Vec<(v1::Record, Instant)>, _: &Arc<Landings>) {}
}

#[cfg(test)]
mod tests;
