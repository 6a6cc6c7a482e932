//! Subscriptions: records of topics, each of which is handed to an HTTP handler. `docs/subscriptions.md` is the reference.
//!
//! [`spec`] says what a subscription is, [`event`] what goes to a handler and what comes of it.

pub mod event;
pub mod spec;
