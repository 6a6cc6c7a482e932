//! The `sluice` command line. `docs/cli.md` describes what each command takes, prints and exits with.

mod admin;
mod check_config;
mod control;
mod format;
mod send;
mod serve;
mod spool;
mod tail;
mod target;
mod topics;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sluice_settings::Problem;

use crate::kafka::connection;

/// `EX_USAGE` of sysexits.h: the configuration is wrong, and trying again will not help.
pub const EXIT_CONFIG: u8 = 64;

/// The variables of the process's environment.
pub type Environment = BTreeMap<String, String>;

/// HTTP requests become Kafka records: the sidecar of Sluice's Envoy filter, and tools for trying it out.
#[derive(Debug, Parser)]
#[command(name = "sluice", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sidecar
    Serve {
        /// The sidecar's configuration
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Report every problem of a configuration, and exit with 64 if there is one
    CheckConfig(check_config::Arguments),
    /// Print a topic's records as they are written
    Tail(tail::Arguments),
    /// Write one record
    Send(send::Arguments),
    /// List, create and describe topics
    #[command(subcommand)]
    Topics(topics::Command),
    /// Look into the spool, and deliver or drop dead letters
    Spool(spool::Arguments),
    /// Make, watch and steer subscriptions of a running sidecar
    #[command(visible_alias = "sub")]
    Subscriptions(control::Subscriptions),
    /// Make and change the Kafka clusters that a running sidecar's subscriptions read
    #[command(visible_alias = "kc")]
    KafkaClusters(control::KafkaClusters),
    /// Register the services that a running sidecar's subscriptions call
    #[command(visible_alias = "dp")]
    Deployments(control::Deployments),
    /// List the services that are registered
    Services(control::Services),
}

/// Why a command failed.
#[derive(Debug)]
enum Failure {
    /// What is wrong with a configuration, line by line: exit code 64.
    Config(Vec<String>),
    /// Several things that failed, a line each: exit code 1.
    Several(Vec<String>),
    /// Anything else: exit code 1.
    Other(String),
    /// Nobody reads what is printed any more, as with `| head`: exit code 0.
    NobodyReads,
}

impl Failure {
    fn of_config(source: &str, problems: &[Problem]) -> Self {
        let line = |problem: &Problem| format!("{source}: {problem}");
        Self::Config(problems.iter().map(line).collect())
    }
}

impl From<connection::Error> for Failure {
    fn from(error: connection::Error) -> Self {
        Self::Other(error.to_string())
    }
}

/// For what is printed.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::NobodyReads,
            _ => Self::Other(format!("cannot print: {error}")),
        }
    }
}

/// Runs the command that `arguments` (with the program's name first) ask for.
///
/// Exits with 0, with 1 for a failure, with 2 for a command line that cannot be read, and with 64 for a
/// configuration that is wrong.
pub fn main(arguments: impl Iterator<Item = OsString>, environment: Environment) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too; if they cannot be printed there is nobody to tell.
            let _unprinted = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let done = match cli.command {
        Command::Serve { config } => serve::run(&config, environment),
        Command::CheckConfig(arguments) => check_config::run(&arguments, environment),
        Command::Tail(arguments) => tail::run(&arguments, environment),
        Command::Send(arguments) => send::run(arguments, environment),
        Command::Topics(command) => topics::run(command, environment),
        Command::Spool(arguments) => spool::run(arguments, environment),
        Command::Subscriptions(arguments) => control::subscriptions(arguments, environment),
        Command::KafkaClusters(arguments) => control::kafka_clusters(arguments, environment),
        Command::Deployments(arguments) => control::deployments(arguments, environment),
        Command::Services(arguments) => control::services(&arguments, environment),
    };
    match done {
        Ok(()) | Err(Failure::NobodyReads) => ExitCode::SUCCESS,
        Err(Failure::Config(lines)) => {
            lines.iter().for_each(|line| complain(line));
            ExitCode::from(EXIT_CONFIG)
        }
        Err(Failure::Several(lines)) => {
            lines.iter().for_each(|line| complain(line));
            ExitCode::FAILURE
        }
        Err(Failure::Other(message)) => {
            complain(&format!("sluice: {message}"));
            ExitCode::FAILURE
        }
    }
}

/// A line on standard error; if that is closed there is nobody to tell.
fn complain(line: &str) {
    let _unprinted = writeln!(std::io::stderr(), "{line}");
}

/// A runtime for the commands that need one for a moment.
fn block_on<T>(task: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Other(format!("cannot start: {error}")))?;
    Ok(runtime.block_on(task))
}
