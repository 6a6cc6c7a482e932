//! A service on Express, registered and subscribed by the calls of Restate's Kafka page as they stand, and what reaches it.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use sluice_e2e::client::Client;
use sluice_e2e::kafka::{Kafka, Setup};
use sluice_e2e::scenario::scenario_within;
use sluice_e2e::sidecar::Sidecar;
use sluice_e2e::{Result, ensure, parts, wait};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

const PATIENCE: Duration = Duration::from_secs(120);
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The service. It ends with this.
struct Express {
    port: u16,
    _process: Child,
}

impl Express {
    async fn start() -> Result<Self> {
        let modules = parts::root().join("target/webhooks/node_modules");
        ensure!(
            modules.join("express").exists(),
            "{}/express is missing: run `make webhooks`",
            modules.display()
        );
        let mut process = Command::new("node")
            .env("NODE_PATH", modules)
            .arg(parts::root().join("e2e/webhooks/express.cjs"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start node: is Node.js installed?")?;
        let mut port = String::new();
        let output = process.stdout.take().context("no standard output")?;
        BufReader::new(output).read_line(&mut port).await?;
        let port = port.trim().parse().context("the service has ended")?;
        Ok(Self {
            port,
            _process: process,
        })
    }

    /// What it was asked, and how often two requests of one key were there at once.
    async fn seen(&self) -> Result<(Vec<Value>, u64)> {
        let told = Client::h1(self.port).get("/seen").await?.expect(200)?.json()?;
        let seen = told.get("seen").and_then(Value::as_array);
        let overlaps = told.get("overlaps").and_then(Value::as_u64);
        Ok((seen.cloned().context("no list")?, overlaps.context("no number")?))
    }
}

/// Runs a command as it is written; `localhost:9070` is the sidecar's admin listener.
async fn curl(admin: &str, args: &[&str]) -> Result<Value> {
    let output = Command::new("curl")
        .args(["-sS", "--noproxy", "*", "--connect-to"])
        .arg(format!("localhost:9070:{admin}"))
        .args(args)
        .kill_on_drop(true)
        .output()
        .await
        .context("start curl: is it installed?")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{args:?}: {told}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What the command prints about the sidecar at `admin`.
async fn sluice(admin: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(parts::sidecar()?)
        .args(args)
        .args(["--admin", admin])
        .kill_on_drop(true)
        .output()
        .await?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{args:?}: {told}");
    Ok(String::from_utf8(output.stdout)?)
}

fn producer(kafka: &Kafka) -> Result<BaseProducer> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", kafka.bootstrap())
        .set("partitioner", "murmur2_random");
    Ok(config.create()?)
}

fn headers() -> OwnedHeaders {
    let all = [
        ("traceparent", TRACE),
        ("tracestate", "vendor=1"),
        ("x-own", "mine"),
        // None of these is a record's to say.
        ("authorization", "Bearer stolen"),
        ("host", "elsewhere.example"),
        ("connection", "close, x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=1"),
        ("transfer-encoding", "chunked"),
        ("content-length", "1"),
        ("te", "trailers"),
        ("upgrade", "h2c"),
        ("proxy-authorization", "Basic c3RvbGVu"),
    ];
    all.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header {
            key,
            value: Some(*value),
        })
    })
}

fn send(producer: &BaseProducer, topic: &str, key: &str, value: &str) -> Result<()> {
    let record = BaseRecord::to(topic).key(key).payload(value).headers(headers());
    producer.send(record).map_err(|(error, _)| error)?;
    Ok(())
}

/// What must be in a request, and what must not.
fn looked_at(one: &Value, topic: &str, subscription: &str, key: &str, port: u16) -> Result<()> {
    let headers = one.get("headers").context("no headers")?;
    let header = |name: &str| {
        let value = headers.get(name).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    let expected = [
        ("content-type", "application/json".to_owned()),
        ("traceparent", TRACE.to_owned()),
        ("tracestate", "vendor=1".to_owned()),
        ("x-own", "mine".to_owned()),
        ("kafka.topic", topic.to_owned()),
        ("kafka.key", key.to_owned()),
        ("restate.subscription.id", subscription.to_owned()),
        ("host", format!("127.0.0.1:{port}")),
    ];
    for (name, value) in expected {
        ensure!(header(name) == value, "{name} is not {value}: {one}");
    }
    let (partition, offset) = (header("kafka.partition"), header("kafka.offset"));
    let id = format!("{subscription}/{topic}/{partition}/{offset}");
    ensure!(
        header("webhook-id") == id && header("idempotency-key") == id,
        "not {id}: {one}"
    );
    ensure!(header("kafka.timestamp").parse::<u64>().is_ok(), "{one}");
    for name in [
        "authorization",
        "x-hop",
        "keep-alive",
        "te",
        "upgrade",
        "proxy-authorization",
    ] {
        ensure!(headers.get(name).is_none(), "{name} is there: {one}");
    }
    ensure!(
        !header("connection").contains("x-hop") && header("transfer-encoding").is_empty(),
        "{one}"
    );
    let names = one.get("names").and_then(Value::as_array).context("no names")?;
    for name in ["host", "content-length", "traceparent"] {
        let times = names.iter().filter(|other| *other == name).count();
        ensure!(times == 1, "{name} is there {times} times: {one}");
    }
    Ok(())
}

#[test]
fn a_service_on_express_is_handed_records() -> Result<()> {
    scenario_within(Duration::from_secs(300), "express", async |s| {
        const KEYS: [(&str, &str); 3] = [
            ("plain", "cGxhaW4="),
            ("ä/ b?", "w6QvIGI_"),
            ("x%2Fy", "eCUyRnk="),
        ];
        const EACH: u64 = 20;
        let kafka = Kafka::start(s.dir(), &Setup::default()).await?;
        for topic in ["my-topic", "orders"] {
            kafka.create_topic(topic, 3).await?;
        }
        let express = Express::start().await?;
        let settings = json!({
            "clusters": {"main": {"bootstrap_servers": kafka.bootstrap(), "allowed_topics": []}},
            "state": {"cluster": "main", "topic": s.topic("state"), "replication_factor": 1},
            "held": {"replication_factor": 1},
            "egress": {"allow": [{"hosts": ["127.0.0.1"], "ports": [express.port], "cidrs": ["127.0.0.0/8"]}]},
        });
        let sidecar = Sidecar::start(s.dir(), &settings).await?;
        let address = sidecar.admin_address();
        let admin = address.as_str();
        wait::until("the state is known", PATIENCE, async || {
            let told = curl(admin, &["localhost:9070/subscriptions"]).await?;
            ensure!(told["state"] == "ready", "{told}");
            Ok(())
        })
        .await?;

        // <https://docs.restate.dev/services/invocation/kafka>, but for the addresses.
        let cluster =
            json!({"name": "my-cluster", "properties": {"bootstrap.servers": kafka.bootstrap()}}).to_string();
        let made = curl(admin, &["localhost:9070/kafka-clusters", "--json", &cluster]).await?;
        ensure!(made["name"] == "my-cluster", "{made}");
        let deployment = json!({"uri": format!("http://127.0.0.1:{}", express.port)}).to_string();
        let made = curl(admin, &["localhost:9070/deployments", "--json", &deployment]).await?;
        ensure!(made["services"].as_array().map(Vec::len) == Some(2), "{made}");
        let service = curl(
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
        let object = curl(
            admin,
            &[
                "localhost:9070/subscriptions",
                "--json",
                r#"{
                "source": "kafka://my-cluster/orders",
                "sink": "service://MyObject/handle",
                "options": {"auto.offset.reset": "earliest", "concurrency": 16}
            }"#,
            ],
        )
        .await?;
        let id = |made: &Value| made["id"].as_str().map(str::to_owned).context("it has no id");
        let (service, object) = (id(&service)?, id(&object)?);

        let producer = producer(&kafka)?;
        send(&producer, "my-topic", "plain", r#"{"amount": 1.10, "name": "é"}"#)?;
        send(&producer, "my-topic", "plain", "no JSON")?;
        for n in 0..EACH {
            for (key, _) in KEYS {
                send(&producer, "orders", key, &json!({"n": n}).to_string())?;
            }
        }
        producer.flush(PATIENCE)?;
        let count = KEYS.len() * usize::try_from(EACH)? + 1;
        let seen = wait::until("all of it is there", PATIENCE, async || {
            let (seen, overlaps) = express.seen().await?;
            ensure!(seen.len() == count, "{} of {count}", seen.len());
            ensure!(overlaps == 0, "{overlaps} times two of a key at once");
            Ok(seen)
        })
        .await?;

        let mut keys: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for one in &seen {
            if one["path"] == "/MyService/handle" {
                ensure!(one["body"] == json!({"amount": 1.1, "name": "é"}), "{one}");
                looked_at(one, "my-topic", &service, "cGxhaW4=", express.port)?;
                continue;
            }
            let key = one["key"].as_str().unwrap_or_default();
            let known = KEYS.iter().find(|(name, _)| *name == key);
            let (_, encoded) = known.with_context(|| format!("{one}"))?;
            looked_at(one, "orders", &object, encoded, express.port)?;
            let n = one["body"]["n"].as_u64().with_context(|| format!("{one}"))?;
            keys.entry(key.to_owned()).or_default().push(n);
        }
        ensure!(keys.len() == KEYS.len(), "{keys:?}");
        for (key, taken) in &keys {
            ensure!(taken.iter().copied().eq(0..EACH), "{key}: {taken:?}");
        }
        // What is no JSON never comes: it is parked.
        wait::until("what is no JSON is parked", PATIENCE, async || {
            let parked = sidecar
                .metric("sluice_subscription_held_events", "parked")
                .await?;
            ensure!((parked - 1.0).abs() < 0.1, "{parked} are");
            Ok(())
        })
        .await?;
        ensure!(express.seen().await?.0.len() == count, "more came");

        // What is held of it stays where that is asked for, until somebody removes it.
        let held = async || sluice(admin, &["subscriptions", "held", "list"]).await;
        let line = format!("my-cluster {service} 1 ");
        let listed = held().await?;
        ensure!(listed.contains(&format!("{line}true\n")), "{listed}");
        sluice(admin, &["subscriptions", "delete", &service, "--keep-held"]).await?;
        let listed = held().await?;
        ensure!(listed.contains(&format!("{line}false\n")), "{listed}");
        let removed = sluice(admin, &["subscriptions", "held", "delete", &service]).await?;
        let removed: Value = serde_json::from_str(&removed)?;
        ensure!(removed["events"] == 1, "{removed}");
        let listed = held().await?;
        ensure!(!listed.contains(&service), "{listed}");
        Ok(())
    })
}
