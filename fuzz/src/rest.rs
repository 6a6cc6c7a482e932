//! The REST face as a whole: any request is answered, with an error that its code explains.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use prost::Message;
use serde_json::Value;
use sluice::kafka::record::MAX_MESSAGE;
use sluice::metrics::Metrics;
use sluice::produce::{Gateway, rest};
use sluice::read::Reads;
use sluice::replies::Replies;
use sluice_proto::v1::{ProduceReply, ProduceRequest, topic_fate};
use tokio::runtime::Runtime;
use tower::ServiceExt;

/// A face whose cluster nobody may write to, so that nothing leaves it.
static FACE: LazyLock<(Runtime, Router)> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let config = "
        listeners: { stream: { path: /nowhere/sluice.sock } }
        clusters: { main: { bootstrap_servers: '127.0.0.1:1' } }
        producers: { other: {} }";
    let config = sluice::config::load(config, std::iter::empty())
        .expect("a configuration")
        .config;
    let entered = runtime.enter();
    let metrics = Arc::new(Metrics::default());
    let gateway = Gateway::new(&config, Arc::clone(&metrics)).expect("a gateway");
    let (_, shutdown) = sluice::shutdown::channel();
    let reads = Reads::new(&config, &metrics, shutdown.clone(), Arc::clone(&gateway));
    let replies = Replies::new(&config, Arc::clone(&gateway), reads, metrics, shutdown);
    drop(entered);
    let believed = rest::Believed {
        trusted_hops: 1,
        takes_tokens: true,
    };
    (runtime, rest::router(gateway, replies, 65536, believed))
});

/// A request as HTTP/1.1 writes it, with bare line feeds.
pub(crate) fn rest(data: &[u8]) {
    let Some((request, body)) = parse(data) else {
        return;
    };
    let media = request
        .headers()
        .get("content-type")
        .map(|value| value.as_bytes().to_ascii_lowercase());
    let (runtime, router) = &*FACE;
    let answer = async {
        let response = router.clone().oneshot(request).await.expect("an answer");
        let (head, answer) = response.into_parts();
        (head, answer.collect().await.expect("its body").to_bytes())
    };
    let limit = Duration::from_secs(5);
    let (head, answer) = runtime
        .block_on(async { tokio::time::timeout(limit, answer).await })
        .expect("an answer in time");
    if head
        .headers
        .get("content-type")
        .is_some_and(|value| value == "application/x-protobuf")
    {
        assert_eq!(head.status, StatusCode::OK);
        assert!(media.is_some_and(|media| media.trim_ascii().starts_with(b"application/x-protobuf")));
        let sent = ProduceRequest::decode(&body[..]).expect("a request, or it would be an error");
        let reply = ProduceReply::decode(answer).expect("a reply");
        let ids = |ids: &mut dyn Iterator<Item = u64>| ids.collect::<Vec<_>>();
        assert_eq!(
            ids(&mut reply.fates.iter().map(|fate| fate.id)),
            ids(&mut sent.records.iter().map(|record| record.id))
        );
        for (fate, record) in reply.fates.iter().zip(&sent.records) {
            // What was refused before its topics were looked at has one.
            assert!(fate.topics.len() == record.topics.len() || fate.topics.len() == 1);
            let failed = |fate: &sluice_proto::v1::TopicFate| {
                matches!(fate.result, Some(topic_fate::Result::Failure(_)))
            };
            assert!(fate.topics.iter().all(failed), "nothing is written");
        }
        return;
    }
    assert!(
        head.status.is_client_error() || head.status.is_server_error(),
        "{}",
        head.status
    );
    let answer: Value = serde_json::from_slice(&answer).expect("an error is JSON");
    for member in ["message", "error", "code"] {
        let text = answer[member].as_str().expect("text");
        assert!(!text.is_empty() && text.len() <= MAX_MESSAGE, "{answer}");
    }
}

fn parse(data: &[u8]) -> Option<(Request<Body>, Vec<u8>)> {
    let (head, body) = match data.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&data[..at], &data[at + 2..]),
        None => (data, &b""[..]),
    };
    let mut lines = head.split(|b| *b == b'\n');
    let mut start = lines.next()?.splitn(2, |b| *b == b' ');
    let mut request = Request::builder().method(start.next()?).uri(start.next()?);
    for line in lines {
        let mut halves = line.splitn(2, |b| *b == b':');
        request = request.header(halves.next()?, halves.next()?.trim_ascii());
    }
    Some((request.body(Body::from(body.to_vec())).ok()?, body.to_vec()))
}
