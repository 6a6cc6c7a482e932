//! Where a subscription's events go: its sink, made when it is started.

use std::sync::Arc;

use super::engine::Connect;
use super::sink::egress::{Author, Egress};
use super::sink::{Target, Usage, Webhook};
use super::spec::{Sink, Spec};
use crate::metrics::Metrics;

/// Where a handler is called, and how.
#[derive(Debug)]
pub struct Handler {
    /// Where.
    pub target: Target,
    /// It takes any bytes: values need not be JSON.
    pub raw: bool,
}

/// What is known of the services that were registered, and of who made a subscription.
pub trait Directory: Send + Sync + 'static {
    /// Where a handler of a service is called.
    ///
    /// # Errors
    /// There is no such service or handler; for people.
    fn handler(&self, service: &str, handler: &str) -> Result<Handler, String>;

    /// Who made the subscription with this id.
    fn author(&self, id: &str) -> Author;
}

/// Makes the sinks of subscriptions.
pub struct Sinks {
    /// What may be called.
    pub egress: Arc<Egress>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where services are.
    pub directory: Arc<dyn Directory>,
}

impl Connect for Sinks {
    type Sink = Webhook;

    fn connect(&self, id: &str, spec: &Spec) -> Result<Webhook, String> {
        let Handler { target, raw } = match &spec.sink {
            Sink::Url(url) => Handler {
                target: Target::webhook(url)?,
                raw: false,
            },
            Sink::Service { service, handler } => self.directory.handler(service, handler)?,
        };
        let usage = Usage {
            author: self.directory.author(id),
            batches: spec.batch.is_some(),
            replies: spec.replies(),
            raw,
        };
        Webhook::new(target, &spec.webhook, usage, &self.egress, self.metrics.sinks())
    }
}
