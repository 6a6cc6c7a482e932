//! Organisations, their actions, runs and entities, with librdkafka's mock cluster.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failure here, in helpers too, fails a test"
)]

#[path = "actions/automations.rs"]
mod automations;
#[path = "actions/claims.rs"]
mod claims;
#[path = "actions/errors.rs"]
mod errors;
#[allow(dead_code, reason = "shared by several tests, none of which needs all of it")]
#[path = "shared/http.rs"]
mod http;
#[path = "actions/organization.rs"]
mod organization;
#[path = "actions/pages.rs"]
mod pages;
#[allow(dead_code, reason = "shared by several tests, none of which needs all of it")]
#[path = "shared/support.rs"]
mod support;
#[path = "actions/time.rs"]
mod time;
#[path = "actions/versions.rs"]
mod versions;
#[path = "actions/world.rs"]
mod world;
