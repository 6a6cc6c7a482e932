//! `sluice subscriptions`, `sluice kafka-clusters`, `sluice deployments` and `sluice services`: the admin API of a running
//! sidecar.

mod clusters;
mod deployments;
mod subscriptions;

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use form_urlencoded::byte_serialize;
use hyper::Method;
use serde_json::{Map, Value};

pub(super) use self::clusters::{KafkaClusters, kafka_clusters};
pub(super) use self::deployments::{Deployments, Services, deployments, services};
pub(super) use self::subscriptions::{Subscriptions, subscriptions};
use super::{Environment, Failure, admin, block_on, target};
use crate::config::{Address, Listener, Secret};

/// The variable with the admin listener's token, for `--admin`.
const TOKEN: &str = "SLUICE_ADMIN_TOKEN";
const DEFAULT_CONFIG: &str = "sluice.yaml";

/// Which sidecar is asked.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Whom {
    /// The sidecar's configuration, which says where its admin listener is [default: sluice.yaml, if it is there]
    #[arg(short, long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The admin listener [default: that of the configuration, or 127.0.0.1:9070]; its token is taken from SLUICE_ADMIN_TOKEN
    #[arg(long, value_name = "ADDRESS", conflicts_with = "config", global = true)]
    admin: Option<SocketAddr>,
}

impl Whom {
    fn listener(&self, environment: Environment) -> Result<Listener, Failure> {
        let file = self.config.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG));
        if self.admin.is_none() && (self.config.is_some() || file.exists()) {
            return Ok(target::load(file, environment)?.config.listeners.admin);
        }
        let token = environment.get(TOKEN).map(|token| Secret::new(token.as_str()));
        let address = self.admin.unwrap_or_else(|| ([127, 0, 0, 1], 9070).into());
        Ok(Listener {
            address: Address::Tcp(address),
            tokens: token.into_iter().collect(),
            max_connections: 1,
            xff_num_trusted_hops: 0,
        })
    }
}

/// Which version of a thing is meant.
#[derive(Debug, Args)]
struct IfMatch {
    /// Only if it has this `version` still; otherwise nothing is changed
    #[arg(long, value_name = "VERSION")]
    if_match: Option<u64>,
}

/// `NAME=VALUE`, whose value is JSON if it can be read as it.
fn pair(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((name.to_owned(), value))
}

fn text_pair(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.into()))
}

/// A part of a path.
fn part(text: &str) -> String {
    // Of a path, unlike a form, `+` is itself.
    byte_serialize(text.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}

/// What is asked of the sidecar.
struct Call {
    method: Method,
    path: String,
    body: Option<Value>,
    if_match: Option<u64>,
}

impl Call {
    fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            body: None,
            if_match: None,
        }
    }

    fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    fn patch(path: impl Into<String>, of: &IfMatch) -> Self {
        Self {
            if_match: of.if_match,
            ..Self::new(Method::PATCH, path)
        }
    }

    fn delete(path: impl Into<String>, of: &IfMatch) -> Self {
        Self {
            if_match: of.if_match,
            ..Self::new(Method::DELETE, path)
        }
    }

    fn with(self, body: Value) -> Self {
        Self {
            body: Some(body),
            ..self
        }
    }
}

/// What is printed of a list: its name in the answer, and of each item these.
type List = (&'static str, &'static [&'static str]);

/// Asks, and prints what is answered: a line for each of `list`, or all of it.
fn run(whom: &Whom, call: &Call, list: Option<List>, environment: Environment) -> Result<(), Failure> {
    let listener = whom.listener(environment)?;
    let Call {
        method,
        path,
        body,
        if_match,
    } = call;
    let asked = admin::ask(&listener, (method.clone(), path), body.as_ref(), *if_match);
    let answer = block_on(asked)??;
    let mut out = std::io::stdout().lock();
    let Some((name, fields)) = list else {
        let text =
            serde_json::to_string_pretty(&answer).map_err(|error| Failure::Other(error.to_string()))?;
        writeln!(out, "{text}")?;
        return Ok(());
    };
    for item in answer.get(name).and_then(Value::as_array).into_iter().flatten() {
        let cells: Vec<String> = fields.iter().map(|field| cell(item, field)).collect();
        writeln!(out, "{}", cells.join(" "))?;
    }
    let mut missing: Vec<String> = Vec::new();
    if let Some(error) = answer.get("error").and_then(Value::as_str) {
        missing.push(format!("what the API made is not known: {error}"));
    }
    for error in answer
        .get("errors")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let (cluster, why) = (cell(error, "/cluster"), cell(error, "/error"));
        missing.push(format!("what is held on cluster {cluster} is not known: {why}"));
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::Several(missing))
}

fn cell(item: &Value, field: &str) -> String {
    match item.pointer(field) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| cell(item, "/name"))
            .collect::<Vec<_>>()
            .join(","),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    }
}

fn options(pairs: Vec<(String, Value)>) -> Value {
    Value::Object(pairs.into_iter().collect::<Map<_, _>>())
}
