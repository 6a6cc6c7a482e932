//! A sidecar and a mock cluster for a test.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::OwnedMessage;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use sluice::app::{Addresses, App, Ended};
use sluice::config::{
    Address, Cluster, Config, HeldTopic, Listener, Listeners, Profile, Secret, Source, TopicAllowlist,
};
use sluice::listeners::Bound;
use sluice::shutdown::{self, Stopper};
use sluice_proto::v1::records_client::RecordsClient;
use sluice_proto::v1::topic_fate::Result as Fated;
use sluice_proto::v1::{ErrorClass, ProduceReply, ProduceRequest, Record, TopicFate};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::http;

/// How long anything may take; only a failing test waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) type Mock = MockCluster<'static, DefaultProducerContext>;

/// A cluster of one broker with these topics.
pub(crate) fn mock(topics: &[(&str, i32)]) -> Mock {
    let mock = MockCluster::new(1).unwrap();
    for (topic, partitions) in topics {
        mock.create_topic(topic, *partitions, 1).unwrap();
    }
    mock
}

/// Has every answer of the mock take so long, while members of a group come.
///
/// A member that asks for its share (SyncGroup) once the leader has given everybody's is answered by Kafka, and refused by the mock
/// (`INVALID_REQUEST`): it joins again, and until that is over no position is taken of anybody. The leader asks for metadata
/// first, so that with slow answers it is the last, also where nobody gets much of the processor.
pub(crate) fn slow(mock: &Mock, by: Duration) {
    mock.broker_round_trip_time(-1, by).unwrap();
}

/// A configuration for the cluster in which every topic may be written.
pub(crate) fn config(bootstrap_servers: &str) -> Config {
    let here = || Listener {
        address: Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        tokens: Vec::new(),
        max_connections: 1024,
        xff_num_trusted_hops: 0,
    };
    let cluster = Cluster {
        bootstrap_servers: bootstrap_servers.split(',').map(str::to_owned).collect(),
        properties: BTreeMap::new(),
        allowed_topics: TopicAllowlist(vec!["*".to_owned()]),
        ..Cluster::default()
    };
    let profile = Profile {
        acks: None,
        idempotent: true,
        properties: BTreeMap::new(),
        max_records: 10_000,
        max_bytes: 10_000_000,
        max_queueing_time: Duration::from_millis(500),
        allow_auto_create_topics: false,
    };
    Config {
        listeners: Listeners {
            stream: here(),
            data: here(),
            admin: here(),
        },
        clusters: BTreeMap::from([("main".to_owned(), cluster)]),
        default_cluster: Some("main".to_owned()),
        producers: BTreeMap::from([("default".to_owned(), profile)]),
        max_producers: 4,
        answer_timeout: PATIENCE,
        max_request_bytes: 4 << 20,
        grace_period: PATIENCE,
        spool: None,
        idempotency: None,
        dev_broker: None,
        reload_interval: Duration::from_secs(5),
        source: Source::default(),
        jwt: BTreeMap::new(),
        reads: Vec::new(),
        max_readers: 4,
        max_members: 16,
        subscriptions: BTreeMap::new(),
        held: HeldTopic::default(),
        state: None,
        egress: std::sync::Arc::default(),
        actions: None,
        templates: sluice::templates::Settings::default(),
        replies: sluice::config::Replies::default(),
    }
}

/// The default profile, to change it.
pub(crate) fn profile(config: &mut Config) -> &mut Profile {
    config.producers.get_mut("default").unwrap()
}

/// The cluster, to change it.
pub(crate) fn cluster(config: &mut Config) -> &mut Cluster {
    config.clusters.get_mut("main").unwrap()
}

/// Sets a librdkafka property of the default profile.
pub(crate) fn set(config: &mut Config, name: &str, value: &str) {
    profile(config)
        .properties
        .insert(name.to_owned(), Secret::new(value));
}

/// A running sidecar.
pub(crate) struct Sidecar {
    pub(crate) addresses: Addresses,
    pub(crate) stopper: Stopper,
    running: JoinHandle<Ended>,
}

impl Sidecar {
    pub(crate) async fn start(config: Config) -> Self {
        let (stopper, shutdown) = shutdown::channel();
        let app = App::bind(config, shutdown).await.unwrap();
        let addresses = app.addresses();
        let running = tokio::spawn(app.run());
        Self {
            addresses,
            stopper,
            running,
        }
    }

    /// A sidecar for the cluster, as [`config`] has it.
    pub(crate) async fn on(mock: &Mock) -> Self {
        Self::start(config(&mock.bootstrap_servers())).await
    }

    pub(crate) async fn ended(self) -> Ended {
        tokio::time::timeout(PATIENCE, self.running)
            .await
            .expect("the sidecar does not end")
            .unwrap()
    }

    pub(crate) async fn stream(&self) -> Stream {
        Stream::open(&self.addresses.stream).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        let Bound::Tcp(address) = &self.addresses.data else {
            panic!("no TCP listener")
        };
        format!("http://{address}{path}")
    }

    pub(crate) fn admin_url(&self, path: &str) -> String {
        let Bound::Tcp(address) = &self.addresses.admin else {
            panic!("no TCP listener")
        };
        format!("http://{address}{path}")
    }

    /// The status of an admin path; `None` when nobody answers.
    pub(crate) async fn status(&self, path: &str) -> Option<u16> {
        Some(http::get(&self.admin_url(path)).await?.status.as_u16())
    }

    /// The body of `/readyz`.
    pub(crate) async fn ready(&self) -> serde_json::Value {
        http::get(&self.admin_url("/readyz")).await.unwrap().json()
    }

    pub(crate) async fn metrics(&self) -> String {
        let answer = http::get(&self.admin_url("/metrics")).await.unwrap();
        String::from_utf8(answer.body.to_vec()).unwrap()
    }

    /// The value of the first sample whose name begins with this.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let metrics = self.metrics().await;
        let sample = metrics.lines().find(|line| line.starts_with(name))?;
        sample.rsplit(' ').next()?.parse().ok()
    }
}

/// A produce call.
pub(crate) struct Stream {
    pub(crate) requests: mpsc::Sender<ProduceRequest>,
    pub(crate) replies: Streaming<ProduceReply>,
    pub(crate) metadata: tonic::metadata::MetadataMap,
    fates: Vec<(u64, Vec<TopicFate>)>,
    pub(crate) drained: bool,
    /// The ids of those that an earlier record was written for.
    pub(crate) replayed: Vec<u64>,
    /// The topics that templates chose, by the record.
    pub(crate) chosen: Vec<(u64, String)>,
}

impl Stream {
    pub(crate) async fn open(address: &Bound) -> Self {
        let Bound::Tcp(address) = address else {
            panic!("no TCP listener")
        };
        let client = RecordsClient::connect(format!("http://{address}")).await.unwrap();
        Self::over(client).await
    }

    pub(crate) async fn over(mut client: RecordsClient<tonic::transport::Channel>) -> Self {
        let (requests, rx) = mpsc::channel(1024);
        let response = client.produce(ReceiverStream::new(rx)).await.unwrap();
        let metadata = response.metadata().clone();
        Self {
            requests,
            replies: response.into_inner(),
            metadata,
            fates: Vec::new(),
            drained: false,
            replayed: Vec::new(),
            chosen: Vec::new(),
        }
    }

    pub(crate) async fn send(&self, records: Vec<Record>) {
        self.requests.send(ProduceRequest { records }).await.unwrap();
    }

    /// The next reply's fates are taken in; `None` at the end of the call.
    pub(crate) async fn next(&mut self) -> Option<()> {
        let reply = tokio::time::timeout(PATIENCE, self.replies.message())
            .await
            .expect("no reply")
            .unwrap()?;
        self.drained |= reply.drain;
        let replayed = reply.fates.iter().filter(|fate| fate.replayed);
        self.replayed.extend(replayed.map(|fate| fate.id));
        let chosen = reply.fates.iter().filter(|fate| !fate.topic.is_empty());
        self.chosen
            .extend(chosen.map(|fate| (fate.id, fate.topic.clone())));
        self.fates
            .extend(reply.fates.into_iter().map(|fate| (fate.id, fate.topics)));
        Some(())
    }

    /// The next `count` fates in the order in which they came.
    pub(crate) async fn fates(&mut self, count: usize) -> Vec<(u64, Vec<TopicFate>)> {
        while self.fates.len() < count {
            self.next().await.expect("the call ended");
        }
        self.fates.drain(..count).collect()
    }

    /// The fate of the only record under way, in its only topic.
    pub(crate) async fn fate(&mut self) -> Fated {
        let (_, topics) = self.fates(1).await.pop().unwrap();
        assert_eq!(topics.len(), 1, "{topics:?}");
        topics[0].result.clone().unwrap()
    }

    /// Sends one record and waits for its fate.
    pub(crate) async fn produce(&mut self, record: Record) -> Fated {
        self.send(vec![record]).await;
        self.fate().await
    }
}

/// A record for the topic.
pub(crate) fn record(id: u64, topic: &str, value: &str) -> Record {
    Record {
        id,
        topics: vec![topic.to_owned()],
        value: Some(value.as_bytes().to_vec().into()),
        ..Record::default()
    }
}

/// The class and the text of a failure.
pub(crate) fn failure(fated: &Fated) -> (ErrorClass, String) {
    let Fated::Failure(failure) = fated else {
        panic!("no failure: {fated:?}")
    };
    (
        sluice_proto::class::from_wire(failure.class),
        failure.message.clone(),
    )
}

/// Partition and offset of a stored record.
pub(crate) fn stored(fated: &Fated) -> (i32, i64) {
    let Fated::Stored(stored) = fated else {
        panic!("not stored: {fated:?}")
    };
    (stored.partition, stored.offset)
}

/// Reads `count` records of a partition from its beginning.
pub(crate) async fn read(mock: &Mock, topic: &str, partition: i32, count: usize) -> Vec<OwnedMessage> {
    let (servers, topic) = (mock.bootstrap_servers(), topic.to_owned());
    // Not on the runtime's thread: the sidecar runs there.
    tokio::task::spawn_blocking(move || read_now(&servers, &topic, partition, count))
        .await
        .unwrap()
}

fn read_now(servers: &str, topic: &str, partition: i32, count: usize) -> Vec<OwnedMessage> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "reader")
        .set("fetch.wait.max.ms", "10")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, partition, Offset::Beginning)
        .unwrap();
    consumer.assign(&from).unwrap();
    let mut messages = Vec::new();
    let until = Instant::now() + PATIENCE;
    while messages.len() < count && Instant::now() < until {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            messages.push(message.unwrap().detach());
        }
    }
    assert_eq!(messages.len(), count, "records in {topic}/{partition}");
    messages
}

/// A record's value as text.
pub(crate) fn text(message: &OwnedMessage) -> String {
    String::from_utf8(message.payload().unwrap().to_vec()).unwrap()
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < until, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
