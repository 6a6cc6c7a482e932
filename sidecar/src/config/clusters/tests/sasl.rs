//! `authentication`.

use std::time::Duration;

use super::*;
use crate::config::{
    AwsIam, AwsKeys, AwsRole, BearerToken, Callers, DelegationToken, ScramHash, TokenSource,
};
use crate::kafka::oidc::{Issuer, Settings};

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
            "{mechanism: PLAIN, user: a, password: b, tokenauth: true}",
            "authentication.tokenauth: means nothing with this mechanism",
        ),
        (
            "{mechanism: OAUTHBEARER, oauthbearer: {token: a}, tokenauth: true}",
            "authentication.tokenauth: means nothing with this mechanism",
        ),
        (
            "{mechanism: SCRAM-SHA-256, user: a, tokenauth: true}",
            "authentication.password: is required by SCRAM-SHA-256",
        ),
        (
            "{mechanism: GSSAPI}",
            "authentication.gssapi: is required by GSSAPI",
        ),
        (
            "{mechanism: PLAIN, user: a, password: b, gssapi: {}}",
            "gssapi: belongs to `mechanism: GSSAPI`",
        ),
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
fn delegation_tokens() {
    let line = "ScramLoginModule required username=\"id\" password=\"hunter2\" tokenauth=\"true\";";
    for (mechanism, hash) in [
        ("SCRAM-SHA-256", ScramHash::Sha256),
        ("SCRAM-SHA-512", ScramHash::Sha512),
    ] {
        for fields in [
            "user: id, password: hunter2, tokenauth: true".to_owned(),
            format!("sasl_jaas_config: '{line}'"),
        ] {
            let (found, _) = cluster(&format!("authentication: {{mechanism: {mechanism}, {fields}}}"));
            let expected = DelegationToken {
                hash,
                id: Secret::new("id"),
                hmac: Secret::new("hunter2"),
            };
            assert_eq!(found.delegation, Some(expected));
            assert_eq!(property(&found, "security.protocol"), Some("SASL_PLAINTEXT"));
            assert_eq!(property(&found, "sasl.mechanism"), None);
        }
    }
    let token = "authentication: {mechanism: SCRAM-SHA-256, user: id, password: hunter2, tokenauth: true}";
    let (found, _) = cluster(&format!("security: {{ssl: true}}, {token}"));
    assert_eq!(property(&found, "security.protocol"), Some("SASL_SSL"));
    for (fields, expected) in [
        (
            "security: {ssl: true}, properties: {ssl.crl.location: /x}",
            "properties.ssl.crl.location: is not heeded with `tokenauth`",
        ),
        (
            "properties: {sasl.username: x}",
            "properties.sasl.username: means nothing with `tokenauth`",
        ),
        (
            "security: {ssl: true}, properties: {ssl.ca.location: /nowhere/ca.pem}",
            "ssl.ca.location: OpenSSL does not take it",
        ),
    ] {
        let found = wrong(&format!("{token}, {fields}"));
        assert!(found.contains(expected), "{fields}: {found}");
        assert!(!found.contains("hunter2"), "{found}");
    }
}

#[test]
fn gssapi() {
    let keytab = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(keytab.path(), crate::kerberos::keytab_of(&[("me", "REALM")])).unwrap();
    let path = keytab.path().display();
    let line = format!(
        "com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true keyTab=\"{path}\" \
         principal=\"me@REALM\" serviceName=\"broker\";"
    );
    let fields =
        format!("mechanism: GSSAPI, gssapi: {{service_name: broker, principal: me@REALM, keytab: {path}}}");
    for fields in [fields, format!("sasl_jaas_config: '{line}'")] {
        let fields = format!("authentication: {{{fields}}}");
        if cfg!(feature = "gssapi") {
            let (found, _) = cluster(&fields);
            assert_eq!(property(&found, "sasl.mechanism"), Some("GSSAPI"));
            assert_eq!(property(&found, "sasl.kerberos.service.name"), Some("broker"));
            let kerberos = found.kerberos.unwrap();
            assert_eq!(
                (kerberos.principal.as_str(), &*kerberos.keytab),
                ("me@REALM", keytab.path())
            );
        } else {
            let found = wrong(&fields);
            assert!(found.contains("is not in this build"), "{found}");
        }
    }
    for (fields, expected) in [
        ("keytab: /x", "principal: is required"),
        ("principal: me@REALM", "keytab: is required"),
        (
            "principal: me@REALM, keytab: /nowhere/me.keytab",
            "keytab: cannot be read: /nowhere/me.keytab",
        ),
        (
            &format!("principal: you@REALM, keytab: {path}"),
            "principal: is not the first of the keytab, which has me@REALM",
        ),
        (
            &format!("principal: 'me', keytab: {path}"),
            "principal: must have its realm",
        ),
    ] {
        let found = wrong(&format!(
            "authentication: {{mechanism: GSSAPI, gssapi: {{{fields}}}}}"
        ));
        assert!(
            found.contains(&format!("authentication.gssapi.{expected}")),
            "{fields}: {found}"
        );
    }
    let rest = line.replace("useKeyTab=true", "useKeyTab=false");
    let found = wrong(&format!("authentication: {{sasl_jaas_config: '{rest}'}}"));
    assert!(found.contains("has a `useKeyTab` that must be true"), "{found}");
}

#[test]
fn aws_msk_iam() {
    let of = |servers: &str, fields: &str| {
        let yaml =
            format!("clusters: {{main: {{bootstrap_servers: '{servers}', allowed_topics: [t], {fields}}}}}");
        load_with(&[], &yaml)
    };
    let msk = "b-1.main.abc123.c2.kafka.eu-west-1.amazonaws.com:9098";
    let iam = |servers: &str, authentication: &str| {
        let fields = format!("security: {{ssl: true}}, authentication: {{{authentication}}}");
        let (found, _) = of(servers, &fields).unwrap();
        assert_eq!(property(&found, "sasl.mechanism"), Some("OAUTHBEARER"));
        assert_eq!(property(&found, "security.protocol"), Some("SASL_SSL"));
        match found.token.unwrap().source {
            TokenSource::AwsMskIam(iam) => iam,
            other => panic!("{other:?}"),
        }
    };
    let bare = AwsIam {
        region: "eu-west-1".to_owned(),
        profile: None,
        keys: None,
        role: None,
    };
    let line = "software.amazon.msk.auth.iam.IAMLoginModule required";
    assert_eq!(iam(msk, "mechanism: AWS_MSK_IAM"), bare);
    assert_eq!(iam(msk, &format!("sasl_jaas_config: '{line};'")), bare);
    let elsewhere = iam(
        "kafka.example:9098",
        "mechanism: AWS_MSK_IAM, aws_msk_iam: {region: us-east-1}",
    );
    assert_eq!(elsewhere.region, "us-east-1");
    let profile = iam(
        msk,
        "mechanism: AWS_MSK_IAM, aws_msk_iam: {profile: orders, region: eu-north-1}",
    );
    assert_eq!(
        (profile.profile.as_deref(), profile.region.as_str()),
        (Some("orders"), "eu-north-1")
    );
    let profile = iam(
        msk,
        &format!("sasl_jaas_config: '{line} awsProfileName=\"orders\";'"),
    );
    assert_eq!(profile.profile.as_deref(), Some("orders"));
    let expected = AwsIam {
        keys: Some(AwsKeys {
            id: Secret::new("AKID"),
            secret: Secret::new("hunter2"),
            session_token: Some(Secret::new("st")),
        }),
        role: Some(AwsRole {
            arn: "arn:aws:iam::1:role/r".to_owned(),
            session_name: Some("s".to_owned()),
            external_id: Some(Secret::new("x")),
            sts_region: Some("eu-central-1".to_owned()),
            sts_endpoint: Some("https://sts.example".to_owned()),
        }),
        ..bare
    };
    let all = "mechanism: AWS_MSK_IAM, aws_msk_iam: {role_arn: 'arn:aws:iam::1:role/r', role_session_name: s, \
               role_external_id: x, sts_region: eu-central-1, sts_endpoint: 'https://sts.example', access_key_id: AKID, \
               secret_access_key: hunter2, session_token: st}";
    assert_eq!(iam(msk, all), expected);
    let mut found = iam(
        msk,
        &format!(
            "sasl_jaas_config: '{line} awsRoleArn=\"arn:aws:iam::1:role/r\" awsRoleSessionName=s awsRoleExternalId=x \
             awsStsRegion=\"eu-central-1\" awsRoleAccessKeyId=AKID awsRoleSecretAccessKey=hunter2 \
             awsRoleSessionToken=st;'"
        ),
    );
    found.role.as_mut().unwrap().sts_endpoint = Some("https://sts.example".to_owned());
    assert_eq!(found, expected);
    let tls = "security: {ssl: true}";
    for (servers, fields, expected) in [
        (
            msk,
            "authentication: {mechanism: AWS_MSK_IAM}",
            "authentication: AWS MSK IAM is spoken over TLS only",
        ),
        (
            msk,
            "protocol: SASL_PLAINTEXT, authentication: {mechanism: AWS_MSK_IAM}",
            "authentication: AWS MSK IAM is spoken over TLS only",
        ),
        (
            "kafka.example",
            &format!("{tls}, authentication: {{mechanism: AWS_MSK_IAM}}"),
            "aws_msk_iam.region: is required",
        ),
        (
            msk,
            &format!("{tls}, authentication: {{mechanism: AWS_MSK_IAM, user: a}}"),
            "user: means nothing with AWS_MSK_IAM",
        ),
        (
            msk,
            &format!("{tls}, authentication: {{mechanism: PLAIN, user: a, password: b, aws_msk_iam: {{}}}}"),
            "aws_msk_iam: belongs to `mechanism: AWS_MSK_IAM`",
        ),
    ] {
        let found = of(servers, fields).unwrap_err();
        assert!(found.contains(expected), "{fields}: {found}");
    }
    for (fields, expected) in [
        ("region: Frankfurt", "region: is no region"),
        (
            "sts_region: eu-west-1",
            "sts_region: means nothing without `role_arn`",
        ),
        (
            "role_session_name: x",
            "role_session_name: means nothing without `role_arn`",
        ),
        (
            "role_external_id: x",
            "role_external_id: means nothing without `role_arn`",
        ),
        (
            "role_arn: x, sts_endpoint: sts.example",
            "sts_endpoint: is no URL",
        ),
        ("access_key_id: x", "secret_access_key: is missing"),
        ("secret_access_key: hunter2", "access_key_id: is missing"),
        ("session_token: hunter2", "access_key_id: is missing"),
        (
            "access_key_id: x, secret_access_key: hunter2, profile: y",
            "profile: names keys",
        ),
        ("nonsense: x", "nonsense: unknown field"),
    ] {
        let fields = format!("{tls}, authentication: {{mechanism: AWS_MSK_IAM, aws_msk_iam: {{{fields}}}}}");
        let found = of(msk, &fields).unwrap_err();
        assert!(
            found.contains(&format!("aws_msk_iam.{expected}")),
            "{fields}: {found}"
        );
        assert!(!found.contains("hunter2"), "{found}");
    }
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
            "{token_endpoint_url: https://x, client_id: a}",
            "client_secret: is required to fetch tokens",
        ),
        (
            "{token_endpoint_url: https://x, client_id: a, client_secret: hunter2, token: b}",
            "token: is the same as `token_endpoint_url`",
        ),
        (
            "{token: a, scopes: [b]}",
            "scopes: belongs to `token_endpoint_url`, which is missing",
        ),
        (
            "{token_endpoint_url: 'ftp://x', client_id: a, client_secret: hunter2}",
            "token_endpoint_url: must begin with `https://`",
        ),
        (
            "{token_endpoint_url: 'https://a:b@x/', client_id: a, client_secret: hunter2}",
            "token_endpoint_url: must not have a user in it",
        ),
        (
            "{token_endpoint_url: https://x, client_id: a, client_secret: hunter2, scopes: ['a b']}",
            "scopes: \"a b\" is no scope",
        ),
        (
            "{token_endpoint_url: 'http://x', client_id: a, client_secret: hunter2, token_endpoint_tls_verify: false}",
            "token_endpoint_tls_verify: means nothing with an `http` endpoint",
        ),
        (
            "{token_endpoint_url: https://x, client_id: a, client_secret: hunter2, token_endpoint_truststore: {location: /nowhere}}",
            "token_endpoint_truststore.location: cannot read /nowhere",
        ),
        ("{credentials: from_request}", "credentials: goes one level up"),
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
            "",
            "PlainLoginModule required username=a password=hunter2 tokenauth=true;",
            "has `tokenauth`, which is ScramLoginModule's",
        ),
        (
            "mechanism: SCRAM-SHA-256, tokenauth: true, ",
            &scram,
            "tokenauth: goes into the line of `sasl_jaas_config`",
        ),
        (
            "",
            "software.amazon.msk.auth.iam.IAMLoginModule required;",
            "aws_msk_iam.region` without it: is required",
        ),
        (
            "",
            "com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true;",
            "has a `principal` that is required",
        ),
        (
            "",
            "OAuthBearerLoginModule required clientId=a clientSecret=hunter2;",
            "needs the issuer's address: set properties.sasl.oauthbearer.token.endpoint.url",
        ),
        (
            "",
            "OAuthBearerLoginModule required;",
            "needs the options `clientId` and `clientSecret`, or `unsecuredLoginStringClaim_sub`",
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

fn issuer(settings: Settings) -> TokenSource {
    TokenSource::Oidc(std::sync::Arc::new(Issuer::new(settings)))
}

#[test]
fn issuers() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/keystores/root.pem");
    let fields = format!(
        "authentication: {{mechanism: OAUTHBEARER, oauthbearer: {{token_endpoint_url: 'https://issuer/token', client_id: me, \
         client_secret: hunter2, scopes: [a, b], extensions: {{logicalCluster: lkc-1}}, \
         token_endpoint_truststore: {{location: {root}}}}}}}"
    );
    let (found, warnings) = cluster(&fields);
    let token = found.token.unwrap();
    let mut settings = Settings {
        endpoint: "https://issuer/token".parse().unwrap(),
        client_id: "me".to_owned(),
        client_secret: Secret::new("hunter2"),
        scopes: vec!["a".to_owned(), "b".to_owned()],
        trust: crate::fetch::Trust {
            verify: true,
            authorities: None,
        },
    };
    let TokenSource::Oidc(read) = &token.source else {
        panic!("{token:?}");
    };
    assert!(!format!("{read:?}").contains("hunter2"));
    assert_ne!(token.source, issuer(settings.clone()), "the store is ignored");
    assert_eq!(token.extensions["logicalCluster"], "lkc-1");
    assert!(
        warnings.contains("client_secret: a secret is written"),
        "{warnings}"
    );

    let fields = "authentication: {mechanism: OAUTHBEARER, oauthbearer: {token_endpoint_url: 'https://issuer/token', \
                  client_id: me, client_secret: hunter2, scopes: a b, token_endpoint_tls_verify: false}}";
    let (found, warnings) = cluster(fields);
    settings.trust.verify = false;
    assert_eq!(found.token.unwrap().source, issuer(settings.clone()));
    assert!(
        warnings.contains("the issuer's certificate is not verified"),
        "{warnings}"
    );

    let fields = "authentication: {mechanism: OAUTHBEARER, oauthbearer: {token_endpoint_url: 'http://issuer/token', \
                  client_id: me, client_secret: hunter2}}";
    let (_, warnings) = cluster(fields);
    assert!(
        warnings.contains("token_endpoint_url: is not encrypted"),
        "{warnings}"
    );

    let fields = "authentication: {sasl_jaas_config: {env: LINE}}, \
                  properties: {sasl.oauthbearer.token.endpoint.url: 'https://issuer/token'}";
    let yaml = format!("clusters: {{main: {{bootstrap_servers: a, allowed_topics: [t], {fields}}}}}");
    let line = "OAuthBearerLoginModule required clientId=me clientSecret=hunter2 scope=\"a b\" extension_logicalCluster=l;";
    let (found, warnings) = load_with(&[("LINE", line)], &yaml).unwrap();
    settings.trust.verify = true;
    let token = found.token.unwrap();
    assert_eq!(token.source, issuer(settings));
    assert_eq!(token.extensions["logicalCluster"], "l");
    assert_eq!(warnings, "");
    let odd = line.replace("scope", "scop");
    let found = load_with(&[("LINE", &odd)], &yaml).unwrap_err();
    assert!(found.contains("an option that is not known: scop"), "{found}");
    let found = wrong("properties: {sasl.oauthbearer.token.endpoint.url: 'https://issuer/token'}");
    assert!(
        found.contains("belongs to the `clientId` of a `sasl_jaas_config`"),
        "{found}"
    );
}

#[test]
fn callers() {
    let (found, warnings) =
        cluster("authentication: {mechanism: OAUTHBEARER, credentials: from_request, max_callers: 7}");
    assert_eq!(found.callers, Some(Callers { max: 7 }));
    assert_eq!((&found.token, warnings.as_str()), (&None, ""));
    assert_eq!(property(&found, "sasl.mechanism"), Some("OAUTHBEARER"));
    let (found, _) = cluster("authentication: {mechanism: OAUTHBEARER, credentials: from_request}");
    assert_eq!(found.callers, Some(Callers { max: 100 }));
    let (found, _) = cluster(
        "authentication: {mechanism: OAUTHBEARER, credentials: from_config, oauthbearer: {token: a}}",
    );
    assert_eq!(found.callers, None);
    for (fields, expected) in [
        ("{credentials: from_request}", "mechanism: must be OAUTHBEARER"),
        (
            "{mechanism: PLAIN, credentials: from_request}",
            "mechanism: must be OAUTHBEARER",
        ),
        (
            "{mechanism: OAUTHBEARER, credentials: from_request, oauthbearer: {token: a}}",
            "oauthbearer: means nothing with `credentials: from_request`",
        ),
        (
            "{mechanism: OAUTHBEARER, oauthbearer: {token: a}, max_callers: 3}",
            "max_callers: belongs to `credentials: from_request`",
        ),
        (
            "{mechanism: OAUTHBEARER, credentials: from_request, max_callers: 0}",
            "max_callers: must be",
        ),
    ] {
        let found = wrong(&format!("authentication: {fields}"));
        assert!(found.contains(expected), "{fields}: {found}");
    }
}
