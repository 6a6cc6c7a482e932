//! Records that clients write on WebSockets: to the gateway, as REST's go, and their fates back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::{HeaderMap, Uri};
use serde_json::{Value, json};
use sluice_proto::class::{self, Row};
use sluice_proto::v1::{self, ErrorClass};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::access::Writable;
use super::command;
use crate::config::check_topic;
use crate::kafka::record::{Failure, Outcome, Recipient};
use crate::produce::applied::Origin;
use crate::produce::{FateSink, Gateway};

/// How many records of one socket may be under way: written and not answered.
pub(super) const RECORDS: usize = 256;
/// How many KiB of messages they may be together.
pub(super) const KIB: usize = 8 * 1024;

/// What a socket's client may write, and how.
pub(super) struct Publisher {
    pub(super) gateway: Arc<Gateway>,
    /// What lets the client write.
    pub(super) entries: Vec<Writable>,
    pub(super) cluster: String,
    /// That of a record that names none.
    pub(super) topic: Option<Arc<str>>,
    /// Whose the records are.
    pub(super) client: u64,
    /// The request that opened the socket.
    pub(super) request: (Uri, HeaderMap),
    pub(super) answers: Arc<Answers>,
    pub(super) records: Arc<Semaphore>,
    pub(super) kib: Arc<Semaphore>,
    /// What the records of all sockets may hold, in KiB.
    pub(super) of_all: Arc<Semaphore>,
}

/// What a record that is under way holds of the bounds.
pub(super) type Held = [OwnedSemaphorePermit; 3];

/// Something to be said to the client; what it holds is given back when it was said.
pub(super) struct Reply {
    pub(super) text: String,
    pub(super) held: Option<Held>,
}

impl Publisher {
    /// Has a record written that came in a message of `size` bytes. Waits while there are too many under way: who calls reads
    /// nothing more of the client in the meantime. Its answer comes by way of the [`Answers`].
    pub(super) async fn take(&self, id: Option<String>, mut record: v1::Record, size: usize) {
        let kib = u32::try_from(size.div_ceil(1024).max(1)).unwrap_or(u32::MAX);
        let all = async {
            Ok::<Held, tokio::sync::AcquireError>([
                Arc::clone(&self.records).acquire_owned().await?,
                Arc::clone(&self.kib).acquire_many_owned(kib).await?,
                Arc::clone(&self.of_all).acquire_many_owned(kib).await?,
            ])
        };
        // They are never closed.
        let Ok(held) = all.await else { return };
        if record.topics.is_empty()
            && let Some(topic) = &self.topic
        {
            record.topics.push((**topic).to_owned());
        }
        let topic = record.topics.first().cloned().unwrap_or_default();
        let may = self.may(&topic);
        let token = self.answers.enter(id, topic, held);
        if let Err(failure) = may {
            self.answers.settle_one(token, &[failure.into()], false);
            return;
        }
        record.id = token;
        record.client = self.client;
        record.cluster.clone_from(&self.cluster);
        command::fingerprint(&mut record);
        let (uri, headers) = &self.request;
        let origin = Origin {
            method: "GET",
            uri,
            headers,
        };
        let applied = self
            .gateway
            .apply_template(&mut record, &origin, |value| Ok(Some(value.clone())));
        if let Err(failure) = applied {
            self.answers.settle_one(token, &[failure.into()], false);
            return;
        }
        self.gateway.submit(vec![record], &self.answers);
    }

    /// Whether the client may write the topic; the gateway asks the cluster's `allowed_topics` besides.
    fn may(&self, topic: &str) -> Result<(), Failure> {
        let refused = |text: String| Err(Failure::new(ErrorClass::TopicNotAllowed, text));
        if topic.is_empty() {
            return Err(Failure::new(
                ErrorClass::InvalidRequest,
                "publish: topic is missing, and the socket reads several",
            ));
        }
        if let Err(why) = check_topic(topic) {
            return Err(Failure::new(ErrorClass::InvalidRequest, why));
        }
        if self.entries.iter().any(|entry| entry.allows(topic)) {
            return Ok(());
        }
        refused(format!(
            "no entry of the sidecar's reads lets the caller write topic {topic:?} here: `publish: true` would"
        ))
    }
}

/// Turns the fates of records into messages.
pub(super) struct Answers {
    waiting: Mutex<Waiting>,
    to: UnboundedSender<Reply>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    by_token: HashMap<u64, (Option<String>, String, Held)>,
}

impl Answers {
    pub(super) fn new(to: UnboundedSender<Reply>) -> Arc<Self> {
        Arc::new(Self {
            waiting: Mutex::default(),
            to,
        })
    }

    fn enter(&self, id: Option<String>, topic: String, held: Held) -> u64 {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let token = waiting.next;
        waiting.next += 1;
        waiting.by_token.insert(token, (id, topic, held));
        token
    }

    fn settle_one(&self, token: u64, outcomes: &[Outcome], replayed: bool) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((id, topic, held)) = waiting.by_token.remove(&token) else {
            return;
        };
        drop(waiting);
        let reply = Reply {
            text: answer(id.as_deref(), &topic, outcomes.first(), replayed),
            held: Some(held),
        };
        // The client may have gone.
        drop(self.to.send(reply));
    }
}

impl Recipient for Answers {
    fn settle(&self, outcomes: &mut Vec<(u64, Outcome)>) {
        for (token, outcome) in outcomes.drain(..) {
            self.settle_one(token, &[outcome], false);
        }
    }
}

impl FateSink for Answers {
    fn settle_many(&self, token: u64, outcomes: Vec<Outcome>, replayed: bool) {
        self.settle_one(token, &outcomes, replayed);
    }

    fn chose(&self, token: u64, topic: &str) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, of, _)) = waiting.by_token.get_mut(&token) {
            topic.clone_into(of);
        }
    }
}

/// What the client is told of its record.
fn answer(id: Option<&str>, topic: &str, outcome: Option<&Outcome>, replayed: bool) -> String {
    let mut body = match outcome {
        Some(Outcome::Stored { partition, offset }) => {
            json!({ "topic": topic, "status": 200, "partition": partition, "offset": offset })
        }
        Some(Outcome::Accepted) => json!({ "topic": topic, "status": 202 }),
        Some(Outcome::Failed(failure)) => failed(failure, topic),
        None => failed(
            &Failure::new(ErrorClass::OutcomeUnknown, "the record's fate was lost"),
            topic,
        ),
    };
    let kind = if matches!(outcome, Some(Outcome::Stored { .. } | Outcome::Accepted)) {
        "published"
    } else {
        "error"
    };
    if let Some(body) = body.as_object_mut().filter(|_| replayed) {
        body.insert("replayed".to_owned(), true.into());
    }
    tagged(kind, id, &body)
}

fn failed(failure: &Failure, topic: &str) -> Value {
    let Row {
        status,
        code,
        message,
        retry_after,
    } = class::row_of(failure.class);
    let mut body = json!({
        "topic": topic, "status": status, "code": code, "message": message, "error": failure.message
    });
    if let (Some(seconds), Some(body)) = (retry_after, body.as_object_mut()) {
        body.insert("retryAfter".to_owned(), seconds.into());
    }
    body
}

/// A message of type `kind`: the members of `body`, and the client's `id` as it wrote it.
pub(super) fn tagged(kind: &str, id: Option<&str>, body: &Value) -> String {
    let id = id.map(|id| format!(",\"id\":{id}")).unwrap_or_default();
    let members = body.to_string();
    let members = members.strip_prefix('{').unwrap_or_default();
    let between = if members.len() > 1 { "," } else { "" };
    format!("{{\"type\":\"{kind}\"{id}{between}{members}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Value {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    #[test]
    fn each_fate_has_its_message() {
        let stored = Outcome::Stored {
            partition: 1,
            offset: 2,
        };
        assert_eq!(
            parsed(&answer(Some("\"a\""), "t", Some(&stored), true)),
            json!({"type": "published", "id": "a", "topic": "t", "status": 200, "partition": 1, "offset": 2, "replayed": true})
        );
        assert_eq!(
            parsed(&answer(None, "t", Some(&Outcome::Accepted), false)),
            json!({"type": "published", "topic": "t", "status": 202})
        );
        let full = Failure::new(ErrorClass::BufferFull, "full").into();
        assert_eq!(
            parsed(&answer(Some("7"), "t", Some(&full), false)),
            json!({"type": "error", "id": 7, "topic": "t", "status": 503, "code": "buffer_full",
                "message": "too many records are waiting", "error": "full", "retryAfter": 1})
        );
        assert_eq!(
            parsed(&answer(Some("7"), "t", None, false))["code"],
            "outcome_unknown"
        );
        assert_eq!(
            parsed(&tagged("ok", Some("1"), &json!({}))),
            json!({"type": "ok", "id": 1})
        );
    }
}
