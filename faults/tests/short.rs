//! The faults that are worth a minute of every test run; `make faults` has all of them.

use sluice_e2e::{Context, Result, ensure};
use sluice_faults::faults::FAULTS;
use sluice_faults::mode::{MODES, Mode};
use sluice_faults::{run, table};

fn kept(name: &str, modes: &[&str]) -> Result<()> {
    let fault = FAULTS.iter().find(|fault| fault.name == name);
    let mut fault = *fault.context("no such fault")?;
    let chosen = MODES.iter().filter(|mode| modes.contains(&mode.name));
    let modes: Vec<Mode> = chosen.copied().collect();
    ensure!(!modes.is_empty(), "no such mode");
    // How quickly is measured by `make faults`, on a machine that does nothing else.
    fault.keeps.recovers_within *= 10;
    let mut ran = 0;
    run::run(&fault, &modes, run::SHORT, |outcome| {
        ran += 1;
        let examples = outcome.counts.examples.join("\n");
        ensure!(
            outcome.broken.is_empty(),
            "{:?}\n{}\n{examples}",
            outcome.broken,
            table::line(&outcome)
        );
        Ok(())
    })?;
    ensure!(ran == modes.len(), "{ran} of {} modes were run", modes.len());
    Ok(())
}

#[test]
fn the_broker_is_killed() -> Result<()> {
    kept(
        "broker-kill",
        &["acked", "spooled", "spool-on-outage", "buffered"],
    )
}

#[test]
fn the_link_is_cut_one_way() -> Result<()> {
    kept("link-answers-lost", &["acked"])
}

#[test]
fn a_record_that_is_too_large_takes_no_other_with_it() -> Result<()> {
    kept("too-large", &["acked", "spooled"])
}

#[test]
fn the_sidecar_is_killed() -> Result<()> {
    kept("sidecar-kill", &["acked", "spooled", "buffered"])
}
