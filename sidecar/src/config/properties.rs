//! librdkafka properties as the configuration sets them: each once, under one name.

use std::collections::BTreeMap;

use serde_json::Value;
use sluice_settings::Section;

use super::Secret;
use super::read::Context;
use super::secret;
use crate::kafka::properties::{self, Kind};

const PRODUCERS: &str = "is a producer's: set it in `properties` of a profile in `producers`";

/// Whose `properties:` they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// A cluster's: for every client of it.
    Cluster,
    /// A profile's: for its producers.
    Profile,
}

/// A property, and the path that set it.
#[derive(Debug, Clone)]
pub(super) struct Set {
    pub(super) path: String,
    pub(super) value: Secret,
}

/// The properties set so far, by their canonical names.
#[derive(Debug)]
pub(super) struct Properties {
    owner: Owner,
    set: BTreeMap<String, Set>,
    /// Those of Java clients that Sluice itself has a use for, and librdkafka none.
    own: Vec<&'static str>,
}

impl Properties {
    pub(super) fn new(owner: Owner) -> Self {
        Self {
            owner,
            set: BTreeMap::new(),
            own: Vec::new(),
        }
    }

    /// Sets `name`, a canonical one, on behalf of the field `key`.
    pub(super) fn set(&mut self, section: &Section<'_>, key: &str, name: &str, value: String) {
        let set = Set {
            path: section.path_of(key),
            value: Secret::new(value),
        };
        if let Some(other) = self.set.get(name) {
            section.problem(
                key,
                format!("is set by {} too, which means the same: keep one", other.path),
            );
            return;
        }
        self.set.insert(name.to_owned(), set);
    }

    /// `name` is for Sluice itself, and read already.
    pub(super) fn is_read(&mut self, name: &'static str) {
        self.own.push(name);
    }

    /// Reads the section's `properties:`.
    pub(super) fn read(&mut self, section: &Section<'_>, context: &Context<'_>) {
        let Some(properties) = section.section("properties") else {
            return;
        };
        for name in properties.keys() {
            let value = properties.raw(name).unwrap_or(&Value::Null);
            if self.own.contains(&name) {
                continue;
            }
            if let Some(why) = self.refuse(name) {
                properties.problem(name, why);
                continue;
            }
            let path = properties.path_of(name);
            let Some((value, origin)) = secret::read(value, &path, context) else {
                continue;
            };
            match properties::check(name, value.expose()) {
                Ok(()) => {
                    if properties::is_secret(name) {
                        secret::warn_of_inline(origin, path, "a secret", context);
                    }
                    let value = value.expose().to_owned();
                    self.set(&properties, name, properties::canonical(name), value);
                }
                Err(why) => properties.problem(name, why),
            }
        }
    }

    /// Why `name` cannot be set here, with the place where it can.
    fn refuse(&self, name: &str) -> Option<&'static str> {
        match properties::canonical(name) {
            "bootstrap.servers" => return Some("goes to `bootstrap_servers` of the cluster"),
            "allow.auto.create.topics" => return Some("goes to `allow_auto_create_topics` of a profile"),
            "transactional.id" | "transaction.timeout.ms" => {
                return Some("Sluice writes records one by one, without transactions");
            }
            "delivery.report.only.error" | "produce.offset.report" => {
                return Some("Sluice needs the report of every record");
            }
            "enabled_events" | "log.queue" | "opaque" | "default_topic_conf" | "interceptors" => {
                return Some("Sluice sets it itself");
            }
            "sasl.oauthbearer.token.endpoint.url" => {
                return Some(
                    "belongs to the `clientId` of a `sasl_jaas_config`; without one it is \
                     `authentication.oauthbearer.token_endpoint_url`",
                );
            }
            "statistics.interval.ms" => return Some("Sluice sets it itself; see /metrics"),
            // Every client has it, and only producers have a use for it: idempotence depends on it.
            "max.in.flight.requests.per.connection" if self.owner == Owner::Cluster => {
                return Some(PRODUCERS);
            }
            "group.id" | "group.instance.id" | "enable.auto.commit" | "enable.auto.offset.store"
                if self.owner == Owner::Cluster =>
            {
                return Some("Sluice reads without a consumer group here");
            }
            _ => {}
        }
        if name.starts_with("test.mock.") {
            return Some("goes to `dev_broker`");
        }
        if name.ends_with("_cb") {
            return Some("is a callback, which only code can set");
        }
        match (self.owner, properties::kind(name)) {
            (Owner::Cluster, Kind::Producer) => Some(PRODUCERS),
            (Owner::Profile, Kind::Consumer) => Some("is a consumer's, and a profile is for producers"),
            _ => None,
        }
    }

    /// What set `name`, a canonical one, and to what.
    pub(super) fn get(&self, name: &str) -> Option<&Set> {
        self.set.get(name)
    }

    /// Whether there is one whose name begins like that.
    pub(super) fn any_starting_with(&self, prefix: &str) -> bool {
        self.set.keys().any(|name| name.starts_with(prefix))
    }

    /// The paths that set those whose names begin like that.
    pub(super) fn starting_with(&self, prefix: &str) -> impl Iterator<Item = &str> {
        self.named(prefix).map(|(_, set)| set.path.as_str())
    }

    /// Those whose names begin like that.
    pub(super) fn named(&self, prefix: &str) -> impl Iterator<Item = (&str, &Set)> {
        let found = self.set.iter().filter(move |(name, _)| name.starts_with(prefix));
        found.map(|(name, set)| (name.as_str(), set))
    }

    /// Takes `name` out.
    pub(super) fn take(&mut self, name: &str) -> Option<Set> {
        self.set.remove(name)
    }

    /// Names and values. Notes which field of the section set each.
    pub(super) fn into_map(self, section: &Section<'_>, context: &Context<'_>) -> BTreeMap<String, Secret> {
        let mut fields = context.fields.borrow_mut();
        let one = |(name, set): (String, Set)| {
            fields.insert(section.path_of(&format!("properties.{name}")), set.path);
            (name, set.value)
        };
        self.set.into_iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests;
