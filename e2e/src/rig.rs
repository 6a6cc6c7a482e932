//! Sidecar and Envoy, wired to a Kafka.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::envoy::{Config, Envoy};
use crate::scenario::Scenario;
use crate::sidecar::Sidecar;

/// What a rig is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The sidecar's settings; the harness adds `listeners`.
    pub sidecar: Value,
    /// The filter's configuration.
    pub filter: Value,
    /// The routes.
    pub routes: Vec<Value>,
    /// HTTP filters that come before the filter.
    pub before: Vec<Value>,
    /// Upstreams by name and port.
    pub upstreams: Vec<(String, u16)>,
    /// Envoy's worker threads.
    pub concurrency: usize,
    /// Whether another Envoy can take over ([`Envoy::hot_restart`]).
    pub hot_restart: bool,
}

impl Parts {
    /// One cluster, `main`, with every topic allowed, and these routes.
    pub fn new(bootstrap: &str, routes: Vec<Value>) -> Self {
        Self {
            sidecar: json!({"clusters": {"main": {"bootstrap_servers": bootstrap, "allowed_topics": ["*"]}}}),
            filter: json!({}),
            routes,
            before: Vec::new(),
            upstreams: Vec::new(),
            concurrency: 1,
            hot_restart: false,
        }
    }

    /// With a setting of the sidecar's, `/`-separated, its parents made where they are missing.
    #[must_use]
    pub fn sidecar(mut self, path: &str, value: Value) -> Self {
        let mut place = &mut self.sidecar;
        for key in path.split('/') {
            if !place.is_object() {
                *place = json!({});
            }
            let Value::Object(map) = place else { return self };
            place = map.entry(key).or_insert(Value::Null);
        }
        *place = value;
        self
    }
}

/// A running pair.
#[derive(Debug)]
pub struct Rig {
    /// The sidecar.
    pub sidecar: Sidecar,
    /// Envoy.
    pub envoy: Envoy,
    /// What Envoy was started with, for [`Envoy::replace`].
    pub config: Config,
}

impl Rig {
    /// Starts both in the scenario's directory.
    ///
    /// # Errors
    /// When one does not come up.
    pub async fn start(scenario: &Scenario, parts: Parts) -> Result<Self> {
        let sidecar = Sidecar::start(scenario.dir(), &parts.sidecar)
            .await
            .context("sidecar")?;
        let mut config = Config::new(sidecar.stream(), sidecar.data());
        config.filter = parts.filter;
        config.routes = parts.routes;
        config.before = parts.before;
        config.upstreams = parts.upstreams;
        config.concurrency = parts.concurrency;
        config.hot_restart = parts.hot_restart;
        let envoy = Envoy::start(scenario.dir(), &config).await.context("envoy")?;
        Ok(Self {
            sidecar,
            envoy,
            config,
        })
    }
}
