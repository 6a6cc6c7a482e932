//! The filter: a request that reaches Envoy becomes a Kafka record.

pub mod call;
mod choice;
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code, reason = "only the shell asks"))]
mod cloudevents;
pub mod config;
mod envelope;
pub mod exchange;
mod form;
mod idempotency;
pub mod inputs;
mod json;
mod key;
mod media;
mod multipart;
pub mod pairs;
#[cfg(feature = "parsers")]
pub mod parsers;
pub mod record;
mod record_headers;
pub mod reply;
pub mod reply_to;
pub mod request;
#[cfg(target_arch = "wasm32")]
mod shell;
mod source;
pub mod stats;
pub mod stream;
mod template;
mod topics;
