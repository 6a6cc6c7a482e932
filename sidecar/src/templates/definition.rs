//! A definition: what is made of a request, compiled.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use crate::config::check_topic;
use crate::jq::Template;

/// The longest definition, in bytes.
pub const MAX_DEFINITION: usize = 64 * 1024;
/// How many compiled definitions are kept, whoever asks for them.
const KEPT: usize = 256;
/// The most inputs that are encrypted.
const MAX_ENCRYPTED: usize = 64;

/// What is made of a request, compiled once.
#[derive(Debug, PartialEq, Eq)]
pub struct Definition {
    text: String,
    /// What it stands for: the sidecar's template of that name. Then it has no parts of its own.
    pub(super) name: Option<String>,
    /// Whether it counts on the value being made: the record was sent without one.
    pub(super) whole: bool,
    pub(super) topic: Option<Topic>,
    /// The record's value; without it that is as it came.
    pub(super) payload: Option<Template>,
    pub(super) key: Option<Template>,
    pub(super) partition: Option<Template>,
    /// Record headers, added to those that came.
    pub(super) headers: Vec<(String, Template)>,
    pub(super) encrypt: Option<Encrypt>,
    /// `.trigger.origin`, where it says.
    pub(super) origin: Option<String>,
    /// `.trigger.operation`.
    pub(super) operation: Option<String>,
    /// Whether its expressions can name `.secrets`.
    pub(super) names_secrets: bool,
}

/// The record's topic.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Topic {
    /// As it is written.
    pub(super) text: String,
    pub(super) template: Template,
    /// What it may be, besides the topics that the record has without it.
    pub(super) allowed: Vec<String>,
}

/// Which inputs are encrypted.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Encrypt {
    /// The secret whose first bytes are the key.
    pub(super) secret: String,
    /// JSON pointers (RFC 6901) into the body.
    pub(super) inputs: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: Option<String>,
    #[serde(default)]
    whole: bool,
    topic: Option<String>,
    #[serde(default)]
    allowed_topics: Vec<String>,
    payload: Option<Json>,
    key: Option<String>,
    partition: Option<String>,
    #[serde(default)]
    headers: Map<String, Json>,
    encrypt: Option<Encrypt>,
    origin: Option<String>,
    operation: Option<String>,
}

impl Written {
    /// What is wrong with what is written beside what.
    fn problem(&self) -> Option<String> {
        let makes = self.topic.is_some()
            || self.payload.is_some()
            || self.key.is_some()
            || self.partition.is_some()
            || !self.headers.is_empty()
            || self.encrypt.is_some();
        if self.name.is_some() && makes {
            return Some("name: the template that it names says what is made: leave the rest out".to_owned());
        }
        if self.topic.is_none() && !self.allowed_topics.is_empty() {
            return Some("allowed_topics: are what a `topic` may choose, and there is none".to_owned());
        }
        let wrong = self
            .allowed_topics
            .iter()
            .find_map(|topic| check_topic(topic).err());
        wrong.map(|why| format!("allowed_topics: {why}"))
    }
}

static COMPILED: Mutex<VecDeque<Arc<Definition>>> = Mutex::new(VecDeque::new());

impl Definition {
    /// Compiles a definition, a JSON object: `payload` (any JSON), `topic`, `key`, `partition`, `headers` (by name), each with
    /// expressions; `allowed_topics`, `encrypt` (`secret`, `inputs`), `origin` and `operation`, without. Instead of all but the
    /// last two, `name`: that of a template of the sidecar's. What was compiled a moment ago is not compiled again. It takes
    /// about a millisecond for each expression; from a task call it by `spawn_blocking`.
    ///
    /// # Errors
    /// What is wrong: the field, and line and column of an expression.
    pub fn compile(text: &str) -> Result<Arc<Self>, String> {
        if let Some(kept) = Self::compiled(text) {
            return Ok(kept);
        }
        if text.len() > MAX_DEFINITION {
            return Err(format!(
                "the template has {} bytes, and may have {MAX_DEFINITION}: write less into it",
                text.len()
            ));
        }
        let made = Arc::new(Self::build(text)?);
        let mut kept = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(Arc::clone(&made));
        Ok(made)
    }

    /// The one of that text, if it was compiled a moment ago.
    pub(super) fn compiled(text: &str) -> Option<Arc<Self>> {
        let kept = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|one| one.text == text).map(Arc::clone)
    }

    fn build(text: &str) -> Result<Self, String> {
        let written: Written =
            serde_json::from_str(text).map_err(|why| format!("the template cannot be read: {why}"))?;
        if let Some(problem) = written.problem() {
            return Err(problem);
        }
        let of = |field: &str, json: &Json| {
            // A path within the field begins with a slash.
            Template::parse(json, &[]).map_err(|why| match why.strip_prefix('/') {
                Some(why) => format!("{field}/{why}"),
                None => format!("{field}: {why}"),
            })
        };
        let one = |field: &str, text: &Option<String>| {
            let json = text.as_deref().map(Json::from);
            json.map(|json| of(field, &json)).transpose()
        };
        let mut headers = Vec::new();
        for (name, value) in &written.headers {
            if name.contains('\0') || name.is_empty() {
                return Err(format!("headers: {name:?} is no name of a record header"));
            }
            if !value.is_string() {
                return Err(format!("headers/{name}: must be text"));
            }
            headers.push((name.clone(), of(&format!("headers/{name}"), value)?));
        }
        if let Some(encrypt) = &written.encrypt {
            let pointer = |text: &&String| !text.starts_with('/');
            if let Some(wrong) = encrypt.inputs.iter().find(pointer) {
                return Err(format!(
                    "encrypt.inputs: {wrong:?} is no JSON pointer, as /password"
                ));
            }
            if encrypt.inputs.len() > MAX_ENCRYPTED {
                return Err(format!("encrypt.inputs: may name {MAX_ENCRYPTED} at most"));
            }
        }
        let allowed = written.allowed_topics;
        let topic = one("topic", &written.topic)?;
        let topic = written.topic.zip(topic).map(|(text, template)| Topic {
            text,
            template,
            allowed,
        });
        Ok(Self {
            name: written.name,
            whole: written.whole,
            topic,
            payload: written
                .payload
                .as_ref()
                .map(|json| of("payload", json))
                .transpose()?,
            key: one("key", &written.key)?,
            partition: one("partition", &written.partition)?,
            headers,
            encrypt: written.encrypt,
            origin: written.origin,
            operation: written.operation,
            names_secrets: text.contains("secrets"),
            text: text.to_owned(),
        })
    }

    /// What it makes of a record.
    pub fn parts(&self) -> Vec<&'static str> {
        let all = [
            ("topic", self.topic.is_some()),
            ("payload", self.payload.is_some()),
            ("key", self.key.is_some()),
            ("partition", self.partition.is_some()),
            ("headers", !self.headers.is_empty()),
        ];
        all.into_iter()
            .filter(|(_, is)| *is)
            .map(|(name, _)| name)
            .collect()
    }

    /// Whether it makes the record's value.
    pub fn makes_value(&self) -> bool {
        self.payload.is_some()
    }

    /// The secret that its inputs are encrypted with.
    pub fn encrypts_with(&self) -> Option<&str> {
        self.encrypt.as_ref().map(|encrypt| encrypt.secret.as_str())
    }

    /// Whether a definition's text has this topic among those that its `topic` may choose.
    pub(crate) fn may_choose(text: &str, topic: &str) -> bool {
        #[derive(Deserialize)]
        struct Allowed {
            #[serde(default)]
            allowed_topics: Vec<String>,
        }
        let read: Result<Allowed, _> = serde_json::from_str(text);
        read.is_ok_and(|read| read.allowed_topics.iter().any(|allowed| allowed == topic))
    }
}
