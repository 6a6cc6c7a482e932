//! `transport: http`: each record as a call of its own, to a mock that reads what it gets.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};

use httpmock::{HttpMockRequest, HttpMockResponse, MockServer};
use prost::Message;
use serde_json::json;
use sluice_proto::v1::{ErrorClass, Fate, ProduceReply, ProduceRequest, TopicFate};
use wasm_tests::{CLUSTER, Host, Outcome, Request, accepted, failed, failed_as, stored};

use crate::common::{assert_error, envelope, orders, reply, reply_within};

const PROTOBUF: &str = "application/x-protobuf";

/// What the mock got.
#[derive(Debug, Clone)]
struct Got {
    method: String,
    path: String,
    content_type: String,
    request: ProduceRequest,
}

/// A sidecar whose answer to each record is `fates`.
struct Mock {
    server: MockServer,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Mock {
    fn new(fates: Vec<TopicFate>) -> Self {
        let server = MockServer::start();
        let got: Arc<Mutex<Vec<Got>>> = Arc::default();
        let seen = Arc::clone(&got);
        server.mock(|when, then| {
            when.any_request();
            then.respond_with(move |call: &HttpMockRequest| {
                let content_type = call
                    .headers()
                    .get("content-type")
                    .map(|v| v.to_str().unwrap().to_owned());
                let request = ProduceRequest::decode(call.body().as_ref()).expect("a ProduceRequest");
                let answers = request.records.iter().map(|r| Fate {
                    id: r.id,
                    topics: fates.clone(),
                    replayed: false,
                    answer: None,
                });
                let answer = ProduceReply {
                    fates: answers.collect(),
                    drain: false,
                };
                seen.lock().unwrap().push(Got {
                    method: call.method().to_string(),
                    path: call.uri().path().to_owned(),
                    content_type: content_type.unwrap_or_default(),
                    request,
                });
                HttpMockResponse::builder()
                    .status(200)
                    .header("content-type", PROTOBUF)
                    .body(answer.encode_to_vec())
                    .build()
            });
        });
        Self { server, got }
    }

    fn host(&self, settings: serde_json::Value) -> Host {
        host_at(&self.server.address().to_string(), settings)
    }

    fn got(&self) -> Vec<Got> {
        std::mem::take(&mut self.got.lock().unwrap())
    }
}

fn host_at(authority: &str, mut settings: serde_json::Value) -> Host {
    settings["transport"] = json!("http");
    Host::builder(&orders(settings))
        .cluster(CLUSTER, authority)
        .start()
        .unwrap()
}

#[test]
fn a_record_is_a_call_and_its_answer_the_reply() {
    let mock = Mock::new(vec![stored(2, 11)]);
    let mut host = mock.host(json!({}));
    let id = host.send(Request::post("/a?b").json("{\"x\":1}"));
    let reply = host.reply(id);
    assert_eq!(
        (reply.status, reply.json()),
        (200, json!({"message": "message sent"}))
    );
    assert_eq!(reply.header("x-kafka-topic").as_deref(), Some("orders"));
    assert_eq!(reply.header("x-kafka-partition").as_deref(), Some("2"));
    assert_eq!(reply.header("x-kafka-offset").as_deref(), Some("11"));

    let got = mock.got();
    assert_eq!(got.len(), 1);
    assert_eq!(
        (got[0].method.as_str(), got[0].path.as_str()),
        ("POST", "/topics/orders/records")
    );
    assert_eq!(got[0].content_type, PROTOBUF);
    let record = got[0].request.records[0].clone();
    assert_eq!(
        (got[0].request.records.len(), &record.topics),
        (1, &vec!["orders".to_owned()])
    );
    let sent = wasm_tests::Sent { stream: 0, record };
    assert_eq!(envelope(&sent)["body_args"], json!({"x": 1}));
    assert!(host.streams().is_empty(), "no stream is opened");
    assert!(host.calls().is_empty());
}

/// The sidecar tells the clients of calls apart as it does those of the stream.
#[test]
fn a_call_says_whose_record_it_is() {
    let mock = Mock::new(vec![stored(2, 11)]);
    let mut host = mock.host(json!({}));
    for source in ["10.0.0.1:1", "10.0.0.1:2", "10.0.0.2:1"] {
        let id = host.send(Request::post("/").source(source).json("{}"));
        assert_eq!(host.reply(id).status, 200);
    }
    let got = mock.got();
    let clients: Vec<u64> = got.iter().map(|got| got.request.records[0].client).collect();
    assert!(
        clients[0] != 0 && clients[0] == clients[1] && clients[2] != clients[0],
        "{clients:?}"
    );
}

#[test]
fn a_call_is_for_the_topic_that_the_request_chose() {
    let mock = Mock::new(vec![stored(0, 0)]);
    let mut host = mock.host(json!({"topic": {"query": "t", "allowed": ["a", "b"]}}));
    let id = host.send(Request::post("/?t=b").json("{}"));
    assert_eq!(host.reply(id).header("x-kafka-topic").as_deref(), Some("b"));
    let got = mock.got();
    assert_eq!(got[0].path, "/topics/b/records");
    assert_eq!(got[0].request.records[0].topics, ["b"]);
}

#[test]
fn fates_are_what_they_are_on_the_stream() {
    for (fates, status, code) in [
        (vec![accepted()], 202, ""),
        (vec![failed(ErrorClass::UnknownTopic, "no")], 404, "unknown_topic"),
        (vec![failed(ErrorClass::BufferFull, "no")], 503, "buffer_full"),
        (vec![failed_as(9999, "news")], 504, "outcome_unknown"),
        (vec![], 504, "outcome_unknown"),
    ] {
        let mock = Mock::new(fates);
        let mut host = mock.host(json!({}));
        let id = host.send(Request::post("/").json("{}"));
        let reply = host.reply(id);
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{reply}");
    }
}

#[test]
fn several_topics_are_one_call_with_a_fate_each() {
    let mock = Mock::new(vec![stored(0, 1), failed(ErrorClass::NotAuthorised, "no")]);
    let mut host = mock.host(json!({"topics": ["a", "b"]}));
    let id = host.send(Request::post("/").json("{}"));
    assert_error(&host.reply(id), ErrorClass::PartlyStored);
    let got = mock.got();
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].request.records[0].topics, ["a", "b"]);
}

#[test]
fn calls_overlap() {
    let mock = Mock::new(vec![stored(0, 1)]);
    let mut host = mock.host(json!({"value": "body"}));
    host.hold_calls(true);
    let ids: Vec<_> = (0..20)
        .map(|n| host.send(Request::post("/").body(n.to_string())))
        .collect();
    assert_eq!(host.calls().len(), 20);
    assert!(ids.iter().all(|id| host.outcome(*id) == Outcome::Waiting));
    host.leave(ids[3]);
    host.hold_calls(false);
    for (n, id) in ids.iter().enumerate().filter(|(n, _)| *n != 3) {
        assert_eq!(host.reply(*id).status, 200, "{n}");
    }
    assert_eq!(mock.got().len(), 20);
}

#[test]
fn then_continue_waits_for_the_call() {
    let mock = Mock::new(vec![stored(0, 1)]);
    let mut host = mock.host(json!({"then": "continue"}));
    let id = host.send(Request::post("/").body("a").body("b"));
    assert!(matches!(host.outcome(id), Outcome::Forwarded(f) if f.complete && f.body == b"ab"));
}

#[test]
fn nobody_listening_means_that_nothing_is_stored() {
    // A port that nobody has: bound, and let go again.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut host = host_at(&free.to_string(), json!({}));
    let id = host.send(Request::post("/").json("{}"));
    let reply = reply(&mut host, id);
    // Envoy's own 503 says that it could not connect, in words only.
    assert_error(&reply, ErrorClass::SidecarUnavailable);
}

#[test]
fn an_unknown_cluster_is_an_answer_too() {
    let mut host = host_at("127.0.0.1:9", json!({"sidecar_cluster": "nowhere"}));
    let id = host.send(Request::post("/").json("{}"));
    let reply = reply(&mut host, id);
    assert_error(&reply, ErrorClass::SidecarUnavailable);
}

/// A server that reads a request, writes `answer`, and hangs up.
fn rude(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
            head.push(byte[0]);
        }
        stream.write_all(answer).unwrap();
    });
    address
}

#[test]
fn a_connection_that_ends_after_the_request_claims_nothing() {
    let mut host = host_at(&rude(b""), json!({}));
    let id = host.send(Request::post("/").json("{}"));
    assert_error(&reply(&mut host, id), ErrorClass::OutcomeUnknown);
}

#[test]
fn answers_that_no_sidecar_gives_claim_nothing() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"[..],
        b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 4\r\n\r\n\xff\xff\xff\xff",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n",
    ] {
        let mut host = host_at(&rude(answer), json!({}));
        let id = host.send(Request::post("/").json("{}"));
        assert_error(&reply(&mut host, id), ErrorClass::OutcomeUnknown);
    }
}

#[test]
fn a_call_past_its_deadline_claims_nothing() {
    let mut host = host_at("127.0.0.1:9", json!({"answer_timeout": 300}));
    host.hold_calls(true);
    let id = host.send(Request::post("/").json("{}"));
    host.advance(Duration::from_millis(250));
    assert_eq!(host.outcome(id), Outcome::Waiting);
    assert_error(
        &reply_within(&mut host, id, Duration::from_secs(1)),
        ErrorClass::OutcomeUnknown,
    );
}

#[test]
fn a_call_that_is_reset_claims_nothing() {
    let mut host = host_at("127.0.0.1:9", json!({}));
    host.hold_calls(true);
    let id = host.send(Request::post("/").json("{}"));
    let token = host.calls()[0].token;
    host.reset_call(token);
    assert_error(&reply(&mut host, id), ErrorClass::OutcomeUnknown);
}

#[test]
fn an_answer_to_a_client_that_left_is_nobodys() {
    let mut host = host_at("127.0.0.1:9", json!({}));
    host.hold_calls(true);
    let id = host.send(Request::post("/").json("{}"));
    let token = host.calls()[0].token;
    host.leave(id);
    let answer = ProduceReply {
        fates: vec![Fate {
            id: 0,
            topics: vec![stored(0, 1)],
            replayed: false,
            answer: None,
        }],
        drain: false,
    };
    host.answer_call(token, 200, &[("content-type", PROTOBUF)], &answer.encode_to_vec());
    assert_eq!(host.outcome(id), Outcome::Left);
    let id = host.send(Request::post("/").json("{}"));
    let token = host.calls()[0].token;
    host.reset_call(token);
    assert_eq!(host.reply(id).status, 504);
}

#[test]
fn memory_does_not_grow_with_calls_whose_clients_left() {
    let mut host = host_at("127.0.0.1:9", json!({}));
    host.hold_calls(true);
    let round = |host: &mut Host| {
        for _ in 0..2_000 {
            let id = host.send(Request::post("/").json("{}"));
            host.leave(id);
            let token = host.calls()[0].token;
            host.answer_call(token, 503, &[], b"");
        }
        assert!(host.calls().is_empty());
    };
    round(&mut host);
    let before = host.memory_bytes();
    for _ in 0..10 {
        round(&mut host);
    }
    assert_eq!(host.memory_bytes(), before);
}
