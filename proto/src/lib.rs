//! The contract between filter and sidecar: the messages of `sluice.v1` ([`v1`]), the one table that says
//! which HTTP status and code an error class is ([`class`]), how an `Idempotency-Key` header is read
//! ([`idempotency`]), what a request prefers ([`prefer`]), and how clients are told apart ([`client`]).

pub mod class;
pub mod client;
pub mod idempotency;
pub mod prefer;

/// The generated messages (and, with feature `grpc`, the client and server) of package `sluice.v1`.
///
/// `sluice/v1/records.proto` documents every field.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/sluice.v1.rs"));
}

/// The header in the initial metadata of a `Produce` call by which a client knows that a sidecar answered.
///
/// A failed open delivers initial metadata too (without it), right before the call closes.
pub const STREAM_HEADER: &str = "sluice-stream";

/// The value of [`STREAM_HEADER`]: the version of the contract.
pub const STREAM_VERSION: &str = "1";

/// The full gRPC service name.
pub const SERVICE: &str = "sluice.v1.Records";

/// The method of [`SERVICE`] that writes records.
pub const METHOD_PRODUCE: &str = "Produce";
