//! A sidecar that reads, and clients of it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;
use sluice::config::{Config, Read, ReadGroups, ReadTopics, Reset, Secret, TopicAllowlist};

use crate::http::{self, Answer};
use crate::support::{self, Mock, PATIENCE, Sidecar};

/// Topics that anybody may read.
pub(crate) fn entry(topics: &[&str]) -> Read {
    Read {
        cluster: "main".to_owned(),
        topics: ReadTopics::Names(TopicAllowlist(topics.iter().map(|t| (*t).to_owned()).collect())),
        anonymous: true,
        tokens: Vec::new(),
        named_tokens: Vec::new(),
        jwt: None,
        from: None,
        chosen_reset: None,
        remove_confluent_header: false,
        limit: 500,
        max_wait: Duration::ZERO,
        max_bytes: 1 << 20,
        auto_offset_reset: Reset::Latest,
        encode_message_id: false,
        check_topic_existence: true,
        publish: false,
        allowed_origins: Vec::new(),
        groups: ReadGroups::default(),
        filter: None,
        key: None,
        max_view_keys: 1000,
        max_view_bytes: 1 << 20,
    }
}

pub(crate) fn config(mock: &Mock, reads: Vec<Read>) -> Config {
    let mut config = support::config(&mock.bootstrap_servers());
    let properties = &mut support::cluster(&mut config).properties;
    // The mock wakes nobody who waits for a record, and has a group wait for most of a session when somebody joins it.
    properties.insert("fetch.wait.max.ms".to_owned(), Secret::new("10"));
    properties.insert("session.timeout.ms".to_owned(), Secret::new("6000"));
    config.reads = reads;
    config
}

/// A sidecar whose `jwt` and `reads` are written as they are in its configuration.
pub(crate) async fn reading_as(mock: &Mock, yaml: &str) -> Sidecar {
    let text = format!("clusters: {{main: {{bootstrap_servers: a, allowed_topics: [t]}}}}\n{yaml}");
    let loaded = sluice::config::load(&text, std::iter::empty()).unwrap_or_else(|why| panic!("{why:?}"));
    let mut config = config(mock, loaded.config.reads);
    config.jwt = loaded.config.jwt;
    Sidecar::start(config).await
}

/// A sidecar with one entry.
pub(crate) async fn reading(mock: &Mock, read: Read) -> Sidecar {
    Sidecar::start(config(mock, vec![read])).await
}

/// Writes values to a partition, with the key `k` and a header.
pub(crate) async fn write(mock: &Mock, topic: &str, partition: i32, values: &[&str]) {
    let records: Vec<_> = values.iter().map(|value| (Some("k"), Some(*value))).collect();
    put(mock, topic, partition, &records).await;
}

/// Writes keys and values to a partition, with a header each; a value that is none is a tombstone.
pub(crate) async fn put(mock: &Mock, topic: &str, partition: i32, records: &[(Option<&str>, Option<&str>)]) {
    let servers = mock.bootstrap_servers();
    let topic = topic.to_owned();
    let own = |text: &Option<&str>| text.map(str::to_owned);
    let records: Vec<_> = records
        .iter()
        .map(|(key, value)| (own(key), own(value)))
        .collect();
    let written = tokio::task::spawn_blocking(move || {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", servers).set("linger.ms", "0");
        let producer: BaseProducer = config.create().unwrap();
        for (key, value) in &records {
            let headers = OwnedHeaders::new().insert(Header {
                key: "h",
                value: Some("1"),
            });
            let mut record = BaseRecord::<str, str>::to(&topic)
                .partition(partition)
                .headers(headers);
            record.key = key.as_deref();
            record.payload = value.as_deref();
            producer.send(record).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
    });
    written.await.unwrap();
}

/// GETs with headers.
pub(crate) async fn get(sidecar: &Sidecar, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut builder = Request::get(sidecar.url(path));
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let answer = http::request(builder.body(Full::default()).unwrap());
    tokio::time::timeout(PATIENCE, answer)
        .await
        .expect("no answer")
        .expect("nobody there")
}

/// The page at a path.
pub(crate) async fn page(sidecar: &Sidecar, path: &str) -> Value {
    let answer = get(sidecar, path, &[]).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json()
}

/// The values of a page's items.
pub(crate) fn values(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| {
            item["value"]
                .as_str()
                .map_or_else(|| item["value"].to_string(), str::to_owned)
        })
        .collect()
}

/// An event stream that is open.
pub(crate) struct Events {
    body: hyper::body::Incoming,
    unread: String,
}

/// What a stream sent: `data` is empty for comments, which are in `comments`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) event: String,
    pub(crate) data: String,
    pub(crate) retry: String,
    pub(crate) comments: Vec<String>,
}

impl Event {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Events {
    pub(crate) async fn open(sidecar: &Sidecar, path: &str, headers: &[(&str, &str)]) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let mut builder = Request::get(sidecar.url(path));
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let response = client
            .request(builder.body(Full::default()).unwrap())
            .await
            .unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            body: response.into_body(),
            unread: String::new(),
        }
    }

    /// The next block of lines; none at the end.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.unread.find("\n\n") {
                let block: String = self.unread.drain(..end + 2).collect();
                return Some(parse(&block));
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame())
                .await
                .expect("nothing comes")?;
            let data = frame.unwrap().into_data().unwrap();
            self.unread.push_str(std::str::from_utf8(&data).unwrap());
        }
    }

    /// The next event that has this name.
    pub(crate) async fn event(&mut self, name: &str) -> Event {
        loop {
            let event = self.next().await.expect("the stream ended");
            if event.event == name {
                return event;
            }
            assert!(event.event.is_empty(), "{event:?} instead of {name}");
        }
    }

    /// The values of the next events.
    pub(crate) async fn values(&mut self, count: usize) -> Vec<String> {
        let mut values = Vec::new();
        for _ in 0..count {
            let value = self.event("message").await.json()["value"].clone();
            values.push(value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
        values
    }
}

fn parse(block: &str) -> Event {
    let mut event = Event::default();
    for line in block.lines().filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap();
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match name {
            "" => event.comments.push(value),
            "id" => event.id = value,
            "event" => event.event = value,
            "retry" => event.retry = value,
            "data" if event.data.is_empty() => event.data = value,
            "data" => event.data = format!("{}\n{value}", event.data),
            other => panic!("{other}"),
        }
    }
    event
}
