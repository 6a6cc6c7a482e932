//! The sidecar: produces the filter's records to Kafka.

pub mod config;
pub mod kafka;
