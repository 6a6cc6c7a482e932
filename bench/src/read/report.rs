//! What came out, as a table.

use std::time::Duration;

use super::crowd::Tally;
use super::stamp::millis;
use crate::table;

/// What a service used meanwhile.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// CPU.
    pub(crate) cpu: Duration,
    /// Resident memory for each client, in bytes.
    pub(crate) memory: u64,
}

/// One measurement.
#[derive(Debug)]
pub(crate) struct Line {
    p99: Duration,
    cells: Vec<String>,
}

impl Line {
    /// Of `clients` clients of `what`.
    pub(crate) fn new(what: &str, clients: usize, tally: &Tally, usage: Usage) -> Self {
        let at = |quantile| tally.latencies.value_at_quantile(quantile);
        let each = usage.cpu.as_secs_f64() * 1e6 / tally.delivered.max(1) as f64;
        Self {
            p99: Duration::from_micros(at(0.99)),
            cells: vec![
                what.to_owned(),
                clients.to_string(),
                tally.delivered.to_string(),
                format!("{:.1}", millis(at(0.5))),
                format!("{:.1}", millis(at(0.99))),
                format!("{:.1}", millis(tally.latencies.max())),
                format!("{:.2}", millis(tally.silence) / 1e3),
                format!("{each:.1}"),
                format!("{:.1}", usage.memory as f64 / 1e3),
            ],
        }
    }

    /// As [`Self::new`], with how long clients waited until they were told that a record of theirs is stored.
    pub(crate) fn both_ways(what: &str, clients: usize, tally: &Tally, usage: Usage) -> Self {
        let mut line = Self::new(what, clients, tally, usage);
        let at = |quantile| millis(tally.answers.value_at_quantile(quantile));
        line.cells.extend([
            tally.answers.len().to_string(),
            format!("{:.1}", at(0.5)),
            format!("{:.1}", at(0.99)),
        ]);
        line
    }

    /// The 99th percentile, from written until read.
    pub(crate) fn p99(&self) -> Duration {
        self.p99
    }
}

/// The measurements so far.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Vec<String>>);

impl Report {
    /// Adds one, and tells it at once: the next may take minutes.
    pub(crate) fn push(&mut self, line: Line) {
        eprintln!("{}", line.cells.join("  "));
        self.0.push(line.cells);
    }

    /// Prints them, if there are any: all of one kind.
    pub(crate) fn print(&self, title: &str) {
        const HEAD: [&str; 12] = [
            "",
            "clients",
            "delivered",
            "p50 ms",
            "p99 ms",
            "max ms",
            "longest silence s",
            "CPU µs each",
            "KB a client",
            "stored",
            "p50 ms",
            "p99 ms",
        ];
        if let Some(first) = self.0.first() {
            let head = HEAD.get(..first.len()).unwrap_or(&HEAD);
            println!("\n{title}:\n\n{}", table::render(head, &self.0));
        }
    }
}
