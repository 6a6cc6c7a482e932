//! A handler that checks what it is given, what writes for it, and the sidecars that call it.

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
use sluice_e2e::kafka::Kafka;
use sluice_e2e::scenario::Scenario;
use sluice_e2e::sidecar::Sidecar;
use sluice_e2e::{Result, ensure, wait};
use tokio::net::TcpListener;

/// Of each topic.
pub(crate) const PARTITIONS: i32 = 12;
const KEYS: usize = 150;
/// How long anything may take; only a failing test waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A key's records of one of the writer's topics.
pub(crate) type Line = (u64, u64);

/// What the handler has seen.
#[derive(Default)]
pub(crate) struct Seen {
    /// By line, the numbers that it took, in the order in which it first did.
    pub(crate) taken: HashMap<Line, Vec<u64>>,
    /// When it took each.
    times: HashMap<(Line, u64), Vec<Instant>>,
    /// By key, how many requests are under way, whatever topic they are from.
    under_way: HashMap<u64, usize>,
    pub(crate) overlaps: usize,
    /// Records that it refused for now, once each.
    refused: BTreeSet<(Line, u64)>,
    pub(crate) poison: usize,
}

impl Seen {
    fn count(&self) -> usize {
        self.times.len()
    }

    /// How many it took more than once.
    pub(crate) fn duplicates(&self) -> usize {
        self.times.values().map(|times| times.len() - 1).sum()
    }

    /// Whether nothing came twice.
    pub(crate) fn each_once(&self) -> Result<()> {
        let twice = self.duplicates();
        ensure!(twice == 0, "{twice} came twice, and nobody was killed");
        Ok(())
    }

    /// Whether it has all that was written, of each key first in order.
    pub(crate) fn all_in_order(&self, writer: &Writer) -> Result<()> {
        ensure!(self.taken.len() == writer.next.len());
        for (line, taken) in &self.taken {
            ensure!(taken.is_sorted(), "key {line:?}: {taken:?}");
            let count = writer.next.get(line).copied().unwrap_or_default();
            ensure!(
                taken.len() as u64 == count,
                "key {line:?}: {} of {count}",
                taken.len()
            );
        }
        Ok(())
    }
}

/// A handler that takes everything, after a moment: of every seventh record the second time, and poison never.
pub(crate) struct Handler {
    pub(crate) port: u16,
    seen: Arc<Mutex<Seen>>,
}

impl Handler {
    pub(crate) async fn start() -> Result<Self> {
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

    /// What it has seen.
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
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
    let line = (number("of").unwrap_or_default(), key);
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
    if (key + n) % 7 == 0 && seen.refused.insert((line, n)) {
        return Ok(answer(StatusCode::SERVICE_UNAVAILABLE));
    }
    let times = seen.times.entry((line, n)).or_default();
    times.push(Instant::now());
    if times.len() == 1 {
        seen.taken.entry(line).or_default().push(n);
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

/// Writes records of numbered keys to topics by turns, each key's of each topic numbered in order. A key is in the same partition
/// of each topic.
pub(crate) struct Writer {
    producer: BaseProducer,
    topics: Vec<String>,
    pub(crate) next: BTreeMap<Line, u64>,
    pub(crate) written: usize,
}

impl Writer {
    pub(crate) fn new(kafka: &Kafka, topics: &[&str]) -> Result<Self> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", kafka.bootstrap())
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random");
        Ok(Self {
            producer: config.create()?,
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            next: BTreeMap::new(),
            written: 0,
        })
    }

    pub(crate) fn write(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            let key = u64::try_from(self.written % KEYS)?;
            let of = self.written / KEYS % self.topics.len();
            let next = self.next.entry((u64::try_from(of)?, key)).or_default();
            let value = json!({"of": of, "key": key, "n": *next}).to_string();
            *next += 1;
            self.written += 1;
            self.send(of, &key.to_string(), &value)?;
        }
        self.producer.flush(PATIENCE)?;
        Ok(())
    }

    fn send(&self, of: usize, key: &str, value: &str) -> Result<()> {
        let topic = self.topics.get(of).context("no such topic")?;
        let record = BaseRecord::to(topic).key(key).payload(value);
        self.producer.send(record).map_err(|(error, _)| error)?;
        Ok(())
    }

    pub(crate) fn poison(&self) -> Result<()> {
        self.send(0, "1", r#"{"key": 1, "n": 0, "poison": true}"#)?;
        self.producer.flush(PATIENCE)?;
        Ok(())
    }
}

/// Waits until the handler has taken that many different records.
pub(crate) async fn all_taken(handler: &Handler, count: usize) -> Result<()> {
    wait::until("everything is taken", PATIENCE, async || {
        let seen = handler.seen().count();
        ensure!(seen == count, "{seen} of {count}");
        Ok(())
    })
    .await
}

/// Waits until every offset of the topic is committed for the group, as Kafka says.
pub(crate) async fn all_committed(kafka: &Kafka, group: &str, topic: &str) -> Result<()> {
    let bootstrap = kafka.bootstrap();
    wait::until("everything is committed", PATIENCE, async || {
        let (bootstrap, group, topic) = (bootstrap.clone(), group.to_owned(), topic.to_owned());
        let asked = tokio::task::spawn_blocking(move || -> Result<()> {
            let mut config = ClientConfig::new();
            config
                .set("bootstrap.servers", &bootstrap)
                .set("group.id", &group);
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

/// Sidecars, each in a directory of its own.
pub(crate) async fn sidecars(s: &Scenario, settings: &Value, count: usize) -> Result<Vec<Sidecar>> {
    let mut all = Vec::new();
    for n in 0..count {
        let own = s.within(&format!("sidecar-{n}"))?;
        all.push(Sidecar::start(own.dir(), settings).await?);
    }
    Ok(all)
}

/// Waits until each sidecar has that many partitions.
pub(crate) async fn each_has(all: &[Sidecar], partitions: f64) -> Result<()> {
    wait::until("each has its partitions", PATIENCE, async || {
        for sidecar in all {
            let own = sidecar.metric("sluice_subscription_partitions", "").await?;
            ensure!((own - partitions).abs() < 0.1, "{own} partitions");
        }
        Ok(())
    })
    .await
}

/// Has a sidecar end in good order.
pub(crate) async fn ended(all: &mut [Sidecar], which: usize) -> Result<()> {
    let sidecar = all.get_mut(which).context("there is none")?;
    let status = sidecar.stop(Duration::from_secs(60)).await?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// The sum of a metric over all sidecars.
pub(crate) async fn sum(all: &[Sidecar], name: &str, labels: &str) -> Result<f64> {
    let mut sum = 0.0;
    for sidecar in all {
        sum += sidecar.metric(name, labels).await?;
    }
    Ok(sum)
}
