//! Request and reply: a record is written with a correlation id, and whoever sent it is answered with the record that comes
//! back under the same id. `docs/request-reply.md` describes it.
//!
//! [`exchange`](Replies::exchange) writes a record and waits for its reply, which an [`inbox`] finds; who waited long enough is
//! told where to ask for it: a [`token`] says what is looked for and from where on, so that any sidecar of the
//! cluster finds it by reading ([`poll`]), and none keeps anything. [`answer`] makes HTTP of it.

mod answer;
mod inbox;
mod poll;
pub mod token;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use sluice_proto::prefer::{HEADER, Preferences};
use sluice_proto::v1::{self, ErrorClass};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::inbox::{Inbox, Place};
use self::token::{Seal, Token};
use crate::config::{Config, ReplyTopic};
use crate::kafka::record::{Failure, Outcome};
use crate::metrics::{Metrics, ReplyMetrics, ReplyOutcome};
use crate::produce::Gateway;
use crate::produce::gather::Told;
use crate::read::Reads;
use crate::shutdown::{Phase, Shutdown};

pub(crate) use self::answer::respond;
pub use self::poll::router;

/// The longest correlation id that a client may bring, in bytes.
const MAX_ID: usize = 255;

/// Everything that waits for replies.
pub struct Replies {
    gateway: Arc<Gateway>,
    /// By cluster and topic.
    inboxes: HashMap<(String, String), Arc<Inbox>>,
    default_cluster: Option<String>,
    seal: Seal,
    location: String,
    room: Arc<Semaphore>,
    max_waiting: usize,
    /// What is left of a shutdown's time for who waits when it begins.
    last_wait: Duration,
    shutdown: Shutdown,
    counts: ReplyMetrics,
    metrics: Arc<Metrics>,
}

/// A request on its way to a reply.
struct Begun {
    inbox: Arc<Inbox>,
    place: Place,
    /// Counted while the request waits.
    _room: Option<OwnedSemaphorePermit>,
    id: Vec<u8>,
    wait: Duration,
    reply_to: v1::ReplyTo,
    received: Instant,
}

impl Replies {
    /// What `config` says of replies. Connects to nothing: a topic is followed from the first request on that waits there.
    /// Records go to `gateway`, and replies are read with the clients of `reads`. Waits end early when `shutdown` drains.
    pub fn new(
        config: &Config,
        gateway: Arc<Gateway>,
        reads: Arc<Reads>,
        metrics: Arc<Metrics>,
        shutdown: Shutdown,
    ) -> Arc<Self> {
        let counts = metrics.replies();
        let settings = &config.replies;
        let inboxes = settings.topics.iter().map(|entry| {
            let counted = counts.of(&entry.cluster, &entry.topic);
            let inbox = Inbox::new(Arc::clone(entry), Arc::clone(&reads), counted);
            ((entry.cluster.clone(), entry.topic.clone()), inbox)
        });
        Arc::new(Self {
            inboxes: inboxes.collect(),
            default_cluster: config.default_cluster.clone(),
            seal: Seal::new(settings.token_key.as_ref()),
            location: settings.location.clone(),
            room: Arc::new(Semaphore::new(settings.max_waiting)),
            max_waiting: settings.max_waiting,
            last_wait: config.grace_period / 2,
            gateway,
            shutdown,
            counts,
            metrics,
        })
    }

    /// Writes a record, and waits for the reply that its `reply_to` asks for, until `left` at the latest: then nobody wants it
    /// any more.
    pub(crate) async fn exchange(&self, record: v1::Record, left: impl Future<Output = ()>) -> Told {
        let received = Instant::now();
        let mut record = record;
        let Some(reply_to) = record.reply_to.take() else {
            return self.gateway.settle(record).await;
        };
        let begun = match self.begin(&mut record, reply_to, received).await {
            Ok(begun) => begun,
            Err(failure) => {
                self.metrics.refused(failure.class);
                return failure.into();
            }
        };
        let mut told = self.gateway.settle(record).await;
        let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed(_));
        if told.outcomes.iter().any(failed) {
            return told;
        }
        told.answer = self.reply(begun, left).await;
        told
    }

    /// Sees to it that the reply is found, and marks the record as one that has a reply.
    async fn begin(
        &self,
        record: &mut v1::Record,
        mut reply_to: v1::ReplyTo,
        received: Instant,
    ) -> Result<Begun, Failure> {
        let topics = std::mem::take(&mut reply_to.topics);
        if !topics.is_empty() {
            match &mut record.template {
                Some(template) => template.topics = topics,
                None => record.topics = topics,
            }
        }
        if record.idempotency.is_some() {
            return Err(invalid(
                "a record with an idempotency key cannot wait for a reply: when it comes again it is not written, and nobody \
                 would reply to it",
            ));
        }
        let inbox = self.inbox(&record.cluster, &reply_to.topic)?;
        let id = self.id(&reply_to)?;
        let entry = inbox.entry();
        let wait = Duration::from_millis(reply_to.wait_ms.into()).min(entry.max_wait);
        let room = match wait.is_zero() {
            true => None,
            false => Some(self.room()?),
        };
        let deadline = received + self.gateway.wait(record);
        let place = inbox.place((!wait.is_zero()).then_some(&*id));
        let place = tokio::time::timeout_at(deadline.into(), place).await;
        let place = place.map_err(|_late| {
            Failure::new(
                ErrorClass::ClusterUnavailable,
                format!(
                    "the end of the reply topic {:?} was not found in time; the record is not written",
                    entry.topic
                ),
            )
        })??;
        mark(record, entry, &id);
        Ok(Begun {
            place,
            _room: room,
            id,
            wait,
            reply_to,
            received,
            inbox,
        })
    }

    /// Waits for the reply to a record that is written. Nothing, if nobody wants it any more.
    async fn reply(&self, begun: Begun, left: impl Future<Output = ()>) -> Option<v1::Answer> {
        let Begun {
            inbox,
            mut place,
            _room,
            id,
            wait,
            reply_to,
            received,
        } = begun;
        let _waiting = self.counts.waiting();
        let entry = inbox.entry();
        let mut found = None;
        if !wait.is_zero() {
            let mut shutdown = self.shutdown.clone();
            let ending = async {
                shutdown.reached(Phase::Draining).await;
                tokio::time::sleep(self.last_wait).await;
            };
            tokio::select! {
                biased;
                record = place.reply() => found = Some(record),
                () = left => {
                    inbox.count(ReplyOutcome::Left);
                    return None;
                }
                () = tokio::time::sleep_until((received + wait).into()) => {}
                () = ending => {}
            }
        }
        let applied = Applied {
            wait: reply_to.wait_preferred.then_some(wait),
            respond_async: reply_to.respond_async && found.is_none(),
        };
        if let Some(record) = found {
            inbox.count(ReplyOutcome::Answered);
            return Some(answer::of_record(entry, &record, &id, applied));
        }
        let token = Token::new(entry, &id, place.positions());
        let location = format!("{}{}", self.location, self.seal.seal(&token));
        if reply_to.respond_async {
            inbox.count(ReplyOutcome::Pending);
            return Some(answer::pending(&id, &location, applied));
        }
        inbox.count(ReplyOutcome::TimedOut);
        Some(answer::late(
            &id,
            &location,
            (entry.topic.as_str(), wait),
            applied,
        ))
    }

    /// What a request of the REST face for `topic` asks for; nothing, if it does not prefer to wait, or nobody replies to it.
    pub(crate) fn preferred(&self, cluster: &str, topic: &str, headers: &HeaderMap) -> Option<v1::ReplyTo> {
        if self.inboxes.is_empty() || !headers.contains_key(HEADER) {
            return None;
        }
        let values = headers.get_all(HEADER).iter();
        let prefers = Preferences::read(values.map(|value| value.as_bytes()));
        if prefers.wait.is_none() && !prefers.respond_async {
            return None;
        }
        let cluster = self.cluster(cluster)?;
        let entries = self.inboxes.values().map(|inbox| inbox.entry());
        let mut entries = entries.filter(|entry| entry.cluster == cluster && entry.requests.allows(topic));
        // Each topic's own before those that several have by their beginning, and then by name: always the same.
        let exact = |entry: &ReplyTopic| entry.requests.0.iter().any(|one| one == topic);
        let first = entries.next()?;
        let entry = entries.fold(first, |best, one| {
            let rank = |entry: &ReplyTopic| (!exact(entry), entry.topic.clone());
            if rank(one) < rank(best) { one } else { best }
        });
        let wait_ms = prefers.wait.unwrap_or_default().saturating_mul(1000);
        Some(v1::ReplyTo {
            topic: entry.topic.clone(),
            wait_ms,
            wait_preferred: prefers.wait.is_some(),
            respond_async: prefers.respond_async,
            ..v1::ReplyTo::default()
        })
    }

    fn cluster<'a>(&'a self, named: &'a str) -> Option<&'a str> {
        match named {
            "" => self.default_cluster.as_deref(),
            named => Some(named),
        }
    }

    fn inbox(&self, cluster: &str, topic: &str) -> Result<Arc<Inbox>, Failure> {
        let cluster = self.cluster(cluster).unwrap_or_default();
        let found = self.inboxes.get(&(cluster.to_owned(), topic.to_owned()));
        found.map(Arc::clone).ok_or_else(|| {
            Failure::new(
                ErrorClass::RouteMisconfigured,
                format!("replies cannot come from topic {topic:?} of cluster {cluster:?}: it is not in the sidecar's replies.topics"),
            )
        })
    }

    /// A place among those that wait, until it is dropped.
    fn room(&self) -> Result<OwnedSemaphorePermit, Failure> {
        Arc::clone(&self.room).try_acquire_owned().map_err(|_full| {
            Failure::new(
                ErrorClass::BufferFull,
                format!(
                    "{} requests wait for replies, which is all that may (the sidecar's replies.max_waiting)",
                    self.max_waiting
                ),
            )
        })
    }

    /// The correlation id: one that nobody can guess, unless the client brings its own.
    fn id(&self, reply_to: &v1::ReplyTo) -> Result<Vec<u8>, Failure> {
        let own = &reply_to.correlation_id;
        if own.is_empty() {
            return token::unguessable().map_err(|error| {
                Failure::new(
                    ErrorClass::SidecarUnavailable,
                    format!("no correlation id can be made: {error}"),
                )
            });
        }
        if own.len() > MAX_ID {
            return Err(invalid(format!(
                "the correlation id has {} bytes, and may have {MAX_ID}",
                own.len()
            )));
        }
        if !self.seal.is_keyed() {
            return Err(Failure::new(
                ErrorClass::RouteMisconfigured,
                "the correlation id is the client's own, and whoever guesses it could ask for the reply: set the sidecar's \
                 replies.token_key",
            ));
        }
        Ok(own.to_vec())
    }
}

/// What was honoured of what a request prefers.
#[derive(Debug, Clone, Copy, Default)]
struct Applied {
    wait: Option<Duration>,
    respond_async: bool,
}

/// Gives the record its correlation id, and says where the reply is to go. What has these names already is replaced.
fn mark(record: &mut v1::Record, entry: &ReplyTopic, id: &[u8]) {
    let ours =
        |name: &str| name == entry.correlation_header || entry.reply_topic_header.as_deref() == Some(name);
    record.headers.retain(|header| !ours(&header.name));
    record.headers.push(v1::Header {
        name: entry.correlation_header.clone(),
        value: Some(id.to_vec()),
    });
    if let Some(name) = &entry.reply_topic_header {
        record.headers.push(v1::Header {
            name: name.clone(),
            value: Some(entry.topic.clone().into_bytes()),
        });
    }
}

fn invalid(text: impl Into<std::borrow::Cow<'static, str>>) -> Failure {
    Failure::new(ErrorClass::InvalidRequest, text)
}
