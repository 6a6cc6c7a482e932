//! The control plane: subscriptions, Kafka clusters and deployments that are made by the admin API, beside those of the
//! configuration. `docs/subscriptions-api.md` is the reference.
//!
//! [`Control`] keeps them in a [`Registry`], which every sidecar with the same `state` shares, and says what is to run.

pub mod api;
mod copartition;
mod discover;
pub mod item;
pub mod manifest;
mod redact;
pub mod services;
mod together;
mod view;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::watch;

use self::item::Item;
use self::view::{Fixed, View};
use crate::config::{Address, Cluster, Config};
use crate::kafka::log::Log;
use crate::metrics::StateMetrics;
use crate::registry::{Phase, Registry};
use crate::subscriptions::connect::{Directory, Handler};
use crate::subscriptions::running::Desired;
use crate::subscriptions::sink::Target;
use crate::subscriptions::sink::egress::Author;

/// What was made, and what is to run.
pub struct Control {
    fixed: Fixed,
    registry: Option<Arc<Registry<Item>>>,
    /// The cluster of the registry's topic.
    registry_cluster: Option<String>,
    view: RwLock<Arc<View>>,
    refreshing: Mutex<()>,
    desired: watch::Sender<Desired>,
    /// Clusters of the configuration whose certificates or secrets have changed since.
    renewed: Mutex<BTreeMap<String, Arc<Cluster>>>,
    /// Whether the admin listener may be reached by anybody who shows no token.
    open: bool,
}

impl Control {
    /// The control plane of a configuration, which counts in `metrics`. Connects to nothing: what the configuration has is to
    /// run at once.
    pub fn new(config: &Config, metrics: StateMetrics) -> Arc<Self> {
        let registry = config.state.as_ref().and_then(|state| {
            let cluster = config.clusters.get(&state.cluster)?;
            Some(Registry::new(Log::new(cluster, state.log.clone()), metrics))
        });
        let fixed = Fixed {
            clusters: config.clusters.clone(),
            subscriptions: config.subscriptions.clone(),
            held_topic: config.held.topic.clone(),
            egress: Arc::clone(&config.egress),
        };
        let view = fixed.view(None, &View::default());
        let admin = &config.listeners.admin;
        let elsewhere = matches!(admin.address, Address::Tcp(address) if !address.ip().is_loopback());
        Arc::new(Self {
            desired: watch::Sender::new(fixed.desired(&view)),
            view: RwLock::new(Arc::new(view)),
            refreshing: Mutex::default(),
            renewed: Mutex::default(),
            fixed,
            registry,
            registry_cluster: config.state.as_ref().map(|state| state.cluster.clone()),
            open: elsewhere && admin.tokens.is_empty(),
        })
    }

    /// What is to run, whenever it changes.
    pub fn desired(&self) -> watch::Receiver<Desired> {
        self.desired.subscribe()
    }

    /// A cluster of the configuration has other certificates or secrets now: what runs goes over to them, and so does the state,
    /// if it is there.
    ///
    /// # Errors
    /// Why the state stays with the old ones: the cluster can be reached with them, and not with the new ones.
    pub async fn renew(&self, name: &str, cluster: &Cluster) -> Result<(), String> {
        self.renewed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned(), Arc::new(cluster.clone()));
        self.desired
            .send_if_modified(|desired| desired.renew(name, cluster));
        match &self.registry {
            Some(registry) if self.registry_cluster.as_deref() == Some(name) => registry.renew(cluster).await,
            Some(_) | None => Ok(()),
        }
    }

    /// A cluster as it is connected to now.
    fn connected(&self, name: &str) -> Option<Arc<Cluster>> {
        self.desired.borrow().clusters.get(name).cloned()
    }

    /// Where handlers of services are.
    pub fn services(&self) -> services::Services {
        self.view().services.clone()
    }

    fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the state, and follows it, for as long as it is polled.
    pub async fn run(self: Arc<Self>) {
        let Some(registry) = self.registry.clone() else {
            return;
        };
        let follow = async {
            let mut changes = registry.changes();
            while changes.changed().await.is_ok() {
                self.refresh().await;
            }
        };
        tokio::select! {
            () = Arc::clone(&registry).run() => {}
            () = follow => {}
        }
    }

    /// Has the view say what the registry does by now.
    async fn refresh(self: &Arc<Self>) {
        let Some(registry) = self.registry.clone() else {
            return;
        };
        // Until everything was read, what runs goes on, and nothing is started that was deleted since.
        if registry.phase() == Phase::Starting {
            return;
        }
        let this = Arc::clone(self);
        let refreshed = tokio::task::spawn_blocking(move || {
            // One after the other, so that the last that is put there is the newest.
            let _one = this.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
            let list = |prefix: &str| registry.list(prefix);
            let view = Arc::new(this.fixed.view(Some(&list), &this.view()));
            *this.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&view);
            // Held until it is sent, so that no renewal in between is undone.
            let renewed = this.renewed.lock().unwrap_or_else(PoisonError::into_inner);
            let mut desired = this.fixed.desired(&view);
            for (name, cluster) in &*renewed {
                desired.renew(name, cluster);
            }
            this.desired.send_replace(desired);
        });
        if let Err(error) = refreshed.await {
            tracing::error!(%error, "what was made by the API could not be looked at");
        }
    }
}

impl Directory for Control {
    fn handler(&self, service: &str, handler: &str) -> Result<Handler, String> {
        let resolved = self.services().resolve(service, handler)?;
        let keyed = resolved.kind != manifest::Kind::Service;
        Ok(Handler {
            target: Target::handler(&resolved.uri, service, handler, keyed)?,
            raw: resolved.raw,
        })
    }

    fn author(&self, id: &str) -> Author {
        if self.fixed.subscriptions.contains_key(id) {
            Author::Config
        } else {
            Author::Api
        }
    }
}
