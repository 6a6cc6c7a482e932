//! End to end: real Envoy, real Kafka, the shipped filter and sidecar.

mod bodies;
mod choice;
mod cli;
mod clusters;
mod errors;
mod fail_closed;
mod harness;
mod idempotency;
mod keys;
mod kong;
mod many;
mod onward;
mod outages;
mod produce;
mod protocol;
mod reading;
mod reload;
mod replicas;
mod rest;
mod run;
mod smoke;
mod sockets;
mod spool;
mod stats;
mod storm;
mod truth;
