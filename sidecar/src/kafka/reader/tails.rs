//! One tail per partition, shared by all who follow it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use rdkafka::ClientConfig;
use slab::Slab;
use tokio::sync::Notify;

use super::native::{Queue, Source, Started, Taken};
use super::past::Past;
use super::{Batch, Error, Limits, Ring, View, client_config};
use crate::kafka::connection::Connection;

/// - `fetch.wait.max.ms`: a partition that is followed anew waits for so long until the fetch that is under way returns.
/// - `queued.max.messages.kbytes`: what may be fetched and not be in a ring yet, per partition.
const DEFAULTS: [(&str, &str); 5] = [
    ("fetch.error.backoff.ms", "100"),
    ("fetch.queue.backoff.ms", "10"),
    ("fetch.wait.max.ms", "100"),
    ("queued.max.messages.kbytes", "1024"),
    ("reconnect.backoff.max.ms", "1000"),
];

/// The client's configuration.
pub(super) fn config(connection: &Connection) -> ClientConfig {
    client_config(connection, &DEFAULTS, &[])
}

/// Partitions that are followed at once.
const TAILS: usize = 4096;
/// What one tail keeps, and what all of them keep together.
const RECORDS: usize = 4096;
const BYTES: usize = 1 << 20;
const BYTES_IN_ALL: usize = 64 << 20;
/// How long a tail goes on that nobody follows: who polls comes back.
const LINGER: Duration = Duration::from_secs(30);
/// How long the thread waits for a record before it looks after other things.
const TURN: Duration = Duration::from_millis(200);
/// Records that are taken before those who wait are woken.
const AT_ONCE: usize = 1024;

/// The tails of one cluster.
pub(super) struct Tails {
    connection: Arc<Connection>,
    shared: Arc<Shared>,
    /// One makes the client at a time.
    making: tokio::sync::Mutex<()>,
}

struct Shared {
    state: Mutex<State>,
}

struct State {
    /// The client's queue, and with it the client; none: nobody followed anything yet.
    queue: Option<Arc<Queue>>,
    tails: HashMap<Arc<str>, HashMap<i32, Arc<Tail>>>,
    count: usize,
    gauge: Gauge,
}

struct Tail {
    inner: Mutex<Inner>,
    /// Where the ring ends, or `i64::MAX` once the tail has failed: whoever has nothing to take finds that out without the
    /// lock, which all followers would wait for.
    news: AtomicI64,
    /// For those who fell behind the ring.
    past: Mutex<Past>,
}

struct Inner {
    ring: Ring,
    followers: Slab<Arc<Notify>>,
    /// Since when nobody follows.
    idle: Option<Instant>,
    failed: Option<Error>,
    /// Taken when the tail ends.
    started: Option<Started>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tails {
    pub(super) fn new(connection: Arc<Connection>, gauge: Gauge) -> Self {
        let state = State {
            queue: None,
            tails: HashMap::new(),
            count: 0,
            gauge,
        };
        Self {
            connection,
            shared: Arc::new(Shared {
                state: Mutex::new(state),
            }),
            making: tokio::sync::Mutex::default(),
        }
    }

    pub(super) async fn join(
        &self,
        topic: &Arc<str>,
        partition: i32,
        offset: i64,
        wake: &Arc<Notify>,
    ) -> Result<Handle, Error> {
        let queue = self.queue().await?;
        let mut state = lock(&self.shared.state);
        if let Some(tail) = state.find(topic, partition) {
            return Ok(Handle::new(&tail, wake));
        }
        if state.count >= TAILS {
            return Err(Error::Unavailable(format!(
                "{TAILS} partitions are followed, and no more can be"
            )));
        }
        let started = Started::new(&queue, topic, partition, offset).map_err(|code| {
            Error::of(code, topic, partition, offset).unwrap_or_else(|| Error::Unavailable(code.to_string()))
        })?;
        let tail = Arc::new(Tail {
            inner: Mutex::new(Inner {
                ring: Ring::new(offset),
                followers: Slab::new(),
                idle: None,
                failed: None,
                started: Some(started),
            }),
            news: AtomicI64::new(offset),
            past: Mutex::new(Past::new()),
        });
        state
            .tails
            .entry(Arc::clone(topic))
            .or_default()
            .insert(partition, Arc::clone(&tail));
        state.count += 1;
        state.gauge.inc();
        Ok(Handle::new(&tail, wake))
    }

    pub(super) fn join_running(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        wake: &Arc<Notify>,
    ) -> Option<Handle> {
        let tail = lock(&self.shared.state).find(topic, partition)?;
        let covered = lock(&tail.inner).ring.covers(offset);
        covered.then(|| Handle::new(&tail, wake))
    }

    /// Keeps what a follower of a tail has read from `offset` on, for others who are behind too: half as much as the ring may.
    pub(super) fn keep(&self, handle: &Handle, offset: i64, batch: &Batch) {
        let limits = lock(&self.shared.state).limits();
        let most = Limits {
            records: limits.records / 2,
            bytes: limits.bytes / 2,
        };
        lock(&handle.tail.past).keep(offset, batch, most, Instant::now());
    }

    /// The client's queue; the client is made, and its thread started, when there is none.
    async fn queue(&self) -> Result<Arc<Queue>, Error> {
        if let Some(queue) = &lock(&self.shared.state).queue {
            return Ok(Arc::clone(queue));
        }
        let _making = self.making.lock().await;
        if let Some(queue) = &lock(&self.shared.state).queue {
            return Ok(Arc::clone(queue));
        }
        let connection = Arc::clone(&self.connection);
        let made = tokio::task::spawn_blocking(move || {
            let source = Source::new(&connection, &config(&connection))?;
            let queue = Queue::new(&source).ok_or_else(|| "no memory for a queue".to_owned())?;
            Ok((source, queue))
        });
        let (source, queue) = made
            .await
            .map_err(|error| Error::Unavailable(error.to_string()))?
            .map_err(Error::Unavailable)?;
        let (shared, taken) = (Arc::downgrade(&self.shared), Arc::clone(&queue));
        std::thread::Builder::new()
            .name("tails".to_owned())
            .spawn(move || follow(&shared, &source, &taken))
            .map_err(|error| Error::Unavailable(format!("no thread for the tails: {error}")))?;
        lock(&self.shared.state).queue = Some(Arc::clone(&queue));
        Ok(queue)
    }
}

impl State {
    /// The tail of a partition, unless it has failed.
    fn find(&self, topic: &str, partition: i32) -> Option<Arc<Tail>> {
        self.tails.get(topic)?.get(&partition).map(Arc::clone)
    }

    fn remove(&mut self, topic: &str, partition: i32) {
        if let Some(partitions) = self.tails.get_mut(topic) {
            if partitions.remove(&partition).is_some() {
                self.count -= 1;
                self.gauge.dec();
            }
            if partitions.is_empty() {
                self.tails.remove(topic);
            }
        }
    }

    /// What each tail may keep.
    fn limits(&self) -> Limits {
        Limits {
            records: RECORDS,
            bytes: BYTES.min(BYTES_IN_ALL / self.count.max(1)),
        }
    }
}

/// Takes what comes, for as long as there is somebody it is for.
fn follow(shared: &Weak<Shared>, source: &Source, queue: &Queue) {
    let mut swept = Instant::now();
    // The name of the last topic: records come in batches of one.
    let mut last: Arc<str> = Arc::from("");
    loop {
        let taken = queue.take(TURN, AT_ONCE, |name| {
            if *last != *name {
                last = Arc::from(name);
            }
            Arc::clone(&last)
        });
        source.serve();
        let Some(shared) = shared.upgrade() else { return };
        let mut woken: Vec<Arc<Tail>> = Vec::new();
        for taken in taken {
            if let Some(tail) = shared.put(taken)
                && !woken.iter().any(|other| Arc::ptr_eq(other, &tail))
            {
                woken.push(tail);
            }
        }
        for tail in woken {
            for (_, follower) in &lock(&tail.inner).followers {
                follower.notify_one();
            }
        }
        if swept.elapsed() > Duration::from_secs(1) {
            swept = Instant::now();
            shared.sweep();
        }
    }
}

impl Shared {
    /// Puts it where it belongs, and gives the tail whose followers are to know.
    fn put(&self, taken: Taken) -> Option<Arc<Tail>> {
        match taken {
            Taken::Record(record) => {
                let (tail, limits) = {
                    let state = lock(&self.state);
                    (state.find(&record.topic, record.partition)?, state.limits())
                };
                let mut inner = lock(&tail.inner);
                inner.ring.push(Arc::new(record), limits);
                tail.tell(&inner);
                drop(inner);
                Some(tail)
            }
            Taken::End {
                topic,
                partition,
                next,
            } => {
                let tail = lock(&self.state).find(&topic, partition)?;
                let mut inner = lock(&tail.inner);
                inner.ring.advance(next);
                tail.tell(&inner);
                drop(inner);
                Some(tail)
            }
            Taken::Failed {
                topic,
                partition,
                code,
                text,
            } => {
                let tail = lock(&self.state).find(&topic, partition)?;
                let next = lock(&tail.inner).ring.next();
                let Some(error) = Error::of(code, &topic, partition, next) else {
                    tracing::debug!(%topic, partition, %code, text, "a tail waits");
                    return None;
                };
                tracing::debug!(%topic, partition, %code, text, "a tail ends");
                lock(&self.state).remove(&topic, partition);
                let started = {
                    let mut inner = lock(&tail.inner);
                    inner.failed = Some(error);
                    tail.tell(&inner);
                    inner.started.take()
                };
                drop(started);
                Some(tail)
            }
        }
    }

    /// Ends the tails that nobody has followed for long, and forgets what was read for those who were behind.
    fn sweep(&self) {
        let ended: Vec<Option<Started>> = {
            let mut state = lock(&self.state);
            let over = |tail: &Tail| {
                let inner = lock(&tail.inner);
                inner.followers.is_empty() && inner.idle.is_some_and(|since| since.elapsed() > LINGER)
            };
            let (mut idle, now) = (Vec::new(), Instant::now());
            for (topic, partitions) in &state.tails {
                for tail in partitions.values() {
                    lock(&tail.past).sweep(now);
                }
                let over = partitions.iter().filter(|(_, tail)| over(tail));
                idle.extend(over.map(|(partition, tail)| (Arc::clone(topic), *partition, Arc::clone(tail))));
            }
            idle.into_iter()
                .map(|(topic, partition, tail)| {
                    state.remove(&topic, partition);
                    let mut inner = lock(&tail.inner);
                    // Who found the tail just now and comes in yet finds it failed, and goes back to reading.
                    inner.failed = Some(Error::Unavailable("the tail has ended".to_owned()));
                    tail.tell(&inner);
                    inner.started.take()
                })
                .collect()
        };
        // Stopping waits for librdkafka: with no lock held.
        drop(ended);
    }
}

impl Tail {
    /// Says where it is now. To be called with the lock held, after each change.
    fn tell(&self, inner: &Inner) {
        let news = match inner.failed {
            None => inner.ring.next(),
            Some(_) => i64::MAX,
        };
        self.news.store(news, Ordering::Release);
    }
}

/// One follower of a tail, until it is dropped.
pub struct Handle {
    tail: Arc<Tail>,
    place: usize,
}

impl Handle {
    fn new(tail: &Arc<Tail>, wake: &Arc<Notify>) -> Self {
        let mut inner = lock(&tail.inner);
        inner.idle = None;
        let place = inner.followers.insert(Arc::clone(wake));
        drop(inner);
        Self {
            tail: Arc::clone(tail),
            place,
        }
    }

    /// What comes at `position` and after it, within `limits`.
    ///
    /// # Errors
    /// The tail has ended: there is nothing to follow any more, or not here.
    pub fn after(&self, position: i64, limits: Limits) -> Result<View, Error> {
        let inner = lock(&self.tail.inner);
        match &inner.failed {
            Some(error) => Err(error.clone()),
            None => Ok(inner.ring.after(position, limits)),
        }
    }
}

impl Handle {
    /// What another follower has read of what comes at `position` and after it, a moment ago.
    pub(super) fn past(&self, position: i64, limits: Limits) -> Option<Batch> {
        lock(&self.tail.past).after(position, limits, Instant::now())
    }

    /// Whether [`Self::after`] has something to say of `position`: a record, another position, or an error.
    pub fn has(&self, position: i64) -> bool {
        position < self.tail.news.load(Ordering::Acquire)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut inner = lock(&self.tail.inner);
        inner.followers.try_remove(self.place);
        if inner.followers.is_empty() {
            inner.idle = Some(Instant::now());
        }
    }
}
