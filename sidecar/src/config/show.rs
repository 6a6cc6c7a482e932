//! The configuration that is in force, line by line, without secrets, and where each value is from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use super::env::Overrides;
use super::{
    Address, Config, DeadLetters, DevBroker, HeldTopic, Idempotency, Listener, Listeners, Spool, State,
};
use crate::kafka::log;

/// Where values are from.
#[derive(Debug, Default)]
pub struct Origins {
    /// By path, what a variable set.
    pub(super) overrides: Overrides,
    /// By path, what the platform told.
    pub(super) platform: Vec<(String, String)>,
    /// Every path that is set at all.
    pub(super) set: BTreeSet<String>,
    /// By the path of a property, that of the field which stands for it.
    pub(super) fields: BTreeMap<String, String>,
}

impl Origins {
    /// Notes every path of the tree.
    pub(super) fn note(&mut self, tree: &Value, path: &str) {
        let mut go = |key: String, value: &Value| {
            if !value.is_null() {
                self.note(value, &key);
                self.set.insert(key);
            }
        };
        match tree {
            Value::Object(map) => {
                for (key, value) in map {
                    let dot = if path.is_empty() { "" } else { "." };
                    go(format!("{path}{dot}{key}"), value);
                }
            }
            Value::Array(items) => {
                for (i, value) in items.iter().enumerate() {
                    go(format!("{path}[{i}]"), value);
                }
            }
            _ => {}
        }
    }

    /// What the value at `path` is from.
    fn of(&self, path: &str) -> String {
        if let Some(field) = self.fields.get(path).filter(|field| *field != path) {
            return format!("{field}, {}", self.of(field));
        }
        if let Some(variable) = self.overrides.origin(path) {
            return variable.to_owned();
        }
        if let Some((_, source)) = self.platform.iter().find(|(set, _)| set == path) {
            return source.clone();
        }
        if let Some(variable) = self.overrides.origin_below(path) {
            return format!("the file, and {variable}");
        }
        if self.set.contains(path) {
            "the file"
        } else {
            "default"
        }
        .to_owned()
    }
}

/// Every value of `config`.
pub fn show(config: &Config, origins: &Origins) -> String {
    let mut page = Page {
        text: String::new(),
        origins,
    };
    // In full, so that no field is forgotten here.
    let Config {
        listeners: Listeners { stream, data, admin },
        clusters,
        default_cluster,
        producers,
        max_producers,
        answer_timeout,
        max_request_bytes,
        grace_period,
        spool,
        idempotency,
        dev_broker,
        reload_interval,
        source: _,
        jwt,
        reads,
        max_readers,
        max_members,
        subscriptions,
        held,
        state,
        egress,
        templates,
        replies,
        actions,
    } = config;
    for (name, listener) in [("stream", stream), ("data", data), ("admin", admin)] {
        page.listener(&format!("listeners.{name}"), listener);
    }
    for (name, cluster) in clusters {
        page.cluster(&format!("clusters.{name}"), cluster);
    }
    page.line("default_cluster", default_cluster.as_deref().unwrap_or("none"));
    for (name, profile) in producers {
        page.profile(&format!("producers.{name}"), profile);
    }
    page.line("max_producers", max_producers);
    page.line("answer_timeout", humantime::format_duration(*answer_timeout));
    page.line("max_request_bytes", max_request_bytes);
    page.line("grace_period", humantime::format_duration(*grace_period));
    page.line("reload_interval", humantime::format_duration(*reload_interval));
    match spool {
        None => page.line("spool", "none"),
        Some(Spool {
            directory,
            max_bytes,
            max_age,
            grace,
            dead_letters,
        }) => {
            page.line("spool.directory", directory.display());
            page.line("spool.max_bytes", max_bytes);
            page.line("spool.max_age", humantime::format_duration(*max_age));
            page.line("spool.grace", humantime::format_duration(*grace));
            match dead_letters {
                None => page.line("spool.dead_letters", "none"),
                Some(DeadLetters {
                    topic,
                    cluster,
                    producer,
                }) => {
                    page.line("spool.dead_letters.topic", topic);
                    page.line(
                        "spool.dead_letters.cluster",
                        cluster.as_deref().unwrap_or("the record's own"),
                    );
                    page.line("spool.dead_letters.producer", producer);
                }
            }
        }
    }
    match idempotency {
        None => page.line("idempotency", "none"),
        Some(Idempotency {
            directory,
            max_keys,
            window,
        }) => {
            page.line("idempotency.directory", directory.display());
            page.line("idempotency.max_keys", max_keys);
            page.line("idempotency.window", humantime::format_duration(*window));
        }
    }
    match dev_broker {
        None => page.line("dev_broker", "none"),
        Some(DevBroker {
            address,
            topics,
            default_partitions,
        }) => {
            page.line("dev_broker.address", address);
            let topics = topics
                .iter()
                .map(|(name, partitions)| format!("{name} with {partitions} partitions"));
            page.list("dev_broker.topics", topics);
            page.line("dev_broker.default_partitions", default_partitions);
        }
    }
    for (name, provider) in jwt {
        page.provider(&format!("jwt.{name}"), provider.settings());
    }
    if reads.is_empty() {
        page.line("reads", "none");
    }
    for (i, read) in reads.iter().enumerate() {
        page.read(&format!("reads[{i}]"), read);
    }
    page.templates(templates);
    page.replies(replies);
    page.line("max_readers", max_readers);
    page.line("max_members", max_members);
    if subscriptions.is_empty() {
        page.line("subscriptions", "none");
    }
    for (id, spec) in subscriptions {
        page.subscription(&format!("subscriptions.{id}"), spec);
    }
    let HeldTopic {
        topic,
        partitions,
        replication_factor,
    } = held;
    page.line("held.topic", topic);
    page.line("held.partitions", partitions);
    match replication_factor {
        Some(factor) => page.line("held.replication_factor", factor),
        None => page.line("held.replication_factor", "the brokers'"),
    }
    page.state(state.as_ref());
    page.orgs(actions.as_ref());
    page.list("egress.allow", egress.entries());
    page.text
}

/// A cluster's lines, and a profile's.
mod cluster;
/// What organisations have.
mod orgs;
/// What may be read, and an issuer's lines.
mod read;
/// Where replies come.
mod replies;
/// What a subscription's options say of its sink.
mod sink;
/// One subscription's lines.
mod subscription;
#[cfg(test)]
mod tests;

struct Page<'a> {
    text: String,
    origins: &'a Origins,
}

impl Page<'_> {
    fn state(&mut self, state: Option<&State>) {
        let Some(State { cluster, log }) = state else {
            self.line("state", "none");
            return;
        };
        self.kept("state", cluster, log);
    }

    /// Where something is kept that every sidecar shares.
    fn kept(&mut self, path: &str, cluster: &str, log: &log::Settings) {
        let log::Settings {
            topic,
            replication_factor,
            min_insync_replicas,
        } = log;
        let count =
            |count: &Option<i32>| count.map_or_else(|| "the brokers' own".to_owned(), |n| n.to_string());
        self.line(&format!("{path}.cluster"), cluster);
        self.line(&format!("{path}.topic"), topic);
        self.line(&format!("{path}.replication_factor"), count(replication_factor));
        self.line(&format!("{path}.min_insync_replicas"), count(min_insync_replicas));
    }

    fn line(&mut self, path: &str, value: impl fmt::Display) {
        let origin = self.origins.of(path);
        self.text.push_str(&format!("{path}: {value} ({origin})\n"));
    }

    fn list(&mut self, path: &str, items: impl Iterator<Item = String>) {
        let items: Vec<String> = items.collect();
        let joined = if items.is_empty() {
            "none".to_owned()
        } else {
            items.join(", ")
        };
        self.line(path, joined);
    }

    fn listener(&mut self, path: &str, listener: &Listener) {
        let Listener {
            address,
            tokens,
            max_connections,
            xff_num_trusted_hops,
        } = listener;
        match address {
            Address::Tcp(address) => self.line(&format!("{path}.address"), address),
            Address::Unix { path: socket, mode } => {
                self.line(&format!("{path}.path"), socket.display());
                self.line(&format!("{path}.mode"), format_args!("0{mode:o}"));
            }
        }
        self.list(&format!("{path}.tokens"), tokens.iter().map(|_| "***".to_owned()));
        self.line(&format!("{path}.max_connections"), max_connections);
        if path.ends_with(".data") {
            self.line(&format!("{path}.xff_num_trusted_hops"), xff_num_trusted_hops);
        }
    }

    fn templates(&mut self, settings: &crate::templates::Settings) {
        let crate::templates::Settings {
            timeout,
            max_output_bytes,
            max_waiting_bytes,
            secrets,
            named,
            writes,
        } = settings;
        self.line("templates.timeout", humantime::format_duration(*timeout));
        self.line("templates.max_output_bytes", max_output_bytes);
        self.line("templates.max_waiting_bytes", max_waiting_bytes);
        for (name, template) in named {
            // What it is made of may hold what is nobody else's business.
            let path = format!("templates.named.{name}");
            let made = template.definition.parts().into_iter().map(str::to_owned);
            self.list(&path, made);
            if !template.by.is_empty() {
                let by = template
                    .by
                    .iter()
                    .map(|(name, header)| format!("{name}: header {header}"));
                self.list(&format!("{path}.trigger.by"), by);
            }
        }
        if writes.is_empty() {
            self.line("writes", "none");
        }
        for (i, write) in writes.iter().enumerate() {
            self.line(&format!("writes[{i}].cluster"), &write.cluster);
            self.list(&format!("writes[{i}].topics"), write.topics.0.iter().cloned());
            self.line(&format!("writes[{i}].template"), &write.template);
        }
        if secrets.is_empty() {
            self.line("secrets", "none");
        }
        for (name, secret) in secrets {
            self.line(&format!("secrets.{name}.value"), "***");
            self.list(&format!("secrets.{name}.topics"), secret.topics.0.iter().cloned());
        }
    }
}
