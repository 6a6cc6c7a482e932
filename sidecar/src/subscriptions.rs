//! Kafka calls you: a subscription takes records from topics and hands each to a handler, reliably.
//!
//! [`spec`] is what a subscription is, [`event`] what goes to a handler and what comes of it, [`sink`] calls the handler, [`engine`]
//! decides when, and [`running`] is how others watch and steer what runs. `docs/subscriptions.md` is the reference.

pub mod connect;
pub mod engine;
pub mod event;
pub mod running;
pub mod sink;
pub mod spec;
