//! `sluice spool`, while a sidecar has the spool open and while none has; and a sidecar that is killed.

use serde_json::Value;

use crate::command::{Kafka, Output, Running, sluice};
use crate::serve::{ports, post, serve};

/// A configuration with a spool in `spool/`; records larger than 2000 bytes are never taken.
fn config(data: u16, broker: u16) -> String {
    format!(
        "listeners:\n  stream: {{path: stream.sock}}\n  data: {{address: 127.0.0.1:{data}}}\n\
         clusters: {{main: {{bootstrap_servers: 127.0.0.1:{broker}, allowed_topics: [orders, new]}}}}\n\
         producers: {{default: {{properties: {{message.max.bytes: 2000}}}}}}\n\
         spool: {{directory: spool, max_bytes: 1048576}}\n"
    )
}

async fn spooled(data: u16, topic: &str, value: &str) {
    let answer = post(data, &format!("/topics/{topic}/records?delivery=spooled"), value).await;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
}

async fn spool(kafka: &Kafka, arguments: &[&str]) -> Output {
    sluice(
        kafka,
        &[&["spool", "--config", "own.yaml"][..], arguments].concat(),
    )
    .await
}

/// Waits until the list is as `right` has it, and gives it.
async fn until(kafka: &Kafka, right: impl Fn(&str) -> bool) -> String {
    for _ in 0..300 {
        let out = spool(kafka, &["ls"]).await.succeeded();
        if right(&out) {
            return out;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the spool never is as it should be");
}

async fn ended(serve: Running) {
    serve.terminate().await;
    let ended = serve.finish().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_shown_replayed_and_dropped() {
    let kafka = Kafka::start("").await;
    let [data, admin] = ports();
    let broker: u16 = kafka.brokers().rsplit(':').next().unwrap().parse().unwrap();
    kafka.write("own.yaml", &config(data, broker));
    spool(&kafka, &["ls"])
        .await
        .failed(1, "sluice: there is no spool in spool\n");
    let (kafka, running) = serve(kafka, &config(data, broker), admin, &[]).await;
    spool(&kafka, &["ls"]).await.is_ok("");
    for letter in ["a", "b", "c"] {
        spooled(data, "orders", &letter.repeat(3000)).await;
    }
    let listed = until(&kafka, |out| {
        out.lines().count() == 3 && !out.contains("records=")
    })
    .await;
    let ids: Vec<&str> = listed
        .lines()
        .map(|line| line.split(' ').nth(1).unwrap())
        .collect();
    let [a, b, c] = ids[..] else { panic!("{listed}") };
    assert!(
        listed
            .lines()
            .all(|line| line.contains(" main default orders spooled=2") && line.contains(" too_large: ")),
        "{listed}"
    );
    let shown: Value = serde_json::from_str(&spool(&kafka, &["show", a]).await.succeeded()).unwrap();
    assert_eq!(shown["value"], "a".repeat(3000));
    assert_eq!(
        (&shown["key"], &shown["code"]),
        (&Value::Null, &Value::from("too_large"))
    );
    spool(&kafka, &["drop", b]).await.is_ok("dropped 1\n");
    // It is there no more.
    spool(&kafka, &["drop", b]).await.is_ok("dropped 0\n");
    spool(&kafka, &["show", b])
        .await
        .failed(1, &format!("sluice: the spool has no record {b}\n"));
    // Nothing has changed: what is delivered again is given up again, under another number.
    spool(&kafka, &["replay", c]).await.is_ok("replayed 1\n");
    until(&kafka, |out| {
        out.lines().count() == 2 && !out.contains(&format!("dead {c} "))
    })
    .await;
    ended(running).await;
    // No sidecar, the same words.
    let listed = spool(&kafka, &["ls"]).await.succeeded();
    assert!(listed.starts_with(&format!("dead {a} ")), "{listed}");
    spool(&kafka, &["replay", "--all"]).await.is_ok("replayed 2\n");
    let listed = spool(&kafka, &["ls"]).await.succeeded();
    assert!(
        listed.starts_with("main default orders records=2 bytes="),
        "{listed}"
    );
    // A sidecar whose profile takes more delivers them.
    let larger = config(data, broker).replace("message.max.bytes: 2000", "message.max.bytes: 20000");
    let (kafka, running) = serve(kafka, &larger, admin, &[]).await;
    until(&kafka, str::is_empty).await;
    let out = orders(&kafka, "2").await;
    assert!(
        out.contains("aaa") && out.contains("ccc") && !out.contains("bbb"),
        "{out}"
    );
    ended(running).await;
}

/// Records that wait are dropped only when that is asked for by name, while a sidecar runs and while none does.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_wait_are_listed_shown_and_dropped() {
    let kafka = Kafka::start("").await;
    let [data, admin, nobody] = ports();
    let broker: u16 = kafka.brokers().rsplit(':').next().unwrap().parse().unwrap();
    let (kafka, mut running) = serve(kafka, &config(data, nobody), admin, &[]).await;
    for (topic, value) in [
        ("orders", "one"),
        ("new", "two"),
        ("orders", "three"),
        ("orders", "four"),
    ] {
        spooled(data, topic, value).await;
    }
    let listed = spool(&kafka, &["ls", "--records"]).await.succeeded();
    let waiting: Vec<&str> = listed
        .lines()
        .filter(|line| line.starts_with("waiting "))
        .collect();
    assert_eq!(waiting.len(), 4, "{listed}");
    let of = |topic: &str| {
        let part = format!(" main default {topic} spooled=2");
        let lines = waiting
            .iter()
            .filter(move |line| line.contains(&part) && line.contains(" bytes="));
        let ids = lines.map(|line| line.split(' ').nth(1).unwrap().to_owned());
        ids.collect::<Vec<String>>()
    };
    let ([one, three, _four], [two]) = (&of("orders")[..], &of("new")[..]) else {
        panic!("{listed}")
    };
    let shown: Value = serde_json::from_str(&spool(&kafka, &["show", three]).await.succeeded()).unwrap();
    assert_eq!(
        (&shown["value"], &shown["topic"]),
        (&"three".into(), &"orders".into())
    );
    assert!(shown.get("code").is_none(), "it is no dead letter: {shown}");
    // A record that waits is no dead letter.
    spool(&kafka, &["drop", one]).await.is_ok("dropped 0\n");
    spool(&kafka, &["drop", "--all"]).await.is_ok("dropped 0\n");
    let refused = spool(&kafka, &["drop", "--waiting", "--all"]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    let dropped = spool(&kafka, &["drop", "--waiting", one, "99999", one])
        .await
        .succeeded();
    assert!(
        dropped.starts_with(&format!("dropped {one} main default orders spooled=2")),
        "{dropped}"
    );
    assert!(dropped.ends_with("\ndropped 1\n"), "{dropped}");
    running
        .wait_for("an operator dropped a record that waited for Kafka")
        .await;
    spool(&kafka, &["show", one])
        .await
        .failed(1, &format!("sluice: the spool has no record {one}\n"));
    ended(running).await;
    let dropped = spool(&kafka, &["drop", "--waiting", two]).await.succeeded();
    assert!(dropped.ends_with("\ndropped 1\n"), "{dropped}");
    let listed = spool(&kafka, &["ls"]).await.succeeded();
    assert!(
        listed.starts_with("main default orders records=2 ") && listed.lines().count() == 1,
        "{listed}"
    );
    // The others are delivered.
    let (kafka, running) = serve(kafka, &config(data, broker), admin, &[]).await;
    until(&kafka, str::is_empty).await;
    let out = orders(&kafka, "2").await;
    assert!(out.contains(" three\n") && out.contains(" four\n"), "{out}");
    ended(running).await;
}

/// What `sluice tail` prints of the first `max` records of `orders`.
async fn orders(kafka: &Kafka, max: &str) -> String {
    let brokers = kafka.brokers();
    let tail = [
        "tail",
        "orders",
        "--brokers",
        &brokers,
        "--from-beginning",
        "--max",
        max,
    ];
    sluice(kafka, &tail).await.succeeded()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_without_a_spool_is_told() {
    let kafka = Kafka::start("").await;
    sluice(&kafka, &["spool", "drop", "--all"])
        .await
        .failed(64, "sluice.yaml: spool: is not there: it has the directory\n");
}

/// SIGKILL right after the answer, with no broker to deliver to; the next sidecar does.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_outlives_a_kill() {
    let kafka = Kafka::start("").await;
    let [data, admin, nobody] = ports();
    let broker: u16 = kafka.brokers().rsplit(':').next().unwrap().parse().unwrap();
    let (kafka, running) = serve(kafka, &config(data, nobody), admin, &[]).await;
    for number in 0..20 {
        spooled(data, "orders", &format!("value-{number}")).await;
    }
    running.kill().await;
    let listed = spool(&kafka, &["ls"]).await.succeeded();
    assert!(listed.starts_with("main default orders records=20 "), "{listed}");
    let (kafka, running) = serve(kafka, &config(data, broker), admin, &[]).await;
    until(&kafka, str::is_empty).await;
    let out = orders(&kafka, "20").await;
    for number in 0..20 {
        assert!(out.contains(&format!(" value-{number}\n")), "{out}");
    }
    ended(running).await;
}

/// The disk takes no more: what was answered stays, what comes is refused, and it goes on when there is room.
#[tokio::test(flavor = "multi_thread")]
async fn a_spool_of_a_disk_that_is_full_refuses_and_keeps_what_it_has() {
    let kafka = Kafka::start("").await;
    let [data, admin, nobody] = ports();
    let (kafka, running) = serve(kafka, &config(data, nobody), admin, &[]).await;
    spooled(data, "orders", "before").await;
    running.limit_files(kafka.file_size("spool/spool.redb"));
    let mut refused = None;
    for _ in 0..400 {
        let answer = post(data, "/topics/orders/records?delivery=spooled", &"x".repeat(1900)).await;
        if !answer.starts_with("HTTP/1.1 202 ") {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("the limit does not hold");
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(
        refused.contains("the spool cannot be written: spool/spool.redb: "),
        "{refused}"
    );
    assert!(refused.to_lowercase().contains("retry-after: 1"), "{refused}");
    running.limit_files(u64::MAX);
    let mut taken = false;
    for _ in 0..100 {
        taken = post(data, "/topics/orders/records?delivery=spooled", "after")
            .await
            .starts_with("HTTP/1.1 202 ");
        if taken {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(taken, "it never takes anything again");
    running.kill().await;
    let broker: u16 = kafka.brokers().rsplit(':').next().unwrap().parse().unwrap();
    let (kafka, running) = serve(kafka, &config(data, broker), admin, &[]).await;
    until(&kafka, str::is_empty).await;
    let brokers = kafka.brokers();
    let tail = [
        "tail",
        "orders",
        "--brokers",
        &brokers,
        "--from-beginning",
        "--timeout-ms",
        "1000",
    ];
    let out = sluice(&kafka, &tail).await.succeeded();
    assert!(out.contains(" before\n") && out.contains(" after\n"), "{out}");
    ended(running).await;
}

/// A directory, or a file in it, that the sidecar may not write: it says which, does not start, and changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_may_not_be_written_is_named() {
    let kafka = Kafka::start("").await;
    let [data, admin, nobody] = ports();
    let broker: u16 = kafka.brokers().rsplit(':').next().unwrap().parse().unwrap();
    let (kafka, running) = serve(kafka, &config(data, nobody), admin, &[]).await;
    spooled(data, "orders", "before").await;
    ended(running).await;
    let before = kafka.read("spool/spool.redb");
    let serve_it = ["serve", "--config", "own.yaml"];
    for (file, directory, named) in [(0o444, 0o777, "spool/spool.redb"), (0o600, 0o700, "spool")] {
        kafka.permit("spool/spool.redb", file);
        kafka.permit("spool", directory);
        let refused = kafka.as_nobody(&serve_it).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        let text = format!("sluice: spool: {named}");
        assert!(refused.err.contains(&text), "{refused:?}");
        assert!(refused.err.contains("Permission denied"), "{refused:?}");
        kafka.permit("spool", 0o755);
        kafka.permit("spool/spool.redb", 0o644);
        assert!(kafka.read("spool/spool.redb") == before, "the file was changed");
    }
    let (kafka, running) = serve(kafka, &config(data, broker), admin, &[]).await;
    until(&kafka, str::is_empty).await;
    assert!(orders(&kafka, "1").await.contains(" before\n"));
    ended(running).await;
}
