//! What a fault is inflicted on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use sluice_e2e::envoy::produce;
use sluice_e2e::kafka::{Kafka, Setup};
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::Scenario;
use sluice_e2e::{Context, Result, ensure, wait};

use crate::link::Link;
use crate::load::{Load, Plan};
use crate::mode::Mode;

/// The Kafka that a fault needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One broker.
    One,
    /// One broker, and a network that can be told to misbehave before it.
    Linked,
    /// Three brokers, every partition on each of them, `min.insync.replicas=2`.
    Three,
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
    /// What is between them and the sidecar, where the shape has it.
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
            nodes: if shape == Shape::Three { 3 } else { 1 },
            linked: shape == Shape::Linked,
            ..Setup::default()
        }
        // A topic that was deleted stays away until somebody makes it again.
        .property("auto.create.topics.enable", "false");
        if shape == Shape::Three {
            setup = setup.property("min.insync.replicas", "2");
        }
        if shape == Shape::Secured {
            setup.users.push((USER.to_owned(), PASSWORD.to_owned()));
        }
        let kafka = Kafka::start(scenario.dir(), &setup).await?;
        let link = match shape {
            Shape::Linked => Some(Link::start(&kafka.links()).await?),
            Shape::One | Shape::Three | Shape::Secured => None,
        };
        Ok(Self { kafka, link, shape })
    }

    async fn create_topic(&self, name: &str) -> Result<()> {
        match self.shape {
            // Broker 1 is the controller, and leads nothing: its death would be another fault.
            Shape::Three => self.kafka.create_assigned(name, "2:3:1,3:2:1,2:3:1", &[]).await,
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
        routes.extend(
            modes
                .iter()
                .map(|mode| produce(&mode.path(), mode.route(scenario))),
        );
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
        let dir = scenario.dir().display().to_string();
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
            Shape::One | Shape::Three => self.kafka.bootstrap(),
            Shape::Secured => self.kafka.sasl_bootstrap(),
            Shape::Linked => {
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
    /// When the topic was made again, if it was deleted.
    pub deleted: Option<Duration>,
    /// What the sidecar's counters said before they began anew.
    pub counters: Counters,
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

    /// What is between sidecar and brokers.
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

    /// The most memory that the sidecar has had resident, in MB.
    pub fn sidecar_peak(&self) -> Option<u64> {
        memory(self.rig.sidecar.pid()?, "VmHWM:")
    }
}

/// Waits until the sidecar knows every record's fate.
///
/// # Errors
/// When it does not in time.
pub async fn settled(rig: &Rig) -> Result<()> {
    wait::until("nothing is outstanding", Duration::from_secs(60), async || {
        let left = rig.sidecar.metric("sluice_outstanding_records", "").await?;
        ensure!(left == 0.0, "{left} records are");
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

/// The sidecar's counters of what it lost, over its restarts.
#[derive(Debug)]
pub struct Counters {
    read: Arc<std::sync::Mutex<Total>>,
    stop: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Total {
    before: Lost,
    now: Lost,
}

/// What the sidecar says it has lost of what it had accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Certainly.
    pub surely: u64,
    /// Perhaps.
    pub perhaps: u64,
}

impl Counters {
    /// Reads them again and again until it is dropped.
    pub fn watch(admin: sluice_e2e::client::Client) -> Self {
        let read = Arc::new(std::sync::Mutex::new(Total::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (total, stopped) = (Arc::clone(&read), Arc::clone(&stop));
        let admin = admin.within(Duration::from_secs(1));
        tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                if let Ok(reply) = admin.get("/metrics").await {
                    total
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner)
                        .add(lost(&reply.text()));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Self { read, stop }
    }

    /// What was lost until about now.
    pub fn lost(&self) -> Lost {
        self.read
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .sum()
    }
}

impl Drop for Counters {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Total {
    fn add(&mut self, read: Lost) {
        // A counter that is less than it was belongs to another process.
        if read.surely < self.now.surely || read.perhaps < self.now.perhaps {
            self.before = self.sum();
        }
        self.now = read;
    }

    fn sum(&self) -> Lost {
        Lost {
            surely: self.before.surely + self.now.surely,
            perhaps: self.before.perhaps + self.now.perhaps,
        }
    }
}

fn lost(metrics: &str) -> Lost {
    let mut lost = Lost::default();
    for line in metrics
        .lines()
        .filter(|line| line.starts_with("sluice_buffered_lost_total{"))
    {
        let count = line
            .rsplit_once(' ')
            .and_then(|(_, count)| count.parse::<u64>().ok());
        let place = if line.contains("outcome_unknown") {
            &mut lost.perhaps
        } else {
            &mut lost.surely
        };
        *place += count.unwrap_or_default();
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_add_up_over_restarts() {
        let of = |surely, perhaps| {
            lost(&format!(
                "sluice_buffered_lost_total{{topic=\"t\",outcome=\"cluster_unavailable\"}} {surely}\n\
                 sluice_buffered_lost_total{{topic=\"t\",outcome=\"outcome_unknown\"}} {perhaps}\nother 7\n"
            ))
        };
        let mut total = Total::default();
        for read in [of(1, 0), of(2, 3), of(0, 0), of(4, 1)] {
            total.add(read);
        }
        assert_eq!(
            total.sum(),
            Lost {
                surely: 6,
                perhaps: 4
            }
        );
    }
}
