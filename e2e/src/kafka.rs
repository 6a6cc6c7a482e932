//! A real Apache Kafka: KRaft, one node or several, on loopback.

mod batches;
mod node;
mod read_back;
mod secured;
mod tools;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rskafka::BackoffConfig;
use rskafka::client::{Client, ClientBuilder};
use tokio::sync::OnceCell;

pub use batches::Batch;
pub use node::Node;
pub use read_back::Record;
pub use secured::{Door, Secured};

use crate::{parts, scenario, wait};

/// How a cluster is set up.
#[derive(Debug, Clone)]
pub struct Setup {
    /// How many brokers; the first is the controller as well.
    pub nodes: usize,
    /// Broker properties that replace or add to the harness's own.
    pub properties: Vec<(String, String)>,
    /// Adds a SASL/PLAIN listener with these users (name, password), and ACLs without which they may do
    /// nothing. The harness's own plaintext listener stays, and may do everything.
    pub users: Vec<(String, String)>,
    /// Adds a listener that advertises another port than it has: whoever stands between the brokers and their
    /// clients listens there ([`Node::link`]).
    pub linked: bool,
    /// The same for the listener that the brokers fetch from one another through ([`Node::relay`]).
    pub relayed: bool,
    /// Adds the listeners of [`Door`]; who comes in by them may do everything.
    pub secured: Option<Secured>,
    /// Further arguments of the brokers' Java virtual machines. By default they compile once and quickly, which is most of what a
    /// broker does that lives for a test; who measures one takes that away.
    pub jvm: Vec<String>,
    /// The CPUs that the brokers may run on; empty: all.
    pub cpus: Vec<usize>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            nodes: 1,
            properties: Vec::new(),
            users: Vec::new(),
            linked: false,
            relayed: false,
            secured: None,
            jvm: vec!["-XX:TieredStopAtLevel=1".to_owned()],
            cpus: Vec::new(),
        }
    }
}

impl Setup {
    /// With a broker property.
    #[must_use]
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A running cluster. Dropping it kills its brokers.
#[derive(Debug)]
pub struct Kafka {
    dir: PathBuf,
    nodes: Vec<Node>,
}

impl Kafka {
    /// Formats and starts a cluster below `dir`, and waits until every broker takes part in it.
    ///
    /// # Errors
    /// When a part is missing or a broker does not come up; the ends of the logs are in the error.
    pub async fn start(dir: &Path, setup: &Setup) -> Result<Self> {
        let mut cluster = Self::plan(dir, setup).await?;
        cluster.launch().await?;
        Ok(cluster)
    }

    /// Formats a cluster below `dir`; [`Self::launch`] starts it.
    ///
    /// # Errors
    /// When a part is missing.
    pub async fn plan(dir: &Path, setup: &Setup) -> Result<Self> {
        let dir = dir.join("kafka");
        std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        let cluster = Self {
            nodes: Node::plan(&dir, setup)?,
            dir,
        };
        let scram = setup.secured.as_ref().map(Secured::scram);
        tools::format(&cluster.dir, &cluster.nodes, &scram.unwrap_or_default()).await?;
        Ok(cluster)
    }

    /// Starts it, and waits until every broker takes part in it.
    ///
    /// # Errors
    /// When a broker does not come up; the ends of the logs are in the error.
    pub async fn launch(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            node.launch()?;
        }
        self.ready().await
    }

    /// `host:port` of every broker, comma-separated.
    pub fn bootstrap(&self) -> String {
        self.nodes.iter().map(Node::address).collect::<Vec<_>>().join(",")
    }

    /// `host:port` of every broker's SASL listener, comma-separated.
    pub fn sasl_bootstrap(&self) -> String {
        self.nodes
            .iter()
            .filter_map(Node::sasl_address)
            .collect::<Vec<_>>()
            .join(",")
    }

    /// `host:port` of every broker's listener of [`Setup::secured`], comma-separated.
    pub fn door(&self, door: Door) -> String {
        let addresses = self.nodes.iter().filter_map(|node| node.door(door));
        addresses.collect::<Vec<_>>().join(",")
    }

    /// The two ports of every broker's [`Node::link`], by broker.
    pub fn links(&self) -> Vec<(u16, u16)> {
        self.nodes.iter().filter_map(Node::link).collect()
    }

    /// The two ports of every broker's [`Node::relay`], by broker.
    pub fn relays(&self) -> Vec<(u16, u16)> {
        self.nodes.iter().filter_map(Node::relay).collect()
    }

    /// One broker; `id` counts from 1.
    ///
    /// # Errors
    /// When there is no such broker.
    pub fn node(&mut self, id: usize) -> Result<&mut Node> {
        id.checked_sub(1)
            .and_then(|i| self.nodes.get_mut(i))
            .with_context(|| format!("no broker {id}"))
    }

    /// Waits until every broker answers, and takes replicas.
    ///
    /// # Errors
    /// When one has ended or does not answer in time.
    pub async fn ready(&mut self) -> Result<()> {
        let count = i16::try_from(self.nodes.len())?;
        for node in &mut self.nodes {
            node.ready().await?;
        }
        // A broker that answers may still be fenced; a topic with a replica on each needs all of them.
        if count > 1 {
            self.create_replicated("harness-ready", 1, count).await?;
        }
        Ok(())
    }

    /// Creates a topic with one replica.
    ///
    /// # Errors
    /// When Kafka refuses.
    pub async fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        self.create_replicated(name, partitions, 1).await
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// When Kafka refuses.
    pub async fn create_replicated(&self, name: &str, partitions: i32, replicas: i16) -> Result<()> {
        let work = async {
            let client = self.client().await?;
            client
                .controller_client()?
                .create_topic(name, partitions, replicas, 10_000)
                .await?;
            // The broker that is asked next may hear of the topic later than the one that created it.
            self.partitions(&client, name).await
        };
        let made = tokio::time::timeout(Duration::from_secs(30), work).await;
        made.map_err(|_| anyhow!("it took too long"))
            .flatten()
            .map(|_| ())
            .with_context(|| format!("create topic {name}"))
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// When Kafka refuses.
    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        self.client()
            .await?
            .controller_client()?
            .delete_topic(name, 10_000)
            .await?;
        Ok(())
    }

    /// The names of all topics.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn topics(&self) -> Result<Vec<String>> {
        let listed = tokio::time::timeout(Duration::from_secs(20), async {
            Ok::<_, anyhow::Error>(self.client().await?.list_topics().await?)
        });
        Ok(listed
            .await
            .map_err(|_| anyhow!("list topics: it took too long"))??
            .into_iter()
            .map(|t| t.name)
            .collect())
    }

    /// How many bytes the first broker has written for partition 0 of a topic, and the codec of the first batch
    /// (`none`, `gzip`, `snappy`, `lz4`, `zstd`: the low bits of the attributes, bytes 21 and 22 of a batch of
    /// format 2, <https://kafka.apache.org/documentation/#recordbatch>).
    ///
    /// # Errors
    /// When it has no such partition, or nothing in it.
    pub fn log_of(&self, topic: &str) -> Result<(usize, &'static str)> {
        let log = self.segment(topic, 0)?;
        let attributes = log.get(22).context("the log is empty")?;
        let codec = ["none", "gzip", "snappy", "lz4", "zstd"].get(usize::from(attributes & 7));
        Ok((log.len(), codec.context("no such codec")?))
    }

    /// The id of the idempotent producer that wrote the first batch of a partition (bytes 43 to 50 of it); -1 is
    /// one that is not idempotent.
    ///
    /// # Errors
    /// When the first broker has no such partition, or nothing in it.
    pub fn producer_of(&self, topic: &str, partition: i32) -> Result<i64> {
        let log = self.segment(topic, partition)?;
        let id = log.get(43..51).context("the log is empty")?;
        Ok(i64::from_be_bytes(id.try_into()?))
    }

    /// The first segment of a partition on the first broker.
    fn segment(&self, topic: &str, partition: i32) -> Result<Vec<u8>> {
        let path = format!("broker-1/{topic}-{partition}/00000000000000000000.log");
        let segment = self.dir.join(path);
        std::fs::read(&segment).with_context(|| format!("read {}", segment.display()))
    }

    async fn client(&self) -> Result<Client> {
        connect(
            self.nodes.iter().map(Node::address).collect(),
            Duration::from_secs(20),
        )
        .await
    }

    async fn partitions(&self, client: &Client, topic: &str) -> Result<Vec<i32>> {
        wait::until(
            &format!("topic {topic} is known"),
            Duration::from_secs(15),
            async || {
                let topics = client.list_topics().await?;
                let found = topics.into_iter().find(|t| t.name == topic);
                Ok(found
                    .context("it is not listed")?
                    .partitions
                    .into_iter()
                    .collect())
            },
        )
        .await
    }
}

/// An rskafka client that gives up: by itself it would retry for ever.
async fn connect(brokers: Vec<String>, limit: Duration) -> Result<Client> {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(50),
        max_backoff: Duration::from_millis(500),
        deadline: Some(limit),
        ..BackoffConfig::default()
    };
    let building = ClientBuilder::new(brokers).backoff_config(backoff).build();
    Ok(tokio::time::timeout(limit, building)
        .await
        .context("connect to Kafka")??)
}

/// The one-node cluster that this process's scenarios share: default properties, `auto.create.topics.enable`
/// on. It ends with the process.
///
/// # Errors
/// When it cannot be started.
pub async fn shared() -> Result<&'static Kafka> {
    static SHARED: OnceCell<Kafka> = OnceCell::const_new();
    SHARED
        .get_or_try_init(async || {
            let dir = parts::root().join(format!("target/e2e/shared-{}", std::process::id()));
            let kafka = Kafka::start(&dir, &Setup::default()).await?;
            let pids = kafka.nodes.iter().filter_map(Node::pid).collect();
            at_exit(dir, pids);
            Ok(kafka)
        })
        .await
}

/// What is left to do when the process ends: statics are not dropped.
static LEFT: Mutex<Option<(PathBuf, Vec<u32>)>> = Mutex::new(None);

#[allow(unsafe_code, reason = "atexit has no safe form")]
fn at_exit(dir: PathBuf, pids: Vec<u32>) {
    extern "C" fn clean_up() {
        let left = LEFT.lock().ok().and_then(|mut left| left.take());
        let Some((dir, pids)) = left else { return };
        for pid in pids {
            // Ours, and not waited for, so nobody else's.
            kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap_or_default();
        }
        if scenario::any_failed() {
            eprintln!("kept: {}", dir.display());
        } else {
            std::fs::remove_dir_all(dir).unwrap_or_default();
        }
    }
    if let Ok(mut left) = LEFT.lock() {
        *left = Some((dir, pids));
        // SAFETY: the function is `extern "C"`, takes nothing and does not unwind.
        unsafe { nix::libc::atexit(clean_up) };
    }
}
