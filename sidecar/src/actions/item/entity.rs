//! Entities.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Change;

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

impl Entity {
    /// As [`super::Run::tag`].
    pub fn tag(&self) -> u64 {
        u64::try_from(self.updated_ms).unwrap_or_default()
    }

    /// Whether anybody has still to be told anything.
    pub fn is_unfinished(&self) -> bool {
        self.deleted || !self.untold.is_empty()
    }
}
