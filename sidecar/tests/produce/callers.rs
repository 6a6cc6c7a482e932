//! Clusters that are written with their callers' own tokens. The mock cluster asks for none: what brokers make of them is
//! tested end to end.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use sluice::config::{Callers, Config, Secret};
use sluice_proto::v1::topic_fate::Result as Fated;
use sluice_proto::v1::{Delivery, ErrorClass, Idempotency, Record};

use crate::http;
use crate::support::{Mock, Sidecar, cluster, config, failure, mock, record, stored, until};

fn of_callers(mock: &Mock, max: usize) -> Config {
    let mut config = config(&mock.bootstrap_servers());
    cluster(&mut config).callers = Some(Callers { max });
    config
}

fn with(token: &str) -> Record {
    Record {
        bearer_token: token.to_owned(),
        ..record(1, "orders", "x")
    }
}

fn jwt(seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({"sub": "alice", "exp": i64::try_from(now).unwrap() + seconds}).to_string();
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
}

fn refused(fated: &Fated, class: ErrorClass, words: &str) {
    let (found, why) = failure(fated);
    assert_eq!(found, class, "{why}");
    assert!(why.contains(words), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_token_has_a_producer_and_there_are_only_so_many() {
    let mock = mock(&[("orders", 1)]);
    let sidecar = Sidecar::start(of_callers(&mock, 2)).await;
    let mut stream = sidecar.stream().await;
    let missing = stream.produce(with("")).await;
    refused(
        &missing,
        ErrorClass::CallerNotAuthenticated,
        "the request has none",
    );
    let expired = stream.produce(with(&jwt(-1))).await;
    refused(
        &expired,
        ErrorClass::CallerNotAuthenticated,
        "the token expired at",
    );
    let none = stream.produce(with("two words")).await;
    refused(&none, ErrorClass::CallerNotAuthenticated, "is no bearer token");
    assert_eq!(sidecar.metric("sluice_callers").await, None);
    for token in ["one", "two", "one"] {
        stored(&stream.produce(with(token)).await);
    }
    assert_eq!(
        sidecar.metric("sluice_callers{cluster=\"main\"}").await,
        Some(2.0)
    );
    let third = stream.produce(with("three")).await;
    refused(
        &third,
        ErrorClass::BufferFull,
        "2 callers have clients at cluster \"main\"",
    );
    // One that was idle for long enough makes room.
    until("there is room", async || {
        matches!(stream.produce(with("three")).await, Fated::Stored(_))
    })
    .await;
    assert_eq!(
        sidecar.metric("sluice_callers{cluster=\"main\"}").await,
        Some(2.0)
    );
    let held = "sluice_outstanding_records{cluster=\"main\",producer=\"default\"}";
    assert_eq!(sidecar.metric(held).await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_ends_with_its_token() {
    let mock = mock(&[("orders", 1)]);
    let sidecar = Sidecar::start(of_callers(&mock, 2)).await;
    let mut stream = sidecar.stream().await;
    stored(&stream.produce(with(&jwt(3))).await);
    until("it has ended", async || {
        sidecar.metric("sluice_callers{cluster=\"main\"}").await.is_none()
    })
    .await;
    sidecar.stopper.drain();
    assert_eq!(sidecar.ended().await.given_up, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_theirs_is_kept_on_a_disk() {
    let mock = mock(&[("orders", 1)]);
    let dir = tempfile::tempdir().unwrap();
    let mut config = of_callers(&mock, 2);
    let with_disks = crate::spool::spooling(&mock.bootstrap_servers(), &dir.path().join("spool"));
    config.spool = with_disks.spool;
    config.idempotency = Some(sluice::config::Idempotency {
        directory: dir.path().join("keys"),
        max_keys: 10,
        window: Duration::from_secs(60),
    });
    let sidecar = Sidecar::start(config).await;
    let mut stream = sidecar.stream().await;
    let spooled = Record {
        delivery: Delivery::Spooled.into(),
        ..with("one")
    };
    let on_outage = Record {
        spool_on_outage: true,
        ..with("one")
    };
    let once = Record {
        idempotency: Some(Idempotency {
            key: b"k".to_vec().into(),
            fingerprint: b"f".to_vec().into(),
            window_ms: 0,
        }),
        ..with("one")
    };
    for record in [spooled, on_outage, once] {
        let fated = stream.produce(record).await;
        refused(
            &fated,
            ErrorClass::RouteMisconfigured,
            "is written with its callers' own tokens",
        );
    }
    stored(&stream.produce(with("one")).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_rest_it_is_the_token_of_the_request_unless_that_is_the_listeners() {
    let mock = mock(&[("orders", 1)]);
    let sidecar = Sidecar::start(of_callers(&mock, 2)).await;
    let url = sidecar.url("/topics/orders/records");
    let bearer = ("authorization", "bearer one");
    let many = ("content-type", "application/x-ndjson");
    assert_eq!(http::post(&url, &[bearer], "x").await.status, 200);
    let answer = http::post(&url, &[bearer, many], "{\"value\": \"1\"}\n{\"value\": \"2\"}").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    for headers in [&[][..], &[("authorization", "Basic b25lOg==")], &[bearer, bearer]] {
        let answer = http::post(&url, headers, "x").await;
        assert_eq!(answer.status, 401, "{answer:?}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        assert_eq!(answer.json()["code"], "caller_not_authenticated");
    }

    let mut config = of_callers(&mock, 2);
    config.listeners.data.tokens = vec![Secret::new("one")];
    let sidecar = Sidecar::start(config).await;
    let answer = http::post(&sidecar.url("/topics/orders/records"), &[bearer], "x").await;
    assert_eq!(answer.json()["code"], "caller_not_authenticated", "{answer:?}");
}
