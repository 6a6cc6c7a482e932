//! What goes to a handler, and what comes of it.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use bytes::Bytes;

use crate::kafka::reader::Record;

/// A record on its way to a handler.
#[derive(Debug, Clone)]
pub struct Event {
    /// The subscription's id.
    pub subscription: Arc<str>,
    /// The record.
    pub record: Arc<Record>,
    /// How often it was tried before.
    pub attempts: u32,
}

impl Event {
    /// What a handler may tell repeats by: `{subscription}/{topic}/{partition}/{offset}`.
    pub fn id(&self) -> String {
        let Record {
            topic,
            partition,
            offset,
            ..
        } = &*self.record;
        format!("{}/{topic}/{partition}/{offset}", self.subscription)
    }
}

/// What a handler answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// What came of handing events over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The handler took them.
    Done {
        /// What it answered, where there is a reply topic to put it on.
        reply: Option<Reply>,
    },
    /// They may be tried again.
    Retry {
        /// What went wrong, for a person: names the target, never a secret.
        why: String,
        /// The answer's status, where there was one.
        status: Option<u16>,
        /// `Retry-After`: not earlier than after this.
        after: Option<Duration>,
    },
    /// Trying again would not help.
    Poison {
        /// What is wrong, for a person.
        why: String,
        /// The answer's status, where there was one.
        status: Option<u16>,
    },
    /// The handler said that they are to be dropped (`{"status":"DROP"}`).
    Dropped,
}

/// Hands events to one handler.
///
/// It knows nothing of order, retries or positions: who calls it does. It holds nothing between calls but connections.
pub trait Deliver: Send + Sync + 'static {
    /// Where it hands them to: scheme, host and port. Those of one place have one circuit breaker and one rate limit.
    fn place(&self) -> String;

    /// Hands `events` over in one request: one event, or as many as the subscription's batches have. Returns within the sink's
    /// timeouts, and can be dropped at any time.
    fn deliver(&self, events: &[Event]) -> impl Future<Output = Outcome> + Send;
}
