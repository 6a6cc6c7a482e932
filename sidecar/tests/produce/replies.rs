//! Requests that are answered with the reply to their record.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use rdkafka::message::{Header, Headers as _, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Message};
use sluice::config::{Config, ReplyTopic, Secret, TopicAllowlist};
use sluice_proto::v1::{AnswerKind, ProduceRequest, Record, ReplyTo};

use crate::http::{self, Answer};
use crate::support::{Mock, PATIENCE, Sidecar, config, mock, read, record, text, until};

fn entry() -> ReplyTopic {
    ReplyTopic {
        cluster: "main".to_owned(),
        topic: "replies".to_owned(),
        requests: TopicAllowlist(vec!["orders".to_owned()]),
        max_wait: Duration::from_secs(60),
        retention: Duration::from_secs(3600),
        correlation_header: "kafka_correlationId".to_owned(),
        reply_topic_header: Some("kafka_replyTopic".to_owned()),
        status_header: "http-status".to_owned(),
        content_type_header: "content-type".to_owned(),
        headers: vec!["X-Trace".to_owned()],
    }
}

fn with_replies(mock: &Mock, entry: ReplyTopic) -> Config {
    let mut config = config(&mock.bootstrap_servers());
    config.replies.topics = vec![Arc::new(entry)];
    // The mock cluster does not end a fetch when a record comes.
    for cluster in config.clusters.values_mut() {
        let wait = ("fetch.wait.max.ms".to_owned(), Secret::new("10"));
        cluster.properties.extend([wait]);
    }
    config
}

fn cluster() -> Mock {
    mock(&[("orders", 1), ("replies", 3)])
}

fn header<'a>(message: &'a OwnedMessage, name: &str) -> Option<&'a [u8]> {
    let headers = message.headers()?;
    headers.iter().find(|header| header.key == name)?.value
}

/// The correlation id of a request.
fn id_of(message: &OwnedMessage) -> Vec<u8> {
    header(message, "kafka_correlationId")
        .expect("no correlation id")
        .to_vec()
}

/// Writes a record to the reply topic.
async fn reply(
    mock: &Mock,
    partition: i32,
    id: Option<&[u8]>,
    headers: &[(&str, &[u8])],
    value: Option<&[u8]>,
) {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", mock.bootstrap_servers())
        .set("linger.ms", "0")
        .create()
        .unwrap();
    let mut all = OwnedHeaders::new();
    if let Some(id) = id {
        all = all.insert(Header {
            key: "kafka_correlationId",
            value: Some(id),
        });
    }
    for (key, value) in headers {
        all = all.insert(Header {
            key,
            value: Some(*value),
        });
    }
    let mut record = FutureRecord::<[u8], [u8]>::to("replies")
        .partition(partition)
        .headers(all);
    record.payload = value;
    producer.send(record, PATIENCE).await.unwrap();
}

fn post(sidecar: &Sidecar, prefer: &'static str, body: &'static str) -> tokio::task::JoinHandle<Answer> {
    let url = sidecar.url("/topics/orders/records");
    tokio::spawn(async move { http::post(&url, &[("prefer", prefer)], body).await })
}

async fn poll(sidecar: &Sidecar, location: &str, prefer: Option<&str>) -> Answer {
    let mut request = Request::get(sidecar.url(location));
    if let Some(prefer) = prefer {
        request = request.header("prefer", prefer);
    }
    let request = request.body(Full::<Bytes>::default()).unwrap();
    http::request(request).await.expect("no answer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_answered_with_its_reply() {
    let mock = cluster();
    let sidecar = Sidecar::start(with_replies(&mock, entry())).await;
    let waiting = post(&sidecar, "wait=50", "an order");
    let request = read(&mock, "orders", 0, 1).await.pop().unwrap();
    assert_eq!(text(&request), "an order");
    assert_eq!(header(&request, "kafka_replyTopic"), Some(&b"replies"[..]));
    let id = id_of(&request);
    assert!(id.starts_with(b"sl-") && id.len() == 35, "{id:?}");
    // What is not for it does not reach it: another id, none, garbage.
    reply(&mock, 0, Some(b"sl-0"), &[], Some(b"wrong")).await;
    reply(&mock, 1, None, &[("kafka_correlation", &id)], Some(b"wrong")).await;
    reply(&mock, 2, Some(b"\xff\x00"), &[("http-status", b"\xff")], None).await;
    let headers: [(&str, &[u8]); 5] = [
        ("http-status", b"201"),
        ("content-type", b"application/vnd.order+json"),
        ("X-Trace", b"t-1"),
        ("connection", b"close"),
        ("x-kafka-offset", b"99"),
    ];
    reply(&mock, 2, Some(&id), &headers, Some(b"{\"ok\":true}")).await;
    let answer = waiting.await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), &answer.body[..]),
        (201, &b"{\"ok\":true}"[..])
    );
    assert_eq!(answer.header("content-type"), Some("application/vnd.order+json"));
    assert_eq!(answer.header("x-trace"), Some("t-1"));
    assert_eq!(answer.header("preference-applied"), Some("wait=50"));
    assert_eq!(answer.header("x-kafka-offset"), Some("0"));
    assert_eq!(answer.header("x-kafka-topic"), Some("orders"));
    assert_eq!(
        answer.header("x-correlation-id").map(str::as_bytes),
        Some(&id[..])
    );
    assert_eq!(answer.header("connection"), None);
    // Again, and late: nobody waits for it, and it is counted.
    reply(&mock, 2, Some(&id), &[], Some(b"twice")).await;
    until("counted", async || {
        sidecar.metric("sluice_reply_unclaimed_total{").await == Some(4.0)
    })
    .await;
    let answered = "sluice_reply_requests_total{cluster=\"main\",topic=\"replies\",outcome=\"answered\"}";
    assert_eq!(sidecar.metric(answered).await, Some(1.0));
    assert_eq!(sidecar.metric("sluice_reply_waiting").await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_that_does_not_come_in_time_can_be_asked_for_anywhere() {
    let mock = cluster();
    let sidecar = Sidecar::start(with_replies(&mock, entry())).await;
    let other = Sidecar::start(with_replies(&mock, entry())).await;
    let begun = Instant::now();
    let late = post(&sidecar, "wait=1", "x").await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(late.status, 504, "{late:?}");
    let body = late.json();
    let id = id_of(&read(&mock, "orders", 0, 1).await[0]);
    assert_eq!(body["code"], "no_reply");
    assert_eq!(body["correlation_id"].as_str().map(str::as_bytes), Some(&id[..]));
    let location = late.header("location").unwrap().to_owned();
    assert_eq!(body["location"], location);
    assert!(location.starts_with("/replies/"), "{location}");
    for sidecar in [&sidecar, &other] {
        let pending = poll(sidecar, &location, None).await;
        assert_eq!(pending.status, 202, "{pending:?}");
        assert_eq!(pending.header("cache-control"), Some("no-store"));
        let pending = poll(sidecar, &location, Some("wait=1")).await;
        assert_eq!(
            (pending.status.as_u16(), pending.header("preference-applied")),
            (202, Some("wait=1"))
        );
    }
    let (one, two) = tokio::join!(poll(&sidecar, &location, Some("wait=50")), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        reply(&mock, 1, Some(&id), &[("http-status", b"409")], Some(b"no")).await;
        poll(&other, &location, Some("wait=50")).await
    });
    for answer in [one, two, poll(&other, &location, None).await] {
        assert_eq!(
            (answer.status.as_u16(), &answer.body[..]),
            (409, &b"no"[..]),
            "{answer:?}"
        );
    }
    // What nobody was given.
    for nonsense in [
        "/replies/x",
        "/replies/AQ",
        &format!("{location}x"),
        "/replies/%ff",
    ] {
        let answer = poll(&sidecar, nonsense, None).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["code"].as_str()),
            (404, Some("unknown_reply")),
            "{nonsense}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_prefers_so_is_answered_at_once_and_a_location_ends() {
    let mock = cluster();
    let short = ReplyTopic {
        retention: Duration::from_secs(2),
        ..entry()
    };
    let mut config = with_replies(&mock, short);
    config.replies.location = "https://api.example.com/replies/".to_owned();
    let sidecar = Sidecar::start(config).await;
    let pending = post(&sidecar, "respond-async", "x").await.unwrap();
    assert_eq!(pending.status, 202, "{pending:?}");
    assert_eq!(pending.header("preference-applied"), Some("respond-async"));
    let location = pending.header("location").unwrap();
    let path = location
        .strip_prefix("https://api.example.com")
        .unwrap()
        .to_owned();
    assert_eq!(poll(&sidecar, &path, None).await.status, 202);
    // Both: it waits, and is told where to ask then.
    let begun = Instant::now();
    let both = post(&sidecar, "respond-async, wait=1", "x").await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(both.status, 202, "{both:?}");
    assert_eq!(both.header("preference-applied"), Some("respond-async, wait=1"));
    until("gone", async || poll(&sidecar, &path, None).await.status == 410).await;
    let gone = poll(&sidecar, &path, None).await.json();
    assert_eq!(gone["code"], "reply_expired");
    assert!(gone["error"].as_str().unwrap().contains("2 s"), "{gone}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn max_wait_bounds_what_is_asked_for_and_who_does_not_ask_does_not_wait() {
    let mock = cluster();
    let short = ReplyTopic {
        max_wait: Duration::from_secs(1),
        ..entry()
    };
    let sidecar = Sidecar::start(with_replies(&mock, short)).await;
    let late = post(&sidecar, "wait=3000", "x").await.unwrap();
    assert_eq!(
        (late.status.as_u16(), late.header("preference-applied")),
        (504, Some("wait=1"))
    );
    let url = sidecar.url("/topics/orders/records");
    for headers in [&[][..], &[("prefer", "return=minimal")]] {
        let plain = http::post(&url, headers, "x").await;
        assert_eq!(
            (plain.status.as_u16(), plain.json()["message"].as_str()),
            (200, Some("message sent"))
        );
    }
    let found = read(&mock, "orders", 0, 3).await;
    assert_eq!(header(&found[2], "kafka_correlationId"), None);
    let once = [("prefer", "wait=1"), ("idempotency-key", "k")];
    let refused = http::post(&url, &once, "x").await;
    assert_eq!(
        (refused.status.as_u16(), refused.json()["code"].as_str()),
        (400, Some("invalid_request"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_are_bounded_and_who_leaves_gives_its_own_back() {
    let mock = cluster();
    let mut config = with_replies(&mock, entry());
    config.replies.max_waiting = 1;
    let sidecar = Sidecar::start(config).await;
    let waiting = post(&sidecar, "wait=50", "first");
    until("waits", async || {
        sidecar.metric("sluice_reply_waiting").await == Some(1.0)
    })
    .await;
    let full = post(&sidecar, "wait=50", "second").await.unwrap();
    assert_eq!(
        (full.status.as_u16(), full.json()["code"].as_str()),
        (503, Some("buffer_full"))
    );
    let error = full.json()["error"].as_str().unwrap().to_owned();
    assert!(error.contains("replies.max_waiting"), "{error}");
    waiting.abort();
    until("left", async || {
        sidecar.metric("sluice_reply_waiting").await == Some(0.0)
    })
    .await;
    let anew = post(&sidecar, "wait=50", "third");
    let id = id_of(&read(&mock, "orders", 0, 2).await[1]);
    reply(&mock, 0, Some(&id), &[], Some(b"done")).await;
    assert_eq!(&anew.await.unwrap().body[..], b"done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_record_of_the_stream_holds_up_no_other_and_can_be_withdrawn() {
    let mock = cluster();
    let mut config = with_replies(&mock, entry());
    config.replies.token_key = Some(Secret::new("0123456789abcdef"));
    let sidecar = Sidecar::start(config).await;
    let mut stream = sidecar.stream().await;
    let awaits = |id, own: &'static str| Record {
        topics: Vec::new(),
        reply_to: Some(ReplyTo {
            topic: "replies".to_owned(),
            wait_ms: 50_000,
            correlation_id: Bytes::from_static(own.as_bytes()).to_vec(),
            topics: vec!["orders".to_owned()],
            ..ReplyTo::default()
        }),
        ..record(id, "orders", "waits")
    };
    stream.send(vec![awaits(1, "c-1"), awaits(2, "c-2")]).await;
    let found = read(&mock, "orders", 0, 2).await;
    let mut ids: Vec<_> = found.iter().map(id_of).collect();
    ids.sort();
    assert_eq!(ids, [b"c-1", b"c-2"]);
    stream
        .send((10..110).map(|id| record(id, "orders", "quick")).collect())
        .await;
    let quick = stream.fates(100).await;
    assert!(quick.iter().all(|(id, _)| *id >= 10), "{quick:?}");
    // The same id is not waited for twice.
    let twice = stream.produce(awaits(3, "c-1")).await;
    assert!(crate::support::failure(&twice).1.contains("same correlation id"));
    let withdrawn = Record {
        id: 2,
        withdrawn: true,
        ..Record::default()
    };
    stream.send(vec![withdrawn]).await;
    assert_eq!(stream.fates(1).await[0].0, 2);
    reply(&mock, 0, Some(b"c-1"), &[], Some(b"yes")).await;
    let fates = loop {
        let reply = tokio::time::timeout(PATIENCE, stream.replies.message())
            .await
            .unwrap();
        let reply = reply.unwrap().unwrap();
        if !reply.fates.is_empty() {
            break reply.fates;
        }
    };
    let answer = fates[0].answer.clone().unwrap();
    assert_eq!(
        (fates[0].id, answer.kind(), answer.status),
        (1, AnswerKind::Replied, 200)
    );
    assert_eq!(&answer.body[..], b"yes");
    assert_eq!(fates[0].topics.len(), 1);
    // A topic that is not in `replies`, and ids of clients without a key.
    let mut astray = awaits(4, "c-4");
    astray.reply_to.as_mut().unwrap().topic = "orders".to_owned();
    let (class, why) = crate::support::failure(&stream.produce(astray).await);
    assert_eq!(class, sluice_proto::v1::ErrorClass::RouteMisconfigured);
    assert!(why.contains("replies.topics"), "{why}");
    let bare = Sidecar::start(with_replies(&mock, entry())).await;
    let (class, why) = crate::support::failure(&bare.stream().await.produce(awaits(5, "c-5")).await);
    assert_eq!(class, sluice_proto::v1::ErrorClass::RouteMisconfigured);
    assert!(why.contains("token_key"), "{why}");
    assert_eq!(read(&mock, "orders", 0, 102).await.len(), 102);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_ends_with_the_reply_and_its_end_frees_the_place() {
    use prost::Message as _;
    let mock = cluster();
    let sidecar = Sidecar::start(with_replies(&mock, entry())).await;
    let one = Record {
        topics: Vec::new(),
        reply_to: Some(ReplyTo {
            topic: "replies".to_owned(),
            wait_ms: 50_000,
            topics: vec!["orders".to_owned()],
            ..ReplyTo::default()
        }),
        ..record(1, "orders", "call")
    };
    let request = ProduceRequest {
        records: vec![one.clone()],
    }
    .encode_to_vec();
    let url = sidecar.url("/topics/orders/records");
    let call = tokio::spawn(async move {
        http::post(&url, &[("content-type", "application/x-protobuf")], request).await
    });
    let id = id_of(&read(&mock, "orders", 0, 1).await[0]);
    reply(&mock, 0, Some(&id), &[], None).await;
    let answer = call.await.unwrap();
    let reply = sluice_proto::v1::ProduceReply::decode(answer.body).unwrap();
    let answer = reply.fates[0].answer.clone().unwrap();
    assert_eq!((answer.kind(), answer.status), (AnswerKind::Replied, 204));
    // A stream that ends frees what waits on it.
    let stream = sidecar.stream().await;
    stream.send(vec![one]).await;
    until("waits", async || {
        sidecar.metric("sluice_reply_waiting").await == Some(1.0)
    })
    .await;
    drop(stream);
    until("left", async || {
        sidecar.metric("sluice_reply_waiting").await == Some(0.0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_topic_that_is_not_there_is_said_and_nothing_is_written() {
    let mock = cluster();
    let sidecar = Sidecar::start(with_replies(
        &mock,
        ReplyTopic {
            topic: "nowhere".to_owned(),
            ..entry()
        },
    ))
    .await;
    let answer = post(&sidecar, "wait=1", "x").await.unwrap();
    assert!([404, 503].contains(&answer.status.as_u16()), "{answer:?}");
    let error = answer.json()["error"].as_str().unwrap().to_owned();
    assert!(error.contains("the reply topic \"nowhere\""), "{error}");
    let url = sidecar.url("/topics/orders/records");
    assert_eq!(
        http::post(&url, &[], "y").await.header("x-kafka-offset"),
        Some("0")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_when_the_sidecar_ends_is_told_where_to_ask() {
    let mock = cluster();
    let mut config = with_replies(&mock, entry());
    config.grace_period = Duration::from_secs(2);
    let sidecar = Sidecar::start(config).await;
    let waiting = post(&sidecar, "wait=50", "x");
    until("waits", async || {
        sidecar.metric("sluice_reply_waiting").await == Some(1.0)
    })
    .await;
    sidecar.stopper.drain();
    let answer = waiting.await.unwrap();
    assert_eq!(answer.status, 504, "{answer:?}");
    let location = answer.header("location").unwrap().to_owned();
    assert_eq!(sidecar.ended().await.given_up, 0);
    let id = id_of(&read(&mock, "orders", 0, 1).await[0]);
    reply(&mock, 0, Some(&id), &[], Some(b"later")).await;
    let other = Sidecar::start(with_replies(&mock, entry())).await;
    assert_eq!(&poll(&other, &location, None).await.body[..], b"later");
}
