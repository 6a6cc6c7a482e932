//! The sidecar that dies, stands still and is replaced.

use nix::sys::signal::Signal;
use sluice_e2e::ensure;
use tokio::time::sleep;

use super::{Fault, KEEPS, Keeps, S, UNFELT};
use crate::world::Shape;

/// Those faults.
pub(super) const FAULTS: &[Fault] = &[
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
];
