//! Files of `testdata/config/sidecar`, and every key one by one.

mod kong;

use std::path::{Path, PathBuf};

use super::*;

fn testdata(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../testdata/config/sidecar")
        .join(folder)
}

fn yaml_files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(testdata(folder)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    assert!(!files.is_empty());
    files
}

fn env(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    let owned: Vec<(String, String)> = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    owned.into_iter()
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

/// Each file's problems stand beside it, one per line. `UPDATE_EXPECTED=1` writes them.
#[test]
fn bad_files_have_exactly_these_problems() {
    let update = std::env::vars().any(|(name, _)| name == "UPDATE_EXPECTED");
    for file in yaml_files("bad") {
        let text = std::fs::read_to_string(&file).unwrap();
        let found = match load(&text, env(&[])) {
            Ok(_) => panic!("{} is not bad", file.display()),
            Err(problems) => lines(&problems),
        };
        let expected = file.with_extension("problems");
        if update {
            std::fs::write(&expected, &found).unwrap();
        }
        let expected = std::fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(found, expected, "{}", file.display());
    }
}

fn good(name: &str, pairs: &[(&str, &str)]) -> Loaded {
    let text = std::fs::read_to_string(testdata("good").join(name)).unwrap();
    load(&text, env(pairs)).unwrap_or_else(|problems| panic!("{name}: {}", lines(&problems)))
}

fn property<'a>(properties: &'a BTreeMap<String, Secret>, name: &str) -> Option<&'a str> {
    properties.get(name).map(Secret::expose)
}

#[test]
fn defaults() {
    let Loaded { config, warnings, .. } = good("minimal.yaml", &[]);
    assert_eq!(warnings, []);
    let Listeners { stream, data, admin } = &config.listeners;
    let path = PathBuf::from("/run/sluice/stream.sock");
    assert_eq!(stream.address, Address::Unix { path, mode: 0o660 });
    assert_eq!(data.address, Address::Tcp("127.0.0.1:9071".parse().unwrap()));
    assert_eq!(admin.address, Address::Tcp("127.0.0.1:9070".parse().unwrap()));
    for listener in [stream, data, admin] {
        assert_eq!(listener.tokens, []);
    }
    assert_eq!(config.default_cluster.as_deref(), Some("main"));
    assert_eq!(config.clusters["main"].bootstrap_servers, ["kafka:9092"]);
    assert!(config.clusters["main"].properties.is_empty());
    assert_eq!(config.max_producers, 16);
    assert_eq!(config.answer_timeout, Duration::from_secs(10));
    assert_eq!(config.max_request_bytes, 16 * 1024 * 1024);
    assert_eq!(config.grace_period, Duration::from_secs(20));
    assert_eq!(config.spool, None);
    assert_eq!(config.idempotency, None);
    assert!(config.dev_broker.is_none());
    let profile = &config.producers["default"];
    assert_eq!(profile.acks, Some(Acks::All));
    assert!(profile.idempotent);
    assert_eq!(property(&profile.properties, "acks"), Some("-1"));
    assert_eq!(property(&profile.properties, "enable.idempotence"), Some("true"));
    assert_eq!(profile.properties.len(), 2);
    assert_eq!(profile.max_records, 100_000);
    assert_eq!(profile.max_bytes, 64 * 1024 * 1024);
    assert_eq!(profile.max_queueing_time, Duration::from_millis(500));
    assert!(!profile.allow_auto_create_topics);
}

/// A profile that is written and says nothing is the one that is not written.
#[test]
fn an_empty_profile_is_the_default_one() {
    let yaml = "clusters: {main: {bootstrap_servers: a, allowed_topics: [t]}}\nproducers: {other: {}}\n";
    let config = load(yaml, env(&[])).unwrap().config;
    let (other, default) = (&config.producers["other"], &config.producers["default"]);
    assert_eq!(other.properties, default.properties);
    assert_eq!(
        (other.acks, other.idempotent, other.max_records, other.max_bytes),
        (
            default.acks,
            default.idempotent,
            default.max_records,
            default.max_bytes
        )
    );
}

const SECRETS: &[(&str, &str)] = &[
    ("DATA_TOKEN", "data-token"),
    ("OTHER_TOKEN", "other-token"),
    ("KAFKA_PASSWORD", "hunter2"),
    ("REPLY_KEY", "sixteen-bytes-or-more"),
    ("KAFKA_TOKEN", "abc"),
    ("STORE_PASSWORD", "store-secret"),
    ("KEY_PASSWORD", "key-secret"),
    ("READ_TOKEN", "the-readers"),
];

/// No value of full.yaml is its default, so that ignoring any of them fails here.
#[test]
fn every_key_is_heeded() {
    let Loaded { config, .. } = good("full.yaml", SECRETS);
    let Listeners { stream, data, admin } = &config.listeners;
    let path = PathBuf::from("/tmp/sluice-test.sock");
    assert_eq!(stream.address, Address::Unix { path, mode: 0o600 });
    assert_eq!(data.address, Address::Tcp("0.0.0.0:8071".parse().unwrap()));
    let tokens: Vec<&str> = data.tokens.iter().map(Secret::expose).collect();
    assert_eq!(tokens, ["data-token", "other-token"]);
    assert_eq!((data.max_connections, admin.max_connections), (77, 1024));
    assert_eq!(data.xff_num_trusted_hops, 2);
    assert_eq!(admin.address, Address::Tcp("[::]:8070".parse().unwrap()));
    assert_eq!(config.default_cluster.as_deref(), Some("audit"));
    let main = &config.clusters["main"];
    assert_eq!(
        main.bootstrap_servers,
        ["a.example:9093", "b.example:9092", "c.example:9094", "[::1]:9092"]
    );
    assert_eq!(property(&main.properties, "client.id"), Some("sluice"));
    assert_eq!(
        property(&main.properties, "socket.keepalive.enable"),
        Some("true")
    );
    assert_eq!(property(&main.properties, "fetch.wait.max.ms"), Some("10"));
    assert_eq!(main.allowed_topics.0, ["orders", "audit.*"]);
    let audit = &config.clusters["audit"];
    assert_eq!(audit.bootstrap_servers, ["d.example:9092", "e.example:9092"]);
    assert_eq!(property(&audit.properties, "sasl.password"), Some("hunter2"));
    let far = &config.clusters["far"];
    assert_eq!(far.bootstrap_servers, ["f.example:9094", "g.example:9092"]);
    assert!(far.produces && !far.consumes);
    let expected = [
        ("client.id", "orders-gateway"),
        ("enable.ssl.certificate.verification", "false"),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        ("sasl.password", "hunter2"),
        ("sasl.username", "alice"),
        ("security.protocol", "SASL_SSL"),
    ];
    for (name, value) in expected {
        assert_eq!(property(&far.properties, name), Some(value), "{name}");
    }
    let token = &config.clusters["token"];
    let source = TokenSource::Fixed(Secret::new("abc"));
    let extensions = BTreeMap::from([("logicalCluster".to_owned(), "lkc-1".to_owned())]);
    assert_eq!(token.token, Some(BearerToken { source, extensions }));
    assert_eq!(property(&token.properties, "sasl.mechanism"), Some("OAUTHBEARER"));
    for (cluster, trusted) in [(far, 2), (token, 1)] {
        let certificates = |name| {
            property(&cluster.properties, name)
                .unwrap()
                .matches("BEGIN CERTIFICATE")
                .count()
        };
        assert_eq!(certificates("ssl.ca.pem"), trusted);
        assert_eq!(certificates("ssl.certificate.pem"), 2);
        assert!(
            property(&cluster.properties, "ssl.key.pem")
                .unwrap()
                .contains("BEGIN PRIVATE KEY")
        );
    }
    assert_eq!(config.max_producers, 3);
    assert_eq!(config.answer_timeout, Duration::from_secs(4));
    assert_eq!(config.max_request_bytes, 2 * 1024 * 1024);
    assert_eq!(config.grace_period, Duration::from_secs(7));
    assert_eq!(config.reload_interval, Duration::from_secs(2));
    let spool = Spool {
        directory: PathBuf::from("/tmp/sluice-spool"),
        max_bytes: 2 * 1024 * 1024,
        max_age: Duration::from_secs(2 * 3600),
        grace: Duration::from_secs(9),
        dead_letters: Some(DeadLetters {
            topic: "audit.dead".to_owned(),
            cluster: Some("main".to_owned()),
            producer: "quick".to_owned(),
        }),
    };
    assert_eq!(config.spool, Some(spool));
    let idempotency = Idempotency {
        directory: PathBuf::from("/tmp/sluice-idempotency"),
        max_keys: 5000,
        window: Duration::from_secs(3 * 3600),
    };
    assert_eq!(config.idempotency, Some(idempotency));
    let dev = config.dev_broker.unwrap();
    assert_eq!(dev.address, "127.0.0.1:19092".parse().unwrap());
    assert_eq!(
        dev.topics,
        [("orders".to_owned(), 3), ("audit.log".to_owned(), 6)]
    );
    assert_eq!(dev.default_partitions, 6);
}

#[test]
fn a_spool_needs_no_more_than_its_directory() {
    let yaml = "clusters: {main: {bootstrap_servers: a, allowed_topics: [t]}}\nspool: {directory: /spool}";
    let spool = load(yaml, env(&[])).unwrap().config.spool.unwrap();
    assert_eq!(spool.max_bytes, 1024 * 1024 * 1024);
    assert_eq!(spool.max_age, Duration::from_secs(7 * 24 * 3600));
    assert_eq!(spool.grace, Duration::from_secs(300));
    assert_eq!(spool.dead_letters, None);
}

#[test]
fn a_dead_letter_goes_to_the_cluster_of_its_record_by_default() {
    let yaml = "clusters: {main: {bootstrap_servers: a, allowed_topics: [t, d*]}}\n\
                spool: {directory: /spool, dead_letters: {topic: dead}}";
    let spool = load(yaml, env(&[])).unwrap().config.spool.unwrap();
    let expected = DeadLetters {
        topic: "dead".to_owned(),
        cluster: None,
        producer: "default".to_owned(),
    };
    assert_eq!(spool.dead_letters, Some(expected));
    let yaml = yaml.replace("{topic: dead}", "{}");
    let problems = load(&yaml, env(&[])).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].path, "spool.dead_letters.topic");
}

#[test]
fn idempotency_needs_no_more_than_its_directory() {
    let yaml =
        "clusters: {main: {bootstrap_servers: a, allowed_topics: [t]}}\nidempotency: {directory: /keys}";
    let idempotency = load(yaml, env(&[])).unwrap().config.idempotency.unwrap();
    assert_eq!(idempotency.max_keys, 1_000_000);
    assert_eq!(idempotency.window, Duration::from_secs(24 * 3600));
}

#[test]
fn every_setting_of_a_profile_is_heeded() {
    let Loaded { config, .. } = good("full.yaml", SECRETS);
    let bulk = &config.producers["bulk"];
    let expected = [
        ("acks", "-1"),
        ("batch.num.messages", "200"),
        ("batch.size", "1048576"),
        ("compression.type", "lz4"),
        ("connections.max.idle.ms", "60000"),
        ("enable.idempotence", "true"),
        ("linger.ms", "1000"),
        ("max.in.flight.requests.per.connection", "3"),
        ("message.timeout.ms", "20000"),
        ("request.timeout.ms", "2000"),
        ("retries", "10"),
        ("retry.backoff.max.ms", "150"),
        ("retry.backoff.ms", "150"),
        ("socket.timeout.ms", "9000"),
    ];
    let found: Vec<(&str, &str)> = bulk
        .properties
        .iter()
        .map(|(name, value)| (name.as_str(), value.expose()))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(bulk.max_records, 50_000);
    assert_eq!(bulk.max_bytes, 32 * 1024 * 1024);
    assert_eq!(bulk.max_queueing_time, Duration::from_millis(700));
    assert!(bulk.allow_auto_create_topics);
    assert_eq!(bulk.acks, Some(Acks::All));
    assert!(bulk.idempotent);
    let quick = &config.producers["quick"];
    assert_eq!(quick.acks, Some(Acks::Leader));
    assert!(!quick.idempotent);
    assert_eq!(property(&quick.properties, "acks"), Some("1"));
    assert_eq!(property(&quick.properties, "enable.idempotence"), Some("false"));
}

#[test]
fn state_and_restates_clusters_are_heeded() {
    let Loaded { config, .. } = good("full.yaml", SECRETS);
    let state = config.state.unwrap();
    assert_eq!(
        (state.cluster.as_str(), state.log.topic.as_str()),
        ("main", "sluice.state")
    );
    assert_eq!(
        (state.log.replication_factor, state.log.min_insync_replicas),
        (Some(3), Some(2))
    );
    let restate = &config.clusters["my-cluster"];
    assert_eq!(restate.bootstrap_servers, ["broker.example:9092"]);
    assert!(restate.consumes && !restate.produces);
    for (name, value) in [
        ("security.protocol", "SASL_PLAINTEXT"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "me"),
        ("sasl.password", "hunter2"),
        ("group.id", "mine"),
    ] {
        assert_eq!(property(&restate.properties, name), Some(value), "{name}");
    }
    assert_eq!(
        config.clusters["other-cluster"].bootstrap_servers,
        ["h.example:9092"]
    );
    let Loaded { config, .. } = good("minimal.yaml", &[]);
    assert_eq!(config.state, None);
}

#[test]
fn every_setting_of_replies_is_heeded() {
    let replies = good("full.yaml", SECRETS).config.replies;
    assert_eq!(replies.max_waiting, 77);
    assert_eq!(replies.location, "https://api.example.com/replies/");
    assert_eq!(
        replies.token_key.as_ref().map(Secret::expose),
        Some("sixteen-bytes-or-more")
    );
    let [plain, full, bare] = &replies.topics[..] else {
        panic!("{:?}", replies.topics)
    };
    let expected = ReplyTopic {
        // The default one.
        cluster: "audit".to_owned(),
        topic: "orders.replies".to_owned(),
        requests: TopicAllowlist(vec![]),
        max_wait: Duration::from_secs(60),
        retention: Duration::from_secs(3600),
        correlation_header: "kafka_correlationId".to_owned(),
        reply_topic_header: Some("kafka_replyTopic".to_owned()),
        status_header: "http-status".to_owned(),
        content_type_header: "content-type".to_owned(),
        headers: vec![],
    };
    assert_eq!(**plain, expected);
    let expected = ReplyTopic {
        cluster: "main".to_owned(),
        topic: "audit.replies".to_owned(),
        requests: TopicAllowlist(vec!["audit".to_owned(), "audit.*".to_owned()]),
        max_wait: Duration::from_secs(20),
        retention: Duration::from_secs(7200),
        correlation_header: "correlation-id".to_owned(),
        reply_topic_header: Some("reply-to".to_owned()),
        status_header: "status".to_owned(),
        content_type_header: "mime".to_owned(),
        headers: vec!["X-Trace".to_owned(), "etag".to_owned()],
    };
    assert_eq!(**full, expected);
    assert_eq!(bare.reply_topic_header, None);
    let none = good("minimal.yaml", &[]).config.replies;
    assert!(none.topics.is_empty() && none.token_key.is_none());
    assert_eq!((none.max_waiting, none.location.as_str()), (10_000, "/replies/"));
}

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

#[test]
fn what_is_odd_is_a_warning() {
    let Loaded { warnings, .. } = good("full.yaml", SECRETS);
    assert_eq!(
        lines(&warnings),
        "listeners.admin.address: [::]:8070 is open to other machines and asks for no token\n\
         clusters.far.security.ssl_verify: the brokers' certificates are not verified: whoever is on the way can read \
         and change everything\n\
         producers.quick.producer_request_acks: is not -1 (all), which turns idempotence off for producers.quick: \
         a record may be stored twice, or after a later one\n"
    );
    let yaml = "listeners: {data: {tokens: [abc]}}\nclusters: {main: {bootstrap_servers: a}}\n\
                dev_broker: {address: '0.0.0.0:9092', insecure: true}\n";
    let found = lines(&load(yaml, env(&[])).unwrap().warnings);
    assert_eq!(
        found,
        "listeners.data.tokens[0]: a token is written in the configuration; {file: …} or {env: …} keeps it out\n\
         clusters.main.allowed_topics: is not set: no topic of this cluster may be written\n\
         dev_broker.address: 0.0.0.0:9092 is open to other machines, and the dev broker asks nobody who they are\n"
    );
}

/// Each forbids idempotence by itself, and is no error as long as nobody asks for idempotence.
#[test]
fn idempotence_gives_way_with_a_warning() {
    let profiles = [
        ("{producer_request_acks: 1}", false, 1),
        ("{producer_request_acks: 0}", false, 1),
        ("{properties: {request.required.acks: 1}}", false, 1),
        ("{producer_request_retries_max_attempts: 0}", false, 1),
        (
            "{properties: {max.in.flight.requests.per.connection: 6}}",
            false,
            1,
        ),
        (
            "{properties: {queue.buffering.backpressure.threshold: 2}}",
            false,
            1,
        ),
        ("{properties: {queuing.strategy: lifo}}", false, 1),
        (
            "{producer_request_acks: 1, properties: {enable.idempotence: false}}",
            false,
            0,
        ),
        ("{properties: {enable.idempotence: false}}", false, 0),
        (
            "{properties: {enable.idempotence: true, max.in.flight: 5}}",
            true,
            0,
        ),
        ("{properties: {acks: all}}", true, 0),
    ];
    for (profile, idempotent, warnings) in profiles {
        let yaml = format!(
            "clusters: {{main: {{bootstrap_servers: a, allowed_topics: [t]}}}}\nproducers: {{p: {profile}}}"
        );
        let loaded =
            load(&yaml, env(&[])).unwrap_or_else(|problems| panic!("{profile}: {}", lines(&problems)));
        assert_eq!(loaded.config.producers["p"].idempotent, idempotent, "{profile}");
        assert_eq!(loaded.warnings.len(), warnings, "{profile}");
    }
}

#[test]
fn librdkafka_queue_bounds_are_the_profiles_bounds() {
    let yaml = "clusters: {main: {bootstrap_servers: a, allowed_topics: [t]}}\n\
                producers: {p: {properties: {queue.buffering.max.messages: 7, queue.buffering.max.kbytes: 9}}}";
    let config = load(yaml, env(&[])).unwrap().config;
    let profile = &config.producers["p"];
    assert_eq!((profile.max_records, profile.max_bytes), (7, 9 * 1024));
    assert_eq!(
        property(&profile.properties, "queue.buffering.max.messages"),
        None
    );
}

#[test]
fn several_clusters_have_no_default_unless_it_is_named() {
    let yaml = "clusters: {a: {bootstrap_servers: a, allowed_topics: [t]}, b: {bootstrap_servers: b, allowed_topics: [t]}}";
    assert_eq!(load(yaml, env(&[])).unwrap().config.default_cluster, None);
}

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

/// Every key that full.yaml has (and it has all) is in the documentation.
#[test]
fn every_key_is_documented() {
    fn keys(tree: &serde_json::Value, found: &mut Vec<String>) {
        for (key, value) in tree.as_object().into_iter().flatten() {
            // How any secret may be written.
            if key == "file" || key == "env" {
                continue;
            }
            found.push(key.clone());
            // librdkafka's names are librdkafka's to document, and a claim's its issuer's.
            if !["properties", "extensions", "claims"].contains(&key.as_str()) {
                keys(value, found);
            }
        }
    }
    let text = std::fs::read_to_string(testdata("good").join("full.yaml")).unwrap();
    let mut tree = yaml_tree(&text).unwrap();
    // Names that are the operator's own.
    let mut found = Vec::new();
    for named in ["clusters", "producers", "certificates", "jwt", "secrets"] {
        let mappings = tree[named].take();
        for one in mappings.as_object().unwrap().values() {
            keys(one, &mut found);
        }
    }
    for entry in tree["reads"].as_array().unwrap() {
        keys(entry, &mut found);
    }
    for entry in tree["replies"]["topics"].as_array().unwrap() {
        keys(entry, &mut found);
    }
    keys(&tree, &mut found);
    assert!(found.len() > 30, "{found:?}");
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let docs = ["sidecar.md", "clusters.md"].map(|name| std::fs::read_to_string(docs.join(name)).unwrap());
    let docs = docs.concat();
    for key in found {
        let written = [
            format!("`{key}`"),
            format!("`{key}."),
            format!(".{key}`"),
            format!("## `{key}"),
        ];
        assert!(written.iter().any(|form| docs.contains(form)), "{key}");
    }
}
