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

mod bridge;
pub mod desk;
mod drainer;
mod entry;
mod follow;
mod lane;
mod letters;
#[cfg(feature = "parsers")]
pub mod parsers;
mod state;
mod store;
mod writer;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sluice_proto::v1::ErrorClass;

pub use self::bridge::Bridged;
use self::bridge::{IntoSpool, Prepared, Refused, Written};
pub use self::entry::{DeadLetter, Entry, Lane};
use self::state::{Command, Removal, State, Waiting};
use self::store::Store;
pub use self::store::{Amount, Error, FILE, VERSION};
use crate::config;
use crate::database::Trouble;
use crate::epoch::now_ms;
use crate::kafka::error::unknown;
use crate::kafka::producer::Producer;
use crate::kafka::record::{Aside, Failure, Outcome, Receipt, Record};
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
    /// Whether there are records that others must follow; never false while there are.
    followed: AtomicBool,
}

impl Shared {
    /// The state. A panic elsewhere must not stop every other record, so a poisoned lock is taken all the same.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets be seen whether there are records that others must follow.
    fn tell_followed(&self, state: &State) {
        let followed = state.following.is_any_busy() || !state.unread.is_empty();
        self.followed.store(followed, Ordering::Release);
    }

    /// Tells those whose records are not taken on.
    fn refuse(&self, refused: Refused) {
        for (receipt, failure) in refused {
            self.metrics.refused(failure.class);
            tell(receipt, failure.into());
        }
    }

    /// Why a record of that size is not taken on.
    pub(super) fn refusal(&self, state: &State, size: u64) -> Option<Failure> {
        let max = self.settings.max_bytes;
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
        state.begin(&book, settings.grace);
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
            followed: AtomicBool::default(),
        });
        shared.tell_followed(&shared.lock());
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
        let thread = thread.map_err(|error| Trouble::Io {
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
    ///
    /// One with a [`Bridged`] waits for those of its key, and is told of by its producer then; or it is spooled if that
    /// takes long, or the producer's cluster is away.
    pub fn submit(&self, records: &mut Vec<(Incoming, Option<Bridged>)>) {
        if records.is_empty() {
            return;
        }
        let encode = |(incoming, bridged)| match bridged {
            Some(bridged) => Prepared::Bridged(incoming, bridged),
            None => Prepared::Written(Written::new(incoming)),
        };
        let encoded: Vec<_> = records.drain(..).map(encode).collect();
        let mut refused = Refused::new();
        let mut state = self.shared.lock();
        for record in encoded {
            match record {
                Prepared::Written(written) => self.shared.append(&mut state, written, &mut refused),
                Prepared::Bridged(incoming, bridged) => {
                    self.shared.bridge(&mut state, incoming, bridged, &mut refused)
                }
            }
        }
        self.shared.tell_followed(&state);
        let free = state.following.is_any_ready();
        drop(state);
        self.shared.writer.notify_one();
        if free {
            self.shared.drainer.notify_one();
        }
        self.shared.refuse(refused);
    }

    /// What takes a record of that lane into the spool whose cluster goes away before its producer has handed it over; whoever
    /// waits is told at `deadline` at the latest.
    pub fn aside(&self, lane: Lane, deadline: Instant) -> Arc<dyn Aside> {
        Arc::new(IntoSpool {
            shared: Arc::clone(&self.shared),
            lane,
            deadline,
        })
    }

    /// Whether a record of that key must not go to its producer by itself, since one before it is in the spool.
    pub fn is_followed(&self, lane: &Lane, key: &[u8]) -> bool {
        if !self.shared.followed.load(Ordering::Acquire) {
            return false;
        }
        let state = self.shared.lock();
        let place = state.following.place(lane, key);
        state.following.is_busy(place) || state.unread.contains(lane)
    }

    /// Hands nothing more over; what is under way is still waited for by the producers.
    pub fn rest(&self) {
        let mut refused = Refused::new();
        let mut state = self.shared.lock();
        state.resting = true;
        self.shared
            .look_after_lines(&mut state, Instant::now(), &mut refused);
        drop(state);
        self.shared.drainer.notify_one();
        self.shared.writer.notify_one();
        self.shared.refuse(refused);
    }

    /// Brings the gauges up to date.
    pub fn measure(&self) {
        let state = self.shared.lock();
        let oldest = state.lanes.values().filter_map(|lane| lane.oldest_ms).min();
        let age = oldest.map_or(0, |oldest| now_ms().saturating_sub(oldest).max(0));
        self.shared.metrics.following(state.following.waiting());
        self.shared.metrics.measure(
            state.stored,
            state.dead,
            Duration::from_millis(age.unsigned_abs()),
        );
    }

    /// Has a command carried out. Blocks until that is on the disk. Returns how many dead letters were replayed and
    /// forgotten; numbers that are not there do not count.
    ///
    /// # Errors
    /// When the disk cannot be written, or the sidecar shuts down.
    fn command(&self, make: impl FnOnce(&mut State) -> Orders) -> Result<(u64, u64), String> {
        let (reply, done) = mpsc::sync_channel(1);
        let mut state = self.shared.lock();
        if state.stopping {
            return Err("the sidecar is shutting down".to_owned());
        }
        let Orders {
            replay,
            forget,
            discard,
        } = make(&mut state);
        state.commands.push(Command {
            replay,
            forget,
            discard,
            reply,
        });
        drop(state);
        self.shared.writer.notify_one();
        self.shared.drainer.notify_one();
        done.recv()
            .map_err(|_| "the sidecar is shutting down".to_owned())?
    }

    /// Writes what is queued, and closes the file. Blocks for the disk. What is in it is delivered when it is opened
    /// again.
    pub fn close(&self) {
        // What waits in memory is written, too.
        self.rest();
        self.shared.lock().stopping = true;
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

/// What a command is to do.
#[derive(Default)]
struct Orders {
    replay: Vec<u64>,
    forget: Vec<u64>,
    discard: Vec<Removal>,
}

/// Tells one recipient.
fn tell(receipt: Receipt, outcome: Outcome) {
    receipt.recipient.settle(&mut vec![(receipt.token, outcome)]);
}
