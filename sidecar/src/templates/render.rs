//! From a record with a template to the record that it makes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use serde_json::Value as Json;
use sluice_proto::v1::{self, ErrorClass};

use super::context::{self, Wrong};
use super::definition::Definition;
use super::{NamedSecret, Settings};
use crate::jq::template::under;
use crate::jq::{self, Limits, Scope, Template, Value};
use crate::kafka::record::Failure;

/// The longest key, in bytes; as long as the filter's others.
const MAX_KEY: usize = 64 * 1024;
/// What a record takes that waits, beside its bytes.
const OVERHEAD: usize = 1024;

/// Makes records of templates.
pub struct Templates {
    settings: Settings,
    waiting: AtomicUsize,
}

/// Records that wait for their expressions, counted until it is dropped.
pub struct Waiting {
    of: Arc<Templates>,
    bytes: usize,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.of.waiting.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// What the expressions gave.
struct Made {
    value: Option<Bytes>,
    key: Option<Bytes>,
    partition: Option<i32>,
    headers: Vec<v1::Header>,
}

impl Templates {
    /// With those bounds and secrets.
    pub fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            settings,
            waiting: AtomicUsize::new(0),
        })
    }

    /// Whether any record waits.
    pub fn is_idle(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }

    /// Counts a record that is to wait.
    ///
    /// # Errors
    /// Too much waits already.
    pub fn admit(self: &Arc<Self>, record: &v1::Record) -> Result<Waiting, Failure> {
        let of_template = record.template.as_ref().map_or(0, size);
        let bytes = OVERHEAD + of_template + record.value.as_ref().map_or(0, Bytes::len);
        let most = self.settings.max_waiting_bytes;
        let add = |now: usize| now.checked_add(bytes).filter(|sum| *sum <= most);
        self.waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, add)
            .map(|_| Waiting {
                of: Arc::clone(self),
                bytes,
            })
            .map_err(|_| {
                let text = format!(
                    "records that wait for their templates take templates.max_waiting_bytes, {most}, already; not stored"
                );
                Failure::new(ErrorClass::BufferFull, text)
            })
    }

    /// Makes the record, until `deadline` at the latest. What has no template is as it was.
    ///
    /// # Errors
    /// What is wrong with its template or what an expression says is wrong, and in which field; which bound was reached.
    pub async fn render(&self, mut record: v1::Record, deadline: Instant) -> Result<v1::Record, Failure> {
        let Some(mut template) = record.template.take() else {
            return Ok(record);
        };
        let at = SystemTime::now();
        let topics = std::mem::take(&mut template.topics);
        match record.topics.is_empty() {
            true => record.topics = topics,
            false if !topics.is_empty() => {
                return Err(invalid(
                    "the record names topics, and its template too: name them in one place",
                ));
            }
            false => {}
        }
        let definition = definition(&template).await?;
        let secrets = match definition.names_secrets {
            true => self.secrets(&record.topics),
            false => Vec::new(),
        };
        if let Some(encrypt) = &definition.encrypt
            && let Some(body) = &template.inputs
        {
            let secret = self.secret(&encrypt.secret, &record.topics)?;
            let sealed = context::encrypted(body, encrypt, secret.value.expose().as_bytes());
            template.inputs = Some(sealed.map(Bytes::from).map_err(|wrong| match wrong {
                Wrong::Body(why) => invalid(format!("the body is not JSON: {why}")),
                Wrong::Secret(why) => misconfigured(format!("encrypt.secret: {:?} {why}", encrypt.secret)),
            })?);
        }
        let request = context::request(&template);
        let trigger = context::trigger(&definition, &template, at).map_err(invalid)?;
        let limits = Limits {
            time: self.settings.timeout,
            output: self.settings.max_output_bytes,
            ..Limits::default()
        };
        let made_of = Arc::clone(&definition);
        let run = jq::run(move |turn| {
            turn.within(limits, |scope| {
                if !secrets.is_empty() {
                    scope.withhold();
                }
                let parts = (template.inputs.as_deref(), &request, &trigger);
                made(scope, &made_of, parts, &secrets)
            })
        });
        let ran = tokio::time::timeout_at(deadline.into(), run).await;
        let made = match ran {
            Ok(Ok(made)) => made.map_err(of_expression)?,
            Ok(Err(failure)) => return Err(of_expression(failure)),
            Err(_) => {
                let text =
                    "the record's template was not evaluated in the time that its client waits; not stored";
                return Err(Failure::new(ErrorClass::BufferFull, text));
            }
        };
        if definition.payload.is_some() {
            record.value = made.value;
        }
        if definition.key.is_some() {
            record.key = made.key;
        }
        if definition.partition.is_some() {
            record.partition = made.partition;
        }
        record.headers.extend(made.headers);
        Ok(record)
    }

    /// Those that a record of `topics` may see.
    fn secrets(&self, topics: &[String]) -> Vec<(String, String)> {
        let may = |secret: &NamedSecret| {
            !topics.is_empty() && topics.iter().all(|topic| secret.topics.allows(topic))
        };
        let all = self.settings.secrets.iter().filter(|(_, secret)| may(secret));
        all.map(|(name, secret)| (name.clone(), secret.value.expose().to_owned()))
            .collect()
    }

    /// The one that a definition names.
    fn secret(&self, name: &str, topics: &[String]) -> Result<&NamedSecret, Failure> {
        let secret = self.settings.secrets.get(name);
        let secret = secret
            .ok_or_else(|| misconfigured(format!("encrypt.secret: the sidecar has no secret {name:?}")))?;
        match topics.iter().find(|topic| !secret.topics.allows(topic)) {
            None => Ok(secret),
            Some(topic) => Err(misconfigured(format!(
                "encrypt.secret: {name:?} is not for the topic {topic:?}: name it in secrets.{name}.topics"
            ))),
        }
    }
}

fn invalid(text: impl Into<String>) -> Failure {
    Failure::new(ErrorClass::InvalidRequest, text.into())
}

fn misconfigured(text: String) -> Failure {
    Failure::new(ErrorClass::RouteMisconfigured, text)
}

fn of_expression(failure: jq::Failure) -> Failure {
    match failure {
        jq::Failure::Error(why) => invalid(format!("template: {}", why.trim_start_matches('/'))),
        jq::Failure::Bound(bound) => invalid(format!("template: {bound}")),
        failure => Failure::new(ErrorClass::BufferFull, format!("template: {failure}; not stored")),
    }
}

async fn definition(template: &v1::Template) -> Result<Arc<Definition>, Failure> {
    if let Some(kept) = Definition::compiled(&template.definition) {
        return Ok(kept);
    }
    let text = template.definition.clone();
    let compiled = tokio::task::spawn_blocking(move || Definition::compile(&text)).await;
    match compiled {
        Ok(compiled) => compiled.map_err(|why| misconfigured(format!("template: {why}"))),
        Err(_) => Err(misconfigured("template: it cannot be compiled".to_owned())),
    }
}

fn size(template: &v1::Template) -> usize {
    let of = |headers: &[v1::Header]| -> usize {
        let one = |header: &v1::Header| header.name.len() + header.value.as_ref().map_or(0, Vec::len);
        headers.iter().map(one).sum()
    };
    template.definition.len()
        + template.inputs.as_ref().map_or(0, Bytes::len)
        + template.method.len()
        + template.path.len()
        + template.query.len()
        + of(&template.headers)
        + of(&template.by)
}

fn made(
    scope: &Scope,
    definition: &Definition,
    (inputs, request, trigger): (Option<&[u8]>, &Json, &Json),
    secrets: &[(String, String)],
) -> Result<Made, jq::Failure> {
    let fail = |why: String| jq::Failure::Error(why);
    let read = |json: &[u8]| Value::from_json(json);
    // By itself: JSON that is none could close the object around it.
    let inputs =
        inputs.map(|json| read(json).map_err(|why| fail(format!("/inputs: the body is not JSON: {why}"))));
    let of = |json: &Json| read(json.to_string().as_bytes()).map_err(|why| fail(why.to_string()));
    let mut members = vec![
        ("inputs", inputs.transpose()?.unwrap_or(Value::Null)),
        ("request", of(request)?),
        ("trigger", of(trigger)?),
    ];
    if !secrets.is_empty() {
        let values = secrets.iter().map(|(name, value)| {
            (
                Bytes::copy_from_slice(name.as_bytes()),
                Value::from(value.as_str()),
            )
        });
        members.push(("secrets", Value::object(values)));
    }
    let input = Value::object(members.into_iter().map(|(name, value)| (name.as_bytes(), value)));
    let text = |template: &Template| template.text_or_none(scope, &input, &[]);
    let within = |name: &'static str| move |why| under(name, why);

    let value = definition
        .payload
        .as_ref()
        .map(|payload| payload.json(scope, &input, &[]));
    let value = value.transpose().map_err(within("payload"))?;
    let key = definition
        .key
        .as_ref()
        .map(text)
        .transpose()
        .map_err(within("key"))?
        .flatten();
    if let Some(key) = key.as_ref().filter(|key| key.len() > MAX_KEY) {
        return Err(fail(format!(
            "/key: gives {} bytes; a key has at most {MAX_KEY}",
            key.len()
        )));
    }
    let partition = definition.partition.as_ref().map(text).transpose();
    let partition = partition.map_err(within("partition"))?.flatten();
    let partition = partition.map(|said| {
        partition_of(&said).ok_or_else(|| {
            fail(format!(
                "/partition: gives no whole number from 0 to {}",
                i32::MAX
            ))
        })
    });
    let mut headers = Vec::new();
    for (name, template) in &definition.headers {
        let value = text(template).map_err(|why| under("headers", under(name, why)))?;
        headers.extend(value.map(|value| v1::Header {
            name: name.clone(),
            value: Some(value.into_bytes()),
        }));
    }
    Ok(Made {
        value: value.map(Bytes::from),
        key: key.map(Bytes::from),
        partition: partition.transpose()?,
        headers,
    })
}

fn partition_of(said: &str) -> Option<i32> {
    // `parse` takes a sign too.
    let digits = said.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| said.parse().ok()).flatten()
}
