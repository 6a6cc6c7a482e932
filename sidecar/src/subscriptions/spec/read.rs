//! From a mapping to a [`Spec`].

use std::collections::BTreeMap;

use sluice_settings::Section;

use super::{Sink, Source, Spec, Topics, options};
use crate::config::{Cluster, check_topic, topics_pattern};
use crate::subscriptions::sink::{Secrets, Target};

/// The longest pattern, in bytes.
const PATTERN: usize = 1000;
/// The most topics that are named.
const TOPICS: usize = 1000;
/// The longest URL, in bytes.
const URL: usize = 8192;

/// What a subscription may refer to.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// The clusters that there are.
    pub clusters: &'a BTreeMap<String, Cluster>,
    /// The topic that held events are kept in: it is no source.
    pub held_topic: &'a str,
    /// Where secrets are from that need not be written where they are used.
    pub secrets: &'a dyn Secrets,
}

impl Spec {
    /// Reads `{source, sink, options}`, and says everything that is wrong with it. The section is finished: it has no other
    /// fields than `also`, which the caller reads by itself.
    pub fn read(section: Section<'_>, also: &[&str], scope: Scope<'_>) -> Option<Self> {
        for key in also {
            section.raw(key);
        }
        let text = required(&section, "source", "kafka://<cluster>/<topic>");
        let source = text.and_then(|text| match self::source(&text, scope) {
            Ok(source) => Some(source),
            Err(why) => {
                section.problem("source", why);
                None
            }
        });
        let text = required(
            &section,
            "sink",
            "https://<host>/<path> or service://<service>/<handler>",
        );
        let sink = text.and_then(|text| match self::sink(&text) {
            Ok(sink) => Some(sink),
            Err(why) => {
                section.problem("sink", why);
                None
            }
        });
        let cluster = source
            .as_ref()
            .and_then(|source| scope.clusters.get(&source.cluster));
        let options = options::read(&section, cluster, scope.secrets);
        let written = source
            .as_ref()
            .and_then(|source| options.writes().find(|topic| source.has(topic)));
        if let Some(topic) = written {
            section.problem(
                "source",
                format!("has {topic:?}, which the subscription writes itself: it would never end"),
            );
        }
        section.finish();
        Some(options.into_spec(source?, sink?))
    }
}

impl Source {
    /// Whether `topic` is one of its topics.
    pub fn has(&self, topic: &str) -> bool {
        match &self.topics {
            Topics::Names(names) => names.iter().any(|name| name == topic),
            // Kafka's own topics, and those of its like, are no pattern's.
            Topics::Pattern(_, pattern) => !topic.starts_with("__") && pattern.is_match(topic),
        }
    }
}

fn required(section: &Section<'_>, key: &str, like: &str) -> Option<String> {
    if section.raw(key).is_none() {
        section.problem(key, format!("is required, as {like}"));
    }
    section.name(key)
}

fn source(text: &str, scope: Scope<'_>) -> Result<Source, String> {
    const LIKE: &str = "must be kafka://<cluster>/<topic>, or several topics with commas between them, or \
                        kafka://<cluster>/~<pattern>";
    let (cluster, topics) = text
        .strip_prefix("kafka://")
        .and_then(|rest| rest.split_once('/'))
        .ok_or(LIKE)?;
    let known = scope.clusters.get(cluster);
    let Some(known) = known else {
        return Err(format!("no cluster is named {cluster:?}"));
    };
    if known.callers.is_some() {
        return Err(format!(
            "cluster {cluster:?} is used with its callers' own tokens (`credentials: from_request`), and a subscription has none"
        ));
    }
    if !known.consumes {
        return Err(format!("clusters.{cluster}.consumer.enabled is false"));
    }
    let topics = match topics.strip_prefix('~') {
        Some(pattern) if pattern.len() > PATTERN => {
            return Err(format!("the pattern must have at most {PATTERN} bytes"));
        }
        Some(pattern) => {
            let regex = topics_pattern(pattern).map_err(|why| format!("the pattern {why}"))?;
            Topics::Pattern(pattern.to_owned(), regex)
        }
        None => {
            let names: Vec<String> = topics.split(',').map(str::to_owned).collect();
            if names.len() > TOPICS {
                return Err(format!(
                    "must name at most {TOPICS} topics; a pattern has any number"
                ));
            }
            for (at, name) in names.iter().enumerate() {
                check_topic(name).map_err(|why| format!("topic {name:?}: {why}"))?;
                if names.iter().take(at).any(|other| other == name) {
                    return Err(format!("topic {name:?} is here twice"));
                }
            }
            Topics::Names(names)
        }
    };
    let source = Source {
        cluster: cluster.to_owned(),
        topics,
    };
    if source.has(scope.held_topic) {
        return Err(format!(
            "has {:?}, where events are kept that are to be tried again: it cannot be a source",
            scope.held_topic
        ));
    }
    Ok(source)
}

fn sink(text: &str) -> Result<Sink, String> {
    if text.len() > URL {
        return Err(format!("must have at most {URL} bytes"));
    }
    if let Some(rest) = text.strip_prefix("service://") {
        let like = "must be service://<service>/<handler>";
        let (service, handler) = rest.split_once('/').ok_or(like)?;
        if service.is_empty() || handler.is_empty() || handler.contains('/') {
            return Err(like.to_owned());
        }
        return Ok(Sink::Service {
            service: service.to_owned(),
            handler: handler.to_owned(),
        });
    }
    let is_url = ["http://", "https://"]
        .iter()
        .any(|scheme| text.starts_with(scheme));
    if !is_url {
        return Err("must be http://…, https://… or service://<service>/<handler>".to_owned());
    }
    Target::webhook(text)?;
    Ok(Sink::Url(text.to_owned()))
}
