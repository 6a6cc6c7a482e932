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

mod flight;
mod row;
mod store;
mod words;
mod writer;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prost::Message;
use slab::Slab;
use sluice_proto::idempotency::fingerprint;
use sluice_proto::v1::{self, ErrorClass};
use tokio::sync::Notify;

use self::flight::{Flight, Phase, Waiter, land};
pub use self::store::{Error, FILE, VERSION};
use self::store::{Name, Store};
use crate::config;
use crate::kafka::record::{Failure, Outcome, Recipient};
use crate::metrics::IdempotencyMetrics;
use crate::produce::FateSink;

/// Bytes of records that may wait for the disk at once: a disk that stands still must not fill the memory.
const MAX_QUEUED: u64 = 32 * 1024 * 1024;
/// Requests that may wait for the disk, or for the first of their key.
const MAX_WAITING: usize = 65_536;
/// How often at most deadlines are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How much earlier than its client's deadline a record that is still held comes back, so that what is known is told.
const AHEAD: Duration = Duration::from_millis(50);

/// Where records go.
pub(crate) trait Onward: Send + Sync {
    /// Hands the records on, in order, each to its own topics and with its own id. Those that are still held at their time
    /// come back as not stored.
    fn hand_on(&self, records: Vec<(v1::Record, Instant)>, to: &Arc<Landings>);
}

/// A record with a key, on its way.
pub(crate) struct Ask {
    name: Name,
    /// What it counts against the bound on what waits for the disk.
    bytes: u64,
    fingerprint: Vec<u8>,
    window_ms: i64,
    record: v1::Record,
    waiter: Waiter,
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

struct State {
    /// Keys that something is done about.
    flights: HashMap<Name, Flight>,
    /// The keys of records that were handed on; the position is the record's id.
    handed: Slab<Name>,
    /// Keys whose records wait for the disk.
    begin: Vec<Name>,
    /// Keys whose outcome does.
    end: Vec<Name>,
    /// Bytes of the records that wait for the disk.
    queued: u64,
    /// How many requests wait.
    waiting: usize,
    /// No deadline of theirs is before this.
    earliest: Option<Instant>,
    /// The number of the last attempt.
    attempt: u64,
    /// How many keys are on the disk.
    held: u64,
    /// Why nothing can be written, and when that is tried again.
    broken: Option<(String, Instant)>,
    /// Nothing more is taken on, and nothing is handed on.
    stopping: bool,
    /// Nothing more comes to be written.
    closing: bool,
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

impl State {
    fn land(&mut self, token: u64, outcomes: Vec<Outcome>) {
        let at = usize::try_from(token).unwrap_or(usize::MAX);
        let Some(name) = self.handed.try_remove(at) else {
            return;
        };
        if let Some(flight) = self.flights.get_mut(&name)
            && let Phase::UnderWay { topics, row } = &flight.phase
        {
            let (row, answer) = land(row.clone(), topics, outcomes);
            flight.phase = Phase::Ending { row, answer };
            self.end.push(name);
        }
    }

    /// Those who waited too long, and what they are told.
    fn expire(&mut self, now: Instant) -> Vec<(Waiter, Vec<Outcome>)> {
        let mut late = Vec::new();
        if self.earliest.is_none_or(|earliest| now < earliest) {
            return late;
        }
        for flight in self.flights.values_mut() {
            while let Some(at) = flight.waiters.iter().position(|waiter| waiter.deadline <= now) {
                let waiter = flight.waiters.swap_remove(at);
                let told = match &flight.phase {
                    // Without anybody who waits it is not handed on.
                    Phase::Beginning { .. } if flight.waiters.is_empty() => vec![words::slow_disk().into()],
                    Phase::Beginning { .. } | Phase::UnderWay { .. } => vec![words::under_way().into()],
                    Phase::Ending { answer, .. } => answer.clone(),
                };
                late.push((waiter, told));
            }
            if let Phase::Beginning { behind, .. } = &mut flight.phase {
                for ask in behind.extract_if(.., |ask| ask.waiter.deadline <= now) {
                    self.queued = self.queued.saturating_sub(ask.bytes);
                    late.push((ask.waiter, vec![words::slow_disk().into()]));
                }
            }
        }
        self.waiting -= late.len();
        self.earliest = self.next_deadline();
        late
    }

    /// When somebody has waited too long next.
    fn next_deadline(&self) -> Option<Instant> {
        let behind = |flight: &Flight| match &flight.phase {
            Phase::Beginning { behind, .. } => behind.iter().map(|ask| ask.waiter.deadline).min(),
            Phase::UnderWay { .. } | Phase::Ending { .. } => None,
        };
        let flights = self.flights.values();
        flights
            .flat_map(|flight| {
                let waiters = flight.waiters.iter().map(|waiter| waiter.deadline).min();
                waiters.into_iter().chain(behind(flight))
            })
            .min()
    }
}

/// Milliseconds since the epoch.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Ask {
    /// A record for `topics` of `cluster` that asks to be written once.
    ///
    /// # Errors
    /// When what it asks for is not one key with one fingerprint.
    pub(crate) fn new(
        mut record: v1::Record,
        cluster: &str,
        default_window: Duration,
        (sink, token): (Arc<dyn FateSink>, u64),
        deadline: Instant,
    ) -> Result<Self, Failure> {
        use sluice_proto::idempotency::{MAX_FINGERPRINT, MAX_KEY};
        let invalid = |text: String| Failure::new(ErrorClass::InvalidRequest, text);
        let asked = record.idempotency.take().unwrap_or_default();
        let (key, print) = (asked.key.len(), asked.fingerprint.len());
        if !(1..=MAX_KEY).contains(&key) {
            return Err(invalid(format!(
                "an idempotency key has 1 to {MAX_KEY} bytes, not {key}"
            )));
        }
        if !(1..=MAX_FINGERPRINT).contains(&print) {
            return Err(invalid(format!(
                "an idempotency fingerprint has 1 to {MAX_FINGERPRINT} bytes, not {print}"
            )));
        }
        let window_ms = match asked.window_ms {
            0 => i64::try_from(default_window.as_millis()).unwrap_or(MAX_WINDOW_MS),
            ms => match i64::try_from(ms) {
                Ok(ms) if (MIN_WINDOW_MS..=MAX_WINDOW_MS).contains(&ms) => ms,
                _ => {
                    return Err(invalid(format!(
                        "an idempotency window has {MIN_WINDOW_MS} to {MAX_WINDOW_MS} ms, not {ms}"
                    )));
                }
            },
        };
        let scope = [cluster.as_bytes(), &asked.key].into_iter();
        let name = fingerprint(scope.chain(record.topics.iter().map(String::as_bytes)));
        Ok(Self {
            name,
            bytes: record.encoded_len() as u64,
            fingerprint: asked.fingerprint.to_vec(),
            window_ms,
            record,
            waiter: Waiter {
                sink,
                token,
                deadline,
                first: true,
            },
        })
    }
}

/// The shortest and the longest window, in milliseconds.
pub(crate) const MIN_WINDOW_MS: i64 = 1000;
/// See [`MIN_WINDOW_MS`].
pub(crate) const MAX_WINDOW_MS: i64 = 366 * 24 * 3_600_000;

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
            state: Mutex::new(State {
                flights: HashMap::new(),
                handed: Slab::new(),
                begin: Vec::new(),
                end: Vec::new(),
                queued: 0,
                waiting: 0,
                earliest: None,
                // Not one of another life's.
                attempt: RandomState::new().hash_one(now_ms()),
                held,
                broken: None,
                stopping: false,
                closing: false,
            }),
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
            .map_err(|error| Error::Io {
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

impl State {
    /// Takes a record on; gives back whom to refuse.
    fn ask(&mut self, mut ask: Ask, now: Instant) -> Option<(Waiter, Failure)> {
        if self.stopping {
            return Some((ask.waiter, words::stopping()));
        }
        if self.waiting >= MAX_WAITING {
            let text = format!("{MAX_WAITING} requests with an idempotency key wait, which is the bound");
            return Some((ask.waiter, Failure::new(ErrorClass::BufferFull, text)));
        }
        let (bytes, deadline) = (ask.bytes, ask.waiter.deadline);
        let broken = self.broken.as_ref().filter(|(_, until)| now < *until);
        let queueing = match (broken, self.queued) {
            (Some((why, _)), _) => Err(words::broken(why)),
            (None, queued) if queued > 0 && queued + bytes > MAX_QUEUED => {
                let text = format!(
                    "{queued} bytes wait for the disk of the idempotency keys, of {MAX_QUEUED} at most"
                );
                Err(Failure::new(ErrorClass::BufferFull, text))
            }
            (None, _) => Ok(()),
        };
        match self.flights.entry(ask.name) {
            Entry::Occupied(mut flight) => {
                let flight = flight.get_mut();
                let same = flight.fingerprint == ask.fingerprint;
                match &mut flight.phase {
                    Phase::Beginning { behind, .. } => {
                        if let Err(failure) = queueing {
                            return Some((ask.waiter, failure));
                        }
                        if same {
                            // The first who waits is whose record is written.
                            ask.waiter.first = flight.waiters.is_empty();
                            flight.waiters.push(ask.waiter);
                        } else {
                            self.queued += bytes;
                            behind.push(ask);
                        }
                    }
                    Phase::UnderWay { .. } | Phase::Ending { .. } if same => {
                        ask.waiter.first = false;
                        flight.waiters.push(ask.waiter);
                    }
                    Phase::UnderWay { .. } | Phase::Ending { .. } => {
                        return Some((ask.waiter, words::conflict()));
                    }
                }
            }
            Entry::Vacant(free) => {
                if let Err(failure) = queueing {
                    return Some((ask.waiter, failure));
                }
                self.attempt = self.attempt.wrapping_add(1);
                self.queued += bytes;
                self.begin.push(ask.name);
                free.insert(Flight {
                    fingerprint: ask.fingerprint,
                    waiters: vec![ask.waiter],
                    phase: Phase::Beginning {
                        record: Box::new(ask.record),
                        bytes,
                        window_ms: ask.window_ms,
                        attempt: self.attempt,
                        behind: Vec::new(),
                    },
                });
            }
        }
        self.waiting += 1;
        self.earliest = Some(self.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
        None
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
