//! All samples of one backend, and the table of them.

use std::time::Duration;

use crate::measure::Sample;
use crate::rows::Row;
use crate::stats::{least, median};
use crate::table;

/// The samples of every round.
#[derive(Debug, Default)]
pub(crate) struct Results {
    rounds: Vec<Round>,
}

/// The samples of one round. What is compared is compared within a round, since the machine's speed drifts
/// between rounds.
#[derive(Debug, Default)]
pub(crate) struct Round(pub(crate) Vec<Sample>);

impl Round {
    /// The sample of a row, if it was measured.
    pub(crate) fn get(&self, row: Row, connections: usize) -> Option<&Sample> {
        self.0
            .iter()
            .find(|sample| sample.row == row && sample.connections == connections)
    }
}

impl Results {
    /// Adds a round.
    pub(crate) fn push(&mut self, round: Round) {
        self.rounds.push(round);
    }

    /// The median over all rounds of what `of` makes of a round; `None` if it made nothing of any.
    pub(crate) fn median(&self, of: impl Fn(&Round) -> Option<f64>) -> Option<f64> {
        median(self.rounds.iter().filter_map(of))
    }

    /// The table.
    pub(crate) fn table(&self) -> String {
        let head = [
            "",
            "conns",
            "req/s",
            "p50 ms",
            "p99 ms",
            "Envoy µs (best)",
            "sidecar/service µs (best)",
            "broker µs",
            "load µs",
            "Envoy/floor",
        ];
        let mut lines = Vec::new();
        for connections in [1, 64] {
            for row in Row::ALL {
                lines.extend(self.line(row, connections));
            }
        }
        table::render(&head, &lines)
    }

    fn line(&self, row: Row, connections: usize) -> Option<Vec<String>> {
        let all = |of: fn(&Sample) -> f64| {
            self.rounds
                .iter()
                .filter_map(move |round| round.get(row, connections))
                .map(of)
        };
        let middle = |of: fn(&Sample) -> f64| median(all(of));
        let with_best = |of: fn(&Sample) -> f64, shown: bool| {
            let (middle, best) = (median(all(of))?, least(all(of))?);
            shown.then(|| format!("{middle:.1} ({best:.1})"))
        };
        let behind = row.behind();
        let cells = [
            Some(row.title().to_owned()),
            Some(connections.to_string()),
            Some(format!("{:.0}", middle(|sample| sample.per_second)?)),
            middle(|sample| millis(sample.p50)).map(|ms| format!("{ms:.2}")),
            middle(|sample| millis(sample.p99)).map(|ms| format!("{ms:.2}")),
            with_best(|sample| sample.envoy, row.through_envoy()),
            with_best(|sample| sample.behind, behind.has_process()),
            middle(|sample| sample.broker)
                .filter(|_| behind.has_broker())
                .map(|us| format!("{us:.1}")),
            middle(|sample| sample.load).map(|us| format!("{us:.1}")),
            self.median(|round| over(round, row, Row::Floor, connections))
                .filter(|_| row.through_envoy())
                .map(|ratio| format!("{ratio:.2}")),
        ];
        Some(cells.map(|cell| cell.unwrap_or_else(|| "–".to_owned())).to_vec())
    }
}

/// Envoy's CPU per request of a row, over that of another in the same round.
pub(crate) fn over(round: &Round, row: Row, other: Row, connections: usize) -> Option<f64> {
    Some(round.get(row, connections)?.envoy / round.get(other, connections)?.envoy)
}

/// A time in milliseconds.
pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A sample with Envoy's and the sidecar's CPU as given.
    pub(crate) fn sample(row: Row, connections: usize, envoy: f64, behind: f64) -> Sample {
        Sample {
            row,
            connections,
            per_second: 1000.0,
            p50: Duration::from_micros(400),
            p99: Duration::from_micros(700),
            envoy,
            behind,
            broker: 5.0,
            load: 3.0,
        }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let mut results = Results::default();
        // The machine is twice as slow in the second round, and the floor's median says nothing about it.
        for (floor, stream) in [(40.0, 60.0), (80.0, 120.0), (50.0, 75.0)] {
            results.push(Round(vec![
                sample(Row::Floor, 64, floor, 0.0),
                sample(Row::Stream, 64, stream, 7.0),
            ]));
        }
        assert_eq!(
            results.median(|round| over(round, Row::Stream, Row::Floor, 64)),
            Some(1.5)
        );
        assert_eq!(
            results.median(|round| over(round, Row::Http, Row::Floor, 64)),
            None
        );
    }

    #[test]
    fn the_table_has_a_line_for_what_was_measured_only() {
        let mut results = Results::default();
        results.push(Round(vec![
            sample(Row::Floor, 64, 40.0, 1.0),
            sample(Row::Stream, 64, 60.0, 7.5),
            sample(Row::Loop, 1, 1.0, 1.0),
        ]));
        let text = results.table();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert!(lines[1].starts_with(Row::Loop.title()), "{text}");
        assert!(
            cells(lines[1]).ends_with(&["–", "–", "5.0", "3.0", "–"].map(str::to_owned)),
            "{text}"
        );
        assert!(
            cells(lines[2]).ends_with(&["40.0", "(40.0)", "–", "–", "3.0", "1.00"].map(str::to_owned)),
            "{text}"
        );
        let stream = [
            "64", "1000", "0.40", "0.70", "60.0", "(60.0)", "7.5", "(7.5)", "5.0", "3.0", "1.50",
        ];
        assert!(cells(lines[3]).ends_with(&stream.map(str::to_owned)), "{text}");
    }
}
