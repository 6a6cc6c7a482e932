//! The filter: a request that reaches Envoy becomes a Kafka record.

pub mod config;
pub mod request;
