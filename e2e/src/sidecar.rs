//! A real sidecar: the `sluice` command.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::client::Client;
use crate::process::{self, Launch, Process};
use crate::{parts, ports, wait};

/// A running sidecar. Dropping it kills it.
#[derive(Debug)]
pub struct Sidecar {
    binary: PathBuf,
    config: PathBuf,
    log: PathBuf,
    stream: PathBuf,
    data: u16,
    admin: u16,
    cpus: Vec<usize>,
    process: Option<Process>,
}

impl Sidecar {
    /// Starts `sluice serve` with these settings, its listeners (those that the settings do not have) in `dir`
    /// and on ports of its own, and waits until it is ready.
    ///
    /// # Errors
    /// When the binary is missing or it does not come up; the end of its log is in the error.
    pub async fn start(dir: &Path, settings: &Value) -> Result<Self> {
        Self::start_with(dir, settings, parts::sidecar()?, &[]).await
    }

    /// The same for a certain binary, on certain CPUs (empty: all).
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(dir: &Path, settings: &Value, binary: PathBuf, cpus: &[usize]) -> Result<Self> {
        let mut sidecar = Self::prepare(dir, settings, binary, cpus)?;
        sidecar.restart().await?;
        Ok(sidecar)
    }

    /// The same without starting it: [`Self::restart`] does.
    ///
    /// # Errors
    /// When its directory cannot be written.
    pub fn prepare(dir: &Path, settings: &Value, binary: PathBuf, cpus: &[usize]) -> Result<Self> {
        let (data, admin) = (ports::pick()?, ports::pick()?);
        // Relative, since a socket's path may have 107 bytes only.
        let stream = dir.strip_prefix(parts::root()).unwrap_or(dir).join("stream.sock");
        let mut tree = settings.clone();
        let mut listeners = json!({
            "stream": {"path": stream},
            "data": {"address": format!("127.0.0.1:{data}")},
            "admin": {"address": format!("127.0.0.1:{admin}")},
        });
        let root = tree.as_object_mut().context("the settings are no mapping")?;
        let own = root.get("listeners").and_then(Value::as_object);
        if let (Some(all), Some(own)) = (listeners.as_object_mut(), own) {
            all.extend(own.clone());
        }
        root.insert("listeners".to_owned(), listeners);
        let config = dir.join("sluice.yaml");
        std::fs::write(&config, serde_json::to_string_pretty(&tree)?)?;
        let log = dir.join("sidecar.log");
        Ok(Self {
            binary,
            config,
            log,
            stream,
            data,
            admin,
            cpus: cpus.to_vec(),
            process: None,
        })
    }

    /// Its stream socket, relative to the workspace's root.
    pub fn stream(&self) -> &Path {
        &self.stream
    }

    /// The port of its REST face.
    pub fn data(&self) -> u16 {
        self.data
    }

    /// A client of its REST face.
    pub fn rest(&self) -> Client {
        Client::h1(self.data)
    }

    /// A client of its admin listener.
    pub fn admin(&self) -> Client {
        Client::h1(self.admin)
    }

    /// Where its admin listener is: `host:port`.
    pub fn admin_address(&self) -> String {
        format!("127.0.0.1:{}", self.admin)
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Starts it, or starts it again, and waits until it is ready.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn restart(&mut self) -> Result<()> {
        let mut command = Command::new(&self.binary);
        command
            .current_dir(parts::root())
            .arg("serve")
            .arg("--config")
            .arg(&self.config);
        let launch = Launch {
            command,
            log: self.log.clone(),
            cpus: self.cpus.clone(),
        };
        let process = self.process.insert(Process::start("sluice", launch)?);
        let admin = Client::h1(self.admin).within(Duration::from_secs(2));
        let ready = wait::until("the sidecar is ready", Duration::from_secs(30), async || {
            if let Err(ended) = process.running() {
                return Ok(Err(ended));
            }
            admin.get("/readyz").await?.expect(200)?;
            Ok(Ok(()))
        });
        match ready.await {
            Ok(outcome) => outcome,
            Err(error) => Err(error.context(process.log_tail(40))),
        }
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("it does not run")?.kill()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.process.as_mut().context("it does not run")?.signal(signal)
    }

    /// Has every write past `bytes` into a file of its fail, as on a disk that is full; none: no more.
    ///
    /// # Errors
    /// When it does not run, or `prlimit` (util-linux) fails.
    pub fn fill_disk(&self, bytes: Option<u64>) -> Result<()> {
        process::limit_files(self.pid().context("it does not run")?, bytes)
    }

    /// Waits for its end after a signal.
    ///
    /// # Errors
    /// When it does not end within `limit`.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.process
            .as_mut()
            .context("it does not run")?
            .ended(limit)
            .await
    }

    /// SIGTERM, and its end within `limit`.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.process
            .as_mut()
            .context("it does not run")?
            .terminate(limit)
            .await
    }

    /// Everything that it has logged.
    ///
    /// # Errors
    /// When there is no log.
    pub fn log(&self) -> Result<String> {
        std::fs::read_to_string(&self.log).with_context(|| format!("read {}", self.log.display()))
    }

    /// The sum of a metric's samples whose line contains `labels`, from `/metrics`.
    ///
    /// # Errors
    /// When the admin listener does not answer.
    pub async fn metric(&self, name: &str, labels: &str) -> Result<f64> {
        let text = self.admin().get("/metrics").await?.expect(200)?.text();
        let samples = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(labels)
        });
        let values = samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        Ok(values.sum())
    }
}
