//! What a fault is inflicted on.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use sluice_e2e::envoy::produce;
use sluice_e2e::kafka::{Kafka, Setup};
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::Scenario;
use sluice_e2e::{Context, Result, ensure, wait};

use crate::compare::Deleted;
use crate::link::Link;
use crate::load::{Load, Plan};
use crate::mode::{Mode, Promise};
use crate::told::Counters;

/// The Kafka that a fault needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One broker.
    One,
    /// One broker, and a network that can be told to misbehave before it.
    Linked,
    /// Three brokers, every partition on each of them, `min.insync.replicas=2`.
    Three,
    /// The same, with a network that can be told to misbehave between the sidecar and each of them.
    ThreeLinked,
    /// The same, with one that can be told to misbehave between the brokers, where they fetch from one another. What has
    /// not fetched for 4 s is no replica in sync.
    ThreeRelayed,
    /// One broker that asks who its clients are, and what they may do.
    Secured,
}

/// The user of [`Shape::Secured`].
pub const USER: &str = "sluice";
const PASSWORD: &str = "secret";
/// The partitions of a run's topic.
pub const PARTITIONS: i32 = 3;

/// The cluster of a fault, shared by its modes.
#[derive(Debug)]
pub struct Ground {
    /// The brokers.
    pub kafka: Kafka,
    /// What is between them and the sidecar, or between them, where the shape has it.
    pub link: Option<Link>,
    shape: Shape,
}

impl Ground {
    /// Starts it.
    ///
    /// # Errors
    /// When Kafka does not come up.
    pub async fn start(scenario: &Scenario, shape: Shape) -> Result<Self> {
        let mut setup = Setup {
            nodes: if shape.is_three() { 3 } else { 1 },
            linked: matches!(shape, Shape::Linked | Shape::ThreeLinked),
            relayed: shape == Shape::ThreeRelayed,
            jvm: Vec::new(),
            ..Setup::default()
        }
        // A topic that was deleted stays away until somebody makes it again.
        .property("auto.create.topics.enable", "false");
        if shape.is_three() {
            setup = setup.property("min.insync.replicas", "2");
        }
        if shape == Shape::ThreeRelayed {
            setup = setup.property("replica.lag.time.max.ms", "4000");
        }
        if shape == Shape::Secured {
            setup.users.push((USER.to_owned(), PASSWORD.to_owned()));
        }
        // What is between brokers must be there before they are.
        let mut kafka = Kafka::plan(scenario.dir(), &setup).await?;
        let ports = match shape {
            Shape::Linked | Shape::ThreeLinked => kafka.links(),
            Shape::ThreeRelayed => kafka.relays(),
            Shape::One | Shape::Three | Shape::Secured => Vec::new(),
        };
        let link = match ports.is_empty() {
            true => None,
            false => Some(Link::start(&ports).await?),
        };
        kafka.launch().await?;
        Ok(Self { kafka, link, shape })
    }

    async fn create_topic(&self, name: &str) -> Result<()> {
        match self.shape {
            // Broker 1 is the controller, and leads nothing: its death would be another fault.
            Shape::Three | Shape::ThreeLinked | Shape::ThreeRelayed => {
                self.kafka.create_assigned(name, "2:3:1,3:2:1,2:3:1", &[]).await
            }
            Shape::One | Shape::Linked | Shape::Secured => self.kafka.create_topic(name, PARTITIONS).await,
        }
    }

    /// Makes the modes' topics and starts sidecar and Envoy for them; returns once a record was stored.
    ///
    /// # Errors
    /// When something does not come up.
    pub async fn gateway(
        &self,
        scenario: &Scenario,
        modes: &[Mode],
        settings: &[(&str, &str)],
    ) -> Result<Rig> {
        // Whether all is up is asked with another topic: the first records of the run's own are counted too.
        let probe = scenario.topic("probe");
        let topics: Vec<String> = modes.iter().map(|mode| mode.topic(scenario)).collect();
        let known = self.kafka.topics().await?;
        for topic in topics
            .iter()
            .chain([&probe])
            .filter(|topic| !known.contains(topic))
        {
            self.create_topic(topic).await?;
            if self.shape == Shape::Secured {
                for operation in ["Write", "Describe"] {
                    self.kafka.allow(USER, operation, topic).await?;
                }
            }
        }
        let mut routes = vec![produce("/probe", json!({"topic": probe, "value": "body"}))];
        for mode in modes {
            routes.push(produce(&mode.path(), mode.route(scenario)?));
        }
        let mut parts = Parts::new(&self.bootstrap(), routes);
        if self.shape == Shape::Secured {
            let properties = json!({
                "security.protocol": "sasl_plaintext",
                "sasl.mechanism": "PLAIN",
                "sasl.username": USER,
                "sasl.password": PASSWORD,
            });
            parts = parts.sidecar("clusters/main/properties", properties);
        }
        let dir = kept_in(scenario, modes);
        std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        let dir = dir.display().to_string();
        let of_modes = modes.iter().flat_map(|mode| mode.settings);
        for (path, value) in settings.iter().chain(of_modes) {
            let value = serde_json::from_str(&value.replace("{dir}", &dir))
                .with_context(|| format!("the setting {path}"))?;
            parts = parts.sidecar(path, value);
        }
        parts.hot_restart = true;
        let rig = Rig::start(scenario, parts).await?;
        let client = rig.envoy.h1();
        wait::until("a record is stored", Duration::from_secs(30), async || {
            client.post("/probe", "text/plain", "x").await?.expect(200)?;
            Ok(())
        })
        .await?;
        Ok(rig)
    }

    fn bootstrap(&self) -> String {
        match self.shape {
            Shape::One | Shape::Three | Shape::ThreeRelayed => self.kafka.bootstrap(),
            Shape::Secured => self.kafka.sasl_bootstrap(),
            Shape::Linked | Shape::ThreeLinked => {
                let fronts = self.kafka.links();
                let addresses = fronts.iter().map(|(front, _)| format!("127.0.0.1:{front}"));
                addresses.collect::<Vec<_>>().join(",")
            }
        }
    }
}

/// A gateway in front of the cluster, and the load on it: what a fault is given.
#[derive(Debug)]
pub struct World<'a> {
    /// The brokers.
    pub kafka: &'a mut Kafka,
    /// What is between them and the sidecar.
    link: Option<&'a Link>,
    /// Sidecar and Envoy.
    pub rig: Rig,
    /// The load.
    pub load: Load,
    /// The run's topic.
    pub topic: String,
    /// When the topic was deleted, if it was.
    pub deleted: Option<Deleted>,
    /// What the sidecar's counters said before they began anew.
    pub counters: Counters,
}

impl Shape {
    fn is_three(self) -> bool {
        matches!(self, Self::Three | Self::ThreeLinked | Self::ThreeRelayed)
    }
}

impl<'a> World<'a> {
    /// Makes the topic, starts sidecar and Envoy, and the load once a record was stored.
    ///
    /// # Errors
    /// When something does not come up.
    pub async fn start(
        scenario: &Scenario,
        ground: &'a mut Ground,
        mode: &Mode,
        settings: &[(&str, &str)],
        plan: Plan,
    ) -> Result<Self> {
        let rig = ground
            .gateway(scenario, std::slice::from_ref(mode), settings)
            .await?;
        let counters = Counters::watch(rig.sidecar.admin());
        let load = Load::start(rig.envoy.h1(), &mode.path(), plan);
        Ok(Self {
            topic: mode.topic(scenario),
            kafka: &mut ground.kafka,
            link: ground.link.as_ref(),
            rig,
            load,
            deleted: None,
            counters,
        })
    }

    /// What is between sidecar and brokers, or between brokers.
    ///
    /// # Errors
    /// When the shape has none.
    pub fn link(&self) -> Result<&Link> {
        self.link.context("this shape has no link")
    }

    /// Waits until requests sent from now on are answered 2xx.
    ///
    /// # Errors
    /// When they are not in time.
    pub async fn flowing(&self, limit: Duration) -> Result<()> {
        let since = self.load.now();
        wait::until("requests are answered 2xx again", limit, async || {
            let found = self.load.ledger().successes_since(since);
            ensure!(found >= 50, "{found} so far, {}", self.load.ledger().recent());
            Ok(())
        })
        .await
    }

    /// Has the sidecar that ended with its pod deliver what it left on its disk.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn deliver_the_rest(&mut self, mode: &Mode) -> Result<()> {
        match mode.promise {
            Promise::Spooled => {
                self.rig.sidecar.restart().await?;
                settled(&self.rig).await
            }
            Promise::Stored | Promise::Held | Promise::Led | Promise::Sent => Ok(()),
        }
    }

    /// The most memory that the sidecar has had resident, in MB.
    pub fn sidecar_peak(&self) -> Option<u64> {
        memory(self.rig.sidecar.pid()?, "VmHWM:")
    }
}

/// The directory that `{dir}` in the modes' settings stands for. It is of these modes only: what a sidecar of other ones
/// left is not theirs.
pub fn kept_in(scenario: &Scenario, modes: &[Mode]) -> PathBuf {
    let names: Vec<&str> = modes.iter().map(|mode| mode.name).collect();
    scenario.dir().join(names.join("+"))
}

/// Waits until the sidecar knows every record's fate, and has none on its disk but dead letters.
///
/// # Errors
/// When it does not in time.
pub async fn settled(rig: &Rig) -> Result<()> {
    wait::until("nothing is outstanding", Duration::from_secs(120), async || {
        for metric in ["sluice_outstanding_records", "sluice_spool_records"] {
            let left = rig.sidecar.metric(metric, "").await?;
            ensure!(left == 0.0, "{metric}: {left}");
        }
        Ok(())
    })
    .await
}

/// A process's memory in MB: `VmRSS:` as it is, `VmHWM:` at its largest.
pub fn memory(pid: u32, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kb: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kb / 1024)
}
