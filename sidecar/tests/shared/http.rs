//! A small HTTP client.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::support::PATIENCE;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// Sends a request; `None` when there is nobody.
pub(crate) async fn request(request: Request<Full<Bytes>>) -> Option<Answer> {
    answer_of(Client::builder(TokioExecutor::new()).build_http(), request).await
}

/// Sends a request by a client; `None` when there is nobody.
pub(crate) async fn answer_of(
    client: Client<HttpConnector, Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Option<Answer> {
    let response = client.request(request).await.ok()?;
    let (head, body) = response.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    Some(Answer {
        status: head.status,
        headers: head.headers,
        body,
    })
}

/// A request that POSTs `body` with the headers.
pub(crate) fn post_request(
    url: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Request<Full<Bytes>> {
    let mut builder = Request::post(url);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Full::new(body.into())).unwrap()
}

/// POSTs `body` with the headers.
pub(crate) async fn post(url: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    request(post_request(url, headers, body))
        .await
        .expect("no answer")
}

/// Calls with the method, the headers and a body of JSON.
pub(crate) async fn call(method: Method, url: &str, headers: &[(&str, &str)], body: Option<Value>) -> Answer {
    let mut builder = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    if body.is_some() {
        builder = builder.header("content-type", "application/json");
    }
    let body = body.map_or_else(String::new, |body| body.to_string());
    let answer = request(builder.body(Full::from(body)).unwrap());
    tokio::time::timeout(PATIENCE, answer)
        .await
        .expect("no answer")
        .expect("nobody there")
}

/// GETs the URL.
pub(crate) async fn get(url: &str) -> Option<Answer> {
    request(Request::get(url).body(Full::default()).unwrap()).await
}
