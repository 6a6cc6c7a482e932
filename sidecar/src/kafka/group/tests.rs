#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failure here fails a test"
)]
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;
use crate::config::Secret;
use crate::kafka::properties::Kind;

type Mock = MockCluster<'static, DefaultProducerContext>;

/// The mock waits for 3 s before a group's first members get anything, and everything is slow on a busy machine.
const WAIT: Duration = Duration::from_secs(60);

fn mock(partitions: i32) -> Mock {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("t", partitions, 1).unwrap();
    mock
}

fn cluster(mock: &Mock) -> Cluster {
    Cluster {
        bootstrap_servers: vec![mock.bootstrap_servers()],
        properties: [("fetch.wait.max.ms".to_owned(), Secret::new("10"))].into(),
        ..Cluster::default()
    }
}

fn write(mock: &Mock, partition: i32, values: std::ops::Range<usize>, size: usize) {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", mock.bootstrap_servers())
        .set("linger.ms", "0");
    let producer: BaseProducer = config.create().unwrap();
    for value in values {
        // A width is at most 65 535.
        let value = value.to_string();
        let value = "0".repeat(size.saturating_sub(value.len())) + &value;
        producer
            .send(
                BaseRecord::<(), str>::to("t")
                    .partition(partition)
                    .payload(&value),
            )
            .unwrap();
    }
    producer.flush(WAIT).unwrap();
}

fn settings(group: &str) -> Settings {
    let mut settings = Settings::new(group, Topics::Names(vec!["t".to_owned()]));
    settings.properties = [
        ("auto.offset.reset".to_owned(), "earliest".to_owned()),
        ("heartbeat.interval.ms".to_owned(), "200".to_owned()),
        // The mock has a group wait for most of a session when somebody joins it.
        ("session.timeout.ms".to_owned(), "6000".to_owned()),
    ]
    .into();
    settings
}

async fn next(events: &mut Events) -> Event {
    tokio::time::timeout(WAIT, events.next())
        .await
        .expect("nothing happens")
        .expect("the member is gone")
}

async fn assigned(events: &mut Events) -> Vec<i32> {
    loop {
        match next(events).await {
            Event::Assigned(found) if !found.is_empty() => {
                let mut found: Vec<i32> = found.iter().map(|(_, partition)| *partition).collect();
                found.sort_unstable();
                return found;
            }
            _ => {}
        }
    }
}

fn numbers(batch: &Batch) -> Vec<usize> {
    let text = |record: &Arc<Record>| String::from_utf8(record.value.as_ref().unwrap().to_vec()).unwrap();
    batch
        .records
        .iter()
        .map(|record| text(record).parse().unwrap())
        .collect()
}

async fn read(events: &mut Events, count: usize) -> Vec<usize> {
    let mut read = Vec::new();
    while read.len() < count {
        if let Event::Batch(batch) = next(events).await {
            read.extend(numbers(&batch));
        }
    }
    read
}

fn at(partition: i32, offset: i64) -> Offsets {
    [((Arc::from("t"), partition), offset)].into()
}

fn of(partition: i32) -> Partition {
    (Arc::from("t"), partition)
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_reads_commits_and_is_followed_by_another_where_it_stopped() {
    let mock = mock(1);
    write(&mock, 0, 0..100, 0);
    let cluster = cluster(&mock);
    let kept = Committed::new(&cluster);
    assert_eq!(kept.read("g", &[of(0)]).await.unwrap(), Offsets::new());

    let (one, mut events) = Member::join(&cluster, settings("g")).await.unwrap();
    assert_eq!(assigned(&mut events).await, [0]);
    assert_eq!(read(&mut events, 100).await, (0..100).collect::<Vec<_>>());
    // Nothing is committed that nobody asked for.
    assert_eq!(one.committed(&[of(0)]).await.unwrap(), Offsets::new());
    one.commit(&at(0, 40)).await.unwrap();
    assert_eq!(one.committed(&[of(0)]).await.unwrap(), at(0, 40));
    assert_eq!(kept.read("g", &[of(0), of(7)]).await.unwrap(), at(0, 40));

    // A text stays beside a position until another one is committed.
    let mark = Mark {
        offset: 41,
        note: "é and more".to_owned(),
    };
    let marks: Marks = [(of(0), mark)].into();
    one.commit_marks(&marks).await.unwrap();
    assert_eq!(one.marks(&[of(0)]).await.unwrap(), marks);
    one.commit(&at(0, 40)).await.unwrap();
    let bare = Mark {
        offset: 40,
        note: String::new(),
    };
    assert_eq!(one.marks(&[of(0)]).await.unwrap(), [(of(0), bare)].into());

    // Brokers that take no such text are not asked again.
    mock.request_errors(
        RDKafkaApiKey::OffsetCommit,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE],
    );
    for _ in 0..2 {
        one.commit_marks(&marks).await.unwrap();
        let bare = Mark {
            offset: 41,
            note: String::new(),
        };
        assert_eq!(one.marks(&[of(0)]).await.unwrap(), [(of(0), bare)].into());
    }
    one.commit(&at(0, 40)).await.unwrap();

    one.seek(&at(0, 90)).await.unwrap();
    assert_eq!(read(&mut events, 10).await, (90..100).collect::<Vec<_>>());
    one.pause(&[of(0)]).unwrap();
    write(&mock, 0, 100..110, 0);
    let quiet = tokio::time::timeout(Duration::from_secs(1), read(&mut events, 1)).await;
    assert!(quiet.is_err(), "{quiet:?}");
    one.resume(&[of(0)]).unwrap();
    assert_eq!(read(&mut events, 10).await, (100..110).collect::<Vec<_>>());

    // Who leaves hands over first: what is committed then counts.
    let leaving = tokio::spawn(async move { (one.close(WAIT).await, one) });
    let revocation = loop {
        if let Event::Revoked(revocation) = next(&mut events).await {
            break revocation;
        }
    };
    assert_eq!(revocation.partitions, [of(0)]);
    drop(revocation);
    let (left, one) = leaving.await.unwrap();
    assert!(left);
    let error = one.commit(&at(0, 50)).await.unwrap_err();
    assert!(matches!(error, Error::NotMember { .. }), "{error}");

    let (_two, mut events) = Member::join(&cluster, settings("g")).await.unwrap();
    assert_eq!(read(&mut events, 70).await, (40..110).collect::<Vec<_>>());
}

/// librdkafka's call for several messages counts the end of a partition as a message, and a pause (its own too, at every
/// rebalance) goes on after what it counted: the first record behind the end would never come.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_at_the_end_passes_over_nothing() {
    const PARTITIONS: i32 = 16;
    let mock = mock(PARTITIONS);
    let cluster = cluster(&mock);
    let (one, mut events) = Member::join(&cluster, settings("g")).await.unwrap();
    assert_eq!(assigned(&mut events).await.len(), 16);
    let all: Vec<Partition> = (0..PARTITIONS).map(of).collect();
    let mut came = std::collections::BTreeMap::<Partition, Vec<i64>>::new();
    for round in 0..4_i64 {
        let (mut records, mut ends) = (0, std::collections::BTreeSet::new());
        let wanted = if round == 0 { 0 } else { 16 };
        while records < wanted || ends.len() < 16 {
            let next = tokio::time::timeout(Duration::from_secs(20), events.next()).await;
            let Ok(Some(event)) = next else {
                panic!("round {round}: {records} records and the ends {ends:?} came; in all {came:?}");
            };
            let Event::Batch(batch) = event else { continue };
            for record in &batch.records {
                let key = (Arc::clone(&record.topic), record.partition);
                came.entry(key).or_default().push(record.offset);
                records += 1;
            }
            let at_end = batch.ends.into_iter().filter(|(_, end)| *end >= round);
            ends.extend(at_end.map(|(key, _)| key));
        }
        one.pause(&all).unwrap();
        for partition in 0..PARTITIONS {
            write(&mock, partition, 0..1, 0);
        }
        one.resume(&all).unwrap();
    }
    for (key, offsets) in came {
        assert_eq!(offsets, [0, 1, 2], "{key:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_share_and_what_one_hands_over_the_other_goes_on_with() {
    let mock = mock(4);
    for partition in 0..4 {
        write(&mock, partition, 0..10, 0);
    }
    let cluster = cluster(&mock);
    let (one, mut ones) = Member::join(&cluster, settings("g")).await.unwrap();
    assert_eq!(assigned(&mut ones).await, [0, 1, 2, 3]);
    read(&mut ones, 40).await;

    // A member that asks for its share once the leader has given everybody's is refused by the mock, and not by Kafka. It joins
    // again, and until that is over no position is taken of anybody. The leader asks for metadata first, so that with slow
    // answers it is the last, also where nobody gets much of the processor.
    mock.broker_round_trip_time(-1, Duration::from_millis(500))
        .unwrap();
    let (two, mut twos) = Member::join(&cluster, settings("g")).await.unwrap();
    let revocation = loop {
        if let Event::Revoked(revocation) = next(&mut ones).await {
            break revocation;
        }
    };
    let moved = revocation.partitions.clone();
    assert_eq!(moved.len(), 2);
    // Committed while the group waits.
    let positions = moved.iter().map(|key| (key.clone(), 7)).collect();
    one.commit(&positions).await.unwrap();
    drop(revocation);
    let mut partitions: Vec<i32> = moved.iter().map(|(_, partition)| *partition).collect();
    partitions.sort_unstable();
    assert_eq!(assigned(&mut twos).await, partitions);
    mock.broker_round_trip_time(-1, Duration::ZERO).unwrap();
    let read = read(&mut twos, 6).await;
    assert_eq!(read.iter().filter(|n| **n < 7).count(), 0, "{read:?}");
    drop((one, ones));
    // What the first did not commit comes again.
    let mut all = assigned(&mut twos).await;
    all.extend(&partitions);
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3]);
    drop(two);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_nobody_takes_wait_in_kafka_and_the_member_stays() {
    let mock = mock(1);
    write(&mock, 0, 0..64, 512 * 1024);
    let cluster = cluster(&mock);
    let mut slow = settings("g");
    slow.properties
        .insert("queued.max.messages.kbytes".to_owned(), "1024".to_owned());
    slow.properties
        .insert("session.timeout.ms".to_owned(), "6000".to_owned());
    slow.properties
        .insert("max.poll.interval.ms".to_owned(), "6000".to_owned());
    let (one, mut events) = Member::join(&cluster, slow).await.unwrap();
    assert_eq!(assigned(&mut events).await, [0]);
    // Longer than it may be without polling.
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert!(one.shared.queued.load(Ordering::Acquire) <= QUEUED);
    let handed: usize = (0..QUEUED)
        .filter_map(|_| match events.receiver.try_recv() {
            Ok(Event::Batch(batch)) => Some(batch.records.iter().map(|record| record.size()).sum::<usize>()),
            _ => None,
        })
        .sum();
    assert!(handed < 32 << 20, "{handed}");
    one.shared.queued.store(0, Ordering::Release);
    one.commit(&at(0, 1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_member_may_write_only_while_there_is_none() {
    let mock = mock(1);
    let cluster = cluster(&mock);
    let kept = Committed::new(&cluster);
    kept.write("g", &at(0, 3)).await.unwrap();
    assert_eq!(kept.read("g", &[of(0)]).await.unwrap(), at(0, 3));
    let mut only = settings("g");
    only.records = false;
    let (one, mut events) = Member::join(&cluster, only).await.unwrap();
    assert_eq!(assigned(&mut events).await, [0]);
    let error = kept.write("g", &at(0, 4)).await.unwrap_err();
    assert!(matches!(error, Error::NotMember { .. }), "{error}");
    one.commit(&at(0, 5)).await.unwrap();
    // It has partitions, and no records come.
    write(&mock, 0, 0..20, 0);
    let quiet = tokio::time::timeout(Duration::from_secs(2), read(&mut events, 1)).await;
    assert!(quiet.is_err(), "{quiet:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_left_leave_no_threads() {
    let mock = mock(1);
    let cluster = cluster(&mock);
    let before = threads();
    for _ in 0..3 {
        let mut members = Vec::new();
        for _ in 0..4 {
            members.push(Member::join(&cluster, settings("g")).await.unwrap());
        }
        for (member, events) in members {
            drop(events);
            assert!(member.close(WAIT).await);
        }
    }
    let deadline = std::time::Instant::now() + WAIT;
    // Other tests have threads too; twelve members would have some sixty.
    while threads() > before + 30 {
        assert!(
            std::time::Instant::now() < deadline,
            "{before} threads, then {}",
            threads()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn secrets_and_aliases_of_the_cluster_are_the_members_too() {
    let properties = [
        ("sasl.password", "hunter2"),
        ("ssl.key.password", "hunter3"),
        ("fetch.message.max.bytes", "3000"),
        ("fetch.queue.backoff.ms", "7"),
    ];
    let connection = Connection::of(&Cluster {
        bootstrap_servers: vec!["127.0.0.1:1".to_owned()],
        properties: properties
            .map(|(name, value)| (name.to_owned(), Secret::new(value)))
            .into(),
        ..Cluster::default()
    });
    let config = settings("g").client_config(&connection);
    for (name, value) in [
        ("sasl.password", Some("hunter2")),
        ("ssl.key.password", Some("hunter3")),
        ("max.partition.fetch.bytes", Some("3000")),
        ("fetch.message.max.bytes", None),
        ("fetch.queue.backoff.ms", Some("7")),
        ("fetch.max.bytes", Some("4194304")),
    ] {
        assert_eq!(config.get(name), value, "{name}");
    }
}

#[test]
fn what_a_caller_may_set_is_set_and_nothing_else_is() {
    let connection = Connection::of(&Cluster {
        bootstrap_servers: vec!["127.0.0.1:1".to_owned()],
        properties: [("session.timeout.ms".to_owned(), Secret::new("20000"))].into(),
        ..Cluster::default()
    });
    let mut settings = settings("g");
    settings.properties.remove("session.timeout.ms");
    for (name, value) in [
        ("fetch.message.max.bytes", "2000"),
        ("enable.auto.commit", "true"),
        ("ssl.ca.location", "/etc/passwd"),
        ("bootstrap.servers", "elsewhere:1"),
    ] {
        settings.properties.insert(name.to_owned(), value.to_owned());
    }
    let config = settings.client_config(&connection);
    for (name, value) in [
        ("max.partition.fetch.bytes", Some("2000")),
        ("enable.auto.commit", Some("false")),
        ("ssl.ca.location", None),
        ("bootstrap.servers", Some("127.0.0.1:1")),
        ("group.id", Some("g")),
        ("session.timeout.ms", Some("20000")),
        ("partition.assignment.strategy", Some("cooperative-sticky")),
    ] {
        assert_eq!(config.get(name), value, "{name}");
    }
    settings.assignor = Assignor::Range;
    let config = settings.client_config(&connection);
    assert_eq!(config.get("partition.assignment.strategy"), Some("range"));
    settings.protocol = Protocol::Consumer;
    let mut config = settings.client_config(&connection);
    assert_eq!(config.get("group.remote.assignor"), Some("range"));
    assert_eq!(config.get("session.timeout.ms"), None);
    // The library makes a client of it.
    config.remove("bootstrap.servers");
    config.create::<BaseConsumer>().unwrap();
    for name in ALLOWED_ALL {
        assert!(
            allowed_property(name) && crate::kafka::properties::kind(name) != Kind::Producer,
            "{name}"
        );
    }
    for name in [
        "ssl.ca.location",
        "plugin.library.paths",
        "sasl.kerberos.kinit.cmd",
        "enable.auto.commit",
    ] {
        assert!(!allowed_property(name), "{name}");
    }
}

const ALLOWED_ALL: [&str; 5] = [
    "auto.offset.reset",
    "group.instance.id",
    "isolation.level",
    "fetch.message.max.bytes",
    "reconnect.backoff.ms",
];
