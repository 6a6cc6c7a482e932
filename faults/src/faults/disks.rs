//! Disks that are full.

use tokio::time::sleep;

use super::{Fault, KEEPS, Keeps, S};
use crate::world::Shape;

/// Those faults.
pub(super) const FAULTS: &[Fault] = &[
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
];
