//! What is written in a profile is what its running producer does.

use std::time::{Duration, Instant};

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use sluice_proto::v1::Header;

use super::*;
use crate::config::Secret;
use crate::kafka::connection::Connection;
use crate::kafka::consumer::{Next, Reader, Selection};

/// The producer of a profile of `testdata/config/sidecar/good/full.yaml` on its cluster `main`.
fn written(profile: &str, servers: String) -> Producer {
    written_for("main", profile, servers)
}

fn written_for(cluster: &str, profile: &str, servers: String) -> Producer {
    let yaml = include_str!("../../../../../testdata/config/sidecar/good/full.yaml");
    let env = [
        ("DATA_TOKEN", "secret"),
        ("OTHER_TOKEN", "secret"),
        ("KAFKA_PASSWORD", "secret"),
        ("KAFKA_TOKEN", "secret"),
        ("STORE_PASSWORD", "store-secret"),
        ("KEY_PASSWORD", "key-secret"),
        ("READ_TOKEN", "the-readers"),
        ("REPLY_KEY", "sixteen-bytes-or-more"),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut config = crate::config::load(yaml, env.into_iter()).unwrap().config;
    let cluster = config.clusters.get_mut(cluster).unwrap();
    cluster.bootstrap_servers = vec![servers];
    let metrics = Arc::new(Metrics::default()).producer("main", profile);
    Producer::start(profile.to_owned(), cluster, &config.producers[profile], metrics).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_setting_is_one_of_the_running_producer() {
    let bulk = written("bulk", "127.0.0.1:1".to_owned());
    let quick = written("quick", "127.0.0.1:1".to_owned());
    // Of the cluster; of the profile's own fields, in the order of the documentation; of its `properties`.
    let expected = [
        ("client.id", "sluice", "sluice"),
        ("socket.keepalive.enable", "true", "true"),
        ("acks", "-1", "1"),
        ("request.timeout.ms", "2000", "30000"),
        ("batch.num.messages", "200", "10000"),
        ("batch.size", "1048576", "1000000"),
        ("retries", "10", "2147483647"),
        ("retry.backoff.ms", "150", "100"),
        ("retry.backoff.max.ms", "150", "1000"),
        ("socket.timeout.ms", "9000", "60000"),
        ("connections.max.idle.ms", "60000", "0"),
        ("compression.type", "lz4", "none"),
        ("allow.auto.create.topics", "true", "false"),
        ("message.timeout.ms", "20000", "300000"),
        ("max.in.flight.requests.per.connection", "3", "1000000"),
        ("enable.idempotence", "true", "false"),
        // Sluice's own, which librdkafka does not have by default.
        ("partitioner", "murmur2_random", "murmur2_random"),
        ("reconnect.backoff.max.ms", "1000", "1000"),
        ("linger.ms", "1000", "0"),
        ("sticky.partitioning.linger.ms", "10", "10"),
        // Kept by the sidecar itself: no bound of the library's comes on top.
        ("queue.buffering.max.messages", "0", "0"),
        ("queue.buffering.max.kbytes", "2147483647", "2147483647"),
    ];
    for (name, of_bulk, of_quick) in expected {
        let found = [&bulk, &quick].map(|producer| {
            let native = Arc::clone(producer.shared.lock().native());
            native.property(name).unwrap()
        });
        assert_eq!(found, [of_bulk, of_quick], "{name}");
    }
}

/// With several requests under way librdkafka writes records twice when a leader goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotent_producer_has_one_request_under_way_unless_it_is_told_otherwise() {
    let plain = written("default", "127.0.0.1:1".to_owned());
    let native = Arc::clone(plain.shared.lock().native());
    let found =
        ["enable.idempotence", "max.in.flight.requests.per.connection"].map(|name| native.property(name));
    assert_eq!(found, ["true", "1"].map(|value| Some(value.to_owned())));
}

/// So is what stands in a cluster's own fields.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_of_a_cluster_is_one_of_the_running_producer() {
    let property = |producer: &Producer, name: &str| {
        let native = Arc::clone(producer.shared.lock().native());
        native.property(name).unwrap()
    };
    let far = written_for("far", "default", "127.0.0.1:1".to_owned());
    for (name, value) in [
        ("security.protocol", "sasl_ssl"),
        ("client.id", "orders-gateway"),
        ("sasl.mechanisms", "SCRAM-SHA-512"),
        ("sasl.username", "alice"),
        ("enable.ssl.certificate.verification", "false"),
    ] {
        assert_eq!(property(&far, name), value, "{name}");
    }
    let token = written_for("token", "default", "127.0.0.1:1".to_owned());
    assert_eq!(property(&token, "security.protocol"), "sasl_ssl");
    assert_eq!(property(&token, "sasl.mechanisms"), "OAUTHBEARER");
    assert_eq!(property(&token, "enable.ssl.certificate.verification"), "true");
    let id = property(&token, "client.id");
    let digits = id.strip_prefix("sluice-producer-").unwrap();
    assert!(
        digits.len() == 8 && digits.chars().all(|c| c.is_ascii_hexdigit()),
        "{id}"
    );
}

/// `producer_async_flush_timeout: 1s`: a record waits for others for as long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_linger_for_as_long_as_the_profile_says() {
    let mock = mock();
    let bulk = written("bulk", mock.bootstrap_servers());
    let told = Arc::new(Told::default());
    let begun = Instant::now();
    send(&bulk, &told, 0..1);
    told.wait(1);
    assert!(
        begun.elapsed() >= Duration::from_millis(950),
        "{:?}",
        begun.elapsed()
    );
}

/// Without it none does: what comes while others are under way goes when those are acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_gathered_while_others_are_under_way() {
    let mock = mock();
    let (producer, _) = producer(mock.bootstrap_servers(), 10_000);
    let told = Arc::new(Told::default());
    send(&producer, &told, 0..1);
    told.wait(1);
    mock.broker_round_trip_time(1, Duration::from_millis(100))
        .unwrap();
    // Until the producer has seen how long acknowledgements take now it does not wait long for them.
    let gathered = (0..20).any(|round| {
        let first = 1 + round * 30;
        send(&producer, &told, first..first + 10);
        for one in first + 10..first + 30 {
            send(&producer, &told, one..one + 1);
        }
        let handed = producer.shared.lock().handed();
        told.wait(usize::try_from(first).unwrap() + 30);
        handed == 10
    });
    assert!(gathered, "every record was handed over at once");
}

/// A batch that the broker refuses as too large is not too large for each of its records: those are sent again, as
/// they were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_too_large_takes_no_other_with_it() {
    let mock = mock();
    // It lingers for a second, so that all are in one batch.
    let bulk = written("bulk", mock.bootstrap_servers());
    let told = Arc::new(Told::default());
    send(&bulk, &told, 0..1);
    told.wait(1);
    mock.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 2],
    );
    let header = |name: &str, value: Option<&[u8]>| Header {
        name: name.to_owned(),
        value: value.map(<[u8]>::to_vec),
    };
    let record = |key: Option<&'static str>, value: Option<&'static str>, headers| Record {
        topic: "orders".to_owned(),
        key: key.map(Into::into),
        value: value.map(Into::into),
        headers,
        timestamp_ms: Some(1_700_000_000_123),
        ..Record::default()
    };
    // The second and the third are the largest: each is refused with what is left of the batch.
    let records = [
        record(None, None, vec![]),
        record(Some("k"), Some("larger than others"), vec![]),
        record(None, Some("the largest of all of them"), vec![]),
        record(
            Some(""),
            Some(""),
            vec![header("b", Some(b"1")), header("a", None), header("b", Some(b""))],
        ),
        record(Some("key"), Some("value"), vec![header("h", Some(b"\xff"))]),
    ];
    let mut submissions: Vec<Submission> = (1..)
        .zip(&records)
        .map(|(token, record)| Submission {
            record: record.clone(),
            delivery: Delivery::Acked {
                deadline: Instant::now() + PATIENCE,
            },
            receipt: Receipt {
                recipient: Arc::clone(&told) as Arc<dyn Recipient>,
                token,
            },
            label: "orders".into(),
            client: 0,
            aside: None,
        })
        .collect();
    bulk.submit(&mut submissions);
    for (token, outcome) in told.wait(6).drain(1..) {
        match outcome {
            Outcome::Failed(failure) if [2, 3].contains(&token) => {
                assert_eq!(failure.class, ErrorClass::TooLarge);
            }
            outcome => assert!(matches!(outcome, Outcome::Stored { .. }), "{token}: {outcome:?}"),
        }
    }
    assert_eq!(bulk.outstanding(), 0);

    let connection = Connection {
        brokers: vec![mock.bootstrap_servers()],
        properties: [("fetch.wait.max.ms".to_owned(), Secret::new("10"))].into(),
        token: None,
        delegation: None,
    };
    let all = Selection {
        topic: "orders".to_owned(),
        partition: None,
        from_beginning: true,
    };
    let read = move || {
        let mut reader = Reader::open(connection, all).unwrap();
        let until = Instant::now() + PATIENCE;
        let mut found = Vec::new();
        while found.len() < 4 {
            assert!(Instant::now() < until, "{found:?}");
            if let Next::Record(record) = reader.next(Duration::from_millis(50)).unwrap() {
                found.push(record);
            }
        }
        found.split_off(1)
    };
    let stored = tokio::task::spawn_blocking(read).await.unwrap();
    let kept = [&records[0], &records[3], &records[4]];
    for (found, sent) in stored.iter().zip(kept) {
        assert_eq!(found.key.as_deref(), sent.key.as_deref());
        assert_eq!(found.value.as_deref(), sent.value.as_deref());
        assert_eq!(found.timestamp, sent.timestamp_ms);
        let headers = |header: &Header| (header.name.clone().into_bytes(), header.value.clone());
        assert_eq!(
            found.headers,
            sent.headers.iter().map(headers).collect::<Vec<_>>()
        );
    }
}
