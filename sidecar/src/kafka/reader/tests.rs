#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failure here fails a test"
)]
use std::time::Instant;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::*;

const SOME: Limits = Limits {
    records: 100,
    bytes: 1 << 20,
};

fn write(bootstrap: &str, topic: &str, values: std::ops::Range<usize>) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("linger.ms", "0");
    let producer: BaseProducer = config.create().unwrap();
    for value in values {
        let value = value.to_string();
        producer
            .send(BaseRecord::<(), str>::to(topic).partition(0).payload(&value))
            .unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();
}

fn reader(bootstrap: &str) -> Reader {
    let cluster = Cluster {
        bootstrap_servers: vec![bootstrap.to_owned()],
        properties: [("fetch.wait.max.ms".to_owned(), crate::config::Secret::new("10"))].into(),
        ..Cluster::default()
    };
    Reader::new(&cluster, 2, Gauge::default())
}

fn values(records: &[Arc<Record>]) -> Vec<String> {
    records
        .iter()
        .map(|r| String::from_utf8(r.value.as_ref().unwrap().to_vec()).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_past_is_read_from_any_offset() {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("t", 2, 1).unwrap();
    let bootstrap = mock.bootstrap_servers();
    write(&bootstrap, "t", 0..1000);
    let reader = reader(&bootstrap);
    assert_eq!(reader.partitions("t").await.unwrap(), 2);
    assert_eq!(
        reader.partitions("none").await,
        Err(Error::UnknownTopic("none".to_owned()))
    );
    let topic: Arc<str> = Arc::from("t");
    let keys = [(Arc::clone(&topic), 0), (Arc::clone(&topic), 1)];
    let ends = reader.offsets(&keys, When::Latest).await.unwrap();
    assert_eq!((ends[&keys[0]], ends[&keys[1]]), (1000, 0));
    assert_eq!(reader.offsets(&keys, When::Earliest).await.unwrap()[&keys[0]], 0);
    let batch = reader.read(&topic, 0, 10, SOME).await.unwrap();
    assert_eq!(
        values(&batch.records),
        (10..110).map(|n| n.to_string()).collect::<Vec<_>>()
    );
    assert!(batch.next == 110 && !batch.ended);
    let batch = reader.read(&topic, 0, 950, SOME).await.unwrap();
    assert!(batch.records.len() == 50 && batch.next == 1000);
    let batch = reader.read(&topic, 0, 1000, SOME).await.unwrap();
    assert!(batch.records.is_empty() && batch.next == 1000 && batch.ended);
    let error = reader.read(&topic, 0, 5000, SOME).await.unwrap_err();
    assert!(matches!(error, Error::OutOfRange { offset: 5000, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_there_is_not_taken_to_be_gone_at_once() {
    use rdkafka::types::RDKafkaRespErr as Raw;
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("t", 2, 1).unwrap();
    let reader = Arc::new(reader(&mock.bootstrap_servers()));
    assert_eq!(reader.partitions("t").await, Ok(2));
    // As long as that is good for.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    mock.topic_error("t", Raw::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        .unwrap();
    let asked = tokio::spawn({
        let reader = Arc::clone(&reader);
        async move { reader.partitions("t").await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!asked.is_finished());
    mock.topic_error("t", Raw::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    assert_eq!(asked.await.unwrap(), Ok(2));
    // One that stays away is gone, and then at once.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    mock.topic_error("t", Raw::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        .unwrap();
    let gone = Err(Error::UnknownTopic("t".to_owned()));
    let started = Instant::now();
    assert_eq!(reader.partitions("t").await, gone);
    assert!(started.elapsed() >= Duration::from_secs(3));
    let started = Instant::now();
    assert_eq!(reader.partitions("t").await, gone);
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_is_shared() {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("t", 1, 1).unwrap();
    let bootstrap = mock.bootstrap_servers();
    write(&bootstrap, "t", 0..10);
    let reader = reader(&bootstrap);
    let topic: Arc<str> = Arc::from("t");
    let wake = Arc::new(Notify::new());
    let one = reader.join(&topic, 0, 10, &wake).await.unwrap();
    let other = reader.join(&topic, 0, 5, &wake).await.unwrap();
    assert!(matches!(other.after(5, SOME), Ok(View::Behind)));
    write(&bootstrap, "t", 10..20);
    let (mut position, mut seen) = (10, Vec::new());
    while seen.len() < 10 {
        wake.notified().await;
        let View::Here { records, next } = one.after(position, SOME).unwrap() else {
            panic!("behind")
        };
        seen.extend(values(&records));
        position = next;
    }
    assert_eq!(seen, (10..20).map(|n| n.to_string()).collect::<Vec<_>>());
}

/// Those who fell behind a tail together have what is in the past read once.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_that_is_behind_has_read_others_are_given() {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("t", 1, 1).unwrap();
    let bootstrap = mock.bootstrap_servers();
    write(&bootstrap, "t", 0..20);
    let reader = reader(&bootstrap);
    let topic: Arc<str> = Arc::from("t");
    let wake = Arc::new(Notify::new());
    let one = reader.join(&topic, 0, 20, &wake).await.unwrap();
    let other = reader.join(&topic, 0, 20, &wake).await.unwrap();
    let first = reader.catch_up(&one, &topic, 0, 5, SOME).await.unwrap();
    assert_eq!(
        values(&first.records),
        (5..20).map(|n| n.to_string()).collect::<Vec<_>>()
    );
    assert!(first.ended);
    let second = reader.catch_up(&other, &topic, 0, 8, SOME).await.unwrap();
    assert_eq!((second.next, second.ended), (20, false));
    let same = |(one, other): (&Arc<_>, &Arc<_>)| Arc::ptr_eq(one, other);
    assert_eq!(second.records.len(), 12);
    assert!(first.records[3..].iter().zip(&second.records).all(same));
    // What was not read is.
    let third = reader.catch_up(&other, &topic, 0, 2, SOME).await.unwrap();
    assert_eq!((third.records[0].offset, third.next), (2, 20));
    // And a reader that follows nothing reads by itself.
    let alone = reader.read(&topic, 0, 8, SOME).await.unwrap();
    assert!(alone.ended && !Arc::ptr_eq(&alone.records[0], &second.records[0]));
}

/// However many read at once, there are no more clients than there may be.
#[tokio::test(flavor = "multi_thread")]
async fn clients_are_bounded() {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("t", 1, 1).unwrap();
    let bootstrap = mock.bootstrap_servers();
    write(&bootstrap, "t", 0..100);
    let reader = Arc::new(reader(&bootstrap));
    let mut reads = tokio::task::JoinSet::new();
    for offset in 0..20 {
        let reader = Arc::clone(&reader);
        reads.spawn(async move {
            let topic = Arc::from("t");
            let batch = reader.read(&topic, 0, offset, SOME).await.unwrap();
            assert_eq!(batch.next, 100);
        });
    }
    while let Some(read) = reads.join_next().await {
        read.unwrap();
    }
    assert!((1..=2).contains(&reader.pool.made()), "{}", reader.pool.made());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gets_no_answer_is_told_what_is_wrong_with_the_way() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    let reader = reader(&address);
    let Err(Error::Unavailable(why)) = reader.partitions("t").await else {
        panic!("somebody answers")
    };
    assert!(
        why.contains("nobody listens there") && why.contains(&address),
        "{why}"
    );
}

#[test]
fn what_reads_shows_the_brokers_what_the_cluster_says() {
    let own = [
        ("sasl.password", "hunter2"),
        ("ssl.key.password", "hunter3"),
        ("fetch.wait.max.ms", "77"),
    ];
    let cluster = Cluster {
        bootstrap_servers: vec!["a:1".to_owned()],
        properties: own
            .map(|(name, value)| (name.to_owned(), crate::config::Secret::new(value)))
            .into(),
        ..Cluster::default()
    };
    let config = tails::config(&Connection::of(&cluster));
    for (name, value) in own {
        assert_eq!(config.get(name), Some(value));
    }
    assert_eq!(config.get("fetch.error.backoff.ms"), Some("100"));
    assert_eq!(config.get("enable.auto.commit"), Some("false"));
}
