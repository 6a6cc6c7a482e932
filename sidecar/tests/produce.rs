//! Producing, through every face, into librdkafka's mock cluster.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failure here, in helpers too, fails a test"
)]

#[path = "produce/bridge.rs"]
mod bridge;
#[path = "produce/buffered.rs"]
mod buffered;
#[path = "produce/callers.rs"]
mod callers;
#[path = "produce/clients.rs"]
mod clients;
#[path = "produce/drain.rs"]
mod drain;
#[path = "produce/errors.rs"]
mod errors;
#[allow(dead_code, reason = "shared by several tests, none of which needs all of it")]
#[path = "shared/http.rs"]
mod http;
#[path = "produce/idempotency.rs"]
mod idempotency;
#[path = "produce/letters.rs"]
mod letters;
#[path = "produce/listening.rs"]
mod listening;
#[path = "produce/named.rs"]
mod named;
#[path = "produce/order.rs"]
mod order;
#[path = "produce/outage.rs"]
mod outage;
#[path = "produce/replies.rs"]
mod replies;
#[path = "produce/rest.rs"]
mod rest;
#[path = "produce/spool.rs"]
mod spool;
#[path = "produce/stream.rs"]
mod stream;
#[allow(dead_code, reason = "shared by several tests, none of which needs all of it")]
#[path = "shared/support.rs"]
mod support;
#[path = "produce/templates.rs"]
mod templates;
