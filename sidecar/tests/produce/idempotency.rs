//! Idempotency keys.

use std::path::Path;
use std::time::Duration;

use rdkafka::Message;
use sluice::config::{Config, Idempotency, Spool};
use sluice_proto::v1::topic_fate::Result as Fated;
use sluice_proto::v1::{self, Delivery, ErrorClass, Record};
use tempfile::TempDir;

use crate::http;
use crate::support::{Mock, Sidecar, config, failure, mock, profile, read, record, set, stored, text, until};

fn keeping(servers: &str, directory: &Path) -> Config {
    Config {
        idempotency: Some(Idempotency {
            directory: directory.to_owned(),
            max_keys: 1000,
            window: Duration::from_secs(3600),
        }),
        ..config(servers)
    }
}

fn settings(config: &mut Config) -> &mut Idempotency {
    config.idempotency.as_mut().unwrap()
}

/// A record that is to be written once under `key`; its value stands for the request.
fn once(id: u64, key: &str, value: &str) -> Record {
    Record {
        idempotency: Some(v1::Idempotency {
            key: key.as_bytes().to_vec().into(),
            fingerprint: value.as_bytes().to_vec().into(),
            window_ms: 0,
        }),
        ..record(id, "orders", value)
    }
}

fn patient(record: Record, deadline_ms: u32) -> Record {
    Record {
        deadline_ms,
        ..record
    }
}

async fn values(mock: &Mock, topic: &str, count: usize) -> Vec<String> {
    read(mock, topic, 0, count).await.iter().map(text).collect()
}

/// The topic holds these, and nothing behind them.
async fn exactly(mock: &Mock, sidecar: &Sidecar, topic: &str, expected: &[&str]) {
    let mut stream = sidecar.stream().await;
    let (_, offset) = stored(&stream.produce(record(0, topic, "last")).await);
    assert_eq!(offset, i64::try_from(expected.len()).unwrap(), "{topic}");
    let found = values(mock, topic, expected.len() + 1).await;
    assert_eq!(found[..expected.len()], *expected);
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_and_writes_nothing() {
    let mock = mock(&[("orders", 1)]);
    let directory = TempDir::new().unwrap();
    let sidecar = Sidecar::start(keeping(&mock.bootstrap_servers(), directory.path())).await;
    let mut stream = sidecar.stream().await;
    assert_eq!(
        stored(&stream.produce(record(1, "orders", "before")).await),
        (0, 0)
    );
    assert_eq!(stored(&stream.produce(once(2, "a", "x")).await), (0, 1));
    assert_eq!(stored(&stream.produce(once(3, "b", "x")).await), (0, 2));
    assert!(stream.replayed.is_empty());
    assert_eq!(stored(&stream.produce(once(4, "a", "x")).await), (0, 1));
    // Another connection's repeat is one as well.
    let mut other = sidecar.stream().await;
    assert_eq!(stored(&other.produce(once(5, "a", "x")).await), (0, 1));
    assert_eq!((&stream.replayed[..], &other.replayed[..]), (&[4][..], &[5][..]));
    exactly(&mock, &sidecar, "orders", &["before", "x", "x"]).await;
    assert_eq!(sidecar.metric("sluice_idempotency_keys").await, Some(2.0));
    assert_eq!(
        sidecar.metric("sluice_idempotency_replays_total").await,
        Some(2.0)
    );
    assert_eq!(sidecar.metric("sluice_idempotency_waiting").await, Some(0.0));
}

#[tokio::test]
async fn another_request_with_the_same_key_is_refused() {
    let mock = mock(&[("orders", 1), ("audit", 1)]);
    let directory = TempDir::new().unwrap();
    let sidecar = Sidecar::start(keeping(&mock.bootstrap_servers(), directory.path())).await;
    let mut stream = sidecar.stream().await;
    stored(&stream.produce(once(1, "a", "x")).await);
    let (class, why) = failure(&stream.produce(once(2, "a", "y")).await);
    assert_eq!(class, ErrorClass::IdempotencyKeyReused, "{why}");
    // For another topic it is another key.
    let elsewhere = Record {
        topics: vec!["audit".to_owned()],
        ..once(3, "a", "y")
    };
    assert_eq!(stored(&stream.produce(elsewhere).await), (0, 0));
    exactly(&mock, &sidecar, "orders", &["x"]).await;
    assert_eq!(
        sidecar.metric("sluice_idempotency_conflicts_total").await,
        Some(1.0)
    );
}

#[tokio::test]
async fn keys_survive_a_restart() {
    let mock = mock(&[("orders", 1)]);
    let directory = TempDir::new().unwrap();
    let config = keeping(&mock.bootstrap_servers(), directory.path());
    let sidecar = Sidecar::start(config.clone()).await;
    assert_eq!(
        stored(&sidecar.stream().await.produce(once(1, "a", "x")).await),
        (0, 0)
    );
    sidecar.stopper.drain();
    sidecar.ended().await;
    let sidecar = Sidecar::start(config).await;
    let mut stream = sidecar.stream().await;
    assert_eq!(stored(&stream.produce(once(2, "a", "x")).await), (0, 0));
    assert_eq!(stream.replayed, [2]);
    let (class, _) = failure(&stream.produce(once(3, "a", "y")).await);
    assert_eq!(class, ErrorClass::IdempotencyKeyReused);
    exactly(&mock, &sidecar, "orders", &["x"]).await;
}

#[tokio::test]
async fn repeats_wait_for_the_first_and_hold_up_nobody() {
    let mock = mock(&[("orders", 1), ("audit", 1)]);
    let directory = TempDir::new().unwrap();
    let sidecar = Sidecar::start(keeping(&mock.bootstrap_servers(), directory.path())).await;
    let mut stream = sidecar.stream().await;
    stored(&stream.produce(record(0, "orders", "before")).await);
    mock.broker_round_trip_time(1, Duration::from_millis(700))
        .unwrap();
    stream.send((1..=64).map(|id| once(id, "a", "x")).collect()).await;
    until("all of them wait", async || {
        sidecar.metric("sluice_idempotency_waiting").await == Some(64.0)
    })
    .await;
    // What differs is refused while they wait.
    let (class, _) = failure(&stream.produce(once(65, "a", "y")).await);
    assert_eq!(class, ErrorClass::IdempotencyKeyReused);
    for (id, topics) in stream.fates(64).await {
        assert_eq!(stored(topics[0].result.as_ref().unwrap()), (0, 1), "{id}");
    }
    assert_eq!(stream.replayed.len(), 63);
    exactly(&mock, &sidecar, "orders", &["before", "x"]).await;
}

#[tokio::test]
async fn after_a_504_a_repeat_gets_the_true_answer() {
    let mock = mock(&[("orders", 1)]);
    let directory = TempDir::new().unwrap();
    let sidecar = Sidecar::start(keeping(&mock.bootstrap_servers(), directory.path())).await;
    let mut stream = sidecar.stream().await;
    stored(&stream.produce(record(0, "orders", "before")).await);
    mock.broker_round_trip_time(1, Duration::from_millis(1500))
        .unwrap();
    for id in 1..3 {
        let (class, why) = failure(&stream.produce(patient(once(id, "a", "x"), 200)).await);
        assert_eq!(class, ErrorClass::OutcomeUnknown, "{why}");
        assert!(
            why.contains("a repeat with the same Idempotency-Key waits for it"),
            "{why}"
        );
    }
    assert_eq!(stored(&stream.produce(once(3, "a", "x")).await), (0, 1));
    assert_eq!(stream.replayed, [3]);
    exactly(&mock, &sidecar, "orders", &["before", "x"]).await;
}

#[tokio::test]
async fn what_is_certainly_not_stored_is_tried_again_with_its_key() {
    let mock = mock(&[("orders", 1)]);
    mock.broker_down(1).unwrap();
    let directory = TempDir::new().unwrap();
    let sidecar = Sidecar::start(keeping(&mock.bootstrap_servers(), directory.path())).await;
    let mut stream = sidecar.stream().await;
    let (class, why) = failure(&stream.produce(patient(once(1, "a", "x"), 500)).await);
    assert_eq!(class, ErrorClass::ClusterUnavailable, "{why}");
    assert_eq!(sidecar.metric("sluice_idempotency_keys").await, Some(0.0));
    mock.broker_up(1).unwrap();
    // It may even be another request.
    assert_eq!(stored(&stream.produce(once(2, "a", "y")).await), (0, 0));
    assert!(stream.replayed.is_empty());
    let missing = Record {
        topics: vec!["nowhere".to_owned()],
        ..once(3, "b", "x")
    };
    assert_eq!(
        failure(&stream.produce(missing.clone()).await).0,
        ErrorClass::UnknownTopic
    );
    mock.create_topic("nowhere", 1, 1).unwrap();
    let mut found = stream.produce(missing.clone()).await;
    // The sidecar believes for a moment that it is not there.
    while matches!(&found, Fated::Failure(_)) {
        assert_eq!(failure(&found).0, ErrorClass::UnknownTopic);
        tokio::time::sleep(Duration::from_millis(100)).await;
        found = stream.produce(missing.clone()).await;
    }
    assert_eq!(stored(&found), (0, 0));
    exactly(&mock, &sidecar, "orders", &["y"]).await;
}

#[tokio::test]
async fn of_several_topics_a_repeat_writes_those_that_are_missing() {
    let mock = mock(&[("orders", 1)]);
    let directory = TempDir::new().unwrap();
    let sidecar = Sidecar::start(keeping(&mock.bootstrap_servers(), directory.path())).await;
    let mut stream = sidecar.stream().await;
    let both = |id| Record {
        topics: vec!["late".to_owned(), "orders".to_owned()],
        ..once(id, "a", "x")
    };
    let produce = async |stream: &mut crate::support::Stream, id| {
        stream.send(vec![both(id)]).await;
        let (_, topics) = stream.fates(1).await.pop().unwrap();
        topics
            .into_iter()
            .map(|topic| topic.result.unwrap())
            .collect::<Vec<_>>()
    };
    let first = produce(&mut stream, 1).await;
    assert_eq!(failure(&first[0]).0, ErrorClass::UnknownTopic);
    assert_eq!(stored(&first[1]), (0, 0));
    mock.create_topic("late", 1, 1).unwrap();
    let mut again = produce(&mut stream, 2).await;
    while matches!(&again[0], Fated::Failure(_)) {
        assert_eq!(stored(&again[1]), (0, 0));
        tokio::time::sleep(Duration::from_millis(100)).await;
        again = produce(&mut stream, 2).await;
    }
    assert_eq!((stored(&again[0]), stored(&again[1])), ((0, 0), (0, 0)));
    assert!(stream.replayed.is_empty(), "{:?}", stream.replayed);
    let last = produce(&mut stream, 3).await;
    assert_eq!((stored(&last[0]), stored(&last[1])), ((0, 0), (0, 0)));
    assert_eq!(stream.replayed, [3]);
    exactly(&mock, &sidecar, "orders", &["x"]).await;
    exactly(&mock, &sidecar, "late", &["x"]).await;
}

/// What a second sidecar finds when the first was killed: here the first never lets go of its record.
#[tokio::test]
async fn what_was_under_way_when_the_sidecar_ended_is_known_to_nobody() {
    let mock = mock(&[("orders", 1)]);
    let directory = TempDir::new().unwrap();
    let mut config = keeping(&mock.bootstrap_servers(), directory.path());
    config.grace_period = Duration::from_millis(100);
    let sidecar = Sidecar::start(config.clone()).await;
    let mut stream = sidecar.stream().await;
    stored(&stream.produce(record(0, "orders", "before")).await);
    mock.broker_round_trip_time(1, Duration::from_secs(5)).unwrap();
    stream.send(vec![once(1, "a", "x")]).await;
    under_way(&sidecar).await;
    sidecar.stopper.drain();
    assert_eq!(failure(&stream.fate().await).0, ErrorClass::OutcomeUnknown);
    sidecar.ended().await;
    mock.broker_round_trip_time(1, Duration::ZERO).unwrap();
    let sidecar = Sidecar::start(config).await;
    let mut stream = sidecar.stream().await;
    for id in 2..4 {
        let (class, why) = failure(&stream.produce(once(id, "a", "x")).await);
        assert_eq!(class, ErrorClass::OutcomeUnknown);
        what_to_do(&why);
    }
    assert!(stream.replayed.is_empty());
    assert_eq!(
        sidecar.metric("sluice_idempotency_unknown_total").await,
        Some(2.0)
    );
    // Another key is like new.
    stored(&stream.produce(once(4, "b", "x")).await);
}

/// Waits until a producer has the record.
async fn under_way(sidecar: &Sidecar) {
    until("it is under way", async || {
        sidecar.metric("sluice_outstanding_records").await == Some(1.0)
    })
    .await;
}

/// An answer of which nobody knows says when the record was sent, where to look for it, and what to do then.
fn what_to_do(why: &str) {
    let parts = [
        "nobody knows",
        "it was sent at 2",
        "Look for it in topic orders",
        "if it is not there, send it with a new key",
        "until it expires, at 2",
    ];
    for part in parts {
        assert!(why.contains(part), "{part}: {why}");
    }
}

/// The sidecar is killed when Kafka has the record and the disk does not know that yet: the file is then as it was when the
/// record went out. The record is there, once; whoever repeats it is told that nobody knows, and what to do.
#[tokio::test]
async fn what_kafka_had_when_the_sidecar_was_killed_is_known_to_nobody_and_not_written_again() {
    let mock = mock(&[("orders", 1)]);
    let (directory, left) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut config = keeping(&mock.bootstrap_servers(), directory.path());
    let sidecar = Sidecar::start(config.clone()).await;
    let mut stream = sidecar.stream().await;
    stored(&stream.produce(record(0, "orders", "before")).await);
    mock.broker_round_trip_time(1, Duration::from_millis(700))
        .unwrap();
    stream.send(vec![once(1, "a", "x")]).await;
    under_way(&sidecar).await;
    // That it is under way is on the disk before it is handed on. This is what a kill would leave.
    let file = |directory: &TempDir| directory.path().join(sluice::idempotency::FILE);
    std::fs::copy(file(&directory), file(&left)).unwrap();
    assert_eq!(stored(&stream.fate().await), (0, 1));
    sidecar.stopper.stop();
    sidecar.ended().await;
    mock.broker_round_trip_time(1, Duration::ZERO).unwrap();
    settings(&mut config).directory = left.path().to_owned();
    let sidecar = Sidecar::start(config).await;
    let mut stream = sidecar.stream().await;
    for id in 2..4 {
        let (class, why) = failure(&stream.produce(once(id, "a", "x")).await);
        assert_eq!(class, ErrorClass::OutcomeUnknown);
        what_to_do(&why);
    }
    assert!(stream.replayed.is_empty());
    exactly(&mock, &sidecar, "orders", &["before", "x"]).await;
}

#[tokio::test]
async fn a_key_is_forgotten_after_its_window() {
    let mock = mock(&[("orders", 1)]);
    let directory = TempDir::new().unwrap();
    let mut config = keeping(&mock.bootstrap_servers(), directory.path());
    settings(&mut config).window = Duration::from_secs(1);
    let sidecar = Sidecar::start(config).await;
    let mut stream = sidecar.stream().await;
    let long = |id| {
        let mut long = once(id, "long", "x");
        long.idempotency.as_mut().unwrap().window_ms = 600_000;
        long
    };
    stored(&stream.produce(once(1, "short", "x")).await);
    stored(&stream.produce(long(2)).await);
    until("the key is forgotten", async || {
        let fate = stream.produce(once(3, "short", "y")).await;
        matches!(fate, Fated::Stored(_))
    })
    .await;
    stored(&stream.produce(long(4)).await);
    assert_eq!(stream.replayed, [4]);
}

#[tokio::test]
async fn past_the_bound_a_new_key_is_refused_and_no_old_one_is_forgotten() {
    let mock = mock(&[("orders", 1)]);
    let directory = TempDir::new().unwrap();
    let mut config = keeping(&mock.bootstrap_servers(), directory.path());
    settings(&mut config).max_keys = 3;
    let sidecar = Sidecar::start(config).await;
    let mut stream = sidecar.stream().await;
    for id in 0..3 {
        stored(&stream.produce(once(id, &format!("k{id}"), "x")).await);
    }
    let (class, why) = failure(&stream.produce(once(3, "k3", "x")).await);
    assert_eq!(class, ErrorClass::BufferFull);
    assert!(why.contains("idempotency.max_keys is 3"), "{why}");
    for id in 0..3 {
        stored(&stream.produce(once(id, &format!("k{id}"), "x")).await);
    }
    assert_eq!(stream.replayed, [0, 1, 2]);
    // Those without a key are not concerned.
    stored(&stream.produce(record(9, "orders", "x")).await);
}

#[tokio::test]
async fn each_delivery_is_answered_again_as_it_was() {
    let mock = mock(&[("orders", 1)]);
    let (keys, spool) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut config = keeping(&mock.bootstrap_servers(), keys.path());
    config.spool = Some(Spool {
        directory: spool.path().to_owned(),
        max_bytes: 1 << 30,
        max_age: Duration::from_secs(3600),
        grace: Duration::from_secs(60),
        dead_letters: None,
    });
    let sidecar = Sidecar::start(config).await;
    let mut stream = sidecar.stream().await;
    let deliveries = [Delivery::Buffered, Delivery::Spooled];
    for (id, delivery) in (0..).zip(deliveries) {
        for repeat in 0..3 {
            let record = Record {
                delivery: delivery.into(),
                ..once(id * 10 + repeat, delivery.as_str_name(), delivery.as_str_name())
            };
            let fate = stream.produce(record).await;
            assert!(matches!(fate, Fated::Accepted(_)), "{fate:?}");
        }
    }
    assert_eq!(stream.replayed, [1, 2, 11, 12]);
    let mut found = values(&mock, "orders", 2).await;
    found.sort();
    assert_eq!(found, ["DELIVERY_BUFFERED", "DELIVERY_SPOOLED"]);
    // While the cluster is away one that the spool bridges is accepted, and again when it is back.
    mock.broker_down(1).unwrap();
    until("the sidecar sees the outage", async || {
        sidecar.ready().await["clusters"]["main"]["state"] == "down"
    })
    .await;
    let bridged = |id| Record {
        spool_on_outage: true,
        ..once(id, "bridged", "bridged")
    };
    assert!(matches!(stream.produce(bridged(20)).await, Fated::Accepted(_)));
    mock.broker_up(1).unwrap();
    assert_eq!(values(&mock, "orders", 3).await[2], "bridged");
    assert!(matches!(stream.produce(bridged(21)).await, Fated::Accepted(_)));
    assert_eq!(stream.replayed, [1, 2, 11, 12, 21]);
}

#[tokio::test]
async fn without_acknowledgements_a_repeat_is_accepted_again() {
    let mock = mock(&[("orders", 1)]);
    let directory = TempDir::new().unwrap();
    let mut config = keeping(&mock.bootstrap_servers(), directory.path());
    profile(&mut config).idempotent = false;
    set(&mut config, "acks", "0");
    let sidecar = Sidecar::start(config).await;
    let mut stream = sidecar.stream().await;
    for id in 0..3 {
        let fate = stream.produce(once(id, "a", "x")).await;
        assert!(matches!(fate, Fated::Accepted(_)), "{fate:?}");
    }
    assert_eq!(stream.replayed, [1, 2]);
    let messages = read(&mock, "orders", 0, 1).await;
    assert_eq!(messages[0].payload(), Some(&b"x"[..]));
}

#[tokio::test]
async fn what_asks_for_no_key_that_can_be_kept_is_refused() {
    let mock = mock(&[("orders", 1)]);
    let directory = TempDir::new().unwrap();
    let sidecar = Sidecar::start(keeping(&mock.bootstrap_servers(), directory.path())).await;
    let mut stream = sidecar.stream().await;
    let with = |change: fn(&mut v1::Idempotency)| {
        let mut record = once(1, "a", "x");
        change(record.idempotency.as_mut().unwrap());
        record
    };
    let rows: [(Record, &str); 5] = [
        (with(|asked| asked.key = Vec::new().into()), "1 to 255 bytes"),
        (with(|asked| asked.key = vec![b'k'; 256].into()), "not 256"),
        (with(|asked| asked.fingerprint = Vec::new().into()), "fingerprint"),
        (with(|asked| asked.fingerprint = vec![0; 65].into()), "not 65"),
        (with(|asked| asked.window_ms = 999), "1000 to"),
    ];
    for (record, words) in rows {
        let (class, why) = failure(&stream.produce(record).await);
        assert_eq!(class, ErrorClass::InvalidRequest, "{why}");
        assert!(why.contains(words), "{why}");
    }
    // Without keys nobody is let believe that there are some.
    let without = Sidecar::on(&mock).await;
    let (class, why) = failure(&without.stream().await.produce(once(1, "a", "x")).await);
    assert_eq!(class, ErrorClass::RouteMisconfigured);
    assert!(why.contains("idempotency.directory"), "{why}");
    let url = without.url("/topics/orders/records");
    let answer = http::post(&url, &[("idempotency-key", "a")], "x").await;
    assert_eq!(answer.status, 500, "{answer:?}");
    exactly(&mock, &sidecar, "orders", &[]).await;
}

#[tokio::test]
async fn a_request_over_rest_is_repeated_with_its_header() {
    let mock = mock(&[("orders", 1)]);
    let directory = TempDir::new().unwrap();
    let sidecar = Sidecar::start(keeping(&mock.bootstrap_servers(), directory.path())).await;
    let post = async |query: &str, headers: &[(&str, &str)], body: &str| {
        let url = sidecar.url(&format!("/topics/orders/records{query}"));
        let headers: Vec<_> = [("x-kafka-key", "k")].iter().chain(headers).copied().collect();
        http::post(&url, &headers, body.to_owned()).await
    };
    let first = post("", &[("idempotency-key", "\"a\"")], "x").await;
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(first.header("idempotent-replayed"), None);
    // A trace is another in each attempt.
    let again = post("", &[("idempotency-key", "a"), ("traceparent", "00-1")], "x").await;
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    assert_eq!(again.header("x-kafka-offset"), Some("0"));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let other = [
        post("", &[("idempotency-key", "a")], "y").await,
        post("?timeout_ms=5000", &[("idempotency-key", "a")], "x").await,
        post("", &[("idempotency-key", "a"), ("x-kafka-header-b", "1")], "x").await,
    ];
    for answer in other {
        assert_eq!(answer.status, 422, "{answer:?}");
        assert_eq!(answer.json()["code"], "idempotency_key_reused");
    }
    let long = "k".repeat(256);
    for key in ["", "\"a", &long] {
        let answer = post("", &[("idempotency-key", key)], "x").await;
        assert_eq!(answer.status, 400, "{key}: {answer:?}");
        assert!(
            answer.json()["error"]
                .as_str()
                .unwrap()
                .contains("idempotency-key")
        );
    }
    let twice = post("", &[("idempotency-key", "a"), ("idempotency-key", "b")], "x").await;
    assert_eq!(twice.status, 400, "{twice:?}");
    for many in [
        "application/x-ndjson",
        "application/vnd.sluice.records+json",
        "application/x-protobuf",
    ] {
        let answer = post("", &[("content-type", many), ("idempotency-key", "b")], "{}").await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(
            answer.json()["error"]
                .as_str()
                .unwrap()
                .contains("for one record")
        );
    }
    exactly(&mock, &sidecar, "orders", &["x"]).await;
}

#[tokio::test]
async fn two_sidecars_do_not_share_their_keys() {
    let mock = mock(&[]);
    let directory = TempDir::new().unwrap();
    let config = keeping(&mock.bootstrap_servers(), directory.path());
    let _first = Sidecar::start(config.clone()).await;
    let (_stopper, shutdown) = sluice::shutdown::channel();
    let error = sluice::app::App::bind(config, shutdown).await.err().unwrap();
    assert!(error.to_string().starts_with("idempotency: "), "{error}");
    assert!(error.to_string().contains("in use by another sidecar"), "{error}");
}
