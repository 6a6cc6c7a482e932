//! What organisations have, as it is kept in the state's topic.
//!
//! A row says what is known, and what of it others have still to be told: the run that is to be written, and the changes.
//! Whoever changed a row tells it, and takes it out of the row then; if he cannot, another sidecar does.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
}

/// Something that can be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Action {
    /// What it is called in paths.
    pub identifier: String,
    /// What it is called by people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What starts it.
    pub trigger: Trigger,
    /// Where it goes: `type`, and by type `payload`, `agent`, `url` and so on.
    pub invocation_method: Map<String, Value>,
    /// Whether somebody must approve of a run before it starts.
    #[serde(default)]
    pub required_approval: bool,
    /// How long a run may take, as `10m`; as the organisation has it without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_timeout: Option<String>,
    /// Whether an automation is one now.
    #[serde(default = "yes")]
    pub publish: bool,
    /// RFC 3339; none of those of the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn yes() -> bool {
    true
}

/// What starts an action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Trigger {
    /// Somebody does.
    SelfService {
        /// `CREATE`, `DAY-2` or `DELETE`.
        operation: Operation,
        /// What is asked for.
        #[serde(default)]
        user_inputs: UserInputs,
        /// The blueprint of the entity that it is about.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        blueprint_identifier: Option<String>,
    },
    /// What happens does.
    Automation {
        /// What that is.
        event: Event,
        /// Whether it does this time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        condition: Option<Condition>,
    },
}

/// What an action does to its entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Makes one.
    #[serde(rename = "CREATE")]
    Create,
    /// Changes one.
    #[serde(rename = "DAY-2")]
    DayTwo,
    /// Deletes one.
    #[serde(rename = "DELETE")]
    Delete,
}

impl Operation {
    /// As Port has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::DayTwo => "DAY-2",
            Self::Delete => "DELETE",
        }
    }
}

/// What is asked of who starts an action.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserInputs {
    /// By name, a JSON Schema; with `encryption: aes256-gcm` where it is not to be readable.
    pub properties: Map<String, Value>,
    /// The names of those that must be there.
    pub required: Vec<String>,
    /// In which order they are asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<String>,
}

/// What starts an automation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// What kind of thing happens.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// Of entities: of this blueprint only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blueprint_identifier: Option<String>,
    /// Of runs: of this action only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action_identifier: Option<String>,
    /// Of `TIMER`: how often, as `15m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
}

/// Kinds of things that happen, by Port's names, and `TIMER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EventKind {
    /// There is a new entity.
    EntityCreated,
    /// An entity is another.
    EntityUpdated,
    /// An entity is gone.
    EntityDeleted,
    /// Any of these.
    AnyEntityChange,
    /// A run was started.
    RunCreated,
    /// A run has gone on.
    RunUpdated,
    /// Either.
    AnyRunChange,
    /// Time goes by.
    Timer,
}

/// Whether something that happens starts an automation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// `JQ`.
    #[serde(rename = "type")]
    pub kind: ConditionKind,
    /// Each is true or not.
    pub expressions: Vec<String>,
    /// Whether all must be true, or one.
    #[serde(default)]
    pub combinator: Combinator,
}

/// There is one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConditionKind {
    /// jq programs.
    #[serde(rename = "JQ")]
    Jq,
}

/// How conditions go together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Combinator {
    /// All are true.
    #[default]
    And,
    /// One is.
    Or,
}

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
}

impl Entity {
    /// As [`Run::tag`].
    pub fn tag(&self) -> u64 {
        u64::try_from(self.updated_ms).unwrap_or_default()
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

/// An entity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entity {
    /// What it is called by people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Its icon's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icon: Option<String>,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub team: Vec<String>,
    /// What it has.
    #[serde(default)]
    pub properties: Map<String, Value>,
    /// By name, which other entities: text, or a list of texts.
    #[serde(default)]
    pub relations: Map<String, Value>,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// Who made it.
    pub created_by: String,
    /// Milliseconds since 1970.
    pub updated_ms: i64,
    /// Who changed it last.
    pub updated_by: String,
    /// It is gone, and its row goes when that is told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// Changes that are still to be told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untold: Vec<Change>,
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

impl Item {
    /// The changes that are still to be told.
    pub fn untold(&self) -> &[Change] {
        match self {
            Self::Run(run) => &run.untold,
            Self::Entity(entity) => &entity.untold,
            Self::Action(_) | Self::Log(_) => &[],
        }
    }

    /// Whether anybody has still to be told anything.
    pub fn is_unfinished(&self) -> bool {
        match self {
            Self::Run(run) => run.unwritten || !run.untold.is_empty(),
            Self::Entity(entity) => entity.deleted || !entity.untold.is_empty(),
            Self::Action(_) | Self::Log(_) => false,
        }
    }
}
