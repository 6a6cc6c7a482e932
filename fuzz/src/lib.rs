//! A fuzz target for every parser of untrusted bytes.
//!
//! A target is a function that takes any bytes and panics where a parser does what it must not: where it and another
//! implementation disagree, where what was taken apart does not come together again. What the two may disagree about
//! is named where they are compared, and docs/message.md says which of them is right.
//!
//! `make fuzz` runs them under libFuzzer; `cargo test` runs them on what is in `corpus/` and on random input.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a target reports what it found"
)]

mod actions;
mod bodies;
mod config;
mod control;
mod cursor;
mod damage;
mod environment;
mod form;
mod held;
mod idempotency;
mod jks;
mod jq;
mod json;
mod jwt;
mod keys;
mod keytab;
mod media;
mod metadata;
mod multipart;
mod pairs;
mod path;
mod prefer;
mod produce;
mod records;
mod relay;
mod replies;
mod reply;
mod request;
mod rest;
mod socket;
mod spool;
mod templates;
mod token;
mod webhook;

/// A target.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also that of its folder in `corpus/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("action_row", actions::row),
    ("broker_answer", relay::broker_answer),
    ("cursor", cursor::cursor),
    ("deployment_manifest", control::manifest),
    ("environment", environment::environment),
    ("envoy_config", config::envoy),
    ("filter_config", config::filter),
    ("finished_ahead", held::finished),
    ("form", form::form),
    ("header_pairs", pairs::pairs),
    ("held_event", held::held),
    ("idempotency_key", idempotency::key),
    ("jks", jks::jks),
    ("jq_fields", jq::fields),
    ("jq_place", jq::place),
    ("jq_program", jq::program),
    ("jq_template", jq::template),
    ("json", json::json),
    ("jwt", jwt::token),
    ("jwt_keys", jwt::keys),
    ("keys_file", keys::file),
    ("keys_row", keys::row),
    ("keytab", keytab::keytab),
    ("media_type", media::media_type),
    ("multipart", multipart::multipart),
    ("path_template", path::template),
    ("prefer", prefer::prefer),
    ("produce", produce::produce),
    ("produce_reply", reply::produce_reply),
    ("produce_request", records::produce_request),
    ("read_from", cursor::from),
    ("record_template", templates::record),
    ("reply_token", replies::token),
    ("request", request::request),
    ("rest", rest::rest),
    ("rest_records", bodies::records),
    ("route_metadata", metadata::route_metadata),
    ("sidecar_config", config::sidecar),
    ("socket_message", socket::message),
    ("spool_file", spool::file),
    ("spool_row", spool::row),
    ("state_records", control::state_records),
    ("token_answer", token::answer_of_issuer),
    ("topics_pattern", config::topics_pattern),
    ("topics_template", jwt::template),
    ("webhook_answer", webhook::answer),
    ("webhook_target", webhook::target),
];

/// The target of that name.
pub fn target(name: &str) -> Option<Target> {
    let found = TARGETS.iter().find(|(known, _)| *known == name)?;
    Some(found.1)
}

/// The target that the environment's `FUZZ_TARGET` names.
///
/// # Panics
/// If there is none of that name.
pub fn chosen() -> Target {
    #[allow(
        clippy::disallowed_methods,
        reason = "this is what a main would do, which libFuzzer has"
    )]
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    target(&name).unwrap_or_else(|| {
        let names = TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        panic!("FUZZ_TARGET is {name:?}, and must be one of {}", names.join(", "))
    })
}
