//! A whole run: tables, the sidecar alone, memory, targets.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use sluice_e2e::{Context, Result, bail, ensure, parts};
use sluice_proto::v1::Delivery;

use crate::cpu::{allowed_cores, memory, run_on};
use crate::measure::{Clocks, Meter, body};
use crate::options::{Backend, Options, Pace};
use crate::results::{Results, Round};
use crate::rig::{Broker, Programs, Rig, sidecar, subdirectory};
use crate::rows::Row;
use crate::stats::{least, median};
use crate::targets::{self, Apart};
use crate::{alone, bare};

/// How many records one throughput run sends; in a quick one a tenth.
const FLOOD: u64 = 500_000;

/// Runs what `options` ask for and prints it.
///
/// # Errors
/// A part is missing or does not work, or a request was not answered as it must be. A target that is missed is
/// no error.
pub(crate) fn run(options: &Options) -> Result<()> {
    let cores = cores(options)?;
    let programs = programs(options)?;
    let (dir, runtime) = workplace()?;
    let outcome = runtime.block_on(measure(options, &programs, dir.path(), cores));
    if outcome.is_err() {
        eprintln!("logs are kept in {}", dir.keep().display());
    }
    outcome
}

async fn measure(options: &Options, programs: &Programs, dir: &Path, cores: (usize, usize)) -> Result<()> {
    let pace = options.pace();
    let mut tables = Vec::new();
    for (backend, name) in [(Backend::Dev, "the dev broker"), (Backend::Kafka, "Apache Kafka")] {
        if options.backend != backend && options.backend != Backend::Both {
            continue;
        }
        let dir = subdirectory(dir, &format!("{backend:?}"))?;
        run_on(&[cores.1])?;
        let broker = match backend {
            Backend::Kafka => Broker::kafka(&dir, &[cores.1]).await?,
            Backend::Dev | Backend::Both => Broker::dev(programs, &dir, &[cores.1]).await?,
        };
        let results = table(programs, &dir, broker, &options.chosen_rows(), cores, pace).await?;
        println!(
            "\nAgainst {name}, {} rounds of {:?}, medians:\n\n{}",
            pace.rounds,
            pace.window,
            results.table()
        );
        tables.push((name, results));
    }
    run_on(&[cores.0, cores.1])?;
    let apart = if options.only_table {
        Apart::default()
    } else {
        apart(programs, dir, pace, &[cores.0, cores.1], options.quick).await?
    };
    for (name, results) in &tables {
        println!(
            "\nTargets, against {name}:\n\n{}",
            targets::report(results, &apart)
        );
    }
    Ok(())
}

/// Measures all rows in turn, round after round, every other round backwards.
async fn table(
    programs: &Programs,
    dir: &Path,
    broker: Broker,
    rows: &[Row],
    cores: (usize, usize),
    pace: Pace,
) -> Result<Results> {
    let mut rig = Rig::start(programs, dir, broker, rows, cores).await?;
    let clocks = Clocks::of(&mut rig)?;
    let meter = Meter::new(&rig, clocks)?;
    for row in rows {
        meter.ready(*row).await?;
        let connections = row.connections().last().copied().unwrap_or(1);
        meter.measure(*row, connections, pace.warm_up).await?;
    }
    let mut cells: Vec<(Row, usize)> = Vec::new();
    for row in rows {
        cells.extend(row.connections().iter().map(|connections| (*row, *connections)));
    }
    let mut results = Results::default();
    for round in 0..pace.rounds {
        eprintln!("round {} of {}", round + 1, pace.rounds);
        let mut samples = Vec::with_capacity(cells.len());
        for (row, connections) in &cells {
            samples.push(meter.measure(*row, *connections, pace.window).await?);
        }
        results.push(Round(samples));
        cells.reverse();
    }
    Ok(results)
}

/// What has no place in a table: the sidecar alone, on both cores, and its memory.
async fn apart(programs: &Programs, dir: &Path, pace: Pace, cpus: &[usize], quick: bool) -> Result<Apart> {
    let dir = subdirectory(dir, "alone")?;
    let mut broker = Broker::dev(programs, &dir, cpus).await?;
    let bootstrap = broker.bootstrap();
    let own = subdirectory(&dir, "idle")?;
    let idle = sidecar(programs, &own, &bootstrap, &json!({}), cpus).await?;
    let idle_bytes = memory(alone::pid(&idle)?)?.resident;

    let records = if quick { FLOOD / 10 } else { FLOOD };
    let value = body();
    alone::throughput(&idle, &value, records / 5, Delivery::Acked).await?;
    let (mut through, mut cpu, mut floods) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..pace.rounds {
        let sample = alone::throughput(&idle, &value, records, Delivery::Acked).await?;
        through.push(sample.per_second);
        cpu.push(sample.sidecar);
        floods.push(records as f64 / bare::flood(&bootstrap, &value, records)?.as_secs_f64());
    }
    let per_second = median(through.iter().copied()).context("no rounds")?;
    println!(
        "\nAlone, on both cores, into the dev broker, batches of {}:\n\n\
         sidecar: {per_second:.0} records/s (best {:.0}), {:.2} µs of its CPU per record (best {:.2})\n\
         bare librdkafka: {:.0} records/s (best {:.0})",
        alone::BATCH,
        most(&through),
        median(cpu.iter().copied()).unwrap_or_default(),
        least(cpu.iter().copied()).unwrap_or_default(),
        median(floods.iter().copied()).unwrap_or_default(),
        most(&floods),
    );

    let bounds = json!({"producer_async_buffering_limits_bytes_in_memory": 64 << 20});
    let own = subdirectory(&dir, "full")?;
    let full = sidecar(programs, &own, &bootstrap, &bounds, cpus).await?;
    // The sidecar knows the topic before its broker falls silent.
    alone::throughput(&full, &value, 1000, Delivery::Acked).await?;
    broker.pause()?;
    let overload = alone::overload(&full, &value, Duration::from_secs(if quick { 3 } else { 10 })).await?;
    println!(
        "\nMemory: {:.1} MB idle; with a silent broker and {} records refused: {:.1} MB (peak {:.1} MB)",
        idle_bytes as f64 / 1e6,
        overload.refused,
        overload.memory.resident as f64 / 1e6,
        overload.memory.peak as f64 / 1e6,
    );
    Ok(Apart {
        alone_per_second: Some(per_second),
        idle: Some(idle_bytes),
        overloaded: Some(overload.memory.peak),
    })
}

/// A directory for what is started, on the disk of the workspace since a temporary one may be in memory, and the
/// runtime of a run.
pub(crate) fn workplace() -> Result<(tempfile::TempDir, tokio::runtime::Runtime)> {
    let dir = tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(parts::root().join("target"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok((dir, runtime))
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().max_by(f64::total_cmp).unwrap_or_default()
}

/// Envoy's core, and that of all else.
fn cores(options: &Options) -> Result<(usize, usize)> {
    let allowed = allowed_cores()?;
    let chosen = if options.cores.is_empty() {
        &allowed
    } else {
        &options.cores
    };
    let [envoy, other, ..] = chosen.as_slice() else {
        bail!("two cores are needed, one for Envoy and one for all else; this process may use {allowed:?}");
    };
    ensure!(
        envoy != other,
        "--cores {envoy},{other}: Envoy needs a core of its own"
    );
    Ok((*envoy, *other))
}

/// What is measured, as the options say.
///
/// # Errors
/// One of them is not there.
pub(crate) fn programs(options: &Options) -> Result<Programs> {
    Ok(Programs {
        envoy: parts::envoy()?,
        sidecar: options.sidecar.clone().map_or_else(parts::sidecar_release, Ok)?,
        filter: options.filter.clone().map_or_else(parts::filter, Ok)?,
        bench: std::env::current_exe()?,
    })
}
