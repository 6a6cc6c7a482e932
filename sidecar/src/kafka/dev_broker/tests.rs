use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tower::ServiceExt;

use super::*;

async fn start(topics: &[(&str, i32)]) -> DevBroker {
    let config = config::DevBroker {
        address: "127.0.0.1:0".parse().unwrap(),
        topics: topics
            .iter()
            .map(|(name, partitions)| ((*name).to_owned(), *partitions))
            .collect(),
        default_partitions: 2,
    };
    DevBroker::start(&config).await.unwrap()
}

/// What a client at the advertised address is told: the broker's port, and the topics with their partitions.
async fn metadata(broker: &DevBroker) -> (Vec<(String, i32)>, BTreeMap<String, usize>) {
    let address = broker.address().to_string();
    let ask = move || {
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", address)
            .create()
            .unwrap();
        let metadata = client.fetch_metadata(None, Duration::from_secs(20)).unwrap();
        let brokers = metadata.brokers().iter();
        let topics = metadata.topics().iter();
        (
            brokers
                .map(|broker| (broker.host().to_owned(), broker.port()))
                .collect(),
            topics
                .map(|topic| (topic.name().to_owned(), topic.partitions().len()))
                .collect(),
        )
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_advertises_its_fixed_port_and_has_its_topics() {
    let broker = start(&[("orders", 3), ("audit", 1)]).await;
    let (brokers, topics) = metadata(&broker).await;
    assert_eq!(
        brokers,
        [("127.0.0.1".to_owned(), i32::from(broker.address().port()))]
    );
    assert_eq!(
        topics,
        BTreeMap::from([("orders".to_owned(), 3), ("audit".to_owned(), 1)])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_within_bounds() {
    let broker = start(&[]).await;
    assert_eq!(broker.create_topic("some", Some(5)).unwrap(), 5);
    assert_eq!(broker.create_topic("default", None).unwrap(), 2);
    assert!(matches!(
        broker.create_topic("some", Some(1)),
        Err(Error::Exists(_))
    ));
    assert!(matches!(broker.create_topic("a b", None), Err(Error::Invalid(_))));
    assert!(matches!(
        broker.create_topic("none", Some(0)),
        Err(Error::Invalid(_))
    ));
    assert!(matches!(
        broker.create_topic("many", Some(250)),
        Err(Error::Full(7))
    ));
    let (_, topics) = metadata(&broker).await;
    assert_eq!(
        topics,
        BTreeMap::from([("some".to_owned(), 5), ("default".to_owned(), 2)])
    );
}

async fn post(broker: &DevBroker, body: &str) -> (StatusCode, serde_json::Value) {
    let request = Request::post("/dev-broker/topics")
        .body(Body::from(body.to_owned()))
        .unwrap();
    let response = broker.admin_routes().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_route_creates_topics() {
    let broker = start(&[]).await;
    let (status, body) = post(&broker, r#"{"name": "orders", "partitions": 3}"#).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(body, serde_json::json!({"name": "orders", "partitions": 3}));
    let (status, body) = post(&broker, r#"{"name": "other"}"#).await;
    assert_eq!(
        (status, &body["partitions"]),
        (StatusCode::CREATED, &serde_json::json!(2))
    );
    let refused = [
        (
            r#"{"name": "orders"}"#,
            StatusCode::CONFLICT,
            "topic_exists",
            "topic orders exists",
        ),
        // Even where it would not fit a second time.
        (
            r#"{"name": "orders", "partitions": 1000}"#,
            StatusCode::CONFLICT,
            "topic_exists",
            "topic orders exists",
        ),
        (
            r#"{"name": "big", "partitions": 1000}"#,
            StatusCode::INSUFFICIENT_STORAGE,
            "dev_broker_full",
            "the dev broker takes 256 partitions in all topics together, and has 5",
        ),
    ];
    for (request, expected, code, error) in refused {
        let (status, body) = post(&broker, request).await;
        assert_eq!(
            (status, &body["code"], &body["error"]),
            (expected, &code.into(), &error.into())
        );
    }
    for request in [
        "",
        "[]",
        "{}",
        r#"{"name": ""}"#,
        r#"{"name": "x", "replicas": 1}"#,
    ] {
        let (status, body) = post(&broker, request).await;
        assert_eq!(
            (status, &body["code"]),
            (StatusCode::BAD_REQUEST, &"invalid_request".into()),
            "{request}"
        );
    }
}

/// A client that forbids creation, as the sidecar's producers do, is told that the topic is unknown.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_topic_is_not_created_by_asking_for_it() {
    let broker = start(&[("orders", 1)]).await;
    let address = broker.address().to_string();
    let ask = move || {
        let client: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", address)
            .set("allow.auto.create.topics", "false")
            .create()
            .unwrap();
        let metadata = client
            .client()
            .fetch_metadata(Some("nowhere"), Duration::from_secs(20))
            .unwrap();
        metadata.topics()[0].error()
    };
    let error = tokio::task::spawn_blocking(ask).await.unwrap();
    assert_eq!(
        error,
        Some(rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
    );
    let (_, topics) = metadata(&broker).await;
    assert_eq!(topics, BTreeMap::from([("orders".to_owned(), 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_named() {
    let broker = start(&[]).await;
    let config = config::DevBroker {
        address: broker.address(),
        topics: Vec::new(),
        default_partitions: 1,
    };
    let Err(error) = DevBroker::start(&config).await else {
        panic!("two on one port");
    };
    let text = error.to_string();
    let start = format!("the dev broker cannot listen on {}: ", broker.address());
    assert!(text.starts_with(&start), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stops_when_dropped() {
    let broker = start(&[]).await;
    let address = broker.address();
    assert!(tokio::net::TcpStream::connect(address).await.is_ok());
    drop(broker);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        assert!(tokio::time::Instant::now() < deadline, "still listening");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
