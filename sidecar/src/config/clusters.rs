//! `clusters:`.

use std::collections::BTreeMap;

use serde_json::Value;
use sluice_settings::Section;

use super::properties::{Owner, Properties};
use super::read::{Context, check_name, check_topic};
use super::{Cluster, TopicAllowlist};

/// Kafka's usual port.
const KAFKA_PORT: i64 = 9092;

pub(super) fn read(root: &Section<'_>, context: &Context<'_>) -> BTreeMap<String, Cluster> {
    let mut clusters = BTreeMap::new();
    for (name, section) in root.named_sections("clusters").unwrap_or_default() {
        check_name(&section, &name, context);
        clusters.insert(name, read_one(section, context));
    }
    let mistyped = root.raw("clusters").is_some_and(|value| !value.is_object());
    if clusters.is_empty() && !mistyped {
        root.problem(
            "clusters",
            "at least one is required, as {main: {bootstrap_servers: \"kafka:9092\"}}",
        );
    }
    clusters
}

fn read_one(section: Section<'_>, context: &Context<'_>) -> Cluster {
    let bootstrap_servers = bootstrap_servers(&section, context);
    let mut properties = Properties::new(Owner::Cluster);
    properties.read(&section, context);
    let allowed_topics = allowed_topics(&section, context);
    section.finish();
    Cluster {
        bootstrap_servers,
        properties: properties.into_map(),
        allowed_topics,
    }
}

fn bootstrap_servers(section: &Section<'_>, context: &Context<'_>) -> Vec<String> {
    const KEY: &str = "bootstrap_servers";
    match section.raw(KEY) {
        None => section.problem(KEY, "is required, as \"kafka:9092\""),
        Some(Value::String(text)) => {
            let parts = text.split(',').map(str::trim);
            return parts.filter_map(|part| server(section, KEY, part)).collect();
        }
        Some(Value::Array(items)) if items.is_empty() => section.problem(KEY, "must not be empty"),
        Some(Value::Array(items)) => {
            let one = |(i, item): (usize, &Value)| {
                let key = format!("{KEY}[{i}]");
                match item {
                    Value::String(text) => server(section, &key, text),
                    other => host_and_port(Section::at(other, section.path_of(&key), context.problems)),
                }
            };
            return items.iter().enumerate().filter_map(one).collect();
        }
        Some(_) => section.problem(
            KEY,
            "must be \"host:port,host:port\" or a list of {host: …, port: …}",
        ),
    }
    Vec::new()
}

/// `{host: …, port: …}`, as Kong writes a broker.
fn host_and_port(section: Section<'_>) -> Option<String> {
    let host = section.name("host");
    if section.keys().next().is_some() && section.raw("host").is_none() {
        section.problem("host", "is required");
    }
    let port = section.integer("port", 1..=65535).unwrap_or(KAFKA_PORT);
    let host = host.map(|host| {
        if host.contains(':') && !host.starts_with('[') {
            format!("[{host}]")
        } else {
            host
        }
    });
    let server = server(&section, "host", &format!("{}:{port}", host?));
    section.finish();
    server
}

fn server(section: &Section<'_>, key: &str, text: &str) -> Option<String> {
    let (host, port) = match text.rsplit_once(':') {
        // The colons of a bare IPv6 address in brackets are not before a port.
        Some((host, port)) if !port.ends_with(']') => (host, port.parse::<u16>().ok().filter(|p| *p > 0)),
        _ => (text, u16::try_from(KAFKA_PORT).ok()),
    };
    let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    let wrong = host.is_empty() || bare_v6 || host.contains(|c: char| c.is_whitespace() || c == '/');
    let Some(port) = port.filter(|_| !wrong) else {
        section.problem(key, format!("{text:?} is not host:port"));
        return None;
    };
    Some(format!("{host}:{port}"))
}

fn allowed_topics(section: &Section<'_>, context: &Context<'_>) -> TopicAllowlist {
    let entries = section.strings("allowed_topics");
    if section.raw("allowed_topics").is_none() {
        context.warnings.report(
            section.path_of("allowed_topics"),
            "is not set: no topic of this cluster may be written",
        );
    }
    let entries = entries.unwrap_or_default();
    for (i, entry) in entries.iter().enumerate() {
        let name = entry.strip_suffix('*').unwrap_or(entry);
        if entry == "*" {
            continue;
        }
        if check_topic(name).is_err() {
            section.problem(
                &format!("allowed_topics[{i}]"),
                format!("{entry:?} is neither a topic's name nor the start of one with a `*` at its end"),
            );
        }
    }
    TopicAllowlist(entries)
}
