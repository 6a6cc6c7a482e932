//! Everything that is broken on purpose, by what is broken.

mod brokers;
mod disks;
mod envoy;
mod links;
mod sidecar;
mod topics;
mod whole;

use std::pin::Pin;
use std::sync::LazyLock;
use std::time::Duration;

use sluice_e2e::Result;
use tokio::time::sleep;

use crate::mode::Mode;
use crate::shed::Sheds;
use crate::world::{Shape, World};

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

/// All of them, in the order that they have in the table. A new one is one more entry of its family.
pub static FAULTS: LazyLock<Vec<Fault>> = LazyLock::new(|| {
    let families = [
        brokers::FAULTS,
        links::FAULTS,
        sidecar::FAULTS,
        envoy::FAULTS,
        disks::FAULTS,
        topics::FAULTS,
        whole::FAULTS,
    ];
    families.concat()
});

async fn rest(seconds: u32) -> Result<()> {
    sleep(S * seconds).await;
    Ok(())
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
        for fault in FAULTS.iter() {
            assert!(names.insert(fault.name), "{}", fault.name);
            for (_, value) in fault.settings {
                serde_json::from_str::<serde_json::Value>(value).unwrap();
            }
        }
    }
}
