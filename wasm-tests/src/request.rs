//! A request as a test writes it, and what became of it.

use std::fmt;

use crate::{maps::Pairs, metadata};

/// The number of a request's context in the filter.
pub type Id = u32;

/// A request on its way through Envoy.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub(crate) headers: Pairs,
    pub(crate) chunks: Vec<Vec<u8>>,
    pub(crate) trailers: Pairs,
    pub(crate) route_name: String,
    pub(crate) route_metadata: Vec<u8>,
    pub(crate) dynamic_metadata: Vec<u8>,
    pub(crate) source: String,
}

impl Request {
    /// A request of that method for that target (path with query) at `kafka.test`.
    pub fn new(method: &str, target: &str) -> Self {
        Self::default()
            .header(":method", method)
            .header(":path", target)
            .header(":scheme", "http")
            .header(":authority", "kafka.test")
    }

    /// [`Request::new`] with `POST`.
    pub fn post(target: &str) -> Self {
        Self::new("POST", target)
    }

    /// One more header; the name as Envoy has it, in lower case. A pseudo-header replaces the one that is there.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        if name.starts_with(':') {
            self.headers.retain(|(n, _)| n != name.as_bytes());
        }
        self.headers
            .push((name.as_bytes().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// One more header whose name need not be text.
    pub fn raw_header(mut self, name: &[u8], value: &[u8]) -> Self {
        self.headers.push((name.to_vec(), value.to_vec()));
        self
    }

    /// Adds a body, or one more chunk of it.
    pub fn body(mut self, chunk: impl Into<Vec<u8>>) -> Self {
        self.chunks.push(chunk.into());
        self
    }

    /// A JSON body with its content type.
    pub fn json(self, body: &str) -> Self {
        self.header("content-type", "application/json").body(body)
    }

    /// Adds a trailer.
    pub fn trailer(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.trailers
            .push((name.as_bytes().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// The name of the Envoy route that the request matched.
    pub fn route(mut self, name: &str) -> Self {
        name.clone_into(&mut self.route_name);
        self
    }

    /// The address and port that it comes from; none if it is empty.
    pub fn source(mut self, address: &str) -> Self {
        address.clone_into(&mut self.source);
        self
    }

    /// The route's `filter_metadata`: an object of namespaces.
    pub fn metadata(mut self, filter_metadata: &serde_json::Value) -> Self {
        self.route_metadata = metadata::encode(filter_metadata);
        self
    }

    /// What filters before this one left in the request's dynamic metadata: an object of namespaces.
    pub fn dynamic_metadata(self, filter_metadata: &serde_json::Value) -> Self {
        self.raw_dynamic_metadata(&metadata::encode(filter_metadata))
    }

    /// Any bytes as the property `metadata`.
    pub fn raw_dynamic_metadata(mut self, bytes: &[u8]) -> Self {
        self.dynamic_metadata = bytes.to_vec();
        self
    }

    /// The route's settings for the filter: its metadata in namespace `sluice`.
    pub fn settings(self, settings: serde_json::Value) -> Self {
        self.metadata(&serde_json::json!({ "sluice": settings }))
    }

    /// Any bytes as the property `xds.route_metadata`.
    pub fn raw_metadata(mut self, bytes: &[u8]) -> Self {
        self.route_metadata = bytes.to_vec();
        self
    }
}

/// What has become of a request so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The filter holds it.
    Waiting,
    /// The filter, or Envoy itself, answered it.
    Replied(Reply),
    /// It went on to its upstream.
    Forwarded(Forwarded),
    /// The client left before there was an answer.
    Left,
}

/// A local reply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u32,
    /// The headers that were given, in order.
    pub headers: Pairs,
    /// The body.
    pub body: Vec<u8>,
    /// Envoy's response code details.
    pub details: String,
}

impl Reply {
    /// The first header of that name as text.
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(n, _)| n == name.as_bytes())?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The `code` of an error body; empty if there is none.
    pub fn code(&self) -> String {
        self.json()
            .get("code")
            .and_then(|c| c.as_str())
            .unwrap_or_default()
            .to_owned()
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, String::from_utf8_lossy(&self.body))
    }
}

/// What the upstream got.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// The headers.
    pub headers: Pairs,
    /// The body so far.
    pub body: Vec<u8>,
    /// The trailers.
    pub trailers: Pairs,
    /// Whether all of the request went.
    pub complete: bool,
}
