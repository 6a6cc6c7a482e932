//! What the tests share: a configuration as operators write it, a request as HTTP/1.1 writes it.

use std::rc::Rc;

use prost::Message as _;
use serde::de::IgnoredAny;
use serde_json::Value as Json;
use sluice_filter::config::{FilterConfig, Route, RouteCache};
use sluice_filter::record::{Encoded, Reject, encode};
use sluice_filter::request::Head;
use sluice_proto::class::ErrorClass;
use sluice_proto::v1::{ProduceRequest, Record};

/// The route that `config` means; its topic is `t` unless it says otherwise.
pub(crate) fn route(config: &Json) -> Rc<Route> {
    let mut config = config.clone();
    let fields = config.as_object_mut().unwrap();
    if !["topic", "topics", "topics_query_arg"]
        .iter()
        .any(|key| fields.contains_key(*key))
    {
        fields.insert("topic".into(), "t".into());
    }
    let config = FilterConfig::from_tree(&config).unwrap_or_else(|problems| panic!("{problems:?}"));
    RouteCache::new()
        .resolve(&config, None, b"")
        .unwrap()
        .expect("a route that produces")
}

/// Header names and values, pseudo-headers first.
pub(crate) type Headers = Vec<(Vec<u8>, Vec<u8>)>;

/// The head and body of a request in the form `POST /path\nname: value\n\nbody`, to the host `example.com`.
pub(crate) fn parse(request: &[u8]) -> (Headers, Vec<u8>) {
    let (head, body) = match request.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&request[..at], &request[at + 2..]),
        None => (request, &b""[..]),
    };
    let mut lines = head.split(|b| *b == b'\n');
    let mut start = lines.next().unwrap().splitn(2, |b| *b == b' ');
    let mut headers = vec![
        (b":authority".to_vec(), b"example.com".to_vec()),
        (b":path".to_vec(), Vec::new()),
        (b":method".to_vec(), start.next().unwrap().to_vec()),
        (b":scheme".to_vec(), b"http".to_vec()),
    ];
    headers[1].1 = start.next().expect("a target").to_vec();
    for line in lines {
        let colon = line.iter().position(|b| *b == b':').expect("a header line");
        headers.push((
            line[..colon].to_ascii_lowercase(),
            line[colon + 1..].trim_ascii().to_vec(),
        ));
    }
    (headers, body.to_vec())
}

/// [`encode`], with an owned head.
pub(crate) fn encode_parsed(
    out: &mut Vec<u8>,
    id: u64,
    route: &Route,
    request: &(Headers, Vec<u8>),
) -> Result<Encoded, Reject> {
    encode_of_client(out, id, route, request, 0)
}

/// The same of a client that is told apart.
pub(crate) fn encode_of_client(
    out: &mut Vec<u8>,
    id: u64,
    route: &Route,
    (headers, body): &(Headers, Vec<u8>),
    client: u64,
) -> Result<Encoded, Reject> {
    let headers = headers.iter().map(|(n, v)| (&n[..], &v[..])).collect::<Vec<_>>();
    encode(out, id, route, &Head::new(&headers).of_client(client), body)
}

/// The record that the request becomes.
pub(crate) fn record(config: &Json, request: impl AsRef<[u8]>) -> Result<Record, Reject> {
    let mut out = b"before".to_vec();
    let result = encode_parsed(&mut out, 7, &route(config), &parse(request.as_ref()));
    let encoded = out.strip_prefix(b"before").expect("what was in the buffer stays");
    match result {
        Ok(_) => {
            let mut decoded = ProduceRequest::decode(encoded).unwrap();
            assert_eq!(decoded.records.len(), 1);
            Ok(decoded.records.remove(0))
        }
        Err(reject) => {
            assert_eq!(encoded, b"", "a rejected request leaves nothing behind");
            Err(reject)
        }
    }
}

/// The record's value, which is JSON.
pub(crate) fn json_value(config: &Json, request: impl AsRef<[u8]>) -> String {
    let record = record(config, request).unwrap();
    let value = String::from_utf8(record.value.expect("a value").to_vec()).unwrap();
    serde_json::from_str::<IgnoredAny>(&value).unwrap_or_else(|error| panic!("{error}: {value}"));
    value
}

/// Checks the envelope of a request.
#[track_caller]
pub(crate) fn check(config: Json, request: impl AsRef<[u8]>, envelope: &str) {
    assert_eq!(json_value(&config, request), envelope);
}

/// Checks that a request is refused, and with what words.
#[track_caller]
pub(crate) fn check_refused(config: Json, request: impl AsRef<[u8]>, class: ErrorClass, error: &str) {
    let reject = record(&config, request).expect_err("refused");
    assert_eq!((reject.class, reject.error.as_str()), (class, error));
}

/// A record's headers, one `name=value` each; a value that is not ASCII is escaped.
pub(crate) fn headers_of(record: &Record) -> String {
    let show = |header: &sluice_proto::v1::Header| {
        let value = header.value.as_ref().expect("a request header has a value");
        format!("{}={}", header.name, value.escape_ascii())
    };
    record.headers.iter().map(show).collect::<Vec<_>>().join(" ")
}
