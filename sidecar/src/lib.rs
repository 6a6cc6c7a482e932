//! The sidecar: produces the filter's records to Kafka.

pub mod actions;
pub mod admin;
pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod control;
mod database;
#[cfg(test)]
mod disk;
mod epoch;
pub mod fetch;
pub mod idempotency;
pub mod jq;
mod json_api;
pub mod kafka;
pub mod kerberos;
pub mod keystore;
pub mod listeners;
pub mod metrics;
pub mod produce;
pub mod read;
pub mod registry;
pub mod reload;
pub mod replies;
pub mod shutdown;
pub mod spool;
pub mod subscriptions;
pub mod templates;
