//! Open-loop load: requests go out when the schedule says, whatever became of those before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use hyper::Method;
use sluice_e2e::client::{Client, Reply, full, was_not_sent};
use sluice_e2e::{Context, Result};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::ledger::{Answer, Entry, Ledger, value};

/// What is sent.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Requests a second.
    pub rate: u32,
    /// How many keys take turns.
    pub keys: u64,
    /// The bytes of a value.
    pub size: usize,
    /// How many requests may be without an answer, each on a connection of its own. Past that a request waits, and
    /// the wait counts.
    pub connections: usize,
    /// How long a client waits for its answer.
    pub patience: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            rate: 200,
            keys: 50,
            size: 200,
            connections: 10_000,
            patience: Duration::from_secs(20),
        }
    }
}

/// The size of a value that the topic of `too-large` does not take.
const POISON: usize = 50_000;

/// A run's load.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    task: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    begin: Instant,
    client: Client,
    path: String,
    plan: Plan,
    ledger: Ledger,
    rate: AtomicU32,
    poison_every: AtomicU64,
    stop: AtomicBool,
    permits: Semaphore,
}

impl Load {
    /// Starts it against `path`, whose route must make the body the value and `x-key` the key.
    pub fn start(client: Client, path: &str, plan: Plan) -> Self {
        let shared = Arc::new(Shared {
            begin: Instant::now(),
            client: client.within(plan.patience),
            path: path.to_owned(),
            rate: AtomicU32::new(plan.rate),
            poison_every: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            permits: Semaphore::new(plan.connections),
            ledger: Ledger::default(),
            plan,
        });
        let task = Some(tokio::spawn(run(Arc::clone(&shared))));
        Self { shared, task }
    }

    /// Since it began.
    pub fn now(&self) -> Duration {
        self.shared.begin.elapsed()
    }

    /// When it began, by the clock that logs go by.
    pub fn began(&self) -> SystemTime {
        SystemTime::now() - self.now()
    }

    /// What was answered so far.
    pub fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    /// Changes the rate to so many times the plan's.
    pub fn times(&self, factor: u32) {
        let rate = self.shared.plan.rate * factor;
        self.shared.rate.store(rate, Ordering::Relaxed);
    }

    /// Makes one request in `every` too large for its topic; 0: none.
    pub fn poison(&self, every: u64) {
        self.shared.poison_every.store(every, Ordering::Relaxed);
    }

    /// Sends nothing new from now on.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// Stops, waits for the last answer and gives all.
    ///
    /// # Errors
    /// When the load itself failed.
    pub async fn finish(&mut self) -> Result<Vec<Entry>> {
        self.stop();
        if let Some(task) = self.task.take() {
            task.await.context("the load")?;
        }
        Ok(self.shared.ledger.entries())
    }
}

async fn run(shared: Arc<Shared>) {
    let mut requests = JoinSet::new();
    let mut due = shared.begin;
    let mut id = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        sleep_until(due).await;
        let now = Instant::now();
        // Timers are coarse: all that is due by now goes, each with its own time.
        while due <= now {
            requests.spawn(one(Arc::clone(&shared), id, due));
            id += 1;
            due += Duration::from_secs(1) / shared.rate.load(Ordering::Relaxed).max(1);
        }
        while requests.try_join_next().is_some() {}
    }
    while requests.join_next().await.is_some() {}
}

async fn one(shared: Arc<Shared>, id: u64, due: Instant) {
    let permit = shared.permits.acquire().await;
    let key = format!("key-{}", id % shared.plan.keys);
    let every = shared.poison_every.load(Ordering::Relaxed);
    let poison = every > 0 && id.is_multiple_of(every);
    let size = if poison { POISON } else { shared.plan.size };
    let body = value(id, &key, id / shared.plan.keys, size);
    let request = shared
        .client
        .request(Method::POST, &shared.path)
        .header("content-type", "text/plain")
        .header("x-key", &key)
        .body(full(body));
    let sent = Instant::now();
    let reply = match request {
        Ok(request) => shared.client.send(request).await,
        Err(error) => Err(error.into()),
    };
    let answered = shared.begin.elapsed();
    drop(permit);
    shared.ledger.add(Entry {
        id,
        key,
        due: due - shared.begin,
        sent: sent - shared.begin,
        answered,
        answer: answer(reply),
        poison,
    });
}

fn answer(reply: Result<Reply>) -> Answer {
    match reply {
        Ok(reply) => Answer::Status {
            status: reply.status,
            code: reply.code(),
            place: place(&reply),
        },
        Err(error) if was_not_sent(&error) => Answer::NotSent,
        Err(error) => Answer::Nothing(format!("{error:#}")),
    }
}

fn place(reply: &Reply) -> Option<(i32, i64)> {
    let partition = reply.header("x-kafka-partition").parse().ok()?;
    Some((partition, reply.header("x-kafka-offset").parse().ok()?))
}
