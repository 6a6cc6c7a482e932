//! Files of `testdata/config/sidecar`, and every key one by one.

mod environment;
mod kong;
mod producers;
mod reads;
mod secrets;

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

#[test]
fn several_clusters_have_no_default_unless_it_is_named() {
    let yaml = "clusters: {a: {bootstrap_servers: a, allowed_topics: [t]}, b: {bootstrap_servers: b, allowed_topics: [t]}}";
    assert_eq!(load(yaml, env(&[])).unwrap().config.default_cluster, None);
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
    for list in ["reads", "writes"] {
        for entry in tree[list].as_array().unwrap() {
            keys(entry, &mut found);
        }
    }
    // What is in these is a route's of the filter, which its own page documents.
    for template in tree["templates"]["named"].take().as_object().unwrap().values() {
        found.extend(template.as_object().unwrap().keys().cloned());
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
