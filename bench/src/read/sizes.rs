//! What is measured, and how much of it.

use std::time::Duration;

use clap::{Args, ValueEnum};
use sluice_e2e::Result;

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct ReadBench {
    /// Which measurements; all by default.
    #[arg(value_enum)]
    what: Vec<What>,
    /// Clients over HTTP/1.1 [default: 15000; quick: 500].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65_000))]
    clients: Option<u32>,
    /// Streams over HTTP/2 [default: 50000; quick: 2000].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    streams: Option<u32>,
    /// Streams on each connection of HTTP/2: the sidecar takes 200.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=200))]
    per_connection: u32,
    /// Clients of the service that has a Kafka consumer for each [default: 100; quick: 10].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=5000))]
    consumers: Option<u32>,
    /// WebSockets that read and write [default: 400; quick: 50].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    sockets: Option<u32>,
    /// Records that the WebSockets send in a second, all together [default: 20; quick: 10].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: Option<u32>,
    /// How long everybody is sent a record per second, in seconds [default: 300; quick: 5].
    #[arg(long = "for", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    duration: Option<u64>,
    /// Records that are sent to 100 clients as fast as it goes [default: 50000; quick: 5000].
    #[arg(long, value_parser = clap::value_parser!(u64).range(100..=10_000_000))]
    flood: Option<u64>,
    /// Records in the topic before pages are read [default: 600000; quick: 60000].
    #[arg(long, value_parser = clap::value_parser!(u64).range(12_000..=100_000_000))]
    history: Option<u64>,
    /// By how many streams it grows until a service is at its end [default: 10000; quick: 2000].
    #[arg(long, value_parser = clap::value_parser!(u32).range(200..=100_000))]
    step: Option<u32>,
    /// Where it stops growing at the latest [default: 400000; quick: 6000].
    #[arg(long, value_parser = clap::value_parser!(u32).range(200..=10_000_000))]
    most: Option<u32>,
}

/// A measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum What {
    /// Event streams over HTTP/1.1, a record a second each.
    Http1,
    /// The same over HTTP/2.
    Http2,
    /// The same with a Kafka consumer per client, and with the sidecar at as many clients.
    Each,
    /// WebSockets both ways: each record is sent by one of them, and comes to all; and the same with a Kafka consumer and a
    /// producer per client.
    Sockets,
    /// As many records as go to 100 clients.
    FanOut,
    /// Pages over HTTP: near the end, and in the past.
    Pages,
    /// What filters cost a record.
    Filters,
    /// The past without HTTP: the sidecar's pool next to rskafka.
    History,
    /// More and more streams, until the 99th percentile is over a second.
    End,
}

/// The numbers that the flags ask for.
pub(super) struct Sizes {
    pub(super) clients: usize,
    pub(super) streams: usize,
    pub(super) per_connection: usize,
    pub(super) consumers: usize,
    pub(super) sockets: usize,
    /// Records per second.
    pub(super) rate: u32,
    pub(super) duration: Duration,
    pub(super) flood: u64,
    pub(super) history: u64,
    pub(super) step: usize,
    pub(super) most: usize,
}

impl ReadBench {
    /// The numbers that the flags ask for; of a quick run those that they do not name are small.
    ///
    /// # Errors
    /// One is more than this machine can count.
    pub(super) fn sizes(&self, quick: bool) -> Result<Sizes> {
        let pick = |given: Option<u32>, usual: u32, short: u32| {
            usize::try_from(given.unwrap_or(if quick { short } else { usual }))
        };
        let long = |given: Option<u64>, usual, short| given.unwrap_or(if quick { short } else { usual });
        Ok(Sizes {
            clients: pick(self.clients, 15_000, 500)?,
            streams: pick(self.streams, 50_000, 2000)?,
            per_connection: usize::try_from(self.per_connection)?,
            consumers: pick(self.consumers, 100, 10)?,
            sockets: pick(self.sockets, 400, 50)?,
            rate: self.rate.unwrap_or(if quick { 10 } else { 20 }),
            duration: Duration::from_secs(long(self.duration, 300, 5)),
            flood: long(self.flood, 50_000, 5000),
            history: long(self.history, 600_000, 60_000),
            step: pick(self.step, 10_000, 2000)?,
            most: pick(self.most, 400_000, 6000)?,
        })
    }

    /// Whether it is to be measured.
    pub(super) fn wants(&self, what: What) -> bool {
        self.what.is_empty() || self.what.contains(&what)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        read: ReadBench,
    }

    fn parse(args: &[&str]) -> Result<ReadBench, clap::Error> {
        Cli::try_parse_from([&["read"], args].concat()).map(|cli| cli.read)
    }

    #[test]
    fn all_is_measured_by_default_at_the_size_that_was_promised() {
        let read = parse(&[]).unwrap();
        assert!(What::value_variants().iter().all(|what| read.wants(*what)));
        let sizes = read.sizes(false).unwrap();
        assert_eq!((sizes.clients, sizes.streams), (15_000, 50_000));
        assert_eq!(sizes.duration, Duration::from_secs(300));
    }

    #[test]
    fn quick_is_small_but_for_what_is_given() {
        let read = parse(&["http1", "--streams", "7", "--for", "9", "--rate", "3"]).unwrap();
        assert!(read.wants(What::Http1) && !read.wants(What::Http2));
        let sizes = read.sizes(true).unwrap();
        assert_eq!((sizes.clients, sizes.streams, sizes.consumers), (500, 7, 10));
        assert_eq!((sizes.sockets, sizes.rate), (50, 3));
        assert_eq!(sizes.duration, Duration::from_secs(9));
    }

    #[test]
    fn bad_values_are_refused() {
        for args in [
            &["--per-connection", "201"][..],
            &["--clients", "0"],
            &["--rate", "0"],
            &["tail"],
        ] {
            assert!(parse(args).is_err(), "{args:?}");
        }
    }
}
