//! What may be set in `properties:` and what may not, for every property that librdkafka knows.

use super::*;
use crate::kafka::properties::known;

const GOES: &str = "goes to ";
const BY_CODE: &str = "is a callback, which only code can set";
const ITSELF: &str = "Sluice sets it itself";
const TRANSACTIONS: &str = "Sluice writes records one by one, without transactions";
const REPORTS: &str = "Sluice needs the report of every record";
const GROUPS: &str = "Sluice reads without a consumer group here";
const ISSUER: &str = "belongs to the `clientId` of a `sasl_jaas_config`";
const CONSUMERS: &str = "is a consumer's, and a profile is for producers";

/// What Sluice controls, whose `properties:` it may not stand in, and how the refusal begins.
const CONTROLLED: [(&str, &[Owner], &str); 18] = [
    ("allow.auto.create.topics", BOTH, GOES),
    ("bootstrap.servers", BOTH, GOES),
    ("default_topic_conf", BOTH, ITSELF),
    ("delivery.report.only.error", BOTH, REPORTS),
    ("enable.auto.commit", CLUSTER, GROUPS),
    ("enable.auto.offset.store", CLUSTER, GROUPS),
    ("enabled_events", BOTH, ITSELF),
    ("group.id", CLUSTER, GROUPS),
    ("group.instance.id", CLUSTER, GROUPS),
    ("interceptors", BOTH, ITSELF),
    ("log.queue", BOTH, ITSELF),
    ("max.in.flight.requests.per.connection", CLUSTER, PRODUCERS),
    ("opaque", BOTH, ITSELF),
    ("produce.offset.report", BOTH, REPORTS),
    ("sasl.oauthbearer.token.endpoint.url", BOTH, ISSUER),
    ("statistics.interval.ms", BOTH, ITSELF),
    ("transaction.timeout.ms", BOTH, TRANSACTIONS),
    ("transactional.id", BOTH, TRANSACTIONS),
];
const BOTH: &[Owner] = &[Owner::Cluster, Owner::Profile];
const CLUSTER: &[Owner] = &[Owner::Cluster];

/// What is said of a property in a whole configuration, at its path; `None` if nothing is.
fn told(owner: Owner, name: &str) -> Option<String> {
    let (cluster, profile, path) = match owner {
        Owner::Cluster => (format!("{name}: 1"), String::new(), "clusters.main"),
        Owner::Profile => (String::new(), format!("{name}: 1"), "producers.default"),
    };
    let yaml = format!(
        "clusters: {{main: {{bootstrap_servers: a, allowed_topics: [t], properties: {{{cluster}}}}}}}\n\
         producers: {{default: {{properties: {{{profile}}}}}}}"
    );
    let path = format!("{path}.properties.{name}");
    let problems = crate::config::load(&yaml, std::iter::empty()).err()?;
    let found = problems.into_iter().find(|problem| problem.path == path);
    found.map(|problem| problem.message)
}

/// How the refusal of a property begins, if it is refused.
fn expected(owner: Owner, property: &known::Known) -> Option<&'static str> {
    let name = properties::canonical(&property.name);
    let controlled = CONTROLLED
        .iter()
        .find(|(known, owners, _)| *known == name && owners.contains(&owner));
    if let Some((_, _, why)) = controlled {
        return Some(why);
    }
    if name.ends_with("_cb") {
        return Some(BY_CODE);
    }
    match (owner, property.clients) {
        (Owner::Cluster, 'P') => Some(PRODUCERS),
        (Owner::Profile, 'C') => Some(CONSUMERS),
        _ => None,
    }
}

#[test]
fn every_property_of_librdkafkas_may_be_set_or_is_refused_with_the_reason() {
    for property in known::all() {
        let name = &property.name;
        for owner in [Owner::Cluster, Owner::Profile] {
            let told = told(owner, name);
            match expected(owner, &property) {
                Some(why) => {
                    let told = told.unwrap_or_else(|| panic!("{name} of {owner:?} is taken"));
                    assert!(told.starts_with(why), "{name} of {owner:?}: {told}");
                }
                // What takes no text is refused by librdkafka; of the others it may be the value.
                None if property.is_pointer => {
                    let told = told.unwrap_or_else(|| panic!("{name} of {owner:?} is taken"));
                    assert!(told.starts_with("librdkafka refuses "), "{name}: {told}");
                }
                None => {
                    let about_value = told.as_deref().is_none_or(|told| {
                        told.starts_with("librdkafka refuses ")
                            || told.contains("since the cluster's protocol is")
                    });
                    assert!(about_value, "{name} of {owner:?}: {told:?}");
                }
            }
        }
    }
}

#[test]
fn everything_that_is_controlled_is_known_to_librdkafka() {
    let all = known::all();
    for (name, ..) in CONTROLLED {
        assert!(all.iter().any(|property| property.name == name), "{name}");
    }
}

/// librdkafka does not list these, and takes them.
#[test]
fn its_mock_cluster_is_not_had_by_properties() {
    for owner in BOTH {
        for name in ["test.mock.num.brokers", "test.mock.broker.rtt"] {
            assert_eq!(
                told(*owner, name).as_deref(),
                Some("goes to `dev_broker`"),
                "{name}"
            );
            assert_eq!(properties::check(name, "1"), Ok(()), "{name}");
        }
    }
}

#[test]
fn an_unknown_property_is_named() {
    for owner in BOTH {
        for name in ["linger", "socket.keepalive.enabled", "Client.Id", "confluent.x"] {
            let told = told(*owner, name);
            assert_eq!(told.as_deref(), Some("librdkafka has no such property"), "{name}");
        }
    }
}
