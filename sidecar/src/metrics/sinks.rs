//! What handing events to handlers counts.

use prometheus_client::metrics::counter::Counter;

/// What handing events to handlers counts.
#[derive(Debug, Default, Clone)]
pub struct SinkMetrics {
    pub(super) dropped_headers: Counter,
}

impl SinkMetrics {
    /// Record headers that may not be a request's, and were left out of one.
    pub fn dropped_headers(&self, headers: usize) {
        self.dropped_headers.inc_by(headers as u64);
    }
}
