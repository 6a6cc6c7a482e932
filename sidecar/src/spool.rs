//! The spool: records that are answered once they are on the sidecar's own disk, and delivered from there.
//!
//! ```text
//!  submit ──► queue ──► writer: one transaction, one fsync ──► answered 202
//!                          ▲              │
//!              delivered,  │              ▼
//!              given up    │        lane by lane, in order ──► producer ──► broker
//!                          └──────────────── outcome ◄──────────────────────┘
//! ```
//!
//! - What is answered is on the disk, and stays there until Kafka has acknowledged it or it is a dead letter.
//! - Of one key a record is tried only when the one before it is delivered or given up ([`lane`]).
//! - One thread writes ([`writer`]): what comes while it waits for the disk shares the next fsync. Another hands over
//!   ([`drainer`]), and a third writes dead letters to their topic ([`letters`]).
//!
//! `docs/spool.md` says what holds, and where a record may be delivered twice.

pub mod desk;
mod drainer;
mod entry;
mod lane;
mod letters;
mod store;
mod writer;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prost::Message;
use slab::Slab;
use sluice_proto::v1::ErrorClass;

pub use self::entry::{DeadLetter, Entry, Lane};
use self::lane::Window;
use self::letters::Letters;
pub use self::store::{Amount, Error, FILE, VERSION};
use self::store::{Book, Done, Store};
use crate::config;
use crate::kafka::error::unknown;
use crate::kafka::producer::Producer;
use crate::kafka::record::{Failure, Outcome, Receipt, Record};
use crate::metrics::SpoolMetrics;

/// Bytes that may wait for the disk at once: a disk that stands still must not fill the memory.
const MAX_QUEUED: u64 = 32 * 1024 * 1024;

/// Where a lane's records go.
pub trait Outlet: Send + Sync {
    /// The lane's producer, and the entry of the allowlist that lets its topic in.
    ///
    /// # Errors
    /// When the configuration does not let them go anywhere any more; in words without secrets.
    fn of(&self, lane: &Lane) -> Result<(Arc<Producer>, Arc<str>), String>;
}

/// A record on its way into the spool.
pub struct Incoming {
    /// The record.
    pub record: Record,
    /// The cluster and the profile that it goes to.
    pub lane: Lane,
    /// Who is told that it is on the disk.
    pub receipt: Receipt,
    /// When they are told at the latest, if it is not.
    pub deadline: Instant,
}

/// The spool of a sidecar. Dropping it without [`Spool::close`] leaves what is queued unanswered.
pub struct Spool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    settings: config::Spool,
    store: Store,
    outlet: Arc<dyn Outlet>,
    metrics: SpoolMetrics,
    state: Mutex<State>,
    /// Rung when there is something to write.
    writer: Condvar,
    /// Rung when there is something to hand over, or to learn.
    drainer: Condvar,
    /// The same for dead letters.
    letters: Condvar,
}

impl Shared {
    /// The state. A panic elsewhere must not stop every other record, so a poisoned lock is taken all the same.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who waits for a record to be on the disk.
struct Waiting {
    receipt: Receipt,
    deadline: Instant,
}

/// A record that waits for the disk.
struct Queued {
    waiting: usize,
    lane: Lane,
    entry: Entry,
    encoded: Vec<u8>,
}

/// Something to do with dead letters.
struct Command {
    replay: Vec<u64>,
    forget: Vec<u64>,
    reply: mpsc::SyncSender<Result<Done, String>>,
}

#[derive(Default)]
struct State {
    waiting: Slab<Waiting>,
    append: Vec<Queued>,
    /// How many of those, and of what is being written, each lane has.
    queued_of: HashMap<Lane, usize>,
    /// Bytes of what waits for the disk, that which is being written included.
    queued: u64,
    remove: Vec<(u64, u64)>,
    /// When the oldest of those, or of `sent`, was delivered.
    remove_since: Option<Instant>,
    bury: Vec<(u64, u64, DeadLetter)>,
    letters: Letters,
    /// Dead letters that their topic has.
    sent: Vec<u64>,
    commands: Vec<Command>,
    /// What is on the disk.
    stored: Amount,
    dead: Amount,
    lanes: HashMap<u64, LaneState>,
    /// The names of those.
    stored_of: HashSet<Lane>,
    /// What became of records that were handed over.
    outcomes: Vec<(u64, Outcome)>,
    /// The lane and the number of each of those.
    under_way: Slab<(u64, u64)>,
    /// Why nothing can be written, and when that is tried again.
    broken: Option<(String, Instant)>,
    /// Nothing more is handed over.
    resting: bool,
    /// Nothing more is taken on, and nothing more is learnt.
    stopping: bool,
    /// Nothing more comes to be written.
    closing: bool,
}

/// A lane with records.
struct LaneState {
    lane: Lane,
    window: Window,
    /// No record on the disk has a higher number.
    newest: u64,
    /// Nothing is tried before this.
    not_before: Option<Instant>,
    outlet: Option<(Arc<Producer>, Arc<str>)>,
    /// What keeps it from being delivered, once logged.
    obstacle: Option<String>,
    /// When its oldest record was spooled.
    oldest_ms: Option<i64>,
}

impl State {
    fn lane(&mut self, number: u64, lane: &Lane, grace: Duration) -> &mut LaneState {
        let names = &mut self.stored_of;
        self.lanes.entry(number).or_insert_with(|| {
            names.insert(lane.clone());
            LaneState {
                lane: lane.clone(),
                window: Window::new(grace),
                newest: 0,
                not_before: None,
                outlet: None,
                obstacle: None,
                oldest_ms: None,
            }
        })
    }

    /// What is queued of a lane is written, or is not to be.
    fn dequeued(&mut self, lane: &Lane) {
        if let Some(left) = self.queued_of.get_mut(lane) {
            *left -= 1;
            if *left == 0 {
                self.queued_of.remove(lane);
            }
        }
    }

    /// Has everything be read again that the book tells of.
    fn adopt(&mut self, book: &Book, grace: Duration) {
        for (number, row) in &book.lanes {
            let newest = book.next();
            self.lane(*number, &row.lane(), grace).newest = newest;
        }
        self.count(book);
    }

    fn count(&mut self, book: &Book) {
        self.stored = book.waiting();
        self.dead = book.dead;
    }
}

/// Milliseconds since the epoch.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Spool {
    /// Opens the spool and begins to deliver what is in it.
    ///
    /// # Errors
    /// When it cannot be opened: somebody else has it, it is of a later version or damaged, or the disk is. It is left as
    /// it is then.
    pub fn open(
        settings: &config::Spool,
        outlet: Arc<dyn Outlet>,
        metrics: SpoolMetrics,
    ) -> Result<Self, Error> {
        let (store, book) = Store::open(&settings.directory)?;
        let mut state = State::default();
        state.adopt(&book, settings.grace);
        if state.dead.records > 0 {
            state.letters.look();
        }
        let Amount { records, bytes } = state.stored;
        if records > 0 || state.dead.records > 0 {
            let dead_letters = state.dead.records;
            tracing::info!(
                records,
                bytes,
                dead_letters,
                "the spool holds records from before"
            );
        }
        let shared = Arc::new(Shared {
            settings: settings.clone(),
            store,
            outlet,
            metrics,
            state: Mutex::new(state),
            writer: Condvar::new(),
            drainer: Condvar::new(),
            letters: Condvar::new(),
        });
        let this = Self {
            shared: Arc::clone(&shared),
            threads: Mutex::default(),
        };
        let (writing, draining) = (Arc::clone(&shared), Arc::clone(&shared));
        this.spawn("spool-drainer", move || drainer::run(&draining))?;
        if let Some(to) = settings.dead_letters.clone() {
            this.spawn("spool-letters", move || letters::run(&shared, &to))?;
        }
        this.spawn("spool-writer", move || writer::run(&writing, book))?;
        Ok(this)
    }

    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        let thread = thread.map_err(|error| Error::Io {
            path: self.shared.settings.directory.clone(),
            why: format!("cannot start a thread: {error}"),
        })?;
        self.threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(thread);
        Ok(())
    }

    /// Takes the records on, in order, and leaves the vector empty. Each recipient is told exactly once: that the
    /// record is on the disk, or why it is not. Never waits for the disk.
    pub fn submit(&self, records: &mut Vec<Incoming>) {
        if records.is_empty() {
            return;
        }
        let now = now_ms();
        let encode = |incoming: Incoming| {
            let Incoming {
                record,
                lane,
                receipt,
                deadline,
            } = incoming;
            let mut entry = Entry::new(record, now);
            let encoded = entry.encode_to_vec();
            // What is kept is a copy: it must not keep the bytes of a whole message of many records.
            entry.key = entry.key.map(|key| key.to_vec().into());
            entry.value = entry.value.map(|value| value.to_vec().into());
            (Waiting { receipt, deadline }, lane, entry, encoded)
        };
        let encoded: Vec<_> = records.drain(..).map(encode).collect();
        let mut refused = Vec::new();
        let mut state = self.shared.lock();
        for (waiting, lane, entry, encoded) in encoded {
            let size = encoded.len() as u64;
            if let Some(failure) = self.refusal(&state, size) {
                refused.push((waiting.receipt, failure));
                continue;
            }
            let waiting = state.waiting.insert(waiting);
            state.queued += size;
            *state.queued_of.entry(lane.clone()).or_default() += 1;
            state.append.push(Queued {
                waiting,
                lane,
                entry,
                encoded,
            });
        }
        drop(state);
        self.shared.writer.notify_one();
        for (receipt, failure) in refused {
            self.shared.metrics.refused(failure.class);
            tell(receipt, failure.into());
        }
    }

    /// Why a record of that size is not taken on.
    fn refusal(&self, state: &State, size: u64) -> Option<Failure> {
        let max = self.shared.settings.max_bytes;
        if state.stopping {
            let text = "the sidecar is shutting down";
            return Some(Failure::new(ErrorClass::SidecarUnavailable, text));
        }
        if size > max {
            let text = format!("the record has {size} bytes and spool.max_bytes is {max}");
            return Some(Failure::new(ErrorClass::TooLarge, text));
        }
        if let Some((why, until)) = &state.broken
            && Instant::now() < *until
        {
            let text = format!("the spool cannot be written: {why}");
            return Some(Failure::new(ErrorClass::SidecarUnavailable, text));
        }
        let (held, dead) = (state.stored.bytes, state.dead.bytes);
        if held + dead + state.queued + size > max {
            let text = format!(
                "the spool is full: {held} bytes wait for Kafka, {dead} are dead letters, and spool.max_bytes is {max}"
            );
            return Some(Failure::new(ErrorClass::BufferFull, text));
        }
        if state.queued + size > MAX_QUEUED && state.queued > 0 {
            let text = format!(
                "{} bytes wait for the spool's disk, of {MAX_QUEUED} at most",
                state.queued
            );
            return Some(Failure::new(ErrorClass::BufferFull, text));
        }
        None
    }

    /// Whether the lane has records that Kafka has not acknowledged.
    pub fn holds(&self, lane: &Lane) -> bool {
        let state = self.shared.lock();
        state.queued_of.contains_key(lane) || state.stored_of.contains(lane)
    }

    /// Hands nothing more over; what is under way is still waited for by the producers.
    pub fn rest(&self) {
        self.shared.lock().resting = true;
        self.shared.drainer.notify_one();
    }

    /// Brings the gauges up to date.
    pub fn measure(&self) {
        let state = self.shared.lock();
        let oldest = state.lanes.values().filter_map(|lane| lane.oldest_ms).min();
        let age = oldest.map_or(0, |oldest| now_ms().saturating_sub(oldest).max(0));
        self.shared.metrics.measure(
            state.stored,
            state.dead,
            Duration::from_millis(age.unsigned_abs()),
        );
    }

    /// Has dead letters delivered after all (behind what their lanes hold), and others forgotten. Blocks until that is
    /// on the disk. Returns how many were of the one and of the other kind; numbers that are not there do not count.
    ///
    /// # Errors
    /// When the disk cannot be written, or the sidecar shuts down.
    pub fn revise(&self, replay: Vec<u64>, forget: Vec<u64>) -> Result<(u64, u64), String> {
        let (reply, done) = mpsc::sync_channel(1);
        let mut state = self.shared.lock();
        if state.stopping {
            return Err("the sidecar is shutting down".to_owned());
        }
        state.commands.push(Command {
            replay,
            forget,
            reply,
        });
        drop(state);
        self.shared.writer.notify_one();
        let done = done
            .recv()
            .map_err(|_| "the sidecar is shutting down".to_owned())??;
        Ok((done.replayed.len() as u64, done.forgotten))
    }

    /// Writes what is queued, and closes the file. Blocks for the disk. What is in it is delivered when it is opened
    /// again.
    pub fn close(&self) {
        {
            let mut state = self.shared.lock();
            state.resting = true;
            state.stopping = true;
        }
        self.shared.drainer.notify_all();
        self.shared.letters.notify_all();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let last = threads.len().saturating_sub(1);
        for (at, thread) in threads.into_iter().enumerate() {
            // The writer is the last: what the others have learnt when they end is still written.
            if at == last {
                self.shared.lock().closing = true;
                self.shared.writer.notify_all();
            }
            if thread.join().is_err() {
                tracing::error!("a thread of the spool failed");
            }
        }
        self.shared.store.close();
        let left: Vec<Waiting> = self.shared.lock().waiting.drain().collect();
        for waiting in left {
            tell(waiting.receipt, unknown("the sidecar shut down first").into());
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.close();
    }
}

/// Tells one recipient.
fn tell(receipt: Receipt, outcome: Outcome) {
    receipt.recipient.settle(&mut vec![(receipt.token, outcome)]);
}
