//! The sinks of subscriptions.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::egress::{Author, Egress};
use super::{Options, Target, Usage, Webhook};
use crate::metrics::SinkMetrics;
use crate::subscriptions::spec::Sink;

/// Where the handlers of services are.
pub trait Services: Send + Sync + 'static {
    /// The handler of that name.
    ///
    /// # Errors
    /// There is none; the text names what there is.
    fn find(&self, service: &str, handler: &str) -> Result<Handler, String>;
}

/// A handler of a service.
#[derive(Debug, Clone)]
pub struct Handler {
    /// Its URL.
    pub target: Target,
    /// It takes any bytes, and not JSON only.
    pub raw: bool,
}

/// No services: none can be registered.
#[derive(Debug, Clone, Copy)]
pub struct NoServices;

impl Services for NoServices {
    fn find(&self, service: &str, _: &str) -> Result<Handler, String> {
        Err(format!(
            "no service is named {service:?}, and none can be registered"
        ))
    }
}

/// Makes the sinks of subscriptions.
pub struct Sinks {
    egress: Arc<Egress>,
    configured: BTreeSet<String>,
    services: Arc<dyn Services>,
    metrics: SinkMetrics,
}

impl Sinks {
    /// `configured` are the ids of those subscriptions that the sidecar's configuration has: what they call is the operator's to
    /// choose. Any other was made by the API.
    pub fn new(
        egress: Arc<Egress>,
        configured: impl IntoIterator<Item = String>,
        services: Arc<dyn Services>,
        metrics: SinkMetrics,
    ) -> Self {
        Self {
            egress,
            configured: configured.into_iter().collect(),
            services,
            metrics,
        }
    }

    /// The sink of the subscription `id`. `batches`: its events go in batches; `replies`: what a handler answers is wanted.
    ///
    /// # Errors
    /// There is no such handler, it may not be called, or what is set of it does not fit: which field, and why.
    pub fn make(
        &self,
        id: &str,
        sink: &Sink,
        options: &Options,
        (batches, replies): (bool, bool),
    ) -> Result<Webhook, String> {
        let author = if self.configured.contains(id) {
            Author::Config
        } else {
            Author::Api
        };
        let Handler { target, raw } = match sink {
            Sink::Service { service, handler } => self.services.find(service, handler)?,
            Sink::Url(url) => Handler {
                target: Target::webhook(url).map_err(|why| format!("sink: {why}"))?,
                raw: false,
            },
        };
        let usage = Usage {
            author,
            batches,
            replies,
            raw,
        };
        Webhook::new(target, options, usage, &self.egress, self.metrics.clone())
    }
}
