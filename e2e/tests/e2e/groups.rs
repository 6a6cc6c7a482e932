//! Readers whose position is a consumer group's: on real Kafka, with other members than ours, and by several sidecars.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use serde_json::{Value, json};
use sluice_e2e::client::Client;
use sluice_e2e::envoy::{produce, reads};
use sluice_e2e::kafka::{self, Kafka, Setup};
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::{Scenario, scenario_within};
use sluice_e2e::sidecar::Sidecar;
use sluice_e2e::{Context, Result, anyhow, bail, ensure, wait};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(90);
const LIMIT: Duration = Duration::from_secs(400);

/// What both sidecars are started with.
fn parts(kafka: &Kafka, topic: &str, qos: &str) -> Result<Parts> {
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
async fn two(s: &Scenario, parts: Parts) -> Result<(Rig, Sidecar)> {
    let beside = s.within("beside")?;
    let other = Sidecar::start(beside.dir(), &parts.sidecar).await?;
    Ok((Rig::start(s, parts).await?, other))
}

/// A page, as soon as Kafka can say it: a coordinator of groups loads first.
async fn page(client: &Client, path: &str) -> Result<Value> {
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
type Found = ((i64, i64), String);

fn items(page: &Value) -> Vec<Found> {
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
async fn fill(kafka: &Kafka, topic: &str, numbers: std::ops::Range<usize>) -> Result<()> {
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
struct Shown {
    records: Vec<Found>,
    /// `assigned` and `revoked`, with their partitions.
    moves: Vec<(String, Vec<i64>)>,
}

/// An event stream, as curl has it, that is read on and on.
struct Stream {
    shown: Arc<Mutex<Shown>>,
    reading: JoinHandle<Result<()>>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Stream {
    fn start(port: u16, path: &str) -> Result<Self> {
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

    fn look<T>(&self, at: impl FnOnce(&Shown) -> T) -> Result<T> {
        Ok(at(&*self.shown.lock().map_err(|_| anyhow!("poisoned"))?))
    }

    /// The partitions that it has now.
    fn has(&self) -> Result<BTreeSet<i64>> {
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

    fn records(&self) -> Result<Vec<Found>> {
        self.look(|shown| shown.records.clone())
    }
}

fn values<'a>(found: impl IntoIterator<Item = &'a Found>) -> BTreeSet<String> {
    found.into_iter().map(|(_, value)| value.clone()).collect()
}

fn expected(count: usize) -> BTreeSet<String> {
    (0..count).map(|number| number.to_string()).collect()
}

#[test]
fn two_sidecars_share_a_group_until_one_is_killed() -> Result<()> {
    scenario_within(LIMIT, "groups-killed", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 6).await?;
        let (rig, mut other) = two(s, parts(kafka, &topic, "at-least-once")?).await?;
        let path = format!("/topics/{topic}/stream?group=app.killed");
        let one = Stream::start(rig.envoy.port(), &path)?;
        let two = Stream::start(other.data(), &path)?;
        wait::until("they share", PATIENCE, async || {
            ensure!(
                one.has()?.len() == 3 && two.has()?.len() == 3,
                "{:?} {:?}",
                one.has()?,
                two.has()?
            );
            Ok(())
        })
        .await?;
        ensure!(one.has()?.is_disjoint(&two.has()?));
        fill(kafka, &topic, 0..300).await?;
        wait::until("both read", PATIENCE, async || {
            let all = values(one.records()?.iter().chain(&two.records()?));
            ensure!(all == expected(300), "{} of them", all.len());
            Ok(())
        })
        .await?;
        let before = one.records()?.len();
        ensure!(
            before + two.records()?.len() == 300,
            "each record came once while nothing moved"
        );
        other.kill()?;
        fill(kafka, &topic, 300..400).await?;
        wait::until("the other's partitions came", PATIENCE, async || {
            let all = values(&one.records()?);
            ensure!(all == expected(400), "{} of them", all.len());
            Ok(())
        })
        .await?;
        // What came twice is what the dead one's client had and did not acknowledge.
        let theirs = values(&two.records()?);
        let mut once = BTreeSet::new();
        for (place, value) in one.records()? {
            ensure!(once.insert(place), "{value} came to one client twice");
        }
        let mine: BTreeSet<String> = one
            .records()?
            .iter()
            .take(before)
            .map(|(_, value)| value.clone())
            .collect();
        ensure!(
            mine.is_disjoint(&theirs),
            "while both were there none came to both"
        );
        ensure!(one.has()?.len() == 6);
        Ok(())
    })
}

/// A generator of numbers, so that a failure can be had again (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

#[test]
fn who_acknowledges_misses_nothing_and_has_nothing_acknowledged_again() -> Result<()> {
    scenario_within(LIMIT, "groups-resumed", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 3).await?;
        let (rig, other) = two(s, parts(kafka, &topic, "at-least-once")?).await?;
        fill(kafka, &topic, 0..100).await?;
        let clients = [rig.envoy.h1(), other.rest()];
        let mut chance = Chance(0x9E37_79B9_7F4A_7C15);
        let (mut seen, mut acknowledged) = (BTreeSet::new(), BTreeSet::new());
        let mut last: Option<(String, Vec<(i64, i64)>)> = None;
        let (mut at, mut quiet, mut written) = (0_usize, 0, 100);
        // It comes back to where it was or to the other sidecar, has an answer lost and asks again, or forgets its cursor.
        let stop = tokio::time::Instant::now() + Duration::from_secs(300);
        while quiet < 4 || seen.len() < 200 {
            ensure!(
                tokio::time::Instant::now() < stop,
                "{} of 200 after all this time",
                seen.len()
            );
            if chance.below(16) == 0 {
                at = 1 - at;
            }
            if written < 200 && chance.below(4) == 0 {
                fill(kafka, &topic, written..written + 50).await?;
                written += 50;
            }
            let limit = 1 + chance.below(30);
            let mut path = format!("/topics/{topic}/records?group=app.resumed&limit={limit}");
            if let Some((cursor, _)) = &last {
                path += &format!("&cursor={cursor}");
            }
            let client = clients.get(at).context("a client")?;
            let reply = client.get(&path).await?;
            if reply.status == 503 {
                // A group that is on the move.
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
            let page = reply.expect(200)?.json()?;
            if let Some((_, places)) = &last {
                acknowledged.extend(places.iter().copied());
            }
            let found = items(&page);
            quiet = if found.is_empty() { quiet + 1 } else { 0 };
            for (place, value) in &found {
                ensure!(
                    !acknowledged.contains(place),
                    "{value} at {place:?} was acknowledged: {path}"
                );
            }
            match chance.below(24) {
                0 => last = None,
                1..6 => {}
                _ => {
                    seen.extend(found.iter().map(|(place, _)| *place));
                    let next = page.pointer("/pagination/nextCursor").and_then(Value::as_str);
                    last = next.filter(|next| !next.is_empty()).map(|next| {
                        let places: Vec<(i64, i64)> = found.iter().map(|(place, _)| *place).collect();
                        (next.replace('#', "%23"), places)
                    });
                }
            }
        }
        ensure!(seen.len() == 200);
        Ok(())
    })
}

/// A member that is not ours, on a thread of its own: what it reads, and which partitions it has.
struct Foreign {
    read: Arc<Mutex<Vec<(i64, i64)>>>,
    has: Arc<Mutex<BTreeSet<i64>>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Foreign {
    fn join(bootstrap: &str, group: &str, topic: &str) -> Result<Self> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", group)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "200")
            .set("auto.offset.reset", "earliest")
            .create()?;
        consumer.subscribe(&[topic])?;
        let (read, has, stop) = (
            Arc::new(Mutex::new(Vec::new())),
            Arc::new(Mutex::new(BTreeSet::new())),
            Arc::new(AtomicBool::new(false)),
        );
        let (reads, having, stopped) = (Arc::clone(&read), Arc::clone(&has), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100))
                    && let Ok(mut read) = reads.lock()
                {
                    read.push((i64::from(message.partition()), message.offset()));
                }
                if let (Ok(list), Ok(mut has)) = (consumer.assignment(), having.lock()) {
                    *has = list
                        .elements()
                        .iter()
                        .map(|element| i64::from(element.partition()))
                        .collect();
                }
            }
        });
        Ok(Self {
            read,
            has,
            stop,
            thread: Some(thread),
        })
    }
}

#[test]
fn a_foreign_member_takes_part_and_kafkas_tool_sees_the_positions() -> Result<()> {
    scenario_within(LIMIT, "groups-foreign", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 4).await?;
        let rig = Rig::start(s, parts(kafka, &topic, "at-best")?).await?;
        let client = rig.envoy.h1();
        // A single reader needs no member.
        fill(kafka, &topic, 0..40).await?;
        let path = format!("/topics/{topic}/records?group=app.foreign");
        let mut seen = Vec::new();
        while seen.len() < 40 {
            seen.extend(items(&page(&client, &path).await?));
        }
        ensure!(values(&seen) == expected(40) && seen.len() == 40);
        ensure!(rig.sidecar.metric("sluice_read_members", "").await? < 0.5);
        let sum = async || -> Result<(i64, i64)> {
            let offsets = kafka.group_offsets("app.foreign").await?;
            ensure!(
                offsets.len() == 4 && offsets.iter().all(|(name, ..)| *name == topic),
                "{offsets:?}"
            );
            let of = |number: Option<i64>| number.unwrap_or_default();
            Ok((
                offsets.iter().map(|one| of(one.2)).sum(),
                offsets.iter().map(|one| of(one.3)).sum(),
            ))
        };
        wait::until("Kafka's tool sees it", PATIENCE, async || {
            let (committed, lag) = sum().await?;
            ensure!(
                committed == 40 && lag == 0,
                "{committed} committed, {lag} to come"
            );
            Ok(())
        })
        .await?;
        // With another member the reader is one too: Kafka would not take its positions else.
        let foreign = Foreign::join(&kafka.bootstrap(), "app.foreign", &topic)?;
        let theirs = || {
            foreign
                .has
                .lock()
                .map(|has| has.clone())
                .map_err(|_| anyhow!("poisoned"))
        };
        wait::until("the other has joined", PATIENCE, async || {
            ensure!(theirs()?.len() == 4);
            Ok(())
        })
        .await?;
        let stream = Stream::start(
            rig.envoy.port(),
            &format!("/topics/{topic}/stream?group=app.foreign"),
        )?;
        wait::until("they share", PATIENCE, async || {
            let (ours, theirs) = (stream.has()?, theirs()?);
            ensure!(
                ours.len() == 2 && theirs.len() == 2 && ours.is_disjoint(&theirs),
                "{ours:?} {theirs:?}"
            );
            Ok(())
        })
        .await?;
        ensure!((rig.sidecar.metric("sluice_read_members", "").await? - 1.0).abs() < 0.5);
        fill(kafka, &topic, 40..140).await?;
        let read = || {
            foreign
                .read
                .lock()
                .map(|read| read.clone())
                .map_err(|_| anyhow!("poisoned"))
        };
        wait::until("all is read once", PATIENCE, async || {
            let (ours, theirs) = (stream.records()?, read()?);
            ensure!(
                ours.len() + theirs.len() == 100,
                "{} and {}",
                ours.len(),
                theirs.len()
            );
            Ok(())
        })
        .await?;
        let mut places: BTreeMap<(i64, i64), usize> = BTreeMap::new();
        for place in stream.records()?.iter().map(|(place, _)| *place).chain(read()?) {
            *places.entry(place).or_default() += 1;
        }
        ensure!(places.len() == 100, "some came to both");
        // A poll has its part too, and what it is told of the group is what Kafka's tool says.
        drop(foreign);
        wait::until("the stream has all", PATIENCE, async || {
            ensure!(stream.has()?.len() == 4);
            Ok(())
        })
        .await?;
        wait::until("all is committed", PATIENCE, async || {
            let page = page(&client, &format!("/topics/{topic}?group=app.foreign")).await?;
            let partitions = page["partitions"].as_array().context("partitions")?;
            let sum = |name: &str| -> i64 { partitions.iter().filter_map(|one| one[name].as_i64()).sum() };
            ensure!(sum("committed") == 140 && sum("lag") == 0, "{page}");
            Ok(())
        })
        .await?;
        ensure!(sum().await? == (140, 0));
        Ok(())
    })
}

#[test]
fn a_group_that_kafka_does_not_allow_is_403() -> Result<()> {
    scenario_within(LIMIT, "groups-rights", async |s| {
        let mut setup = Setup::default();
        setup.users.push(("alice".to_owned(), "alice-secret".to_owned()));
        let kafka = Kafka::start(s.dir(), &setup).await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        fill(&kafka, &topic, 0..3).await?;
        for operation in ["Read", "Describe", "Write"] {
            kafka.allow("alice", operation, &topic).await?;
        }
        let mut parts = parts(&kafka, &topic, "at-least-once")?;
        parts.sidecar["clusters"]["main"] = json!({
            "bootstrap_servers": kafka.sasl_bootstrap(),
            "authentication": {"strategy": "sasl", "mechanism": "PLAIN", "user": "alice", "password": "alice-secret"},
        });
        let rig = Rig::start(s, parts).await?;
        let client = rig.envoy.h1();
        for path in ["records?group=app.rights", "stream?group=app.rights"] {
            wait::until("it is refused", PATIENCE, async || {
                let answer = client.get(&format!("/topics/{topic}/{path}")).await?;
                if path.starts_with("stream") {
                    // It was open before Kafka was asked: it says so, and ends.
                    ensure!(answer.text().contains("not_authorised"), "{}", answer.text());
                    return Ok(());
                }
                answer.expect_error(403, "not_authorised")?;
                Ok(())
            })
            .await?;
        }
        client
            .get(&format!("/topics/{topic}?group=app.rights"))
            .await?
            .expect_error(403, "not_authorised")?;
        kafka.allow_group("alice", "Read", "app.rights").await?;
        wait::until("it is allowed", PATIENCE, async || {
            let page = page(&client, &format!("/topics/{topic}/records?group=app.rights")).await?;
            ensure!(items(&page).len() == 3, "{page}");
            Ok(())
        })
        .await
    })
}

#[test]
fn a_sidecar_that_is_told_to_stop_hands_its_partitions_over_at_once() -> Result<()> {
    scenario_within(LIMIT, "groups-stopped", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 2).await?;
        let mut parts = parts(kafka, &topic, "at-best")?;
        parts.sidecar["clusters"]["main"]["properties"] = json!({"session.timeout.ms": 120_000});
        let (rig, mut other) = two(s, parts).await?;
        let path = format!("/topics/{topic}/stream?group=app.stopped");
        let one = Stream::start(rig.envoy.port(), &path)?;
        let two = Stream::start(other.data(), &path)?;
        wait::until("they share", PATIENCE, async || {
            ensure!(one.has()?.len() == 1 && two.has()?.len() == 1);
            Ok(())
        })
        .await?;
        fill(kafka, &topic, 0..100).await?;
        wait::until("both read", PATIENCE, async || {
            ensure!(one.records()?.len() + two.records()?.len() == 100);
            Ok(())
        })
        .await?;
        other.stop(Duration::from_secs(60)).await?;
        // Its session would last longer than this waits.
        wait::until("the other's partition came", PATIENCE, async || {
            ensure!(one.has()?.len() == 2);
            Ok(())
        })
        .await?;
        fill(kafka, &topic, 100..120).await?;
        wait::until("all came", PATIENCE, async || {
            ensure!(one.records()?.len() + two.records()?.len() >= 120);
            Ok(())
        })
        .await?;
        // What was sent was committed when the partition moved: nothing came twice.
        let all: Vec<Found> = one.records()?.into_iter().chain(two.records()?).collect();
        ensure!(
            all.len() == 120 && values(&all) == expected(120),
            "{} records",
            all.len()
        );
        Ok(())
    })
}

#[test]
fn members_may_agree_by_the_brokers_own_protocol() -> Result<()> {
    scenario_within(LIMIT, "groups-kip848", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 4).await?;
        let mut parts = parts(kafka, &topic, "at-best")?;
        parts.sidecar["clusters"]["main"]["properties"] = json!({"group.protocol": "consumer"});
        let rig = Rig::start(s, parts).await?;
        let path = format!("/topics/{topic}/stream?group=app.kip848");
        let one = Stream::start(rig.envoy.port(), &path)?;
        let two = Stream::start(rig.envoy.port(), &path)?;
        wait::until("they share", PATIENCE, async || {
            let (one, two) = (one.has()?, two.has()?);
            ensure!(
                one.len() == 2 && two.len() == 2 && one.is_disjoint(&two),
                "{one:?} {two:?}"
            );
            Ok(())
        })
        .await?;
        fill(kafka, &topic, 0..100).await?;
        wait::until("both read", PATIENCE, async || {
            let (one, two) = (one.records()?, two.records()?);
            ensure!(one.len() + two.len() == 100, "{} and {}", one.len(), two.len());
            ensure!(values(one.iter().chain(&two)) == expected(100));
            Ok(())
        })
        .await?;
        wait::until("Kafka's tool sees it", PATIENCE, async || {
            let offsets = kafka.group_offsets("app.kip848").await?;
            let committed: i64 = offsets.iter().filter_map(|one| one.2).sum();
            ensure!(committed == 100, "{offsets:?}");
            Ok(())
        })
        .await
    })
}
