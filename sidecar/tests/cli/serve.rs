//! `sluice serve`, with the dev broker inside it.

use std::net::TcpListener;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::command::{Kafka, Running, sluice};

/// Ports that nobody has just now.
pub(crate) fn ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// A configuration: the ports of the data listener and of the only broker, and `more` top-level keys.
fn config(data: u16, broker: u16, more: &str) -> String {
    format!(
        "listeners:\n  stream: {{path: stream.sock}}\n  data: {{address: 127.0.0.1:{data}}}\n\
         clusters: {{main: {{bootstrap_servers: 127.0.0.1:{broker}, allowed_topics: [orders, new]}}}}\n{more}\n"
    )
}

/// Starts `sluice serve` with this configuration, which is in `own.yaml` then, and waits until it listens.
pub(crate) async fn serve(
    kafka: Kafka,
    config: &str,
    admin: u16,
    variables: &[(&str, &str)],
) -> (Kafka, Running) {
    kafka.write("own.yaml", config);
    let admin = format!("127.0.0.1:{admin}");
    let kafka = kafka.with_admin(&admin);
    let mut serve = kafka.spawn_with(&["serve", "--config", "own.yaml"], variables);
    serve
        .wait_for(&format!("listener=\"admin\" address={admin}"))
        .await;
    (kafka, serve)
}

/// The answer to `POST path` with `body`, head and all.
pub(crate) async fn post(port: u16, path: &str, body: &str) -> String {
    post_with(port, path, "", body).await
}

/// The same with further headers, each with its line break.
pub(crate) async fn post_with(port: u16, path: &str, headers: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The answer to `GET path`, head and all.
pub(crate) async fn get(port: u16, path: &str) -> String {
    asked(port, path).await.unwrap()
}

async fn asked(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_takes_a_record_and_ends_when_told() {
    let kafka = Kafka::start("").await;
    let [data, admin, broker] = ports();
    let dev = format!(
        "dev_broker: {{address: 127.0.0.1:{broker}, topics: [{{name: orders, partitions: 1}}], default_partitions: 2}}"
    );
    let config = config(data, broker, &dev);
    let (kafka, serve) = serve(kafka, &config, admin, &[]).await;
    let answer = post(data, "/topics/orders/records", "hello").await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("message sent"),
        "{answer}"
    );
    // A topic that is allowed and not there stays so.
    let answer = post(data, "/topics/new/records", "hello").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    let own = ["--config", "own.yaml"];
    sluice(&kafka, &[&["topics", "list"][..], &own].concat())
        .await
        .is_ok("orders 1\n");
    sluice(&kafka, &[&["topics", "create", "new"][..], &own].concat())
        .await
        .is_ok("created new\n");
    sluice(&kafka, &[&["topics", "list"][..], &own].concat())
        .await
        .is_ok("new 2\norders 1\n");
    let tail = [&["tail", "orders", "--from-beginning", "--max", "1"][..], &own].concat();
    let out = sluice(&kafka, &tail).await.succeeded();
    assert!(out.starts_with("0@0 ") && out.ends_with(" hello\n"), "{out}");
    serve.terminate().await;
    let ended = serve.finish().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(TcpStream::connect(("127.0.0.1", broker)).await.is_err());
}

/// A log that cannot be written is lost, and nothing else is.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_on_a_full_disk_does_not_end_it() {
    let kafka = Kafka::start("").await;
    let [data, admin] = ports();
    let broker = kafka.brokers();
    let broker = broker.rsplit_once(':').unwrap().1.parse().unwrap();
    kafka.write("own.yaml", &config(data, broker, ""));
    let kafka = kafka.with_admin(&format!("127.0.0.1:{admin}"));
    let mut serve = kafka.spawn_logging_to("/dev/full", &["serve", "--config", "own.yaml"]);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while TcpStream::connect(("127.0.0.1", data)).await.is_err() {
        assert_eq!(serve.try_wait().unwrap(), None, "it ended");
        assert!(std::time::Instant::now() < until, "it does not listen");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let answer = post(data, "/topics/orders/records", "hello").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// librdkafka says so after every attempt to connect, of which there are many in that second.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_away_is_logged_once() {
    let kafka = Kafka::start("").await;
    let [data, admin, broker] = ports();
    let config = config(data, broker, "answer_timeout: 1s");
    let (_kafka, serve) = serve(kafka, &config, admin, &[]).await;
    let answer = post(data, "/topics/orders/records", "hello").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    serve.terminate().await;
    let ended = serve.finish().await;
    let lines = ended.err.lines();
    assert_eq!(
        lines.filter(|line| line.contains("cluster unreachable")).count(),
        1,
        "{}",
        ended.err
    );
}

/// The file that it was started with is looked at, with the environment of the start laid over it.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_taken_out_of_the_file_is_taken_away() {
    let kafka = Kafka::start("").await;
    let [data, admin, broker] = ports();
    let of = |secrets: &str| {
        let more = format!("reload_interval: 100ms\nsecrets: {{{secrets}}}");
        config(data, broker, &more)
    };
    let one = "one: {value: SENTINEL, topics: [orders]}, ";
    let two = "two: {value: SENTINEL, topics: [orders]}";
    let (kafka, mut serve) = serve(kafka, &of(&format!("{one}{two}")), admin, &[]).await;
    kafka.write("own.yaml", "clusters: [");
    serve.wait_for("the changed configuration is not looked at").await;
    kafka.write("own.yaml", &of(two));
    serve.wait_for("it is in the configuration no more").await;
    serve.terminate().await;
    let ended = serve.finish().await;
    let gone: Vec<&str> = ended
        .err
        .lines()
        .filter(|line| line.contains("no more"))
        .collect();
    assert!(gone.len() == 1 && gone[0].contains("secret=\"one\""), "{gone:?}");
    assert!(!ended.err.contains("SENTINEL"), "{}", ended.err);
}

/// At the most talkative level, with everything that may be a secret in use.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_not_logged() {
    let kafka = Kafka::start("").await;
    let [data, admin] = ports();
    let broker = kafka.brokers();
    let config = format!(
        "listeners:\n  stream: {{path: stream.sock}}\n  data: {{address: 127.0.0.1:{data}, tokens: [SENTINEL]}}\n\
         clusters:\n  main:\n    bootstrap_servers: {broker}\n    allowed_topics: [orders]\n    \
         properties: {{security.protocol: sasl_plaintext, sasl.mechanism: PLAIN, sasl.username: SENTINEL, \
         sasl.password: SENTINEL}}\n"
    );
    let (_kafka, mut serve) = serve(kafka, &config, admin, &[("RUST_LOG", "trace")]).await;
    let answer = post(data, "/topics/orders/records", "hello").await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    // The broker has no SASL: what librdkafka says about that is logged.
    serve.wait_for("librdkafka").await;
    serve.terminate().await;
    let ended = serve.finish().await;
    assert!(!ended.err.contains("SENTINEL"), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_filter_that_is_none_is_a_wrong_configuration() {
    let kafka = Kafka::start("").await;
    let serve = kafka.spawn_with(&["serve", "--config", "sluice.yaml"], &[("RUST_LOG", "a=b=c")]);
    let ended = serve.finish().await;
    assert!(
        ended.code == Some(64) && ended.err.starts_with("RUST_LOG: "),
        "{ended:?}"
    );
}

/// The status of a GET; `None` when nobody answers.
async fn status(port: u16, path: &str) -> Option<u16> {
    asked(port, path).await?.split(' ').nth(1)?.parse().ok()
}

/// Accepted records whose cluster is gone are waited for, then counted and logged.
#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_flushed_is_logged_with_its_count() {
    let kafka = Kafka::start("").await;
    let [data, admin, nobody] = ports();
    let config = config(data, nobody, "grace_period: 1h");
    // The environment reaches the running sidecar: with the file's hour this test would not end.
    let variables = [("SLUICE__GRACE_PERIOD", "2s")];
    let (_kafka, mut serve) = serve(kafka, &config, admin, &variables).await;
    assert_eq!(status(admin, "/readyz").await, Some(200));
    for _ in 0..3 {
        let answer = post(data, "/topics/orders/records?delivery=buffered", "x").await;
        assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    }
    serve.terminate().await;
    serve.wait_for("draining").await;
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let mut seen = status(admin, "/readyz").await;
    while seen == Some(200) && std::time::Instant::now() < until {
        seen = status(admin, "/readyz").await;
    }
    assert_eq!(seen, Some(503), "readiness does not fail");
    let ended = serve.finish().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.err.contains("records could not be flushed records=3"),
        "{}",
        ended.err
    );
}
