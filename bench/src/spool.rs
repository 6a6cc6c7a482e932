//! The spool: what `delivery: spooled` takes next to `acked`, and what a million records that wait cost.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use sluice_e2e::sidecar::Sidecar;
use sluice_e2e::{Result, bail, ensure, wait};
use sluice_proto::v1::Delivery;

use crate::cpu::allowed_cores;
use crate::envoy::TOPIC;
use crate::load::{Load, Outcome};
use crate::measure::body;
use crate::options::Options;
use crate::rig::{Broker, subdirectory};
use crate::stats::percentile;
use crate::{alone, http, run};

/// With how many connections.
const CONNECTIONS: usize = 64;
/// Long enough for any backlog that the options allow.
const DRAINED_WITHIN: Duration = Duration::from_secs(3600);

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Spool {
    /// How many records wait for Kafka when it comes back.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1000..=100_000_000))]
    pub(crate) backlog: u64,
}

/// Runs it against Apache Kafka, on the cores that there are, and prints what came out.
///
/// # Errors
/// A part is missing or does not work, or a record was not answered as it must be.
pub(crate) fn run(spool: &Spool, options: &Options) -> Result<()> {
    let programs = run::programs(options)?;
    let cpus = allowed_cores()?;
    let (dir, runtime) = run::workplace()?;
    runtime.block_on(async {
        let kafka = subdirectory(dir.path(), "kafka")?;
        let broker = Broker::kafka(&kafka, &cpus).await?;
        let window = options.pace().window;
        let sidecar = |name: &'static str, bootstrap: String| {
            let (dir, programs, cpus) = (dir.path(), &programs, &cpus);
            async move {
                let own = subdirectory(dir, name)?;
                let settings = json!({
                    "clusters": {"bench": {"bootstrap_servers": [bootstrap], "allowed_topics": [TOPIC]}},
                    "spool": {"directory": dir.join("spool"), "max_bytes": 64_u64 << 30},
                });
                Sidecar::start_with(&own, &settings, programs.sidecar.clone(), cpus).await
            }
        };
        let mut up = sidecar("up", broker.bootstrap()).await?;
        println!("REST, {CONNECTIONS} connections, Apache Kafka:\n");
        for round in 0..options.pace().rounds {
            for delivery in ["acked", "spooled"] {
                let outcome = at(&up, delivery, window)?;
                if round > 0 {
                    println!("{delivery}: {}", told(&outcome));
                }
            }
        }
        drained(&up).await?;
        up.stop(Duration::from_secs(60)).await?;

        // Nobody listens there.
        let mut away = sidecar("away", "127.0.0.1:1".to_owned()).await?;
        let filled = alone::throughput(&away, &body(), spool.backlog, Delivery::Spooled).await?;
        println!(
            "\nstream, batches of {}, no broker, {} keys: {:.0} records/s spooled, {:.2} µs of the sidecar's CPU each",
            alone::BATCH,
            alone::KEYS,
            filled.per_second,
            filled.sidecar
        );
        let size = size(&dir.path().join("spool"))?;
        println!("{} records of {} bytes: {:.0} MB on disk", spool.backlog, body().len(), size as f64 / 1e6);
        away.kill()?;

        let started = Instant::now();
        let back = sidecar("back", broker.bootstrap()).await?;
        println!("started on it after SIGKILL in {:.2} s", started.elapsed().as_secs_f64());
        let (from, begun) = (waiting(&back).await?, Instant::now());
        println!("\nwhile it is drained:\n");
        for delivery in ["acked", "spooled"] {
            println!("{delivery}: {}", told(&at(&back, delivery, window)?));
        }
        let still = waiting(&back).await?;
        drained(&back).await?;
        let took = begun.elapsed().as_secs_f64();
        println!(
            "drained in {took:.1} s: {:.0} records/s of the backlog alone ({still} were left after those two)",
            from as f64 / took
        );
        Ok(())
    })
}

/// Writes at [`CONNECTIONS`] connections for `window`.
fn at(sidecar: &Sidecar, delivery: &str, window: Duration) -> Result<Outcome> {
    let data: SocketAddr = (Ipv4Addr::LOCALHOST, sidecar.data()).into();
    let path = format!("/topics/{TOPIC}/records?delivery={delivery}");
    let mut load = Load::connect(data, http::post(&path, &body()), CONNECTIONS)?;
    let outcome = load.run(window)?;
    let expected = if delivery == "acked" { 200 } else { 202 };
    ensure!(
        outcome.statuses.keys().eq([&expected]),
        "{delivery}: {:?}",
        outcome.statuses
    );
    Ok(outcome)
}

fn told(outcome: &Outcome) -> String {
    let of = |percent| percentile(&outcome.latencies, percent).as_secs_f64() * 1e3;
    format!(
        "{:.0} records/s, p50 {:.2} ms, p99 {:.2} ms",
        outcome.latencies.len() as f64 / outcome.elapsed.as_secs_f64(),
        of(50.0),
        of(99.0)
    )
}

async fn waiting(sidecar: &Sidecar) -> Result<u64> {
    let records = sidecar.metric("sluice_spool_records", "").await?;
    if records < 0.0 {
        bail!("{records} records are in the spool");
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count, checked above"
    )]
    Ok(records as u64)
}

async fn drained(sidecar: &Sidecar) -> Result<()> {
    wait::until("the spool is empty", DRAINED_WITHIN, async || {
        let left = waiting(sidecar).await?;
        ensure!(left == 0, "{left} are left");
        Ok(())
    })
    .await
}

fn size(dir: &Path) -> Result<u64> {
    let mut size = 0;
    for entry in std::fs::read_dir(dir)? {
        size += entry?.metadata()?.len();
    }
    Ok(size)
}
