//! Handlers that do not answer as they should, a group that is lost, a cluster that is renewed, events that do not fit: by the
//! sink that ships, where it is what matters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use rdkafka::bindings::rd_kafka_resp_err_t;
use rdkafka::types::RDKafkaApiKey;
use serde_json::json;
use sluice::config::Secret;
use sluice::subscriptions::connect::{self, Directory, Sinks};
use sluice::subscriptions::running::{Desired, Order, Told};
use sluice::subscriptions::sink::egress::{Author, Egress};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{Handler, Mock, World, clusters, committed, mock, read_held, spec_of, until, write};

/// What a server does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None = 0,
    /// It never answers.
    Hangs,
    /// It breaks the connection.
    Resets,
    /// What it answers is no HTTP.
    Garbage,
    /// It ends in the middle of the head.
    Torn,
    /// It promises more than it sends.
    Short,
}

const FAULTS: [Fault; 5] = [
    Fault::Hangs,
    Fault::Resets,
    Fault::Garbage,
    Fault::Torn,
    Fault::Short,
];

/// A server on plain TCP, one request a connection, and what it was asked without a fault.
struct Server {
    url: String,
    fault: Arc<AtomicU8>,
    taken: Arc<std::sync::Mutex<Vec<String>>>,
    asked: Arc<AtomicU8>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = Self {
            url,
            fault: Arc::default(),
            taken: Arc::default(),
            asked: Arc::default(),
        };
        let (fault, taken, asked) = (
            Arc::clone(&server.fault),
            Arc::clone(&server.taken),
            Arc::clone(&server.asked),
        );
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (fault, taken, asked) = (
                    fault.load(Ordering::SeqCst),
                    Arc::clone(&taken),
                    Arc::clone(&asked),
                );
                tokio::spawn(async move {
                    serve(stream, fault, &taken, &asked).await;
                });
            }
        });
        server
    }

    fn does(&self, fault: Fault) {
        self.asked.store(0, Ordering::SeqCst);
        self.fault.store(fault as u8, Ordering::SeqCst);
    }
}

async fn serve(mut stream: TcpStream, fault: u8, taken: &std::sync::Mutex<Vec<String>>, asked: &AtomicU8) {
    let mut request = Vec::new();
    let body = loop {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse::<usize>().unwrap());
        if body.len() >= length {
            break body.to_owned();
        }
    };
    asked.fetch_add(1, Ordering::SeqCst);
    let is = |other: Fault| fault == other as u8;
    let answer: &[u8] = if is(Fault::Hangs) {
        std::future::pending::<()>().await;
        b""
    } else if is(Fault::Resets) {
        stream.set_zero_linger().unwrap();
        return;
    } else if is(Fault::Garbage) {
        b"\x16\x03\x01\x00\xff nothing that anybody knows\r\n\r\n"
    } else if is(Fault::Torn) {
        b"HTTP/1.1 200 O"
    } else if is(Fault::Short) {
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc"
    } else {
        taken.lock().unwrap().push(body);
        b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"
    };
    // The other side may be gone.
    let _gone = stream.write_all(answer).await;
}

struct Nobody;

impl Directory for Nobody {
    fn handler(&self, service: &str, _: &str) -> Result<connect::Handler, String> {
        Err(format!("no service is named {service}"))
    }

    fn author(&self, _: &str) -> Author {
        Author::Config
    }
}

/// As [`World::start`], with the sink that ships.
fn start(mock: &Mock, url: &str, options: serde_json::Value) -> World {
    let clusters = clusters(mock);
    let spec = spec_of(url, &clusters, options);
    let clusters = clusters
        .into_iter()
        .map(|(name, cluster)| (name, Arc::new(cluster)));
    let desired = Desired {
        subscriptions: [(Arc::from("sub"), Arc::new(spec))].into(),
        clusters: clusters.collect(),
        ..Desired::default()
    };
    World::with(desired, |metrics| Sinks {
        egress: Arc::new(Egress::default()),
        metrics: Arc::clone(metrics),
        directory: Arc::new(Nobody),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_hangs_resets_or_answers_garbage_is_tried_again() {
    let mock = mock(&[("orders", 1)]);
    let server = Server::start().await;
    // A body is read where it is wanted: then one that ends too soon is no answer.
    let options = json!({"read_timeout": "300ms", "response_status": true, "circuit_breaker": {"consecutive_failures": 0},
        "retry": {"initial_interval": "50ms", "max_interval": "50ms"}});
    let world = start(&mock, &server.url, options);
    for (n, fault) in FAULTS.into_iter().enumerate() {
        server.does(fault);
        write(&mock, "orders", 0, &[("k", &n.to_string())]);
        until(&format!("asked twice although it {fault:?}"), || {
            server.asked.load(Ordering::SeqCst) >= 2
        })
        .await;
        assert_eq!(server.taken.lock().unwrap().len(), n, "{fault:?}");
        let status = world
            .until("an error is told", |status| status.last_error.is_some())
            .await;
        let error = status.last_error.unwrap();
        assert_eq!(
            error.event,
            Some(format!("sub/orders/0/{n}")),
            "{fault:?}: {error:?}"
        );
        if fault == Fault::Hangs {
            assert!(error.error.contains("no answer within"), "{error:?}");
        }
        server.does(Fault::None);
        let end = i64::try_from(n).unwrap() + 1;
        world
            .until("committed", |status| {
                committed(status, &[end]) && status.retrying == 0
            })
            .await;
        assert_eq!(
            server.taken.lock().unwrap().last(),
            Some(&n.to_string()),
            "{fault:?}"
        );
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_tried_for_too_long_is_given_up() {
    let mock = mock(&[("orders", 1)]);
    let handler = Handler::start().await;
    handler.answers(|call| if call.key == "bad" { 503 } else { 200 });
    write(&mock, "orders", 0, &[("bad", "1"), ("bad", "2"), ("good", "1")]);
    let options = json!({"retry": {"initial_interval": "200ms", "max_interval": "200ms", "max_elapsed": "1s"},
        "circuit_breaker": {"consecutive_failures": 0}});
    let begun = Instant::now();
    let world = World::start(&mock, &handler, options);
    let status = world
        .until("given up", |status| committed(status, &[3]) && status.parked == 2)
        .await;
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(status.last_error.is_some());
    let Told::Parked(parked) = world.order(Order::ListParked { limit: 10 }).await.unwrap() else {
        panic!("no list")
    };
    for one in &parked {
        assert!(one.error.contains("retry.max_elapsed is 1 s"), "{one:?}");
    }
    let calls = handler.calls();
    let of = |value: &str| {
        calls
            .iter()
            .filter(|call| call.key == "bad" && call.value == value)
            .count()
    };
    // Pauses of 100 to 200 ms: at most eleven fit into the second, and more than one always does.
    for value in ["1", "2"] {
        assert!((2..=12).contains(&of(value)), "{} attempts of {value}", of(value));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(handler.calls().len(), calls.len(), "it was tried again");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_too_large_to_be_held_is_held_without_its_value() {
    let mock = mock(&[("orders", 1)]);
    let handler = Handler::start().await;
    let well = handler.refuses(503, |_| true);
    // As much as a producer takes; what is noted beside it makes it too large for the held topic.
    let value = "v".repeat(999_960);
    write(&mock, "orders", 0, &[("big", &value), ("small", "s")]);
    let options = json!({"retry": {"initial_interval": "1500ms", "max_interval": "1500ms"}});
    let world = World::start(&mock, &handler, options.clone());
    world
        .until("both held", |status| {
            committed(status, &[2]) && status.retrying == 2
        })
        .await;
    let sizes = read_held(&mock, 2);
    assert!(sizes.iter().all(|size| *size < 2000), "{sizes:?}");
    world.stop().await;
    well.store(true, Ordering::SeqCst);
    let world = World::start(&mock, &handler, options);
    until("both taken", || {
        handler.taken("big").len() + handler.taken("small").len() == 2
    })
    .await;
    assert!(handler.taken("big") == [value], "another value");
    world.until("nothing held", |status| status.retrying == 0).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_group_had_under_way_is_delivered_again() {
    const RECORDS: usize = 40;
    let mock = mock(&[("orders", 1)]);
    let handler = Handler::start().await;
    handler.takes(Duration::from_millis(1500));
    let values: Vec<String> = (0..RECORDS).map(|n| n.to_string()).collect();
    let records: Vec<(&str, &str)> = values
        .iter()
        .enumerate()
        .map(|(n, value)| (if n % 2 == 0 { "a" } else { "b" }, value.as_str()))
        .collect();
    write(&mock, "orders", 0, &records);
    let options = json!({"session.timeout.ms": 6000, "heartbeat.interval.ms": 100});
    let world = World::start(&mock, &handler, options);
    world.until("under way", |status| status.in_flight > 0).await;
    // The coordinator knows the member no more: its partitions are somebody else's.
    mock.request_errors(
        RDKafkaApiKey::Heartbeat,
        &[rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID],
    );
    let abandoned = "sluice_subscription_events_total{subscription=\"sub\",outcome=\"abandoned\"}";
    until("given up", || world.metric(abandoned) >= 1.0).await;
    handler.takes(Duration::ZERO);
    let end = i64::try_from(RECORDS).unwrap();
    world
        .until("everything committed", |status| committed(status, &[end]))
        .await;
    let expected = |parity: usize| {
        let of = values.iter().enumerate().filter(move |(n, _)| n % 2 == parity);
        of.map(|(_, value)| value.clone()).collect::<Vec<_>>()
    };
    for (key, parity) in [("a", 0), ("b", 1)] {
        let mut first = Vec::new();
        for value in handler.taken(key) {
            if !first.contains(&value) {
                first.push(value);
            }
        }
        assert_eq!(first, expected(parity), "{key}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_cluster_is_gone_over_to_and_what_is_under_way_is_finished() {
    let (old, new) = (mock(&[("orders", 2)]), mock(&[("orders", 2)]));
    let handler = Handler::start().await;
    let world = World::start(&old, &handler, json!({"concurrency": 4}));
    write(&old, "orders", 0, &[("a", "1"), ("a", "2")]);
    write(&old, "orders", 1, &[("b", "1")]);
    world
        .until("all committed", |status| committed(status, &[2, 1]))
        .await;
    handler.takes(Duration::from_millis(500));
    write(&old, "orders", 0, &[("a", "3")]);
    world.until("under way", |status| status.in_flight > 0).await;
    // Whoever is at the new address can only be reached by who has gone over.
    write(&new, "orders", 0, &[("c", "1")]);
    write(&new, "orders", 1, &[("d", "1")]);
    let mut renewed = clusters(&new).remove("main").unwrap();
    let other = Secret::new("renewed");
    renewed.properties.insert("client.id".to_owned(), other);
    world
        .desired
        .send_modify(|desired| assert!(desired.renew("main", &renewed)));
    until("the new records are taken", || {
        handler.taken("c").len() + handler.taken("d").len() == 2
    })
    .await;
    world
        .until("all committed there", |status| committed(status, &[1, 1]))
        .await;
    assert_eq!(handler.taken("a"), ["1", "2", "3"]);
    assert_eq!(handler.taken("b"), ["1"]);
    world.stop().await;
}
