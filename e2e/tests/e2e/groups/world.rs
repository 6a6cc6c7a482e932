//! What the tests of groups share: two sidecars, pages, and streams that are read on and on.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::ClientConfig;
use serde_json::{Value, json};
use sluice_e2e::client::Client;
use sluice_e2e::envoy::{produce, reads};
use sluice_e2e::kafka::Kafka;
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::Scenario;
use sluice_e2e::sidecar::Sidecar;
use sluice_e2e::{Context, Result, anyhow, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::task::JoinHandle;

use super::PATIENCE;

/// What both sidecars are started with.
pub(super) fn parts(kafka: &Kafka, topic: &str, qos: &str) -> Result<Parts> {
    let routes = vec![
        reads()?,
        produce(
            "/",
            json!({"topic": topic, "value": "body", "key": {"header": "x-key"}}),
        ),
    ];
    let entry = json!({
        "topics": [topic], "anonymous": true, "encodeMessageId": false, "max_wait": 500,
        "auto_offset_reset": "earliest", "groups": ["app.*"], "qos": qos,
    });
    Ok(Parts::new(&kafka.bootstrap(), routes)
        .sidecar("reads", json!([entry]))
        // So that a sidecar that was killed is missed soon; the broker takes no less.
        .sidecar(
            "clusters/main/properties",
            json!({"session.timeout.ms": 6000, "heartbeat.interval.ms": 500}),
        ))
}

/// A rig, and a sidecar beside it.
pub(super) async fn two(s: &Scenario, parts: Parts) -> Result<(Rig, Sidecar)> {
    let beside = s.within("beside")?;
    let other = Sidecar::start(beside.dir(), &parts.sidecar).await?;
    Ok((Rig::start(s, parts).await?, other))
}

/// A page, as soon as Kafka can say it: a coordinator of groups loads first.
pub(super) async fn page(client: &Client, path: &str) -> Result<Value> {
    let stop = tokio::time::Instant::now() + PATIENCE;
    loop {
        let reply = client.get(path).await?;
        let loads = reply.status == 503 && reply.text().contains("Coordinator load in progress");
        if !loads || tokio::time::Instant::now() > stop {
            return reply.expect(200)?.json();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Where a record is, and its value.
pub(super) type Found = ((i64, i64), String);

pub(super) fn items(page: &Value) -> Vec<Found> {
    let items = page.get("items").and_then(Value::as_array);
    let found = |item: &Value| {
        let number = |name: &str| item.get(name).and_then(Value::as_i64).unwrap_or(-1);
        let value = item.get("value").unwrap_or(&Value::Null);
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        ((number("partition"), number("offset")), value)
    };
    items.into_iter().flatten().map(found).collect()
}

/// Writes numbers, over all partitions.
pub(super) async fn fill(kafka: &Kafka, topic: &str, numbers: std::ops::Range<usize>) -> Result<()> {
    let (bootstrap, topic) = (kafka.bootstrap(), topic.to_owned());
    let written = tokio::task::spawn_blocking(move || {
        use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("partitioner", "murmur2_random")
            .create()?;
        for number in numbers {
            let value = number.to_string();
            let record = BaseRecord::<str, str>::to(&topic).key(&value).payload(&value);
            producer.send(record).map_err(|(error, _)| anyhow!("{error}"))?;
        }
        producer.flush(PATIENCE)?;
        Ok(())
    });
    written.await?
}

/// What a stream has shown so far.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) records: Vec<Found>,
    /// `assigned` and `revoked`, with their partitions.
    pub(super) moves: Vec<(String, Vec<i64>)>,
}

/// An event stream, as curl has it, that is read on and on.
pub(super) struct Stream {
    shown: Arc<Mutex<Shown>>,
    reading: JoinHandle<Result<()>>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Stream {
    pub(super) fn start(port: u16, path: &str) -> Result<Self> {
        let url = format!("http://127.0.0.1:{port}{path}");
        let mut child = Command::new("curl")
            .args(["--silent", "--no-buffer", &url])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("curl")?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let shown = Arc::new(Mutex::new(Shown::default()));
        let seen = Arc::clone(&shown);
        let reading = tokio::spawn(async move {
            let _child = child;
            let mut event = String::new();
            while let Some(line) = lines.next_line().await? {
                if let Some(name) = line.strip_prefix("event: ") {
                    name.clone_into(&mut event);
                }
                let Some(data) = line.strip_prefix("data: ") else {
                    continue;
                };
                let data: Value = serde_json::from_str(data)?;
                let mut seen = seen.lock().map_err(|_| anyhow!("poisoned"))?;
                match event.as_str() {
                    "message" => seen.records.extend(items(&json!({"items": [data]}))),
                    "assigned" | "revoked" => {
                        let partitions = data.get("partitions").and_then(Value::as_array);
                        let partitions = partitions.into_iter().flatten();
                        let number = |one: &Value| one.get("partition").and_then(Value::as_i64);
                        let partitions = partitions.filter_map(number).collect();
                        seen.moves.push((event.clone(), partitions));
                    }
                    "error" => bail!("{data}"),
                    _ => {}
                }
            }
            Ok(())
        });
        Ok(Self { shown, reading })
    }

    pub(super) fn look<T>(&self, at: impl FnOnce(&Shown) -> T) -> Result<T> {
        Ok(at(&*self.shown.lock().map_err(|_| anyhow!("poisoned"))?))
    }

    /// The partitions that it has now.
    pub(super) fn has(&self) -> Result<BTreeSet<i64>> {
        self.look(|shown| {
            let mut has = BTreeSet::new();
            for (event, partitions) in &shown.moves {
                for partition in partitions {
                    if event == "assigned" {
                        has.insert(*partition);
                    } else {
                        has.remove(partition);
                    }
                }
            }
            has
        })
    }

    pub(super) fn records(&self) -> Result<Vec<Found>> {
        self.look(|shown| shown.records.clone())
    }
}

pub(super) fn values<'a>(found: impl IntoIterator<Item = &'a Found>) -> BTreeSet<String> {
    found.into_iter().map(|(_, value)| value.clone()).collect()
}

pub(super) fn expected(count: usize) -> BTreeSet<String> {
    (0..count).map(|number| number.to_string()).collect()
}
