//! Topics that templates choose, templates of the configuration over REST, and secrets whose files change.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::Message as _;
use serde_json::{Value as Json, json};
use sluice::config::{Idempotency as Keys, TopicAllowlist};
use sluice_proto::v1::topic_fate::Result as Fated;
use sluice_proto::v1::{ErrorClass, Idempotency, ProduceReply, ProduceRequest, Record, Template};

use crate::http::{self, Answer};
use crate::support::{Mock, PATIENCE, Sidecar, cluster, config, failure, mock, read, stored, text, until};

const JSON: (&str, &str) = ("content-type", "application/json");

fn choosing(id: u64, own: &[&str], body: &str) -> Record {
    let definition = json!({ "topic": "{{ .inputs.t }}", "allowed_topics": ["eu", "us", "closed"], "payload": "{{ .inputs }}" });
    Record {
        id,
        template: Some(Template {
            definition: definition.to_string(),
            inputs: Some(Bytes::copy_from_slice(body.as_bytes())),
            topics: own.iter().map(|topic| (*topic).to_owned()).collect(),
            ..Template::default()
        }),
        ..Record::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_goes_to_the_topic_that_its_template_chooses_and_its_fate_says_so() {
    let mock = mock(&[("eu", 1), ("us", 1), ("own", 1), ("closed", 1)]);
    let keys = tempfile::tempdir().unwrap();
    let mut config = config(&mock.bootstrap_servers());
    let allowed = ["eu", "us", "own"].map(str::to_owned);
    cluster(&mut config).allowed_topics = TopicAllowlist(allowed.to_vec());
    config.templates.timeout = PATIENCE;
    config.idempotency = Some(Keys {
        directory: keys.path().to_owned(),
        max_keys: 100,
        window: Duration::from_secs(3600),
    });
    let sidecar = Sidecar::start(config).await;
    let mut stream = sidecar.stream().await;
    stored(&stream.produce(choosing(1, &["own"], r#"{"t": "us"}"#)).await);
    assert_eq!(stream.chosen, [(1, "us".to_owned())]);
    assert_eq!(text(&read(&mock, "us", 0, 1).await[0]), r#"{"t":"us"}"#);
    stored(&stream.produce(choosing(2, &["own"], "{}")).await);
    assert_eq!(read(&mock, "own", 0, 1).await.len(), 1);
    assert_eq!(stream.chosen.len(), 1);
    let refused = stream.produce(choosing(3, &["own"], r#"{"t": "other"}"#)).await;
    let (class, why) = failure(&refused);
    assert_eq!(class, ErrorClass::TopicNotAllowed);
    assert_eq!(
        why,
        "template: topic: {{ .inputs.t }} gives \"other\", which it may not choose: it may choose own, eu, us, closed"
    );
    // The route's list is not the sidecar's: that one holds as well.
    let (class, why) = failure(&stream.produce(choosing(4, &[], r#"{"t": "closed"}"#)).await);
    assert_eq!(class, ErrorClass::TopicNotAllowed);
    assert!(why.contains("not in the cluster's allowed_topics"), "{why}");
    // A repeat says the topic of the first.
    let once = |id| Record {
        idempotency: Some(Idempotency {
            key: Bytes::from_static(b"k"),
            fingerprint: Bytes::from_static(b"f"),
            window_ms: 0,
        }),
        ..choosing(id, &[], r#"{"t": "eu"}"#)
    };
    let first = stored(&stream.produce(once(5)).await);
    assert_eq!(stored(&stream.produce(once(6)).await), first);
    assert_eq!(stream.replayed, [6]);
    let eu = stream.chosen.iter().filter(|(_, topic)| topic == "eu");
    assert_eq!(eu.map(|(id, _)| *id).collect::<Vec<_>>(), [5, 6]);
    let metrics = sidecar.metrics().await;
    for sample in [
        "sluice_records_total{cluster=\"main\",topic=\"us\",outcome=\"stored\"} 1",
        "sluice_template_rendered_total 5",
        "sluice_template_failed_total{cause=\"topic\"} 1",
        "sluice_template_waiting_bytes 0",
    ] {
        assert!(metrics.lines().any(|line| line == sample), "{sample}: {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_the_path_is_a_topic_that_may_be_chosen() {
    let mock = mock(&[("eu", 1)]);
    let mut config = config(&mock.bootstrap_servers());
    config.templates.timeout = PATIENCE;
    let sidecar = Sidecar::start(config).await;
    let send = async |topic: &str, record: Record| {
        use prost::Message as _;
        let body = ProduceRequest {
            records: vec![record],
        };
        let url = sidecar.url(&format!("/topics/{topic}/records"));
        let headers = [("content-type", "application/x-protobuf")];
        http::post(&url, &headers, body.encode_to_vec()).await
    };
    let answer = send("us", choosing(1, &[], r#"{"t": "eu"}"#)).await;
    let reply = <ProduceReply as prost::Message>::decode(answer.body).unwrap();
    assert_eq!(reply.fates[0].topic, "eu");
    assert!(matches!(reply.fates[0].topics[0].result, Some(Fated::Stored(_))));
    let astray = send("elsewhere", choosing(1, &[], r#"{"t": "eu"}"#)).await;
    assert_eq!(astray.status, 400);
}

/// A sidecar with these lines in its configuration.
async fn with(mock: &Mock, lines: &str) -> Sidecar {
    of_file(mock, &yaml(lines), None).await
}

fn yaml(lines: &str) -> String {
    format!("clusters: {{main: {{bootstrap_servers: a, allowed_topics: ['*']}}}}\n{lines}")
}

async fn of_file(mock: &Mock, yaml: &str, file: Option<&Path>) -> Sidecar {
    let loaded = sluice::config::load(yaml, std::iter::empty()).unwrap_or_else(|why| panic!("{why:?}"));
    let mut config = config(&mock.bootstrap_servers());
    config.templates = loaded.config.templates;
    config.source = match file {
        None => loaded.config.source,
        Some(file) => loaded.config.source.of_file(file),
    };
    // Unoptimised and on a busy machine.
    config.templates.timeout = PATIENCE;
    config.reload_interval = Duration::from_millis(50);
    Sidecar::start(config).await
}

async fn post(sidecar: &Sidecar, topic: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let url = sidecar.url(&format!("/topics/{topic}/records"));
    http::post(&url, headers, body.to_owned()).await
}

fn refused(answer: &Answer, status: u16, words: &str) {
    let why = answer.json()["error"].as_str().unwrap().to_owned();
    assert_eq!(answer.status, status, "{why}");
    assert!(why.contains(words), "{why}");
}

const DEPLOY: &str = "templates: {named: {deploy: {payload: {entity: '{{ .inputs.service }}', by: '{{ .trigger.by.user.email }}', \
    path: '{{ .request.path }}', secret: '{{ .request.headers.authorization }}', operation: '{{ .trigger.operation }}'}, \
    template: {key: '{{ .inputs.service }}', topic: '{{ .inputs.topic }}', headers: {x-made: '1'}}, allowed_topics: [eu], \
    trigger: {operation: CREATE, trust_request: true, by: {user.email: {header: x-user}}}}, \
    keyed: {template: {key: '{{ .inputs.id }}'}}}}\n\
    writes: [{topics: [runs, 'made.*'], template: deploy}, {topics: ['*'], cluster: main, template: keyed}]";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_over_rest_are_made_by_the_template_of_their_topic() {
    let mock = mock(&[("runs", 1), ("made.a", 1), ("eu", 1), ("plain", 1)]);
    let sidecar = with(&mock, DEPLOY).await;
    let who = [JSON, ("x-user", "ada@example.com"), ("authorization", "Bearer x")];
    let answer = post(&sidecar, "runs", &who, r#"{"service": "cart"}"#).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let found = read(&mock, "runs", 0, 1).await;
    let value: Json = serde_json::from_str(&text(&found[0])).unwrap();
    let expected = json!({
        "entity": "cart", "by": "ada@example.com", "path": "/topics/runs/records", "secret": null, "operation": "CREATE",
    });
    assert_eq!(value, expected);
    assert_eq!(found[0].key(), Some(&b"cart"[..]));
    // A form, and a topic that is chosen, which the answer names.
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let answer = post(&sidecar, "made.a", &form, "service=shop&topic=eu").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("x-kafka-topic"), Some("eu"));
    assert_eq!(read(&mock, "eu", 0, 1).await[0].key(), Some(&b"shop"[..]));
    // Many at once, each of its own inputs, and each result with its topic.
    let lines = "{\"json\": {\"service\": \"a\"}}\n{\"value\": \"{\\\"service\\\": \\\"b\\\", \\\"topic\\\": \\\"eu\\\"}\"}\n";
    let answer = post(
        &sidecar,
        "made.a",
        &[("content-type", "application/x-ndjson")],
        lines,
    )
    .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let results = answer.json()["results"].clone();
    assert_eq!(
        (&results[0]["topic"], &results[1]["topic"]),
        (&json!("made.a"), &json!("eu"))
    );
    // A template without a payload leaves the value.
    let answer = post(&sidecar, "plain", &[JSON], r#"{"id":  7}"#).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let plain = read(&mock, "plain", 0, 1).await;
    assert_eq!(
        (text(&plain[0]).as_str(), plain[0].key()),
        (r#"{"id":  7}"#, Some(&b"7"[..]))
    );

    let answer = post(&sidecar, "runs", &[JSON], "{").await;
    refused(&answer, 400, "inputs: the body is not JSON");
    let answer = post(&sidecar, "runs", &[("content-type", "text/plain")], "x").await;
    refused(&answer, 400, "the content-type says `text/plain`");
    let answer = post(&sidecar, "runs", &[JSON, ("x-kafka-tombstone", "true")], "").await;
    refused(
        &answer,
        400,
        "a tombstone cannot be written to topic \"runs\" here: template \"deploy\"",
    );
    let array = [("content-type", "application/vnd.sluice.records+json")];
    let answer = post(&sidecar, "runs", &array, r#"[{"json": {}}, {"value": null}]"#).await;
    refused(&answer, 400, "record 2: a tombstone cannot be written");
    let answer = post(&sidecar, "runs", &[JSON], r#"{"service": "a", "topic": "us"}"#).await;
    refused(
        &answer,
        403,
        "gives \"us\", which it may not choose: it may choose runs, eu",
    );
}

/// The value of a record that is written to `runs` now, as the so-and-so-many-th.
async fn value_of(mock: &Mock, sidecar: &Sidecar, written: usize) -> String {
    assert_eq!(post(sidecar, "runs", &[JSON], "{}").await.status, 200);
    text(read(mock, "runs", 0, written).await.last().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_secret_is_used_without_a_restart_and_a_broken_file_is_not() {
    let mock = mock(&[("runs", 1)]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "first").unwrap();
    let lines = format!(
        "templates: {{named: {{t: {{payload: '{{{{ .secrets.org }}}}'}}}}}}\n\
         writes: [{{topics: [runs], template: t}}]\n\
         secrets: {{org: {{value: {{file: {}}}, topics: [runs]}}}}",
        file.path().display()
    );
    let sidecar = with(&mock, &lines).await;
    let mut written = 0;
    let mut value = async || {
        written += 1;
        value_of(&mock, &sidecar, written).await
    };
    assert_eq!(value().await, "\"first\"");
    std::fs::write(file.path(), "second\n").unwrap();
    until("the secret is used", async || value().await == "\"second\"").await;
    std::fs::write(file.path(), "").unwrap();
    until("the broken file is told", async || {
        sidecar.ready().await["secrets"]["org"]["reload_error"] == "secrets.org.value: must not be empty"
    })
    .await;
    assert_eq!(value().await, "\"second\"");
    std::fs::write(file.path(), "third").unwrap();
    until("the secret is used", async || value().await == "\"third\"").await;
    until("nothing is wrong any more", async || {
        sidecar.ready().await.get("secrets").is_none()
    })
    .await;
    let metrics = sidecar.metrics().await;
    for sample in [
        "sluice_template_secret_reloads_total{secret=\"org\",result=\"applied\"} 2",
        "sluice_template_secret_reloads_total{secret=\"org\",result=\"bad_file\"} 1",
    ] {
        assert!(metrics.lines().any(|line| line == sample), "{sample}: {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_goes_comes_and_changes_with_the_configuration() {
    let mock = mock(&[("runs", 1)]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sluice.yaml");
    let text_of = |secrets: &str| {
        yaml(&format!(
            "templates: {{named: {{t: {{payload: '{{{{ .secrets.org }}}}'}}}}}}\n\
             writes: [{{topics: [runs], template: t}}]\n\
             secrets: {{other: {{value: x, topics: [runs]}}{secrets}}}"
        ))
    };
    let set = |secrets: &str| std::fs::write(&file, text_of(secrets)).unwrap();
    let first = ", org: {value: first, topics: [runs]}";
    set(first);
    let sidecar = of_file(&mock, &text_of(first), Some(&file)).await;
    let mut written = 0;
    let mut value = async || {
        written += 1;
        value_of(&mock, &sidecar, written).await
    };
    assert_eq!(value().await, "\"first\"");
    set("");
    until("it is taken away", async || value().await == "null").await;
    set(", org: {value: second, topics: [runs]}");
    until("it is there again", async || value().await == "\"second\"").await;
    set(", org: {value: second, topics: [others]}");
    until("it is for other topics", async || value().await == "null").await;
    set(first);
    until("it is as it was", async || value().await == "\"first\"").await;
    // A configuration that cannot be run, or is half written, takes nothing away.
    std::fs::write(&file, "").unwrap();
    until("that is told", async || {
        sidecar.ready().await["config"]["reload_error"].is_string()
    })
    .await;
    assert_eq!(value().await, "\"first\"");
    set(first);
    until("nothing is wrong any more", async || {
        sidecar.ready().await.get("config").is_none()
    })
    .await;
    let metrics = sidecar.metrics().await;
    let sample = "sluice_template_secret_reloads_total{secret=\"org\",result=\"applied\"} 4";
    assert!(metrics.lines().any(|line| line == sample), "{metrics}");
}
