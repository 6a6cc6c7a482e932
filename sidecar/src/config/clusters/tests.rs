//! Clusters, field by field.

mod sasl;
mod stores;

use std::path::Path;

use crate::config::{Cluster, Secret, load};

fn load_with(env: &[(&str, &str)], yaml: &str) -> Result<(Cluster, String), String> {
    let env: Vec<(String, String)> = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let lines = |problems: &[sluice_settings::Problem]| {
        problems
            .iter()
            .map(|problem| format!("{problem}\n"))
            .collect::<String>()
    };
    match load(yaml, env.into_iter()) {
        Ok(mut loaded) => {
            let cluster = loaded.config.clusters.remove("main").unwrap();
            Ok((cluster, lines(&loaded.warnings)))
        }
        Err(problems) => Err(lines(&problems)),
    }
}

/// The cluster `main` with these fields, and the warnings.
fn cluster(fields: &str) -> (Cluster, String) {
    let yaml = format!("clusters: {{main: {{bootstrap_servers: a, allowed_topics: [t], {fields}}}}}");
    load_with(&[], &yaml).unwrap_or_else(|problems| panic!("{fields}: {problems}"))
}

/// What is wrong with these fields.
fn wrong(fields: &str) -> String {
    let yaml = format!("clusters: {{main: {{bootstrap_servers: a, allowed_topics: [t], {fields}}}}}");
    match load_with(&[], &yaml) {
        Ok(_) => panic!("{fields} is good"),
        Err(problems) => problems,
    }
}

fn property<'a>(cluster: &'a Cluster, name: &str) -> Option<&'a str> {
    cluster.properties.get(name).map(Secret::expose)
}

fn store(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/keystores");
    folder.join(name).display().to_string()
}

fn text(name: &str) -> String {
    std::fs::read_to_string(store(name)).unwrap()
}

#[test]
fn brokers_as_restate_writes_them() {
    let yaml =
        "clusters: {main: {allowed_topics: [t], brokers: ['PLAINTEXT://a:1', 'b', 'plaintext://[::1]:3/']}}";
    let (found, warnings) = load_with(&[], yaml).unwrap();
    assert_eq!(found.bootstrap_servers, ["a:1", "b:9092", "[::1]:3"]);
    assert_eq!(property(&found, "security.protocol"), None);
    assert_eq!(warnings, "");
    let yaml = "clusters: {main: {allowed_topics: [t], brokers: ['SSL://a:1']}}";
    let (found, _) = load_with(&[], yaml).unwrap();
    assert_eq!(property(&found, "security.protocol"), Some("SSL"));
    let yaml = "clusters: {main: {allowed_topics: [t], brokers: ['SSL://a:1'], security: {ssl: true}, protocol: SSL}}";
    assert_eq!(
        property(&load_with(&[], yaml).unwrap().0, "security.protocol"),
        Some("SSL")
    );
    for (fields, expected) in [
        ("brokers: []", "clusters.main.brokers: must not be empty\n"),
        (
            "brokers: a",
            "clusters.main.brokers: must be a list, as [\"PLAINTEXT://kafka:9092\"]\n",
        ),
        (
            "brokers: [7]",
            "clusters.main.brokers[0]: must be a string, as \"PLAINTEXT://kafka:9092\"\n",
        ),
        (
            "brokers: ['a:0']",
            "clusters.main.brokers[0]: \"a:0\" is not host:port\n",
        ),
        (
            "brokers: ['http://a']",
            "clusters.main.brokers[0]: \"http\" is no protocol of Kafka's: write PLAINTEXT, SSL, SASL_PLAINTEXT or \
             SASL_SSL\n",
        ),
        (
            "brokers: ['PLAINTEXT://a', 'SSL://b']",
            "clusters.main.brokers[1]: says SSL, and clusters.main.brokers[0] says PLAINTEXT\n",
        ),
        (
            "protocol: SSL, brokers: ['SSL://a', 'PLAINTEXT://b']",
            "clusters.main.brokers[1]: says PLAINTEXT, and clusters.main.protocol says SSL\n",
        ),
        (
            "brokers: [a], bootstrap_servers: b",
            "clusters.main.bootstrap_servers: is the same as `brokers`: keep one\n",
        ),
    ] {
        let yaml = format!("clusters: {{main: {{allowed_topics: [t], {fields}}}}}");
        assert_eq!(load_with(&[], &yaml).unwrap_err(), expected, "{fields}");
    }
}

const LOGIN: &str = "authentication: {mechanism: PLAIN, user: alice, password: {env: PASSWORD}}";

#[test]
fn the_protocol_follows_from_what_is_asked_for() {
    let protocol = |fields: &str| {
        let yaml = format!("clusters: {{main: {{bootstrap_servers: a, allowed_topics: [t], {fields}}}}}");
        let found = load_with(&[("PASSWORD", "p")], &yaml);
        let (found, warnings) = found.unwrap_or_else(|problems| panic!("{fields}: {problems}"));
        assert_eq!(warnings, "", "{fields}");
        property(&found, "security.protocol").map(str::to_owned)
    };
    assert_eq!(protocol("client_id: x"), None);
    assert_eq!(protocol("protocol: PLAINTEXT"), None);
    assert_eq!(protocol("security: {ssl: false, ssl_verify: true}"), None);
    assert_eq!(protocol("security: {ssl: true}").unwrap(), "SSL");
    assert_eq!(protocol("protocol: SSL").unwrap(), "SSL");
    assert_eq!(protocol(LOGIN).unwrap(), "SASL_PLAINTEXT");
    assert_eq!(
        protocol(&format!("security: {{ssl: true}}, {LOGIN}")).unwrap(),
        "SASL_SSL"
    );
    assert_eq!(
        protocol(&format!("protocol: SASL_SSL, {LOGIN}")).unwrap(),
        "SASL_SSL"
    );
    let property = format!("properties: {{security.protocol: sasl_ssl}}, {LOGIN}");
    assert_eq!(protocol(&property).unwrap(), "sasl_ssl");
}

#[test]
fn fields_that_contradict_each_other() {
    let says = |who: &str, what: &str| format!("clusters.main.{who} says {what}");
    for (fields, expected) in [
        (
            "protocol: PLAINTEXT, security: {ssl: true}".to_owned(),
            format!("security.ssl: is true, and {}", says("protocol", "PLAINTEXT")),
        ),
        (
            "protocol: SSL, security: {ssl: false}".to_owned(),
            format!("security.ssl: is false, and {}", says("protocol", "SSL")),
        ),
        (
            "properties: {security.protocol: ssl}, security: {ssl: false}".to_owned(),
            format!("security.ssl: is false, and {}", says("properties.security.protocol", "SSL")),
        ),
        (
            "protocol: SSL, authentication: {mechanism: PLAIN, user: a, password: b}".to_owned(),
            format!("authentication: means nothing, since {}", says("protocol", "SSL")),
        ),
        (
            "protocol: SASL_SSL".to_owned(),
            "protocol: says SASL_SSL, which needs `authentication`".to_owned(),
        ),
        (
            "protocol: SSL, properties: {security.protocol: ssl}".to_owned(),
            "properties.security.protocol: is set by clusters.main.protocol too, which means the same: keep one"
                .to_owned(),
        ),
        (
            "protocol: SSL, properties: {sasl.username: a}".to_owned(),
            "properties.sasl.username: means nothing, since the cluster's protocol is SSL".to_owned(),
        ),
        (
            "protocol: PLAINTEXT, properties: {ssl.ca.location: /a}".to_owned(),
            "properties.ssl.ca.location: means nothing, since the cluster's protocol is PLAINTEXT".to_owned(),
        ),
        (
            "security: {ssl_verify: false}".to_owned(),
            "security.ssl_verify: means nothing, since nothing asks for TLS: set `security.ssl: true`".to_owned(),
        ),
        (
            format!("security: {{truststore: {{location: {}}}}}", store("root.pem")),
            "security.truststore: means nothing, since nothing asks for TLS".to_owned(),
        ),
        (
            format!("protocol: PLAINTEXT, security: {{keystore: {{location: {}}}}}", store("both.pem")),
            format!("security.keystore: means nothing, since {}", says("protocol", "PLAINTEXT")),
        ),
        (
            "client_id: a, properties: {client.id: b}".to_owned(),
            "properties.client.id: is set by clusters.main.client_id too, which means the same: keep one".to_owned(),
        ),
        (
            "security: {ssl: true, ssl_verify: false}, properties: {enable.ssl.certificate.verification: true}"
                .to_owned(),
            "is set by clusters.main.security.ssl_verify too".to_owned(),
        ),
        (
            format!(
                "security: {{ssl: true, truststore: {{location: {}}}}}, properties: {{ssl.ca.location: /a}}",
                store("root.pem")
            ),
            "security.truststore: clusters.main.properties.ssl.ca.location sets that too: keep one".to_owned(),
        ),
        (
            format!(
                "security: {{ssl: true, keystore: {{location: {}}}}}, properties: {{ssl.key.password: x}}",
                store("both.pem")
            ),
            "security.keystore: clusters.main.properties.ssl.key.password sets that too: keep one".to_owned(),
        ),
        (
            "authentication: {mechanism: PLAIN, user: a, password: b}, properties: {sasl.mechanisms: PLAIN}".to_owned(),
            "properties.sasl.mechanisms: is set by clusters.main.authentication.mechanism too".to_owned(),
        ),
    ] {
        let found = wrong(&fields);
        assert!(found.contains(&expected), "{fields}: {found}");
    }
    // What librdkafka takes and does not heed.
    let (_, warnings) = cluster("properties: {sasl.username: a}");
    let expected =
        "clusters.main.properties.sasl.username: means nothing, since the cluster's protocol is PLAINTEXT\n";
    assert_eq!(warnings, expected);
}

#[test]
fn directions_can_be_closed() {
    let (found, _) = cluster("client_id: mine");
    assert!(found.produces && found.consumes);
    assert_eq!(property(&found, "client.id"), Some("mine"));
    let (found, _) = cluster("producer: {enabled: false}");
    assert!(!found.produces && found.consumes);
    let (found, _) = cluster("consumer: {enabled: false}, producer: {enabled: true}");
    assert!(found.produces && !found.consumes);
    // Without a producer no topic need be allowed.
    let yaml = "clusters: {main: {bootstrap_servers: a, producer: {enabled: false}}}";
    assert_eq!(load_with(&[], yaml).unwrap().1, "");
    let found = wrong("producer: {enable: false}");
    assert!(
        found.contains("clusters.main.producer.enable: unknown field"),
        "{found}"
    );
}

#[test]
fn verification_is_off_only_where_it_is_said_and_then_warned_of() {
    const WARNING: &str = "the brokers' certificates are not verified";
    let (found, warnings) = cluster("security: {ssl: true}");
    assert_eq!(property(&found, "enable.ssl.certificate.verification"), None);
    assert_eq!(warnings, "");
    let (found, warnings) = cluster("security: {ssl: true, ssl_verify: false}");
    assert_eq!(
        property(&found, "enable.ssl.certificate.verification"),
        Some("false")
    );
    assert!(
        warnings.starts_with(&format!("clusters.main.security.ssl_verify: {WARNING}")),
        "{warnings}"
    );
    let by_property = "protocol: SSL, properties: {enable.ssl.certificate.verification: false}";
    let (_, warnings) = cluster(by_property);
    assert!(warnings.contains(WARNING), "{warnings}");
}
