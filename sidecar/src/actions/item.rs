//! What organisations have, as it is kept in the state's topic.
//!
//! A row says what is known, and what of it others have still to be told: the run that is to be written, and the changes.
//! Whoever changed a row tells it, and takes it out of the row then; if he cannot, another sidecar does.

mod action;
mod entity;
mod packed;
mod run;
mod settings;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::action::{
    Action, Combinator, Condition, ConditionKind, Event, EventKind, Operation, Trigger, UserInputs,
};
pub use self::entity::Entity;
#[cfg(test)]
pub(crate) use self::packed::tests as arbitrary;
pub use self::packed::{Head, Packed, RunHead};
pub use self::run::{Approval, Claim, LogLine, Run, Status, Told};
pub use self::settings::{Settings, Streamer};

/// One row. It is written as JSON, and read by [`Packed`].
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Item {
    /// An action or an automation, made by the API.
    Action(Action),
    /// A run.
    Run(Box<Run>),
    /// An entity.
    Entity(Entity),
    /// A line of a run's log.
    Log(LogLine),
    /// What programs have set of the organisation itself.
    Settings(Settings),
}

/// A change, as the change log's record has it, but for what all of an organisation's have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// No other change has it: a change that is told twice is so both times.
    pub id: String,
    /// `CREATE`, `UPDATE` or `DELETE`.
    pub action: String,
    /// Who did it, from where, and when.
    pub trigger: Value,
    /// The run that it is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// How many automations led to it, one after the other.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub depth: u32,
    /// What it was before; null: nothing.
    pub before: Value,
    /// What it is now; null: nothing.
    pub after: Value,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Item {
    /// The changes that are still to be told.
    pub fn untold(&self) -> &[Change] {
        match self {
            Self::Run(run) => &run.untold,
            Self::Entity(entity) => &entity.untold,
            Self::Action(_) | Self::Log(_) | Self::Settings(_) => &[],
        }
    }

    /// Whether anybody has still to be told anything.
    pub fn is_unfinished(&self) -> bool {
        match self {
            Self::Run(run) => run.is_unfinished(),
            Self::Entity(entity) => entity.is_unfinished(),
            Self::Action(_) | Self::Log(_) | Self::Settings(_) => false,
        }
    }
}
