//! Has a client with other certificates or secrets take over from the one that there is.
//!
//! A thread, for as long as that takes: it makes the new client and waits until it reaches the cluster, since files may be
//! good and the brokers not know them yet. As long as it does not, and the old one does, the old one stays. Then the new
//! one takes over, and the old one ends when it has the reports of what it had.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;

use super::Shared;
use crate::config::{BearerToken, Cluster, DelegationToken, Profile};
use crate::kafka::client;
use crate::kafka::native::{Native, Polled, Renewal};
use crate::kafka::trouble::Troubles;
use crate::metrics::Reload;

/// How long one question to the cluster may take.
const SLICE: Duration = Duration::from_millis(500);
/// The pause after one that was not answered.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the new client may take before that it cannot reach the cluster is told.
const TOLD_AFTER: Duration = Duration::from_secs(5);
/// How long the old client's records are waited for before it gives back what it has not sent: a partition without a
/// leader must not hold up the others of its topic.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is asked to: what it sends in vain becomes unsent again.
const GIVE_BACK_EVERY: Duration = Duration::from_secs(1);
/// How often its records are counted meanwhile.
const LOOK: Duration = Duration::from_millis(2);

/// How long others may take to let go of the old client.
const LET_GO: Duration = Duration::from_secs(2);

/// What a client is made of.
#[derive(Clone)]
pub(super) struct Recipe {
    pub(super) config: ClientConfig,
    pub(super) token: Option<BearerToken>,
    pub(super) delegation: Option<DelegationToken>,
}

impl Recipe {
    pub(super) fn of(cluster: &Cluster, profile: &Profile) -> Self {
        Self {
            config: client::producer_config(cluster, profile),
            token: cluster.token.clone(),
            delegation: cluster.delegation.clone(),
        }
    }

    /// What it shows to the brokers, beside the properties.
    pub(super) fn login(&self) -> (Option<&BearerToken>, Option<&DelegationToken>) {
        (self.token.as_ref(), self.delegation.as_ref())
    }
}

/// What is to be taken over, and how it goes.
#[derive(Default)]
pub(super) struct Renewals(Mutex<Progress>);

#[derive(Default)]
struct Progress {
    /// The latest that nobody has begun with.
    next: Option<Recipe>,
    /// There is a thread.
    running: bool,
    /// Why the new client has not taken over yet.
    trouble: Option<String>,
}

impl Renewals {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why a client that is to take over cannot.
    pub(super) fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    fn is_there_a_newer_one(&self) -> bool {
        self.lock().next.is_some()
    }
}

/// Has a client of `recipe` take over. Does not wait for it.
///
/// # Errors
/// When no thread can be started.
pub(super) fn begin(shared: &Arc<Shared>, recipe: Recipe) -> Result<(), String> {
    let mut progress = shared.renewals.lock();
    progress.next = Some(recipe);
    if progress.running {
        return Ok(());
    }
    let own = Arc::clone(shared);
    std::thread::Builder::new()
        .name("kafka-renewal".to_owned())
        .spawn(move || run(&own))
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    progress.running = true;
    Ok(())
}

fn run(shared: &Shared) {
    loop {
        let mut progress = shared.renewals.lock();
        progress.trouble = None;
        let Some(recipe) = progress.next.take() else {
            progress.running = false;
            return;
        };
        drop(progress);
        renew(shared, recipe);
    }
}

fn renew(shared: &Shared, recipe: Recipe) {
    let native = match Native::new(&recipe.config, recipe.login(), &shared.driver) {
        Ok(native) => Arc::new(native),
        Err(why) => {
            tell(
                shared,
                &format!("librdkafka makes no client of the changed files: {why}"),
            );
            wait_for_a_newer_one(shared);
            return;
        }
    };
    while is_accepted(shared, &native) {
        if take_over(shared, &native, &recipe) {
            return;
        }
    }
}

/// Says why the old client stays.
fn tell(shared: &Shared, why: &str) {
    let mut progress = shared.renewals.lock();
    if progress.trouble.as_deref() != Some(why) {
        tracing::error!(
            producer = shared.name,
            why,
            "the changed files are not in use yet"
        );
        if progress.trouble.is_none() {
            shared.lock().reloaded(Reload::NotAccepted);
        }
        progress.trouble = Some(why.to_owned());
    }
}

fn wait_for_a_newer_one(shared: &Shared) {
    while !shared.renewals.is_there_a_newer_one() && !shared.lock().stopped() {
        std::thread::sleep(PAUSE);
    }
}

/// Waits until the new client reaches the cluster, or the old one does not any more. False: it is not needed any more.
fn is_accepted(shared: &Shared, native: &Native) -> bool {
    let started = Instant::now();
    let (mut troubles, mut none) = (Troubles::default(), Vec::new());
    loop {
        while let Some(polled) = native.poll(&mut none) {
            match polled {
                Polled::Trouble(trouble) => troubles.add(trouble, Instant::now()),
                Polled::TokenDue => native.renew_token(Renewal::Due),
                Polled::Fatal(_) | Polled::AllDown(_) | Polled::Deliveries | Polled::Nothing => {}
            }
        }
        let state = shared.lock();
        let (stopped, works, failed) = (state.stopped(), state.is_up(), state.is_fatal().is_some());
        drop(state);
        if stopped || shared.renewals.is_there_a_newer_one() {
            return false;
        }
        // One that failed is being replaced by the minder, and two must not do so at once.
        if failed {
            std::thread::sleep(PAUSE);
            continue;
        }
        if !works || native.any_answer(SLICE).is_ok() {
            return true;
        }
        if started.elapsed() > TOLD_AFTER {
            let why = troubles
                .most_telling()
                .map_or_else(|| "no broker answers".to_owned(), ToString::to_string);
            tell(
                shared,
                &format!("the cluster cannot be reached with them, and the old client goes on: {why}"),
            );
        }
        std::thread::sleep(PAUSE);
    }
}

/// Has the new client take over, and waits until the old one has nothing left. False: the old one failed just now.
fn take_over(shared: &Shared, native: &Arc<Native>, recipe: &Recipe) -> bool {
    let began = Instant::now();
    let mut state = shared.lock();
    if state.is_fatal().is_some() {
        return false;
    }
    let worked = state.is_up();
    let old = Arc::clone(state.native());
    state.take_over(Arc::clone(native));
    *shared.recipe.lock().unwrap_or_else(PoisonError::into_inner) = recipe.clone();
    drop(state);
    shared.renewals.lock().trouble = None;
    shared.driver.notify_one();
    shared.bell.notify_all();
    let mut give_back = if worked { began + PATIENCE } else { began };
    loop {
        let state = shared.lock();
        let (left, stopped) = (state.left(), state.stopped());
        drop(state);
        if left == 0 || stopped {
            break;
        }
        let now = Instant::now();
        if now >= give_back {
            old.purge_unsent();
            give_back = now + GIVE_BACK_EVERY;
        }
        std::thread::sleep(LOOK);
    }
    let mut state = shared.lock();
    let retired = state.retired();
    state.reloaded(Reload::Applied);
    drop(state);
    shared.driver.notify_one();
    drop(retired);
    // Ending a client takes a while, and is better done here than by the task that takes events.
    let until = Instant::now() + LET_GO;
    while Arc::strong_count(&old) > 1 && Instant::now() < until {
        std::thread::sleep(LOOK);
    }
    drop(old);
    let took = began.elapsed();
    tracing::info!(
        producer = shared.name,
        took_ms = took.as_millis(),
        "a client with the changed files has taken over"
    );
    true
}
