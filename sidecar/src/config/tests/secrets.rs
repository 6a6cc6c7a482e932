//! Secrets: where they are from, and that they are not printed.

use super::*;

#[test]
fn a_secret_comes_from_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hunter2\n").unwrap();
    let yaml = format!(
        "clusters: {{main: {{bootstrap_servers: a, allowed_topics: [t], properties: {{sasl.password: {{file: {0}}}}}}}}}\n\
         listeners: {{admin: {{tokens: [{{file: {0}}}]}}}}",
        file.path().display()
    );
    let config = load(&yaml, env(&[])).unwrap().config;
    assert_eq!(config.listeners.admin.tokens[0].expose(), "hunter2");
    let cluster = &config.clusters["main"];
    assert_eq!(property(&cluster.properties, "sasl.password"), Some("hunter2"));
}

/// Wherever a secret may stand, no problem, warning or debug text repeats it.
#[test]
fn secrets_are_never_printed() {
    let texts = [
        "listeners: {data: {tokens: [SENTINEL]}}",
        "listeners: {data: {tokens: SENTINEL}}",
        "listeners: {data: {tokens: ['SENTINEL SENTINEL']}}",
        "listeners: {data: {tokens: [{SENTINEL: SENTINEL}]}}",
        "clusters: {main: {bootstrap_servers: a, properties: {sasl.password: SENTINEL}}}",
        "clusters: {main: {bootstrap_servers: a, properties: {sasl.passwrd: SENTINEL}}}",
        "clusters: {main: {bootstrap_servers: a, properties: {sasl.password: [SENTINEL]}}}",
        "clusters: {main: {bootstrap_servers: a, properties: {ssl.key.pem: SENTINEL, security.protocol: ssl}}}",
        "clusters: {main: {bootstrap_servers: a, properties: {enable.sasl.oauthbearer.unsecure.jwt: SENTINEL}}}",
        "clusters: {main: {bootstrap_servers: a, properties: {sasl.password: *SENTINEL}}}",
        "clusters: {main: {bootstrap_servers: a, properties: {sasl.password: \"SENTINEL}}}",
        "clusters: {main: {bootstrap_servers: a, properties: {sasl.password: !SENTINEL!x y}}}",
    ];
    for text in texts {
        let printed = match load(text, env(&[])) {
            Ok(loaded) => format!("{loaded:?}"),
            Err(problems) => lines(&problems),
        };
        // A key that nobody knows is no secret; what it is set to is.
        let printed = printed.replace("tokens[0].SENTINEL: unknown field", "");
        assert!(!printed.contains("SENTINEL"), "{text}: {printed}");
    }
}
