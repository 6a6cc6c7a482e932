//! A sidecar with an organisation, and who calls it.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use sluice::config::{Config, Secret};

use crate::http::{self, Answer};
use crate::support::{self, Mock, PATIENCE, Sidecar};

/// Who may do everything.
pub(crate) const ALL: &str = "all";

/// The topics of `acme`, and that of the state.
pub(crate) fn mock() -> Mock {
    support::mock(&[("state", 1), ("acme.runs", 2), ("acme.change.log", 2)])
}

/// `acme`, whose token [`ALL`] may do everything, with fields besides.
pub(crate) fn config(mock: &Mock, fields: &str) -> Config {
    let may = "[invoke, approve, report, see, manage, credentials]";
    let text = format!(
        "clusters: {{main: {{bootstrap_servers: a, allowed_topics: [t]}}}}\nactions: {{topic: state}}\n\
         orgs:\n  acme:\n    access: [{{tokens: [{ALL}], name: anna, may: {may}}}, {{tokens: [bert], name: bert, may: {may}}}]\n\
         \x20   actions:\n{ACTIONS}{fields}"
    );
    let loaded =
        sluice::config::load(&text, std::iter::empty()).unwrap_or_else(|why| panic!("{why:?}\n{text}"));
    let mut config = support::config(&mock.bootstrap_servers());
    // The mock wakes nobody who waits for a record.
    support::cluster(&mut config)
        .properties
        .insert("fetch.wait.max.ms".to_owned(), Secret::new("10"));
    config.actions = loaded.config.actions;
    assert!(config.actions.is_some());
    config
}

/// `deploy`, which takes a number; `agent`, which an agent may claim; `asks`, which waits for approval; `change`, which is about an entity.
const ACTIONS: &str = "      - identifier: deploy
        trigger:
          type: self-service
          operation: CREATE
          userInputs: {properties: {n: {type: integer}}}
        invocationMethod: {type: KAFKA}
      - identifier: agent
        trigger: {type: self-service, operation: CREATE}
        invocationMethod: {type: WEBHOOK, agent: true, url: 'http://hook.example'}
      - identifier: asks
        trigger: {type: self-service, operation: CREATE}
        requiredApproval: true
        invocationMethod: {type: KAFKA}
      - identifier: change
        trigger: {type: self-service, operation: DAY-2, blueprintIdentifier: service}
        invocationMethod: {type: KAFKA}
      - identifier: automatic
        trigger: {type: automation, event: {type: TIMER, every: 8784h}}
        invocationMethod: {type: KAFKA}
";

pub(crate) async fn start(mock: &Mock, fields: &str) -> Sidecar {
    let sidecar = Sidecar::start(config(mock, fields)).await;
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let told = get(&sidecar, "/v1/actions/runs").await;
        if told.status == 200 {
            return sidecar;
        }
        assert!(tokio::time::Instant::now() < until, "{told:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn call(
    sidecar: &Sidecar,
    method: Method,
    path: &str,
    body: Option<Value>,
    headers: &[(&str, &str)],
) -> Answer {
    let token = format!("Bearer {ALL}");
    let mut headers = headers.to_vec();
    if !headers.iter().any(|(name, _)| *name == "authorization") {
        headers.push(("authorization", &token));
    }
    http::call(method, &sidecar.url(path), &headers, body).await
}

pub(crate) async fn get(sidecar: &Sidecar, path: &str) -> Answer {
    call(sidecar, Method::GET, path, None, &[]).await
}

pub(crate) async fn post(sidecar: &Sidecar, path: &str, body: Value) -> Answer {
    call(sidecar, Method::POST, path, Some(body), &[]).await
}

pub(crate) async fn patch(sidecar: &Sidecar, path: &str, body: Value) -> Answer {
    call(sidecar, Method::PATCH, path, Some(body), &[]).await
}

/// Starts a run, and gives its path.
pub(crate) async fn run(sidecar: &Sidecar, action: &str) -> String {
    let answer = post(sidecar, &format!("/v1/actions/{action}/runs"), json!({})).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.header("location").unwrap().to_owned()
}

/// The id at the end of a path.
pub(crate) fn id(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

pub(crate) fn expect(answer: &Answer, status: u16, code: &str, words: &str) {
    let body = answer.json();
    let error = body["error"].as_str().unwrap_or_default();
    assert!(
        answer.status == status && body["code"] == code && error.contains(words),
        "not {status} {code} {words:?}: {} {body}",
        answer.status
    );
}
