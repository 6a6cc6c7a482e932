//! From a record with a template to the record that it makes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use sluice_proto::v1::{self, ErrorClass};

use super::context::{self, Wrong};
use super::definition::{Definition, Topic};
use super::evaluate::made;
use super::fault::{Cause, Fault};
use super::{Named, NamedSecret, Settings, Write};
use crate::jq::{self, Limits};
use crate::kafka::record::Failure;
use crate::metrics::TemplateMetrics;

/// What a record takes that waits, beside its bytes.
const OVERHEAD: usize = 1024;
/// How many of the topics that a template may choose an error names.
const TOPICS_TOLD: usize = 20;

/// Makes records of templates.
pub struct Templates {
    settings: Settings,
    /// Those of the settings, as their files have them by now.
    secrets: RwLock<BTreeMap<String, NamedSecret>>,
    waiting: AtomicUsize,
    metrics: TemplateMetrics,
}

/// Records that wait for their expressions, counted until it is dropped.
pub struct Waiting {
    of: Arc<Templates>,
    bytes: usize,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.of.waiting.fetch_sub(self.bytes, Ordering::AcqRel);
        self.of.metrics.waits_no_more(self.bytes);
    }
}

/// A record that was made.
#[derive(Debug)]
pub struct Rendered {
    /// It; without a template.
    pub record: v1::Record,
    /// Its topic, if its template chose that.
    pub topic: Option<String>,
}

impl Templates {
    /// With those bounds, templates and secrets; it counts in `metrics`.
    pub fn new(mut settings: Settings, metrics: TemplateMetrics) -> Arc<Self> {
        Arc::new(Self {
            secrets: RwLock::new(std::mem::take(&mut settings.secrets)),
            settings,
            waiting: AtomicUsize::new(0),
            metrics,
        })
    }

    /// Whether any record waits.
    pub fn is_idle(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }

    /// The entry of `writes` for a topic of a cluster, and the template that it names.
    pub fn of_topic(&self, cluster: &str, topic: &str) -> Option<(&Write, &Named)> {
        let of = |write: &&Write| write.cluster == cluster && write.topics.allows(topic);
        let write = self.settings.writes.iter().find(of)?;
        Some((write, self.settings.named.get(&write.template)?))
    }

    /// Has records use a secret as it is in `to` from now on, be it a new one. Whether it was another before.
    pub fn renew(&self, name: &str, to: NamedSecret) -> bool {
        let mut secrets = self.secrets.write().unwrap_or_else(PoisonError::into_inner);
        if secrets.get(name) == Some(&to) {
            return false;
        }
        secrets.insert(name.to_owned(), to);
        true
    }

    /// Takes away the secrets that `stays` does not name: gives the names of those.
    pub fn take_away(&self, stays: impl Fn(&str) -> bool) -> Vec<String> {
        let mut secrets = self.secrets.write().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<String> = secrets.keys().filter(|name| !stays(name)).cloned().collect();
        for name in &gone {
            secrets.remove(name);
        }
        gone
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
        let admitted = self
            .waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
        if admitted.is_err() {
            self.metrics.failed(Cause::NoRoom.name());
            let text = format!(
                "records that wait for their templates take templates.max_waiting_bytes, {most}, already; not stored"
            );
            return Err(Failure::new(ErrorClass::BufferFull, text));
        }
        self.metrics.waits(bytes);
        Ok(Waiting {
            of: Arc::clone(self),
            bytes,
        })
    }

    /// Makes the record, until `deadline` at the latest. What has no template is as it was.
    ///
    /// # Errors
    /// What is wrong with its template or what an expression says is wrong, and in which field; which bound was reached; that
    /// the topic which it chooses is none that it may choose.
    pub async fn render(&self, mut record: v1::Record, deadline: Instant) -> Result<Rendered, Failure> {
        let Some(template) = record.template.take() else {
            let topic = None;
            return Ok(Rendered { record, topic });
        };
        let begun = Instant::now();
        let made = self.made(record, template, deadline).await;
        match &made {
            Ok(_) => self.metrics.rendered(begun.elapsed()),
            Err(fault) => self.metrics.failed(fault.cause.name()),
        }
        made.map_err(|fault| fault.failure)
    }

    async fn made(
        &self,
        mut record: v1::Record,
        mut template: v1::Template,
        deadline: Instant,
    ) -> Result<Rendered, Fault> {
        let at = SystemTime::now();
        let topics = std::mem::take(&mut template.topics);
        match record.topics.is_empty() {
            true => record.topics = topics,
            false if !topics.is_empty() => {
                return Err(Fault::request(
                    "the record names topics, and its template too: name them in one place",
                ));
            }
            false => {}
        }
        let asked = definition(&template).await?;
        let definition = match &asked.name {
            None => Arc::clone(&asked),
            Some(name) => self.named(name, &asked)?,
        };
        // Where it may end up, all of it: what it sees of secrets is not to depend on what it chooses.
        let mut may_go = record.topics.clone();
        if let Some(topic) = &definition.topic {
            may_go.extend(topic.allowed.iter().cloned());
        }
        let secrets = match definition.names_secrets {
            true => self.secrets_for(&may_go),
            false => Vec::new(),
        };
        if let Some(encrypt) = &definition.encrypt
            && let Some(body) = &template.inputs
        {
            let secret = self.secret(&encrypt.secret, &may_go)?;
            let sealed = context::encrypted(body, encrypt, secret.value.expose().as_bytes());
            template.inputs = Some(sealed.map(Bytes::from).map_err(|wrong| match wrong {
                Wrong::Body(why) => Fault::request(format!("the body is not JSON: {why}")),
                Wrong::Secret(why) => {
                    Fault::misconfigured(format!("encrypt.secret: {:?} {why}", encrypt.secret))
                }
            })?);
        }
        let request = context::request(&template);
        let origin = asked.origin.as_deref().or(definition.origin.as_deref());
        let operation = asked.operation.as_deref().or(definition.operation.as_deref());
        let trigger = context::trigger((origin, operation), &template, at).map_err(Fault::request)?;
        let limits = Limits {
            time: self.settings.timeout,
            output: self.settings.max_output_bytes,
            ..Limits::default()
        };
        let withholds = !secrets.is_empty();
        let made_of = Arc::clone(&definition);
        let run = jq::run(move |turn| {
            turn.within(limits, |scope| {
                if withholds {
                    scope.withhold();
                }
                let parts = (template.inputs.as_deref(), &request, &trigger);
                made(scope, &made_of, parts, &secrets)
            })
        });
        let ran = tokio::time::timeout_at(deadline.into(), run).await;
        let made = ran.map_err(|_| Fault::late())?;
        let made = made.flatten().map_err(Fault::of_expression)?;
        let chosen = match &definition.topic {
            None => None,
            Some(topic) => chosen(topic, made.topic, &record.topics, withholds)?,
        };
        if let Some(topic) = &chosen {
            record.topics = vec![topic.clone()];
        }
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
        let topic = chosen;
        Ok(Rendered { record, topic })
    }

    /// The definition that one by name stands for.
    fn named(&self, name: &str, asked: &Definition) -> Result<Arc<Definition>, Fault> {
        let named = self.settings.named.get(name);
        let named =
            named.ok_or_else(|| Fault::misconfigured(format!("the sidecar has no template {name:?}")))?;
        if asked.whole && !named.definition.makes_value() {
            return Err(Fault::misconfigured(format!(
                "the sidecar's template {name:?} has no payload, and the route sends no value: set `value` there"
            )));
        }
        Ok(Arc::clone(&named.definition))
    }

    /// Those that a record of `topics` may see.
    fn secrets_for(&self, topics: &[String]) -> Vec<(String, String)> {
        let may = |secret: &NamedSecret| {
            !topics.is_empty() && topics.iter().all(|topic| secret.topics.allows(topic))
        };
        let secrets = self.secrets.read().unwrap_or_else(PoisonError::into_inner);
        let all = secrets.iter().filter(|(_, secret)| may(secret));
        all.map(|(name, secret)| (name.clone(), secret.value.expose().to_owned()))
            .collect()
    }

    /// The one that a definition names.
    fn secret(&self, name: &str, topics: &[String]) -> Result<NamedSecret, Fault> {
        let secrets = self.secrets.read().unwrap_or_else(PoisonError::into_inner);
        let secret = secrets.get(name).cloned();
        let secret = secret.ok_or_else(|| {
            Fault::misconfigured(format!("encrypt.secret: the sidecar has no secret {name:?}"))
        })?;
        match topics.iter().find(|topic| !secret.topics.allows(topic)) {
            None => Ok(secret),
            Some(topic) => Err(Fault::misconfigured(format!(
                "encrypt.secret: {name:?} is not for the topic {topic:?}: name it in secrets.{name}.topics"
            ))),
        }
    }
}

/// The topic that was chosen, if one was: it must be one of those that may be. What it is is not told where it may be a secret.
fn chosen(
    topic: &Topic,
    gave: Option<String>,
    own: &[String],
    withholds: bool,
) -> Result<Option<String>, Fault> {
    let may = |name: &&String| gave.as_ref() == Some(name);
    let all = || own.iter().chain(&topic.allowed);
    if let Some(found) = all().find(may) {
        return Ok(Some(found.clone()));
    }
    let mut listed: Vec<String> = all().take(TOPICS_TOLD).cloned().collect();
    let more = all().count() - listed.len();
    if more > 0 {
        listed.push(format!("and {more} more"));
    }
    let listed = listed.join(", ");
    let text: String = topic.text.chars().take(100).collect();
    match gave {
        None if !own.is_empty() => Ok(None),
        None => Err(Fault::request(format!(
            "template: topic: {text} gives nothing, and the record has no topic without it: it may choose {listed}"
        ))),
        Some(gave) => {
            let shown: String = gave.chars().take(100).collect();
            let gave = match withholds {
                true => "gives a topic".to_owned(),
                false => format!("gives {shown:?},"),
            };
            Err(Fault::topic(format!(
                "template: topic: {text} {gave} which it may not choose: it may choose {listed}"
            )))
        }
    }
}

async fn definition(template: &v1::Template) -> Result<Arc<Definition>, Fault> {
    if let Some(kept) = Definition::compiled(&template.definition) {
        return Ok(kept);
    }
    let text = template.definition.clone();
    let compiled = tokio::task::spawn_blocking(move || Definition::compile(&text)).await;
    match compiled {
        Ok(compiled) => compiled.map_err(|why| Fault::misconfigured(format!("template: {why}"))),
        Err(_) => Err(Fault::misconfigured("template: it cannot be compiled")),
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
