//! What organisations' actions count.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// An organisation of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Labels {
    org: String,
}

/// What organisations' actions count.
#[derive(Debug, Default, Clone)]
pub struct ActionMetrics {
    pub(super) runs: Family<Labels, Counter>,
    pub(super) changes: Family<Labels, Counter>,
    pub(super) timeouts: Family<Labels, Counter>,
    pub(super) automations: Family<Labels, Counter>,
    pub(super) automation_failures: Family<Labels, Counter>,
    pub(super) tell_failures: Counter,
}

impl ActionMetrics {
    /// A run was written to its organisation's topic.
    pub fn run_written(&self, org: &str) {
        count(&self.runs, org);
    }

    /// A change was written to its organisation's change log.
    pub fn change_told(&self, org: &str) {
        count(&self.changes, org);
    }

    /// A run took too long, and was ended.
    pub fn timed_out(&self, org: &str) {
        count(&self.timeouts, org);
    }

    /// An automation was started.
    pub fn automation_started(&self, org: &str) {
        count(&self.automations, org);
    }

    /// An automation was not started that should have been, or nobody knows whether it should.
    pub fn automation_failed(&self, org: &str) {
        count(&self.automation_failures, org);
    }

    /// Something could not be told yet.
    pub fn failed_to_tell(&self) {
        self.tell_failures.inc();
    }
}

fn count(family: &Family<Labels, Counter>, org: &str) {
    family.get_or_create(&Labels { org: org.to_owned() }).inc();
}
