//! Producing, through every face, into librdkafka's mock cluster.

#[path = "produce/buffered.rs"]
mod buffered;
#[path = "produce/drain.rs"]
mod drain;
#[path = "produce/errors.rs"]
mod errors;
#[path = "produce/http.rs"]
mod http;
#[path = "produce/order.rs"]
mod order;
#[path = "produce/outage.rs"]
mod outage;
#[path = "produce/stream.rs"]
mod stream;
#[path = "produce/support.rs"]
mod support;
