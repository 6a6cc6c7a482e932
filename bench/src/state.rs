//! What the sidecars keep in a topic: how long one takes to read a topic of many rows, and what they take in memory. Rows are
//! subscriptions of the admin API, or runs of an organisation's actions.
//!
//! The registry alone, in this process: what a row then costs elsewhere (a subscription's task, a cluster's client) is not its.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, json};
use sluice::actions::item::{Item as ActionItem, Packed, Run};
use sluice::config::Cluster;
use sluice::control::item::{Item, Kind, Subscription};
use sluice::kafka::log::{Log, Settings};
use sluice::metrics::StateMetrics;
use sluice::registry::name::Name;
use sluice::registry::table::{Proposed, encode};
use sluice::registry::{Phase, Registry};
use sluice_e2e::kafka::{Kafka, Setup};
use sluice_e2e::{Context, Result, bail, ensure, wait};

use crate::cpu::{allowed_cores, memory};
use crate::options::Options;
use crate::rig::subdirectory;
use crate::run;

const TOPIC: &str = "state";
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(1800);
/// How many changes are made one after the other once all is known.
const CHANGES: u32 = 100;

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct State {
    /// How many rows there are [default: 1000000; quick: 50000].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1000..=10_000_000))]
    rows: Option<u64>,
    /// What the rows are.
    #[arg(long, value_enum, default_value_t = Of::Subscriptions)]
    of: Of,
}

/// What rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Of {
    /// Subscriptions.
    Subscriptions,
    /// Runs that have ended.
    Runs,
}

/// Rows of one kind.
trait Rows: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug + Send + Sync + Sized + 'static {
    /// Row number `n`.
    fn row(n: u64) -> Result<Self>;

    /// Its key.
    fn key(n: u64) -> String;
}

/// Runs it against Apache Kafka, and prints what came out.
///
/// # Errors
/// A part is missing or does not work, or a row is not there in the end.
pub(crate) fn run(state: &State, options: &Options) -> Result<()> {
    let rows = state
        .rows
        .unwrap_or(if options.quick { 50_000 } else { 1_000_000 });
    let cpus = allowed_cores()?;
    let (dir, runtime) = run::workplace()?;
    runtime.block_on(async {
        let setup = Setup {
            cpus,
            jvm: Vec::new(),
            ..Setup::default()
        };
        let kafka = Kafka::start(&subdirectory(dir.path(), "kafka")?, &setup).await?;
        // As Sluice makes it.
        let properties = [
            "cleanup.policy=compact",
            "unclean.leader.election.enable=false",
            "message.timestamp.type=LogAppendTime",
            "min.compaction.lag.ms=60000",
        ];
        kafka.create_assigned(TOPIC, "1", &properties).await?;
        let bootstrap = kafka.bootstrap();
        let filled = bootstrap.clone();
        match state.of {
            Of::Subscriptions => {
                let bytes = tokio::task::spawn_blocking(move || fill::<Item>(&filled, rows)).await??;
                measure::<Item>(&bootstrap, rows, bytes).await
            }
            Of::Runs => {
                let bytes = tokio::task::spawn_blocking(move || fill::<Packed>(&filled, rows)).await??;
                measure::<Packed>(&bootstrap, rows, bytes).await
            }
        }
    })
}

impl Rows for Item {
    fn row(n: u64) -> Result<Self> {
        let mut options = Map::new();
        options.insert("auto.offset.reset".to_owned(), json!("earliest"));
        options.insert("concurrency".to_owned(), json!(n % 100 + 1));
        Ok(Self::Subscription(Subscription {
            source: format!("kafka://main/orders-{n}"),
            sink: format!("https://hooks.example.com/orders/{n}"),
            options,
            created_at: "2026-01-31T12:00:00Z".to_owned(),
            rest: Map::new(),
        }))
    }

    fn key(n: u64) -> String {
        Kind::Subscriptions.key(&format!("sub_{n:020}"))
    }
}

impl Rows for Packed {
    /// A run as an action leaves it that has five inputs.
    fn row(n: u64) -> Result<Self> {
        let at_ms = 1_770_000_000_000 + n;
        let run: Run = serde_json::from_value(json!({
            "status": "SUCCESS", "action": "deploy", "title": "Deploy a service", "operation": "DAY-2",
            "trigger": {"by": {"orgId": "acme", "userId": "ann", "user": {"email": "ann@acme.test", "firstName": "Ann",
                "lastName": null}}, "origin": "API", "at": "2026-01-31T12:00:00.000Z"},
            "user": "ann",
            "invocation_method": {"type": "KAFKA", "payload": {"service": "{{ .entity.identifier }}", "version": "{{ .inputs.version }}"}},
            "properties": {"version": format!("v{n}"), "environment": "production", "replicas": 3, "region": "eu-west-1", "dry": false},
            "entity": format!("service-{}", n % 1000), "blueprint": "service",
            "told": {"statusLabel": "deployed", "link": format!("https://ci.example.com/{n}"), "summary": "done"},
            "created_ms": at_ms, "updated_ms": at_ms + 60_000, "ended_ms": at_ms + 60_000, "timeout_ms": 3_600_000,
        }))?;
        Ok(Self::new(&ActionItem::Run(Box::new(run)))?)
    }

    fn key(n: u64) -> String {
        format!("acme/runs/r_{n:032x}")
    }
}

/// Writes the rows as a sidecar would have; gives the bytes of their values.
fn fill<R: Rows>(bootstrap: &str, rows: u64) -> Result<u64> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .create()?;
    let mut bytes = 0;
    for n in 0..rows {
        let name = Name {
            key: R::key(n).into(),
            version: 1,
            nonce: u128::from(n),
        };
        let (name, value) = (name.to_string(), encode(&Proposed::Value(&R::row(n)?))?);
        bytes += u64::try_from(value.len())?;
        loop {
            match producer.send(BaseRecord::<str, [u8]>::to(TOPIC).key(&name).payload(&value)) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    producer.poll(Duration::from_millis(1));
                }
                Err((error, _)) => bail!("librdkafka does not take a record: {error}"),
            }
        }
    }
    producer.flush(PATIENCE)?;
    Ok(bytes)
}

async fn measure<R: Rows>(bootstrap: &str, rows: u64, bytes: u64) -> Result<()> {
    let cluster = Cluster {
        bootstrap_servers: vec![bootstrap.to_owned()],
        ..Cluster::default()
    };
    let settings = Settings {
        topic: TOPIC.to_owned(),
        replication_factor: None,
        min_insync_replicas: None,
    };
    let own = std::process::id();
    let before = memory(own)?.resident;
    let registry: Arc<Registry<R>> = Registry::new(Log::new(&cluster, settings), StateMetrics::default());
    let mut changes = registry.changes();
    let begun = Instant::now();
    let running = tokio::spawn(Arc::clone(&registry).run());
    let ready = async {
        while registry.phase() != Phase::Ready {
            changes.changed().await?;
        }
        Ok::<_, tokio::sync::watch::error::RecvError>(())
    };
    tokio::time::timeout(PATIENCE, ready)
        .await
        .with_context(|| format!("{:?}", registry.phase()))??;
    let took = begun.elapsed().as_secs_f64();
    let used = memory(own)?.resident.saturating_sub(before);
    for n in [0, rows / 2, rows - 1] {
        let found = registry
            .get(&R::key(n))
            .with_context(|| format!("row {n} is not there"))?;
        ensure!(*found.value == R::row(n)?, "row {n} is {:?}", found.value);
    }
    let count = u64::try_from(registry.list("").len())?;
    ensure!(count == rows, "{count} rows of {rows}");
    println!(
        "\nA state of {rows} rows of {} bytes: known after {took:.1} s ({:.0} rows/s); {:.0} MB, {:.0} bytes a row",
        bytes / rows,
        rows as f64 / took,
        used as f64 / 1e6,
        used as f64 / rows as f64
    );
    // What took long to read is too old to change anything by, until the topic's end has been asked for again.
    wait::until("the state can be changed", PATIENCE, async || {
        Ok(registry.put(&R::key(0), 1, &R::row(rows)?).await?)
    })
    .await?;
    let begun = Instant::now();
    for n in 1..=CHANGES {
        let changed = registry
            .put(&R::key(u64::from(n)), 1, &R::row(u64::from(n) + rows)?)
            .await;
        ensure!(changed == Ok(2), "change {n}: {changed:?}");
    }
    println!(
        "{CHANGES} changes, each once the one before was read back: {:.1} ms each",
        begun.elapsed().as_secs_f64() * 1e3 / f64::from(CHANGES)
    );
    running.abort();
    Ok(())
}
