//! A fake proxy-wasm host: runs the filter's `.wasm`, as it ships, in wasmtime, and behaves to it as an Envoy worker
//! does (ABI 0.2.1; the facts are those of proxy-wasm-cpp-host and of Envoy's `source/extensions/common/wasm`).
//!
//! A [`Host`] is one worker with one VM. The test is its event loop: it lets requests arrive ([`Host::send`], or
//! [`Host::open`], [`Host::body`] and [`Host::trailers`] for several at once), decides records' fates
//! ([`Host::answer`], or a script of the [`Sidecar`]) and lets time pass ([`Host::advance`]). HTTP calls of the filter
//! are really made. A trap, an answer given twice, or an answer given to no request fails the test.

pub mod artefact;
mod backends;
mod builder;
mod compiled;
mod events;
mod exchange;
mod host;
mod imports;
mod inspect;
mod lifecycle;
mod maps;
mod memory;
mod metadata;
mod metrics;
mod request;
mod sidecar;
mod state;
mod status;
mod upstream;

pub use builder::{Builder, CLUSTER, Rejected};
pub use host::Host;
pub use maps::Pairs;
pub use metrics::Metric;
pub use request::{Forwarded, Id, Outcome, Reply, Request};
pub use sidecar::{Opening, Sent, Sidecar, Stream, Verdict, accepted, failed, failed_as, stored};
pub use state::Log;
pub use status::Status;
pub use upstream::HttpCall;
