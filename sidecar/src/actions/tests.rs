//! What needs neither Kafka nor HTTP, by subject. Rows are tested beside them.

use serde_json::json;

use super::item::{self, Run, Status};
use super::*;
use crate::config;

mod access;
mod automations;
mod expressions;
mod rules;
mod runs;

/// What a configuration makes of `orgs`.
fn settings(orgs: &str) -> Settings {
    let yaml = format!("clusters: {{main: {{bootstrap_servers: 'localhost:1'}}}}\norgs: {orgs}\n");
    let loaded = config::load(&yaml, std::iter::empty()).unwrap_or_else(|problems| panic!("{problems:?}"));
    loaded.config.actions.unwrap()
}

fn two() -> Settings {
    settings(
        "{acme: {secret: ssssssssssssssssssssssssssssssss, access: [{tokens: [t-ann], name: ann, email: ann@acme.test, may: \
         [invoke, see], actions: ['deploy*']}, {tokens: [t-ann, t-bob], name: bob, may: [report]}], clients: {agent: {secret: \
         0123456789abcdef, may: [report, credentials]}}}, \
         rest: {access: [{tokens: [t-rae], name: rae, may: [see]}], clients: {other: {secret: fedcba9876543210, may: [see]}}}}",
    )
}

/// A run of `deploy` that goes on.
pub(super) fn run() -> Run {
    Run {
        status: Status::InProgress,
        action: "deploy".to_owned(),
        title: None,
        trigger: json!({"by": {"orgId": "acme"}, "origin": "API", "at": "x"}),
        operation: None,
        user: "ann".to_owned(),
        invocation_method: serde_json::Map::new(),
        properties: serde_json::Map::new(),
        censored: Vec::new(),
        entity: None,
        blueprint: None,
        entity_then: None,
        event: None,
        depth: 0,
        told: item::Told::default(),
        approval: None,
        claim: None,
        created_ms: 0,
        updated_ms: 0,
        ended_ms: None,
        timeout_ms: 1,
        deadline_ms: None,
        unwritten: false,
        untold: Vec::new(),
    }
}
