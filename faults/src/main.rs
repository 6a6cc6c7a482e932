//! `make faults` and `make soak`.

use std::process::ExitCode;

use clap::Parser;
use sluice_e2e::{Context, Result, ensure, parts};
use sluice_faults::faults::{FAULTS, Fault};
use sluice_faults::mode::{MODES, Mode};
use sluice_faults::{run, soak, table};

/// Breaks things under load and counts what became of every record.
#[derive(Debug, Parser)]
#[command(name = "sluice-faults")]
struct Cli {
    /// The faults to run, whose rows in docs/faults.md are replaced; all of them without.
    faults: Vec<String>,
    /// Run in this mode only (may be repeated).
    #[arg(long)]
    mode: Vec<String>,
    /// Run only what has no row yet: goes on where a run of all of them ended.
    #[arg(long)]
    missing: bool,
    /// Instead: all modes together for so many minutes, brokers and sidecar restarted at random.
    /// In some modes (`--mode`) it writes nothing to docs/faults.md.
    #[arg(long, value_name = "MINUTES", conflicts_with_all = ["faults", "missing"])]
    soak: Option<u32>,
    /// What decides when a soak restarts something, and what: as an earlier one said.
    #[arg(long, requires = "soak")]
    seed: Option<u64>,
    /// The seconds from one restart of a soak to the next, at most.
    #[arg(long, value_name = "SECONDS", requires = "soak", value_parser = clap::value_parser!(u64).range(1..))]
    pause: Option<u64>,
    /// List the faults.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    match start(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sluice-faults: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every promise was kept.
fn start(cli: &Cli) -> Result<bool> {
    if cli.list {
        FAULTS
            .iter()
            .for_each(|fault| println!("{:22} {}", fault.name, fault.what));
        return Ok(true);
    }
    let chosen = |name: &str, among: &[String]| among.is_empty() || among.iter().any(|one| one == name);
    let faults: Vec<&Fault> = FAULTS
        .iter()
        .filter(|fault| chosen(fault.name, &cli.faults))
        .collect();
    let modes: Vec<Mode> = MODES
        .iter()
        .filter(|mode| chosen(mode.name, &cli.mode))
        .copied()
        .collect();
    ensure!(
        faults.len() >= cli.faults.len() && modes.len() >= cli.mode.len(),
        "no such fault or mode: --list"
    );
    if let Some(minutes) = cli.soak {
        let mut plans = soak::Plans::new(minutes);
        plans.seed = cli.seed;
        plans.pause = cli.pause.unwrap_or(plans.pause);
        let soaked = soak::soak(plans, &modes)?;
        println!("{}", soaked.text);
        if cli.mode.is_empty() && cli.pause.is_none() {
            rewrite(|document| table::replace(document, "soak", &soaked.text))?;
        }
        return Ok(soaked.broken.is_empty());
    }
    let mut well = true;
    for fault in faults {
        let mut modes = modes.clone();
        if cli.missing {
            let document = document()?;
            let has = |mode: &Mode| table::has(&document, fault.name, mode.name);
            modes.retain(|mode| !has(mode).unwrap_or_default());
        }
        if !modes.iter().any(|mode| fault.meets(mode)) {
            continue;
        }
        let ran = run::run(fault, &modes, run::FULL, |outcome| {
            print!("{}", table::line(&outcome));
            well &= outcome.broken.is_empty();
            if !outcome.broken.is_empty() {
                let why = outcome.broken.iter().chain(&outcome.counts.examples);
                why.for_each(|what| println!("    {what}"));
            }
            rewrite(|document| table::update(document, &[outcome]))
        });
        if let Err(error) = ran {
            println!("{}: could not be run: {error:#}", fault.name);
            well = false;
        }
    }
    Ok(well)
}

fn document() -> Result<String> {
    let path = parts::root().join("docs/faults.md");
    std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

/// Changes docs/faults.md.
fn rewrite(change: impl FnOnce(&str) -> Result<String>) -> Result<()> {
    let path = parts::root().join("docs/faults.md");
    std::fs::write(&path, change(&document()?)?).with_context(|| format!("write {}", path.display()))
}
