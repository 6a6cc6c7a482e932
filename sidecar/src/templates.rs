//! Payload templates: parts of a record that jq expressions make of parts of a request. `docs/templates.md` describes them.
//!
//! Whoever may send records may send a definition, so that nothing in one is believed: it is compiled and evaluated within
//! bounds, and sees a secret only where its record goes to topics that the secret is for.

mod context;
mod definition;
mod evaluate;
mod fault;
mod render;
mod seal;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderName;

pub use self::definition::{Definition, MAX_DEFINITION};
pub use self::render::{Rendered, Templates};
pub(crate) use self::seal::seal;
use crate::config::{Secret, TopicAllowlist};

/// What templates may take, and the secrets that they may name.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long the expressions of one record may run, all together.
    pub timeout: Duration,
    /// The most bytes that they may give, all together.
    pub max_output_bytes: usize,
    /// The most bytes of records that may wait for their expressions at once.
    pub max_waiting_bytes: usize,
    /// The secrets by name.
    pub secrets: BTreeMap<String, NamedSecret>,
    /// The templates that are applied, or that others name.
    pub named: BTreeMap<String, Named>,
    /// By which of them records over REST are made: for a topic the first that has it.
    pub writes: Vec<Write>,
}

/// A template of the sidecar's.
#[derive(Debug, Clone)]
pub struct Named {
    /// What it makes.
    pub definition: Arc<Definition>,
    /// Who asks for a record over REST: names of `.trigger.by`, and the header of the request that says each.
    pub by: Vec<(String, HeaderName)>,
}

/// Topics whose records over REST are made by a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Their cluster.
    pub cluster: String,
    /// Which they are.
    pub topics: TopicAllowlist,
    /// The template's name.
    pub template: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_millis(250),
            max_output_bytes: 1024 * 1024,
            max_waiting_bytes: 64 * 1024 * 1024,
            secrets: BTreeMap::new(),
            named: BTreeMap::new(),
            writes: Vec::new(),
        }
    }
}

/// A secret that templates may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedSecret {
    /// The secret.
    pub value: Secret,
    /// The topics whose records may use it.
    pub topics: TopicAllowlist,
}
