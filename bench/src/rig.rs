//! All processes of a measurement, started and pinned.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_e2e::kafka::{Kafka, Setup};
use sluice_e2e::process::{Launch, Process};
use sluice_e2e::sidecar::Sidecar;
use sluice_e2e::{Context, Result, ensure, parts, ports, wait};

use crate::envoy::{self, TOPIC, Wiring};
use crate::rows::Row;

/// How many partitions the topic has.
const PARTITIONS: i32 = 4;

/// The programs that are measured.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) envoy: PathBuf,
    pub(crate) sidecar: PathBuf,
    pub(crate) filter: PathBuf,
    pub(crate) bench: PathBuf,
}

/// The broker of a measurement.
#[derive(Debug)]
pub(crate) enum Broker {
    /// The sidecar's embedded broker, alone in a process.
    Dev(Box<Sidecar>, SocketAddr),
    /// Apache Kafka.
    Kafka(Box<Kafka>),
}

impl Broker {
    /// Starts the embedded broker.
    ///
    /// # Errors
    /// It does not come up.
    pub(crate) async fn dev(programs: &Programs, dir: &Path, cpus: &[usize]) -> Result<Self> {
        let address = local()?;
        let settings = json!({
            "clusters": {"dev": {"bootstrap_servers": [address.to_string()], "allowed_topics": [TOPIC]}},
            "dev_broker": {
                "address": address.to_string(),
                "topics": [{"name": TOPIC, "partitions": PARTITIONS}],
            },
        });
        let dir = subdirectory(dir, "broker")?;
        let sidecar = Sidecar::start_with(&dir, &settings, programs.sidecar.clone(), cpus).await?;
        Ok(Self::Dev(Box::new(sidecar), address))
    }

    /// Starts Apache Kafka.
    ///
    /// # Errors
    /// It does not come up.
    pub(crate) async fn kafka(dir: &Path, cpus: &[usize]) -> Result<Self> {
        Self::kafka_with(dir, cpus, TOPIC, PARTITIONS).await
    }

    /// Starts Apache Kafka with a topic of so many partitions.
    ///
    /// # Errors
    /// It does not come up.
    pub(crate) async fn kafka_with(dir: &Path, cpus: &[usize], topic: &str, partitions: i32) -> Result<Self> {
        let setup = Setup {
            cpus: cpus.to_vec(),
            jvm: Vec::new(),
            ..Setup::default()
        };
        let kafka = Kafka::start(dir, &setup).await?;
        kafka.create_topic(topic, partitions).await?;
        Ok(Self::Kafka(Box::new(kafka)))
    }

    /// `host:port` of its listener.
    pub(crate) fn bootstrap(&self) -> String {
        match self {
            Self::Dev(_, address) => address.to_string(),
            Self::Kafka(kafka) => kafka.bootstrap(),
        }
    }

    /// Its process id.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn pid(&mut self) -> Result<u32> {
        let pid = match self {
            Self::Dev(sidecar, _) => sidecar.pid(),
            Self::Kafka(kafka) => kafka.node(1)?.pid(),
        };
        pid.context("the broker has ended")
    }

    /// Stops its execution: connections stay open, and nothing answers.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn pause(&mut self) -> Result<()> {
        match self {
            Self::Dev(sidecar, _) => sidecar.signal(nix::sys::signal::Signal::SIGSTOP),
            Self::Kafka(kafka) => kafka.node(1)?.pause(),
        }
    }
}

/// Starts a sidecar that writes to `bootstrap`, with default settings, besides `producer`, which is its default
/// profile's.
///
/// # Errors
/// It does not come up.
pub(crate) async fn sidecar(
    programs: &Programs,
    dir: &Path,
    bootstrap: &str,
    producer: &Value,
    cpus: &[usize],
) -> Result<Sidecar> {
    let settings = json!({
        "clusters": {"bench": {"bootstrap_servers": [bootstrap], "allowed_topics": [TOPIC]}},
        "producers": {"default": producer},
    });
    Sidecar::start_with(dir, &settings, programs.sidecar.clone(), cpus).await
}

/// A new directory `name` in `dir`.
///
/// # Errors
/// It cannot be made.
pub(crate) fn subdirectory(dir: &Path, name: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    std::fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
    Ok(path)
}

/// Everything that a table needs.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) envoy: Process,
    pub(crate) sidecar: Sidecar,
    pub(crate) service: Process,
    pub(crate) broker: Broker,
    /// Where Envoy listens for each row.
    pub(crate) listeners: BTreeMap<Row, SocketAddr>,
}

impl Rig {
    /// Starts everything in front of `broker`: Envoy on `envoy_core`, all else on `other_core`.
    ///
    /// # Errors
    /// Something does not come up.
    pub(crate) async fn start(
        programs: &Programs,
        dir: &Path,
        broker: Broker,
        rows: &[Row],
        (envoy_core, other_core): (usize, usize),
    ) -> Result<Self> {
        let bootstrap = broker.bootstrap();
        let others = [other_core];
        let own = subdirectory(dir, "sidecar")?;
        let sidecar = sidecar(programs, &own, &bootstrap, &json!({}), &others).await?;
        let (service, service_address) = small_service(programs, dir, &bootstrap, &others)?;
        listens("the small service", service_address).await?;
        let mut listeners = BTreeMap::new();
        for row in rows.iter().filter(|row| row.through_envoy()) {
            listeners.insert(*row, local()?);
        }
        let config = envoy::bootstrap(&Wiring {
            listeners: &listeners,
            filter: &programs.filter,
            stream: sidecar.stream(),
            data: (Ipv4Addr::LOCALHOST, sidecar.data()).into(),
            service: service_address,
        })?;
        let file = dir.join("envoy.json");
        std::fs::write(&file, config.to_string())?;
        let mut command = Command::new(&programs.envoy);
        command
            .current_dir(parts::root())
            .arg("--config-path")
            .arg(file)
            .args([
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "--log-level",
                "warn",
            ]);
        let launch = Launch {
            command,
            log: dir.join("envoy.log"),
            cpus: vec![envoy_core],
        };
        let mut envoy = Process::start("envoy", launch)?;
        for (row, address) in &listeners {
            if let Err(error) = listens(row.title(), *address).await {
                envoy.running()?;
                return Err(error.context(envoy.log_tail(20)));
            }
        }
        Ok(Self {
            envoy,
            sidecar,
            service,
            broker,
            listeners,
        })
    }
}

fn small_service(
    programs: &Programs,
    dir: &Path,
    bootstrap: &str,
    cpus: &[usize],
) -> Result<(Process, SocketAddr)> {
    let address = local()?;
    let mut command = Command::new(&programs.bench);
    command.args([
        "service",
        "--listen",
        &address.to_string(),
        "--brokers",
        bootstrap,
    ]);
    let launch = Launch {
        command,
        log: dir.join("service.log"),
        cpus: cpus.to_vec(),
    };
    Ok((Process::start("service", launch)?, address))
}

/// A free address on loopback.
///
/// # Errors
/// There is none.
pub(crate) fn local() -> Result<SocketAddr> {
    Ok((Ipv4Addr::LOCALHOST, ports::pick()?).into())
}

/// Waits until something listens at `address`.
///
/// # Errors
/// Nothing does within a minute.
pub(crate) async fn listens(what: &str, address: SocketAddr) -> Result<()> {
    let connecting = async || Ok(tokio::net::TcpStream::connect(address).await?);
    wait::until(
        &format!("{what} listens at {address}"),
        Duration::from_secs(60),
        connecting,
    )
    .await?;
    Ok(())
}

/// Waits until a request of that row is answered with the status it must have.
///
/// # Errors
/// It is not within a minute; the last answer is in the error.
pub(crate) async fn answers(row: Row, address: SocketAddr, request: &[u8]) -> Result<()> {
    let asking = async || {
        let mut load = crate::load::Load::connect(address, request.to_vec(), 1)?;
        let outcome = load.run(Duration::ZERO)?;
        ensure!(
            outcome.statuses.keys().eq([&row.status()]),
            "answers {:?}",
            outcome.statuses
        );
        Ok(())
    };
    wait::until(row.title(), Duration::from_secs(60), asking).await
}
