//! What waits of each topic, and at what rate it is acknowledged.

use std::collections::HashMap;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::{TopicLabels, TopicMetrics};

/// What waits of a topic in one producer, and what becomes of it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Records that wait.
    pub records: u64,
    /// Bytes of them, with what Kafka's protocol adds.
    pub bytes: u64,
    /// Such bytes that are acknowledged in a second.
    pub per_second: u64,
    /// Such bytes that may wait, where more are refused.
    pub limit: Option<u64>,
}

/// The loads of all producers, by cluster and entry of the allowlist.
#[derive(Debug, Default)]
pub struct Loads(HashMap<TopicLabels, Load>);

impl Loads {
    /// Adds what one producer has of one topic.
    pub fn add(&mut self, topic: &TopicMetrics, load: Load) {
        let sum = self.0.entry(topic.records.topic.clone()).or_default();
        sum.records += load.records;
        sum.bytes += load.bytes;
        sum.per_second += load.per_second;
        if let Some(limit) = load.limit {
            sum.limit = Some(sum.limit.unwrap_or_default() + limit);
        }
    }
}

/// The gauges.
#[derive(Debug, Default)]
pub(super) struct Families {
    pub(super) records: Family<TopicLabels, Gauge>,
    pub(super) bytes: Family<TopicLabels, Gauge>,
    pub(super) per_second: Family<TopicLabels, Gauge>,
    pub(super) limit: Family<TopicLabels, Gauge>,
}

impl Families {
    pub(super) fn set(&self, loads: Loads) {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        for (labels, load) in loads.0 {
            self.records.get_or_create(&labels).set(number(load.records));
            self.bytes.get_or_create(&labels).set(number(load.bytes));
            self.per_second
                .get_or_create(&labels)
                .set(number(load.per_second));
            match load.limit {
                Some(limit) => {
                    self.limit.get_or_create(&labels).set(number(limit));
                }
                None => {
                    self.limit.remove(&labels);
                }
            }
        }
    }
}
