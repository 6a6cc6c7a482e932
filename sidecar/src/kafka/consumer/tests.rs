use std::collections::BTreeMap;

use super::*;
use crate::config::{self, Secret};
use crate::kafka::dev_broker::DevBroker;
use crate::kafka::sender;

/// Longer than any wait here needs to be.
const DEADLINE: Duration = Duration::from_secs(30);

async fn broker() -> (DevBroker, Connection) {
    let config = config::DevBroker {
        address: "127.0.0.1:0".parse().unwrap(),
        topics: vec![("orders".to_owned(), 2)],
        default_partitions: 1,
    };
    let broker = DevBroker::start(&config).await.unwrap();
    let connection = Connection {
        brokers: vec![broker.address().to_string()],
        properties: BTreeMap::from([("fetch.wait.max.ms".to_owned(), Secret::new("10"))]),
        token: None,
        delegation: None,
    };
    (broker, connection)
}

fn selection(topic: &str, partition: Option<i32>, from_beginning: bool) -> Selection {
    Selection {
        topic: topic.to_owned(),
        partition,
        from_beginning,
    }
}

async fn open(connection: &Connection, selection: Selection) -> Result<Reader, Error> {
    let connection = connection.clone();
    tokio::task::spawn_blocking(move || Reader::open(connection, selection))
        .await
        .unwrap()
}

/// The next `n` records, by partition and offset.
async fn take(mut reader: Reader, n: usize) -> Vec<Record> {
    let read = move || {
        let deadline = Instant::now() + DEADLINE;
        let mut records = Vec::new();
        while records.len() < n {
            assert!(Instant::now() < deadline, "only {records:?}");
            if let Next::Record(record) = reader.next(Duration::from_millis(50)).unwrap() {
                records.push(record);
            }
        }
        records.sort_by_key(|record| (record.partition, record.offset));
        records
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

async fn send(connection: &Connection, partition: i32, value: &str) {
    let record = sender::Record {
        topic: "orders".to_owned(),
        partition: Some(partition),
        value: Some(value.into()),
        ..sender::Record::default()
    };
    sender::send(connection, record).await.unwrap();
}

fn values(records: &[Record]) -> Vec<(i32, i64, &str)> {
    let text = |record: &'_ Record| (record.partition, record.offset);
    records
        .iter()
        .map(|record| {
            let (partition, offset) = text(record);
            (
                partition,
                offset,
                std::str::from_utf8(record.value.as_deref().unwrap()).unwrap(),
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_beginning_or_from_now_on_and_one_partition_or_all() {
    let (_broker, connection) = broker().await;
    send(&connection, 0, "a").await;
    send(&connection, 1, "b").await;
    let all = open(&connection, selection("orders", None, true)).await.unwrap();
    assert_eq!(*all.partitions(), BTreeSet::from([0, 1]));
    let one = open(&connection, selection("orders", Some(1), true))
        .await
        .unwrap();
    let new = open(&connection, selection("orders", None, false)).await.unwrap();
    send(&connection, 1, "c").await;
    assert_eq!(
        values(&take(all, 3).await),
        [(0, 0, "a"), (1, 0, "b"), (1, 1, "c")]
    );
    assert_eq!(values(&take(one, 2).await), [(1, 0, "b"), (1, 1, "c")]);
    assert_eq!(values(&take(new, 1).await), [(1, 1, "c")]);
}

/// No key, an empty key, no value, an empty value, headers in order: none of it is mixed up.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_comes_back_as_it_was_sent() {
    let (_broker, connection) = broker().await;
    let headers = [("b", "1"), ("a", "2"), ("b", "")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let sent = [
        (Some(Vec::new()), None, headers.to_vec()),
        (None, Some(Vec::new()), Vec::new()),
        (Some(b"\xff".to_vec()), Some(b"\x00\xfe".to_vec()), Vec::new()),
    ];
    for (key, value, headers) in sent.clone() {
        let record = sender::Record {
            topic: "orders".to_owned(),
            partition: Some(0),
            key,
            headers,
            value,
        };
        sender::send(&connection, record).await.unwrap();
    }
    let reader = open(&connection, selection("orders", Some(0), true))
        .await
        .unwrap();
    let read = take(reader, sent.len()).await;
    let plain = |(name, value): &(Vec<u8>, Option<Vec<u8>>)| {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (text(name), text(value.as_deref().unwrap()))
    };
    for (record, (key, value, headers)) in read.iter().zip(&sent) {
        assert_eq!((&record.key, &record.value), (key, value));
        let read: Vec<(String, String)> = record.headers.iter().map(plain).collect();
        assert_eq!(read, *headers);
        assert!(record.timestamp.is_some_and(|ms| ms > 1_600_000_000_000));
        assert_eq!(record.topic, "orders");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_named() {
    let (_broker, connection) = broker().await;
    let open = |topic, partition| open(&connection, selection(topic, partition, true));
    let error = |opened: Result<Reader, Error>| opened.map(|_| ()).unwrap_err().to_string();
    assert_eq!(error(open("nowhere", None).await), "no topic is named nowhere");
    assert_eq!(
        error(open("orders", Some(2)).await),
        "topic orders has the partitions 0 to 1, and no 2"
    );
    let record = sender::Record {
        topic: "nowhere".to_owned(),
        ..sender::Record::default()
    };
    let refused = sender::send(&connection, record).await.unwrap_err();
    assert_eq!(refused.to_string(), "no topic is named nowhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_said_in_seconds() {
    let started = Instant::now();
    let connection = Connection {
        brokers: vec!["127.0.0.1:1".to_owned()],
        properties: BTreeMap::new(),
        token: None,
        delegation: None,
    };
    let opened = open(&connection, selection("orders", None, true)).await;
    let error = opened.map(|_| ()).unwrap_err().to_string();
    assert!(
        error.starts_with("cannot reach Kafka at 127.0.0.1:1 within 5 s: ") && error.contains("refused"),
        "{error}"
    );
    assert!(started.elapsed() < DEADLINE);
}
