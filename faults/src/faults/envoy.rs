//! Envoy that is configured anew, and replaced.

use serde_json::json;
use tokio::time::sleep;

use super::{Fault, S, UNFELT};
use crate::world::Shape;

/// Those faults.
pub(super) const FAULTS: &[Fault] = &[
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
];
