//! Actions that people and programs start over HTTP, and whoever listens to Kafka carries out: organisations, actions and
//! automations, runs, entities. `docs/actions.md` is the reference.
//!
//! All of it is in one compacted topic ([`crate::registry`]), which every sidecar follows: any of them answers, and the
//! topic's order says which of two changes was first. What others have to be told of a change is in the row with it, until
//! they are ([`tell`]).

mod access;
mod agents;
mod api;
mod automation;
mod clock;
mod entities;
mod expressions;
mod handed;
pub mod item;
mod kept;
pub mod org;
mod port;
mod reports;
mod rules;
mod runs;
mod store;
mod tell;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jsonschema::Validator;
use serde_json::Value;
use sluice_settings::Problem;
use tokio::sync::mpsc;

pub use self::api::router;
use self::expressions::Expressions;
use self::handed::Handed;
use self::item::{Action, Trigger, UserInputs};
use self::kept::Kept;
use self::org::{Org, Settings};
use self::store::Store;
use self::tell::Queues;
use crate::config::{Cluster, Config, Secret};
use crate::json_api::Error;
use crate::kafka::connection::Connection;
use crate::kafka::log::Log;
use crate::kafka::topics;
use crate::kafka::writer::Writer;
use crate::metrics::{ActionMetrics, StateMetrics};

/// Of how many actions schemas and payloads are kept as they were compiled.
const KEPT: usize = 256;
/// The pauses before topics are looked for again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// The organisations, and what they have.
pub struct Actions {
    settings: Settings,
    store: Store,
    expressions: Expressions,
    /// What inputs are checked with.
    schemas: Kept<UserInputs, Validator>,
    /// Payloads that were made when their runs were started.
    handed: Handed,
    /// By cluster.
    writers: BTreeMap<String, Writer>,
    queues: Queues,
    /// What the queues give, until somebody takes it.
    given: Mutex<Vec<mpsc::UnboundedReceiver<Arc<str>>>>,
    metrics: ActionMetrics,
}

/// Reads an action of the configuration.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read_action(org: &Org, tree: &Value) -> Result<Action, Vec<Problem>> {
    rules::action(org, tree)
}

impl Actions {
    /// Those of a configuration, if it has any organisation. Connects to nothing yet.
    pub fn new(config: &Config, metrics: ActionMetrics, state: StateMetrics) -> Option<Arc<Self>> {
        let settings = config.actions.clone()?;
        let cluster = config.clusters.get(&settings.cluster)?;
        let log = Log::new(cluster, settings.log.clone());
        let (queues, given) = Queues::new();
        let mut writers = BTreeMap::new();
        for org in settings.orgs.values() {
            if let Some(cluster) = config.clusters.get(&org.cluster) {
                writers
                    .entry(org.cluster.clone())
                    .or_insert_with(|| Writer::new(cluster));
            }
        }
        Some(Arc::new(Self {
            store: Store::new(log, state),
            expressions: Expressions::new(&settings),
            schemas: Kept::new(KEPT),
            handed: Handed::default(),
            writers,
            queues,
            given: Mutex::new(given),
            metrics,
            settings,
        }))
    }

    /// Follows what there is, and does what is to be done, for as long as it is polled.
    pub async fn run(self: Arc<Self>) {
        let given = std::mem::take(&mut *self.given.lock().unwrap_or_else(PoisonError::into_inner));
        let tellers = futures_util::future::join_all(given.into_iter().map(|queue| self.teller(queue)));
        let topics = async {
            self.make_topics().await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = self.store.run() => {}
            () = self.clock() => {}
            _ = tellers => {}
            () = topics => {}
        }
    }

    /// Has what is kept and written in cluster `name` kept and written with the certificates and secrets of `to` from now on.
    ///
    /// # Errors
    /// The cluster cannot be reached with them, and can be with the old ones, which stay in use.
    pub async fn renew(&self, name: &str, to: &Cluster) -> Result<(), String> {
        if self.settings.cluster == name {
            self.store.renew(to).await?;
        }
        if let Some(writer) = self.writers.get(name) {
            writer.renew(to).await?;
        }
        Ok(())
    }

    /// Has payloads of an organisation see these secrets from now on. Whether they are others.
    pub fn renew_secrets(&self, org: &str, to: BTreeMap<String, Secret>) -> bool {
        self.expressions.renew(org, to)
    }

    /// Makes the topics of organisations that are not there.
    async fn make_topics(&self) {
        let mut pause = PAUSES.0;
        let mut left: Vec<(&Org, &str)> = Vec::new();
        for org in self.settings.orgs.values() {
            left.extend([&org.runs_topic, &org.change_log_topic].map(|topic| (&**org, topic.as_str())));
        }
        loop {
            let mut failed = Vec::new();
            for (org, topic) in left {
                let Some(writer) = self.writers.get(&org.cluster) else {
                    continue;
                };
                if let Err(error) = make_topic(&writer.connection(), org, topic).await {
                    tracing::warn!(org = org.id, topic, %error, "the organisation's topic cannot be made yet");
                    failed.push((org, topic));
                }
            }
            if failed.is_empty() {
                return;
            }
            left = failed;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// An action of an organisation: its configuration's, or one made by the API.
    fn action(&self, org: &Org, identifier: &str) -> Result<Action, Error> {
        if let Some(action) = org.actions.get(identifier) {
            return Ok(Action::clone(action));
        }
        self.store.known()?;
        let held = self.store.action(&org.id, identifier);
        held.map(|held| held.value)
            .ok_or_else(|| Error::NotFound(format!("no action is {identifier:?}")))
    }

    /// An organisation's automations; of two with one identifier that of the configuration.
    fn automations(&self, org: &Org) -> Vec<Action> {
        let is = |action: &Action| matches!(action.trigger, Trigger::Automation { .. });
        let own = org.actions.values().filter(|action| is(action));
        let mut all: Vec<Action> = own.map(|action| Action::clone(action)).collect();
        for action in self.store.automations(&org.id) {
            if !org.actions.contains_key(&action.identifier) {
                all.push(Action::clone(&action));
            }
        }
        all
    }
}

async fn make_topic(
    connection: &Connection,
    org: &Org,
    topic: &str,
) -> Result<(), crate::kafka::connection::Error> {
    use crate::kafka::connection::Error;
    let (asked, name) = (connection.clone(), topic.to_owned());
    let found = tokio::task::spawn_blocking(move || topics::find(&asked, &name)).await;
    match found.map_err(|error| Error::Kafka(error.to_string()))? {
        Ok(_) => return Ok(()),
        Err(Error::UnknownTopic(_)) => {}
        Err(error) => return Err(error),
    }
    let replicas = org.topics.replication_factor;
    topics::create(connection, topic, Some(org.topics.partitions), replicas).await?;
    tracing::info!(topic, org = org.id, "created the organisation's topic");
    Ok(())
}
