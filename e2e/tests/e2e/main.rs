//! End to end: real Envoy, real Kafka, the shipped filter and sidecar.

mod harness;
