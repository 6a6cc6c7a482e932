//! Measures what a request costs, from Envoy to Kafka, and what the sidecar can take.
//!
//! `docs/performance.md` says what was reached, and how to read the table.

mod alone;
mod bare;
mod cpu;
mod envoy;
mod http;
mod load;
mod measure;
mod options;
mod results;
mod rig;
mod rows;
mod run;
mod service;
mod stats;
mod table;
mod targets;

use clap::Parser;
use options::{Cli, Command};
use sluice_e2e::Result;

fn main() -> Result<()> {
    let cli = Cli::parse();
    match &cli.command {
        Some(Command::Service(service)) => service::run(service),
        None => run::run(&cli.options),
    }
}
