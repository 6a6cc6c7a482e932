//! The configuration that is in force, line by line, without secrets, and where each value is from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use super::env::Overrides;
use super::{
    Address, AwsIam, AwsKeys, AwsRole, BearerToken, Bearers, Callers, ClaimedTopics, Cluster, Config,
    DeadLetters, DelegationToken, DevBroker, HeldTopic, Idempotency, Kerberos, Listener, Listeners, Profile,
    Read, ReadGroups, ReadTopics, Reset, Said, ScramHash, Secret, Spool, State, TokenSource,
};
use crate::auth::jwt::{Jwks, Settings};
use crate::fetch::Trust;
use crate::kafka::log;
use crate::kafka::properties::may_be_secret;

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
    page.list("egress.allow", egress.entries());
    page.text
}

/// Where replies come.
mod replies;
/// What a subscription's options say of its sink.
mod sink;
/// One subscription's lines.
mod subscription;

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
        let log::Settings {
            topic,
            replication_factor,
            min_insync_replicas,
        } = log;
        let count =
            |count: &Option<i32>| count.map_or_else(|| "the brokers' own".to_owned(), |n| n.to_string());
        self.line("state.cluster", cluster);
        self.line("state.topic", topic);
        self.line("state.replication_factor", count(replication_factor));
        self.line("state.min_insync_replicas", count(min_insync_replicas));
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
        } = settings;
        self.line("templates.timeout", humantime::format_duration(*timeout));
        self.line("templates.max_output_bytes", max_output_bytes);
        self.line("templates.max_waiting_bytes", max_waiting_bytes);
        if secrets.is_empty() {
            self.line("secrets", "none");
        }
        for (name, secret) in secrets {
            self.line(&format!("secrets.{name}.value"), "***");
            self.list(&format!("secrets.{name}.topics"), secret.topics.0.iter().cloned());
        }
    }

    fn provider(&mut self, path: &str, settings: &Settings) {
        let Settings {
            name: _,
            issuer,
            audiences,
            jwks,
            algorithms,
            clock_skew,
            name_claim,
        } = settings;
        self.line(&format!("{path}.issuer"), issuer);
        self.list(&format!("{path}.audiences"), audiences.iter().cloned());
        match jwks {
            Jwks::File(file) => self.line(&format!("{path}.jwks.file"), file.display()),
            Jwks::Url {
                url,
                trust: Trust { verify, authorities },
                cache_duration,
            } => {
                // A key may be in its query.
                let host = url.host().unwrap_or_default();
                self.line(&format!("{path}.jwks.url"), format_args!("on {host}"));
                self.line(&format!("{path}.jwks.tls_verify"), verify);
                let whose = authorities.as_ref().map_or("the system's", |_| "its own");
                self.line(&format!("{path}.jwks.truststore"), whose);
                self.line(
                    &format!("{path}.jwks.cache_duration"),
                    humantime::format_duration(*cache_duration),
                );
            }
        }
        self.list(
            &format!("{path}.algorithms"),
            algorithms.iter().map(|algorithm| format!("{algorithm:?}")),
        );
        self.line(
            &format!("{path}.clock_skew"),
            humantime::format_duration(*clock_skew),
        );
        self.line(&format!("{path}.name_claim"), name_claim);
    }

    fn read(&mut self, path: &str, read: &Read) {
        let Read {
            cluster,
            topics,
            anonymous,
            tokens,
            jwt,
            from,
            chosen_reset,
            remove_confluent_header,
            limit,
            max_wait,
            max_bytes,
            auto_offset_reset,
            encode_message_id,
            check_topic_existence,
            publish,
            allowed_origins,
            groups,
            filter,
            key,
            max_view_keys,
            max_view_bytes,
        } = read;
        self.line(&format!("{path}.cluster"), cluster);
        match topics {
            ReadTopics::Names(list) => self.list(&format!("{path}.topics"), list.0.iter().cloned()),
            // It was wrapped to match whole names.
            ReadTopics::Pattern(pattern) => {
                let text = pattern.as_str().strip_prefix("^(?:");
                let text = text.and_then(|text| text.strip_suffix(")$"));
                self.line(&format!("{path}.topics_pattern"), text.unwrap_or_default());
            }
            ReadTopics::Claimed(ClaimedTopics { fixed, templates }) => {
                let templates = templates.iter().map(ToString::to_string);
                self.list(
                    &format!("{path}.topics"),
                    fixed.0.iter().cloned().chain(templates),
                );
            }
            ReadTopics::Chosen(choice) => self.line(&format!("{path}.topic"), choice),
        }
        self.line(&format!("{path}.anonymous"), anonymous);
        self.list(&format!("{path}.tokens"), tokens.iter().map(|_| "***".to_owned()));
        self.line(&format!("{path}.limit"), limit);
        self.line(&format!("{path}.max_wait"), humantime::format_duration(*max_wait));
        self.line(&format!("{path}.max_bytes"), max_bytes);
        let reset = match auto_offset_reset {
            Reset::Latest => "latest",
            Reset::Earliest => "earliest",
            Reset::None => "none",
        };
        match chosen_reset {
            Some(choice) => self.line(&format!("{path}.auto_offset_reset"), choice),
            None => self.line(&format!("{path}.auto_offset_reset"), reset),
        }
        if let Some(Bearers { provider, claims }) = jwt {
            self.line(&format!("{path}.jwt.provider"), &provider.settings().name);
            let claims = claims
                .iter()
                .map(|(name, wanted)| format!("{name} says {}", wanted.join(" and ")));
            self.list(&format!("{path}.jwt.claims"), claims);
        }
        if let Some(choice) = from {
            self.line(&format!("{path}.from"), choice);
        }
        self.line(
            &format!("{path}.remove_confluent_header"),
            remove_confluent_header,
        );
        self.line(&format!("{path}.encodeMessageId"), encode_message_id);
        self.line(&format!("{path}.check_topic_existence"), check_topic_existence);
        self.line(&format!("{path}.publish"), publish);
        self.list(
            &format!("{path}.allowed_origins"),
            allowed_origins.iter().cloned(),
        );
        let ReadGroups {
            allowed,
            said,
            prefix,
            qos,
        } = groups;
        self.list(&format!("{path}.groups"), allowed.0.iter().cloned());
        self.said(&format!("{path}.group"), said.as_ref());
        if !prefix.is_empty() {
            self.line(&format!("{path}.group.prefix"), prefix);
        }
        self.line(&format!("{path}.qos"), qos.name());
        self.said(&format!("{path}.key"), key.as_ref());
        self.line(&format!("{path}.max_view_keys"), max_view_keys);
        self.line(&format!("{path}.max_view_bytes"), max_view_bytes);
        for (kind, text) in filter.iter().flat_map(|filter| filter.shown()) {
            self.line(&format!("{path}.filter.{kind}"), text);
        }
    }

    fn said(&mut self, path: &str, said: Option<&Said>) {
        match said {
            None => {}
            Some(Said::Listed(choice)) => self.line(path, choice),
            Some(Said::Any(from)) => {
                let (kind, name) = from.named();
                self.line(&format!("{path}.{kind}"), name);
            }
        }
    }

    fn cluster(&mut self, path: &str, cluster: &Cluster) {
        let Cluster {
            bootstrap_servers,
            properties,
            token,
            delegation,
            kerberos,
            callers,
            produces,
            consumes,
            allowed_topics,
            expiry,
            materials: _,
        } = cluster;
        let brokers = format!("{path}.brokers");
        let servers = format!("{path}.bootstrap_servers");
        let key = if self.origins.set.contains(&brokers) {
            brokers
        } else {
            servers
        };
        self.list(&key, bootstrap_servers.iter().cloned());
        self.line(&format!("{path}.producer.enabled"), produces);
        self.line(&format!("{path}.consumer.enabled"), consumes);
        self.list(
            &format!("{path}.allowed_topics"),
            allowed_topics.0.iter().cloned(),
        );
        self.properties(path, properties);
        if let Some(Kerberos { principal, keytab }) = kerberos {
            let key = format!("{path}.authentication.gssapi");
            self.line(&format!("{key}.principal"), principal);
            self.line(&format!("{key}.keytab"), keytab.display());
        }
        if let Some(DelegationToken { hash, id: _, hmac: _ }) = delegation {
            let key = format!("{path}.authentication");
            let mechanism = match hash {
                ScramHash::Sha256 => "SCRAM-SHA-256",
                ScramHash::Sha512 => "SCRAM-SHA-512",
            };
            self.line(&format!("{key}.mechanism"), mechanism);
            self.line(&format!("{key}.tokenauth"), true);
            self.line(&format!("{key}.user"), "***");
            self.line(&format!("{key}.password"), "***");
        }
        for (store, ends) in [("keystore", expiry.keystore), ("truststore", expiry.truststore)] {
            if let Some(ends) = ends {
                let ends = humantime::format_rfc3339_seconds(ends);
                self.line(
                    &format!("{path}.security.{store}"),
                    format_args!("good until {ends}"),
                );
            }
        }
        if let Some(Callers { max }) = callers {
            self.line(&format!("{path}.authentication.credentials"), "from_request");
            self.line(&format!("{path}.authentication.max_callers"), max);
        }
        if let Some(BearerToken { source, extensions }) = token {
            let key = format!("{path}.authentication.oauthbearer");
            match source {
                TokenSource::Fixed(_) => self.line(&format!("{key}.token"), "***"),
                TokenSource::File(file) => self.line(&format!("{key}.token_file"), file.display()),
                TokenSource::Oidc(issuer) => {
                    self.line(&format!("{key}.token_endpoint_url"), issuer.endpoint());
                }
                TokenSource::AwsMskIam(iam) => self.aws(&format!("{path}.authentication"), iam),
                TokenSource::Unsecured { lifetime, .. } => {
                    let lifetime = humantime::format_duration(*lifetime);
                    let line = format_args!("unsigned tokens, each for {lifetime}");
                    self.line(&format!("{path}.authentication.sasl_jaas_config"), line);
                }
            }
            for name in extensions.keys() {
                self.line(&format!("{key}.extensions.{name}"), "***");
            }
        }
    }

    fn aws(&mut self, path: &str, iam: &AwsIam) {
        let AwsIam {
            region,
            profile,
            keys,
            role,
        } = iam;
        let key = |name: &str| format!("{path}.aws_msk_iam.{name}");
        self.line(&format!("{path}.mechanism"), "AWS_MSK_IAM");
        self.line(&key("region"), region);
        if let Some(profile) = profile {
            self.line(&key("profile"), profile);
        }
        if let Some(AwsKeys {
            id: _,
            secret: _,
            session_token,
        }) = keys
        {
            self.line(&key("access_key_id"), "***");
            self.line(&key("secret_access_key"), "***");
            if session_token.is_some() {
                self.line(&key("session_token"), "***");
            }
        }
        if let Some(AwsRole {
            arn,
            session_name,
            external_id,
            sts_region,
            sts_endpoint,
        }) = role
        {
            self.line(&key("role_arn"), arn);
            for (name, value) in [
                ("role_session_name", session_name),
                ("sts_region", sts_region),
                ("sts_endpoint", sts_endpoint),
            ] {
                if let Some(value) = value {
                    self.line(&key(name), value);
                }
            }
            if external_id.is_some() {
                self.line(&key("role_external_id"), "***");
            }
        }
    }

    fn profile(&mut self, path: &str, profile: &Profile) {
        let Profile {
            acks: _,
            idempotent: _,
            properties,
            max_records,
            max_bytes,
            allow_auto_create_topics,
            max_queueing_time,
        } = profile;
        // `acks` and idempotence are properties as well.
        self.properties(path, properties);
        self.line(
            &format!("{path}.producer_async_buffering_limits_messages_in_memory"),
            max_records,
        );
        self.line(
            &format!("{path}.producer_async_buffering_limits_bytes_in_memory"),
            max_bytes,
        );
        self.line(
            &format!("{path}.allow_auto_create_topics"),
            allow_auto_create_topics,
        );
        self.line(
            &format!("{path}.max_queueing_time"),
            humantime::format_duration(*max_queueing_time),
        );
    }

    fn properties(&mut self, path: &str, properties: &BTreeMap<String, Secret>) {
        for (name, value) in properties {
            let value = if may_be_secret(name) {
                "***"
            } else {
                value.expose()
            };
            self.line(&format!("{path}.properties.{name}"), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    #[test]
    fn every_value_with_its_origin_and_no_secret() {
        let yaml = "clusters: {main: {bootstrap_servers: a, client_id: mine, allowed_topics: [t, u], security: {ssl: true}, \
                    authentication: {mechanism: PLAIN, user: alice, password: hunter2}, \
                    properties: {socket.timeout.ms: 7000}}}\n\
                    producers: {bulk: {compression: lz4}}\n\
                    listeners: {data: {tokens: [hunter2]}}\n\
                    spool: {directory: /spool}\n\
                    templates: {max_waiting_bytes: 2048}\n\
                    secrets: {org: {value: hunter2, topics: [a, 'b.*']}}\n\
                    egress: {allow: [{hosts: ['*.x.org', '[::1]'], schemes: [https], ports: [443]}, {cidrs: [10.0.0.0/8]}]}\n\
                    reads: [{topics_pattern: 'a|b', tokens: [hunter2], limit: 7}, \
                    {topics: ['{claims.org}.*', s], jwt: {provider: i, claims: {scope: [a, b]}}, from: earliest, \
                    group: {claim: app, prefix: o.}, key: {claim: customer}}, \
                    {topics: [t], anonymous: true, group: {header: h, allowed: [g]}, key: {query: q, allowed: [a, b], default: a}}]\n\
                    jwt: {i: {issuer: x, audiences: [y], jwks: {url: 'https://keys/?key=hunter2'}}}";
        let env = [
            ("SLUICE__MAX_PRODUCERS", "3"),
            ("SLUICE__CLUSTERS__MAIN__CONSUMER__ENABLED", "false"),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let loaded = load(yaml, env.into_iter()).unwrap();
        let text = show(&loaded.config, &loaded.origins);
        assert!(!text.contains("hunter2"), "{text}");
        for line in [
            "listeners.stream.path: /run/sluice/stream.sock (default)",
            "listeners.stream.mode: 0660 (default)",
            "listeners.data.address: 127.0.0.1:9071 (default)",
            "listeners.data.tokens: *** (the file)",
            "listeners.admin.tokens: none (default)",
            "clusters.main.bootstrap_servers: a:9092 (the file)",
            "clusters.main.producer.enabled: true (default)",
            "clusters.main.consumer.enabled: false (SLUICE__CLUSTERS__MAIN__CONSUMER__ENABLED)",
            "clusters.main.allowed_topics: t, u (the file)",
            "clusters.main.properties.client.id: mine (clusters.main.client_id, the file)",
            "clusters.main.properties.sasl.mechanism: PLAIN (clusters.main.authentication.mechanism, the file)",
            "clusters.main.properties.sasl.password: *** (clusters.main.authentication.password, the file)",
            "clusters.main.properties.security.protocol: SASL_SSL (clusters.main.security.ssl, the file)",
            "clusters.main.properties.socket.timeout.ms: 7000 (the file)",
            "default_cluster: main (default)",
            "producers.bulk.properties.compression.type: lz4 (producers.bulk.compression, the file)",
            "producers.bulk.properties.acks: -1 (default)",
            "producers.default.allow_auto_create_topics: false (default)",
            "producers.default.producer_async_buffering_limits_messages_in_memory: 100000 (default)",
            "producers.default.producer_async_buffering_limits_bytes_in_memory: 67108864 (default)",
            "max_producers: 3 (SLUICE__MAX_PRODUCERS)",
            "answer_timeout: 10s (default)",
            "max_request_bytes: 16777216 (default)",
            "grace_period: 20s (default)",
            "reload_interval: 5s (default)",
            "spool.directory: /spool (the file)",
            "spool.max_bytes: 1073741824 (default)",
            "dev_broker: none (default)",
            "reads[0].cluster: main (default)",
            "reads[0].topics_pattern: a|b (the file)",
            "reads[0].anonymous: false (default)",
            "reads[0].tokens: *** (the file)",
            "reads[0].limit: 7 (the file)",
            "reads[0].max_wait: 5s (default)",
            "reads[0].auto_offset_reset: latest (default)",
            "reads[0].publish: false (default)",
            "reads[0].allowed_origins: none (default)",
            "reads[0].remove_confluent_header: false (default)",
            "reads[1].topics: s, {claims.org}.* (the file)",
            "reads[1].jwt.provider: i (the file)",
            "reads[1].jwt.claims: scope says a and b (the file)",
            "reads[1].from: by query argument from among earliest, or else earliest (the file)",
            "reads[1].groups: o.* (default)",
            "reads[1].group.claim: app (the file)",
            "reads[1].group.prefix: o. (the file)",
            "reads[1].key.claim: customer (the file)",
            "reads[2].group: by header h among g (the file)",
            "reads[2].key: by query argument q among a, b, or else a (the file)",
            "jwt.i.issuer: x (the file)",
            "jwt.i.audiences: y (the file)",
            "jwt.i.jwks.url: on keys (the file)",
            "jwt.i.jwks.truststore: the system's (default)",
            "jwt.i.algorithms: RS256, ES256 (default)",
            "jwt.i.clock_skew: 1m (default)",
            "jwt.i.name_claim: sub (default)",
            "reads[0].qos: auto (default)",
            "templates.timeout: 250ms (default)",
            "templates.max_output_bytes: 1048576 (default)",
            "templates.max_waiting_bytes: 2048 (the file)",
            "secrets.org.value: *** (the file)",
            "secrets.org.topics: a, b.* (the file)",
            "max_readers: 4 (default)",
            "max_members: 16 (default)",
            "subscriptions: none (default)",
            "held.topic: __sluice_held (default)",
            "state: none (default)",
            "egress.allow: https://*.x.org:443, https://[::1]:443, *://*:* within 10.0.0.0/8 (the file)",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn what_the_platform_told_is_named() {
        let env = [("KAFKA_BOOTSTRAP_SERVERS".to_owned(), "a:1".to_owned())];
        let loaded = load("", env.into_iter()).unwrap();
        let text = show(&loaded.config, &loaded.origins);
        let line = "clusters.kafka.bootstrap_servers: a:1 (KAFKA_BOOTSTRAP_SERVERS)\n";
        assert!(text.contains(line), "{text}");
    }
}
