//! Brokers that stop, die, stand still and come back.

use tokio::time::sleep;

use super::{Fault, KEEPS, S, UNFELT, rest, within};
use crate::link::Weather;
use crate::world::Shape;

/// Those faults.
pub(super) const FAULTS: &[Fault] = &[
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
];
