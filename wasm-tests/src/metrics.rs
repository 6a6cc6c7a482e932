//! The stats that the filter defines.

use std::collections::BTreeMap;

use crate::status::Status;

/// One stat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metric {
    /// Whether it is a counter (0), a gauge (1) or a histogram (2).
    pub kind: u32,
    /// A counter's or gauge's value.
    pub value: u64,
    /// A histogram's samples, in order.
    pub samples: Vec<u64>,
}

/// All stats, by name. As in Envoy, defining a name again gives a new id for the same stat, and the kind is part
/// of the id.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    by_name: BTreeMap<String, Metric>,
    by_id: BTreeMap<u32, String>,
}

const KIND_MASK: u32 = 3;
const HISTOGRAM: u32 = 2;
const GAUGE: u32 = 1;

impl Metrics {
    pub(crate) fn define(&mut self, kind: u32, name: String) -> Result<u32, Status> {
        if kind > HISTOGRAM {
            return Err(Status::BadArgument);
        }
        let metric = self.by_name.entry(name.clone()).or_insert(Metric {
            kind,
            ..Metric::default()
        });
        if metric.kind != kind {
            return Err(Status::BadArgument);
        }
        let next = u32::try_from(self.by_id.len()).map_err(|_| Status::InternalFailure)? + 1;
        let id = next * (KIND_MASK + 1) + kind;
        self.by_id.insert(id, name);
        Ok(id)
    }

    pub(crate) fn increment(&mut self, id: u32, offset: i64) -> Result<(), Status> {
        let metric = self.by_id(id)?;
        match metric.kind {
            // Envoy refuses to count down, and to count nothing.
            0 if offset <= 0 => return Err(Status::BadArgument),
            0 | GAUGE => metric.value = metric.value.wrapping_add_signed(offset),
            _ => return Err(Status::BadArgument),
        }
        Ok(())
    }

    pub(crate) fn record(&mut self, id: u32, value: u64) -> Result<(), Status> {
        let metric = self.by_id(id)?;
        match metric.kind {
            HISTOGRAM => metric.samples.push(value),
            GAUGE => metric.value = value,
            _ => metric.value += value,
        }
        Ok(())
    }

    pub(crate) fn get(&mut self, id: u32) -> Result<u64, Status> {
        let metric = self.by_id(id)?;
        if metric.kind == HISTOGRAM {
            return Err(Status::BadArgument);
        }
        Ok(metric.value)
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Metric> {
        self.by_name.get(name)
    }

    pub(crate) fn all(&self) -> &BTreeMap<String, Metric> {
        &self.by_name
    }

    fn by_id(&mut self, id: u32) -> Result<&mut Metric, Status> {
        let name = self.by_id.get(&id).ok_or(Status::NotFound)?;
        self.by_name.get_mut(name).ok_or(Status::NotFound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_name_share_the_stat_and_kinds_keep_to_their_operations() {
        let mut all = Metrics::default();
        let a = all.define(0, "n".into()).unwrap();
        let b = all.define(0, "n".into()).unwrap();
        assert_ne!(a, b);
        all.increment(a, 2).unwrap();
        all.increment(b, 3).unwrap();
        assert_eq!(all.named("n").unwrap().value, 5);
        assert_eq!(all.increment(a, 0), Err(Status::BadArgument));
        assert_eq!(all.increment(999, 1), Err(Status::NotFound));

        let gauge = all.define(1, "g".into()).unwrap();
        all.increment(gauge, 3).unwrap();
        all.increment(gauge, -2).unwrap();
        assert_eq!(all.get(gauge), Ok(1));

        let histogram = all.define(2, "h".into()).unwrap();
        all.record(histogram, 7).unwrap();
        assert_eq!(all.named("h").unwrap().samples, [7]);
        assert_eq!(all.increment(histogram, 1), Err(Status::BadArgument));
        assert_eq!(all.define(3, "x".into()), Err(Status::BadArgument));
    }
}
