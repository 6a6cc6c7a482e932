//! Which Kafka a command means: `--brokers`, or a cluster of a configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Environment, Failure};
use crate::config::{self, Cluster, Config, Listener, Loaded, Secret};
use crate::kafka::connection::Connection;
use crate::kafka::properties;
use crate::kerberos;

/// The configuration that is used if it is there and nothing else is said.
const DEFAULT_CONFIG: &str = "sluice.yaml";
const DEFAULT_BROKER: &str = "127.0.0.1:9092";

#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Arguments {
    /// Kafka's brokers, as host:port,host:port [default: those of the configuration, or 127.0.0.1:9092]
    #[arg(long, visible_alias = "bootstrap-servers", value_name = "BROKERS", conflicts_with_all = ["config", "cluster"])]
    brokers: Option<String>,
    /// The sidecar's configuration [default: sluice.yaml, if it is there]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A cluster of the configuration [default: its default_cluster]
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// A librdkafka property; wins over the configuration's
    #[arg(short = 'X', value_name = "NAME=VALUE", value_parser = property)]
    properties: Vec<(String, String)>,
}

/// A Kafka to talk to.
pub(super) struct Target {
    pub(super) connection: Connection,
    /// The admin listener of the sidecar whose dev broker this is.
    pub(super) dev_broker: Option<Listener>,
    /// Which directions the configuration leaves open, where there is one.
    open: Option<Open>,
}

struct Open {
    cluster: String,
    produces: bool,
    consumes: bool,
}

impl Target {
    /// The connection, to write records through.
    pub(super) fn for_writing(self) -> Result<Connection, Failure> {
        match &self.open {
            Some(Open {
                cluster,
                produces: false,
                ..
            }) => Err(Failure::Other(format!(
                "cluster {cluster:?} takes no records: its producer.enabled is false"
            ))),
            _ => Ok(self.connection),
        }
    }

    /// The connection, to read records through.
    pub(super) fn for_reading(self) -> Result<Connection, Failure> {
        match &self.open {
            Some(Open {
                cluster,
                consumes: false,
                ..
            }) => Err(Failure::Other(format!(
                "cluster {cluster:?} is not to be read: its consumer.enabled is false"
            ))),
            _ => Ok(self.connection),
        }
    }
}

/// `NAME=VALUE`, split and checked by librdkafka.
fn property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    if properties::canonical(name) == "bootstrap.servers" {
        return Err("use --brokers".to_owned());
    }
    properties::check(name, value).map_err(|why| format!("{name}: {why}"))?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Arguments {
    /// Finds the Kafka that is meant.
    pub(super) fn resolve(&self, environment: Environment) -> Result<Target, Failure> {
        let mut target = self.unadorned(environment)?;
        let properties = &mut target.connection.properties;
        for (name, value) in &self.properties {
            properties.insert(properties::canonical(name).to_owned(), Secret::new(value));
        }
        Ok(target)
    }

    fn unadorned(&self, environment: Environment) -> Result<Target, Failure> {
        let brokers = match (&self.brokers, &self.config) {
            (Some(brokers), _) => brokers,
            (None, Some(file)) => return self.configured(file, environment),
            (None, None) if Path::new(DEFAULT_CONFIG).exists() => {
                return self.configured(Path::new(DEFAULT_CONFIG), environment);
            }
            (None, None) if self.cluster.is_some() => {
                return Err(Failure::Other(format!(
                    "--cluster needs a configuration: there is no {DEFAULT_CONFIG} here, and no --config"
                )));
            }
            (None, None) => DEFAULT_BROKER,
        };
        Ok(Target {
            connection: Connection {
                brokers: brokers
                    .split(',')
                    .map(|broker| broker.trim().to_owned())
                    .collect(),
                properties: BTreeMap::new(),
                token: None,
                delegation: None,
            },
            dev_broker: None,
            open: None,
        })
    }

    fn configured(&self, file: &Path, environment: Environment) -> Result<Target, Failure> {
        let config = load(file, environment)?.config;
        let name = self.cluster.as_ref().or(config.default_cluster.as_ref());
        let known = || config.clusters.keys().cloned().collect::<Vec<_>>().join(", ");
        let Some(name) = name else {
            return Err(Failure::Other(format!(
                "{} has several clusters and no default: choose by --cluster from {}",
                file.display(),
                known()
            )));
        };
        let Some(cluster) = config.clusters.get(name) else {
            return Err(Failure::Other(format!(
                "{} has no cluster {name}; it has {}",
                file.display(),
                known()
            )));
        };
        if cluster.callers.is_some() {
            return Err(Failure::Other(format!(
                "cluster {name:?} is written with its callers' own tokens, and a command has none"
            )));
        }
        Ok(Target {
            connection: connection(&config, cluster),
            open: Some(Open {
                cluster: name.clone(),
                produces: cluster.produces,
                consumes: cluster.consumes,
            }),
            dev_broker: on_dev_broker(&config, &cluster.bootstrap_servers)
                .then(|| config.listeners.admin.clone()),
        })
    }
}

/// How a cluster of a configuration is reached.
pub(super) fn connection(config: &Config, cluster: &Cluster) -> Connection {
    let mut connection = Connection::of(cluster);
    if on_dev_broker(config, &cluster.bootstrap_servers) {
        // The mock does not wake a waiting fetch when a record arrives.
        let wait = connection.properties.entry("fetch.wait.max.ms".to_owned());
        wait.or_insert_with(|| Secret::new("10"));
    }
    connection
}

/// Reads a configuration with the environment laid over.
pub(super) fn load(file: &Path, environment: Environment) -> Result<Loaded, Failure> {
    let name = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::Config(vec![format!("{name}: cannot be read: {error}")]))?;
    let mut loaded = config::load(&text, environment.into_iter())
        .map_err(|problems| Failure::of_config(&name.to_string(), &problems))?;
    loaded.config.source = loaded.config.source.of_file(file);
    kerberos::prepare(&loaded.config);
    Ok(loaded)
}

/// Whether one of `servers` is the configuration's own dev broker.
fn on_dev_broker(config: &Config, servers: &[String]) -> bool {
    let Some(dev) = &config.dev_broker else {
        return false;
    };
    let port = dev.address.port();
    let names = [
        dev.address.to_string(),
        format!("localhost:{port}"),
        format!("127.0.0.1:{port}"),
    ];
    servers.iter().any(|server| names.contains(server))
}
