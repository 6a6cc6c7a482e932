//! Everything that speaks to Kafka: the only module that knows a Kafka client.

pub mod connection;
pub mod consumer;
pub mod dev_broker;
pub mod properties;
pub mod sender;
pub mod topics;
