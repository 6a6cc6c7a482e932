//! Everything that speaks to Kafka: the only module that knows a Kafka client.

pub mod dev_broker;
pub mod properties;
