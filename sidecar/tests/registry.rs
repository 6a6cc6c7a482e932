//! State that several sidecars share, on librdkafka's mock cluster (which compacts nothing: e2e does that).

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failure here, in helpers too, fails a test"
)]

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use serde_json::{Value, json};
use sluice::config::{Cluster, Secret};
use sluice::kafka::log::{Log, Settings};
use sluice::metrics::Metrics;
use sluice::registry::{Error, Phase, Registry};
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(60);

type Mock = MockCluster<'static, DefaultProducerContext>;

fn mock() -> Mock {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("state", 1, 1).unwrap();
    mock
}

struct Replica {
    metrics: Metrics,
    registry: Arc<Registry<Value>>,
    running: JoinHandle<()>,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn start(servers: &str, topic: &str) -> Replica {
    let mut cluster = Cluster {
        bootstrap_servers: vec![servers.to_owned()],
        ..Cluster::default()
    };
    // The mock wakes nobody who waits for a record.
    cluster
        .properties
        .insert("fetch.wait.max.ms".to_owned(), Secret::new("10"));
    let settings = Settings {
        topic: topic.to_owned(),
        replication_factor: None,
        min_insync_replicas: None,
    };
    let metrics = Metrics::default();
    let registry = Registry::new(Log::new(&cluster, settings), metrics.state());
    let running = tokio::spawn(Arc::clone(&registry).run());
    Replica {
        metrics,
        registry,
        running,
    }
}

impl Replica {
    async fn reaches(&self, what: impl Fn(&Phase) -> bool) {
        let mut changes = self.registry.changes();
        let reached = async {
            while !what(&self.registry.phase()) {
                changes.changed().await.unwrap();
            }
        };
        let reached = tokio::time::timeout(PATIENCE, reached).await;
        reached.unwrap_or_else(|_| panic!("{:?}", self.registry.phase()));
    }

    async fn ready(self) -> Self {
        self.reaches(|phase| *phase == Phase::Ready).await;
        self
    }

    /// A metric's only sample whose line begins so.
    fn metric(&self, sample: &str) -> f64 {
        let text = self.metrics.encode().unwrap();
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(sample));
        let value = lines.next().unwrap_or_else(|| panic!("no {sample} in {text}"));
        value.trim().parse().unwrap()
    }

    fn rows(&self) -> Vec<String> {
        let rows = self.registry.list("");
        rows.iter().map(|row| format!("{row:?}")).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_writes_all_see_and_one_of_two_is_refused() {
    let mock = mock();
    let servers = mock.bootstrap_servers();
    let (a, b) = (
        start(&servers, "state").ready().await,
        start(&servers, "state").ready().await,
    );
    assert_eq!(a.registry.put("k/x", 0, &json!({"n": 1})).await, Ok(1));
    // Read-your-writes here, and there after catching up.
    assert_eq!(a.registry.get("k/x").unwrap().version, 1);
    b.registry.catch_up().await.unwrap();
    assert_eq!(*b.registry.get("k/x").unwrap().value, json!({"n": 1}));

    let conflict = Error::Conflict {
        key: "k/x".to_owned(),
        version: 1,
    };
    assert_eq!(b.registry.put("k/x", 0, &json!(2)).await, Err(conflict.clone()));
    assert_eq!(b.registry.put("k/x", 7, &json!(2)).await, Err(conflict));
    let one = json!({"by": "a"});
    let two = json!({"by": "b"});
    let both = tokio::join!(a.registry.put("k/x", 1, &one), b.registry.put("k/x", 1, &two));
    let lost = Error::Conflict {
        key: "k/x".to_owned(),
        version: 2,
    };
    let winner = match both {
        (Ok(2), Err(error)) if error == lost => one,
        (Err(error), Ok(2)) if error == lost => two,
        other => panic!("{other:?}"),
    };
    for replica in [&a, &b] {
        replica.registry.catch_up().await.unwrap();
        assert_eq!(*replica.registry.get("k/x").unwrap().value, winner);
    }

    a.registry.delete("k/x", 2).await.unwrap();
    assert!(a.registry.get("k/x").is_none());
    assert_eq!(a.registry.put("k/x", 0, &json!(4)).await, Ok(4));
    let c = start(&servers, "state").ready().await;
    assert_eq!(c.rows(), a.rows());
    assert_eq!(c.rows().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_conflicts_is_told_and_nothing_accepted_is_lost() {
    let mock = mock();
    let servers = mock.bootstrap_servers();
    let replicas = [
        start(&servers, "state").ready().await,
        start(&servers, "state").ready().await,
    ];
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..8_usize {
        let registry = Arc::clone(&replicas[writer % 2].registry);
        tasks.spawn(async move {
            let (mut accepted, mut refused) = (0_u64, 0_u64);
            for turn in 0..25 {
                let key = format!("k/{}", turn % 3);
                let (base, sum) = registry
                    .get(&key)
                    .map_or((0, 0), |row| (row.version, row.value.as_u64().unwrap()));
                match registry.put(&key, base, &json!(sum + 1)).await {
                    Ok(version) => {
                        assert_eq!(version, base + 1);
                        accepted += 1;
                    }
                    Err(Error::Conflict { .. }) => refused += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            (accepted, refused)
        });
    }
    let told = tasks.join_all().await;
    let (accepted, refused) = told
        .iter()
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert_eq!(accepted + refused, 200);
    assert!(refused > 0);
    // Each accepted change added one to what it was based on.
    let again = start(&servers, "state").ready().await;
    let sum: u64 = again
        .registry
        .list("")
        .iter()
        .map(|(_, version, _)| version)
        .sum();
    assert_eq!(sum, accepted);
    for key in ["k/0", "k/1", "k/2"] {
        let row = again.registry.get(key).unwrap();
        assert_eq!(row.value.as_u64(), Some(row.version));
    }
    for replica in &replicas {
        replica.registry.catch_up().await.unwrap();
        assert_eq!(replica.rows(), again.rows());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_kafka_nothing_is_known_and_it_is_said_why() {
    let nobody = start("127.0.0.1:1", "state");
    let refused = nobody.registry.put("k/x", 0, &json!(1)).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    nobody
        .reaches(|phase| matches!(phase, Phase::Away(why) if why.contains("127.0.0.1:1")))
        .await;
    let too_long = json!("x".repeat(1_000_000));
    assert_eq!(
        nobody.registry.put("k/x", 0, &too_long).await,
        Err(Error::TooLarge(1_000_023))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_several_partitions_is_refused_with_the_reason() {
    let mock = mock();
    mock.create_topic("wide", 3, 1).unwrap();
    let replica = start(&mock.bootstrap_servers(), "wide");
    replica
        .reaches(|phase| matches!(phase, Phase::Away(why) if why.contains("3 partitions")))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_and_what_there_is_is_counted() {
    let mock = mock();
    let servers = mock.bootstrap_servers();
    let (a, b) = (
        start(&servers, "state").ready().await,
        start(&servers, "state").ready().await,
    );
    let since = std::time::SystemTime::now();
    assert_eq!(a.registry.put("k/x", 0, &json!(1)).await, Ok(1));
    assert_eq!(a.registry.put("k/y", 0, &json!(1)).await, Ok(1));
    b.registry.catch_up().await.unwrap();
    let (first, second) = (json!("a"), json!("b"));
    let both = tokio::join!(
        a.registry.put("k/x", 1, &first),
        b.registry.put("k/x", 1, &second)
    );
    assert!(both.0.is_ok() != both.1.is_ok(), "{both:?}");
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &servers)
        .create()
        .unwrap();
    let stranger = BaseRecord::<str, str>::to("state").key("stranger").payload("?");
    producer.send(stranger).unwrap();
    producer.flush(PATIENCE).unwrap();
    for replica in [&a, &b] {
        replica.registry.catch_up().await.unwrap();
        let read = |outcome| replica.metric(&format!("sluice_state_records_total{{outcome=\"{outcome}\"}}"));
        assert!((read("accepted") - 3.0).abs() < 0.1);
        assert!((read("refused") - 1.0).abs() < 0.1);
        assert!((read("foreign") - 1.0).abs() < 0.1);
        assert!((replica.metric("sluice_state_rows ") - 2.0).abs() < 0.1);
        assert!(replica.metric("sluice_state_lag_records ") < 0.1);
        assert!(replica.metric("sluice_state_ready ") > 0.9);
        // The first version of k/x and the second that was refused; whoever wrote them takes them back.
        assert!(replica.metric("sluice_state_dead_records ") < 2.1);
    }
    // Where the topic ends is asked for again and again, also while nothing is written.
    let until = tokio::time::Instant::now() + PATIENCE;
    let since = since.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    while a.metric("sluice_state_caught_up_timestamp_seconds ") < since {
        assert!(tokio::time::Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_away_is_not_ready() {
    let nobody = start("127.0.0.1:1", "state");
    nobody.reaches(|phase| matches!(phase, Phase::Away(_))).await;
    assert!(nobody.metric("sluice_state_ready ") < 0.1);
    assert!(nobody.metric("sluice_state_caught_up_timestamp_seconds ") < 0.1);
}
