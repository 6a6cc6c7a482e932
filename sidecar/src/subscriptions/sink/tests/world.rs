//! Servers that remember what they were sent, and webhooks to call them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Version};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::Value;
use sluice_settings::{Problems, Section};
use tokio::net::TcpListener;

use super::super::*;
use crate::kafka::reader::Record;

/// What a server was sent.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) method: String,
    pub(super) uri: String,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Sent {
    pub(super) fn header(&self, name: &str) -> &str {
        let value = self
            .headers
            .get(name)
            .unwrap_or_else(|| panic!("no {name}: {self:?}"));
        value.to_str().unwrap()
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// A server of the test's own.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) sent: Arc<Mutex<Vec<Sent>>>,
}

impl Server {
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn all(&self) -> Vec<Sent> {
        self.sent.lock().unwrap().clone()
    }

    pub(super) fn last(&self) -> Sent {
        self.all().pop().expect("nothing was sent")
    }
}

/// What answers, and remembers. `answer` gets what was sent, and how many were sent before.
pub(super) fn app<R, F>(answer: F) -> (Router, Arc<Mutex<Vec<Sent>>>)
where
    R: IntoResponse,
    F: Fn(&Sent, usize) -> R + Clone + Send + Sync + 'static,
{
    let sent: Arc<Mutex<Vec<Sent>>> = Arc::default();
    let kept = Arc::clone(&sent);
    let handle = move |request: Request| {
        let (kept, answer) = (Arc::clone(&kept), answer.clone());
        async move {
            let (head, body) = request.into_parts();
            let one = Sent {
                method: head.method.to_string(),
                uri: head.uri.to_string(),
                version: head.version,
                headers: head.headers,
                body: body.collect().await.unwrap().to_bytes(),
            };
            let mut all = kept.lock().unwrap();
            let response = answer(&one, all.len()).into_response();
            all.push(one);
            response
        }
    };
    (Router::new().fallback(handle), sent)
}

pub(super) async fn serve<R, F>(answer: F) -> Server
where
    R: IntoResponse,
    F: Fn(&Sent, usize) -> R + Clone + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (app, sent) = app(answer);
    tokio::spawn(async move { axum::serve(listener, app).await });
    Server { address, sent }
}

/// One that takes everything.
pub(super) async fn takes_all() -> Server {
    serve(|_, _| ()).await
}

/// An answer with a body.
pub(super) fn answer(status: u16, body: impl Into<Body>) -> Response {
    Response::builder().status(status).body(body.into()).unwrap()
}

pub(super) fn record(value: Option<&str>) -> Record {
    Record {
        topic: "orders".into(),
        partition: 3,
        offset: 7,
        timestamp: Some(1_767_225_600_123),
        key: Some(Bytes::from_static(b"k\xff1")),
        headers: Vec::new(),
        value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
        shown: Default::default(),
        shown_unframed: Default::default(),
    }
}

pub(super) fn event(record: Record) -> Event {
    Event {
        subscription: "sub_1".into(),
        record: Arc::new(record),
        attempts: 0,
    }
}

/// An event with that value.
pub(super) fn valued(value: &str) -> Event {
    event(record(Some(value)))
}

pub(super) fn options(tree: &Value) -> Options {
    let problems = Problems::default();
    let section = Section::root(tree, &problems);
    let options = Options::read(&section, &Inline(&problems));
    section.raw("batch");
    section.finish();
    assert_eq!(problems.into_vec(), []);
    options
}

pub(super) const USAGE: Usage = Usage {
    author: Author::Config,
    batches: false,
    replies: false,
    raw: false,
};

pub(super) fn webhook_for(target: Target, tree: &Value, usage: Usage) -> Webhook {
    let egress = Arc::new(Egress::default());
    Webhook::new(target, &options(tree), usage, &egress, SinkMetrics::default()).unwrap()
}

pub(super) fn webhook(url: &str, tree: &Value) -> Webhook {
    webhook_for(Target::webhook(url).unwrap(), tree, USAGE)
}

pub(super) const DONE: Outcome = Outcome::Done { reply: None };

/// Why something may be tried again.
pub(super) fn retried(outcome: Outcome) -> String {
    match outcome {
        Outcome::Retry { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

/// Why something may not.
pub(super) fn poisoned(outcome: Outcome) -> String {
    match outcome {
        Outcome::Poison { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

/// Longer than anything here takes on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
