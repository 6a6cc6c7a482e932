//! Runs, and the lines of their logs.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Change, Operation, is_zero};

/// How a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Nobody has approved of it yet.
    WaitingForApproval,
    /// Somebody does it.
    InProgress,
    /// It is done.
    Success,
    /// It is not, and will not be.
    Failure,
    /// Somebody did not approve of it.
    Declined,
}

impl Status {
    /// Whether nothing more comes.
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Declined)
    }
}

/// A run of an action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// How it is.
    pub status: Status,
    /// The action's identifier.
    pub action: String,
    /// What it is called by people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Who and what started it, as the record has it.
    pub trigger: Value,
    /// The operation, of an action that somebody starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// Who started it.
    pub user: String,
    /// The action's at that time.
    pub invocation_method: Map<String, Value>,
    /// What was asked for and is not encrypted, and what is, encrypted.
    #[serde(default)]
    pub properties: Map<String, Value>,
    /// The names of those that are encrypted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub censored: Vec<String>,
    /// The entity that it is about: its identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// The entity's blueprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blueprint: Option<String>,
    /// The entity as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity_then: Option<Value>,
    /// What started an automation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Value>,
    /// How many automations led to it, one after the other.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub depth: u32,
    /// What whoever does it says.
    #[serde(default)]
    pub told: Told,
    /// Who approved or declined, and what he said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// Which agent has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// When it was changed last, in milliseconds since 1970; more than before with each change.
    pub updated_ms: i64,
    /// Milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<i64>,
    /// How long it may take once it is in progress, in milliseconds.
    pub timeout_ms: i64,
    /// When it has taken too long, in milliseconds since 1970; none while it waits for approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<i64>,
    /// Whether its record is still to be written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unwritten: bool,
    /// Changes that are still to be told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untold: Vec<Change>,
}

impl Run {
    /// Another one whenever somebody has changed it, and the same while others are only told of it.
    pub fn tag(&self) -> u64 {
        u64::try_from(self.updated_ms).unwrap_or_default()
    }

    /// Whether anybody has still to be told anything.
    pub fn is_unfinished(&self) -> bool {
        self.unwritten || !self.untold.is_empty()
    }
}

/// What whoever does a run says about it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// How it is, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_label: Option<String>,
    /// Where more about it is: text, or a list of texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Value>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// What it is called elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_run_id: Option<String>,
    /// What a webhook answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<Value>,
}

/// What came of asking for approval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// Who said so.
    pub by: String,
    /// Whether he approved.
    pub approved: bool,
    /// What he said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Milliseconds since 1970.
    pub at_ms: i64,
}

/// An agent has a run, or is about to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// `installationId`.
    pub by: String,
    /// Until when it is the agent's if it does not say that it has it, in milliseconds since 1970.
    pub until_ms: i64,
    /// Whether it has said so.
    #[serde(default)]
    pub acked: bool,
}

/// A line of a run's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// What it says.
    pub message: String,
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// Who wrote it.
    pub by: String,
}
