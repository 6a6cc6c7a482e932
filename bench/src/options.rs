//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::rows::Row;

/// Measures what a request costs, from Envoy to Kafka.
///
/// Needs the filter, the release build of the sidecar, Envoy and (unless --backend dev) Kafka: `make bench`
/// builds and installs them.
#[derive(Debug, Parser)]
#[command(name = "sluice-bench")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) options: Options,
}

/// What else this program can be.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The small producing service that Sluice is compared with: axum and rdkafka.
    Service(Service),
    /// The service that reading is compared with: a Kafka consumer for each client, axum and rdkafka.
    Each(crate::read::each::Each),
    /// Measure reading: event streams, fan-out, pages.
    Read(crate::read::ReadBench),
    /// Measure the spool, next to acked records.
    Spool(crate::spool::Spool),
    /// Measure the admin API's state with many rows.
    State(crate::state::State),
    /// Measure payload templates: what a record costs that expressions make.
    Templates(crate::templates::TemplatesBench),
    /// Measure subscriptions: records to a handler, next to a Restate server.
    Subscriptions(crate::subscriptions::SubscriptionsBench),
}

/// How the small service is started.
#[derive(Debug, Args)]
pub(crate) struct Service {
    /// Where it listens.
    #[arg(long)]
    pub(crate) listen: std::net::SocketAddr,
    /// `host:port` of the brokers, comma-separated.
    #[arg(long)]
    pub(crate) brokers: String,
}

/// What is measured, and how long.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How often each row is measured, in turn with all others.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,
    /// How long each measurement takes, in seconds.
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// How long each row is warmed up before the first round, in seconds.
    #[arg(long, default_value_t = 6.0, value_parser = seconds)]
    pub(crate) warm_up: f64,
    /// Only these rows; the floor is always among them.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) rows: Vec<Row>,
    /// Which broker the records go to.
    #[arg(long, value_enum, default_value_t = Backend::Both)]
    pub(crate) backend: Backend,
    /// One core for Envoy, one for all else, as `0,1`; by default the first two there are.
    #[arg(long, value_delimiter = ',', num_args = 2)]
    pub(crate) cores: Vec<usize>,
    /// Short windows and three rounds: shows that everything works, and roughly how fast.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only the table: neither the sidecar alone nor its memory.
    #[arg(long)]
    pub(crate) only_table: bool,
    /// Another sidecar to measure than the workspace's release build.
    #[arg(long)]
    pub(crate) sidecar: Option<PathBuf>,
    /// Another filter to measure than the workspace's.
    #[arg(long)]
    pub(crate) filter: Option<PathBuf>,
}

/// Which broker the records go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// The sidecar's embedded broker, in a process of its own.
    Dev,
    /// Apache Kafka.
    Kafka,
    /// One after the other.
    Both,
}

/// How long things take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) rounds: u32,
    pub(crate) window: Duration,
    pub(crate) warm_up: Duration,
}

impl Options {
    /// The rounds and windows that the flags ask for.
    pub(crate) fn pace(&self) -> Pace {
        if self.quick {
            return Pace {
                rounds: 3,
                window: Duration::from_millis(500),
                warm_up: Duration::from_secs(1),
            };
        }
        Pace {
            rounds: self.rounds,
            window: Duration::from_secs_f64(self.seconds),
            warm_up: Duration::from_secs_f64(self.warm_up),
        }
    }

    /// The rows to measure, in the table's order.
    pub(crate) fn chosen_rows(&self) -> Vec<Row> {
        let wanted = |row: &Row| self.rows.is_empty() || self.rows.contains(row) || *row == Row::Floor;
        Row::ALL.into_iter().filter(wanted).collect()
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.05..=3600.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err("must be from 0.05 to 3600".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, clap::Error> {
        Cli::try_parse_from([&["sluice-bench"], args].concat()).map(|cli| cli.options)
    }

    #[test]
    fn seven_rounds_of_every_row_by_default() {
        let options = parse(&[]).unwrap();
        assert_eq!(options.pace().rounds, 7);
        assert_eq!(options.backend, Backend::Both);
        assert_eq!(options.chosen_rows(), Row::ALL);
    }

    #[test]
    fn the_floor_is_measured_whatever_is_chosen() {
        let options = parse(&["--rows", "service,stream"]).unwrap();
        assert_eq!(options.chosen_rows(), [Row::Floor, Row::Stream, Row::Service]);
    }

    #[test]
    fn quick_is_short() {
        let pace = parse(&["--quick", "--rounds", "20"]).unwrap().pace();
        assert_eq!((pace.rounds, pace.window), (3, Duration::from_millis(500)));
        let pace = parse(&["--rounds", "20", "--seconds", "0.5"]).unwrap().pace();
        assert_eq!((pace.rounds, pace.window), (20, Duration::from_millis(500)));
    }

    #[test]
    fn bad_values_are_refused() {
        for args in [
            &["--seconds", "0"][..],
            &["--rounds", "0"],
            &["--rows", "nothing"],
            &["--cores", "0"],
            &["--backend", "redis"],
        ] {
            assert!(parse(args).is_err(), "{args:?}");
        }
    }
}
