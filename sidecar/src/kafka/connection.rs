//! How the commands reach Kafka, and what they say when they do not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rdkafka::ClientConfig;
use rdkafka::client::{Client, ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataTopic};
use rdkafka::types::RDKafkaRespErr;

use super::client::{self, Role};
use super::properties::{self, Kind};
use super::relay::{self, Relay};
use super::trouble::Trouble;
use super::{native, probe};
use crate::config::{BearerToken, Cluster, DelegationToken, Secret};

/// How long a command waits for a broker's answer.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long a topic may take to become known after its creation.
const PROPAGATION: Duration = Duration::from_millis(500);

/// Where Kafka is, and with which properties.
#[derive(Debug, Clone)]
pub struct Connection {
    /// `host:port` of each bootstrap broker.
    pub brokers: Vec<String>,
    /// librdkafka properties.
    pub properties: BTreeMap<String, Secret>,
    /// The bearer token of SASL/OAUTHBEARER.
    pub token: Option<BearerToken>,
    /// The delegation token.
    pub delegation: Option<DelegationToken>,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No broker answers.
    #[error("cannot reach Kafka at {brokers} within {} s{}", within.as_secs(), because(trouble.as_ref()))]
    Unreachable {
        /// The brokers, comma-separated.
        brokers: String,
        /// How long they were waited for.
        within: Duration,
        /// What tells most about why.
        trouble: Option<Trouble>,
    },
    /// Waiting does not help: somebody must change something.
    #[error("cannot reach Kafka at {brokers}: {trouble}")]
    Trouble {
        /// The brokers, comma-separated.
        brokers: String,
        /// What is wrong.
        trouble: Trouble,
    },
    /// The cluster has no such topic.
    #[error("no topic is named {0}")]
    UnknownTopic(String),
    /// The topic has no such partition.
    #[error("topic {topic} has the partitions 0 to {last}, and no {partition}")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition that was asked for.
        partition: i32,
        /// The topic's last one.
        last: i32,
    },
    /// The broker has no CreateTopics, or does not answer it.
    #[error(
        "{0} does not answer CreateTopics; Sluice's dev broker has none: give its configuration with --config"
    )]
    NoCreateTopics(String),
    /// Anything else.
    #[error("{0}")]
    Kafka(String),
}

impl From<KafkaError> for Error {
    fn from(error: KafkaError) -> Self {
        Self::Kafka(match error.rdkafka_error_code() {
            Some(code) => code.to_string(),
            None => error.to_string(),
        })
    }
}

fn because(trouble: Option<&Trouble>) -> String {
    trouble.map_or_else(String::new, |trouble| format!(": {trouble}"))
}

/// Keeps librdkafka's complaints in the log, and its tokens fresh. Outlives the client that it is of.
#[derive(Default, Clone)]
pub(super) struct Context {
    token: Option<BearerToken>,
    relay: Option<Arc<Relay>>,
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, _level: RDKafkaLogLevel, fac: &str, message: &str) {
        tracing::debug!(target: "librdkafka", "{fac}: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let token = self.token.as_ref().ok_or("there is no token")?;
        let shown = token.get(SystemTime::now(), false)?;
        Ok(OAuthToken {
            token: shown.token.expose().to_owned(),
            principal_name: shown.principal,
            lifetime_ms: shown.until_ms,
        })
    }
}

impl ConsumerContext for Context {}

impl Connection {
    /// To `cluster`, as its configuration says.
    pub fn of(cluster: &Cluster) -> Self {
        Self {
            brokers: cluster.bootstrap_servers.clone(),
            properties: cluster.properties.clone(),
            token: cluster.token.clone(),
            delegation: cluster.delegation.clone(),
        }
    }

    /// The configuration of a client that is no `other` kind: properties of the other kind mean nothing to it.
    pub(super) fn client_config(&self, other: Kind) -> ClientConfig {
        let config = self.whole_config(other);
        match &self.delegation {
            Some(_) => relay::client_config(&config),
            None => config,
        }
    }

    /// The same with what a relay does in librdkafka's stead.
    pub(super) fn whole_config(&self, other: Kind) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.brokers());
        let role = match other {
            Kind::Consumer => Role::Producer,
            Kind::Producer | Kind::Any => Role::Consumer,
        };
        config.set("client.id", client::default_id(role));
        config.set("allow.auto.create.topics", "false");
        config.set_log_level(RDKafkaLogLevel::Warning);
        for (name, value) in &self.properties {
            if properties::kind(name) != other {
                config.set(name, value.expose());
            }
        }
        config
    }

    pub(super) fn brokers(&self) -> String {
        self.brokers.join(",")
    }

    /// A client that asks about topics and offsets. Blocks until the cluster is there.
    pub(super) fn asker(&self) -> Result<BaseConsumer<Context>, Error> {
        probe::reach(self, PATIENCE)?;
        let config = self.client_config(Kind::Producer);
        let context = self.context(Kind::Producer)?;
        let client: BaseConsumer<Context> = config.create_with_context(context.clone())?;
        self.log_in(client.client(), &context)?;
        Ok(client)
    }

    /// The context of a client that [`Self::client_config`] is for.
    pub(super) fn context(&self, other: Kind) -> Result<Context, Error> {
        let relay = |token| Relay::new(&self.whole_config(other), token, None);
        let relay = self.delegation.as_ref().map(relay).transpose();
        Ok(Context {
            token: self.token.clone(),
            relay: relay.map_err(Error::Kafka)?.map(Arc::new),
        })
    }

    /// Gives a new client what it logs in with: its token, since it would ask for one only where somebody polls, or its
    /// brokers by way of the relay.
    pub(super) fn log_in<C: ClientContext>(
        &self,
        client: &Client<C>,
        context: &Context,
    ) -> Result<(), Error> {
        if let Some(relay) = &context.relay {
            relay.attach(client.native_ptr()).map_err(Error::Kafka)?;
        }
        if let Some(token) = &self.token {
            native::show(
                client.native_ptr(),
                token.get(SystemTime::now(), false),
                &token.extensions,
            );
        }
        Ok(())
    }

    /// A client that reads what it is assigned. It joins no group and commits nothing, but it has a group's name:
    /// librdkafka assigns nothing without one. So it asks who coordinates that group, which makes a new cluster
    /// create `__consumer_offsets`. Blocks until the cluster is there.
    pub(super) fn reader(&self) -> Result<BaseConsumer<Context>, Error> {
        probe::reach(self, PATIENCE)?;
        let mut config = self.client_config(Kind::Producer);
        config.set("group.id", "sluice-cli");
        config.set("enable.auto.commit", "false");
        config.set("enable.auto.offset.store", "false");
        config.set("auto.offset.reset", "earliest");
        let context = self.context(Kind::Producer)?;
        let client: BaseConsumer<Context> = config.create_with_context(context.clone())?;
        self.log_in(client.client(), &context)?;
        Ok(client)
    }

    /// Connects, and lets go again.
    ///
    /// # Errors
    /// What is wrong with the way to the cluster.
    pub(super) async fn reach(&self) -> Result<(), Error> {
        let this = self.clone();
        let reached = tokio::task::spawn_blocking(move || probe::reach(&this, PATIENCE).map(drop)).await;
        reached.map_err(|error| Error::Kafka(error.to_string()))?
    }

    /// What the cluster says about itself and its topics, or about one of them.
    pub(super) fn metadata(
        &self,
        client: &BaseConsumer<Context>,
        topic: Option<&str>,
    ) -> Result<Metadata, Error> {
        client
            .fetch_metadata(topic, PATIENCE)
            .map_err(|error| match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::OperationTimedOut) => {
                    Error::Unreachable {
                        brokers: self.brokers(),
                        within: PATIENCE,
                        trouble: None,
                    }
                }
                _ => error.into(),
            })
    }

    /// What the cluster says about `topic`, which may have been created a moment ago.
    pub(super) fn topic<T>(
        &self,
        client: &BaseConsumer<Context>,
        topic: &str,
        read: impl Fn(&MetadataTopic) -> T,
    ) -> Result<T, Error> {
        let started = std::time::Instant::now();
        loop {
            let metadata = self.metadata(client, Some(topic))?;
            let found = metadata.topics().iter().find(|found| found.name() == topic);
            match found.map(|found| (found, found.error())) {
                Some((found, None)) if !found.partitions().is_empty() => return Ok(read(found)),
                Some((_, Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED))) => {
                    return Err(Error::Kafka(format!("not authorised on topic {topic}")));
                }
                _ if started.elapsed() > PROPAGATION => return Err(Error::UnknownTopic(topic.to_owned())),
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}
