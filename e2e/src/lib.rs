//! The parts, started for real: Apache Kafka, Envoy and the sidecar, for tests and benchmarks.
//!
//! Everything listens on loopback only, on ports that no other harness process holds, dies with the process
//! that started it, and logs into a directory that stays when something failed.
//!
//! [`scenario::scenario`] runs one test; [`rig::Rig`] is sidecar and Envoy wired to a Kafka.

pub mod browser;
pub mod certificates;
pub mod client;
pub mod envoy;
pub mod franz;
pub mod kafka;
pub mod load;
pub mod parts;
pub mod ports;
pub mod process;
pub mod raw;
pub mod rig;
pub mod scenario;
pub mod sidecar;
pub mod upstream;
pub mod wait;

pub use anyhow::{Context, Error, Result, anyhow, bail, ensure};
