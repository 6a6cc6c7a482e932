//! A real Envoy.

mod config;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

pub use config::{Config, actions, by_call, forward, produce, reads, sockets};

use crate::client::{Client, full};
use crate::process::{Launch, Process};
use crate::{parts, ports, wait};

/// A running Envoy. Dropping it kills it.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    how: How,
    dir: PathBuf,
    port: u16,
    admin: u16,
}

/// How an Envoy was started, to start its successor.
#[derive(Debug, Clone)]
struct How {
    path: PathBuf,
    concurrency: usize,
    cpus: Vec<usize>,
    /// How many were started before it, where it can be restarted hot.
    epoch: Option<u32>,
}

impl Envoy {
    /// Starts Envoy as `config` says and waits until it serves.
    ///
    /// # Errors
    /// When a part is missing or Envoy does not come up; the end of its log is in the error.
    pub async fn start(dir: &Path, config: &Config) -> Result<Self> {
        let (port, admin) = (ports::pick()?, ports::pick()?);
        write_listener(dir, config, port)?;
        let bootstrap = config.bootstrap(admin, &dir.join("listeners.json"))?;
        let path = dir.join("envoy.json");
        std::fs::write(&path, serde_json::to_string_pretty(&bootstrap)?)?;
        let how = How {
            path,
            concurrency: config.concurrency,
            cpus: config.cpus.clone(),
            epoch: config.hot_restart.then_some(0),
        };
        Self::launch(dir, how, (port, admin)).await
    }

    /// Starts Envoy with a configuration file of the caller's, which listens on these two ports.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_file(dir: &Path, path: &Path, port: u16, admin: u16) -> Result<Self> {
        let how = How {
            path: path.to_owned(),
            concurrency: 1,
            cpus: Vec::new(),
            epoch: None,
        };
        Self::launch(dir, how, (port, admin)).await
    }

    async fn launch(dir: &Path, how: How, (port, admin): (u16, u16)) -> Result<Self> {
        let mut envoy = Self {
            process: Self::process(dir, &how)?,
            how,
            dir: dir.to_owned(),
            port,
            admin,
        };
        match envoy.serving().await {
            Ok(()) => Ok(envoy),
            Err(error) => Err(error.context(envoy.process.log_tail(40))),
        }
    }

    fn process(dir: &Path, how: &How) -> Result<Process> {
        let mut command = Command::new(parts::envoy()?);
        command
            .current_dir(parts::root())
            .arg("-c")
            .arg(&how.path)
            .args(["--log-level", "warn", "--drain-strategy", "immediate"])
            .arg("--concurrency")
            .arg(how.concurrency.to_string());
        let base = dir.join("envoy.base-id");
        match how.epoch {
            None => command.args(["--disable-hot-restart", "--drain-time-s", "10"]),
            Some(epoch) => {
                command.args(["--drain-time-s", "4", "--parent-shutdown-time-s", "6"]);
                if epoch == 0 {
                    command
                        .arg("--use-dynamic-base-id")
                        .arg("--base-id-path")
                        .arg(&base)
                } else {
                    let id = std::fs::read_to_string(&base).context("Envoy's base id")?;
                    let epoch = epoch.to_string();
                    command.args(["--base-id", id.trim(), "--restart-epoch", &epoch])
                }
            }
        };
        let launch = Launch {
            command,
            log: dir.join("envoy.log"),
            cpus: how.cpus.clone(),
        };
        Process::start("envoy", launch)
    }

    /// Has a new process take over, and waits until the old one has drained and ended. It must have been started
    /// with [`Config::hot_restart`].
    ///
    /// # Errors
    /// When the new one does not come up or the old one does not end.
    pub async fn hot_restart(&mut self) -> Result<()> {
        let epoch = self.how.epoch.context("it cannot be restarted hot")? + 1;
        self.how.epoch = Some(epoch);
        let new = Self::process(&self.dir, &self.how)?;
        let mut old = std::mem::replace(&mut self.process, new);
        old.ended(Duration::from_secs(30)).await?;
        self.serving().await
    }

    /// Has it close its listeners as an orderly end begins: first every answer says that its connection is closed,
    /// then, after the drain time, nobody is listened to. Waits for that.
    ///
    /// # Errors
    /// When it does not do so in time.
    pub async fn drain(&self) -> Result<()> {
        let admin = Client::h1(self.admin);
        let drain = admin.request(hyper::Method::POST, "/drain_listeners?graceful");
        admin.send(drain.body(full(""))?).await?.expect(200)?;
        wait::until("nobody listens any more", Duration::from_secs(30), async || {
            let connected = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await;
            ensure!(connected.is_err(), "somebody does");
            Ok(())
        })
        .await
    }

    async fn serving(&mut self) -> Result<()> {
        let admin = self.admin;
        let process = &mut self.process;
        wait::until("Envoy is ready", Duration::from_secs(60), async || {
            if let Err(ended) = process.running() {
                return Ok(Err(ended));
            }
            let client = Client::h1(admin).within(Duration::from_secs(2));
            client.get("/ready").await?.expect(200)?;
            // Ready says nothing of a listener whose configuration was refused.
            let listeners = client.get("/listeners").await?.text();
            if listeners.is_empty() {
                let stats = client.get("/stats?filter=lds.update_rejected").await?.text();
                let refused = stats.split(": ").nth(1).is_some_and(|count| count.trim() != "0");
                ensure!(refused, "no listener");
                return Ok(Err(anyhow::anyhow!("Envoy rejects the listener")));
            }
            Ok(Ok(()))
        })
        .await?
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// An HTTP/1.1 client of it.
    pub fn h1(&self) -> Client {
        Client::h1(self.port)
    }

    /// An HTTP/2 client of it.
    pub fn h2(&self) -> Client {
        Client::h2(self.port)
    }

    /// Replaces the listener, the filter's configuration with it, and waits until Envoy has taken it.
    ///
    /// # Errors
    /// When Envoy rejects it; the error says why.
    pub async fn replace(&self, config: &Config) -> Result<()> {
        let before = (
            self.stat("listener_manager.lds.update_success").await?,
            self.rejections().await?,
        );
        write_listener(&self.dir, config, self.port)?;
        wait::until(
            "Envoy takes the new listener",
            Duration::from_secs(30),
            async || {
                if self.rejections().await? > before.1 {
                    return Ok(Err(anyhow::anyhow!("rejected:\n{}", self.process.log_tail(20))));
                }
                ensure!(
                    self.stat("listener_manager.lds.update_success").await? > before.0,
                    "nothing happened"
                );
                Ok(Ok(()))
            },
        )
        .await?
    }

    async fn rejections(&self) -> Result<u64> {
        self.stat("listener_manager.lds.update_rejected").await
    }

    /// The value of a counter or gauge; 0 if there is none of that name.
    ///
    /// # Errors
    /// When the admin interface does not answer.
    pub async fn stat(&self, name: &str) -> Result<u64> {
        let line = self
            .stats(name)
            .await?
            .into_iter()
            .find(|(found, _)| found == name);
        Ok(line.map_or(Ok(0), |(_, value)| value.parse())?)
    }

    /// The stats whose names contain `part`, histograms as Envoy summarises them.
    ///
    /// # Errors
    /// When the admin interface does not answer.
    pub async fn stats(&self, part: &str) -> Result<Vec<(String, String)>> {
        let reply = Client::h1(self.admin).get("/stats").await?;
        let text = reply.expect(200)?.text();
        let lines = text.lines().filter_map(|line| line.split_once(": "));
        Ok(lines
            .filter(|(name, _)| name.contains(part))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect())
    }

    /// Everything that it has logged.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        self.process.log()
    }

    /// Fails if Envoy has ended, or if its log says that the filter's VM failed.
    ///
    /// # Errors
    /// With the lines that say so.
    pub fn healthy(&mut self) -> Result<()> {
        self.process.running()?;
        let log = self.process.log()?;
        let bad: Vec<_> = log
            .lines()
            .filter(|line| {
                ["panicked", "Uncaught", "[critical]"]
                    .iter()
                    .any(|word| line.contains(word))
            })
            .take(10)
            .collect();
        if !bad.is_empty() {
            bail!("the filter failed:\n{}", bad.join("\n"));
        }
        Ok(())
    }

    /// Stops it with SIGTERM.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        self.process.terminate(Duration::from_secs(20)).await
    }

    /// What `envoy --mode validate` says of a configuration file.
    ///
    /// # Errors
    /// When Envoy rejects it; the error is what it printed.
    pub fn validate(path: &Path) -> Result<()> {
        let output = Command::new(parts::envoy()?)
            .current_dir(parts::root())
            .args(["--mode", "validate", "-c"])
            .arg(path)
            .output()
            .context("start envoy")?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}

/// Envoy watches for the file being moved into place.
fn write_listener(dir: &Path, config: &Config, port: u16) -> Result<()> {
    let (path, new) = (dir.join("listeners.json"), dir.join("listeners.json.new"));
    std::fs::write(&new, serde_json::to_string_pretty(&config.listeners(port)?)?)?;
    std::fs::rename(&new, &path).with_context(|| format!("move {} into place", new.display()))
}
