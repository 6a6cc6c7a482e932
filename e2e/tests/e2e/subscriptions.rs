//! Subscriptions on a real Kafka: several sidecars share one, are killed, and a handler checks what it is given.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};
use sluice_e2e::kafka::{Kafka, Setup};
use sluice_e2e::scenario::{Scenario, scenario_within};
use sluice_e2e::sidecar::Sidecar;
use sluice_e2e::{Result, ensure, wait};
use tokio::net::TcpListener;

const PARTITIONS: i32 = 12;
const KEYS: usize = 150;
/// How long anything may take; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(120);
const ID: &str = "checked";

/// What the handler has seen.
#[derive(Default)]
struct Seen {
    /// By key, the numbers that it took, in the order in which it first did.
    taken: HashMap<u64, Vec<u64>>,
    /// When it took each.
    times: HashMap<(u64, u64), Vec<Instant>>,
    /// By key, how many requests are under way.
    under_way: HashMap<u64, usize>,
    overlaps: usize,
    /// Records that it refused for now, once each.
    refused: BTreeSet<(u64, u64)>,
    poison: usize,
}

impl Seen {
    fn count(&self) -> usize {
        self.times.len()
    }

    fn duplicates(&self) -> usize {
        self.times.values().map(|times| times.len() - 1).sum()
    }
}

/// A handler that takes everything, after a moment: of every seventh record the second time, and poison never.
struct Handler {
    port: u16,
    seen: Arc<Mutex<Seen>>,
}

impl Handler {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let given = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let seen = Arc::clone(&given);
                tokio::spawn(async move {
                    let service = service_fn(move |request| handle(request, Arc::clone(&seen)));
                    let server = Builder::new(TokioExecutor::new());
                    // A sidecar that is killed breaks its connections.
                    drop(server.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        Ok(Self { port, seen })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn handle(
    request: Request<Incoming>,
    seen: Arc<Mutex<Seen>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request
        .into_body()
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes);
    let body: Value = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
    let number = |name: &str| body.get(name).and_then(Value::as_u64);
    let (Some(key), Some(n)) = (number("key"), number("n")) else {
        return Ok(answer(StatusCode::BAD_REQUEST));
    };
    if body.get("poison").is_some() {
        lock(&seen).poison += 1;
        return Ok(answer(StatusCode::UNPROCESSABLE_ENTITY));
    }
    {
        let mut seen = lock(&seen);
        let under_way = seen.under_way.entry(key).or_default();
        *under_way += 1;
        let beside = *under_way > 1;
        seen.overlaps += usize::from(beside);
    }
    let under_way = UnderWay(Arc::clone(&seen), key);
    tokio::time::sleep(Duration::from_millis(1 + (key * 7 + n) % 9)).await;
    drop(under_way);
    let mut seen = lock(&seen);
    if (key + n) % 7 == 0 && seen.refused.insert((key, n)) {
        return Ok(answer(StatusCode::SERVICE_UNAVAILABLE));
    }
    let times = seen.times.entry((key, n)).or_default();
    times.push(Instant::now());
    if times.len() == 1 {
        seen.taken.entry(key).or_default().push(n);
    }
    Ok(answer(StatusCode::OK))
}

/// A request that is with the handler. hyper drops it unfinished when its connection breaks, as a killed sidecar's do.
struct UnderWay(Arc<Mutex<Seen>>, u64);

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(under_way) = lock(&self.0).under_way.get_mut(&self.1) {
            *under_way -= 1;
        }
    }
}

fn answer(status: StatusCode) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

/// Writes records of numbered keys, each key's numbered in order.
struct Writer {
    producer: BaseProducer,
    topic: String,
    next: BTreeMap<u64, u64>,
    written: usize,
}

impl Writer {
    fn new(kafka: &Kafka, topic: &str) -> Result<Self> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", kafka.bootstrap())
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random");
        Ok(Self {
            producer: config.create()?,
            topic: topic.to_owned(),
            next: BTreeMap::new(),
            written: 0,
        })
    }

    fn write(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            let key = u64::try_from(self.written % KEYS)?;
            let next = self.next.entry(key).or_default();
            let value = json!({"key": key, "n": *next}).to_string();
            *next += 1;
            self.written += 1;
            self.send(&key.to_string(), &value)?;
        }
        self.producer.flush(PATIENCE)?;
        Ok(())
    }

    fn send(&self, key: &str, value: &str) -> Result<()> {
        let record = BaseRecord::to(&self.topic).key(key).payload(value);
        self.producer.send(record).map_err(|(error, _)| error)?;
        Ok(())
    }

    fn poison(&self) -> Result<()> {
        self.send("1", r#"{"key": 1, "n": 0, "poison": true}"#)?;
        self.producer.flush(PATIENCE)?;
        Ok(())
    }
}

async fn all_taken(handler: &Handler, count: usize) -> Result<()> {
    wait::until("everything is taken", PATIENCE, async || {
        let seen = handler.seen().count();
        ensure!(seen == count, "{seen} of {count}");
        Ok(())
    })
    .await
}

/// Whether every offset of the topic is committed for the group, as Kafka says.
async fn all_committed(kafka: &Kafka, topic: &str) -> Result<()> {
    let bootstrap = kafka.bootstrap();
    wait::until("everything is committed", PATIENCE, async || {
        let (bootstrap, topic) = (bootstrap.clone(), topic.to_owned());
        let asked = tokio::task::spawn_blocking(move || -> Result<()> {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", &bootstrap).set("group.id", ID);
            let consumer: BaseConsumer = config.create()?;
            let mut list = TopicPartitionList::new();
            list.add_partition_range(&topic, 0, PARTITIONS - 1);
            let committed = consumer.committed_offsets(list, Duration::from_secs(10))?;
            for part in committed.elements() {
                let (_, end) =
                    consumer.fetch_watermarks(&topic, part.partition(), Duration::from_secs(10))?;
                let at = part.offset();
                ensure!(
                    at == Offset::Offset(end) || end == 0,
                    "partition {}: {at:?} of {end}",
                    part.partition()
                );
            }
            Ok(())
        });
        asked.await.context("asking")?
    })
    .await
}

async fn sidecars(s: &Scenario, settings: &Value, count: usize) -> Result<Vec<Sidecar>> {
    let mut all = Vec::new();
    for n in 0..count {
        let own = s.within(&format!("sidecar-{n}"))?;
        all.push(Sidecar::start(own.dir(), settings).await?);
    }
    Ok(all)
}

/// What a sidecar is started with: one subscription, of that topic, for that handler.
fn settings(kafka: &Kafka, topic: &str, handler: &Handler, options: Value) -> Value {
    json!({
        "clusters": {"main": {"bootstrap_servers": kafka.bootstrap(), "allowed_topics": ["*"]}},
        "subscriptions": {ID: {
            "source": format!("kafka://main/{topic}"),
            "sink": format!("http://127.0.0.1:{}/", handler.port),
            "options": options,
        }},
    })
}

/// Waits until each sidecar has that many partitions.
async fn each_has(all: &[Sidecar], partitions: f64) -> Result<()> {
    wait::until("each has its partitions", PATIENCE, async || {
        for sidecar in all {
            let own = sidecar.metric("sluice_subscription_partitions", "").await?;
            ensure!((own - partitions).abs() < 0.1, "{own} partitions");
        }
        Ok(())
    })
    .await
}

/// The sum of a metric over all sidecars.
async fn sum(all: &[Sidecar], name: &str, labels: &str) -> Result<f64> {
    let mut sum = 0.0;
    for sidecar in all {
        sum += sidecar.metric(name, labels).await?;
    }
    Ok(sum)
}

#[test]
fn sidecars_are_killed_and_nothing_is_lost_or_out_of_order() -> Result<()> {
    scenario_within(Duration::from_secs(400), "subscriptions", async |s| {
        let kafka = Kafka::start(
            s.dir(),
            &Setup::default().property("group.min.session.timeout.ms", "1000"),
        )
        .await?;
        let topic = s.topic("orders");
        kafka.create_topic(&topic, PARTITIONS).await?;
        let handler = Handler::start().await?;
        let settings = settings(
            &kafka,
            &topic,
            &handler,
            json!({
                "concurrency": 64,
                "retry": {"initial_interval": "50ms", "max_interval": "200ms"},
                "auto.offset.reset": "earliest",
                "session.timeout.ms": 3000,
                "heartbeat.interval.ms": 300,
            }),
        );
        let mut all = sidecars(s, &settings, 3).await?;
        let mut writer = Writer::new(&kafka, &topic)?;
        each_has(&all, 4.0).await?;

        // Nobody goes away: everything once, but for what the handler refused.
        writer.write(1500)?;
        writer.poison()?;
        writer.write(1500)?;
        all_taken(&handler, writer.written).await?;
        ensure!(
            handler.seen().duplicates() == 0,
            "{} twice",
            handler.seen().duplicates()
        );
        all_committed(&kafka, &topic).await?;

        // One is killed, one ends in good order, both come back, and records come all the while.
        for round in 0..12 {
            writer.write(400)?;
            match round {
                2 => all.get_mut(0).context("the first")?.kill()?,
                5 => all.get_mut(0).context("the first")?.restart().await?,
                7 => {
                    let status = all
                        .get_mut(1)
                        .context("the second")?
                        .stop(Duration::from_secs(60))
                        .await?;
                    ensure!(status.success(), "{status}");
                }
                9 => all.get_mut(1).context("the second")?.restart().await?,
                _ => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
        all_taken(&handler, writer.written).await?;
        all_committed(&kafka, &topic).await?;
        let around = handler.seen().duplicates();
        println!(
            "{around} of {} records were delivered twice around a kill",
            writer.written
        );

        // And once again, when all are back.
        writer.write(1500)?;
        all_taken(&handler, writer.written).await?;
        all_committed(&kafka, &topic).await?;
        {
            let seen = handler.seen();
            ensure!(
                seen.duplicates() == around,
                "{} twice after it",
                seen.duplicates() - around
            );
            // A request of a sidecar that was killed is over when its connection breaks, which this handler heeds.
            ensure!(
                seen.overlaps == 0,
                "{} requests beside another of their key",
                seen.overlaps
            );
            for (key, taken) in &seen.taken {
                ensure!(taken.is_sorted(), "key {key}: {taken:?}");
                let count = writer.next.get(key).copied().unwrap_or_default();
                ensure!(
                    taken.len() as u64 == count,
                    "key {key}: {} of {count}",
                    taken.len()
                );
            }
            ensure!(seen.poison >= 1, "the poison record never came");
        }
        wait::until("the poison record is parked", PATIENCE, async || {
            let parked = sum(&all, "sluice_subscription_held_events", "parked").await?;
            let others = sum(&all, "sluice_subscription_held_events", "").await? - parked;
            ensure!(
                (parked - 1.0).abs() < 0.1 && others < 0.1,
                "{parked} parked, {others} others"
            );
            Ok(())
        })
        .await?;
        for sidecar in &mut all {
            let status = sidecar.stop(Duration::from_secs(60)).await?;
            ensure!(status.success(), "{status}");
        }
        Ok(())
    })
}

#[test]
fn members_may_agree_by_the_brokers_own_protocol() -> Result<()> {
    scenario_within(Duration::from_secs(300), "subscriptions-kip848", async |s| {
        let kafka = Kafka::start(
            s.dir(),
            &Setup::default()
                .property("group.consumer.min.session.timeout.ms", "3000")
                .property("group.consumer.session.timeout.ms", "3000")
                .property("group.consumer.min.heartbeat.interval.ms", "500")
                .property("group.consumer.heartbeat.interval.ms", "500"),
        )
        .await?;
        let topic = s.topic("orders");
        kafka.create_topic(&topic, PARTITIONS).await?;
        let handler = Handler::start().await?;
        let settings = settings(
            &kafka,
            &topic,
            &handler,
            json!({
                "concurrency": 32,
                "retry": {"initial_interval": "50ms", "max_interval": "200ms"},
                "auto.offset.reset": "earliest",
                "group.protocol": "consumer",
            }),
        );
        let mut all = sidecars(s, &settings, 2).await?;
        let mut writer = Writer::new(&kafka, &topic)?;
        each_has(&all, 6.0).await?;
        let protocol = kafka.group_type(ID).await?;
        ensure!(protocol.as_deref() == Some("Consumer"), "{protocol:?}");
        writer.write(1500)?;
        all_taken(&handler, writer.written).await?;
        all_committed(&kafka, &topic).await?;
        ensure!(
            handler.seen().duplicates() == 0,
            "{} twice",
            handler.seen().duplicates()
        );

        // One leaves in good order, another is killed, each while records come.
        writer.write(500)?;
        let status = all
            .get_mut(1)
            .context("the second")?
            .stop(Duration::from_secs(60))
            .await?;
        ensure!(status.success(), "{status}");
        writer.write(500)?;
        all_taken(&handler, writer.written).await?;
        all_committed(&kafka, &topic).await?;
        let moved = handler.seen().duplicates();
        all.get_mut(1).context("the second")?.restart().await?;
        each_has(&all, 6.0).await?;
        writer.write(500)?;
        all.get_mut(0).context("the first")?.kill()?;
        writer.write(500)?;
        all_taken(&handler, writer.written).await?;
        all_committed(&kafka, &topic).await?;
        let seen = handler.seen();
        println!(
            "{moved} of {} records were delivered twice when a member left, {} when one was killed",
            writer.written,
            seen.duplicates() - moved
        );
        ensure!(
            seen.overlaps <= seen.duplicates(),
            "{} requests beside another of their key, and {} duplicates",
            seen.overlaps,
            seen.duplicates()
        );
        for (key, taken) in &seen.taken {
            ensure!(taken.is_sorted(), "key {key}: {taken:?}");
        }
        Ok(())
    })
}
