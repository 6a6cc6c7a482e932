//! One producer: one cluster, one profile.
//!
//! ```text
//!  submit ──► admission ──► topic known, cluster up, nothing held before it? ──yes──► librdkafka ──► broker
//!              (bounds)                        │ no                                       │
//!                                              ▼                                          │ delivery report
//!                                        hold queue ──► (word of the topic, cluster up)   ▼
//!                                              │                                     recipient
//!                                              └── deadline: certainly not stored ───────►│
//! ```
//!
//! - Records of one topic reach librdkafka in the order they were submitted in, held or not.
//! - Every submission gets exactly one outcome, whatever happens to the client underneath.
//! - What is still held is certainly not stored; what librdkafka has is of unknown outcome until its report.
//!
//! A task takes librdkafka's events and sees to deadlines ([`driver`]); under load records are gathered before
//! they are handed over ([`gate`]); a thread asks the cluster what must be known and replaces a producer that
//! failed fatally ([`minder`]).

mod bag;
mod clients;
mod driver;
mod gate;
mod led;
mod minder;
mod pace;
mod renewal;
mod state;
#[cfg(test)]
mod tests;
mod topics;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use self::bag::Bag;
use self::renewal::{Recipe, Renewals};
use self::state::{Limits, State};
use super::client;
use super::health::Health;
use super::native::Native;
use super::record::Submission;
use crate::config::{Cluster, Profile};
use crate::metrics::{Loads, ProducerMetrics};

/// A producer. Dropping it without [`Producer::close`] gives up what it holds.
pub struct Producer {
    shared: Arc<Shared>,
}

/// What the producer's threads share.
struct Shared {
    /// For logs: `cluster/profile`.
    name: String,
    profile: Profile,
    /// What the present client was made of.
    recipe: Mutex<Recipe>,
    renewals: Renewals,
    state: Mutex<State>,
    /// Held by who puts records aside, so that they get there in their order. Taken before the state.
    turn: Mutex<()>,
    /// Rung when there may be something for the minder to do, or the producer stops.
    bell: Condvar,
    /// Rung when there is something for the driver to do.
    driver: Arc<Notify>,
}

impl Shared {
    /// The state. A panic elsewhere must not stop every other record, so a poisoned lock is taken all the same.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts records aside until none comes any more that may go.
    fn divert(&self) {
        loop {
            let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            let mut bag = Bag::default();
            let mut state = self.lock();
            let more = state.divert(Instant::now(), &mut bag);
            let wake = state.look_sooner();
            drop(state);
            if wake {
                self.driver.notify_one();
            }
            bag.send();
            if !more {
                return;
            }
        }
    }

    /// Logs that the cluster stopped or began to answer: once, though librdkafka says so again after every
    /// attempt to connect.
    fn log_health(&self, was_down: bool, state: &State) {
        match (was_down, state.health()) {
            (false, Health::Down(why)) => {
                tracing::warn!(producer = self.name, why, "cluster unreachable");
            }
            (true, Health::Up) => tracing::info!(producer = self.name, "cluster reachable again"),
            _ => {}
        }
    }
}

impl Producer {
    /// Makes the producer of profile `profile` on cluster `cluster` and starts to look at the cluster and at
    /// those topics that the allowlist names in full. Does not wait for the cluster. Must be called within a
    /// tokio runtime.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration, or a thread cannot be started; in words without secrets.
    pub fn start(
        name: String,
        cluster: &Cluster,
        profile: &Profile,
        metrics: ProducerMetrics,
    ) -> Result<Self, String> {
        let recipe = Recipe::of(cluster, profile);
        let config = &recipe.config;
        let limits = Limits {
            records: profile.max_records,
            bytes: profile.max_bytes,
            unacknowledged: client::is_unacknowledged(config),
            led: client::is_led(config),
            auto_create: profile.allow_auto_create_topics,
            buffered_for: client::message_timeout(config),
            gathers: !client::lingers(config),
            queueing: profile.max_queueing_time,
            of_caller: cluster.callers.is_some(),
            shared: cluster.allowed_topics.allows_several(),
        };
        let driver = Arc::new(Notify::new());
        let native = Arc::new(Native::new(config, recipe.login(), &driver)?);
        let mut state = State::new(native, limits, metrics);
        let exact = cluster
            .allowed_topics
            .0
            .iter()
            .filter(|entry| !entry.ends_with('*'));
        for topic in exact.take(MAX_TOPICS_AHEAD) {
            state.look_up(topic);
        }
        let shared = Arc::new(Shared {
            name,
            profile: profile.clone(),
            recipe: Mutex::new(recipe),
            renewals: Renewals::default(),
            state: Mutex::new(state),
            turn: Mutex::default(),
            bell: Condvar::new(),
            driver,
        });
        tokio::spawn(driver::run(Arc::clone(&shared)));
        let minded = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("kafka-minder".to_owned())
            .spawn(move || minder::run(&minded))
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(Self { shared })
    }

    /// Takes the submissions, in order, and leaves the vector empty. Never blocks for the broker. Every
    /// recipient is told exactly once for each; some of them before this returns.
    pub fn submit(&self, submissions: &mut Vec<Submission>) {
        let now = Instant::now();
        let mut bag = Bag::default();
        let mut state = self.shared.lock();
        state.begin();
        for submission in submissions.drain(..) {
            state.submit(submission, now, &mut bag);
        }
        state.send_gathered(now, &mut bag);
        let wake_driver = state.look_sooner();
        let wake_minder = state.needs_minding();
        drop(state);
        if wake_driver {
            self.shared.driver.notify_one();
        }
        if wake_minder {
            self.shared.bell.notify_all();
        }
        bag.send();
    }

    /// Has a client of `cluster`, which is the same with other certificates or secrets, take over from the present one:
    /// once it reaches the cluster, unless the present one does not either. Nothing that is on its way is lost, and each
    /// topic's records keep their order. Does not wait for it; [`Self::renewal_trouble`] says why it has not happened yet.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn renew(&self, cluster: &Cluster) -> Result<(), String> {
        let recipe = Recipe::of(cluster, &self.shared.profile);
        renewal::begin(&self.shared, recipe)
    }

    /// Why a client that is to take over has not yet; `None` if there is none, or nothing is known against it.
    pub fn renewal_trouble(&self) -> Option<String> {
        self.shared.renewals.trouble()
    }

    /// Whether the cluster answers.
    pub fn health(&self) -> Health {
        self.shared.lock().health().clone()
    }

    /// Whether the brokers do not take the token of the caller whose producer it is.
    pub fn is_refused(&self) -> bool {
        self.shared.lock().is_refused()
    }

    /// Whether the cluster takes the topic's records: not while no broker can be reached, nor when acknowledgements have
    /// not come for longer than the profile's `max_queueing_time` explains.
    pub fn takes(&self, topic: &str) -> bool {
        self.shared.lock().takes(topic, Instant::now())
    }

    /// Brings the gauges up to date, and adds to those that it shares with other producers.
    pub fn measure(&self, loads: &mut Loads) {
        let mut state = self.shared.lock();
        state.measure();
        state.weigh(loads, Instant::now());
    }

    /// How many records have no known fate yet.
    pub fn outstanding(&self) -> usize {
        self.shared.lock().outstanding()
    }

    /// Records that are worth waiting for before the end: those on the sidecar's own disk are not while the cluster cannot
    /// be reached.
    fn unflushed(&self) -> usize {
        let state = self.shared.lock();
        let safe = if state.is_down() { state.spooled() } else { 0 };
        state.outstanding() - safe
    }

    /// Waits until every record's fate is known, or until `until`. Returns how many are left.
    /// What is on the sidecar's own disk is not waited for while the cluster cannot be reached.
    pub async fn flush(&self, until: Instant) -> usize {
        loop {
            let left = self.unflushed();
            if left == 0 || Instant::now() >= until {
                return left;
            }
            tokio::time::sleep(FLUSH_LOOK).await;
        }
    }

    /// Gives up what has no fate yet and ends the producer. Blocks, for a few seconds at most.
    /// Returns how many records were given up, without those that are on the sidecar's own disk: those that were held are told so, those on their way to the
    /// broker are of unknown outcome.
    pub fn close(&self) -> usize {
        let turn = self.shared.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bag = Bag::default();
        let (given_up, natives) = {
            let mut state = self.shared.lock();
            let given_up = state.outstanding() - state.spooled();
            state.close(&mut bag);
            let natives = [Some(state.native()), state.retiring()];
            let natives = natives.map(Option::<&Arc<_>>::cloned);
            (given_up - bag.aside(), natives)
        };
        bag.send();
        drop(turn);
        natives.iter().flatten().for_each(|native| native.purge());
        let until = Instant::now() + PURGE_TIMEOUT;
        while self.shared.lock().handed() > 0 && Instant::now() < until {
            std::thread::sleep(FLUSH_LOOK);
        }
        let mut bag = Bag::default();
        self.shared.lock().abandon(&mut bag);
        bag.send();
        self.stop_threads();
        given_up
    }

    /// Has task and thread end. They are not waited for: it may be asking a cluster that does not answer.
    fn stop_threads(&self) {
        self.shared.lock().stop();
        self.shared.bell.notify_all();
        self.shared.driver.notify_one();
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let mut bag = Bag::default();
        self.shared.lock().close(&mut bag);
        bag.send();
        self.stop_threads();
        let mut bag = Bag::default();
        self.shared.lock().abandon(&mut bag);
        bag.send();
    }
}

/// How many topics are looked up before a record asks for them.
const MAX_TOPICS_AHEAD: usize = 100;
/// How often something that is waited for is looked at.
const FLUSH_LOOK: Duration = Duration::from_millis(2);
/// How long a purge may take to report on every record.
const PURGE_TIMEOUT: Duration = Duration::from_secs(2);
