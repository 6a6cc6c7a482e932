//! The filter: a request that reaches Envoy becomes a Kafka record.

mod cloudevents;
pub mod config;
mod envelope;
mod form;
mod json;
mod key;
mod media;
mod multipart;
pub mod record;
mod record_headers;
pub mod request;
pub mod stream;
mod topics;
