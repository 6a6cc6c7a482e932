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
mod read;
mod results;
mod rig;
mod rows;
mod run;
mod service;
mod spool;
mod state;
mod stats;
mod subscriptions;
mod table;
mod targets;
mod templates;

use std::process::ExitCode;

use clap::Parser;
use options::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Some(Command::Service(service)) => service::run(service),
        Some(Command::Each(each)) => read::each::run(each),
        Some(Command::Read(read)) => read::run(read, &cli.options),
        Some(Command::State(state)) => state::run(state, &cli.options),
        Some(Command::Templates(bench)) => templates::run(bench, &cli.options),
        Some(Command::Subscriptions(bench)) => subscriptions::run(bench, &cli.options),
        Some(Command::Spool(spool)) => spool::run(spool, &cli.options),
        None => run::run(&cli.options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sluice-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
