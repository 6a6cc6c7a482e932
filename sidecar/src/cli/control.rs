//! `sluice subscriptions`, `sluice kafka-clusters`, `sluice deployments` and `sluice services`: the admin API of a running
//! sidecar.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use form_urlencoded::byte_serialize;
use hyper::Method;
use serde_json::{Map, Value, json};

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

/// `sluice subscriptions`
#[derive(Debug, Args)]
pub(super) struct Subscriptions {
    #[command(flatten)]
    whom: Whom,
    #[command(subcommand)]
    command: OfSubscriptions,
}

#[derive(Debug, Subcommand)]
enum OfSubscriptions {
    /// List all subscriptions, a line each
    #[command(visible_alias = "ls")]
    List,
    /// Print a subscription, and how it is in this sidecar
    Show {
        /// Its id
        id: String,
    },
    /// Make a subscription
    Create {
        /// kafka://<cluster>/<topic>
        source: String,
        /// http(s)://… or service://<service>/<handler>
        sink: String,
        /// An option: a property of librdkafka's, or one of Sluice's, whose value may be JSON
        #[arg(short, long = "option", value_name = "NAME=VALUE", value_parser = pair)]
        options: Vec<(String, Value)>,
    },
    /// Change a subscription, which goes on where it was
    Update {
        /// Its id
        id: String,
        /// Another source
        #[arg(long)]
        source: Option<String>,
        /// Another sink
        #[arg(long)]
        sink: Option<String>,
        /// An option, as in create; NAME=null takes it away
        #[arg(short, long = "option", value_name = "NAME=VALUE", value_parser = pair)]
        options: Vec<(String, Value)>,
    },
    /// Delete a subscription: what is under way is finished
    #[command(visible_alias = "rm")]
    Delete {
        /// Its id
        id: String,
    },
    /// Deliver nothing more, in every sidecar
    Pause {
        /// Its id
        id: String,
    },
    /// Deliver again
    Resume {
        /// Its id
        id: String,
    },
    /// Go on elsewhere: earliest, latest, offset:<n> or timestamp:<ms>
    Seek {
        /// Its id
        id: String,
        /// Where to
        #[arg(value_parser = to)]
        to: Value,
        /// Of this topic only
        #[arg(long)]
        topic: Option<String>,
        /// This partition only
        #[arg(long)]
        partition: Option<i32>,
    },
    /// Deliver a range of offsets again
    Replay {
        /// Its id
        id: String,
        /// The topic
        topic: String,
        /// The partition
        partition: i32,
        /// The first offset
        from: i64,
        /// The offset after the last
        to: i64,
    },
    /// Hand one record over, once, and print what came of it: the newest, or topic, partition and offset
    Test {
        /// Its id
        id: String,
        /// The topic
        #[arg(requires = "partition")]
        topic: Option<String>,
        /// The partition
        #[arg(requires = "offset")]
        partition: Option<i32>,
        /// The offset
        offset: Option<i64>,
    },
    /// List the events that are parked
    Parked {
        /// Its id
        id: String,
        /// How many at most
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Try parked events again
    Retry(Picked),
    /// Forget parked events
    Drop(Picked),
}

#[derive(Debug, Args)]
struct Picked {
    /// The subscription's id
    id: String,
    /// The events' ids
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    events: Vec<String>,
    /// Every one that there is
    #[arg(long)]
    all: bool,
}

impl Picked {
    fn call(self, what: &str) -> Call {
        let path = format!("/subscriptions/{}/parked/{what}", part(&self.id));
        let body = if self.all {
            json!({})
        } else {
            json!({"ids": self.events})
        };
        (Method::POST, path, Some(body))
    }
}

/// `sluice kafka-clusters`
#[derive(Debug, Args)]
pub(super) struct KafkaClusters {
    #[command(flatten)]
    whom: Whom,
    #[command(subcommand)]
    command: OfClusters,
}

#[derive(Debug, Subcommand)]
enum OfClusters {
    /// List all clusters, a line each
    #[command(visible_alias = "ls")]
    List,
    /// Print a cluster, without its secrets
    Show {
        /// Its name
        name: String,
    },
    /// Make a cluster
    Create {
        /// Its name
        name: String,
        /// A property of librdkafka's; bootstrap.servers is required
        #[arg(short = 'X', long = "property", value_name = "NAME=VALUE", value_parser = text_pair, required = true)]
        properties: Vec<(String, Value)>,
    },
    /// Give a cluster other properties, in the place of all that it has
    Update {
        /// Its name
        name: String,
        /// A property of librdkafka's
        #[arg(short = 'X', long = "property", value_name = "NAME=VALUE", value_parser = text_pair, required = true)]
        properties: Vec<(String, Value)>,
    },
    /// Delete a cluster
    #[command(visible_alias = "rm")]
    Delete {
        /// Its name
        name: String,
        /// Also if subscriptions read from it: they stop
        #[arg(long)]
        force: bool,
    },
}

/// `sluice deployments`
#[derive(Debug, Args)]
pub(super) struct Deployments {
    #[command(flatten)]
    whom: Whom,
    #[command(subcommand)]
    command: OfDeployments,
}

#[derive(Debug, Subcommand)]
enum OfDeployments {
    /// List all deployments, a line each
    #[command(visible_alias = "ls")]
    List,
    /// Print a deployment and its services
    Show {
        /// Its id
        id: String,
    },
    /// Register the services at a URI: those that GET <uri>/discover tells, or those of a manifest
    #[command(visible_alias = "create")]
    Register {
        /// Where they are
        uri: String,
        /// A file with their manifest, instead of asking
        #[arg(long, value_name = "FILE")]
        manifest: Option<PathBuf>,
        /// Also if other services were registered there
        #[arg(long)]
        force: bool,
        /// Also if subscriptions could not be delivered any more
        #[arg(long)]
        breaking: bool,
    },
    /// Delete a deployment
    #[command(visible_alias = "rm")]
    Delete {
        /// Its id
        id: String,
        /// Also if subscriptions could not be delivered any more
        #[arg(long)]
        force: bool,
    },
}

/// `sluice services`
#[derive(Debug, Args)]
pub(super) struct Services {
    #[command(flatten)]
    whom: Whom,
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

fn to(text: &str) -> Result<Value, String> {
    let number = |text: &str| text.parse::<i64>().map_err(|_| format!("{text:?} is no number"));
    match text.split_once(':') {
        None if text == "earliest" || text == "latest" => Ok(text.into()),
        Some(("offset", n)) => Ok(json!({"offset": number(n)?})),
        Some(("timestamp", ms)) => Ok(json!({"timestamp": number(ms)?})),
        _ => Err("must be earliest, latest, offset:<n> or timestamp:<milliseconds since 1970>".to_owned()),
    }
}

/// A part of a path.
fn part(text: &str) -> String {
    // Of a path, unlike a form, `+` is itself.
    byte_serialize(text.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}

type Call = (Method, String, Option<Value>);

/// Asks, and prints what is answered: a line for each of `list`, or all of it.
fn run(
    whom: &Whom,
    call: Call,
    list: Option<(&str, &[&str])>,
    environment: Environment,
) -> Result<(), Failure> {
    let listener = whom.listener(environment)?;
    let (method, path, body) = call;
    let answer = block_on(admin::ask(&listener, method, &path, body.as_ref()))??;
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
    if let Some(error) = answer.get("error").and_then(Value::as_str) {
        return Err(Failure::Other(format!("what the API made is not known: {error}")));
    }
    Ok(())
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

pub(super) fn subscriptions(arguments: Subscriptions, environment: Environment) -> Result<(), Failure> {
    use OfSubscriptions as Of;
    let one = |id: &str| format!("/subscriptions/{}", part(id));
    let post =
        |id: &str, what: &str, body: Option<Value>| (Method::POST, format!("{}/{what}", one(id)), body);
    let mut list: Option<(&str, &[&str])> = None;
    let call = match arguments.command {
        Of::List => {
            list = Some(("subscriptions", &["/id", "/state", "/source", "/sink"]));
            (Method::GET, "/subscriptions".to_owned(), None)
        }
        Of::Show { id } => (Method::GET, one(&id), None),
        Of::Create {
            source,
            sink,
            options: pairs,
        } => {
            let body = json!({"source": source, "sink": sink, "options": options(pairs)});
            (Method::POST, "/subscriptions".to_owned(), Some(body))
        }
        Of::Update {
            id,
            source,
            sink,
            options: pairs,
        } => {
            let mut body = Map::new();
            body.extend(source.map(|source| ("source".to_owned(), source.into())));
            body.extend(sink.map(|sink| ("sink".to_owned(), sink.into())));
            if !pairs.is_empty() {
                body.insert("options".to_owned(), options(pairs));
            }
            (Method::PATCH, one(&id), Some(body.into()))
        }
        Of::Delete { id } => (Method::DELETE, one(&id), None),
        Of::Pause { id } => post(&id, "pause", None),
        Of::Resume { id } => post(&id, "resume", None),
        Of::Seek {
            id,
            to,
            topic,
            partition,
        } => post(
            &id,
            "seek",
            Some(json!({"to": to, "topic": topic, "partition": partition})),
        ),
        Of::Replay {
            id,
            topic,
            partition,
            from,
            to,
        } => post(
            &id,
            "replay",
            Some(json!({"topic": topic, "partition": partition, "from": from, "to": to})),
        ),
        Of::Test {
            id,
            topic,
            partition,
            offset,
        } => post(
            &id,
            "test",
            Some(json!({"topic": topic, "partition": partition, "offset": offset})),
        ),
        Of::Parked { id, limit } => (Method::GET, format!("{}/parked?limit={limit}", one(&id)), None),
        Of::Retry(picked) => picked.call("retry"),
        Of::Drop(picked) => picked.call("drop"),
    };
    run(&arguments.whom, call, list, environment)
}

pub(super) fn kafka_clusters(arguments: KafkaClusters, environment: Environment) -> Result<(), Failure> {
    use OfClusters as Of;
    let one = |name: &str| format!("/kafka-clusters/{}", part(name));
    let mut list: Option<(&str, &[&str])> = None;
    let call = match arguments.command {
        Of::List => {
            list = Some(("clusters", &["/name", "/properties/bootstrap.servers"]));
            (Method::GET, "/kafka-clusters".to_owned(), None)
        }
        Of::Show { name } => (
            Method::GET,
            format!("{}?include_subscriptions=true", one(&name)),
            None,
        ),
        Of::Create { name, properties } => {
            let body = json!({"name": name, "properties": options(properties)});
            (Method::POST, "/kafka-clusters".to_owned(), Some(body))
        }
        Of::Update { name, properties } => (
            Method::PATCH,
            one(&name),
            Some(json!({"properties": options(properties)})),
        ),
        Of::Delete { name, force } => (Method::DELETE, format!("{}?force={force}", one(&name)), None),
    };
    run(&arguments.whom, call, list, environment)
}

pub(super) fn deployments(arguments: Deployments, environment: Environment) -> Result<(), Failure> {
    use OfDeployments as Of;
    let one = |id: &str| format!("/deployments/{}", part(id));
    let mut list: Option<(&str, &[&str])> = None;
    let call = match arguments.command {
        Of::List => {
            list = Some(("deployments", &["/id", "/uri", "/services"]));
            (Method::GET, "/deployments".to_owned(), None)
        }
        Of::Show { id } => (Method::GET, one(&id), None),
        Of::Register {
            uri,
            manifest,
            force,
            breaking,
        } => {
            let mut body = json!({"uri": uri, "force": force, "breaking": breaking});
            if let (Some(file), Some(body)) = (manifest, body.as_object_mut()) {
                body.insert("manifest".to_owned(), read(&file)?);
            }
            (Method::POST, "/deployments".to_owned(), Some(body))
        }
        Of::Delete { id, force } => (Method::DELETE, format!("{}?force={force}", one(&id)), None),
    };
    run(&arguments.whom, call, list, environment)
}

fn read(file: &Path) -> Result<Value, Failure> {
    let name = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::Other(format!("{name}: cannot be read: {error}")))?;
    serde_json::from_str(&text).map_err(|error| Failure::Other(format!("{name}: is no JSON: {error}")))
}

pub(super) fn services(arguments: &Services, environment: Environment) -> Result<(), Failure> {
    let list: (&str, &[&str]) = ("services", &["/name", "/ty", "/deployment_id", "/handlers"]);
    run(
        &arguments.whom,
        (Method::GET, "/services".to_owned(), None),
        Some(list),
        environment,
    )
}
