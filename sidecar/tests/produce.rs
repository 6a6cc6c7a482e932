//! Producing, through every face, into librdkafka's mock cluster.

#[path = "produce/stream.rs"]
mod stream;
#[path = "produce/support.rs"]
mod support;
