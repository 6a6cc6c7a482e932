//! librdkafka's configuration properties: which clients they are for, what they are also called, and whether
//! librdkafka takes them. Names, kinds and aliases are those of librdkafka 2.12 (`CONFIGURATION.md`).

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, DefaultProducerContext};
use rdkafka::types::RDKafkaConfRes;

use super::client;
use super::relay::{self, Relay};
use crate::config::{Cluster, Profile};

/// Which clients a property is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Every client.
    Any,
    /// Producers only.
    Producer,
    /// Consumers only.
    Consumer,
}

const PRODUCER: &[&str] = &[
    "acks",
    "batch.num.messages",
    "batch.size",
    "compression.level",
    "compression.type",
    "delivery.report.only.error",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "linger.ms",
    "message.timeout.ms",
    "msg_order_cmp",
    "partitioner",
    "produce.offset.report",
    "queue.buffering.backpressure.threshold",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queuing.strategy",
    "request.timeout.ms",
    "retries",
    "sticky.partitioning.linger.ms",
    "transaction.timeout.ms",
    "transactional.id",
];

const CONSUMER: &[&str] = &[
    "auto.commit.enable",
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "check.crcs",
    "consume.callback.max.messages",
    "coordinator.query.interval.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "group.protocol.type",
    "group.remote.assignor",
    "heartbeat.interval.ms",
    "isolation.level",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "offset.store.method",
    "offset.store.path",
    "offset.store.sync.interval.ms",
    "partition.assignment.strategy",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "session.timeout.ms",
];

/// Another name, and the one that Sluice uses.
const ALIASES: &[(&str, &str)] = &[
    ("auto.commit.enable", "enable.auto.commit"),
    ("compression.codec", "compression.type"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("fetch.message.max.bytes", "max.partition.fetch.bytes"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("message.send.max.retries", "retries"),
    ("metadata.broker.list", "bootstrap.servers"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("request.required.acks", "acks"),
    ("sasl.mechanisms", "sasl.mechanism"),
    (
        "sasl.oauthbearer.client.credentials.client.id",
        "sasl.oauthbearer.client.id",
    ),
    (
        "sasl.oauthbearer.client.credentials.client.secret",
        "sasl.oauthbearer.client.secret",
    ),
];

/// The one name of a property that has several.
pub fn canonical(name: &str) -> &str {
    ALIASES
        .iter()
        .find(|(alias, _)| *alias == name)
        .map_or(name, |(_, canonical)| canonical)
}

/// Which clients `name` (or an alias of it) is for. A name that librdkafka does not know is for any.
pub fn kind(name: &str) -> Kind {
    let name = canonical(name);
    if PRODUCER.contains(&name) {
        Kind::Producer
    } else if CONSUMER.contains(&name) {
        Kind::Consumer
    } else {
        Kind::Any
    }
}

/// Whether librdkafka knows the property `name` and takes `value` for it.
///
/// # Errors
/// librdkafka's words, unless they might quote a secret.
pub fn check(name: &str, value: &str) -> Result<(), String> {
    let refused = match ClientConfig::new().set(name, value).create_native_config() {
        Ok(_) => return Ok(()),
        Err(refused) => refused,
    };
    match refused {
        KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..) => {
            Err("librdkafka has no such property".to_owned())
        }
        KafkaError::ClientConfig(_, why, ..) if !may_be_secret(name) => {
            Err(format!("librdkafka refuses it: {why}"))
        }
        _ => Err("librdkafka refuses its value".to_owned()),
    }
}

/// Whether `profile`'s producer on `cluster` can be made. It is given no broker, so that it connects to nothing;
/// librdkafka reads the files that the properties name.
///
/// # Errors
/// What librdkafka finds wrong with the properties taken together.
pub fn try_producer(cluster: &Cluster, profile: &Profile) -> Result<(), String> {
    let mut client = client::producer_config(cluster, profile);
    if let Some(delegation) = &cluster.delegation {
        Relay::new(&client, delegation, None)?;
        client = relay::client_config(&client);
    }
    client.remove("bootstrap.servers");
    match client.create_with_context::<_, BaseProducer>(DefaultProducerContext) {
        Ok(_) => Ok(()),
        Err(KafkaError::ClientCreation(why) | KafkaError::ClientConfig(_, why, ..)) => Err(why),
        Err(_) => Err("librdkafka cannot make a producer with these properties".to_owned()),
    }
}

/// Whether a property names a file that librdkafka reads when a client is made.
pub fn names_a_file(name: &str) -> bool {
    const FILES: [&str; 6] = [
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.crl.location",
        "ssl.key.location",
        "ssl.keystore.location",
        "sasl.kerberos.keytab",
    ];
    FILES.contains(&name)
}

/// Whether a property's value is a secret: a password, or a key.
pub fn is_secret(name: &str) -> bool {
    const MARKS: [&str; 3] = ["password", "passphrase", "secret"];
    name == "ssl.key.pem" || MARKS.iter().any(|mark| name.contains(mark))
}

/// Whether a property's value is a secret, or might hold one.
pub(crate) fn may_be_secret(name: &str) -> bool {
    const MARKS: [&str; 8] = [
        "password",
        "passphrase",
        "secret",
        "token",
        "pem",
        "oauthbearer",
        "username",
        "assertion",
    ];
    MARKS.iter().any(|mark| name.contains(mark))
}

pub mod given;
#[cfg(test)]
pub(crate) mod known;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Secret, TopicAllowlist};

    #[test]
    fn every_property_of_librdkafkas_is_for_the_clients_that_it_says() {
        let all = known::all();
        assert!(all.len() > 180, "{} properties", all.len());
        for property in &all {
            let name = property.name.as_str();
            if let Some(other) = &property.alias_of {
                assert_eq!(canonical(name), canonical(other), "{name}");
            }
            // That something is for both says less than that it is for one of them: a callback is set by code.
            let expected = match property.clients {
                'P' => Kind::Producer,
                'C' => Kind::Consumer,
                _ => Kind::Any,
            };
            if !name.ends_with("_cb") && kind(name) != expected {
                panic!("{name} is {:?}, and librdkafka says {:?}", kind(name), expected);
            }
        }
        let means = |a: &str, b: &str| {
            let is = |property: &known::Known| property.name == a && property.alias_of.as_deref() == Some(b);
            all.iter().any(is)
        };
        for (alias, name) in ALIASES {
            // The old consumer's, which Sluice does not have; it means what the other does.
            let old = *alias == "auto.commit.enable";
            assert!(
                means(alias, name) || means(name, alias) || old,
                "{alias} is not {name}"
            );
        }
        let names: Vec<&str> = all.iter().map(|property| &*property.name).collect();
        for name in PRODUCER
            .iter()
            .chain(CONSUMER)
            .chain(ALIASES.iter().map(|(alias, _)| alias))
        {
            assert!(names.contains(name), "librdkafka has no {name}");
        }
    }

    #[test]
    fn every_name_in_the_tables_is_one_that_librdkafka_knows() {
        let aliases = ALIASES.iter().flat_map(|(alias, name)| [*alias, *name]);
        for name in PRODUCER.iter().chain(CONSUMER).copied().chain(aliases) {
            let answer = check(name, "0");
            assert_ne!(
                answer,
                Err("librdkafka has no such property".to_owned()),
                "{name}"
            );
        }
    }

    #[test]
    fn a_refusal_says_why_and_quotes_no_secret() {
        assert_eq!(check("linger.ms", "5"), Ok(()));
        assert_eq!(
            check("lingr.ms", "5"),
            Err("librdkafka has no such property".to_owned())
        );
        let why = check("partitioner", "sideways").unwrap_err();
        assert!(why.starts_with("librdkafka refuses it: "), "{why}");
        let why = check("sasl.oauthbearer.assertion.algorithm", "hunter2").unwrap_err();
        assert!(!why.contains("hunter2"), "{why}");
    }

    fn tried(cluster: &[(&str, &str)], profile: &[(&str, &str)]) -> Result<(), String> {
        let secrets = |pairs: &[(&str, &str)]| {
            let one = |(name, value): &(&str, &str)| ((*name).to_owned(), Secret::new(*value));
            pairs.iter().map(one).collect()
        };
        let cluster = Cluster {
            bootstrap_servers: vec!["127.0.0.1:1".to_owned()],
            properties: secrets(cluster),
            allowed_topics: TopicAllowlist::default(),
            ..Cluster::default()
        };
        let profile = Profile {
            properties: secrets(profile),
            ..Profile::default()
        };
        try_producer(&cluster, &profile)
    }

    #[test]
    fn properties_are_tried_together() {
        let why = tried(&[], &[("linger.ms", "500"), ("message.timeout.ms", "100")]).unwrap_err();
        assert!(why.contains("linger.ms"), "{why}");
        assert_eq!(tried(&[], &[("linger.ms", "5")]), Ok(()));
        let missing = [
            ("security.protocol", "ssl"),
            ("ssl.ca.location", "/nowhere/ca.pem"),
        ];
        assert!(tried(&missing, &[]).is_err());
    }
}
