//! What variables of the environment set, and what they are called in.

use super::*;

#[test]
fn the_environment_overrides() {
    let variables = [
        // Case does not matter, nor does the file's.
        ("Sluice__Max_Producers", "9"),
        // A part of a list, a list as a whole, one that is not in the file, and the place after the last.
        ("SLUICE__CLUSTERS__MAIN__ALLOWED_TOPICS__0", "payments"),
        ("SLUICE__CLUSTERS__MAIN__ALLOWED_TOPICS__1", "\"refunds.*\""),
        (
            "SLUICE__CLUSTERS__MAIN__BOOTSTRAP_SERVERS__0",
            "{host: b.example, port: 9093}",
        ),
        // Below `properties` an underscore is a dot.
        ("SLUICE__CLUSTERS__MAIN__PROPERTIES__CLIENT_ID", "from-env"),
        // A mapping is laid over.
        (
            "SLUICE__PRODUCERS",
            "{bulk: {compression: zstd}, other: {compression: gzip}}",
        ),
        ("SLUICE__PRODUCERS__BULK__PRODUCER_ASYNC_FLUSH_TIMEOUT", "3"),
        ("SLUICE__LISTENERS__STREAM__MODE", "0640"),
        ("SLUICE__LISTENERS__DATA__TOKENS__0", "from-env"),
        ("SLUICE_OTHER", "not ours"),
        ("PATH", "not ours"),
    ];
    let yaml = "max_producers: 3\nclusters: {main: {bootstrap_servers: [a], allowed_topics: [orders]}}\n\
                producers: {bulk: {compression: lz4, timeout: 77}}";
    let Loaded { config, warnings, .. } = load(yaml, env(&variables)).unwrap();
    assert_eq!(
        warnings,
        [],
        "a token from the environment is not written anywhere"
    );
    assert_eq!(config.max_producers, 9);
    let main = &config.clusters["main"];
    assert_eq!(main.allowed_topics.0, ["payments", "refunds.*"]);
    assert_eq!(main.bootstrap_servers, ["b.example:9093"]);
    assert_eq!(property(&main.properties, "client.id"), Some("from-env"));
    let bulk = &config.producers["bulk"].properties;
    assert_eq!(property(bulk, "compression.type"), Some("zstd"));
    assert_eq!(property(bulk, "socket.timeout.ms"), Some("77"));
    assert_eq!(property(bulk, "linger.ms"), Some("3"));
    assert!(config.producers.contains_key("other"));
    let path = PathBuf::from("/run/sluice/stream.sock");
    assert_eq!(
        config.listeners.stream.address,
        Address::Unix { path, mode: 0o640 }
    );
    assert_eq!(config.listeners.data.tokens.len(), 1);
}

#[test]
fn an_empty_variable_takes_a_key_away() {
    let Loaded { config, .. } = good("full.yaml", &[SECRETS, &[("SLUICE__DEV_BROKER", "")]].concat());
    assert!(config.dev_broker.is_none());
}

/// An existing key is met whatever its case, its dots and its dashes.
#[test]
fn the_environment_reaches_names_that_variables_cannot_spell() {
    let yaml = "clusters: {Main-EU: {bootstrap_servers: a, allowed_topics: [t], properties: {socket.nagle.disable: true}}}";
    let variables = [
        ("SLUICE__CLUSTERS__MAIN_EU__BOOTSTRAP_SERVERS", "b"),
        (
            "SLUICE__CLUSTERS__MAIN_EU__PROPERTIES__SOCKET_NAGLE_DISABLE",
            "false",
        ),
    ];
    let config = load(yaml, env(&variables)).unwrap().config;
    assert_eq!(config.clusters.len(), 1);
    let cluster = &config.clusters["Main-EU"];
    assert_eq!(cluster.bootstrap_servers, ["b:9092"]);
    assert_eq!(
        property(&cluster.properties, "socket.nagle.disable"),
        Some("false")
    );
}

#[test]
fn a_problem_names_the_variable() {
    let variables = [
        ("SLUICE__MAX_PRODUCERS", "0"),
        ("SLUICE__MAX_PRODUCERS__DEEPER", "1"),
        ("SLUICE__ANSWER__TIMEOUT", "1s"),
        ("SLUICE__CLUSTERS__MAIN__ALLOWED_TOPICS__7", "x"),
        ("SLUICE__CLUSTERS__MAIN__ALLOWED_TOPICS__X", "x"),
        ("SLUICE____X", "1"),
        ("SLUICE__GRACE_PERIOD", "1s"),
        ("sluice__grace_period", "2s"),
        ("SLUICE__DEFAULT_CLUSTER", "{unclosed: hunter2"),
        ("SLUICE__CLUSTERS__A_B__BOOTSTRAP_SERVERS", "b"),
    ];
    let yaml = "clusters: {main: {bootstrap_servers: a, allowed_topics: [orders]}, \
                A-B: {bootstrap_servers: a, allowed_topics: []}, a.b: {bootstrap_servers: a, allowed_topics: []}}";
    let found = lines(&load(yaml, env(&variables)).unwrap_err());
    assert_eq!(
        found,
        "SLUICE____X: has an empty part: write SLUICE__A__B for the key b of a\n\
         SLUICE__CLUSTERS__A_B__BOOTSTRAP_SERVERS: could mean A-B or a.b: set it in the file\n\
         SLUICE__CLUSTERS__MAIN__ALLOWED_TOPICS__7: clusters.main.allowed_topics is a list of 1: \
         write an index from 0 to 1 after it\n\
         SLUICE__CLUSTERS__MAIN__ALLOWED_TOPICS__X: clusters.main.allowed_topics is a list of 1: \
         write an index from 0 to 1 after it\n\
         SLUICE__DEFAULT_CLUSTER: is not a YAML value; put it into quotes, or write a list as [a, b] and a mapping \
         as {a: b}\n\
         sluice__grace_period: sets grace_period, which SLUICE__GRACE_PERIOD sets too\n\
         SLUICE__MAX_PRODUCERS__DEEPER: goes below max_producers, which is neither a mapping nor a list\n\
         max_producers: must be from 1 to 1000, not 0 (set by SLUICE__MAX_PRODUCERS)\n\
         answer: unknown field (set by SLUICE__ANSWER__TIMEOUT)\n"
    );
}
