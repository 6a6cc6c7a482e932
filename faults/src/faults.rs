//! Everything that is broken on purpose.

use std::pin::Pin;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use sluice_e2e::{Result, ensure};
use tokio::time::sleep;

use crate::compare::Deleted;
use crate::link::Weather;
use crate::mode::Mode;
use crate::shed::Sheds;
use crate::world::{PARTITIONS, Shape, USER, World};

/// A fault.
#[derive(Clone, Copy)]
pub struct Fault {
    /// Its name, on the command line and in the table.
    pub name: &'static str,
    /// What happens, for people.
    pub what: &'static str,
    /// The Kafka that it needs.
    pub shape: Shape,
    /// Settings of the sidecar that it needs: path and JSON.
    pub settings: &'static [(&'static str, &'static str)],
    /// What must be kept besides what always must be.
    pub keeps: Keeps,
    /// Breaks something under load, and mends it.
    pub inflict: Inflict,
}

/// See [`Fault::inflict`].
pub type Inflict = for<'w> fn(&'w mut World<'_>) -> Work<'w>;
/// Work on a world.
pub type Work<'w> = Pin<Box<dyn Future<Output = Result<()>> + 'w>>;

/// What a fault must keep. What is not here must be kept by each: nothing acknowledged is missing, nothing is there
/// twice, nothing that is said not to be stored is, no request is without an answer, order per key.
#[derive(Debug, Clone, Copy)]
pub struct Keeps {
    /// Once it is over, so long until requests are answered as before.
    pub recovers_within: Duration,
    /// Answers besides 2xx, 503 and 504 that are true while it lasts.
    pub answers: &'static [u16],
    /// How many records may be lost that were only held in memory, without anybody left to tell. While the sidecar
    /// lives none: it counts what it loses.
    pub untold: usize,
    /// How many spooled records may be there twice, without anybody left to tell: those that a killed sidecar had just
    /// delivered. While it lives none: it counts what it tries again.
    pub untold_twice: usize,
    /// The gateway does not come back.
    pub ends: bool,
    /// Clients that wait for acknowledgements notice: some are not answered 2xx, or late. If none is, nothing was
    /// broken, and nothing shown.
    pub felt: bool,
    /// The modes that it is run in; empty: all that are run with all.
    pub modes: &'static [&'static str],
    /// With more than fits, what becomes of it where clients wait for acknowledgements.
    pub sheds: Option<Sheds>,
}

const KEEPS: Keeps = Keeps {
    recovers_within: Duration::from_secs(2),
    answers: &[],
    untold: 0,
    untold_twice: 0,
    ends: false,
    felt: true,
    modes: &[],
    sheds: None,
};

/// What nobody needs to notice.
const UNFELT: Keeps = Keeps { felt: false, ..KEEPS };

const fn within(seconds: u64) -> Keeps {
    Keeps {
        recovers_within: Duration::from_secs(seconds),
        ..KEEPS
    }
}

const S: Duration = Duration::from_secs(1);

/// All of them.
pub const FAULTS: &[Fault] = &[
    Fault {
        name: "nothing",
        what: "nothing, for comparison",
        shape: Shape::One,
        settings: &[],
        keeps: UNFELT,
        inflict: |_| Box::pin(async { rest(3).await }),
    },
    Fault {
        name: "broker-stop",
        what: "the broker is stopped (SIGTERM) for 4 s and started",
        shape: Shape::One,
        settings: &[],
        keeps: KEEPS,
        inflict: |world| {
            Box::pin(async {
                world.kafka.node(1)?.stop().await?;
                sleep(S * 4).await;
                world.kafka.node(1)?.restart().await
            })
        },
    },
    Fault {
        name: "broker-kill",
        what: "the broker is killed (SIGKILL) and started after 4 s",
        shape: Shape::One,
        settings: &[],
        keeps: KEEPS,
        inflict: |world| {
            Box::pin(async {
                world.kafka.node(1)?.kill()?;
                sleep(S * 4).await;
                world.kafka.node(1)?.restart().await
            })
        },
    },
    Fault {
        name: "broker-frozen",
        what: "the broker is frozen (SIGSTOP) for 5 s",
        shape: Shape::One,
        settings: &[],
        keeps: KEEPS,
        inflict: |world| {
            Box::pin(async {
                world.kafka.node(1)?.pause()?;
                sleep(S * 5).await;
                world.kafka.node(1)?.resume()
            })
        },
    },
    Fault {
        name: "leader-killed",
        what: "of three brokers, the leader of most partitions is killed and started after 8 s",
        shape: Shape::Three,
        settings: &[],
        keeps: within(3),
        inflict: |world| {
            Box::pin(async {
                world.kafka.node(2)?.kill()?;
                sleep(S * 8).await;
                world.kafka.node(2)?.restart().await
            })
        },
    },
    Fault {
        name: "leader-killed-ahead",
        what: "the same after its followers have been cut off from it for 2 s, with the link between brokers",
        shape: Shape::ThreeRelayed,
        settings: &[],
        keeps: within(3),
        inflict: |world| {
            Box::pin(async {
                world.link()?.set(Weather::Blackhole);
                sleep(S * 2).await;
                world.kafka.node(2)?.kill()?;
                world.link()?.set(Weather::Fair);
                // Until it is missed (broker.session.timeout.ms), and another leads.
                sleep(S * 12).await;
                world.kafka.node(2)?.restart().await
            })
        },
    },
    Fault {
        name: "two-killed",
        what: "of three brokers with min.insync.replicas=2, two are killed and started after 8 s",
        shape: Shape::Three,
        settings: &[],
        keeps: within(5),
        inflict: |world| {
            Box::pin(async {
                world.kafka.node(2)?.kill()?;
                world.kafka.node(3)?.kill()?;
                sleep(S * 8).await;
                world.kafka.node(2)?.launch()?;
                world.kafka.node(3)?.restart().await?;
                world.kafka.node(2)?.ready().await
            })
        },
    },
    Fault {
        name: "rolling-restart",
        what: "three brokers are stopped and started one after the other, the controller last",
        shape: Shape::Three,
        settings: &[],
        keeps: within(5),
        inflict: |world| {
            Box::pin(async {
                for id in [2, 3, 1] {
                    world.kafka.node(id)?.stop().await?;
                    world.kafka.node(id)?.restart().await?;
                    // As an operator does: the next one when the replicas have caught up.
                    sleep(S * 3).await;
                }
                Ok(())
            })
        },
    },
    Fault {
        name: "link-blackholed",
        what: "nothing passes between sidecar and broker for 6 s, and nobody is told (no RST)",
        shape: Shape::Linked,
        settings: &[],
        keeps: KEEPS,
        inflict: |world| weather(world, Weather::Blackhole, 6),
    },
    Fault {
        name: "link-blackholed-long",
        what: "the same for 8 s with a `producer_request_timeout` of 2 s: requests are given up and sent again",
        shape: Shape::Linked,
        settings: &[("producers/default/producer_request_timeout", "2000")],
        keeps: KEEPS,
        inflict: |world| weather(world, Weather::Blackhole, 8),
    },
    Fault {
        name: "link-answers-lost",
        what: "cut one way: what the broker answers does not arrive for 6 s",
        shape: Shape::Linked,
        settings: &[],
        keeps: KEEPS,
        inflict: |world| weather(world, Weather::AnswersLost, 6),
    },
    Fault {
        name: "link-requests-lost",
        what: "cut the other way: what the broker is asked does not arrive for 6 s",
        shape: Shape::Linked,
        settings: &[],
        keeps: KEEPS,
        inflict: |world| weather(world, Weather::RequestsLost, 6),
    },
    Fault {
        name: "message-timeout",
        what: "no answer of the broker arrives for 8 s, and a `message.timeout.ms` of 2 s ends while records are in flight",
        shape: Shape::Linked,
        settings: &[(
            "producers/default/properties",
            r#"{"message.timeout.ms": 2000, "request.timeout.ms": 1000}"#,
        )],
        keeps: KEEPS,
        inflict: |world| weather(world, Weather::AnswersLost, 8),
    },
    Fault {
        name: "link-slow",
        what: "every byte takes 200 ms more, each way, for 6 s",
        shape: Shape::Linked,
        settings: &[],
        keeps: UNFELT,
        inflict: |world| weather(world, Weather::Slow(Duration::from_millis(200)), 6),
    },
    Fault {
        name: "link-reset",
        what: "connections to the broker are reset every 300 ms for 6 s",
        shape: Shape::Linked,
        settings: &[],
        keeps: UNFELT,
        inflict: |world| resets(world),
    },
    Fault {
        name: "link-one-blackholed",
        what: "of three brokers, the leader of most partitions cannot be reached by the sidecar for 6 s; it goes on leading",
        shape: Shape::ThreeLinked,
        settings: &[],
        keeps: KEEPS,
        inflict: |world| {
            Box::pin(async {
                world.link()?.set_one(2, Weather::Blackhole)?;
                sleep(S * 6).await;
                world.link()?.set_one(2, Weather::Fair)
            })
        },
    },
    Fault {
        name: "link-three-reset",
        what: "connections to all of three brokers are reset every 300 ms for 6 s",
        shape: Shape::ThreeLinked,
        settings: &[],
        keeps: UNFELT,
        inflict: |world| resets(world),
    },
    Fault {
        name: "replication-blackholed",
        what: "followers cannot fetch from the leader of most partitions for 8 s, twice as long as they may lag behind",
        shape: Shape::ThreeRelayed,
        settings: &[],
        keeps: within(5),
        inflict: |world| {
            Box::pin(async {
                world.link()?.set_one(2, Weather::Blackhole)?;
                sleep(S * 8).await;
                world.link()?.set_one(2, Weather::Fair)
            })
        },
    },
    Fault {
        name: "replication-slow",
        what: "every byte between brokers takes 200 ms more, each way, for 6 s",
        shape: Shape::ThreeRelayed,
        settings: &[],
        keeps: UNFELT,
        inflict: |world| weather(world, Weather::Slow(Duration::from_millis(200)), 6),
    },
    Fault {
        name: "sidecar-kill",
        what: "the sidecar is killed (SIGKILL) and started after 2 s, three times",
        shape: Shape::One,
        settings: &[],
        keeps: Keeps {
            untold: 200,
            untold_twice: 150,
            ..KEEPS
        },
        inflict: |world| {
            Box::pin(async {
                for _ in 0..3 {
                    world.rig.sidecar.kill()?;
                    sleep(S * 2).await;
                    world.rig.sidecar.restart().await?;
                    sleep(S).await;
                }
                Ok(())
            })
        },
    },
    Fault {
        name: "sidecar-kill-holding",
        what: "the sidecar is killed while the broker is stopped: what it holds goes with it",
        shape: Shape::One,
        settings: &[],
        // Two seconds of the load, and what the kill and the stop take.
        keeps: Keeps {
            untold: 1000,
            ..KEEPS
        },
        inflict: |world| {
            Box::pin(async {
                world.kafka.node(1)?.stop().await?;
                sleep(S * 2).await;
                world.rig.sidecar.kill()?;
                world.rig.sidecar.restart().await?;
                world.kafka.node(1)?.restart().await
            })
        },
    },
    Fault {
        name: "sidecar-frozen",
        what: "the sidecar is frozen (SIGSTOP) for 5 s",
        shape: Shape::One,
        settings: &[],
        keeps: KEEPS,
        inflict: |world| {
            Box::pin(async {
                world.rig.sidecar.signal(Signal::SIGSTOP)?;
                sleep(S * 5).await;
                world.rig.sidecar.signal(Signal::SIGCONT)
            })
        },
    },
    Fault {
        name: "sidecar-drained",
        what: "the sidecar is stopped (SIGTERM) and started, three times",
        shape: Shape::One,
        settings: &[],
        keeps: UNFELT,
        inflict: |world| {
            Box::pin(async {
                for _ in 0..3 {
                    let status = world.rig.sidecar.stop(S * 30).await?;
                    ensure!(status.success(), "the sidecar: {status}");
                    world.rig.sidecar.restart().await?;
                    sleep(S).await;
                }
                Ok(())
            })
        },
    },
    Fault {
        name: "filter-reload",
        what: "Envoy takes a new configuration of the filter, five times",
        shape: Shape::One,
        settings: &[],
        keeps: UNFELT,
        inflict: |world| {
            Box::pin(async {
                for round in 1..=5 {
                    world.rig.config.filter = json!({"max_body_bytes": 100_000 + round});
                    world.rig.envoy.replace(&world.rig.config).await?;
                    sleep(S).await;
                }
                Ok(())
            })
        },
    },
    Fault {
        name: "envoy-hot-restart",
        what: "a new Envoy process takes over from the old one (hot restart), which drains",
        shape: Shape::One,
        settings: &[],
        keeps: UNFELT,
        inflict: |world| Box::pin(async { world.rig.envoy.hot_restart().await }),
    },
    Fault {
        name: "disk-full",
        what: "the broker cannot write any more, ends of it, and is started with room after 4 s",
        shape: Shape::One,
        settings: &[],
        keeps: KEEPS,
        inflict: |world| {
            Box::pin(async {
                // Below what its segments have by now.
                world.kafka.node(1)?.fill_disk(64 * 1024)?;
                world.kafka.node(1)?.ended(S * 30).await?;
                sleep(S * 4).await;
                world.kafka.node(1)?.restart().await
            })
        },
    },
    Fault {
        name: "spool-disk-full",
        what: "the sidecar cannot write any more for 6 s, and for the last 3 of them the broker is gone",
        shape: Shape::One,
        settings: &[],
        keeps: Keeps {
            felt: false,
            modes: &["spooled", "spool-on-outage"],
            ..KEEPS
        },
        inflict: |world| {
            Box::pin(async {
                world.rig.sidecar.fill_disk(Some(4096))?;
                sleep(S * 3).await;
                world.kafka.node(1)?.kill()?;
                sleep(S * 3).await;
                world.rig.sidecar.fill_disk(None)?;
                world.kafka.node(1)?.restart().await
            })
        },
    },
    Fault {
        name: "topic-deleted",
        what: "the topic is deleted, and made again after 4 s",
        shape: Shape::One,
        settings: &[],
        keeps: Keeps {
            answers: &[404],
            ..within(3)
        },
        inflict: |world| {
            Box::pin(async {
                world.kafka.delete_topic(&world.topic).await?;
                // Brokers hear of it after the controller.
                let gone = world.load.now() + S;
                sleep(S * 4).await;
                let again = world.load.now();
                world.deleted = Some(Deleted { gone, again });
                world.kafka.create_topic(&world.topic, PARTITIONS).await
            })
        },
    },
    Fault {
        name: "partitions-added",
        what: "the topic is given twice as many partitions",
        shape: Shape::One,
        settings: &[],
        keeps: UNFELT,
        inflict: |world| {
            Box::pin(async {
                world.kafka.add_partitions(&world.topic, PARTITIONS * 2).await?;
                rest(4).await
            })
        },
    },
    Fault {
        name: "too-few-replicas",
        what: "the topic asks for all three replicas (min.insync.replicas) while one of its brokers is stopped for 5 s",
        shape: Shape::Three,
        settings: &[],
        keeps: within(5),
        inflict: |world| {
            Box::pin(async {
                // Never more than a topic has replicas: a topic with one would not notice.
                world
                    .kafka
                    .set_topic(&world.topic, "min.insync.replicas=3")
                    .await?;
                world.kafka.node(3)?.stop().await?;
                sleep(S * 5).await;
                world.kafka.node(3)?.restart().await
            })
        },
    },
    Fault {
        name: "too-large",
        what: "one record in ten is larger than the topic takes; its neighbours are not",
        shape: Shape::One,
        settings: &[(
            "producers/default/producer_request_limits_bytes_per_request",
            "20000",
        )],
        keeps: UNFELT,
        inflict: |world| {
            Box::pin(async {
                world
                    .kafka
                    .set_topic(&world.topic, "max.message.bytes=20000")
                    .await?;
                world.load.poison(10);
                sleep(S * 5).await;
                world.load.poison(0);
                sleep(S / 2).await;
                Ok(())
            })
        },
    },
    Fault {
        name: "acl-revoked",
        what: "the sidecar's right to write is taken away, and given back after 5 s",
        shape: Shape::Secured,
        settings: &[],
        keeps: Keeps {
            answers: &[403],
            ..KEEPS
        },
        inflict: |world| {
            Box::pin(async {
                world.kafka.revoke(USER, "Write", &world.topic).await?;
                sleep(S * 5).await;
                world.kafka.allow(USER, "Write", &world.topic).await
            })
        },
    },
    Fault {
        name: "overload",
        what: "ten times what fits through the link to the broker, for a minute",
        shape: Shape::Linked,
        settings: &[],
        keeps: Keeps {
            // About fifty fit.
            sheds: Some(Sheds {
                served: 30.0,
                within: S,
                unknown: 10,
                memory: 80,
            }),
            ..within(10)
        },
        inflict: |world| {
            Box::pin(async {
                // A record is about 250 bytes of a request: 60 a second, of 600 that come.
                world.link()?.set(Weather::Narrow(15_000));
                world.load.times(3);
                sleep(S * 60).await;
                world.load.times(1);
                world.link()?.set(Weather::Fair);
                Ok(())
            })
        },
    },
    Fault {
        name: "pod-end",
        what: "as a pod's end: Envoy drains its listener (preStop), then sidecar and Envoy get SIGTERM at once",
        shape: Shape::One,
        settings: &[],
        keeps: Keeps { ends: true, ..UNFELT },
        inflict: |world| {
            Box::pin(async {
                world.rig.envoy.drain().await?;
                world.rig.sidecar.signal(Signal::SIGTERM)?;
                world.rig.envoy.stop().await?;
                let status = world.rig.sidecar.ended(S * 30).await?;
                ensure!(status.success(), "the sidecar: {status}");
                Ok(())
            })
        },
    },
];

async fn rest(seconds: u32) -> Result<()> {
    sleep(S * seconds).await;
    Ok(())
}

fn resets<'w>(world: &'w mut World<'_>) -> Work<'w> {
    Box::pin(async move {
        for _ in 0..20 {
            world.link()?.reset();
            sleep(Duration::from_millis(300)).await;
        }
        Ok(())
    })
}

fn weather<'w>(world: &'w mut World<'_>, weather: Weather, seconds: u32) -> Work<'w> {
    Box::pin(async move {
        world.link()?.set(weather);
        sleep(S * seconds).await;
        world.link()?.set(Weather::Fair);
        Ok(())
    })
}

impl Fault {
    /// Whether it is run in the mode.
    pub fn meets(&self, mode: &Mode) -> bool {
        let modes = self.keeps.modes;
        mode.meets(self.name) && (modes.is_empty() || modes.contains(&mode.name))
    }
}

impl std::fmt::Debug for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_has_a_name_of_its_own_and_settings_that_are_json() {
        let mut names = HashSet::new();
        for fault in FAULTS {
            assert!(names.insert(fault.name), "{}", fault.name);
            for (_, value) in fault.settings {
                serde_json::from_str::<serde_json::Value>(value).unwrap();
            }
        }
    }
}
