//! The filter as it ships, in a fake Envoy. One program, so that the filter is compiled once.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests, and what they share"
)]

mod bodies;
mod common;
mod config;
mod continues;
mod examples;
mod failures;
mod fuel;
mod hostile;
mod http;
mod idempotency;
mod many;
mod pressure;
mod replies;
mod request;
mod routes;
mod stats;
mod stream;
