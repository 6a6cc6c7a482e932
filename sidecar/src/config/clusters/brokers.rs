//! A cluster's brokers: `bootstrap_servers`, or `brokers` as Restate writes them.

use serde_json::Value;
use sluice_settings::Section;

use super::protocol::{self, Protocol};
use crate::config::read::Context;

/// Kafka's usual port.
const KAFKA_PORT: i64 = 9092;

/// Where to begin.
pub(super) struct Brokers {
    /// `host:port` each.
    pub(super) servers: Vec<String>,
    /// What their addresses say of the protocol, with the path of each that does.
    pub(super) schemes: Vec<(String, Protocol)>,
}

pub(super) fn read(section: &Section<'_>, context: &Context<'_>) -> Brokers {
    let Some(items) = section.raw("brokers") else {
        return Brokers {
            servers: bootstrap_servers(section, context),
            schemes: Vec::new(),
        };
    };
    section.refuse("bootstrap_servers", "is the same as `brokers`: keep one");
    let mut brokers = Brokers {
        servers: Vec::new(),
        schemes: Vec::new(),
    };
    match items {
        Value::Array(items) if items.is_empty() => section.problem("brokers", "must not be empty"),
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                let key = format!("brokers[{i}]");
                match item {
                    Value::String(text) => brokers.add(section, &key, text),
                    _ => section.problem(&key, "must be a string, as \"PLAINTEXT://kafka:9092\""),
                }
            }
        }
        _ => section.problem("brokers", "must be a list, as [\"PLAINTEXT://kafka:9092\"]"),
    }
    brokers
}

impl Brokers {
    /// One of `brokers`: `host:port`, with or without a scheme before it.
    fn add(&mut self, section: &Section<'_>, key: &str, text: &str) {
        let address = match text.split_once("://") {
            None => text,
            Some((scheme, address)) => {
                match protocol::parse(scheme) {
                    Some(protocol) => self.schemes.push((section.path_of(key), protocol)),
                    None => section.problem(
                        key,
                        format!(
                            "{scheme:?} is no protocol of Kafka's: write PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
                        ),
                    ),
                }
                address.trim_end_matches('/')
            }
        };
        self.servers.extend(server(section, key, address));
    }
}

/// `bootstrap_servers`: Kong's list, or text.
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
