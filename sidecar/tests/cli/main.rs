//! The `sluice` command as a user runs it, against a dev broker in this process.

#[allow(clippy::unwrap_used, reason = "it is a part of the tests")]
mod aws;
#[allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "it is a part of the tests"
)]
mod command;
#[allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "it is a part of the tests"
)]
mod control;
#[allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "it is a part of the tests"
)]
mod docs;
#[allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "it is a part of the tests"
)]
mod memory;
#[allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "it is a part of the tests"
)]
mod secrets;
#[allow(clippy::unwrap_used, reason = "it is a part of the tests")]
mod serve;
#[allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "it is a part of the tests"
)]
mod slow;
#[allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "it is a part of the tests"
)]
mod spool;

use command::{Kafka, Output, sluice, sluice_reads};

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_listed_and_described() {
    let kafka = Kafka::start("").await;
    let created = sluice(
        &kafka,
        &["topics", "create", "kong-upstream", "--partitions", "2"],
    )
    .await;
    created.is_ok("created kong-upstream\n");
    // The dev broker's default.
    sluice(&kafka, &["topics", "create", "other"])
        .await
        .is_ok("created other\n");
    sluice(&kafka, &["topics", "list"])
        .await
        .is_ok("kong-upstream 2\norders 3\nother 4\n");
    sluice(&kafka, &["send", "kong-upstream", "--partition", "1", "x"])
        .await
        .is_ok("kong-upstream 1@0\n");
    sluice(&kafka, &["topics", "describe", "kong-upstream"])
        .await
        .is_ok(
            "kong-upstream 2\n\
         0 leader=1 replicas=1 in-sync=1 offsets=0..0\n\
         1 leader=1 replicas=1 in-sync=1 offsets=0..1\n",
        );
    // One that is there as it is asked for is as good as created.
    for more in [&[][..], &["--partitions", "3"], &["--replication-factor", "1"]] {
        let create = [&["topics", "create", "orders"][..], more].concat();
        sluice(&kafka, &create)
            .await
            .is_ok("orders exists with 3 partitions\n");
    }
    let refused = [
        (
            &["topics", "create", "orders", "--partitions", "1"][..],
            "topic orders exists with 3 partitions, not 1",
        ),
        (
            &["topics", "create", "a b"],
            "\"a b\" is no topic's name: 1 to 249 of the characters a-z, A-Z, 0-9, `.`, `_` and `-`, but not `.` or `..`",
        ),
        (
            &["topics", "create", "x", "--replication-factor", "2"],
            "the dev broker is one broker: it has no replicas",
        ),
        (
            &["topics", "create", "x", "--partitions", "300"],
            "the dev broker takes 256 partitions in all topics together, and has 9",
        ),
        (&["topics", "describe", "nowhere"], "no topic is named nowhere"),
    ];
    for (arguments, why) in refused {
        sluice(&kafka, arguments)
            .await
            .failed(1, &format!("sluice: {why}\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sent_record_is_tailed() {
    let kafka = Kafka::start("").await;
    let send = [
        "send",
        "orders",
        "--partition",
        "2",
        "--key",
        "k",
        "--header",
        "a=b=c",
        "--header",
        "d=",
        "hello",
    ];
    sluice(&kafka, &send).await.is_ok("orders 2@0\n");
    sluice_reads(&kafka, &["send", "orders", "--partition", "2"], b"line\n\xff")
        .await
        .is_ok("orders 2@1\n");
    sluice(
        &kafka,
        &["send", "orders", "--partition", "2", "--tombstone", "--key", ""],
    )
    .await
    .is_ok("orders 2@2\n");
    let tail = ["tail", "orders", "--from-beginning", "--max", "3"];
    let out = sluice(&kafka, &tail).await.succeeded();
    let without_time: Vec<String> = out
        .lines()
        .map(|line| {
            let mut words: Vec<&str> = line.split(' ').collect();
            let time = words.remove(1);
            assert!(time.len() == 24 && time.ends_with('Z'), "{line}");
            words.join(" ")
        })
        .collect();
    assert_eq!(
        without_time,
        [
            "2@0 key=k [a=b=c, d=] hello",
            "2@1 line\\n\\xff",
            "2@2 key= (tombstone)"
        ]
    );
    let out = sluice(&kafka, &[&tail[..], &["--json"]].concat())
        .await
        .succeeded();
    let mut objects: Vec<serde_json::Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for object in &mut objects {
        let time = object.as_object_mut().unwrap().remove("timestamp").unwrap();
        assert!(time.as_i64().unwrap() > 1_600_000_000_000);
    }
    assert_eq!(
        objects,
        [
            serde_json::json!({"topic": "orders", "partition": 2, "offset": 0, "key": "k", "value": "hello",
                "headers": [{"name": "a", "value": "b=c"}, {"name": "d", "value": ""}]}),
            serde_json::json!({"topic": "orders", "partition": 2, "offset": 1, "key": null, "headers": [],
                "value": {"base64": "bGluZQr/"}}),
            serde_json::json!({"topic": "orders", "partition": 2, "offset": 2, "key": "", "headers": [],
                "value": null}),
        ]
    );
}

/// The words of Kong's quick start, in ours: one partition, from the beginning, until nothing comes any more.
#[tokio::test(flavor = "multi_thread")]
async fn tail_stops_when_nothing_comes() {
    let kafka = Kafka::start("").await;
    sluice(
        &kafka,
        &["topics", "create", "kong-upstream", "--partitions", "10"],
    )
    .await
    .is_ok("created kong-upstream\n");
    for partition in ["0", "1"] {
        sluice(
            &kafka,
            &["send", "kong-upstream", "--partition", partition, partition],
        )
        .await
        .succeeded();
    }
    let tail = [
        "tail",
        "kong-upstream",
        "--partition",
        "0",
        "--from-beginning",
        "--timeout-ms",
        "1000",
    ];
    let out = sluice(&kafka, &tail).await.succeeded();
    assert_eq!(out.lines().count(), 1, "{out}");
    assert!(out.starts_with("0@0 ") && out.ends_with(" 0\n"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_without_from_beginning_shows_what_comes() {
    let kafka = Kafka::start("").await;
    sluice(&kafka, &["send", "orders", "before"]).await.succeeded();
    let mut tail = kafka.spawn(&["tail", "orders", "--max", "1"]);
    tail.wait_for("sluice: waiting for records in 3 partitions of orders")
        .await;
    sluice(&kafka, &["send", "orders", "after"]).await.succeeded();
    let out = tail.finish().await.succeeded();
    assert!(out.ends_with(" after\n") && out.lines().count() == 1, "{out}");
}

/// `sluice tail … | head -1`: no error, and no endless run either.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_is_no_error() {
    let kafka = Kafka::start("").await;
    let mut tail = kafka.spawn(&["tail", "orders"]);
    tail.wait_for("sluice: waiting").await;
    tail.close_output();
    // The first print into a closed pipe fails.
    sluice(&kafka, &["send", "orders", "x"]).await.succeeded();
    tail.finish().await.is_ok("");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_said() {
    let kafka = Kafka::start("").await;
    let refused = [
        (&["tail", "nowhere"][..], "no topic is named nowhere"),
        (
            &["tail", "orders", "--partition", "3"],
            "topic orders has the partitions 0 to 2, and no 3",
        ),
        (&["send", "nowhere", "x"], "no topic is named nowhere"),
        (
            &["send", "orders", "x", "--partition", "3"],
            "topic orders has the partitions 0 to 2, and no 3",
        ),
        (
            &["tail", "orders", "--cluster", "eu"],
            "sluice.yaml has no cluster eu; it has main",
        ),
    ];
    for (arguments, why) in refused {
        sluice(&kafka, arguments)
            .await
            .failed(1, &format!("sluice: {why}\n"));
    }
    let nobody = sluice(&kafka, &["topics", "list", "--brokers", "127.0.0.1:1"]).await;
    let start = "sluice: cannot reach Kafka at 127.0.0.1:1 within 5 s: ";
    assert!(
        nobody.code == Some(1) && nobody.err.starts_with(start),
        "{nobody:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn check_config_tries_and_shows() {
    let kafka = Kafka::start("").await;
    let brokers = kafka.brokers();
    let two = format!(
        "clusters: {{main: {{bootstrap_servers: \"{brokers}\", allowed_topics: [orders, nowhere]}}, \
         away: {{bootstrap_servers: \"127.0.0.1:1\", allowed_topics: [orders]}}}}"
    );
    kafka.write("two.yaml", &two);
    let connect = sluice(&kafka, &["check-config", "--config", "two.yaml", "--connect"]).await;
    assert_eq!(connect.code, Some(1), "{connect:?}");
    let reached = "clusters.main: reached; it has no topic nowhere\n";
    assert!(connect.out.ends_with(reached), "{connect:?}");
    let away =
        "clusters.away: cannot reach Kafka at 127.0.0.1:1 within 5 s: nobody listens there (127.0.0.1:1: ";
    assert!(
        connect.err.starts_with(away) && connect.err.lines().count() == 1,
        "{connect:?}"
    );
    let show = sluice(&kafka, &["check-config", "--show"]).await.succeeded();
    let line = format!("\nclusters.main.bootstrap_servers: {brokers} (the file)\n");
    assert!(show.contains(&line), "{show}");
    let neither = sluice(&kafka, &["check-config", "--envoy", "x.yaml", "--show"]).await;
    neither.failed(1, "sluice: --connect and --show need --config\n");
}

/// What the configuration closes, the commands keep closed.
#[tokio::test(flavor = "multi_thread")]
async fn closed_directions_stay_closed() {
    let kafka = Kafka::start("").await;
    let brokers = kafka.brokers();
    let closed = format!(
        "clusters: {{main: {{bootstrap_servers: \"{brokers}\", producer: {{enabled: false}}, consumer: {{enabled: false}}}}}}"
    );
    kafka.write("closed.yaml", &closed);
    let send = ["send", "orders", "x", "-c", "closed.yaml"];
    let why = "sluice: cluster \"main\" takes no records: its producer.enabled is false\n";
    sluice(&kafka, &send).await.failed(1, why);
    let tail = ["tail", "orders", "-c", "closed.yaml"];
    let why = "sluice: cluster \"main\" is not to be read: its consumer.enabled is false\n";
    sluice(&kafka, &tail).await.failed(1, why);
    let list = sluice(&kafka, &["topics", "list", "-c", "closed.yaml"]).await;
    assert_eq!(list.code, Some(0), "{list:?}");
}

/// Without the configuration nobody can know that the broker's topics are created elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_create_topics_is_recognised() {
    let kafka = Kafka::start("").await;
    let brokers = kafka.brokers();
    let create = [
        "topics",
        "create",
        "x",
        "--partitions",
        "1",
        "--brokers",
        &brokers,
    ];
    sluice(&kafka, &create).await.failed(
        1,
        &format!(
            "sluice: {brokers} does not answer CreateTopics; Sluice's dev broker has none: give its configuration \
             with --config\n"
        ),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_line_that_cannot_be_read_exits_with_2() {
    let kafka = Kafka::start("").await;
    let wrong = [
        (&["tail"][..], "<TOPIC>"),
        (
            &["tail", "orders", "-X", "lingr.ms=1"],
            "lingr.ms: librdkafka has no such property",
        ),
        (&["tail", "orders", "-X", "linger.ms"], "write it as NAME=VALUE"),
        (
            &["tail", "orders", "-X", "metadata.broker.list=a"],
            "use --brokers",
        ),
        (
            &["tail", "orders", "--brokers", "a", "--cluster", "b"],
            "cannot be used with",
        ),
        (&["tail", "orders", "--partition", "-1"], "-1"),
        (
            &["send", "orders", "x", "--header", "a"],
            "write it as NAME=VALUE",
        ),
        (&["send", "orders", "x", "--tombstone"], "cannot be used with"),
        (&["topics", "create", "x", "--partitions", "0"], "0 is not in"),
    ];
    for (arguments, why) in wrong {
        let Output { code, err, .. } = sluice(&kafka, arguments).await;
        assert!(
            code == Some(2) && err.contains(why),
            "{arguments:?}: {code:?} {err}"
        );
    }
}

/// Properties reach the client: this one makes it speak TLS to a broker that does not.
#[tokio::test(flavor = "multi_thread")]
async fn properties_of_the_command_line_are_heeded() {
    let kafka = Kafka::start("").await;
    let list = ["topics", "list", "-X", "security.protocol=ssl"];
    let Output { code, err, .. } = sluice(&kafka, &list).await;
    assert!(code == Some(1) && err.contains("SSL"), "{code:?} {err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_exits_with_64() {
    let kafka = Kafka::start("max_producers: 0\ncolour: red\n").await;
    let problems =
        "sluice.yaml: max_producers: must be from 1 to 1000, not 0\nsluice.yaml: colour: unknown field\n";
    for arguments in [
        &["check-config"][..],
        &["check-config", "--config", "sluice.yaml"],
        &["serve", "--config", "sluice.yaml"],
        &["tail", "orders"],
        &["topics", "list"],
    ] {
        sluice(&kafka, arguments).await.failed(64, problems);
    }
    for command in ["check-config", "serve"] {
        sluice(&kafka, &[command, "--config", "nowhere.yaml"])
            .await
            .failed(
                64,
                "nowhere.yaml: cannot be read: No such file or directory (os error 2)\n",
            );
    }
    // What does not use the configuration does not mind it.
    sluice(&kafka, &["topics", "list", "--brokers", &kafka.brokers()])
        .await
        .is_ok("orders 3\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_configuration_is_summed_up() {
    let kafka = Kafka::start("listeners: {data: {tokens: [abc]}}\n").await;
    let checked = sluice(&kafka, &["check-config"]).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert_eq!(
        checked.err,
        "sluice.yaml: warning: listeners.data.tokens[0]: a token is written in the configuration; {file: …} or {env: …} \
         keeps it out\n"
    );
    let brokers = kafka.brokers();
    let admin = kafka.admin();
    assert_eq!(
        checked.out,
        format!(
            "sluice.yaml: ok: stream on /run/sluice/stream.sock; data on 127.0.0.1:9071; admin on {admin}; \
             clusters: main; producers: default; dev broker on {brokers}\n"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_is_checked_beside_the_sidecar() {
    let kafka = Kafka::start("colour: red\n").await;
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let shipped = format!("{root}/envoy.yaml");
    let checked = sluice(&kafka, &["check-config", "--envoy", &shipped]).await;
    let out = checked.succeeded();
    assert!(
        out.starts_with(&format!("{shipped}: ok: filters: 1; routes that produce: ")),
        "{out}"
    );
    let text = std::fs::read_to_string(&shipped).unwrap();
    kafka.write(
        "envoy.yaml",
        &text.replace("topic: kong-upstream", "topik: kong-upstream"),
    );
    let both = ["check-config", "--config", "sluice.yaml", "--envoy", "envoy.yaml"];
    let checked = sluice(&kafka, &both).await;
    assert_eq!(checked.code, Some(64));
    let lines: Vec<&str> = checked
        .err
        .lines()
        .filter(|line| !line.contains("warning"))
        .collect();
    assert_eq!(lines.first(), Some(&"sluice.yaml: colour: unknown field"));
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("envoy.yaml: ") && line.contains("topik: unknown field")),
        "{lines:?}"
    );
    // What the routes name must be there.
    let own = std::fs::read_to_string(format!("{root}/sluice.yaml")).unwrap();
    kafka.write("own.yaml", &own);
    kafka.write("envoy.yaml", &text);
    let both = ["check-config", "--config", "own.yaml", "--envoy", "envoy.yaml"];
    sluice(&kafka, &both).await.succeeded();
    for (from, to, said) in [
        (
            "topic: kong-upstream",
            "topic: kong-downstream",
            "topic: \"kong-downstream\" is not in the sidecar's clusters.main.allowed_topics",
        ),
        (
            "topic: kong-upstream",
            "topic: kong-upstream, cluster_name: second",
            "cluster_name: the sidecar has no cluster \"second\"",
        ),
        (
            "topic: kong-upstream",
            "topic: kong-upstream, producer: quick",
            "producer: the sidecar has no producer \"quick\"",
        ),
        (
            "topic: kong-upstream",
            "topic: kong-upstream, template: {name: deploy}",
            "template.name: the sidecar has no template \"deploy\"",
        ),
        (
            "topic: kong-upstream",
            "topic: kong-upstream, reply: { topic: elsewhere }",
            "reply.topic: \"elsewhere\" of cluster \"main\" is not in the sidecar's replies.topics",
        ),
        (
            "topic: kong-upstream",
            "topic: kong-upstream, reply: { topic: answers, correlation_id: { header: x-id } }",
            "reply.correlation_id: the clients' own ids could be guessed: set the sidecar's replies.token_key",
        ),
    ] {
        kafka.write("envoy.yaml", &text.replace(from, to));
        let checked = sluice(&kafka, &both).await;
        let line = checked.err.lines().find(|line| line.ends_with(said));
        let path = "envoy.yaml: static_resources.listeners[0].";
        assert!(
            checked.code == Some(64) && line.is_some_and(|line| line.starts_with(path)),
            "{to}: {checked:?}"
        );
    }
    for (more, said) in [
        (
            "clusters: {main: {bootstrap_servers: a, allowed_topics: ['*'], producer: {enabled: false}}}",
            "clusters.main.producer.enabled is false",
        ),
        (
            "clusters: {a: {bootstrap_servers: a, allowed_topics: ['*']}, b: {bootstrap_servers: b, allowed_topics: ['*']}}",
            "several clusters and no default_cluster",
        ),
    ] {
        kafka.write("own.yaml", more);
        kafka.write("envoy.yaml", &text);
        let checked = sluice(&kafka, &both).await;
        assert!(
            checked.code == Some(64) && checked.err.contains(said),
            "{more}: {checked:?}"
        );
    }
    kafka.write(
        "template.yaml",
        &text.replace(
            "topic: kong-upstream",
            "topic: kong-upstream, payload: { a: '{{ nope }}' }",
        ),
    );
    let template = sluice(&kafka, &["check-config", "--envoy", "template.yaml"]).await;
    assert_eq!(template.code, Some(64));
    assert!(
        template
            .err
            .contains("payload/a: \"nope\" calls nope, which is not there"),
        "{template:?}"
    );
    kafka.write("broken.yaml", "a: [\n");
    let broken = sluice(&kafka, &["check-config", "--envoy", "broken.yaml"]).await;
    assert!(
        broken.code == Some(64) && broken.err.starts_with("broken.yaml: line 1, column 4: "),
        "{broken:?}"
    );
}
