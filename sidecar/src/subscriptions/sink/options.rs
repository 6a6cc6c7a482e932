//! What may be set of a sink, in the `options` of a subscription. `docs/webhooks.md` has all of it.

mod authentication;
mod headers;
mod reach;
#[cfg(test)]
mod tests;

use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::Value;
use sluice_settings::{Problems, Section};

use super::answer::{Reading, Statuses};
use super::client::Settings;
use super::cloudevents::{CloudEvents, Mode, TYPE};
use super::credentials::Authentication;
use super::egress::Place;
use super::request::{Batch, BatchFormat, BatchItems};
use super::signature::{Key, Signatures};
use crate::config::Secret;
use crate::jq::Template;

/// What may be set of a sink, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// `method`
    pub method: Method,
    /// `headers` without expressions. All of them are kept from being printed.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// `headers` with expressions.
    pub templates: Vec<(HeaderName, Template)>,
    /// `body`
    pub body: Option<Body>,
    /// `raw`: the body need not be JSON.
    pub raw: bool,
    /// `batch_format` and `batch_items`, where events go in batches.
    pub batch: Batch,
    /// `cloudevents`
    pub cloudevents: Option<CloudEvents>,
    /// `signature`
    pub signatures: Signatures,
    /// `authentication`
    pub authentication: Option<Authentication>,
    /// How answers are read. Whether a reply is wanted is not the sink's to say.
    pub reading: Reading,
    /// Timeouts, connections, `tls`.
    pub client: Settings,
    /// `proxy`
    pub proxy: Option<Proxy>,
    /// What is secret in it, so that no error repeats it.
    pub(super) secrets: Vec<Secret>,
}

/// `body`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// What it is made of.
    pub template: Template,
    /// It is written as text; what it makes need be JSON only without `raw`.
    pub is_text: bool,
}

/// `proxy`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Where it is.
    pub place: Place,
    /// What it is shown.
    pub authorization: Option<HeaderValue>,
}

/// Where values are from that need not be written where they are used.
pub trait Secrets {
    /// The secret that the value at `path` stands for; it is not empty. What is wrong is reported.
    fn secret(&self, value: &Value, path: String) -> Option<Secret>;

    /// The same, of what is no secret, as a certificate.
    fn text(&self, value: &Value, path: String) -> Option<String>;
}

/// Values as they come in a request's body: only as they are. What the sidecar's files and variables hold is not the
/// caller's to name.
pub struct Inline<'a>(pub &'a Problems);

impl Secrets for Inline<'_> {
    fn secret(&self, value: &Value, path: String) -> Option<Secret> {
        self.text(value, path).map(Secret::new)
    }

    fn text(&self, value: &Value, path: String) -> Option<String> {
        let why = match value {
            Value::String(text) if text.is_empty() => "must not be empty",
            Value::String(text) => return Some(text.clone()),
            Value::Object(_) => {
                "must be a string: {file: …} and {env: …} can be named in the sidecar's configuration only"
            }
            _ => "must be a string",
        };
        self.0.report(path, why);
        None
    }
}

const METHODS: &[(&str, Known)] = &[
    ("POST", Known::Post),
    ("PUT", Known::Put),
    ("PATCH", Known::Patch),
    ("DELETE", Known::Delete),
    ("GET", Known::Get),
    ("HEAD", Known::Head),
];

#[derive(Clone, Copy)]
enum Known {
    Post,
    Put,
    Patch,
    Delete,
    Get,
    Head,
}

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// The most of an answer that may be kept for a reply.
const MAX_RESPONSE: i64 = 64 << 20;

impl Options {
    /// Reads what is a sink's of `options`. The keys of others are theirs to read, and `section` theirs to finish. What is wrong is
    /// reported.
    pub fn read(section: &Section<'_>, secrets: &dyn Secrets) -> Self {
        let mut known = Vec::new();
        let keep = Keeper {
            secrets,
            known: &mut known,
        };
        let mut read = Reader { section, keep };
        let method = match section.choice("method", METHODS) {
            None | Some(Known::Post) => Method::POST,
            Some(Known::Put) => Method::PUT,
            Some(Known::Patch) => Method::PATCH,
            Some(Known::Delete) => Method::DELETE,
            Some(Known::Get) => Method::GET,
            Some(Known::Head) => Method::HEAD,
        };
        let (headers, templates) = read.headers();
        let client = read.client();
        let made = Self {
            headers,
            templates,
            body: body(section),
            raw: section.bool("raw").unwrap_or_default(),
            batch: Batch {
                format: section
                    .choice(
                        "batch_format",
                        &[("json", BatchFormat::Json), ("ndjson", BatchFormat::Ndjson)],
                    )
                    .unwrap_or(BatchFormat::Json),
                items: section
                    .choice(
                        "batch_items",
                        &[("value", BatchItems::Value), ("record", BatchItems::Record)],
                    )
                    .unwrap_or(BatchItems::Value),
            },
            cloudevents: section.section("cloudevents").map(cloudevents),
            signatures: read.signatures(),
            authentication: read.authentication(&client.tls),
            reading: reading(section),
            proxy: read.proxy(),
            client,
            method,
            secrets: known,
        };
        made.check(section);
        made
    }

    fn check(&self, section: &Section<'_>) {
        if matches!(self.method, Method::GET | Method::HEAD) {
            for key in ["body", "batch", "cloudevents", "raw"] {
                section.refuse(
                    key,
                    &format!("means nothing with {}, which has no body", self.method),
                );
            }
        }
        if self.authentication.is_some() && self.sets("authorization") {
            section.problem(
                "headers",
                "has `authorization`, which `authentication` sets: keep one",
            );
        }
        if section.raw("batch").is_none() {
            for key in ["batch_format", "batch_items"] {
                section.refuse(key, "means nothing without `batch`");
            }
            return;
        }
        if !self.templates.is_empty() {
            section.problem(
                "headers",
                "has {{ … }}, which differs by record: a batch has one request",
            );
        }
        match &self.cloudevents {
            Some(events) if events.mode == Mode::Binary => {
                section.problem(
                    "cloudevents.mode",
                    "must be structured with `batch`: headers have one event",
                );
            }
            Some(_) if self.batch.format == BatchFormat::Ndjson => {
                section.problem("batch_format", "must be json with `cloudevents`");
            }
            Some(_) => {}
            None if self.raw && self.batch.items == BatchItems::Value => section.problem(
                "raw",
                "cannot be with `batch`, whose values are JSON: `batch_items: record` has others in base64",
            ),
            None => {}
        }
        if self.body.is_some() && self.batch.items == BatchItems::Record {
            section.problem("body", "means nothing with `batch_items: record`");
        }
    }

    fn sets(&self, name: &str) -> bool {
        let fixed = self.headers.iter().map(|(name, _)| name);
        let all = fixed.chain(self.templates.iter().map(|(name, _)| name));
        all.into_iter().any(|own| own.as_str() == name)
    }
}

/// Takes secrets, and remembers them.
struct Keeper<'a> {
    secrets: &'a dyn Secrets,
    known: &'a mut Vec<Secret>,
}

/// Reads sections that may have secrets in them.
struct Reader<'a, 'b> {
    section: &'a Section<'b>,
    keep: Keeper<'a>,
}

impl Reader<'_, '_> {
    /// The secret at `key` of a section, and where it is required, that it is there.
    fn secret(&mut self, section: &Section<'_>, key: &str, required: bool) -> Option<Secret> {
        let Some(value) = section.raw(key) else {
            if required {
                section.problem(key, "is required");
            }
            return None;
        };
        self.take(value, section.path_of(key))
    }

    fn take(&mut self, value: &Value, path: String) -> Option<Secret> {
        let secret = self.keep.secrets.secret(value, path)?;
        self.keep.known.push(secret.clone());
        Some(secret)
    }

    fn signatures(&mut self) -> Signatures {
        let Some(section) = self.section.section("signature") else {
            return Signatures::default();
        };
        let mut standard = Vec::new();
        for (i, value) in section.list("secrets").unwrap_or_default().iter().enumerate() {
            let key = format!("secrets[{i}]");
            match self
                .take(value, section.path_of(&key))
                .map(|secret| Key::standard(&secret))
            {
                Some(Ok(made)) => standard.push(made),
                Some(Err(why)) => section.problem(&key, why),
                None => {}
            }
        }
        let port = self.secret(&section, "port_secret", false).and_then(|secret| {
            Key::plain(&secret)
                .map_err(|why| section.problem("port_secret", why))
                .ok()
        });
        if section.raw("secrets").is_none() && section.raw("port_secret").is_none() {
            section.problem("secrets", "is required, or `port_secret`");
        }
        section.finish();
        Signatures { standard, port }
    }
}

fn body(section: &Section<'_>) -> Option<Body> {
    let template = section.raw("body")?;
    match Template::parse(template, &[]) {
        Ok(made) => Some(Body {
            template: made,
            is_text: template.is_string(),
        }),
        Err(why) => {
            section.problem("body", why);
            None
        }
    }
}

fn cloudevents(section: Section<'_>) -> CloudEvents {
    let mode = section.choice(
        "mode",
        &[("binary", Mode::Binary), ("structured", Mode::Structured)],
    );
    let source = section.name("source");
    let kind = section.name("type");
    section.finish();
    CloudEvents {
        mode: mode.unwrap_or(Mode::Binary),
        source,
        r#type: kind.unwrap_or_else(|| TYPE.to_owned()),
    }
}

fn reading(section: &Section<'_>) -> Reading {
    let usual = Reading::default();
    let retry = statuses(section, "retry_statuses");
    let longest = section.millis("max_retry_after", 0..=DAY_MS);
    let bytes = section.integer("max_response_bytes", 0..=MAX_RESPONSE);
    Reading {
        retry: retry.unwrap_or(usual.retry),
        max_retry_after: longest.unwrap_or(usual.max_retry_after),
        status_body: section.bool("response_status").unwrap_or_default(),
        reply: false,
        replies: statuses(section, "reply_statuses").unwrap_or_default(),
        max_bytes: bytes
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(usual.max_bytes),
    }
}

fn statuses(section: &Section<'_>, key: &str) -> Option<Vec<Statuses>> {
    section.list(key).map(|items| {
        let mut all = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let text = match item {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            // Numbers of a protobuf or JSON may be written as `503.0`.
            match Statuses::parse(text.strip_suffix(".0").unwrap_or(&text)) {
                Some(statuses) => all.push(statuses),
                None => section.problem(
                    &format!("{key}[{i}]"),
                    "must be a status from 300 to 599, or 3xx, 4xx or 5xx",
                ),
            }
        }
        all
    })
}

/// What stands for a secret where options are shown.
const HIDDEN: &str = "***";

/// Takes the secrets out of `options` as they were written, for whoever is shown them.
pub fn redact(options: &mut Value) {
    let mut hide = |pointer: &str| {
        if let Some(value) = options.pointer_mut(pointer) {
            hidden(value);
        }
    };
    for pointer in [
        "/headers",
        "/authentication/basic/password",
        "/authentication/bearer/token",
        "/authentication/oauth2/client_secret",
        "/proxy/password",
        "/signature/secrets",
        "/signature/port_secret",
        "/tls/key",
    ] {
        hide(pointer);
    }
}

/// Hides what is written in, or below, a value. What names a file or a variable is no secret.
fn hidden(value: &mut Value) {
    match value {
        Value::Null => {}
        Value::Array(items) => items.iter_mut().for_each(hidden),
        Value::Object(members)
            if members.len() == 1 && (members.contains_key("file") || members.contains_key("env")) => {}
        Value::Object(members) => members.values_mut().for_each(hidden),
        other => *other = HIDDEN.into(),
    }
}
