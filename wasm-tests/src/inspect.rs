//! What a test may ask a worker.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    host::Host,
    metrics::Metric,
    state::{Fault, Log},
    status::Status,
};

impl Host {
    /// The host call `name` gives `status` the next `times` times.
    pub fn fault(&mut self, name: &str, status: Status, times: usize) {
        self.store
            .data_mut()
            .faults
            .insert(name.to_owned(), Fault { status, times });
    }

    /// Everything logged so far.
    pub fn logs(&self) -> &[Log] {
        &self.state().logs
    }

    /// The stat of that name.
    pub fn metric(&self, name: &str) -> Option<&Metric> {
        self.state().metrics.named(name)
    }

    /// All stats by name.
    pub fn metrics(&self) -> &BTreeMap<String, Metric> {
        self.state().metrics.all()
    }

    /// How often the property of that path (its parts with NUL between them) was asked for.
    pub fn reads(&self, property: &str) -> usize {
        self.state()
            .reads
            .get(property.as_bytes())
            .copied()
            .unwrap_or_default()
    }

    /// The tick period of the present root context, if it ticks.
    pub fn tick_period(&self) -> Option<Duration> {
        self.state().roots.get(&self.root)?.tick.map(|(period, _)| period)
    }

    /// Root contexts that exist.
    pub fn root_contexts(&self) -> usize {
        self.state().roots.len()
    }

    /// Requests whose contexts exist.
    pub fn open_requests(&self) -> usize {
        self.state().exchanges.len()
    }

    /// Instructions run so far.
    pub fn instructions(&self) -> u64 {
        u64::MAX - self.store.get_fuel().unwrap_or_default()
    }

    /// The size of the filter's memory in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.state()
            .guest
            .as_ref()
            .map_or(0, |guest| guest.memory.data_size(&self.store))
    }
}
