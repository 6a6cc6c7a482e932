//! Runs subscriptions: takes records from Kafka, decides what goes to the handler when, and sees to what comes of it.
//!
//! ```text
//!  member of the group ──► intake ──► lanes ──► deliver ──► handler
//!        ▲                   ▲          ▲          │ outcome
//!        │ commit            │ load     │ due      ▼
//!      prefix ◄── finished ◄─┴─ held topic ◄── settle: done, held, parked, dead letter, reply
//! ```
//!
//! What decides is pure and tested as such: `prefix` and `progress` (what may be committed), `lanes` (what may go at once), `backoff`,
//! `breaker`, `rate` and `reconcile`. A `runner` is one task that has all of a subscription's state; a `supervisor` sees to it that
//! there is one for each.
//!
//! - An offset is committed when everything before it is finished: taken by the handler, held in the held topic, written as a
//!   dead letter, or skipped. Held counts, so that a handler that fails for a day does not hold up what is committed.
//! - Beside it is committed what is finished after it (`progress`): whoever takes the partition over does not begin it again.
//! - Of a lane one event is under way, or one request; so the order of a key holds across retries and restarts. What is held
//!   comes before what is read again, since it was before it in the partition.

mod backoff;
mod breaker;
mod gate;
mod held;
mod hub;
mod lanes;
mod leftover;
mod outlet;
#[cfg(feature = "parsers")]
pub mod parsers;
mod prefix;
mod progress;
mod rate;
mod reconcile;
mod runner;
mod runs;
mod supervisor;
mod target;

pub use self::supervisor::{Connect, Engine, Handle};
