//! A connection's place among those that a listener may have.

use std::sync::Arc;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::OwnedSemaphorePermit;

use crate::metrics::Open;

/// A connection's place, for as long as anybody holds it. Requests have it among their extensions: whoever goes on with a
/// connection that was upgraded keeps it, so that it counts, and is waited for when the listener ends.
#[derive(Debug, Clone)]
pub struct Place(#[allow(dead_code, reason = "held until it is dropped")] Arc<(OwnedSemaphorePermit, Open)>);

impl Place {
    pub(super) fn new(permit: OwnedSemaphorePermit, connections: &Gauge) -> Self {
        Self(Arc::new((permit, Open::new(connections))))
    }
}
