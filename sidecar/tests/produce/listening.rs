//! Sockets, tokens and the admin listener.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hyper_util::rt::TokioIo;
use serde_json::json;
use sluice::app::App;
use sluice::config::{Address, Secret};
use sluice::shutdown;
use sluice_proto::v1::records_client::RecordsClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::http;
use crate::support::{PATIENCE, Sidecar, Stream, config, mock, record, stored, until};

async fn over_unix(path: &Path) -> RecordsClient<Channel> {
    let path = path.to_owned();
    let connect = move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    };
    let endpoint = Endpoint::from_static("http://sidecar");
    RecordsClient::new(
        endpoint
            .connect_with_connector(tower::service_fn(connect))
            .await
            .unwrap(),
    )
}

#[tokio::test]
async fn a_unix_socket_has_its_mode_and_goes_with_the_sidecar() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/for/it/stream.sock");
    let mock = mock(&[("orders", 1)]);
    let mut config = config(&mock.bootstrap_servers());
    config.listeners.stream.address = Address::Unix {
        path: path.clone(),
        mode: 0o640,
    };
    let sidecar = Sidecar::start(config.clone()).await;
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o640
    );
    let mut stream = Stream::over(over_unix(&path).await).await;
    stored(&stream.produce(record(1, "orders", "x")).await);

    // Another sidecar does not take it away.
    let error = App::bind(config.clone(), shutdown::channel().1)
        .await
        .err()
        .expect("bound twice")
        .to_string();
    assert!(
        error.contains("stream.sock") && error.contains("another process"),
        "{error}"
    );

    drop(stream);
    sidecar.stopper.drain();
    sidecar.ended().await;
    assert!(!path.exists());

    // What a killed sidecar left behind is in nobody's way; what is no socket is left alone.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let sidecar = Sidecar::start(config.clone()).await;
    stored(
        &Stream::over(over_unix(&path).await)
            .await
            .produce(record(1, "orders", "x"))
            .await,
    );
    drop(sidecar);
    let file = folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    config.listeners.stream.address = Address::Unix {
        path: file.clone(),
        mode: 0o640,
    };
    let error = App::bind(config, shutdown::channel().1)
        .await
        .err()
        .expect("bound to a file")
        .to_string();
    assert!(error.contains("no socket"), "{error}");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "precious");
}

#[tokio::test]
async fn a_listener_with_tokens_takes_nothing_without_one() {
    let mock = mock(&[("orders", 1)]);
    let mut config = config(&mock.bootstrap_servers());
    for listener in [
        &mut config.listeners.stream,
        &mut config.listeners.data,
        &mut config.listeners.admin,
    ] {
        listener.tokens = vec![Secret::new("sesame")];
    }
    let sidecar = Sidecar::start(config).await;
    let url = sidecar.url("/topics/orders/records");
    for headers in [&[][..], &[("authorization", "Bearer wrong")]] {
        let answer = http::post(&url, headers, "x").await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("www-authenticate")),
            (401, Some("Bearer"))
        );
        assert_eq!(answer.json()["code"], "not_authenticated");
    }
    let answer = http::post(&url, &[("authorization", "Bearer sesame")], "x").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(sidecar.status("/metrics").await, Some(401));

    let sluice::listeners::Bound::Tcp(address) = sidecar.addresses.stream else {
        panic!("no TCP")
    };
    let channel = Endpoint::new(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = RecordsClient::new(channel.clone());
    let refused = client.produce(tokio_stream::empty()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    let with_token = |mut request: tonic::Request<()>| {
        request
            .metadata_mut()
            .insert("authorization", "Bearer sesame".parse().unwrap());
        Ok(request)
    };
    let mut client = RecordsClient::with_interceptor(channel, with_token);
    client.produce(tokio_stream::empty()).await.unwrap();
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut config = config("127.0.0.1:1");
    config.listeners.data.address = Address::Tcp(address);
    let error = App::bind(config, shutdown::channel().1)
        .await
        .err()
        .expect("bound twice")
        .to_string();
    assert!(error.contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn readiness_tells_about_clusters_and_does_not_depend_on_them() {
    let mock = mock(&[]);
    let mut config = config(&mock.bootstrap_servers());
    let mut dead = config.clusters["main"].clone();
    dead.bootstrap_servers = vec!["127.0.0.1:1".to_owned()];
    config.clusters.insert("dead".to_owned(), dead);
    let sidecar = Sidecar::start(config).await;
    until("both are known", async || {
        let clusters = sidecar.ready().await["clusters"].clone();
        clusters["main"] == json!({"state": "up"}) && clusters["dead"]["state"] == "down"
    })
    .await;
    assert_eq!(sidecar.status("/readyz").await, Some(200));
    assert_eq!(sidecar.ready().await["ready"], true);
    assert_eq!(sidecar.status("/healthz").await, Some(200));
    assert_eq!(sidecar.metric("sluice_producers").await, Some(2.0));
}

#[tokio::test]
async fn what_happens_is_counted() {
    let mock = mock(&[("orders", 1)]);
    let sidecar = Sidecar::on(&mock).await;
    let mut stream = sidecar.stream().await;
    stored(&stream.produce(record(1, "orders", "12345")).await);
    stream.produce(record(2, "nowhere", "x")).await;
    stream.produce(record(3, "bad name", "x")).await;
    let metrics = sidecar.metrics().await;
    // The label is the entry of the allowlist, so that requests cannot make new ones.
    for line in [
        "sluice_records_total{cluster=\"main\",topic=\"*\",outcome=\"stored\"} 1",
        "sluice_records_total{cluster=\"main\",topic=\"*\",outcome=\"unknown_topic\"} 1",
        "sluice_record_bytes_total{cluster=\"main\",topic=\"*\"} 6",
        "sluice_produce_seconds_count{cluster=\"main\",topic=\"*\"} 2",
        "sluice_refused_records_total{outcome=\"invalid_request\"} 1",
        "sluice_streams 1",
        "sluice_cluster_up{cluster=\"main\",producer=\"default\"} 1",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} is not in\n{metrics}"
        );
    }
    assert!(!metrics.contains("nowhere"), "{metrics}");
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_its_call_and_no_other() {
    let mock = mock(&[("orders", 1)]);
    let mut config = config(&mock.bootstrap_servers());
    config.max_request_bytes = 1000;
    let sidecar = Sidecar::start(config).await;
    let mut other = sidecar.stream().await;
    let mut stream = sidecar.stream().await;
    stream.send(vec![record(1, "orders", &"x".repeat(2000))]).await;
    let refused = tokio::time::timeout(PATIENCE, stream.replies.message())
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::OutOfRange);
    stored(&other.produce(record(1, "orders", "x")).await);
}

#[tokio::test]
async fn more_connections_than_there_may_be_are_turned_away() {
    let mock = mock(&[("orders", 1)]);
    let mut config = config(&mock.bootstrap_servers());
    config.listeners.data.max_connections = 2;
    let sidecar = Sidecar::start(config).await;
    let address = sidecar.url("").trim_start_matches("http://").to_owned();
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(tokio::net::TcpStream::connect(&address).await.unwrap());
    }
    let connections = "sluice_connections{listener=\"data\"}";
    until("both are there", async || {
        sidecar.metric(connections).await == Some(2.0)
    })
    .await;
    let url = sidecar.url("/topics/orders/records");
    let told = http::post(&url, &[], "x").await;
    assert_eq!(told.status, 503);
    assert_eq!(told.header("retry-after"), Some("1"));
    let body = told.json();
    assert_eq!(body["code"], "too_many_connections");
    assert!(
        body["error"].as_str().unwrap().contains("2 connections"),
        "{body}"
    );
    let refused = "sluice_connections_refused_total{listener=\"data\"}";
    assert_eq!(sidecar.metric(refused).await, Some(1.0));
    // Other listeners have their own, and one that ends makes room.
    stored(&sidecar.stream().await.produce(record(1, "orders", "x")).await);
    held.pop();
    until("there is room", async || {
        http::post(&url, &[], "x").await.status == 200
    })
    .await;
}
