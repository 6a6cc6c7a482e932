//! One broker.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::secured::{self, Door};
use super::{Setup, connect};
use crate::process::{self, Launch, Process};
use crate::{parts, ports, wait};

/// How long one may take to start: seconds, and much longer where three start at once on a machine that has other work.
const PATIENCE: Duration = Duration::from_secs(150);

/// One broker of a cluster.
#[derive(Debug)]
pub struct Node {
    pub(super) id: usize,
    port: u16,
    sasl_port: Option<u16>,
    link: Option<(u16, u16)>,
    relay: Option<(u16, u16)>,
    secured: Option<secured::Ports>,
    pub(super) properties: PathBuf,
    log: PathBuf,
    jvm: Vec<String>,
    cpus: Vec<usize>,
    process: Option<Process>,
}

impl Node {
    /// Picks the ports of a cluster's brokers and writes their properties.
    pub(super) fn plan(dir: &Path, setup: &Setup) -> Result<Vec<Self>> {
        let controller = ports::pick()?;
        (1..=setup.nodes)
            .map(|id| {
                let sasl_port = if setup.users.is_empty() {
                    None
                } else {
                    Some(ports::pick()?)
                };
                let pair = |wanted: bool| match wanted {
                    true => Ok::<_, anyhow::Error>(Some((ports::pick()?, ports::pick()?))),
                    false => Ok(None),
                };
                let node = Self {
                    id,
                    port: ports::pick()?,
                    sasl_port,
                    link: pair(setup.linked)?,
                    relay: pair(setup.relayed)?,
                    secured: setup
                        .secured
                        .as_ref()
                        .map(|_| secured::Ports::pick())
                        .transpose()?,
                    properties: dir.join(format!("broker-{id}.properties")),
                    log: dir.with_file_name(format!("kafka-{id}.log")),
                    jvm: setup.jvm.clone(),
                    cpus: setup.cpus.clone(),
                    process: None,
                };
                std::fs::write(&node.properties, node.server_properties(dir, controller, setup)?)?;
                Ok(node)
            })
            .collect()
    }

    /// Where it keeps its data, of a cluster below `dir`.
    pub(super) fn data(&self, dir: &Path) -> PathBuf {
        dir.join(format!("broker-{}", self.id))
    }

    fn server_properties(&self, dir: &Path, controller: u16, setup: &Setup) -> Result<String> {
        let mut listeners = format!("PLAINTEXT://127.0.0.1:{}", self.port);
        if let Some(port) = self.sasl_port {
            write!(listeners, ",SASL_PLAINTEXT://127.0.0.1:{port}")?;
        }
        if let Some(ports) = &self.secured {
            listeners.push_str(&ports.listeners());
        }
        let mut advertised = listeners.clone();
        if let Some((front, back)) = self.link {
            write!(listeners, ",LINK://127.0.0.1:{back}")?;
            write!(advertised, ",LINK://127.0.0.1:{front}")?;
        }
        let mut between = "PLAINTEXT";
        if let Some((front, back)) = self.relay {
            write!(listeners, ",RELAY://127.0.0.1:{back}")?;
            write!(advertised, ",RELAY://127.0.0.1:{front}")?;
            between = "RELAY";
        }
        let (roles, all) = if self.id == 1 {
            (
                "broker,controller",
                format!("{listeners},CONTROLLER://127.0.0.1:{controller}"),
            )
        } else {
            ("broker", listeners.clone())
        };
        let mut text = format!(
            "process.roles={roles}\n\
             node.id={id}\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             controller.listener.names=CONTROLLER\n\
             listeners={all}\n\
             advertised.listeners={advertised}\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,LINK:PLAINTEXT,RELAY:PLAINTEXT{protocols}\n\
             inter.broker.listener.name={between}\n\
             log.dirs={data}\n\
             offsets.topic.num.partitions=1\n\
             offsets.topic.replication.factor=1\n\
             transaction.state.log.num.partitions=1\n\
             transaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n\
             group.initial.rebalance.delay.ms=0\n\
             num.network.threads=2\n\
             num.io.threads=4\n\
             auto.create.topics.enable=true\n",
            id = self.id,
            protocols = secured::Ports::protocols(),
            data = self.data(dir).display(),
        );
        if !setup.users.is_empty() {
            let mut users = String::new();
            for (name, password) in &setup.users {
                write!(users, " user_{name}=\"{password}\"")?;
            }
            write!(
                text,
                "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
                 super.users=User:ANONYMOUS\n\
                 listener.name.sasl_plaintext.sasl.enabled.mechanisms=PLAIN\n\
                 listener.name.sasl_plaintext.plain.sasl.jaas.config=\
                 org.apache.kafka.common.security.plain.PlainLoginModule required{users};\n",
            )?;
        }
        if let Some(secured) = &setup.secured {
            text.push_str(&secured.properties()?);
        }
        // Of a property that is there twice, Java keeps the last.
        for (name, value) in &setup.properties {
            writeln!(text, "{name}={value}")?;
        }
        Ok(text)
    }

    /// `host:port` of its plaintext listener.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(super) fn sasl_address(&self) -> Option<String> {
        self.sasl_port.map(|port| format!("127.0.0.1:{port}"))
    }

    pub(super) fn door(&self, door: Door) -> Option<String> {
        self.secured.as_ref()?.address(door)
    }

    /// The port that its linked listener says it has, where nobody listens yet, and the port that it has.
    pub fn link(&self) -> Option<(u16, u16)> {
        self.link
    }

    /// The same for the listener that other brokers fetch from.
    pub fn relay(&self) -> Option<(u16, u16)> {
        self.relay
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Starts the process; [`Self::ready`] waits for it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn launch(&mut self) -> Result<()> {
        let mut command = Command::new("java");
        command
            .args([
                "-Xms128m",
                "-Xmx512m",
                "-XX:+UseSerialGC",
                "-Djava.awt.headless=true",
            ])
            .arg(format!(
                "-Dlog4j2.configurationFile={}/e2e/kafka/log4j2.properties",
                parts::root().display()
            ))
            .args(&self.jvm)
            .arg("-cp")
            .arg(parts::kafka_class_path()?)
            .arg("kafka.Kafka")
            .arg(&self.properties);
        let launch = Launch {
            command,
            log: self.log.clone(),
            cpus: self.cpus.clone(),
        };
        self.process = Some(Process::start(&format!("kafka-{}", self.id), launch)?);
        Ok(())
    }

    /// Waits until it answers a metadata request.
    ///
    /// # Errors
    /// When it has ended, or does not answer in time.
    pub async fn ready(&mut self) -> Result<()> {
        let address = self.address();
        let process = self.process.as_mut().context("it was not started")?;
        let what = format!("broker at {address} answers");
        let answer = wait::until(&what, PATIENCE, async || {
            if let Err(ended) = process.running() {
                return Ok(Err(ended));
            }
            let client = connect(vec![address.clone()], Duration::from_secs(2)).await?;
            client.list_topics().await?;
            Ok(Ok(()))
        });
        match answer.await {
            Ok(outcome) => outcome,
            Err(error) => Err(error.context(process.log_tail(40))),
        }
    }

    /// Stops it as an operator would, with SIGTERM.
    ///
    /// # Errors
    /// When it does not run, or does not stop in time.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        let mut process = self.process.take().context("it does not run")?;
        process.terminate(Duration::from_secs(60)).await
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("it does not run")?.kill()
    }

    /// Starts it again, on its ports and its data.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn restart(&mut self) -> Result<()> {
        self.launch()?;
        self.ready().await
    }

    /// Stops its execution: connections stay open, and nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&mut self) -> Result<()> {
        self.process
            .as_mut()
            .context("it does not run")?
            .signal(Signal::SIGSTOP)
    }

    /// Has every write past `bytes` into a file of its fail, as on a disk that is full, until it is started again.
    ///
    /// # Errors
    /// When it does not run, or `prlimit` (util-linux) fails.
    pub fn fill_disk(&self, bytes: u64) -> Result<()> {
        process::limit_files(self.pid().context("it does not run")?, Some(bytes))
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// When it does not run, or does not end in time.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        let mut process = self.process.take().context("it does not run")?;
        process.ended(limit).await
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&mut self) -> Result<()> {
        self.process
            .as_mut()
            .context("it does not run")?
            .signal(Signal::SIGCONT)
    }
}
