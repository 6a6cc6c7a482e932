//! Actions and automations.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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
