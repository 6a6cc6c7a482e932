//! Reading over HTTP, from librdkafka's mock cluster.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failure here, in helpers too, fails a test"
)]

#[path = "read/access.rs"]
mod access;
#[path = "read/choices.rs"]
mod choices;
#[path = "read/filters.rs"]
mod filters;
#[path = "read/groups.rs"]
mod groups;
#[allow(dead_code, reason = "shared by several tests, none of which needs all of it")]
#[path = "shared/http.rs"]
mod http;
#[path = "read/jwt.rs"]
mod jwt;
#[path = "read/latest.rs"]
mod latest;
#[path = "read/polling.rs"]
mod polling;
#[path = "read/sse.rs"]
mod sse;
#[allow(dead_code, reason = "shared by several tests, none of which needs all of it")]
#[path = "shared/support.rs"]
mod support;
#[path = "read/world.rs"]
mod world;
#[path = "read/ws.rs"]
mod ws;
#[path = "read/ws_groups.rs"]
mod ws_groups;
#[path = "read/ws_options.rs"]
mod ws_options;
#[path = "read/ws_world.rs"]
mod ws_world;
