//! Whose records they are, over REST: what one client has waiting is no reason to refuse another's.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use prost::Message as _;
use sluice_proto::v1::{ProduceRequest, Record};

use crate::http;
use crate::support::{Mock, PATIENCE, Sidecar, config, mock, profile, record, stored, until};

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");
const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const SHED: &str = "sluice_shed_records_total";

/// POSTs `body` with the headers, from a connection of that address of this machine's.
async fn post_from(
    address: IpAddr,
    url: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> http::Answer {
    let mut connector = HttpConnector::new();
    connector.set_local_address(Some(address));
    let client = Client::builder(TokioExecutor::new()).build(connector);
    http::answer_of(client, http::post_request(url, headers, body))
        .await
        .expect("no answer")
}

/// A sidecar whose broker has acknowledged some records, and says nothing more.
async fn frozen(trusted_hops: usize) -> (Mock, Sidecar) {
    let mock = mock(&[("orders", 1)]);
    let mut config = config(&mock.bootstrap_servers());
    config.listeners.data.xff_num_trusted_hops = trusted_hops;
    profile(&mut config).max_queueing_time = Duration::from_secs(5);
    let sidecar = Sidecar::start(config).await;
    let mut stream = sidecar.stream().await;
    // The rate is that of whole seconds.
    let begun = Instant::now();
    for id in 0.. {
        stored(&stream.produce(record(id, "orders", "x")).await);
        if begun.elapsed() > Duration::from_millis(1500) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    mock.broker_round_trip_time(1, PATIENCE).unwrap();
    (mock, sidecar)
}

/// A request whose answer nobody waits for.
struct Sends {
    from: u8,
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
}

impl Sends {
    fn go(&self, sidecar: &Sidecar) {
        let url = sidecar.url("/topics/orders/records?timeout_ms=20000");
        let (address, headers, body) = (
            Ipv4Addr::new(127, 0, 0, self.from),
            self.headers.clone(),
            self.body.clone(),
        );
        tokio::spawn(async move { post_from(IpAddr::V4(address), &url, &headers, body).await });
    }

    fn lines(from: u8, records: usize, forwarded_for: &'static str) -> Self {
        Self {
            from,
            headers: vec![NDJSON, ("x-forwarded-for", forwarded_for)],
            body: "{\"value\": \"x\"}\n".repeat(records).into_bytes(),
        }
    }

    fn messages(records: usize, client: u64) -> Self {
        let records = (0..records as u64).map(|id| Record {
            client,
            ..record(id, "orders", "x")
        });
        let request = ProduceRequest {
            records: records.collect(),
        };
        Self {
            from: 1,
            headers: vec![PROTOBUF],
            body: request.encode_to_vec(),
        }
    }
}

/// A gauge of the topic's.
async fn gauge(sidecar: &Sidecar, name: &str) -> Option<f64> {
    let sample = format!("sluice_topic_{name}{{cluster=\"main\",topic=\"*\"}}");
    sidecar.metric(&sample).await
}

/// Waits until not everything may wait.
async fn limit(sidecar: &Sidecar) {
    until("more is refused than may wait", async || {
        gauge(sidecar, "queueing_limit_bytes")
            .await
            .is_some_and(|limit| limit > 0.0)
    })
    .await;
}

/// Whether the many records of one request are refused for being its client's: then those of the other are another's.
async fn told_apart(trusted_hops: usize, one: Sends, many: Sends) -> bool {
    let (_mock, sidecar) = frozen(trusted_hops).await;
    one.go(&sidecar);
    limit(&sidecar).await;
    let end = Instant::now() + PATIENCE;
    loop {
        many.go(&sidecar);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let metrics = sidecar.metrics().await;
        let has = |reason: &str| {
            let reason = format!("reason=\"{reason}\"");
            metrics
                .lines()
                .any(|line| line.starts_with(SHED) && line.contains(&reason))
        };
        let (own, all, stuck) = (has("client_share"), has("queueing"), has("stuck"));
        if own || all {
            return own;
        }
        assert!(!stuck && Instant::now() < end, "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_who_connects() {
    assert!(told_apart(0, Sends::lines(1, 1, ""), Sends::lines(2, 400, "")).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_says_of_itself_does_not_count() {
    assert!(
        !told_apart(
            0,
            Sends::lines(1, 1, "10.0.0.1"),
            Sends::lines(1, 400, "10.0.0.2")
        )
        .await
    );
    let forged = Sends::lines(1, 400, "6.6.6.6, 10.0.0.1");
    assert!(!told_apart(1, Sends::lines(1, 1, "10.0.0.1"), forged).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_trusted_proxy_a_client_is_who_the_proxy_says() {
    assert!(
        told_apart(
            1,
            Sends::lines(1, 1, "10.0.0.1"),
            Sends::lines(1, 400, "10.0.0.2")
        )
        .await
    );
}

/// As the filter's calls do; not where strangers get at the listener.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_says_itself_whose_it_is() {
    assert!(told_apart(0, Sends::messages(1, 1), Sends::messages(400, 2)).await);
    assert!(!told_apart(1, Sends::messages(1, 1), Sends::messages(400, 2)).await);
}

/// The gauges of a topic: what waits, what may, and what is acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gauges_say_what_waits_and_what_may() {
    let (_mock, sidecar) = frozen(0).await;
    let gauge = async |name| gauge(&sidecar, name).await;
    assert_eq!(gauge("waiting_records").await, Some(0.0));
    assert_eq!(gauge("queueing_limit_bytes").await, None);
    let pace = gauge("acknowledged_bytes_per_second").await.unwrap();
    // A byte and what is added for a record, some hundred times.
    assert!(pace > 10.0 * 101.0 && pace < 1000.0 * 101.0, "{pace}");
    Sends::lines(1, 3, "").go(&sidecar);
    limit(&sidecar).await;
    assert_eq!(gauge("waiting_records").await, Some(3.0));
    assert_eq!(gauge("waiting_bytes").await, Some(303.0));
}
