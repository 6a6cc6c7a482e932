//! Ways in which a route can promise something, each of which every fault is run in.

use serde_json::{Value, json};
use sluice_e2e::scenario::Scenario;

/// What a success promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// It is stored: none may be missing, whatever happens.
    Stored,
    /// It is held in memory: what is missing is bounded, and the sidecar says how much it is while it lives.
    Held,
}

/// A mode.
#[derive(Debug, Clone, Copy)]
pub struct Mode {
    /// Its name, in tables and topics.
    pub name: &'static str,
    /// What its successes promise.
    pub promise: Promise,
    /// What it needs of the sidecar, as [`crate::faults::Fault::settings`] has it; `{dir}` stands for a directory that
    /// outlives the sidecar.
    pub settings: &'static [(&'static str, &'static str)],
}

/// All modes. A new one is one more entry.
pub const MODES: &[Mode] = &[
    Mode {
        name: "acked",
        promise: Promise::Stored,
        settings: &[],
    },
    Mode {
        name: "buffered",
        promise: Promise::Held,
        settings: &[],
    },
];

impl Mode {
    /// The topic of a scenario's route of this mode.
    pub fn topic(&self, scenario: &Scenario) -> String {
        scenario.topic(self.name)
    }

    /// That route's path.
    pub fn path(&self) -> String {
        format!("/{}", self.name)
    }

    /// That route's settings.
    pub fn route(&self, scenario: &Scenario) -> Value {
        json!({
            "topic": self.topic(scenario),
            "value": "body",
            "key": {"header": "x-key"},
            "delivery": self.name,
            "answer_timeout": 3000,
        })
    }
}
