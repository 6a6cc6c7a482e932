//! The error table, row by row.

use rdkafka::bindings::rd_kafka_resp_err_t as Raw;
use rdkafka::types::RDKafkaApiKey;
use sluice::config::Acks;
use sluice_proto::v1::topic_fate::Result as Fated;
use sluice_proto::v1::{ErrorClass, Record};

use crate::support::{Mock, Sidecar, cluster, config, failure, mock, profile, record, set, stored};

/// The class and text that a record gets whose produce request the broker answers with `error`, always.
async fn refused_with(error: Raw) -> (ErrorClass, String) {
    refused_within("20000", error).await
}

/// The same for an error that librdkafka tries again after, until `timeout_ms` are over.
async fn refused_within(timeout_ms: &str, error: Raw) -> (ErrorClass, String) {
    let mock = mock(&[("orders", 1)]);
    let mut config = config(&mock.bootstrap_servers());
    set(&mut config, "message.timeout.ms", timeout_ms);
    set(&mut config, "retry.backoff.ms", "20");
    set(&mut config, "retry.backoff.max.ms", "20");
    mock.request_errors(RDKafkaApiKey::Produce, &[error; 1000]);
    let sidecar = Sidecar::start(config).await;
    failure(&sidecar.stream().await.produce(record(1, "orders", "x")).await)
}

#[tokio::test]
async fn what_the_broker_says_about_the_record_is_told() {
    use Raw as R;
    let rows = [
        (R::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, ErrorClass::TooLarge),
        (R::RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE, ErrorClass::TooLarge),
        (
            R::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
            ErrorClass::NotAuthorised,
        ),
        (
            R::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
            ErrorClass::NotAuthorised,
        ),
        (R::RD_KAFKA_RESP_ERR_INVALID_RECORD, ErrorClass::BrokerRejected),
        (R::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP, ErrorClass::BrokerRejected),
        (R::RD_KAFKA_RESP_ERR_POLICY_VIOLATION, ErrorClass::BrokerRejected),
    ];
    for (error, class) in rows {
        let (told, text) = refused_with(error).await;
        assert_eq!(told, class, "{error:?}: {text}");
        assert!(!text.is_empty());
    }
}

#[tokio::test]
async fn too_few_replicas_before_the_append_is_not_stored() {
    let (class, text) = refused_within("2000", Raw::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS).await;
    assert_eq!(class, ErrorClass::ClusterUnavailable, "{text}");
}

#[tokio::test]
async fn too_few_replicas_after_the_append_may_be_stored() {
    let (class, text) = refused_within("2000", Raw::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND).await;
    assert_eq!(class, ErrorClass::OutcomeUnknown, "{text}");
}

#[tokio::test]
async fn an_acknowledgement_without_an_offset_is_none() {
    // A duplicate is in the log, and the broker does not say where.
    let (class, text) = refused_with(Raw::RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER).await;
    assert_eq!(class, ErrorClass::OutcomeUnknown, "{text}");
    assert!(text.contains("without an offset"), "{text}");
}

#[tokio::test]
async fn what_is_retried_with_success_is_stored() {
    let mock = mock(&[("orders", 1)]);
    let errors = [Raw::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND; 2];
    mock.request_errors(RDKafkaApiKey::Produce, &errors);
    let sidecar = Sidecar::on(&mock).await;
    let fated = sidecar.stream().await.produce(record(1, "orders", "x")).await;
    assert_eq!(stored(&fated).0, 0);
}

#[tokio::test]
async fn a_topic_that_metadata_denies_is_not_authorised() {
    let mock = mock(&[("orders", 1)]);
    mock.topic_error("orders", Raw::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
        .unwrap();
    let sidecar = Sidecar::on(&mock).await;
    let (class, text) = failure(&sidecar.stream().await.produce(record(1, "orders", "x")).await);
    assert_eq!(class, ErrorClass::NotAuthorised, "{text}");
}

#[tokio::test]
async fn a_record_larger_than_the_client_takes_is_too_large() {
    let mock = mock(&[("orders", 1)]);
    let mut config = config(&mock.bootstrap_servers());
    set(&mut config, "message.max.bytes", "2000");
    profile(&mut config).max_bytes = 5000;
    let sidecar = Sidecar::start(config).await;
    let mut stream = sidecar.stream().await;
    let (class, _) = failure(&stream.produce(record(1, "orders", &"x".repeat(3000))).await);
    assert_eq!(class, ErrorClass::TooLarge);
    let (class, text) = failure(&stream.produce(record(2, "orders", &"x".repeat(6000))).await);
    assert_eq!(class, ErrorClass::TooLarge);
    assert!(text.contains("6000") && text.contains("5000"), "{text}");
}

#[tokio::test]
async fn a_partition_that_the_topic_does_not_have_is_unknown() {
    let mock = mock(&[("orders", 3)]);
    let sidecar = Sidecar::on(&mock).await;
    let mut stream = sidecar.stream().await;
    let to = |id, partition| Record {
        partition: Some(partition),
        ..record(id, "orders", "x")
    };
    assert_eq!(stored(&stream.produce(to(1, 2)).await).0, 2);
    let (class, text) = failure(&stream.produce(to(2, 3)).await);
    assert_eq!(class, ErrorClass::UnknownTopic);
    assert!(
        text.contains("no partition 3") && text.contains("it has 3"),
        "{text}"
    );
}

#[tokio::test]
async fn a_bound_on_records_is_a_full_buffer() {
    let mock = mock(&[("orders", 1)]);
    let mut config = config(&mock.bootstrap_servers());
    profile(&mut config).max_records = 3;
    let sidecar = Sidecar::start(config).await;
    let mut stream = sidecar.stream().await;
    stored(&stream.produce(record(0, "orders", "x")).await);
    mock.broker_round_trip_time(1, std::time::Duration::from_millis(300))
        .unwrap();
    stream
        .send((1..=5).map(|id| record(id, "orders", "x")).collect())
        .await;
    let fates = stream.fates(5).await;
    let full: Vec<u64> = fates
        .iter()
        .filter(|(_, topics)| matches!(topics[0].result, Some(Fated::Failure(_))))
        .map(|(id, topics)| {
            let (class, text) = failure(topics[0].result.as_ref().unwrap());
            assert_eq!(class, ErrorClass::BufferFull, "{text}");
            assert!(text.contains("3 records"), "{text}");
            *id
        })
        .collect();
    assert_eq!(full, [4, 5]);
    // There is room again.
    stored(&stream.produce(record(6, "orders", "x")).await);
}

#[tokio::test]
async fn a_bound_on_bytes_is_a_full_buffer() {
    let mock = mock(&[("orders", 1)]);
    let mut config = config(&mock.bootstrap_servers());
    profile(&mut config).max_bytes = 1000;
    let sidecar = Sidecar::start(config).await;
    let mut stream = sidecar.stream().await;
    mock.broker_round_trip_time(1, std::time::Duration::from_millis(300))
        .unwrap();
    stream
        .send(vec![
            record(1, "orders", &"x".repeat(600)),
            record(2, "orders", &"x".repeat(600)),
        ])
        .await;
    let fates = stream.fates(2).await;
    let (class, text) = failure(fates[0].1[0].result.as_ref().unwrap());
    assert_eq!((fates[0].0, class), (2, ErrorClass::BufferFull), "{text}");
    stored(fates[1].1[0].result.as_ref().unwrap());
}

#[tokio::test]
async fn only_allowed_topics_are_written() {
    let mock = mock(&[("orders", 1), ("audit.a", 1), ("secrets", 1)]);
    let mut config = config(&mock.bootstrap_servers());
    cluster(&mut config).allowed_topics.0 = vec!["orders".to_owned(), "audit.*".to_owned()];
    let sidecar = Sidecar::start(config).await;
    let mut stream = sidecar.stream().await;
    stored(&stream.produce(record(1, "orders", "x")).await);
    stored(&stream.produce(record(2, "audit.a", "x")).await);
    for topic in ["secrets", "orders2", "audit", ""] {
        let (class, _) = failure(&stream.produce(record(3, topic, "x")).await);
        assert_eq!(class, ErrorClass::TopicNotAllowed, "{topic}");
    }
    let (class, text) = failure(&stream.produce(record(4, "audit.a b", "x")).await);
    assert_eq!(class, ErrorClass::InvalidRequest, "{text}");
}

async fn refused(record: Record, mock: &Mock) -> (ErrorClass, String) {
    let mut config = config(&mock.bootstrap_servers());
    config.max_producers = 1;
    let other = profile(&mut config).clone();
    config.producers.insert("other".to_owned(), other);
    failure(&Sidecar::start(config).await.stream().await.produce(record).await)
}

#[tokio::test]
async fn a_record_that_can_go_nowhere_is_refused() {
    let mock = mock(&[("orders", 1)]);
    let valid = || record(1, "orders", "x");
    let rows = [
        (
            Record {
                cluster: "west".to_owned(),
                ..valid()
            },
            ErrorClass::RouteMisconfigured,
            "west",
        ),
        (
            Record {
                producer: "fast".to_owned(),
                ..valid()
            },
            ErrorClass::RouteMisconfigured,
            "fast",
        ),
        (
            Record {
                producer: "other".to_owned(),
                ..valid()
            },
            ErrorClass::RouteMisconfigured,
            "max_producers",
        ),
        (
            Record {
                topics: Vec::new(),
                ..valid()
            },
            ErrorClass::InvalidRequest,
            "no topic",
        ),
        (
            Record {
                partition: Some(-1),
                ..valid()
            },
            ErrorClass::InvalidRequest,
            "-1",
        ),
        (
            Record {
                timestamp_ms: Some(0),
                ..valid()
            },
            ErrorClass::InvalidRequest,
            "timestamp",
        ),
    ];
    for (record, class, part) in rows {
        let (told, text) = refused(record, &mock).await;
        assert_eq!(told, class, "{text}");
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn without_a_default_cluster_one_must_be_named() {
    let mock = mock(&[("orders", 1)]);
    let mut config = config(&mock.bootstrap_servers());
    config.default_cluster = None;
    let sidecar = Sidecar::start(config).await;
    let mut stream = sidecar.stream().await;
    let (class, _) = failure(&stream.produce(record(1, "orders", "x")).await);
    assert_eq!(class, ErrorClass::RouteMisconfigured);
    stored(
        &stream
            .produce(Record {
                cluster: "main".to_owned(),
                ..record(2, "orders", "x")
            })
            .await,
    );
}

#[tokio::test]
async fn without_acknowledgements_a_record_is_accepted() {
    let mock = mock(&[("orders", 1)]);
    let mut config = config(&mock.bootstrap_servers());
    profile(&mut config).acks = Some(Acks::None);
    profile(&mut config).idempotent = false;
    let sidecar = Sidecar::start(config).await;
    let fated = sidecar.stream().await.produce(record(1, "orders", "x")).await;
    assert!(matches!(fated, Fated::Accepted(_)), "{fated:?}");
}

#[tokio::test]
async fn a_topic_is_created_only_where_the_profile_says_so() {
    let mock = mock(&[]);
    let mut config = config(&mock.bootstrap_servers());
    let mut creating = profile(&mut config).clone();
    creating.allow_auto_create_topics = true;
    config.producers.insert("creating".to_owned(), creating);
    let sidecar = Sidecar::start(config).await;
    let mut stream = sidecar.stream().await;
    let (class, _) = failure(&stream.produce(record(1, "new", "x")).await);
    assert_eq!(class, ErrorClass::UnknownTopic);
    stored(
        &stream
            .produce(Record {
                producer: "creating".to_owned(),
                ..record(2, "new", "x")
            })
            .await,
    );
}

#[tokio::test]
async fn a_cluster_that_takes_no_records() {
    let mock = mock(&[("orders", 1)]);
    let mut config = config(&mock.bootstrap_servers());
    cluster(&mut config).produces = false;
    let sidecar = Sidecar::start(config).await;
    let (class, text) = failure(&sidecar.stream().await.produce(record(1, "orders", "x")).await);
    assert_eq!(class, ErrorClass::NotAuthorised);
    assert_eq!(
        text,
        "cluster \"main\" takes no records: its producer.enabled is false"
    );
}
