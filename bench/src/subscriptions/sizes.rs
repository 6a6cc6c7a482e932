//! What is measured, and how much of it.

use std::time::Duration;

use clap::{Args, ValueEnum};

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct SubscriptionsBench {
    /// Which measurements; all by default.
    #[arg(value_enum)]
    what: Vec<What>,
    /// Sluice only, without a Restate server beside it.
    #[arg(long)]
    pub(super) alone: bool,
    /// Records that are delivered with 256 in flight; half as many with 16, and a fortieth with 1 [default: 200000; quick: 20000].
    #[arg(long, value_parser = clap::value_parser!(u64).range(4000..=100_000_000))]
    records: Option<u64>,
    /// How long records come at a steady rate, in seconds [default: 60; quick: 5].
    #[arg(long = "for", value_parser = clap::value_parser!(u64).range(1..=3600))]
    duration: Option<u64>,
    /// That rate, in records a second.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    rate: u32,
    /// Keys that are in flight while memory is looked at [default: 10000; quick: 1000].
    #[arg(long, value_parser = clap::value_parser!(u32).range(100..=10_000))]
    in_flight: Option<u32>,
}

/// A measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum What {
    /// Records a second at 1, 16 and 256 in flight, ordered by key and not.
    Throughput,
    /// From written to delivered, at a steady rate.
    Latency,
    /// The same while one key in a hundred fails.
    Failing,
    /// What many keys in flight take.
    Memory,
}

/// The numbers that the flags ask for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) records: u64,
    pub(super) duration: Duration,
    pub(super) every: Duration,
    pub(super) in_flight: u32,
}

impl SubscriptionsBench {
    /// The numbers that the flags ask for; of a quick run those that they do not name are small.
    pub(super) fn sizes(&self, quick: bool) -> Sizes {
        let pick = |given: Option<u64>, usual, short| given.unwrap_or(if quick { short } else { usual });
        Sizes {
            records: pick(self.records, 200_000, 20_000),
            duration: Duration::from_secs(pick(self.duration, 60, 5)),
            every: Duration::from_secs(1) / self.rate.max(1),
            in_flight: self.in_flight.unwrap_or(if quick { 1000 } else { 10_000 }),
        }
    }

    /// Whether it is to be measured.
    pub(super) fn wants(&self, what: What) -> bool {
        self.what.is_empty() || self.what.contains(&what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        bench: SubscriptionsBench,
    }

    fn parse(args: &[&str]) -> Result<SubscriptionsBench, clap::Error> {
        Cli::try_parse_from([&["bench"], args].concat()).map(|cli| cli.bench)
    }

    #[test]
    fn everything_at_its_full_size_by_default() {
        let bench = parse(&[]).unwrap();
        assert!(bench.wants(What::Throughput) && bench.wants(What::Memory) && !bench.alone);
        let sizes = bench.sizes(false);
        assert_eq!((sizes.records, sizes.in_flight), (200_000, 10_000));
        assert_eq!(
            (sizes.duration, sizes.every),
            (Duration::from_secs(60), Duration::from_millis(1))
        );
    }

    #[test]
    fn quick_is_small_but_for_what_is_given() {
        let bench = parse(&["failing", "--for", "9", "--rate", "200", "--alone"]).unwrap();
        assert!(bench.wants(What::Failing) && !bench.wants(What::Latency) && bench.alone);
        let sizes = bench.sizes(true);
        assert_eq!((sizes.records, sizes.in_flight), (20_000, 1000));
        assert_eq!(
            (sizes.duration, sizes.every),
            (Duration::from_secs(9), Duration::from_millis(5))
        );
    }

    #[test]
    fn bad_values_are_refused() {
        for args in [&["--in-flight", "10001"][..], &["--rate", "0"], &["tail"]] {
            assert!(parse(args).is_err(), "{args:?}");
        }
    }
}
