//! Everything that speaks to Kafka: the only module that knows a Kafka client.
//!
//! What leaves the producing side are the types of [`record`], [`health`] and [`pool`].

pub mod bearer;
pub mod client;
pub mod connection;
pub mod consumer;
pub mod dev_broker;
pub mod error;
pub mod group;
pub mod health;
mod iam;
pub mod log;
mod native;
pub mod oidc;
pub mod pool;
pub mod probe;
pub mod producer;
pub mod properties;
mod queue;
pub mod reader;
pub mod record;
pub(crate) mod relay;
#[cfg(feature = "parsers")]
pub use relay::parsers as relay_parsers;
pub mod sender;
pub mod topics;
pub mod trouble;
pub mod writer;
