//! What the admin API makes, on a real Kafka that compacts it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_e2e::client::Client;
use sluice_e2e::kafka::{Kafka, Setup};
use sluice_e2e::scenario::{Scenario, scenario};
use sluice_e2e::sidecar::Sidecar;
use sluice_e2e::{Result, ensure, wait};

/// The whole configuration of a sidecar that shares state.
fn settings(kafka: &Kafka, topic: &str) -> Value {
    json!({
        "clusters": {"main": {"bootstrap_servers": kafka.bootstrap(), "allowed_topics": []}},
        "state": {"cluster": "main", "topic": topic, "replication_factor": 1},
        "egress": {"allow": [{"hosts": ["127.0.0.1"], "cidrs": ["127.0.0.0/8"]}]},
    })
}

async fn sidecar(s: &Scenario, name: &str, settings: &Value) -> Result<Sidecar> {
    let dir = s.dir().join(name);
    std::fs::create_dir_all(&dir)?;
    Sidecar::start(&dir, settings).await
}

/// What a sidecar knows of clusters, by name: properties and version.
async fn clusters(admin: &Client) -> Result<BTreeMap<String, String>> {
    let reply = admin.get("/kafka-clusters").await?;
    reply.expect(200)?;
    let all = reply
        .json()?
        .get("clusters")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let made = all.iter().filter(|one| one["read_only"] == false);
    let told = made.map(|one| {
        let name = one["name"].as_str().unwrap_or_default().to_owned();
        (name, format!("{} {}", one["version"], one["properties"]))
    });
    Ok(told.collect())
}

async fn ready(admin: &Client) -> Result<()> {
    wait::until("the state is known", Duration::from_secs(60), async || {
        let reply = admin.get("/subscriptions").await?;
        reply.expect(200)?;
        ensure!(reply.json()?.get("state") == Some(&json!("ready")), "{reply:?}");
        Ok(())
    })
    .await
}

const ROWS: usize = 5;
const WRITERS: usize = 10;
const TURNS: usize = 100;

/// What a thousand changes, half of them at each of two sidecars, were answered.
#[derive(Default)]
struct Answered {
    /// By cluster and version, who wrote it.
    accepted: BTreeMap<(String, u64), String>,
    refused: usize,
}

/// Changes clusters that others change at the same time.
async fn write(admin: Client, writer: usize) -> Result<Answered> {
    let mut answered = Answered::default();
    for turn in 0..TURNS {
        let name = format!("c{}", turn % ROWS);
        let who = format!("w{writer}-{turn}");
        let body = json!({"properties": {"bootstrap.servers": "127.0.0.1:1", "client.id": who}});
        let request = admin
            .request(hyper::Method::PATCH, &format!("/kafka-clusters/{name}"))
            .header("content-type", "application/json")
            .body(sluice_e2e::client::full(body.to_string()))?;
        let reply = admin.send(request).await?;
        match reply.status {
            200 => {
                let tag = reply.header("etag").trim_matches('"').parse()?;
                let other = answered.accepted.insert((name, tag), who);
                ensure!(other.is_none(), "version {tag} twice: {reply:?}");
            }
            409 => answered.refused += 1,
            _ => ensure!(false, "{reply:?}"),
        }
    }
    Ok(answered)
}

#[test]
fn a_thousand_conflicting_changes_restarts_and_compaction() -> Result<()> {
    scenario("control-conflicts", async |s| {
        let setup = Setup::default().property("log.cleaner.backoff.ms", "200");
        let kafka = Kafka::start(s.dir(), &setup).await?;
        let topic = s.topic("state");
        // As Sluice makes it, and compacted as soon and as often as can be.
        kafka
            .create_assigned(
                &topic,
                "1",
                &[
                    "cleanup.policy=compact",
                    "message.timestamp.type=LogAppendTime",
                    "segment.ms=500",
                    "min.cleanable.dirty.ratio=0.01",
                    "min.compaction.lag.ms=5000",
                    "max.compaction.lag.ms=10000",
                    "delete.retention.ms=60000",
                ],
            )
            .await?;
        let settings = settings(&kafka, &topic);
        let mut one = sidecar(s, "one", &settings).await?;
        let mut two = sidecar(s, "two", &settings).await?;
        for sidecar in [&one, &two] {
            ready(&sidecar.admin()).await?;
        }
        for row in 0..ROWS {
            let body = json!({"name": format!("c{row}"), "properties": {"bootstrap.servers": "127.0.0.1:1"}});
            let reply = one
                .admin()
                .post("/kafka-clusters", "application/json", body.to_string())
                .await?;
            reply.expect(201)?;
            ensure!(
                reply.header("location") == format!("/kafka-clusters/c{row}"),
                "{reply:?}"
            );
            // Whoever comes second, at the other sidecar, is told so.
            let again = two
                .admin()
                .post("/kafka-clusters", "application/json", body.to_string())
                .await?;
            again.expect_error(409, "conflict")?;
        }

        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let admin = if writer % 2 == 0 { one.admin() } else { two.admin() };
            writers.spawn(write(admin, writer));
        }
        let mut all = Answered::default();
        while let Some(answered) = writers.join_next().await {
            let answered = answered??;
            all.refused += answered.refused;
            for (version, who) in answered.accepted {
                let other = all.accepted.insert(version.clone(), who);
                ensure!(other.is_none(), "{version:?} was accepted twice");
            }
        }
        ensure!(
            all.refused + all.accepted.len() == WRITERS * TURNS,
            "some were not answered"
        );
        ensure!(all.refused > 0, "nothing was in conflict");

        // Every version after the first was accepted from exactly one of them, and the last is there.
        let expected = |all: &Answered, known: &BTreeMap<String, String>| -> Result<()> {
            for row in 0..ROWS {
                let name = format!("c{row}");
                let versions: Vec<u64> = all
                    .accepted
                    .keys()
                    .filter(|(of, _)| *of == name)
                    .map(|(_, version)| *version)
                    .collect();
                let last = versions.last().copied().unwrap_or(1);
                ensure!(versions.iter().copied().eq(2..=last), "{name}: {versions:?}");
                let who = all
                    .accepted
                    .get(&(name.clone(), last))
                    .cloned()
                    .unwrap_or_default();
                let told = known.get(&name).cloned().unwrap_or_default();
                ensure!(
                    told.starts_with(&format!("{last} ")) && told.contains(&who),
                    "{name}: {told}, not {last} by {who}"
                );
            }
            Ok(())
        };
        for sidecar in [&one, &two] {
            let admin = sidecar.admin();
            wait::until("it knows all", Duration::from_secs(30), async || {
                expected(&all, &clusters(&admin).await?)
            })
            .await?;
        }

        one.kill()?;
        two.kill()?;
        for sidecar in [&mut one, &mut two] {
            sidecar.restart().await?;
            ready(&sidecar.admin()).await?;
            expected(&all, &clusters(&sidecar.admin()).await?)?;
        }

        // A cleaner takes what is not in the newest segment, so that there must be a newer one.
        let admin = one.admin();
        let before = kafka.records(&topic).await?.len();
        let left = wait::until("the topic is compacted", Duration::from_secs(180), async || {
            let name = "spare";
            let body = json!({"name": name, "properties": {"bootstrap.servers": "127.0.0.1:1"}});
            admin
                .post("/kafka-clusters", "application/json", body.to_string())
                .await?
                .expect(201)?;
            let request = admin.request(hyper::Method::DELETE, &format!("/kafka-clusters/{name}"));
            admin
                .send(request.body(sluice_e2e::client::full(""))?)
                .await?
                .expect(202)?;
            let left = kafka.records(&topic).await?;
            // Records that say something, besides what was written in this wait.
            let values = left.iter().filter(|record| record.value.is_some()).count();
            ensure!(
                values < before / 10,
                "{values} of {before} records with a value are left"
            );
            Ok(left)
        })
        .await?;
        ensure!(!left.is_empty(), "nothing is left");

        one.kill()?;
        two.kill()?;
        let three = sidecar(s, "three", &settings).await?;
        ready(&three.admin()).await?;
        let fresh = clusters(&three.admin()).await?;
        expected(&all, &fresh)?;
        for sidecar in [&mut one, &mut two] {
            sidecar.restart().await?;
            ready(&sidecar.admin()).await?;
            ensure!(clusters(&sidecar.admin()).await? == fresh, "they do not agree");
        }
        Ok(())
    })
}

/// A service of any framework: it answers `/discover` with its manifest, and everything else with 200.
async fn handler() -> Result<u16> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    let manifest = json!({"services": [
        {"name": "MyService", "ty": "SERVICE", "handlers": [{"name": "handle"}]},
        {"name": "MyObject", "ty": "VIRTUAL_OBJECT", "handlers": [{"name": "handle"}]},
    ]})
    .to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let body = manifest.clone();
            tokio::spawn(async move {
                let mut head = vec![0; 4096];
                let _asked = stream.read(&mut head).await;
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _told = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    Ok(port)
}

/// Runs `curl` as it is written, but for the port; gives what it printed.
async fn curl(admin: &str, args: &[&str]) -> Result<Value> {
    let args = args.iter().map(|arg| arg.replace("localhost:9070", admin));
    let output = tokio::process::Command::new("curl")
        .arg("-sS")
        .args(args)
        .kill_on_drop(true)
        .output()
        .await?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The calls of <https://docs.restate.dev/services/invocation/kafka>, and the command line's.
#[test]
fn restates_calls_and_the_command() -> Result<()> {
    scenario("control-restate", async |s| {
        let kafka = Kafka::start(s.dir(), &Setup::default()).await?;
        kafka.create_topic("my-topic", 2).await?;
        kafka.create_topic("other-topic", 3).await?;
        let settings = settings(&kafka, &s.topic("state"));
        let sidecar = sidecar(s, "one", &settings).await?;
        ready(&sidecar.admin()).await?;
        let port = handler().await?;
        let address = sidecar.admin_address();
        let admin = address.as_str();

        let body = json!({"name": "my-cluster", "properties": {"bootstrap.servers": kafka.bootstrap(), "client.id": "me"}});
        let cluster = curl(
            admin,
            &["localhost:9070/kafka-clusters", "--json", &body.to_string()],
        )
        .await?;
        ensure!(cluster["name"] == "my-cluster", "{cluster}");
        let body = json!({"uri": format!("http://127.0.0.1:{port}")});
        let deployment = curl(
            admin,
            &["localhost:9070/deployments", "--json", &body.to_string()],
        )
        .await?;
        ensure!(deployment["services"][1]["name"] == "MyService", "{deployment}");
        let made = curl(
            admin,
            &[
                "localhost:9070/subscriptions",
                "--json",
                r#"{
                "source": "kafka://my-cluster/my-topic",
                "sink": "service://MyService/handle",
                "options": {"auto.offset.reset": "earliest"}
            }"#,
            ],
        )
        .await?;
        let id = made["id"].as_str().unwrap_or_default().to_owned();
        ensure!(
            id.starts_with("sub_") && made["source"] == "kafka://my-cluster/my-topic",
            "{made}"
        );
        let all = curl(admin, &["localhost:9070/subscriptions"]).await?;
        ensure!(all["subscriptions"][0]["id"] == id.as_str(), "{all}");
        let none = curl(
            admin,
            &["localhost:9070/subscriptions?sink=service://MyService/other"],
        )
        .await?;
        ensure!(none["subscriptions"] == json!([]), "{none}");

        // What cannot be is refused with the reason.
        let client = sidecar.admin();
        for (source, sink, why) in [
            (
                "kafka://nowhere/t",
                "service://MyService/handle",
                "no cluster is named",
            ),
            (
                "kafka://my-cluster/t",
                "service://Other/handle",
                "no service is named",
            ),
            (
                "kafka://my-cluster/t",
                "service://MyService/other",
                "has no handler",
            ),
            (
                "kafka://my-cluster/t",
                "http://169.254.169.254/latest",
                "169.254.169.254",
            ),
        ] {
            let body = json!({"source": source, "sink": sink}).to_string();
            let reply = client.post("/subscriptions", "application/json", body).await?;
            reply.expect_error(422, "invalid")?;
            ensure!(reply.text().contains(why), "{}", reply.text());
        }
        // Two topics of one object must have as many partitions as each other.
        let keyed = |topic: &str| {
            json!({"source": format!("kafka://my-cluster/{topic}"), "sink": "service://MyObject/handle"})
                .to_string()
        };
        client
            .post("/subscriptions", "application/json", keyed("my-topic"))
            .await?
            .expect(201)?;
        let refused = client
            .post("/subscriptions", "application/json", keyed("other-topic"))
            .await?;
        refused.expect_error(422, "invalid")?;
        ensure!(
            refused.text().contains("my-topic has 2 partitions"),
            "{}",
            refused.text()
        );

        // The command says the same.
        let command = async |args: &[&str]| -> Result<String> {
            let output = tokio::process::Command::new(sluice_e2e::parts::sidecar()?)
                .args(args)
                .args(["--admin", admin])
                .kill_on_drop(true)
                .output()
                .await?;
            ensure!(
                output.status.success(),
                "{args:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            Ok(String::from_utf8(output.stdout)?)
        };
        let listed = command(&["subscriptions", "list"]).await?;
        ensure!(listed.contains(&format!("{id} ")), "{listed}");
        ensure!(
            listed.contains("kafka://my-cluster/my-topic service://MyService/handle"),
            "{listed}"
        );
        let paused: Value = serde_json::from_str(&command(&["subscriptions", "pause", &id]).await?)?;
        ensure!(paused["options"]["paused"] == true, "{paused}");
        let resumed: Value = serde_json::from_str(&command(&["sub", "resume", &id]).await?)?;
        ensure!(
            resumed["options"] == json!({"auto.offset.reset": "earliest"}),
            "{resumed}"
        );
        let listed = command(&["services"]).await?;
        ensure!(listed.contains("MyObject VIRTUAL_OBJECT dp_"), "{listed}");
        let listed = command(&["kc", "list"]).await?;
        ensure!(
            listed.contains(&format!("my-cluster {}\n", kafka.bootstrap())),
            "{listed}"
        );

        let request = client.request(hyper::Method::DELETE, "/kafka-clusters/my-cluster");
        let refused = client.send(request.body(sluice_e2e::client::full(""))?).await?;
        refused.expect_error(409, "conflict")?;
        ensure!(refused.text().contains(&id), "{}", refused.text());
        let deleted = curl(
            admin,
            &["-X", "DELETE", &format!("localhost:9070/subscriptions/{id}")],
        )
        .await?;
        ensure!(deleted["id"] == id.as_str(), "{deleted}");
        client
            .get(&format!("/subscriptions/{id}"))
            .await?
            .expect_error(404, "not_found")?;
        Ok(())
    })
}
