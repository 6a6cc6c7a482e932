//! Hands events to an HTTP handler or a webhook. `docs/webhooks.md` is the reference.
//!
//! [`Options`] are what may be set, [`Target`] is the URL, [`egress`] says which targets may be called at all, and [`Webhook`]
//! makes a request of events (`request`, with `headers`, `cloudevents`, `template` and `signature` for its parts), sends it
//! (`client`) and says what the answer means (`answer`).

mod answer;
pub mod client;
mod cloudevents;
mod credentials;
pub mod egress;
mod headers;
mod options;
#[cfg(feature = "parsers")]
pub mod parsers;
mod request;
mod signature;
mod target;
mod template;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::SystemTime;

use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{HeaderMap, Method};
use url::Url;

use self::answer::Reading;
use self::client::Client;
use self::credentials::Credentials;
use self::egress::{Author, Egress, Place};
use self::request::Shape;
use self::template::Templates;
use super::event::{Deliver, Event, Outcome};
use crate::config::Secret;
use crate::jq::Failure;
use crate::kafka::oidc;
use crate::metrics::SinkMetrics;

pub use self::answer::Statuses;
pub use self::cloudevents::{CloudEvents, Mode};
pub use self::credentials::Authentication;
pub use self::options::{Inline, Options, Secrets, redact};
pub use self::request::{Batch, BatchFormat, BatchItems};
pub use self::signature::{Key, Signatures};
pub use self::target::Target;

/// How a subscription uses its sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Who named the target.
    pub author: Author,
    /// Events go in batches, also where one is all there is.
    pub batches: bool,
    /// What a handler answers is wanted.
    pub replies: bool,
    /// The handler takes any bytes, whatever the options say. Values in batches are JSON all the same.
    pub raw: bool,
}

/// A handler or webhook that events are handed to.
pub struct Webhook {
    target: Target,
    shape: Shape,
    templates: Arc<Templates>,
    client: Client,
    credentials: Credentials,
    reading: Reading,
    /// `POST https://…`, for errors.
    shown: String,
    secrets: Vec<Secret>,
    metrics: SinkMetrics,
}

impl Webhook {
    /// One for `target`. Nothing is connected to yet.
    ///
    /// # Errors
    /// The target, the proxy or the token endpoint may not be called, or certificates are not in order: which field, and why.
    pub fn new(
        target: Target,
        options: &Options,
        usage: Usage,
        egress: &Arc<Egress>,
        metrics: SinkMetrics,
    ) -> Result<Self, String> {
        if usage.batches && target.template().is_some() {
            return Err("sink: has {{ … }}, which differs by record: a batch has one URL".to_owned());
        }
        if usage.batches && target.is_by_record() {
            return Err(
                "batch: a handler whose object is named by the record's key takes one event at a time"
                    .to_owned(),
            );
        }
        let reach = |place: &Place, what: &str| {
            egress
                .check(place, usage.author)
                .map_err(|why| format!("{what}: {why}"))
                .map(|()| egress.guard(place.clone(), usage.author))
        };
        let proxy = match &options.proxy {
            None => None,
            Some(proxy) => Some(client::Proxy {
                guard: reach(&proxy.place, "proxy.url")?,
                authorization: proxy.authorization.clone(),
            }),
        };
        let guard = reach(target.place(), "sink")?;
        let client = Client::new(guard, &options.client, proxy.clone())?;
        let credentials = Credentials::new(options.authentication.as_ref(), |settings: &oidc::Settings| {
            let what = "authentication.oauth2.token_endpoint_url";
            let url =
                Url::parse(&settings.endpoint.to_string()).map_err(|error| format!("{what}: {error}"))?;
            let guard = reach(&Place::of(&url).map_err(|why| format!("{what}: {why}"))?, what)?;
            // What is shown to the target is not shown to the issuer.
            let mut own = options.client.clone();
            own.tls.certificate = None;
            own.tls.key = None;
            own.max_connections = None;
            Client::new(guard, &own, proxy.clone())
        })?;
        let method = &options.method;
        let mut secrets = options.secrets.clone();
        secrets.extend(target.secrets());
        Ok(Self {
            shown: format!("{method} {}", target.shown()),
            shape: shape(options, usage),
            templates: Arc::new(Templates {
                url: target.template().cloned(),
                headers: options.templates.clone(),
                text: options.body.as_ref().is_some_and(|body| body.is_text),
                body: options.body.as_ref().map(|body| body.template.clone()),
            }),
            reading: Reading {
                reply: usage.replies,
                ..options.reading.clone()
            },
            target,
            client,
            credentials,
            secrets,
            metrics,
        })
    }

    /// What is called, for a person: no query, no keys, no secrets.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    async fn call(&self, events: &[Event]) -> Result<Outcome, Outcome> {
        let mut rendered = self.templates.render(events).await.map_err(|why| match why {
            Failure::Fault | Failure::NoThread => answer::unanswered(&self.shown, &why.to_string()),
            Failure::Error(_) | Failure::Bound(_) => poison(&format!("a template of the sink: {why}")),
        })?;
        let made = self
            .shape
            .request(&self.target, events, &mut rendered, SystemTime::now());
        let mut draft = made.map_err(|why| poison(&why))?;
        self.metrics.dropped_headers(draft.dropped);
        let unanswered = |why: String| answer::unanswered(&self.shown, &why);
        let shown = self.credentials.header(false).await.map_err(unanswered)?;
        authorise(draft.request.headers_mut(), shown.as_ref());
        let again = self.credentials.may_change().then(|| draft.request.clone());
        let longest = self.reading.max_bytes;
        let mut answer = self
            .client
            .send(draft.request, longest)
            .await
            .map_err(unanswered)?;
        let mut current = shown;
        if let Some(mut again) = again.filter(|_| answer::is_unauthorised(&answer)) {
            let other = self.credentials.header(true).await.map_err(unanswered)?;
            if other != current {
                authorise(again.headers_mut(), other.as_ref());
                answer = self.client.send(again, longest).await.map_err(unanswered)?;
                current = other;
            }
        }
        let mut secrets: Vec<&str> = self.secrets.iter().map(Secret::expose).collect();
        let token = current
            .as_ref()
            .and_then(|value| value.to_str().ok()?.split_once(' '));
        secrets.extend(token.map(|(_, token)| token));
        Ok(answer::outcome(
            answer,
            &self.reading,
            &self.shown,
            SystemTime::now(),
            &secrets,
        ))
    }
}

impl Deliver for Webhook {
    fn place(&self) -> String {
        self.target.place().to_string()
    }

    async fn deliver(&self, events: &[Event]) -> Outcome {
        self.call(events).await.unwrap_or_else(|outcome| outcome)
    }
}

fn authorise(headers: &mut HeaderMap, shown: Option<&HeaderValue>) {
    if let Some(value) = shown {
        headers.insert(AUTHORIZATION, value.clone());
    }
}

fn poison(why: &str) -> Outcome {
    Outcome::Poison {
        why: why.to_owned(),
        status: None,
    }
}

fn shape(options: &Options, usage: Usage) -> Shape {
    let mut headers = HeaderMap::new();
    for (name, value) in &options.headers {
        headers.append(name, value.clone());
    }
    let has_body = !matches!(options.method, Method::GET | Method::HEAD);
    Shape {
        method: options.method.clone(),
        headers,
        raw: options.raw || !has_body || (usage.raw && !usage.batches),
        cloudevents: options.cloudevents.clone(),
        signatures: options.signatures.clone(),
        batch: usage.batches.then_some(options.batch),
    }
}
