//! Reading over HTTP: through real Envoy, from real Kafka.

mod browser;
mod clients;
mod gaps;
mod resumes;
mod tokens;

use std::process::Stdio;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use sluice_e2e::client::Client;
use sluice_e2e::envoy::{produce, reads};
use sluice_e2e::kafka::{self, Kafka, Setup};
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::{Scenario, scenario};
use sluice_e2e::{Context, Result, anyhow, bail, ensure};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const PATIENCE: Duration = Duration::from_secs(60);

/// Sidecar and Envoy with the shipped route for reading, and everything else written to `topic`.
pub(crate) async fn rig(s: &Scenario, kafka: &Kafka, topic: &str) -> Result<Rig> {
    let route = json!({"topic": topic, "value": "body", "key": {"header": "x-key"}});
    rig_with(s, kafka, topic, vec![reads()?, produce("/", route)]).await
}

/// The same, where `topics` (a topic, or a beginning and `*`) are read and nothing is written.
async fn reading_rig(s: &Scenario, kafka: &Kafka, topics: &str) -> Result<Rig> {
    rig_with(s, kafka, topics, vec![reads()?]).await
}

async fn rig_with(s: &Scenario, kafka: &Kafka, topics: &str, routes: Vec<Value>) -> Result<Rig> {
    let entry = json!({"topics": [topics], "anonymous": true, "encodeMessageId": false, "max_wait": 0});
    let parts = Parts::new(&kafka.bootstrap(), routes).sidecar("reads", json!([entry]));
    Rig::start(s, parts).await
}

pub(crate) async fn page(client: &Client, path: &str) -> Result<Value> {
    client.get(path).await?.expect(200)?.json()
}

fn values(page: &Value) -> Vec<String> {
    let items = page.get("items").and_then(Value::as_array);
    items.into_iter().flatten().map(value).collect()
}

/// An item's value, if it is a string as its text.
fn value(item: &Value) -> String {
    let value = item.get("value").unwrap_or(&Value::Null);
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn next(page: &Value) -> String {
    let cursor = page.pointer("/pagination/nextCursor").and_then(Value::as_str);
    cursor.unwrap_or_default().replace('#', "%23")
}

/// An event stream, as curl has it.
struct Curl {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// The id of the last event that was whole.
    id: String,
}

impl Curl {
    fn start(url: &str, last: Option<&str>) -> Result<Self> {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--no-buffer", url]);
        if let Some(id) = last {
            command.args(["--header", &format!("Last-Event-ID: {id}")]);
        }
        let mut child = command
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("curl")?;
        let out = child.stdout.take().context("no output")?;
        Ok(Self {
            child,
            lines: BufReader::new(out).lines(),
            // What was cut off before its first event is asked for again from where it was.
            id: last.unwrap_or_default().to_owned(),
        })
    }

    /// The value of the next record; none once the stream is caught up.
    async fn next(&mut self) -> Result<Option<String>> {
        let (event, data) = self.event().await?;
        match event.as_str() {
            "message" => Ok(Some(value(&serde_json::from_str(&data)?))),
            "caught-up" => Ok(None),
            other => bail!("{other}: {data}"),
        }
    }

    /// The name and the data of the next event.
    async fn event(&mut self) -> Result<(String, String)> {
        let (mut id, mut event, mut data) = (None, String::new(), None);
        loop {
            let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
            let line = line.context("nothing comes")??.context("the stream ended")?;
            if let Some(new) = line.strip_prefix("id: ") {
                id = Some(new.to_owned());
            } else if let Some(name) = line.strip_prefix("event: ") {
                name.clone_into(&mut event);
            } else if let Some(text) = line.strip_prefix("data: ") {
                data = Some(text.to_owned());
            } else if line.is_empty()
                && let Some(data) = data.take()
            {
                // What is cut off before its empty line is no event, and its id none to come back with.
                self.id = id.take().unwrap_or_else(|| std::mem::take(&mut self.id));
                return Ok((event, data));
            }
        }
    }

    async fn values(&mut self, count: usize) -> Result<Vec<String>> {
        let mut values = Vec::new();
        while values.len() < count {
            values.extend(self.next().await?);
        }
        Ok(values)
    }

    /// Hangs up, and gives the last id.
    async fn hang_up(mut self) -> Result<String> {
        self.child.kill().await?;
        Ok(self.id)
    }
}

/// Writes with a transactional producer, on a thread of its own.
pub(crate) async fn transactions(
    bootstrap: &str,
    id: &str,
    work: impl FnOnce(&BaseProducer) -> Result<()> + Send + 'static,
) -> Result<()> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("transactional.id", id);
    let done = tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = config.create()?;
        producer.init_transactions(PATIENCE)?;
        work(&producer)
    });
    done.await?
}

fn send(producer: &BaseProducer, topic: &str, value: &str) -> Result<()> {
    let record = BaseRecord::<str, str>::to(topic).partition(0).payload(value);
    producer.send(record).map_err(|(error, _)| anyhow!("{error}"))?;
    producer.flush(PATIENCE)?;
    Ok(())
}

#[test]
fn what_envoy_wrote_and_what_java_wrote_is_read_through_envoy() -> Result<()> {
    scenario("reading-pages", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 3).await?;
        // Every codec is read, whatever a topic is set to.
        kafka.set_topic(&topic, "compression.type=zstd").await?;
        let rig = rig(s, kafka, &topic).await?;
        let client = rig.envoy.h1();
        let records: Vec<(String, String)> = (0..40)
            .map(|n| (format!("k{}", n % 7), format!("java-{n}")))
            .collect();
        let java: Vec<(&str, &str)> = records
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        kafka.console_produce(&topic, &java).await?;
        for n in 0..10 {
            client
                .post("/", "text/plain", format!("envoy-{n}"))
                .await?
                .expect(200)?;
        }
        let mut path = format!("/topics/{topic}/records?from=earliest&limit=9&max_wait=200");
        let mut seen = Vec::new();
        loop {
            let page = page(&client, &path).await?;
            let found = values(&page);
            if found.is_empty() {
                break;
            }
            ensure!(found.len() <= 9 && seen.len() <= 50, "{page}");
            seen.extend(found);
            path = format!(
                "/topics/{topic}/records?limit=9&max_wait=200&cursor={}",
                next(&page)
            );
        }
        let mut expected: Vec<String> = records.into_iter().map(|(_, value)| value).collect();
        expected.extend((0..10).map(|n| format!("envoy-{n}")));
        seen.sort();
        expected.sort();
        ensure!(seen == expected, "{seen:?}");
        // A poll that waits is answered when the record is there.
        let waiting = format!("{path}&max_wait=20s").replace("&max_wait=200&", "&");
        let (found, written) = tokio::join!(page(&client, &waiting), async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            client.post("/", "text/plain", "at last").await
        });
        written?.expect(200)?;
        ensure!(values(&found?) == ["at last"]);
        client
            .get("/topics/other/records")
            .await?
            .expect_error(403, "topic_not_allowed")?;
        let listed = page(&client, "/topics").await?;
        ensure!(listed == json!({"topics": [{"topic": topic}]}), "{listed}");
        Ok(())
    })
}

#[test]
fn transactions_and_their_markers_are_no_end() -> Result<()> {
    scenario("reading-transactions", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let rig = rig(s, kafka, &topic).await?;
        let client = rig.envoy.h1();
        let name = topic.clone();
        transactions(&kafka.bootstrap(), &topic, move |producer| {
            producer.begin_transaction()?;
            send(producer, &name, "aborted")?;
            producer.abort_transaction(PATIENCE)?;
            producer.begin_transaction()?;
            send(producer, &name, "committed")?;
            producer.commit_transaction(PATIENCE)?;
            Ok(())
        })
        .await?;
        // 0 aborted, 1 marker, 2 committed, 3 marker.
        let first = page(
            &client,
            &format!("/topics/{topic}/records?from=earliest&max_wait=10s"),
        )
        .await?;
        ensure!(
            values(&first) == ["committed"] && first["items"][0]["offset"] == 2,
            "{first}"
        );
        let mut cursor = next(&first);
        let mut rest = Value::Null;
        // The marker at the end is gone past, and is no position that is not there.
        for _ in 0..2 {
            rest = page(
                &client,
                &format!("/topics/{topic}/records?max_wait=300&cursor={cursor}"),
            )
            .await?;
            ensure!(values(&rest).is_empty() && rest.get("resets").is_none(), "{rest}");
            cursor = next(&rest);
        }
        ensure!(next(&rest) == format!("{topic}@0%233"), "{rest}");
        // A stream over a transaction that is open, and is then committed.
        let url = format!(
            "http://127.0.0.1:{}/topics/{topic}/stream?from=earliest",
            rig.envoy.port()
        );
        let mut stream = Curl::start(&url, None)?;
        ensure!(stream.values(1).await? == ["committed"] && stream.next().await?.is_none());
        let (name, waiting) = (topic.clone(), client.clone());
        let path = format!("/topics/{topic}/records?max_wait=500&cursor={cursor}");
        let runtime = tokio::runtime::Handle::current();
        transactions(&kafka.bootstrap(), &topic, move |producer| {
            producer.begin_transaction()?;
            send(producer, &name, "late")?;
            let open = runtime.block_on(page(&waiting, &path))?;
            ensure!(values(&open).is_empty(), "not committed yet: {open}");
            producer.commit_transaction(PATIENCE)?;
            Ok(())
        })
        .await?;
        ensure!(stream.values(1).await? == ["late"]);
        let found = page(
            &client,
            &format!("/topics/{topic}/records?max_wait=10s&cursor={cursor}"),
        )
        .await?;
        ensure!(values(&found) == ["late"], "{found}");
        // Neither what was aborted nor a marker is a record.
        for offset in [0, 1, 3] {
            let path = format!("/topics/{topic}/partitions/0/records/{offset}");
            client.get(&path).await?.expect_error(404, "no_record")?;
        }
        ensure!(
            client
                .get(&format!("/topics/{topic}/partitions/0/records/2"))
                .await?
                .text()
                == "committed"
        );
        Ok(())
    })
}

#[test]
fn a_stream_outlives_its_broker_and_comes_back_where_it_was() -> Result<()> {
    scenario("reading-stream", async |s| {
        let mut kafka = Kafka::start(s.dir(), &Setup::default()).await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 2).await?;
        let mut rig = rig(s, &kafka, &topic).await?;
        let client = rig.envoy.h1();
        let write = async |values: std::ops::Range<usize>| -> Result<()> {
            for value in values {
                // Where the broker has just come back, the first may have to be sent again: it was then not written.
                let mut reply = client.post("/", "text/plain", value.to_string()).await?;
                for _ in 0..100 {
                    if reply.status != 503 {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    reply = client.post("/", "text/plain", value.to_string()).await?;
                }
                reply.expect(200)?;
            }
            Ok(())
        };
        let sorted = |mut values: Vec<String>| -> Vec<usize> {
            values.sort_by_key(|value| value.parse().unwrap_or(usize::MAX));
            values.iter().filter_map(|value| value.parse().ok()).collect()
        };
        write(0..10).await?;
        let url = format!(
            "http://127.0.0.1:{}/topics/{topic}/stream?from=earliest",
            rig.envoy.port()
        );
        let mut stream = Curl::start(&url, None)?;
        ensure!(sorted(stream.values(10).await?) == (0..10).collect::<Vec<_>>());
        ensure!(stream.next().await?.is_none(), "caught up");
        kafka.node(1)?.stop().await?;
        kafka.node(1)?.restart().await?;
        write(10..20).await?;
        ensure!(sorted(stream.values(10).await?) == (10..20).collect::<Vec<_>>());
        let id = stream.hang_up().await?;
        write(20..30).await?;
        // Another sidecar goes on as well: there is nothing that it must remember.
        rig.sidecar.restart().await?;
        let mut stream = Curl::start(&url, Some(&id))?;
        ensure!(sorted(stream.values(10).await?) == (20..30).collect::<Vec<_>>());
        ensure!(
            stream.next().await?.is_none(),
            "caught up, and nothing came twice"
        );
        kafka.node(1)?.kill()?;
        kafka.node(1)?.restart().await?;
        write(30..35).await?;
        ensure!(sorted(stream.values(5).await?) == (30..35).collect::<Vec<_>>());
        // Partitions that are added are read.
        kafka.add_partitions(&topic, 4).await?;
        let path = format!("/topics/{topic}/records");
        let request = rig
            .sidecar
            .rest()
            .request(hyper::Method::POST, &path)
            .header("x-kafka-partition", "3");
        let added = rig
            .sidecar
            .rest()
            .send(request.body(sluice_e2e::client::full("35"))?)
            .await?;
        added.expect(200)?;
        ensure!(stream.values(1).await? == ["35"]);
        rig.envoy.healthy()
    })
}

#[test]
fn a_stream_says_that_its_topic_is_gone() -> Result<()> {
    scenario("reading-deleted", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let rig = rig(s, kafka, &topic).await?;
        let url = format!("http://127.0.0.1:{}/topics/{topic}/stream", rig.envoy.port());
        let mut stream = Curl::start(&url, None)?;
        ensure!(stream.next().await?.is_none(), "caught up");
        kafka.delete_topic(&topic).await?;
        let Err(why) = stream.next().await else {
            bail!("a record of a topic that is gone");
        };
        let why = why.to_string();
        ensure!(
            why.starts_with("error: ") && why.contains("unknown_topic"),
            "{why}"
        );
        let path = format!("/topics/{topic}/records");
        rig.envoy
            .h1()
            .get(&path)
            .await?
            .expect_error(404, "unknown_topic")?;
        Ok(())
    })
}
