//! Trust stores, key stores and certificates.

use super::*;

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
