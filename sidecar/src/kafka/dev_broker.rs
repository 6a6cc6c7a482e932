//! A broker to try things out with, inside the sidecar: librdkafka's mock cluster of one broker.
//!
//! The mock listens on a port of the kernel's choice and says so in its metadata. A [`relay`] listens on the
//! configured port instead, and the mock is told to advertise that one. It keeps 5 MiB per partition, the newest
//! (`rdkafka_mock.c`), and has no TLS, no SASL and no CreateTopics; topics are created through
//! [`DevBroker::create_topic`]. It honours a metadata request that forbids creation; to one that does not, an
//! unknown topic is a new one of 4 partitions.

mod admin;
mod relay;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientConfig;
use rdkafka::bindings as rdsys;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::config::{self, DEV_BROKER_PARTITIONS, check_topic};

/// Groups start this long after their first member: the mock's own 3 s are long for one who tries things out.
const REBALANCE_DELAY_MS: i32 = 100;

/// Why the dev broker does not start, or does not create a topic.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The port is taken, or not ours to listen on.
    #[error("the dev broker cannot listen on {address}: {error}")]
    Listen {
        /// Where it should listen.
        address: SocketAddr,
        /// What the system says.
        error: std::io::Error,
    },
    /// librdkafka does not give a mock cluster.
    #[error("the dev broker does not start: {0}")]
    Start(String),
    /// The name is no topic's name, or the number of partitions is none.
    #[error("{0}")]
    Invalid(String),
    /// The topic is there.
    #[error("topic {0} exists")]
    Exists(String),
    /// Its partitions would not fit into memory.
    #[error("the dev broker takes {DEV_BROKER_PARTITIONS} partitions in all topics together, and has {0}")]
    Full(i64),
    /// The mock cluster refuses.
    #[error("the dev broker cannot create topic {topic}: {error}")]
    Create {
        /// The topic.
        topic: String,
        /// What the mock says.
        error: KafkaError,
    },
}

/// The running broker; dropping it stops it, and what it holds is gone.
pub struct DevBroker {
    mock: Arc<Mock>,
    address: SocketAddr,
    /// The relay and its connections end with the set.
    _relay: JoinSet<()>,
}

/// The mock cluster, which lives as long as its client.
struct Mock {
    client: BaseProducer,
    default_partitions: i32,
    /// The topics that were created here, with their partitions. Locked across a creation, so that two of them
    /// cannot both find room.
    topics: Mutex<BTreeMap<String, i32>>,
}

impl DevBroker {
    /// Has a topic, which what the sidecar itself keeps is to go to: it has no CreateTopics.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn have(&self, topic: &str, partitions: i32) -> Result<(), Error> {
        match self.mock.create_topic(topic, Some(partitions)) {
            Ok(_) | Err(Error::Exists(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Starts the broker and creates its topics.
    ///
    /// # Errors
    /// The port cannot be listened on, librdkafka gives no mock cluster, or a topic cannot be created.
    pub async fn start(config: &config::DevBroker) -> Result<Self, Error> {
        let listen = |error| Error::Listen {
            address: config.address,
            error,
        };
        let listener = TcpListener::bind(config.address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let client: BaseProducer = ClientConfig::new()
            .set("test.mock.num.brokers", "1")
            .set_log_level(RDKafkaLogLevel::Error)
            .create()
            .map_err(|error| Error::Start(error.to_string()))?;
        let target = target(&client)?;
        advertise(&client, address)?;
        let mut relay = JoinSet::new();
        relay.spawn(relay::run(listener, target));
        let mock = Arc::new(Mock {
            client,
            default_partitions: config.default_partitions,
            topics: Mutex::default(),
        });
        for (name, partitions) in &config.topics {
            mock.create_topic(name, Some(*partitions))?;
        }
        tracing::info!(%address, topics = config.topics.len(), "dev broker: records are kept in memory only");
        Ok(Self {
            mock,
            address,
            _relay: relay,
        })
    }

    /// Where it listens: the configured address with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Creates a topic with `partitions`, or as many as the configuration says, and gives their number.
    ///
    /// # Errors
    /// The name or the number is invalid, the topic exists, or there is no room for it.
    pub fn create_topic(&self, name: &str, partitions: Option<i32>) -> Result<i32, Error> {
        self.mock.create_topic(name, partitions)
    }

    /// `POST /dev-broker/topics`, for the admin listener: the broker has no CreateTopics.
    pub fn admin_routes(&self) -> axum::Router {
        admin::routes(Arc::clone(&self.mock))
    }
}

impl Mock {
    fn create_topic(&self, name: &str, partitions: Option<i32>) -> Result<i32, Error> {
        check_topic(name).map_err(Error::Invalid)?;
        let partitions = partitions.unwrap_or(self.default_partitions);
        if partitions < 1 {
            return Err(Error::Invalid(format!(
                "a topic has at least one partition, not {partitions}"
            )));
        }
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if topics.contains_key(name) {
            return Err(Error::Exists(name.to_owned()));
        }
        let have: i64 = topics.values().copied().map(i64::from).sum();
        if have + i64::from(partitions) > DEV_BROKER_PARTITIONS {
            return Err(Error::Full(have));
        }
        let create = |error| match error {
            KafkaError::MockCluster(RDKafkaErrorCode::TopicAlreadyExists) => Error::Exists(name.to_owned()),
            error => Error::Create {
                topic: name.to_owned(),
                error,
            },
        };
        let mock = self.client.client().mock_cluster();
        let mock = mock.ok_or_else(|| Error::Start("librdkafka made no mock cluster".to_owned()))?;
        mock.create_topic(name, partitions, 1).map_err(create)?;
        topics.insert(name.to_owned(), partitions);
        Ok(partitions)
    }
}

/// Where the mock really listens.
fn target(client: &BaseProducer) -> Result<SocketAddr, Error> {
    let mock = client.client().mock_cluster();
    let servers = mock.map(|mock| mock.bootstrap_servers()).unwrap_or_default();
    servers
        .parse()
        .map_err(|_| Error::Start(format!("librdkafka's mock cluster says it is at {servers:?}")))
}

/// Makes the mock tell its clients `address`; to one that listens everywhere they come over loopback.
fn advertise(client: &BaseProducer, address: SocketAddr) -> Result<(), Error> {
    let ip = match address.ip() {
        ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    let host = CString::new(ip.to_string()).map_err(|error| Error::Start(error.to_string()))?;
    set_up_mock(client, &host, address.port())
}

#[allow(unsafe_code, reason = "rdkafka has no safe form of these two calls")]
fn set_up_mock(client: &BaseProducer, host: &std::ffi::CStr, port: u16) -> Result<(), Error> {
    // SAFETY: the handle is the client's own, and the client outlives these calls; the mock copies the host.
    unsafe {
        let mock = rdsys::rd_kafka_handle_mock_cluster(client.client().native_ptr());
        if mock.is_null() {
            return Err(Error::Start("librdkafka made no mock cluster".to_owned()));
        }
        rdsys::rd_kafka_mock_group_initial_rebalance_delay_ms(mock, REBALANCE_DELAY_MS);
        rdsys::rd_kafka_mock_broker_set_host_port(mock, 1, host.as_ptr(), i32::from(port));
    }
    Ok(())
}
