//! A definition: what is made of a request, compiled.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde_json::{Map, Value as Json};

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
    /// The record's value; without it that is as it came.
    pub(super) payload: Option<Template>,
    pub(super) key: Option<Template>,
    pub(super) partition: Option<Template>,
    /// Record headers, added to those that came.
    pub(super) headers: Vec<(String, Template)>,
    pub(super) encrypt: Option<Encrypt>,
    /// `.trigger.origin`.
    pub(super) origin: String,
    /// `.trigger.operation`.
    pub(super) operation: Option<String>,
    /// Whether its expressions can name `.secrets`.
    pub(super) names_secrets: bool,
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
    payload: Option<Json>,
    key: Option<String>,
    partition: Option<String>,
    #[serde(default)]
    headers: Map<String, Json>,
    encrypt: Option<Encrypt>,
    #[serde(default)]
    origin: String,
    operation: Option<String>,
}

static COMPILED: Mutex<VecDeque<Arc<Definition>>> = Mutex::new(VecDeque::new());

impl Definition {
    /// Compiles a definition, a JSON object: `payload` (any JSON), `key`, `partition`, `headers` (by name), each with
    /// expressions; `encrypt` (`secret`, `inputs`), `origin` and `operation`, without. What was compiled a moment ago is not
    /// compiled again. It takes about a millisecond for each expression; from a task call it by `spawn_blocking`.
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
        Ok(Self {
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
}
