//! The filter's Envoy stats: `wasmcustom.sluice.…`.

use crate::reply::Kind;

/// What kind of metric it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Single values.
    Histogram,
}

/// Where metrics are kept: the host.
pub trait Metrics {
    /// The id of the metric of that name, shared by all workers; `None` if it cannot be had.
    fn define(&mut self, metric: Metric, name: &str) -> Option<u32>;
    /// Adds to a counter or gauge.
    fn add(&mut self, id: u32, amount: i64);
    /// Adds a value to a histogram.
    fn record(&mut self, id: u32, value: u64);
}

#[derive(Debug, Default)]
struct Counter {
    id: Option<u32>,
    pending: u64,
}

/// One worker's numbers. Counters and the gauge are collected here and reach the host in [`Stats::flush`]: a
/// call to the host costs more than it is worth to be exact between two ticks.
#[derive(Debug, Default)]
pub struct Stats {
    /// In the order of [`Kind::all`].
    requests: Vec<Counter>,
    departed: Counter,
    records: Counter,
    outstanding: Option<u32>,
    /// What the gauge holds of this worker's. It is shared by all, hence moved by differences.
    outstanding_told: i64,
    batch: Option<u32>,
    answer: Option<u32>,
}

impl Stats {
    /// Defines the metrics.
    pub fn define(metrics: &mut impl Metrics) -> Self {
        let mut counter = |name: &str| Counter {
            id: metrics.define(Metric::Counter, name),
            pending: 0,
        };
        let requests = Kind::all().map(|kind| counter(&format!("sluice.requests.{}", kind.code())));
        Self {
            requests: requests.collect(),
            departed: counter("sluice.requests.departed"),
            records: counter("sluice.records"),
            outstanding: metrics.define(Metric::Gauge, "sluice.outstanding"),
            outstanding_told: 0,
            batch: metrics.define(Metric::Histogram, "sluice.batch_records"),
            answer: metrics.define(Metric::Histogram, "sluice.answer_us"),
        }
    }

    /// A request came to that end.
    pub fn request(&mut self, kind: Kind) {
        if let Some(counter) = self.requests.get_mut(kind.index()) {
            counter.pending += 1;
        }
    }

    /// A client left while its record was on the way.
    pub fn departed(&mut self) {
        self.departed.pending += 1;
    }

    /// A message of that many records was sent.
    pub fn sent(&mut self, records: usize, metrics: &mut impl Metrics) {
        self.records.pending += records as u64;
        if let Some(id) = self.batch.filter(|_| records > 0) {
            metrics.record(id, records as u64);
        }
    }

    /// The fate of a record took that long to be known, in microseconds.
    pub fn answered(&mut self, took_us: u64, metrics: &mut impl Metrics) {
        if let Some(id) = self.answer {
            metrics.record(id, took_us);
        }
    }

    /// Tells the host what was collected, and how many records are outstanding now.
    pub fn flush(&mut self, outstanding: usize, metrics: &mut impl Metrics) {
        for counter in self
            .requests
            .iter_mut()
            .chain([&mut self.departed, &mut self.records])
        {
            let pending = std::mem::take(&mut counter.pending);
            if let Some(id) = counter.id
                && pending > 0
            {
                metrics.add(id, pending.cast_signed());
            }
        }
        let outstanding = outstanding as i64;
        if let Some(id) = self.outstanding
            && outstanding != self.outstanding_told
        {
            metrics.add(id, outstanding - self.outstanding_told);
            self.outstanding_told = outstanding;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use sluice_proto::class::ErrorClass;

    #[derive(Default)]
    struct Host {
        names: Vec<String>,
        sums: BTreeMap<String, i64>,
        values: BTreeMap<String, Vec<u64>>,
        calls: usize,
    }

    impl Metrics for Host {
        fn define(&mut self, _: Metric, name: &str) -> Option<u32> {
            self.names.push(name.to_owned());
            u32::try_from(self.names.len() - 1).ok()
        }

        fn add(&mut self, id: u32, amount: i64) {
            self.calls += 1;
            *self.sums.entry(self.names[id as usize].clone()).or_default() += amount;
        }

        fn record(&mut self, id: u32, value: u64) {
            let name = self.names[id as usize].clone();
            self.values.entry(name).or_default().push(value);
        }
    }

    #[test]
    fn what_happened_is_told_once_and_by_name() {
        let mut host = Host::default();
        let mut stats = Stats::define(&mut host);
        stats.request(Kind::Stored);
        stats.request(Kind::Stored);
        stats.request(Kind::Failed(ErrorClass::OutcomeUnknown));
        stats.departed();
        stats.sent(3, &mut host);
        stats.answered(450, &mut host);
        stats.flush(2, &mut host);
        let calls = host.calls;
        stats.flush(2, &mut host);
        assert_eq!(host.calls, calls, "nothing new");
        stats.flush(0, &mut host);
        let sum = |name: &str| host.sums[name];
        assert_eq!(sum("sluice.requests.stored"), 2);
        assert_eq!(sum("sluice.requests.outcome_unknown"), 1);
        assert_eq!(sum("sluice.requests.departed"), 1);
        assert_eq!(sum("sluice.records"), 3);
        assert_eq!(sum("sluice.outstanding"), 0);
        assert_eq!(host.values["sluice.batch_records"], [3]);
        assert_eq!(host.values["sluice.answer_us"], [450]);
    }

    #[test]
    fn names_are_distinct() {
        let mut host = Host::default();
        Stats::define(&mut host);
        let names: std::collections::BTreeSet<_> = host.names.iter().collect();
        assert_eq!(names.len(), host.names.len());
    }
}
