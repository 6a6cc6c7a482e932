//! Actions, runs, entities and automations: through real Envoy, with real Kafka, and with who carries them out in Python.

#![allow(
    clippy::indexing_slicing,
    reason = "what a JSON value has not is null, which fails a test"
)]

mod access;
mod agents;
mod flow;
mod inputs;
mod replicas;
mod runs;

use std::path::PathBuf;
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use sluice_e2e::client::{Client, Reply, full};
use sluice_e2e::envoy::actions;
use sluice_e2e::kafka::{Kafka, Record};
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::Scenario;
use sluice_e2e::{Context, Result, ensure, parts, wait};
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_secs(90);

/// Somebody who calls with a token.
#[derive(Clone)]
pub(crate) struct Caller {
    client: Client,
    token: String,
}

impl Caller {
    pub(crate) fn new(client: Client, token: &str) -> Self {
        Self {
            client: client.within(PATIENCE),
            token: token.to_owned(),
        }
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Reply> {
        self.call_with(method, path, body, &[]).await
    }

    async fn call_with(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Reply> {
        let mut request = self.client.request(method, path);
        if !self.token.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = match body {
            None => String::new(),
            Some(body) => {
                request = request.header("content-type", "application/json");
                body.to_string()
            }
        };
        self.client.send(request.body(full(body))?).await
    }

    async fn get(&self, path: &str) -> Result<Reply> {
        self.call(Method::GET, path, None).await
    }

    async fn post(&self, path: &str, body: Value) -> Result<Reply> {
        self.call(Method::POST, path, Some(&body)).await
    }

    async fn patch(&self, path: &str, body: Value) -> Result<Reply> {
        self.call(Method::PATCH, path, Some(&body)).await
    }

    /// Starts a run, and gives its id.
    pub(crate) async fn start(&self, action: &str, body: Value) -> Result<String> {
        let reply = self.post(&format!("/v1/actions/{action}/runs"), body).await?;
        reply.expect(202)?;
        let id = text(&reply.json()?, "/run/id")?;
        ensure!(
            reply.header("location") == format!("/v1/actions/runs/{id}"),
            "{reply:?}"
        );
        Ok(id)
    }

    /// A run as it is now.
    async fn run(&self, id: &str) -> Result<Value> {
        let reply = self.get(&format!("/v1/actions/runs/{id}")).await?;
        Ok(reply.expect(200)?.json()?["run"].take())
    }

    /// A run when it has ended.
    async fn ended(&self, id: &str) -> Result<Value> {
        let path = format!("/v1/actions/runs/{id}");
        let waits = [("prefer", "wait=80")];
        let reply = self.call_with(Method::GET, &path, None, &waits).await?;
        reply.expect(200)?;
        ensure!(reply.header("preference-applied") == "wait=80", "{reply:?}");
        Ok(reply.json()?["run"].take())
    }

    /// Waits until the sidecar knows all there is.
    pub(crate) async fn ready(&self) -> Result<()> {
        wait::until("the state is known", PATIENCE, async || {
            self.get("/v1/actions/runs").await?.expect(200).map(drop)
        })
        .await
    }
}

/// The text at a JSON pointer.
fn text(value: &Value, pointer: &str) -> Result<String> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    Ok(found
        .with_context(|| format!("no text at {pointer}: {value}"))?
        .to_owned())
}

/// A list at a JSON pointer.
fn list(value: &Value, pointer: &str) -> Result<Vec<Value>> {
    let found = value.pointer(pointer).and_then(Value::as_array);
    found
        .cloned()
        .with_context(|| format!("no list at {pointer}: {value}"))
}

/// An entry of `access` for a token.
fn may(token: &str, name: &str, grants: &[&str]) -> Value {
    json!({"tokens": [token], "name": name, "email": format!("{name}@acme.example"), "may": grants})
}

/// Settings of a sidecar with these organisations, what they have in a topic of the scenario's own.
fn settings(s: &Scenario, kafka: &Kafka, orgs: Value) -> Value {
    json!({
        "clusters": {"main": {"bootstrap_servers": kafka.bootstrap(), "allowed_topics": []}},
        "actions": {"topic": s.topic("state"), "replication_factor": 1},
        "orgs": orgs,
    })
}

/// Sidecar and Envoy with the shipped route.
async fn rig(s: &Scenario, settings: Value) -> Result<Rig> {
    let mut parts = Parts::new("", vec![actions()?]);
    parts.sidecar = settings;
    Rig::start(s, parts).await
}

/// The records of a topic whose key is this, in order, as JSON.
pub(crate) async fn of_key(kafka: &Kafka, topic: &str, key: &str) -> Result<Vec<Value>> {
    let records = kafka.records(topic).await?;
    let own = records
        .iter()
        .filter(|record| record.key.as_deref() == Some(key.as_bytes()));
    own.map(Record::json).collect()
}

/// Something of Python's that ends with this, and what it prints.
async fn python(program: PathBuf, script: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .arg(parts::root().join(script))
        .args(arguments)
        .kill_on_drop(true)
        .output()
        .await
        .context("start Python")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{script}: {said}");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
