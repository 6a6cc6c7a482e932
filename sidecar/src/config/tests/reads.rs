//! What may be read, and whose tokens are taken.

use super::*;

#[test]
fn every_setting_of_an_entry_of_reads_is_heeded() {
    let Loaded { config, .. } = good("full.yaml", SECRETS);
    assert_eq!(config.max_readers, 3);
    let templates = &config.templates;
    assert_eq!(templates.timeout, Duration::from_millis(100));
    assert_eq!(
        (templates.max_output_bytes, templates.max_waiting_bytes),
        (2048, 4096)
    );
    let deploy = &templates.named["deploy"];
    let parts = ["topic", "payload", "key", "partition", "headers"];
    assert_eq!(deploy.definition.parts(), parts);
    assert_eq!(deploy.definition.encrypts_with(), Some("org"));
    assert_eq!(
        (deploy.by[0].0.as_str(), deploy.by[0].1.as_str()),
        ("user.id", "x-user")
    );
    let write = &templates.writes[0];
    assert_eq!(
        (write.cluster.as_str(), write.template.as_str()),
        ("main", "deploy")
    );
    assert!(write.topics.allows("audit.x") && !write.topics.allows("x"));
    let secret = &templates.secrets["org"];
    assert!(!secret.value.expose().is_empty());
    assert!(secret.topics.allows("audit.x") && secret.topics.allows("orders") && !secret.topics.allows("x"));
    let [one, other, claimed, chosen] = &config.reads[..] else {
        panic!("{:?}", config.reads)
    };
    assert_eq!(one.cluster, "main");
    assert!(one.topics.allows("audit.x") && one.topics.allows("orders") && !one.topics.allows("public.x"));
    assert!(!one.anonymous && one.tokens == [Secret::new("the-readers")]);
    assert_eq!(
        (one.limit, one.max_wait, one.max_bytes),
        (50, Duration::from_secs(2), 65536)
    );
    assert_eq!(one.auto_offset_reset, super::Reset::None);
    assert!(!one.encode_message_id && !one.check_topic_existence);
    assert!(one.publish && !other.publish);
    assert_eq!(
        one.allowed_origins,
        ["https://app.example.com", "http://localhost:8080"]
    );
    assert!(other.allowed_origins.is_empty());
    assert_eq!(config.max_members, 5);
    assert!(one.groups.allowed.allows("ORG.app") && !one.groups.allowed.allows("app"));
    let header = |name: &str| ChosenFrom::Header(name.parse().unwrap());
    let claim = |name: &str| ChosenFrom::Claim(crate::auth::claims::Name::parse(name).unwrap());
    assert_eq!(one.groups.said, Some(Said::Any(header("x-client-id"))));
    assert_eq!(
        (one.groups.prefix.as_str(), one.groups.qos),
        ("ORG.", super::Qos::AtLeastOnce)
    );
    assert_eq!((one.max_view_keys, one.max_view_bytes), (200, 4096));
    assert_eq!((other.max_view_keys, other.max_view_bytes), (100_000, 16 << 20));
    let filter: Vec<_> = one.filter.iter().flat_map(|filter| filter.shown()).collect();
    let shown = |kind, text: &str| (kind, text.to_owned());
    assert_eq!(
        filter,
        [
            shown("key", "a"),
            shown("key", "b"),
            shown("header", "region:eu"),
            shown("where", "$.hidden!=true"),
            shown("jq", "del(.internal)"),
        ]
    );
    assert!(other.topics.allows("public.x") && !other.topics.allows("not.public.x"));
    assert!(other.anonymous && other.tokens.is_empty());
    assert_eq!(
        (other.limit, other.max_wait, other.max_bytes),
        (500, Duration::from_secs(5), 1 << 20)
    );
    assert_eq!(other.auto_offset_reset, super::Reset::Latest);
    assert!(other.encode_message_id && other.check_topic_existence && other.filter.is_none());
    assert!(other.groups.allowed.0.is_empty() && other.groups.said.is_none() && other.key.is_none());
    assert_eq!(other.groups.qos, super::Qos::Auto);
    assert!(one.jwt.is_none() && one.from.is_none() && one.chosen_reset.is_none());
    assert!(!one.remove_confluent_header && claimed.remove_confluent_header);
    let bearers = claimed.jwt.as_ref().unwrap();
    assert!(Arc::ptr_eq(&bearers.provider, &config.jwt["corporate"]));
    let claims = |text: &str| match serde_json::from_str(text).unwrap() {
        serde_json::Value::Object(claims) => claims,
        other => panic!("{other}"),
    };
    let good = claims(r#"{"org": "acme", "scope": "list read", "realm": {"admin": true}}"#);
    assert!(bearers.take(&good));
    assert!(!bearers.take(&claims(r#"{"scope": "read", "realm": {"admin": true}}"#)));
    assert!(!bearers.take(&claims(r#"{"scope": "list read"}"#)));
    let ReadTopics::Claimed(topics) = &claimed.topics else {
        panic!("{:?}", claimed.topics)
    };
    assert_eq!(topics.fill(&good).0, ["acme.*"]);
    let choice = |from, allowed: [&str; 2], default: Option<&str>| Choice {
        from,
        allowed: allowed.map(str::to_owned).to_vec(),
        default: default.map(str::to_owned),
    };
    let from = choice(header("x-from"), ["earliest", "latest"], Some("latest"));
    assert_eq!(claimed.from, Some(from));
    let query = ChosenFrom::Query("reset".to_owned());
    assert_eq!(
        claimed.chosen_reset,
        Some(choice(query, ["earliest", "none"], None))
    );
    let ReadTopics::Chosen(topic) = &chosen.topics else {
        panic!("{:?}", chosen.topics)
    };
    assert_eq!(topic.to_string(), "by claim topic among orders, payments");
    assert_eq!(chosen.from.as_ref().unwrap().choose(None), Ok("earliest"));
    assert_eq!(claimed.groups.said, Some(Said::Any(claim("app"))));
    assert_eq!(claimed.groups.prefix, "ORG.");
    assert!(claimed.groups.allowed.allows("ORG.a") && !claimed.groups.allowed.allows("a"));
    let named = claims(r#"{"org": "acme"}"#);
    let who = super::Who {
        claims: Some(&named),
        name: Some("ada"),
    };
    for (group, may) in [
        ("acme.x", true),
        ("ada", true),
        ("ORG.x", true),
        ("globex.x", false),
    ] {
        assert_eq!(claimed.groups.allow(group, who), may, "{group}");
        let nobody = super::Who::default();
        assert_eq!(claimed.groups.allow(group, nobody), group == "ORG.x", "{group}");
    }
    assert_eq!(
        one.named_tokens,
        [("readers".to_owned(), Secret::new("the-readers"))]
    );
    let rule = config.clusters["main"].groups.as_ref();
    assert_eq!(rule.unwrap().0, ["ORG.*", "g-1"]);
    assert_eq!(config.clusters["audit"].groups, None);
    assert_eq!(claimed.key, Some(Said::Any(claim("customer"))));
    let group = choice(header("x-group"), ["g-1", "g-2"], Some("g-1"));
    assert_eq!(chosen.groups.said, Some(Said::Listed(group)));
    assert_eq!(chosen.groups.allowed.0, ["g-1", "g-2"]);
    let key = choice(ChosenFrom::Query("customer".to_owned()), ["a", "b"], None);
    assert_eq!(chosen.key, Some(Said::Listed(key)));
}

#[test]
fn every_setting_of_an_issuer_is_heeded() {
    use crate::auth::jwt::{Jwks, Provider};
    use crate::fetch::Trust;
    let Loaded { config, .. } = good("full.yaml", SECRETS);
    let settings = config.jwt["corporate"].settings();
    assert_eq!(
        (settings.name.as_str(), settings.issuer.as_str()),
        ("corporate", "https://login.example.com")
    );
    assert_eq!(settings.audiences, ["sluice", "readers"]);
    use jsonwebtoken::Algorithm;
    assert_eq!(settings.algorithms, [Algorithm::PS256, Algorithm::EdDSA]);
    assert_eq!(settings.clock_skew, Duration::from_secs(5));
    assert_eq!(settings.name_claim.to_string(), "email");
    let Jwks::Url {
        url,
        trust: Trust { verify, authorities },
        cache_duration,
    } = &settings.jwks
    else {
        panic!("{:?}", settings.jwks)
    };
    assert_eq!(url, "https://login.example.com/keys");
    assert!(*verify && authorities.as_ref().unwrap().contains("BEGIN CERTIFICATE"));
    assert_eq!(*cache_duration, Duration::from_secs(60));
    let usual = "clusters: {a: {bootstrap_servers: a, allowed_topics: [t]}}\n\
                 jwt: {a: {issuer: i, jwks: {url: 'http://keys', cache_duration: 1s}}, \
                 b: {issuer: i, audiences: [s], jwks: {url: 'https://keys', tls_verify: false}}}";
    let Loaded { config, warnings, .. } = load(usual, env(&[])).unwrap();
    assert_eq!(
        lines(&warnings),
        "jwt.a.audiences: are none: a token that the issuer made for anybody else is taken as well\n\
         jwt.a.jwks.url: is not encrypted: whoever is on the way can give keys of his own, and with them any token\n\
         jwt.b.jwks.tls_verify: the issuer's certificate is not verified: whoever is on the way can give keys of his \
         own, and with them any token\n"
    );
    let of = |provider: &Provider| provider.settings().clone();
    let settings = of(&config.jwt["a"]);
    assert_eq!(settings.algorithms, [Algorithm::RS256, Algorithm::ES256]);
    assert_eq!(
        (settings.clock_skew, settings.name_claim.to_string()),
        (Duration::from_secs(60), "sub".to_owned())
    );
}

#[test]
fn what_is_written_with_a_token_is_not_written_by_anybody() {
    let yaml = "listeners: {data: {tokens: [abc]}}\nclusters: {main: {bootstrap_servers: a, allowed_topics: [t]}}\n\
                reads: [{topics: [t], anonymous: true, publish: true}]";
    let problems = lines(&load(yaml, env(&[])).unwrap_err());
    assert!(
        problems.starts_with("reads[0].publish: would let anybody write"),
        "{problems}"
    );
    let of_its_own = yaml.replace("anonymous: true", "tokens: [xyz]");
    assert!(load(&of_its_own, env(&[])).is_ok());
}
