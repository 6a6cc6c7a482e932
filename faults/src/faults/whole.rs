//! What comes upon the whole of it: more than fits, and the end.

use nix::sys::signal::Signal;
use sluice_e2e::ensure;
use tokio::time::sleep;

use super::{Fault, Keeps, S, UNFELT, within};
use crate::link::Weather;
use crate::shed::Sheds;
use crate::world::Shape;

/// Those faults.
pub(super) const FAULTS: &[Fault] = &[
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
