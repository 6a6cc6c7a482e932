//! Clusters, field by field.

use std::path::Path;
use std::time::Duration;

use crate::config::{BearerToken, Cluster, Secret, TokenSource, load};

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

#[test]
fn every_shape_of_a_truststore() {
    use base64::Engine;
    let base64 =
        |name: &str| base64::engine::general_purpose::STANDARD.encode(std::fs::read(store(name)).unwrap());
    let root = text("root.pem");
    let shapes = [
        (format!("{{location: {}}}", store("root.pem")), 1),
        (format!("{{type: PEM, location: {}}}", store("root.pem")), 1),
        (format!("{{certificates: {{file: {}}}}}", store("root.pem")), 1),
        (format!("{{content: {{file: {}}}}}", store("root.pem")), 1),
        (format!("{{certificates: {root:?}}}"), 1),
        (
            format!(
                "{{type: PKCS12, location: {}, password: {{env: P}}}}",
                store("trust.p12")
            ),
            1,
        ),
        (
            format!("{{content: {:?}, password: {{env: P}}}}", base64("trust.p12")),
            1,
        ),
        (
            format!(
                "{{type: JKS, location: {}, password: {{env: P}}}}",
                store("trust.jks")
            ),
            2,
        ),
        (format!("{{type: JKS, content: {:?}}}", base64("trust.jks")), 2),
        // As Java, which finds out what it is.
        (
            format!(
                "{{type: JKS, location: {}, password: {{env: P}}}}",
                store("trust.p12")
            ),
            1,
        ),
        ("{type: NONE}".to_owned(), 0),
    ];
    for (shape, count) in shapes {
        let yaml = format!(
            "clusters: {{main: {{bootstrap_servers: a, allowed_topics: [t], protocol: SSL, security: {{truststore: \
             {shape}}}}}}}"
        );
        let found = load_with(&[("P", "store-secret")], &yaml);
        let (found, warnings) = found.unwrap_or_else(|problems| panic!("{shape}: {problems}"));
        let pem = property(&found, "ssl.ca.pem").unwrap_or_default();
        assert_eq!(pem.matches("BEGIN").count(), count, "{shape}");
        assert!(count == 0 || pem.contains(root.trim()), "{shape}");
        assert_eq!(warnings, "", "{shape}");
    }
}

#[test]
fn every_shape_of_an_identity() {
    let chain_and_key = |key: &str| {
        format!(
            "keystore: {{certificate_chain: {{file: {}}}, key: {{file: {}}}",
            store("chain.pem"),
            store(key)
        )
    };
    let shapes = [
        format!("keystore: {{type: PEM, location: {}}}", store("both.pem")),
        format!("{}}}", chain_and_key("key.pem")),
        format!(
            "{}, key_password: {{env: K}}}}",
            chain_and_key("key-encrypted.pem")
        ),
        format!(
            "keystore: {{type: PKCS12, location: {}, password: {{env: S}}}}",
            store("keytool.p12")
        ),
        format!(
            "keystore: {{location: {}, password: {{env: S}}}}",
            store("one-password.jks")
        ),
        format!(
            "keystore: {{type: JKS, location: {}, password: {{env: S}}, key_password: {{env: K}}}}",
            store("two-passwords.jks")
        ),
        "certificate_id: mine".to_owned(),
        "certificate_id: theirs".to_owned(),
    ];
    for shape in shapes {
        let certificates = [
            format!(
                "certificates: {{mine: {{cert: {{file: {0}}}, key: {{file: {1}}}}}, theirs: {{cert: {{file: {0}}}, key: \
                 {{file: {2}}}, key_password: {{env: K}}}}}}",
                store("chain.pem"),
                store("key.pem"),
                store("key-encrypted.pem")
            ),
            format!(
                "certificates: [{{id: mine, cert: {{file: {0}}}, key: {{file: {1}}}}}, {{id: theirs, cert: {{file: {0}}}, \
                 key: {{file: {1}}}}}]",
                store("chain.pem"),
                store("key.pem")
            ),
        ];
        for certificates in certificates {
            let yaml = format!(
                "{certificates}\nclusters: {{main: {{bootstrap_servers: a, allowed_topics: [t], security: {{ssl: true, \
                 {shape}}}}}}}"
            );
            let found = load_with(&[("S", "store-secret"), ("K", "key-secret")], &yaml);
            let (found, warnings) = found.unwrap_or_else(|problems| panic!("{shape}: {problems}"));
            assert_eq!(
                property(&found, "ssl.certificate.pem").unwrap(),
                text("chain.pem"),
                "{shape}"
            );
            assert_eq!(
                property(&found, "ssl.key.pem").unwrap(),
                text("key.pem"),
                "{shape}"
            );
            assert_eq!(property(&found, "security.protocol"), Some("SSL"));
            assert_eq!(warnings, "", "{shape}");
        }
    }
}

#[test]
fn what_is_wrong_with_stores() {
    let rows = [
        (
            "truststore: {type: PEM}".to_owned(),
            "location: is missing: a store needs `location`, `content` or",
        ),
        (
            "truststore: {type: BCFKS}".to_owned(),
            "type: must be one of NONE, PEM, PKCS12, JKS",
        ),
        (
            "truststore: {type: NONE, location: /a}".to_owned(),
            "location: means nothing with `type: NONE`",
        ),
        (
            "truststore: {location: /nowhere/a.jks}".to_owned(),
            "location: cannot read /nowhere/a.jks: No such file",
        ),
        (
            "truststore: {content: '%%'}".to_owned(),
            "content: is neither PEM nor base64",
        ),
        (
            "truststore: {content: aGVsbG8=}".to_owned(),
            "content: is neither PEM, nor PKCS#12, nor JKS",
        ),
        (
            "truststore: {certificates: x}".to_owned(),
            "certificates: holds no certificate in PEM",
        ),
        (
            format!("truststore: {{certificates: x, location: {}}}", store("root.pem")),
            "certificates: is a store by itself",
        ),
        (
            format!("truststore: {{content: x, location: {}}}", store("root.pem")),
            "content: is a store by itself",
        ),
        (
            format!("truststore: {{type: PEM, location: {}}}", store("trust.jks")),
            "type: is PEM, and location holds Jks",
        ),
        (
            format!("truststore: {{type: JKS, location: {}}}", store("root.pem")),
            "type: must be PEM",
        ),
        (
            format!("truststore: {{location: {}, password: x}}", store("root.pem")),
            "password: means nothing",
        ),
        (
            format!("truststore: {{location: {}, password: x}}", store("trust.jks")),
            "location: cannot be opened: the store's password",
        ),
        (
            format!("truststore: {{location: {}}}", store("old.pem")),
            "location: the certificate CN=old expired on",
        ),
        (
            format!(
                "keystore: {{certificate_chain: {{file: {}}}}}",
                store("chain.pem")
            ),
            "key: is required",
        ),
        (
            format!("keystore: {{key: {{file: {}}}}}", store("key.pem")),
            "certificate_chain: is required",
        ),
        (
            format!(
                "keystore: {{certificate_chain: {{file: {}}}, key: {{file: {}}}}}",
                store("chain.pem"),
                store("old-key.pem")
            ),
            "keystore.key: the private key is not that of the certificate O=Example, CN=client",
        ),
        (
            format!(
                "keystore: {{certificate_chain: {{file: {}}}, key: {{file: {}}}}}",
                store("old.pem"),
                store("old-key.pem")
            ),
            "keystore.certificate_chain: the certificate CN=old expired on",
        ),
        (
            format!(
                "keystore: {{certificate_chain: {{file: {0}}}, key: {{file: {0}}}, type: JKS, location: x, password: y}}",
                store("both.pem")
            ),
            "type: must be PEM with `certificate_chain` and `key`",
        ),
        (
            format!(
                "keystore: {{location: {}, password: wrong}}",
                store("keytool.p12")
            ),
            "location: cannot be opened: the store's password is wrong",
        ),
        (
            format!("keystore: {{location: {}}}", store("trust.jks")),
            "needs its password",
        ),
        (
            "certificate_id: nobody".to_owned(),
            "certificate_id: `certificates` has no \"nobody\"",
        ),
        (
            format!("certificate_id: a, keystore: {{location: {}}}", store("both.pem")),
            "certificate_id: is the same as `keystore`",
        ),
        (
            "ssl_verfy: false".to_owned(),
            "ssl_verfy: unknown field; did you mean `ssl_verify`?",
        ),
    ];
    for (fields, expected) in rows {
        let found = wrong(&format!("protocol: SSL, security: {{{fields}}}"));
        assert!(found.contains(expected), "{fields}: {found}");
    }
}

#[test]
fn certificates_of_the_top_level() {
    let of = |certificates: &str| {
        let yaml = format!(
            "certificates: {certificates}\nclusters: {{main: {{bootstrap_servers: a, allowed_topics: [t]}}}}"
        );
        load_with(&[], &yaml).map(|(_, warnings)| warnings)
    };
    let wrong = |certificates: &str| of(certificates).unwrap_err();
    assert!(wrong("{a: {key: x}}").starts_with("certificates.a.cert: is required\n"));
    assert!(wrong("[{cert: x, key: y}]").contains("certificates[0].id: is required"));
    let pair = format!(
        "cert: {{file: {}}}, key: {{file: {}}}",
        store("chain.pem"),
        store("key.pem")
    );
    let twice = wrong(&format!("[{{id: a, {pair}}}, {{id: a, {pair}}}]"));
    assert_eq!(twice, "certificates[1]: \"a\" is here twice\n");
    let inline = format!(
        "{{a: {{cert: {:?}, key: {:?}}}}}",
        text("chain.pem"),
        text("key.pem")
    );
    let warning =
        "certificates.a.key: a secret is written in the configuration; {file: …} or {env: …} keeps it out\n";
    assert_eq!(of(&inline).unwrap(), warning);
}

#[test]
fn logins() {
    for (mechanism, expected) in [
        ("PLAIN", "PLAIN"),
        ("SCRAM-SHA-256", "SCRAM-SHA-256"),
        ("SCRAM-SHA-512", "SCRAM-SHA-512"),
    ] {
        let fields = format!(
            "authentication: {{strategy: sasl, mechanism: {mechanism}, user: alice, password: hunter2}}"
        );
        let (found, warnings) = cluster(&fields);
        assert_eq!(property(&found, "sasl.mechanism"), Some(expected));
        assert_eq!(property(&found, "sasl.username"), Some("alice"));
        assert_eq!(property(&found, "sasl.password"), Some("hunter2"));
        assert_eq!(found.token, None);
        let warning = "clusters.main.authentication.password: a secret is written in the configuration; {file: …} or \
                       {env: …} keeps it out\n";
        assert_eq!(warnings, warning);
    }
    let event_hubs = "security: {ssl: true}, authentication: {mechanism: PLAIN, user: $ConnectionString, password: \
                      'Endpoint=sb://x.servicebus.windows.net/;SharedAccessKeyName=n;SharedAccessKey=k='}";
    let (found, _) = cluster(event_hubs);
    assert_eq!(property(&found, "sasl.username"), Some("$ConnectionString"));
    assert!(
        property(&found, "sasl.password")
            .unwrap()
            .ends_with("SharedAccessKey=k=")
    );
    for (fields, expected) in [
        ("{}", "authentication.mechanism: is required"),
        (
            "{mechanism: plain, user: a, password: b}",
            "mechanism: must be one of PLAIN",
        ),
        (
            "{mechanism: PLAIN, user: a}",
            "authentication.password: is required by PLAIN",
        ),
        (
            "{mechanism: SCRAM-SHA-256, password: a}",
            "authentication.user: is required by SCRAM-SHA-256",
        ),
        (
            "{mechanism: PLAIN, user: a, password: ''}",
            "authentication.password: must not be empty",
        ),
        (
            "{mechanism: PLAIN, user: a, password: b, oauthbearer: {token: x}}",
            "oauthbearer: belongs to",
        ),
        (
            "{mechanism: PLAIN, user: a, password: b, strategy: mtls}",
            "strategy: must be one of sasl",
        ),
        (
            "{mechanism: SCRAM-SHA-512, user: a, password: b, tokenauth: true}",
            "delegation tokens are not supported yet",
        ),
        ("{mechanism: GSSAPI}", "GSSAPI (Kerberos) is not supported yet"),
        ("{mechanism: AWS_MSK_IAM}", "AWS MSK IAM is not supported yet"),
        (
            "{mechanism: PLAIN, user: a, password: b, passwrd: c}",
            "passwrd: unknown field",
        ),
    ] {
        let found = wrong(&format!("authentication: {fields}"));
        assert!(found.contains(expected), "{fields}: {found}");
    }
    let (found, _) = cluster("authentication: {mechanism: PLAIN, user: a, password: b, tokenauth: false}");
    assert_eq!(property(&found, "sasl.mechanism"), Some("PLAIN"));
}

#[test]
fn bearer_tokens() {
    let token = |fields: &str| {
        let (found, warnings) = cluster(&format!(
            "authentication: {{mechanism: OAUTHBEARER, oauthbearer: {fields}}}"
        ));
        assert_eq!(property(&found, "sasl.mechanism"), Some("OAUTHBEARER"));
        (found.token.unwrap(), warnings)
    };
    let (found, warnings) = token("{token: abc, extensions: {logicalCluster: lkc-1}}");
    let expected = BearerToken {
        source: TokenSource::Fixed(Secret::new("abc")),
        extensions: [("logicalCluster".to_owned(), "lkc-1".to_owned())].into(),
    };
    assert_eq!(found, expected);
    assert!(warnings.starts_with("clusters.main.authentication.oauthbearer.token: a secret is written"));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "abc\n").unwrap();
    let (found, warnings) = token(&format!("{{token_file: {}}}", file.path().display()));
    assert_eq!(found.source, TokenSource::File(file.path().to_owned()));
    assert_eq!(warnings, "");
    // {"exp": 1}, whose time is over: that may change in a file, and cannot elsewhere.
    std::fs::write(file.path(), "e30.eyJleHAiOiAxfQ.c2ln").unwrap();
    let (_, warnings) = token(&format!("{{token_file: {}}}", file.path().display()));
    assert!(
        warnings.contains("token_file: the token expired at 1970-01-01T00:00:01Z"),
        "{warnings}"
    );
    for (fields, expected) in [
        (
            "{token: e30.eyJleHAiOiAxfQ.c2ln}",
            "token: the token expired at 1970-01-01T00:00:01Z",
        ),
        ("{token: 'two words'}", "token: is no bearer token"),
        ("{token: a, token_file: b}", "token_file: is the same as `token`"),
        (
            "{token_file: /nowhere/token}",
            "token_file: cannot read /nowhere/token",
        ),
        ("{extensions: {a: b}}", "token_file: is missing"),
        (
            "{token: a, extensions: {auth: b}}",
            "extensions.auth: must have a name of letters",
        ),
        (
            "{token_endpoint_url: https://x, client_id: a, client_secret: b}",
            "client_secret: fetching tokens from an OIDC",
        ),
        (
            "{credentials: from_request}",
            "credentials: passing the caller's token on is not supported yet",
        ),
    ] {
        let found = wrong(&format!(
            "authentication: {{mechanism: OAUTHBEARER, oauthbearer: {fields}}}"
        ));
        assert!(found.contains(expected), "{fields}: {found}");
    }
    let found = wrong("authentication: {mechanism: OAUTHBEARER}");
    assert!(
        found.contains("authentication.oauthbearer: is required"),
        "{found}"
    );
    let found = wrong("authentication: {mechanism: OAUTHBEARER, user: a, oauthbearer: {token: x}}");
    assert!(
        found.contains("authentication.user: means nothing with OAUTHBEARER"),
        "{found}"
    );
}

#[test]
fn jaas_lines() {
    let of = |mechanism: &str, line: &str| {
        let yaml = format!(
            "clusters: {{main: {{bootstrap_servers: a, allowed_topics: [t], authentication: {{{mechanism}sasl_jaas_config: \
             {{env: LINE}}}}}}}}"
        );
        load_with(&[("LINE", line)], &yaml)
    };
    let package = "org.apache.kafka.common.security";
    let plain = format!("{package}.plain.PlainLoginModule required username=\"alice\" password=\"hunter2\";");
    let scram = format!("{package}.scram.ScramLoginModule required username=\"alice\" password=\"hunter2\";");
    let rows = [
        ("", &plain, "PLAIN"),
        ("mechanism: PLAIN, ", &plain, "PLAIN"),
        ("mechanism: SCRAM-SHA-256, ", &scram, "SCRAM-SHA-256"),
        ("mechanism: SCRAM-SHA-512, ", &scram, "SCRAM-SHA-512"),
    ];
    for (mechanism, line, expected) in rows {
        let (found, warnings) = of(mechanism, line).unwrap();
        assert_eq!(property(&found, "sasl.mechanism"), Some(expected));
        assert_eq!(property(&found, "sasl.username"), Some("alice"));
        assert_eq!(property(&found, "sasl.password"), Some("hunter2"));
        assert_eq!(warnings, "");
    }
    let bearer = "OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"alice\" \
                  unsecuredLoginLifetimeSeconds=\"60\";";
    let (found, warnings) = of("", bearer).unwrap();
    let source = TokenSource::Unsecured {
        principal: "alice".to_owned(),
        lifetime: Duration::from_secs(60),
    };
    assert_eq!(found.token.unwrap().source, source);
    assert!(warnings.contains("tokens that nobody signs"), "{warnings}");
    for (mechanism, line, expected) in [
        (
            "",
            scram.as_str(),
            "authentication.mechanism: is required by ScramLoginModule",
        ),
        (
            "mechanism: PLAIN, ",
            &scram,
            "mechanism: is not what the ScramLoginModule of sasl_jaas_config is for",
        ),
        (
            "user: x, ",
            &plain,
            "user: is what `sasl_jaas_config` says: keep one",
        ),
        (
            "",
            "PlainLoginModule required username=a;",
            "needs the options `username` and `password`",
        ),
        (
            "",
            "PlainLoginModule required username=a password=hunter2 x=hunter2;",
            "an option that is not known: x",
        ),
        (
            "mechanism: SCRAM-SHA-256, ",
            "ScramLoginModule required username=a password=hunter2 tokenauth=true;",
            "delegation tokens are not supported yet",
        ),
        (
            "",
            "software.amazon.msk.auth.iam.IAMLoginModule required;",
            "AWS MSK IAM is not supported yet",
        ),
        (
            "",
            "com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true;",
            "GSSAPI (Kerberos) is not supported yet",
        ),
        (
            "",
            "OAuthBearerLoginModule required clientId=a clientSecret=hunter2;",
            "OIDC issuer is not supported yet",
        ),
        (
            "",
            "OAuthBearerLoginModule required;",
            "needs the option `unsecuredLoginStringClaim_sub`",
        ),
        (
            "",
            "com.example.Mine required;",
            "has a login module that is not known",
        ),
        (
            "",
            "PlainLoginModule required password=hunter2",
            "must end with `;`",
        ),
    ] {
        let found = of(mechanism, line).unwrap_err();
        assert!(found.contains(expected), "{line}: {found}");
        assert!(!found.contains("hunter2"), "{line}: {found}");
    }
}
