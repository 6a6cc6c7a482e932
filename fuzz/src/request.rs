//! A whole request on its way to a record.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::LazyLock;

use prost::Message;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use sluice_filter::config::{FilterConfig, Route, RouteCache};
use sluice_filter::record::encode;
use sluice_filter::request::Head;
use sluice_proto::v1::ProduceRequest;

/// Routes that between them use everything. A request's first byte chooses.
static CONFIGS: LazyLock<Vec<FilterConfig>> = LazyLock::new(|| {
    let everything = json!({
        "topic": "t", "topics_query_arg": "to", "allowed_topics": ["a", "b"],
        "forward_method": true, "forward_uri": true, "forward_headers": true,
        "credential_headers": ["cookie"], "json_content_types": ["application/*+json"],
        "headers": {"forward_all_by_default": true, "repeated_headers_behavior": "concatenate_by_comma"},
        "key": {"query": "k"}, "partition": {"cookie": "p"}
    });
    let configs = [
        json!({"topic": "t"}),
        everything,
        json!({"topic": "t", "value": "body", "key": {"path_segment": 1},
            "headers": {"forward_all_by_default": true, "repeated_headers_behavior": "take_first"}}),
        json!({"topic": "t", "key": {"json_pointer": "/a/0"}}),
        json!({"topic": "t", "cloudevents": "binary", "key": {"header": "ce-k"}}),
        json!({"topic": "t", "cloudevents": "structured", "key": {"header": "ce-k"}}),
        json!({"topic": "t", "value": "none", "partition": {"query": "p"}}),
        json!({"topic": {"header": "x-topic", "allowed": ["a", "b"], "default": "b"},
            "cluster_name": {"query": "c", "allowed": ["eu"], "default": "eu"},
            "producer": {"cookie": "p", "allowed": ["p"], "default": "p"},
            "key": {"path": "/{k}/**"}, "partition": {"path": "/*/{p}"}}),
    ];
    let read = |config: &Value| FilterConfig::from_tree(config).expect("a configuration");
    configs.iter().map(read).collect()
});

/// A digit that chooses the route, then the request as HTTP/1.1 writes it, with bare line feeds.
pub(crate) fn request(data: &[u8]) {
    let Some((which, request)) = data.split_first() else {
        return;
    };
    let config = &CONFIGS[usize::from(which.wrapping_sub(b'0')) % CONFIGS.len()];
    let route = RouteCache::new()
        .resolve(config, None, b"")
        .expect("a route")
        .expect("a topic");
    let (headers, body) = parse(request);
    let headers = headers
        .iter()
        .map(|(name, value)| (&name[..], *value))
        .collect::<Vec<_>>();
    let head = Head::new(&headers);
    let mut out = b"before".to_vec();
    let result = encode(&mut out, 7, &route, &head, body);
    let encoded = out.strip_prefix(b"before").expect("what was in the buffer stays");
    match result {
        Ok(_) => record(&route, encoded, body),
        Err(reject) => {
            assert_eq!(encoded, b"", "a rejected request leaves nothing behind");
            assert!(
                !reject.error.is_empty() && reject.error.len() < 300,
                "{}",
                reject.error
            );
            assert!(!reject.error.contains(char::is_control), "{:?}", reject.error);
        }
    }
}

fn record(route: &Rc<Route>, encoded: &[u8], body: &[u8]) {
    use sluice_filter::config::{CloudEvents, Value};
    let request = ProduceRequest::decode(encoded).expect("prost reads what the filter writes");
    assert_eq!(request.encode_to_vec(), encoded, "what another encoder writes");
    let [record] = &request.records[..] else {
        panic!("{} records", request.records.len())
    };
    assert_eq!(record.id, 7);
    assert!(!record.topics.is_empty());
    if let Some(choice) = &route.topic_choice {
        assert!(choice.allowed.contains(&record.topics[0]), "{:?}", record.topics);
        assert_eq!((record.cluster.as_str(), record.producer.as_str()), ("eu", "p"));
    }
    let is_json = |value: &[u8]| {
        let text = std::str::from_utf8(value).expect("UTF-8");
        serde_json::from_str::<IgnoredAny>(text).expect("JSON");
    };
    match (route.value, route.cloudevents, record.value.as_deref()) {
        (Value::None, _, value) => assert_eq!(value, None),
        (_, CloudEvents::Off, None) => panic!("no value"),
        (Value::Envelope, CloudEvents::Off, Some(value)) | (_, CloudEvents::Structured, Some(value)) => {
            is_json(value)
        }
        // Of an event without data.
        (_, CloudEvents::Binary, None) => assert_eq!(body, b""),
        (_, CloudEvents::Structured, None) => panic!("no event"),
        (Value::Body, CloudEvents::Off, Some(value)) | (_, CloudEvents::Binary, Some(value)) => {
            assert_eq!(value, body)
        }
    }
}

type Headers<'a> = Vec<(Cow<'a, [u8]>, &'a [u8])>;

/// The headers, with names in lower case as Envoy has them, and the body.
fn parse(request: &[u8]) -> (Headers<'_>, &[u8]) {
    let (head, body) = match request.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&request[..at], &request[at + 2..]),
        None => (request, &b""[..]),
    };
    let mut lines = head.split(|b| *b == b'\n');
    let mut start = lines.next().unwrap_or_default().splitn(2, |b| *b == b' ');
    let mut headers: Headers<'_> = vec![
        (b":authority"[..].into(), b"example.com"),
        (b":method"[..].into(), start.next().unwrap_or_default()),
        (b":path"[..].into(), start.next().unwrap_or_default()),
    ];
    for line in lines {
        let mut halves = line.splitn(2, |b| *b == b':');
        let name = halves.next().unwrap_or_default().to_ascii_lowercase();
        headers.push((name.into(), halves.next().unwrap_or_default().trim_ascii()));
    }
    (headers, body)
}
