//! Who takes records from Kafka and hands them over: Sluice, or a Restate server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_e2e::client::Client;
use sluice_e2e::process::{Launch, Process};
use sluice_e2e::sidecar::Sidecar;
use sluice_e2e::{Context, Result, ensure, parts, ports, wait};

use super::handler::SERVICES;
use crate::alone;
use crate::rig::subdirectory;

/// How long a caller may take until it has its partitions, or a server until it answers.
const START: Duration = Duration::from_secs(180);
/// The longest pause between two attempts, of both.
const LONGEST_PAUSE: &str = "5s";

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Sluice,
    Restate,
}

impl Kind {
    /// As topics, subscriptions and directories have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sluice => "sluice",
            Self::Restate => "restate",
        }
    }

    /// As the tables have it.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Sluice => "Sluice",
            Self::Restate => "Restate",
        }
    }
}

/// What a caller is to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) topic: &'a str,
    /// Whether records of a key come one after the other.
    pub(super) keyed: bool,
    /// How many may be with the handler at once.
    pub(super) in_flight: u32,
}

/// Where a caller finds everything else.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) dir: &'a Path,
    pub(super) sidecar: PathBuf,
    pub(super) cpus: Vec<usize>,
    pub(super) bootstrap: String,
    /// The handler's port.
    pub(super) handler: u16,
}

/// One that runs. Dropping it kills it.
pub(super) enum Caller {
    Sluice(Box<Sidecar>),
    Restate(Process),
}

impl Caller {
    /// Its process.
    ///
    /// # Errors
    /// It has ended.
    pub(super) fn pid(&self) -> Result<u32> {
        match self {
            Self::Sluice(sidecar) => alone::pid(sidecar),
            Self::Restate(process) => Ok(process.pid()),
        }
    }

    /// Whether it runs still.
    ///
    /// # Errors
    /// It does not; the end of its log is in the error.
    pub(super) fn running(&mut self) -> Result<()> {
        match self {
            Self::Sluice(sidecar) => alone::pid(sidecar).map(drop),
            Self::Restate(process) => process.running(),
        }
    }

    /// Starts one with an empty directory `name`, which reads the topic from its beginning.
    ///
    /// # Errors
    /// It does not come up.
    pub(super) async fn start(kind: Kind, name: &str, place: &Place<'_>, job: Job<'_>) -> Result<Self> {
        let dir = subdirectory(place.dir, name)?;
        match kind {
            Kind::Sluice => sluice(&dir, name, place, job).await,
            Kind::Restate => restate(&dir, name, place, job).await,
        }
    }
}

async fn sluice(dir: &Path, name: &str, place: &Place<'_>, job: Job<'_>) -> Result<Caller> {
    let settings = json!({
        "clusters": {"bench": {"bootstrap_servers": [place.bootstrap]}},
        "held": {"replication_factor": 1},
        "subscriptions": {name: {
            "source": format!("kafka://bench/{}", job.topic),
            "sink": format!("http://127.0.0.1:{}/", place.handler),
            "options": {
                "ordering": if job.keyed { "key" } else { "none" },
                "concurrency": job.in_flight,
                "retry": {"max_interval": LONGEST_PAUSE},
                // Each partition has its share, which must be enough for all that are to be in flight.
                "max_buffered_records": job.in_flight.max(10_000) * 4,
                "max_buffered_bytes": 256 << 20,
                // Nothing is to be given up while it is held on purpose.
                "read_timeout": "5m",
                "auto.offset.reset": "earliest",
            },
        }},
    });
    let sidecar = Sidecar::start_with(dir, &settings, place.sidecar.clone(), &place.cpus).await?;
    wait::until("the subscription has its partitions", START, async || {
        let partitions = sidecar.metric("sluice_subscription_partitions", "").await?;
        ensure!(partitions > 0.0, "it has none");
        Ok(())
    })
    .await?;
    Ok(Caller::Sluice(Box::new(sidecar)))
}

/// The server's own binary (not the wrapper from npm, which would be another process).
///
/// # Errors
/// It is missing.
pub(super) fn restate_server() -> Result<PathBuf> {
    let modules = parts::root().join("target/restate/node_modules/@restatedev");
    let packages = std::fs::read_dir(&modules)
        .with_context(|| format!("read {}: run `make restate`", modules.display()))?;
    for package in packages {
        let binary = package?.path().join("bin/restate-server");
        if binary.exists() {
            return Ok(binary);
        }
    }
    sluice_e2e::bail!("{} has no server: run `make restate`", modules.display())
}

/// Default settings, but for what must be equal and what must be its own.
fn config(dir: &Path, bootstrap: &str, in_flight: u32, admin: u16) -> Result<String> {
    let (ingress, node) = (ports::pick()?, ports::pick()?);
    Ok(format!(
        "node-name = \"bench\"\n\
         cluster-name = \"bench\"\n\
         base-dir = {dir:?}\n\
         listen-mode = \"tcp\"\n\
         bind-address = \"127.0.0.1:{node}\"\n\
         advertised-address = \"http://127.0.0.1:{node}\"\n\
         disable-telemetry = true\n\
         log-format = \"compact\"\n\
         log-disable-ansi-codes = true\n\
         [default-retry-policy]\n\
         max-interval = \"{LONGEST_PAUSE}\"\n\
         [worker.invoker]\n\
         concurrent-invocations-limit = {in_flight}\n\
         [admin]\n\
         bind-address = \"127.0.0.1:{admin}\"\n\
         [ingress]\n\
         bind-address = \"127.0.0.1:{ingress}\"\n\
         [[ingress.kafka-clusters]]\n\
         name = \"bench\"\n\
         brokers = [\"PLAINTEXT://{bootstrap}\"]\n"
    ))
}

async fn restate(dir: &Path, name: &str, place: &Place<'_>, job: Job<'_>) -> Result<Caller> {
    let admin = ports::pick()?;
    let file = dir.join("restate.toml");
    std::fs::write(&file, config(dir, &place.bootstrap, job.in_flight, admin)?)?;
    let mut command = Command::new(restate_server()?);
    command
        .current_dir(dir)
        .args(["--no-logo", "--config-file"])
        .arg(&file);
    let launch = Launch {
        command,
        log: dir.join("restate.log"),
        cpus: place.cpus.clone(),
    };
    let mut process = Process::start("restate-server", launch)?;
    let client = Client::h1(admin);
    let uri = format!("http://127.0.0.1:{}", place.handler);
    let set_up = wait::until("Restate takes the deployment", START, async || {
        if let Err(ended) = process.running() {
            return Ok(Err(ended));
        }
        let body = json!({"uri": uri, "force": true});
        post(&client, "/deployments", &body).await?;
        Ok(Ok(()))
    });
    if let Err(error) = set_up.await.and_then(|outcome| outcome) {
        return Err(error.context(process.log_tail(40)));
    }
    let [plain, keyed] = SERVICES;
    let subscription = json!({
        "source": format!("kafka://bench/{}", job.topic),
        "sink": format!("service://{}/take", if job.keyed { keyed } else { plain }),
        "options": {"auto.offset.reset": "earliest", "group.id": name},
    });
    post(&client, "/subscriptions", &subscription).await?;
    Ok(Caller::Restate(process))
}

async fn post(client: &Client, path: &str, body: &Value) -> Result<()> {
    let reply = client.post(path, "application/json", body.to_string()).await?;
    ensure!(
        (200..300).contains(&reply.status),
        "POST {path}: {} {}",
        reply.status,
        reply.text()
    );
    Ok(())
}
