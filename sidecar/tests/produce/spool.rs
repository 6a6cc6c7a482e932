//! Delivery `spooled`.

use std::path::Path;
use std::time::Duration;

use rdkafka::Message;
use rdkafka::bindings::rd_kafka_resp_err_t as Raw;
use rdkafka::types::RDKafkaApiKey;
use sluice::config::{Acks, Config, Spool};
use sluice_proto::v1::topic_fate::Result as Fated;
use sluice_proto::v1::{Delivery, ErrorClass, Header, Record};
use tempfile::TempDir;

use crate::http;
use crate::support::{Mock, Sidecar, cluster, config, failure, mock, profile, read, record, text, until};

pub(crate) fn spooling(servers: &str, directory: &Path) -> Config {
    Config {
        spool: Some(Spool {
            directory: directory.to_owned(),
            max_bytes: 1 << 30,
            max_age: Duration::from_secs(3600),
            grace: Duration::from_secs(60),
            dead_letters: None,
        }),
        ..config(servers)
    }
}

pub(crate) fn spool(config: &mut Config) -> &mut Spool {
    config.spool.as_mut().unwrap()
}

pub(crate) fn spooled(id: u64, topic: &str, key: Option<&str>) -> Record {
    Record {
        delivery: Delivery::Spooled.into(),
        key: key.map(|key| key.as_bytes().to_vec().into()),
        ..record(id, topic, &id.to_string())
    }
}

pub(crate) fn accepted(fated: &Fated) {
    assert!(matches!(fated, Fated::Accepted(_)), "{fated:?}");
}

pub(crate) async fn until_empty(sidecar: &Sidecar) {
    until("the spool is empty", async || {
        sidecar.metric("sluice_spool_records").await == Some(0.0)
    })
    .await;
}

pub(crate) async fn values(mock: &Mock, topic: &str, count: usize) -> Vec<String> {
    read(mock, topic, 0, count).await.iter().map(text).collect()
}

#[tokio::test]
async fn a_spooled_record_is_accepted_and_then_delivered_as_it_was() {
    let mock = mock(&[("orders", 1)]);
    let directory = TempDir::new().unwrap();
    let sidecar = Sidecar::start(spooling(&mock.bootstrap_servers(), directory.path())).await;
    let mut stream = sidecar.stream().await;
    let header = |name: &str, value: Option<&[u8]>| Header {
        name: name.to_owned(),
        value: value.map(<[u8]>::to_vec),
    };
    let full = Record {
        headers: vec![header("a", Some(b"1")), header("a", None), header("b", Some(b""))],
        timestamp_ms: Some(1_700_000_000_000),
        partition: Some(0),
        ..spooled(1, "orders", Some("k"))
    };
    accepted(&stream.produce(full).await);
    accepted(
        &stream
            .produce(Record {
                value: None,
                ..spooled(2, "orders", Some(""))
            })
            .await,
    );
    accepted(
        &stream
            .produce(Record {
                value: Some("".into()),
                ..spooled(3, "orders", None)
            })
            .await,
    );
    let found = read(&mock, "orders", 0, 3).await;
    let of = |value: Option<&[u8]>| {
        found
            .iter()
            .find(|message| message.key() == value)
            .expect("a record with that key")
    };
    let full = of(Some(b"k"));
    assert_eq!(full.payload(), Some(&b"1"[..]));
    assert_eq!(full.timestamp().to_millis(), Some(1_700_000_000_000));
    let headers: Vec<_> = rdkafka::message::Headers::iter(full.headers().unwrap())
        .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
        .collect();
    let expected = [("a", Some(b"1".to_vec())), ("a", None), ("b", Some(Vec::new()))];
    assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value)));
    assert_eq!(of(Some(b"")).payload(), None);
    assert_eq!(of(None).payload(), Some(&b""[..]));
    until_empty(&sidecar).await;
    assert_eq!(sidecar.metric("sluice_spool_bytes").await, Some(0.0));
    assert_eq!(sidecar.metric("sluice_spool_oldest_seconds").await, Some(0.0));
    assert!(sidecar.metric("sluice_spool_sync_seconds_count").await >= Some(3.0));
    let counted = "sluice_records_total{cluster=\"main\",topic=\"*\",outcome=\"stored\"} 3";
    assert!(sidecar.metrics().await.contains(counted));
}

#[tokio::test]
async fn without_a_spool_it_is_refused_and_the_cure_is_named() {
    let mock = mock(&[("orders", 1)]);
    let sidecar = Sidecar::on(&mock).await;
    let (class, why) = failure(&sidecar.stream().await.produce(spooled(1, "orders", None)).await);
    assert_eq!(class, ErrorClass::RouteMisconfigured);
    assert!(why.contains("spool.directory"), "{why}");
}

#[tokio::test]
async fn a_profile_without_acknowledgements_is_refused() {
    let mock = mock(&[("orders", 1)]);
    let directory = TempDir::new().unwrap();
    let mut config = spooling(&mock.bootstrap_servers(), directory.path());
    profile(&mut config).acks = Some(Acks::None);
    profile(&mut config).idempotent = false;
    let sidecar = Sidecar::start(config).await;
    let (class, why) = failure(&sidecar.stream().await.produce(spooled(1, "orders", None)).await);
    assert_eq!(class, ErrorClass::RouteMisconfigured);
    assert!(why.contains("producer_request_acks"), "{why}");
}

#[tokio::test]
async fn over_rest_too() {
    let mock = mock(&[("orders", 1)]);
    let directory = TempDir::new().unwrap();
    let sidecar = Sidecar::start(spooling(&mock.bootstrap_servers(), directory.path())).await;
    let url = sidecar.url("/topics/orders/records?delivery=spooled");
    let answer = http::post(&url, &[], "hello").await;
    assert_eq!(answer.status, 202);
    assert_eq!(values(&mock, "orders", 1).await, ["hello"]);
}

/// Accepted while the cluster is away, delivered by the sidecar that is started next, key by key in order.
#[tokio::test]
async fn an_outage_and_a_restart_lose_nothing_and_keep_the_order() {
    let mock = mock(&[("orders", 1), ("audit", 1)]);
    mock.broker_down(1).unwrap();
    let directory = TempDir::new().unwrap();
    let servers = mock.bootstrap_servers();
    let sidecar = Sidecar::start(spooling(&servers, directory.path())).await;
    let mut stream = sidecar.stream().await;
    let key = |id: u64| Some(["a", "b", "c"][usize::try_from(id % 3).unwrap()]);
    for id in 0..300 {
        let topic = if id % 10 == 9 { "audit" } else { "orders" };
        stream.send(vec![spooled(id, topic, key(id))]).await;
    }
    for (_, topics) in stream.fates(300).await {
        accepted(topics[0].result.as_ref().unwrap());
    }
    assert_eq!(sidecar.metric("sluice_spool_records").await, Some(300.0));
    until("the oldest has an age", async || {
        sidecar.metric("sluice_spool_oldest_seconds").await > Some(0.0)
    })
    .await;
    sidecar.stopper.drain();
    let ended = sidecar.ended().await;
    assert_eq!(ended.given_up, 0, "what is on the disk is not given up");
    mock.broker_up(1).unwrap();
    let sidecar = Sidecar::start(spooling(&servers, directory.path())).await;
    for (topic, of_topic) in [("orders", false), ("audit", true)] {
        let sent: Vec<u64> = (0..300).filter(|id| (id % 10 == 9) == of_topic).collect();
        let found: Vec<u64> = values(&mock, topic, sent.len())
            .await
            .iter()
            .map(|value| value.parse().unwrap())
            .collect();
        for remainder in 0..3 {
            let only = |all: &[u64]| {
                all.iter()
                    .copied()
                    .filter(|id| id % 3 == remainder)
                    .collect::<Vec<_>>()
            };
            assert_eq!(only(&found), only(&sent), "{topic}");
        }
    }
    until_empty(&sidecar).await;
}

#[tokio::test]
async fn a_full_spool_is_a_503_and_nothing_is_lost() {
    let mock = mock(&[("orders", 1)]);
    mock.broker_down(1).unwrap();
    let directory = TempDir::new().unwrap();
    let mut config = spooling(&mock.bootstrap_servers(), directory.path());
    spool(&mut config).max_bytes = 1000;
    let sidecar = Sidecar::start(config).await;
    let mut stream = sidecar.stream().await;
    let mut taken = Vec::new();
    let refused = loop {
        let id = taken.len() as u64;
        match stream.produce(spooled(id, "orders", Some("k"))).await {
            Fated::Accepted(_) => taken.push(id.to_string()),
            other => break other,
        }
    };
    let (class, why) = failure(&refused);
    assert_eq!(class, ErrorClass::BufferFull);
    assert!(why.contains("spool.max_bytes is 1000"), "{why}");
    assert!(taken.len() > 20, "{}", taken.len());
    let large = Record {
        value: Some(vec![0; 2000].into()),
        ..spooled(1000, "orders", None)
    };
    assert_eq!(failure(&stream.produce(large).await).0, ErrorClass::TooLarge);
    mock.broker_up(1).unwrap();
    assert_eq!(values(&mock, "orders", taken.len()).await, taken);
    until_empty(&sidecar).await;
    accepted(&stream.produce(spooled(2000, "orders", None)).await);
}

#[tokio::test]
async fn two_sidecars_do_not_share_a_spool() {
    let mock = mock(&[]);
    let directory = TempDir::new().unwrap();
    let config = spooling(&mock.bootstrap_servers(), directory.path());
    let _first = Sidecar::start(config.clone()).await;
    let (_stopper, shutdown) = sluice::shutdown::channel();
    let error = sluice::app::App::bind(config, shutdown)
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("in use by another sidecar"), "{error}");
}

/// The first record is refused for ever; those behind it, of its key and of others, are not held up.
#[tokio::test]
async fn a_record_that_kafka_never_takes_is_a_dead_letter() {
    let mock = mock(&[("orders", 1)]);
    let directory = TempDir::new().unwrap();
    let mut config = spooling(&mock.bootstrap_servers(), directory.path());
    crate::support::set(&mut config, "message.max.bytes", "2000");
    let sidecar = Sidecar::start(config).await;
    let mut stream = sidecar.stream().await;
    let large = Record {
        value: Some(vec![b'x'; 5000].into()),
        ..spooled(0, "orders", Some("k"))
    };
    let records = (1..20).map(|id| spooled(id, "orders", Some(if id % 2 == 0 { "k" } else { "other" })));
    stream.send([large].into_iter().chain(records).collect()).await;
    for (_, topics) in stream.fates(20).await {
        accepted(topics[0].result.as_ref().unwrap());
    }
    let found = values(&mock, "orders", 19).await;
    for remainder in 0..2 {
        let of_key = found
            .iter()
            .filter(|value| value.parse::<u64>().unwrap() % 2 == remainder);
        let sent = (1..20).filter(|id| id % 2 == remainder).map(|id| id.to_string());
        assert_eq!(of_key.cloned().collect::<Vec<_>>(), sent.collect::<Vec<_>>());
    }
    until_empty(&sidecar).await;
    let counted = "sluice_spool_dead_letters_total{cluster=\"main\",topic=\"*\",code=\"too_large\"} 1";
    assert!(
        sidecar.metrics().await.contains(counted),
        "{}",
        sidecar.metrics().await
    );
    assert_eq!(sidecar.metric("sluice_spool_dead_records").await, Some(1.0));
    assert!(sidecar.metric("sluice_spool_dead_bytes").await > Some(5000.0));
}

/// A topic that is not there holds up no other, and is waited for as long as the grace.
#[tokio::test]
async fn a_topic_that_comes_within_the_grace_gets_its_records() {
    let mock = mock(&[("orders", 1)]);
    let directory = TempDir::new().unwrap();
    let sidecar = Sidecar::start(spooling(&mock.bootstrap_servers(), directory.path())).await;
    let mut stream = sidecar.stream().await;
    for id in 0..10 {
        accepted(&stream.produce(spooled(id, "late", Some("k"))).await);
        accepted(&stream.produce(spooled(100 + id, "orders", Some("k"))).await);
    }
    let sent: Vec<String> = (100..110).map(|id| id.to_string()).collect();
    assert_eq!(values(&mock, "orders", 10).await, sent);
    assert_eq!(sidecar.metric("sluice_spool_records").await, Some(10.0));
    mock.create_topic("late", 1, 1).unwrap();
    let sent: Vec<String> = (0..10).map(|id| id.to_string()).collect();
    assert_eq!(values(&mock, "late", 10).await, sent);
    until_empty(&sidecar).await;
}

#[tokio::test]
async fn a_topic_that_does_not_come_is_given_up_after_the_grace() {
    let mock = mock(&[]);
    let directory = TempDir::new().unwrap();
    let mut config = spooling(&mock.bootstrap_servers(), directory.path());
    spool(&mut config).grace = Duration::from_millis(500);
    let sidecar = Sidecar::start(config).await;
    accepted(&sidecar.stream().await.produce(spooled(1, "nowhere", None)).await);
    let counted = "sluice_spool_dead_letters_total{cluster=\"main\",topic=\"*\",code=\"unknown_topic\"} 1";
    until("the record is given up", async || {
        sidecar.metrics().await.contains(counted)
    })
    .await;
    until_empty(&sidecar).await;
}

#[tokio::test]
async fn a_record_that_is_too_old_is_given_up() {
    let directory = TempDir::new().unwrap();
    // A port that nobody listens on.
    let mut config = spooling("127.0.0.1:1", directory.path());
    spool(&mut config).max_age = Duration::from_secs(1);
    let sidecar = Sidecar::start(config).await;
    accepted(&sidecar.stream().await.produce(spooled(1, "orders", None)).await);
    let counted = "sluice_spool_dead_letters_total{cluster=\"main\",topic=\"*\",code=\"expired\"} 1";
    until("the record is given up", async || {
        sidecar.metrics().await.contains(counted)
    })
    .await;
    until_empty(&sidecar).await;
}

/// After a restart the spool is the first to ask for the producer of a profile that is not the default one.
#[tokio::test]
async fn what_another_profile_left_is_delivered_after_a_restart() {
    let mock = mock(&[("orders", 1)]);
    mock.broker_down(1).unwrap();
    let directory = TempDir::new().unwrap();
    let mut config = spooling(&mock.bootstrap_servers(), directory.path());
    let other = profile(&mut config).clone();
    config.producers.insert("other".to_owned(), other);
    let sidecar = Sidecar::start(config.clone()).await;
    let of_other = Record {
        producer: "other".to_owned(),
        ..spooled(1, "orders", None)
    };
    accepted(&sidecar.stream().await.produce(of_other).await);
    sidecar.stopper.drain();
    sidecar.ended().await;
    mock.broker_up(1).unwrap();
    let sidecar = Sidecar::start(config).await;
    assert_eq!(values(&mock, "orders", 1).await, ["1"]);
    until_empty(&sidecar).await;
}

/// What the configuration does not allow any more waits for one that does.
#[tokio::test]
async fn a_topic_that_is_not_allowed_any_more_waits() {
    let mock = mock(&[("orders", 1), ("audit", 1)]);
    mock.broker_down(1).unwrap();
    let directory = TempDir::new().unwrap();
    let allowing = |topics: &[&str]| {
        let mut config = spooling(&mock.bootstrap_servers(), directory.path());
        cluster(&mut config).allowed_topics.0 = topics.iter().map(|topic| (*topic).to_owned()).collect();
        config
    };
    let sidecar = Sidecar::start(allowing(&["orders", "audit"])).await;
    let mut stream = sidecar.stream().await;
    accepted(&stream.produce(spooled(1, "orders", None)).await);
    accepted(&stream.produce(spooled(2, "audit", None)).await);
    sidecar.stopper.drain();
    sidecar.ended().await;
    mock.broker_up(1).unwrap();
    let sidecar = Sidecar::start(allowing(&["audit"])).await;
    assert_eq!(values(&mock, "audit", 1).await, ["2"]);
    until("one record waits", async || {
        sidecar.metric("sluice_spool_records").await == Some(1.0)
    })
    .await;
    sidecar.stopper.drain();
    sidecar.ended().await;
    let _sidecar = Sidecar::start(allowing(&["orders"])).await;
    assert_eq!(values(&mock, "orders", 1).await, ["1"]);
}

/// Errors that a broker gives for a moment.
#[tokio::test]
async fn what_kafka_refuses_for_a_moment_is_tried_again_in_order() {
    let mock = mock(&[("orders", 1)]);
    let directory = TempDir::new().unwrap();
    let sidecar = Sidecar::start(spooling(&mock.bootstrap_servers(), directory.path())).await;
    let mut stream = sidecar.stream().await;
    let errors = [
        Raw::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
        Raw::RD_KAFKA_RESP_ERR_INVALID_RECORD,
        Raw::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
        Raw::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
    ];
    mock.request_errors(RDKafkaApiKey::Produce, &errors);
    for id in 0..50 {
        stream.send(vec![spooled(id, "orders", Some("k"))]).await;
    }
    stream.fates(50).await;
    let sent: Vec<String> = (0..50).map(|id| id.to_string()).collect();
    assert_eq!(values(&mock, "orders", 50).await, sent);
}

/// What is on its way to Kafka cannot be dropped any more; what waits behind it can, in memory or on the disk.
#[tokio::test]
async fn what_is_under_way_is_not_dropped() {
    let mock = mock(&[("orders", 1)]);
    let directory = TempDir::new().unwrap();
    let sidecar = Sidecar::start(spooling(&mock.bootstrap_servers(), directory.path())).await;
    let mut stream = sidecar.stream().await;
    crate::support::stored(&stream.produce(record(0, "orders", "0")).await);
    mock.broker_round_trip_time(1, Duration::from_secs(1)).unwrap();
    // More than the window has.
    let records = (1..1500).map(|id| spooled(id, "orders", Some("k")));
    stream.send(records.collect()).await;
    stream.fates(1499).await;
    let url = sidecar.admin_url("/spool");
    let order = async |order: String| http::post(&url, &[], order).await.json();
    let found = order(r#"{"waiting": {"lane": 0, "after": 0}}"#.to_owned()).await;
    let first = found["records"][0]["id"].as_u64().unwrap();
    let lane = &found["records"][0]["lane"];
    let told = order(format!(
        r#"{{"waiting": {{"lane": {lane}, "after": {}}}}}"#,
        first + 1400
    ))
    .await;
    let last = told["records"].as_array().unwrap().last().unwrap()["id"]
        .as_u64()
        .unwrap();
    assert_eq!(last, first + 1498);
    until("the first is under way", async || {
        let told = order(format!(r#"{{"discard": [{first}]}}"#)).await;
        told["under_way"] == serde_json::json!([first])
    })
    .await;
    let told = order(format!(r#"{{"discard": [{}, {last}, {last}]}}"#, first + 1)).await;
    assert_eq!(told["dropped"].as_array().unwrap().len(), 2, "{told}");
    mock.broker_round_trip_time(1, Duration::ZERO).unwrap();
    until_empty(&sidecar).await;
    let sent: Vec<String> = (0..1499).filter(|id| *id != 2).map(|id| id.to_string()).collect();
    assert_eq!(values(&mock, "orders", sent.len()).await, sent);
}

/// A file that the first version wrote is read for ever: records with all that they can have, of two profiles and
/// topics, and a dead letter.
#[tokio::test]
async fn a_spool_of_the_first_version_is_delivered() {
    let mock = mock(&[("orders", 1), ("audit", 1)]);
    let directory = TempDir::new().unwrap();
    let frozen = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/spool/v1/spool.redb");
    std::fs::copy(frozen, directory.path().join("spool.redb")).unwrap();
    let mut config = spooling(&mock.bootstrap_servers(), directory.path());
    // It may have been written long ago.
    spool(&mut config).max_age = Duration::from_secs(100 * 366 * 24 * 3600);
    let other = profile(&mut config).clone();
    config.producers.insert("other".to_owned(), other);
    let sidecar = Sidecar::start(config).await;
    let found = read(&mock, "orders", 0, 4).await;
    let of = |key: Option<&[u8]>| {
        found
            .iter()
            .filter(move |record| record.key() == key)
            .collect::<Vec<_>>()
    };
    let [one, tombstone] = of(Some(b"k"))[..] else {
        panic!("{found:?}")
    };
    assert_eq!(
        (one.payload(), one.timestamp().to_millis()),
        (Some(&b"one"[..]), Some(1_700_000_000_000))
    );
    let headers: Vec<_> = rdkafka::message::Headers::iter(one.headers().unwrap())
        .map(|header| (header.key, header.value))
        .collect();
    assert_eq!(
        headers,
        [("a", Some(&b"1"[..])), ("a", None), ("b", Some(&b""[..]))]
    );
    assert_eq!(tombstone.payload(), None);
    assert_eq!(of(Some(b""))[0].payload(), Some(&b""[..]));
    assert_eq!(of(None)[0].payload(), Some(&b"\x00\xff"[..]));
    assert_eq!(values(&mock, "audit", 1).await, ["audited"]);
    until_empty(&sidecar).await;
    assert_eq!(sidecar.metric("sluice_spool_dead_records").await, Some(1.0));
    let url = sidecar.admin_url("/spool");
    let told = http::post(&url, &[], r#"{"replay": null}"#).await.json();
    assert_eq!(told, serde_json::json!({"replayed": 1}));
    let letter = read(&mock, "orders", 0, 5).await.remove(4);
    assert_eq!(
        (letter.key(), letter.payload()),
        (Some(&b"dead"[..]), Some(&[b'x'; 1200][..]))
    );
}

/// A broker that hangs is connected, and the cluster not known to be away.
#[tokio::test]
async fn records_go_to_the_spool_when_acknowledgements_stop() {
    const HANGS: Duration = Duration::from_secs(4);
    let mock = mock(&[("orders", 1)]);
    let directory = TempDir::new().unwrap();
    let mut config = spooling(&mock.bootstrap_servers(), directory.path());
    profile(&mut config).max_queueing_time = Duration::from_millis(100);
    let sidecar = Sidecar::start(config).await;
    let mut stream = sidecar.stream().await;
    let asked = |id: u64, deadline_ms| Record {
        spool_on_outage: true,
        deadline_ms,
        ..record(id, "orders", &id.to_string())
    };
    let fated = stream.produce(asked(0, 5000)).await;
    assert!(matches!(fated, Fated::Stored(_)), "{fated:?}");
    mock.broker_round_trip_time(1, HANGS).unwrap();
    // What is handed over before that is known is answered as ever.
    let lost = failure(&stream.produce(asked(1, 1500)).await);
    assert_eq!(lost.0, ErrorClass::OutcomeUnknown, "{lost:?}");
    for id in 2..5 {
        accepted(&stream.produce(asked(id, 1500)).await);
    }
    mock.broker_round_trip_time(1, Duration::ZERO).unwrap();
    let found = values(&mock, "orders", 5).await;
    assert_eq!(found, ["0", "1", "2", "3", "4"]);
    until_empty(&sidecar).await;
    let fated = stream.produce(asked(5, 5000)).await;
    assert!(matches!(fated, Fated::Stored(_)), "{fated:?}");
}
