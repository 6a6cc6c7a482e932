//! Subscriptions: from librdkafka's mock cluster to a handler over HTTP.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failure here, in helpers too, fails a test"
)]

#[path = "subscriptions/delivery.rs"]
mod delivery;
#[path = "subscriptions/failing.rs"]
mod failing;
#[path = "subscriptions/faulty.rs"]
mod faulty;
#[path = "subscriptions/handed_over.rs"]
mod handed_over;
#[path = "subscriptions/steering.rs"]
mod steering;
#[path = "subscriptions/together.rs"]
mod together;
#[path = "subscriptions/world.rs"]
mod world;
