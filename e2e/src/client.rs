//! HTTP clients for tests: HTTP/1.1 with keep-alive, or HTTP/2 with prior knowledge.

use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// What a request may be made of.
pub type Body = BoxBody<Bytes, Infallible>;

/// A client of one server on loopback.
#[derive(Debug, Clone)]
pub struct Client {
    pool: Pool<HttpConnector, Body>,
    port: u16,
    limit: Duration,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Client {
    /// A client that speaks HTTP/1.1.
    pub fn h1(port: u16) -> Self {
        Self::new(port, false)
    }

    /// A client that speaks HTTP/2 from the first byte, all requests on one connection.
    pub fn h2(port: u16) -> Self {
        Self::new(port, true)
    }

    /// An HTTP/1.1 client of the same server whose connections come from `address`.
    #[must_use]
    pub fn from(other: Self, address: IpAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_local_address(Some(address));
        let pool = Pool::builder(TokioExecutor::new()).build(connector);
        Self { pool, ..other }
    }

    fn new(port: u16, h2: bool) -> Self {
        let pool = Pool::builder(TokioExecutor::new()).http2_only(h2).build_http();
        Self {
            pool,
            port,
            limit: Duration::from_secs(30),
        }
    }

    /// The same client, giving up after `limit`.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// A request to `path_and_query`, to be completed and sent with [`Self::send`].
    pub fn request(&self, method: Method, path_and_query: &str) -> hyper::http::request::Builder {
        Request::builder()
            .method(method)
            .uri(format!("http://127.0.0.1:{}{path_and_query}", self.port))
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When there is none: no connection, a broken one, or the time is over.
    pub async fn send(&self, request: Request<Body>) -> Result<Reply> {
        let what = format!("{} {}", request.method(), request.uri());
        let exchange = async {
            let (head, body) = self.pool.request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok::<_, anyhow::Error>(Reply {
                status: head.status.as_u16(),
                headers: head.headers,
                body,
            })
        };
        tokio::time::timeout(self.limit, exchange)
            .await
            .context("no answer in time")
            .flatten()
            .context(what)
    }

    /// A GET.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn get(&self, path_and_query: &str) -> Result<Reply> {
        self.send(self.request(Method::GET, path_and_query).body(full(""))?)
            .await
    }

    /// A POST of `body` as `content_type` (none if empty).
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn post(&self, path: &str, content_type: &str, body: impl Into<Bytes>) -> Result<Reply> {
        let mut request = self.request(Method::POST, path);
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        self.send(request.body(full(body))?).await
    }
}

/// Whether a request that [`Client::send`] gave no answer for was never sent, since there was no connection.
pub fn was_not_sent(error: &anyhow::Error) -> bool {
    let causes = error.chain();
    let mut ours = causes.filter_map(|cause| cause.downcast_ref::<hyper_util::client::legacy::Error>());
    ours.any(hyper_util::client::legacy::Error::is_connect)
}

/// A body that is there as a whole.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}

impl Reply {
    /// A header as text; empty if it is absent or no text.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The body as text, for messages.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is not.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("{}: not JSON: {}", self.status, self.text()))
    }

    /// The `code` of an error body; empty if there is none.
    pub fn code(&self) -> String {
        let code = self
            .json()
            .ok()
            .and_then(|json| Some(json.get("code")?.as_str()?.to_owned()));
        code.unwrap_or_default()
    }

    /// The error, with the whole answer, unless the status is this one.
    ///
    /// # Errors
    /// When it is another.
    pub fn expect(&self, status: u16) -> Result<&Self> {
        anyhow::ensure!(
            self.status == status,
            "not {status}: {} {:?}\n{}",
            self.status,
            self.headers,
            self.text()
        );
        Ok(self)
    }

    /// The same for an error answer of this status and `code`, in the shape that all errors have.
    ///
    /// # Errors
    /// When it is another, or has another shape.
    pub fn expect_error(&self, status: u16, code: &str) -> Result<&Self> {
        self.expect(status)?;
        let json = self.json()?;
        let text = |field: &str| {
            json.get(field)
                .and_then(|value| value.as_str())
                .unwrap_or_default()
        };
        anyhow::ensure!(
            text("code") == code && !text("message").is_empty() && !text("error").is_empty(),
            "not an error {code}: {}",
            self.text()
        );
        anyhow::ensure!(
            self.header("content-type").starts_with("application/json"),
            "{:?}",
            self.headers
        );
        // Nothing is stored, so that trying again cannot write twice; another upstream's 503 says no such thing.
        let again = status == 503 && code != "upstream_unavailable";
        anyhow::ensure!(
            again != self.header("retry-after").is_empty(),
            "{:?}",
            self.headers
        );
        Ok(self)
    }
}
