//! What programs have set of organisations.

use serde::{Deserialize, Serialize};

/// What programs have set of an organisation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// How its agents get runs, as one of them said at its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_agent_streamer_name: Option<Streamer>,
}

/// How an agent gets runs (port-agent's `STREAMER_NAME`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Streamer {
    /// It reads them from Kafka.
    Kafka,
    /// It asks for them.
    Polling,
}
