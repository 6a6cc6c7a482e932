//! What Sluice is meant to reach, and what this run reached.

use crate::results::{Results, Round, millis, over};
use crate::rows::Row;
use crate::table;

/// What was measured outside of the tables.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Apart {
    /// Records per second through the sidecar alone, into the dev broker.
    pub(crate) alone_per_second: Option<f64>,
    /// Resident memory of a sidecar that has nothing to do, in bytes.
    pub(crate) idle: Option<u64>,
    /// The most memory of a sidecar under overload, in bytes.
    pub(crate) overloaded: Option<u64>,
}

/// Which way a bound points.
#[derive(Debug, Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// One target.
struct Target {
    what: &'static str,
    unit: &'static str,
    bound: Bound,
    reached: Option<f64>,
}

impl Target {
    fn holds(&self) -> Option<bool> {
        let reached = self.reached?;
        Some(match self.bound {
            Bound::AtMost(most) => reached <= most,
            Bound::AtLeast(least) => reached >= least,
        })
    }

    fn show(&self, value: f64) -> String {
        let decimals = if value >= 1000.0 { 0 } else { 2 };
        format!("{value:.decimals$}{}", self.unit)
    }

    fn line(&self) -> Vec<String> {
        let (sign, bound) = match self.bound {
            Bound::AtMost(most) => ("≤", most),
            Bound::AtLeast(least) => ("≥", least),
        };
        let verdict = match self.holds() {
            Some(true) => "reached",
            Some(false) => "missed",
            None => "not measured",
        };
        vec![
            self.what.to_owned(),
            format!("{sign} {bound}{}", self.unit),
            self.reached
                .map_or_else(|| "–".to_owned(), |value| self.show(value)),
            verdict.to_owned(),
        ]
    }
}

/// The targets for `results`, those against Apache Kafka if it was measured.
pub(crate) fn report(results: &Results, apart: &Apart) -> String {
    let lines: Vec<Vec<String>> = all(results, apart).iter().map(Target::line).collect();
    table::render(&["", "target", "reached", ""], &lines)
}

fn all(results: &Results, apart: &Apart) -> Vec<Target> {
    let mib = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64 / 1e6);
    let target = |what, unit, bound, reached| Target {
        what,
        unit,
        bound,
        reached,
    };
    let rounds = |of: fn(&Round) -> Option<f64>| results.median(of);
    vec![
        target(
            "Envoy, stream with the default envelope, over the floor (64 connections)",
            " ×",
            Bound::AtMost(1.6),
            rounds(|round| over(round, Row::Stream, Row::Floor, 64)),
        ),
        target(
            "Envoy, stream with value: body, over the floor (64)",
            " ×",
            Bound::AtMost(1.4),
            rounds(|round| over(round, Row::StreamBody, Row::Floor, 64)),
        ),
        // What the filter itself adds: the shipped listener has CORS and a request id, which the floor has not.
        target(
            "Envoy, stream with the default envelope, over the floor on the shipped listener (64)",
            " ×",
            Bound::AtMost(1.6),
            rounds(|round| over(round, Row::Stream, Row::FloorShipped, 64)),
        ),
        target(
            "Envoy, stream with value: body, over the floor on the shipped listener (64)",
            " ×",
            Bound::AtMost(1.4),
            rounds(|round| over(round, Row::StreamBody, Row::FloorShipped, 64)),
        ),
        target(
            "Envoy, stream over transport: http (64)",
            " ×",
            Bound::AtMost(0.5),
            rounds(|round| over(round, Row::Stream, Row::Http, 64)),
        ),
        target(
            "Envoy + sidecar, stream over the plain route to axum + rdkafka (64)",
            " ×",
            Bound::AtMost(0.45),
            rounds(|round| {
                let (stream, service) = (round.get(Row::Stream, 64)?, round.get(Row::Service, 64)?);
                Some((stream.envoy + stream.behind) / (service.envoy + service.behind))
            }),
        ),
        target(
            "sidecar's CPU per record, stream (64)",
            " µs",
            Bound::AtMost(8.0),
            rounds(|round| Some(round.get(Row::Stream, 64)?.behind)),
        ),
        target(
            "p50 at 1 connection, stream, over the bare loop",
            " ms",
            Bound::AtMost(0.2),
            rounds(|round| {
                Some(millis(round.get(Row::Stream, 1)?.p50) - millis(round.get(Row::Loop, 1)?.p50))
            }),
        ),
        target(
            "p99 over p50 at 64 connections, stream",
            " ×",
            Bound::AtMost(2.0),
            rounds(|round| {
                let stream = round.get(Row::Stream, 64)?;
                Some(millis(stream.p99) / millis(stream.p50))
            }),
        ),
        target(
            "sidecar alone, batches of 100 into the dev broker",
            " records/s",
            Bound::AtLeast(150_000.0),
            apart.alone_per_second,
        ),
        target(
            "sidecar's memory, idle",
            " MB",
            Bound::AtMost(40.0),
            mib(apart.idle),
        ),
        target(
            "sidecar's memory under overload (buffer bounded to 64 MiB)",
            " MB",
            Bound::AtMost(OVERLOAD_MB),
            mib(apart.overloaded),
        ),
    ]
}

/// What a sidecar may take whose buffer is bounded to 64 MiB of keys, values and headers: as much again for
/// librdkafka's bookkeeping (about as large as a record of 300 bytes), and what it takes idle.
const OVERLOAD_MB: f64 = 2.0 * 67.1 + 40.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::sample;

    fn results() -> Results {
        let mut results = Results::default();
        results.push(Round(vec![
            sample(Row::Floor, 64, 40.0, 0.0),
            sample(Row::Stream, 64, 60.0, 9.0),
            sample(Row::Http, 64, 150.0, 20.0),
            sample(Row::Service, 64, 100.0, 53.0),
            sample(Row::Stream, 1, 80.0, 20.0),
        ]));
        results
    }

    fn find<'a>(targets: &'a [Target], what: &str) -> &'a Target {
        targets
            .iter()
            .find(|target| target.what.starts_with(what))
            .unwrap()
    }

    #[test]
    fn each_target_is_compared_the_right_way_round() {
        let apart = Apart {
            alone_per_second: Some(149_999.0),
            idle: Some(39_000_000),
            overloaded: Some(500_000_000),
        };
        let targets = all(&results(), &apart);
        for (what, reached, holds) in [
            (
                "Envoy, stream with the default envelope, over the floor (",
                Some(1.5),
                Some(true),
            ),
            ("Envoy, stream with value: body", None, None),
            ("Envoy, stream over transport", Some(0.4), Some(true)),
            ("Envoy + sidecar", Some(69.0 / 153.0), Some(false)),
            ("sidecar's CPU", Some(9.0), Some(false)),
            ("p50 at 1", None, None),
            ("p99 over p50", Some(1.75), Some(true)),
            ("sidecar alone", Some(149_999.0), Some(false)),
            ("sidecar's memory, idle", Some(39.0), Some(true)),
            ("sidecar's memory under", Some(500.0), Some(false)),
        ] {
            let target = find(&targets, what);
            let close = match (target.reached, reached) {
                (Some(is), Some(should)) => (is - should).abs() < 1e-9,
                (is, should) => is == should,
            };
            assert!(close, "{what}: {:?}", target.reached);
            assert_eq!(target.holds(), holds, "{what}");
        }
    }

    #[test]
    fn the_report_has_a_verdict_on_every_line() {
        let text = report(&results(), &Apart::default());
        let verdicts = ["reached", "missed", "not measured"];
        let judged = text
            .lines()
            .skip(1)
            .filter(|line| verdicts.iter().any(|verdict| line.ends_with(verdict)));
        assert_eq!(judged.count(), all(&results(), &Apart::default()).len(), "{text}");
    }
}
