//! Ways in which a route can promise something, each of which every fault is run in.

use serde_json::{Value, json};
use sluice_e2e::Result;
use sluice_e2e::scenario::Scenario;

/// What a success promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// It is stored: none may be missing, whatever happens.
    Stored,
    /// 200: the same. 202: it is on the sidecar's disk, and stored in the end or a dead letter.
    Spooled,
    /// It is held in memory: what is missing is bounded, and the sidecar says how much it is while it lives.
    Held,
    /// One broker has it: what is missing was answered while something was broken, and the sidecar says how much it is,
    /// where it can know.
    Led,
    /// It was sent: what is missing was answered while something was broken, and nobody knows.
    Sent,
}

/// A mode.
#[derive(Debug, Clone, Copy)]
pub struct Mode {
    /// Its name, in tables, topics and paths.
    pub name: &'static str,
    /// What its successes promise.
    pub promise: Promise,
    /// The settings of its route, as JSON, besides those that every mode has.
    pub route: &'static str,
    /// What it needs of the sidecar, as [`crate::faults::Fault::settings`] has it; `{dir}` stands for a directory that
    /// outlives the sidecar.
    pub settings: &'static [(&'static str, &'static str)],
    /// The faults that it is run in; empty: all.
    pub faults: &'static [&'static str],
}

/// All modes. A new one is one more entry.
pub const MODES: &[Mode] = &[
    Mode {
        name: "acked",
        promise: Promise::Stored,
        route: r#"{"delivery": "acked"}"#,
        settings: &[],
        faults: &[],
    },
    Mode {
        name: "spooled",
        promise: Promise::Spooled,
        route: r#"{"delivery": "spooled"}"#,
        settings: &[("spool/directory", "\"{dir}/spool\"")],
        faults: &[],
    },
    Mode {
        name: "spool-on-outage",
        promise: Promise::Spooled,
        route: r#"{"delivery": "acked", "spool_on_outage": true}"#,
        settings: &[("spool/directory", "\"{dir}/spool\"")],
        faults: &[],
    },
    Mode {
        name: "buffered",
        promise: Promise::Held,
        route: r#"{"delivery": "buffered"}"#,
        settings: &[],
        faults: &[],
    },
    Mode {
        name: "acks-1",
        promise: Promise::Led,
        route: r#"{"delivery": "acked", "producer": "leader"}"#,
        settings: &[("producers/leader/producer_request_acks", "1")],
        faults: UNSAFE,
    },
    Mode {
        name: "acks-0",
        promise: Promise::Sent,
        route: r#"{"delivery": "acked", "producer": "nobody"}"#,
        settings: &[("producers/nobody/producer_request_acks", "0")],
        faults: UNSAFE,
    },
];

/// What tells profiles that do not wait for every replica from those that do.
const UNSAFE: &[&str] = &[
    "nothing",
    "broker-kill",
    "leader-killed",
    "leader-killed-ahead",
    "rolling-restart",
    "link-blackholed",
    "link-answers-lost",
    "link-reset",
    "sidecar-kill",
];

impl Mode {
    /// Whether the fault is run in it.
    pub fn meets(&self, fault: &str) -> bool {
        self.faults.is_empty() || self.faults.contains(&fault)
    }

    /// The topic of a scenario's route of this mode.
    pub fn topic(&self, scenario: &Scenario) -> String {
        scenario.topic(self.name)
    }

    /// That route's path.
    pub fn path(&self) -> String {
        format!("/{}", self.name)
    }

    /// That route's settings.
    ///
    /// # Errors
    /// When they are no JSON.
    pub fn route(&self, scenario: &Scenario) -> Result<Value> {
        let mut route = json!({
            "topic": self.topic(scenario),
            "value": "body",
            "key": {"header": "x-key"},
            "answer_timeout": 3000,
        });
        let own: serde_json::Map<String, Value> = serde_json::from_str(self.route)?;
        if let Some(route) = route.as_object_mut() {
            route.extend(own);
        }
        Ok(route)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::FAULTS;

    #[test]
    fn what_a_mode_names_is_there() {
        for mode in MODES {
            serde_json::from_str::<Value>(mode.route).unwrap();
            for name in mode.faults {
                assert!(FAULTS.iter().any(|fault| fault.name == *name), "{name}");
            }
        }
    }
}
