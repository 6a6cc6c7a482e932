//! Envoy's configuration for a test: the shipped `envoy.yaml` with the test's own routes.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::parts;

/// What a test sets. The rest, local replies included, is the shipped `envoy.yaml`'s.
#[derive(Debug, Clone)]
pub struct Config {
    /// The filter's configuration.
    pub filter: Value,
    /// Routes of the one virtual host, as [`produce`] and [`forward`] make them.
    pub routes: Vec<Value>,
    /// HTTP filters that come before the filter.
    pub before: Vec<Value>,
    /// Upstream clusters on loopback, by name.
    pub upstreams: Vec<(String, u16)>,
    /// The sidecar's stream socket, relative to the workspace's root.
    pub stream: PathBuf,
    /// The port of the sidecar's REST face.
    pub data: u16,
    /// The Unix socket of its REST face, relative to the workspace's root, where it has one instead of the port.
    pub data_socket: Option<PathBuf>,
    /// Another filter than the shipped one; for tests of what Envoy does with a bad one.
    pub wasm: Option<PathBuf>,
    /// Leaves the filter out of the chain.
    pub without_filter: bool,
    /// `per_connection_buffer_limit_bytes`, if not the shipped one.
    pub buffer_limit: Option<u32>,
    /// Lets another process take over ([`super::Envoy::hot_restart`]).
    pub hot_restart: bool,
    /// Worker threads.
    pub concurrency: usize,
    /// The CPUs that Envoy may run on; empty: all.
    pub cpus: Vec<usize>,
}

/// A route that produces: the filter's settings for it, and the closed door behind the filter.
pub fn produce(prefix: &str, settings: Value) -> Value {
    json!({
        "name": prefix,
        "match": {"prefix": prefix},
        "metadata": {"filter_metadata": {"sluice": settings}},
        "direct_response": {"status": 503},
    })
}

/// The shipped route to what is read.
///
/// # Errors
/// `envoy.yaml` has none.
pub fn reads() -> Result<Value> {
    route("reads")
}

/// The shipped route to WebSockets.
///
/// # Errors
/// `envoy.yaml` has none.
pub fn sockets() -> Result<Value> {
    route("sockets")
}

/// The shipped route to actions, runs and entities.
///
/// # Errors
/// `envoy.yaml` has none.
pub fn actions() -> Result<Value> {
    route("actions")
}

/// The shipped route of this name.
fn route(name: &str) -> Result<Value> {
    let mut config = shipped()?;
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let hosts = at(&mut config, &format!("{manager}/route_config/virtual_hosts"))?;
    let routes = hosts.as_array().into_iter().flatten();
    let mut routes = routes.filter_map(|host| host.get("routes")?.as_array()).flatten();
    let found = routes.find(|route| route.get("name") == Some(&json!(name)));
    found
        .cloned()
        .with_context(|| format!("envoy.yaml: no route named {name}"))
}

/// A route to an upstream, with the filter's settings for it.
pub fn forward(prefix: &str, settings: Value, upstream: &str) -> Value {
    json!({
        "name": prefix,
        "match": {"prefix": prefix},
        "metadata": {"filter_metadata": {"sluice": settings}},
        "route": {"cluster": upstream},
    })
}

/// The same settings with `transport: http`.
pub fn by_call(mut settings: Value) -> Value {
    if let Some(fields) = settings.as_object_mut() {
        fields.insert("transport".to_owned(), json!("http"));
        fields.insert("sidecar_cluster".to_owned(), json!("sluice_data"));
    }
    settings
}

impl Config {
    /// The shipped configuration, for a sidecar at `stream` and `data`, with one worker and no routes.
    pub fn new(stream: &Path, data: u16) -> Self {
        Self {
            filter: json!({}),
            routes: Vec::new(),
            before: Vec::new(),
            upstreams: Vec::new(),
            stream: stream.to_owned(),
            data,
            data_socket: None,
            wasm: None,
            without_filter: false,
            buffer_limit: None,
            hot_restart: false,
            concurrency: 1,
            cpus: Vec::new(),
        }
    }

    /// The bootstrap, which reads the listener from a file.
    pub(super) fn bootstrap(&self, admin: u16, listeners: &Path) -> Result<Value> {
        let mut config = shipped()?;
        set(
            &mut config,
            "/admin/address/socket_address/port_value",
            json!(admin),
        )?;
        let statics = at(&mut config, "/static_resources")?
            .as_object_mut()
            .context("no object")?;
        statics.remove("listeners");
        let address = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address";
        for cluster in at(&mut config, "/static_resources/clusters")?
            .as_array_mut()
            .context("no list")?
        {
            match cluster.get("name").and_then(Value::as_str) {
                Some("sluice") => set(cluster, &format!("{address}/pipe/path"), json!(self.stream))?,
                Some("sluice_data" | "sluice_reads") => match &self.data_socket {
                    Some(socket) => set(cluster, address, json!({"pipe": {"path": socket}}))?,
                    None => set(
                        cluster,
                        &format!("{address}/socket_address/port_value"),
                        json!(self.data),
                    )?,
                },
                _ => {}
            }
        }
        let clusters = at(&mut config, "/static_resources/clusters")?
            .as_array_mut()
            .context("no list")?;
        clusters.extend(self.upstreams.iter().map(|(name, port)| upstream(name, *port)));
        let root = config.as_object_mut().context("no object")?;
        root.insert("node".to_owned(), json!({"id": "e2e", "cluster": "e2e"}));
        let source = json!({"path_config_source": {"path": listeners}, "resource_api_version": "V3"});
        root.insert("dynamic_resources".to_owned(), json!({"lds_config": source}));
        Ok(config)
    }

    /// The listener, as Envoy reads it from a file.
    pub(super) fn listeners(&self, port: u16) -> Result<Value> {
        let mut config = shipped()?;
        let mut listener = at(&mut config, "/static_resources/listeners/0")?.take();
        set(&mut listener, "/address/socket_address/port_value", json!(port))?;
        if let Some(limit) = self.buffer_limit {
            set(&mut listener, "/per_connection_buffer_limit_bytes", json!(limit))?;
        }
        let manager = at(&mut listener, "/filter_chains/0/filters/0/typed_config")?;
        let host = json!({"name": "test", "domains": ["*"], "routes": self.routes});
        set(manager, "/route_config/virtual_hosts", json!([host]))?;
        let filters = at(manager, "/http_filters")?.as_array_mut().context("no list")?;
        if self.without_filter {
            filters.retain(|filter| filter.get("name") != Some(&json!("sluice")));
            return Ok(resources(listener));
        }
        let ours = filters
            .iter_mut()
            .find(|filter| filter.get("name") == Some(&json!("sluice")));
        let plugin = at(ours.context("no filter named sluice")?, "/typed_config/config")?;
        let wasm = self.wasm.clone().map_or_else(parts::filter, Ok)?;
        set(plugin, "/vm_config/code/local/filename", json!(wasm))?;
        set(plugin, "/configuration/value", self.filter.clone())?;
        filters.splice(0..0, self.before.iter().cloned());
        Ok(resources(listener))
    }
}

fn resources(mut listener: Value) -> Value {
    if let Some(object) = listener.as_object_mut() {
        object.insert(
            "@type".to_owned(),
            json!("type.googleapis.com/envoy.config.listener.v3.Listener"),
        );
    }
    json!({"resources": [listener]})
}

fn upstream(name: &str, port: u16) -> Value {
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    json!({
        "name": name,
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    })
}

/// The repository's `envoy.yaml`.
fn shipped() -> Result<Value> {
    let path = parts::root().join("envoy.yaml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("parse {}", path.display()))
}

fn at<'a>(value: &'a mut Value, pointer: &str) -> Result<&'a mut Value> {
    value
        .pointer_mut(pointer)
        .with_context(|| format!("envoy.yaml: nothing at {pointer}"))
}

fn set(value: &mut Value, pointer: &str, new: Value) -> Result<()> {
    *at(value, pointer)? = new;
    Ok(())
}
