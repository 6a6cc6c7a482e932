//! An entry of `reads`, checked.

use std::sync::Arc;
use std::time::Duration;

use super::super::{Bearers, Choice, ClaimedTopics, Said, Secret, TopicAllowlist};
use super::ReadGroups;
use crate::read::filter::Filter;

/// Topics that may be read, and how.
#[derive(Debug, Clone)]
pub struct Read {
    /// Their cluster.
    pub cluster: String,
    /// Which they are.
    pub topics: ReadTopics,
    /// Whether anybody may read them.
    pub anonymous: bool,
    /// Whoever has one of these may read them.
    pub tokens: Vec<Secret>,
    /// Those of them that have names, which are then their callers'.
    pub named_tokens: Vec<(String, Secret)>,
    /// Whoever has a token of an issuer's that says this may read them.
    pub jwt: Option<Bearers>,
    /// Where reading starts without a cursor, if the request does not simply say.
    pub from: Option<Choice>,
    /// What chooses `auto_offset_reset`, where it is not always the same.
    pub chosen_reset: Option<Choice>,
    /// Whether the schema's id, and the magic byte before it, are taken off values.
    pub remove_confluent_header: bool,
    /// Records in one reply, where the request does not say.
    pub limit: usize,
    /// How long a request waits for a record, where it does not say.
    pub max_wait: Duration,
    /// Bytes of keys, values and headers in one reply, where the request does not say.
    pub max_bytes: usize,
    /// Where reading starts without a position, and where it goes on after an offset that is not there.
    pub auto_offset_reset: Reset,
    /// `encodeMessageId`: whether ids and cursors are given in base64.
    pub encode_message_id: bool,
    /// Whether a topic that does not exist is an error, and not waited for.
    pub check_topic_existence: bool,
    /// Whether whoever may read them may write them too, on a WebSocket.
    pub publish: bool,
    /// The origins of pages, besides those of the same host, that may open WebSockets; `*` is any.
    pub allowed_origins: Vec<String>,
    /// The consumer groups that its readers may use.
    pub groups: ReadGroups,
    /// What every reader's records go through, whatever it asks for.
    pub filter: Option<Arc<Filter>>,
    /// What of the request says the key of the records that it gets.
    pub key: Option<Said>,
    /// The most keys that a view of one of the topics holds.
    pub max_view_keys: usize,
    /// The most bytes of keys, values and headers that it holds.
    pub max_view_bytes: usize,
}

/// The topics of a [`Read`].
#[derive(Debug, Clone)]
pub enum ReadTopics {
    /// These, or those that start so.
    Names(TopicAllowlist),
    /// Those whose whole name matches.
    Pattern(regex::Regex),
    /// What the caller's claims make of this.
    Claimed(ClaimedTopics),
    /// The one that the request chooses.
    Chosen(Choice),
}

impl ReadTopics {
    /// Whether `topic` is one of them for anybody.
    pub fn allows(&self, topic: &str) -> bool {
        match self {
            Self::Names(list) => list.allows(topic),
            Self::Pattern(pattern) => pattern.is_match(topic),
            // Whose it is only a token tells.
            Self::Claimed(_) => true,
            Self::Chosen(choice) => choice.allowed.iter().any(|allowed| allowed == topic),
        }
    }
}

/// `auto_offset_reset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// What is written from now on.
    Latest,
    /// From the first record that is there.
    Earliest,
    /// It is an error.
    None,
}
