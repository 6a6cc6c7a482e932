//! The stream: `sluice.v1.Records/Produce`.
//!
//! One task serves a call: it takes what the client sent, hands it on, and sends what became of it. When the
//! client does not read its replies the task does not run and so nothing more is read: what a call can hold is
//! bounded by what the producers hold.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use sluice_proto::v1::records_server::{Records, RecordsServer};
use sluice_proto::v1::{Fate, ProduceReply, ProduceRequest, Record};
use sluice_proto::{STREAM_HEADER, STREAM_VERSION};
use tokio::sync::oneshot;
use tokio_stream::Stream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use super::gather::Told;
use super::{FateSink, Gateway, wire};
use crate::kafka::record::{Outcome, Recipient};
use crate::metrics::Metrics;
use crate::replies::Replies;
use crate::shutdown::{Phase, Shutdown};

/// How many messages are taken before replies are looked after.
const MESSAGES_AT_ONCE: usize = 16;
/// How many fates a reply carries at most.
const FATES_AT_ONCE: usize = 4096;
/// How long records that were on their way when the drain was told are still taken.
const DRAIN_WINDOW: Duration = Duration::from_millis(500);

/// The service, for a router. Messages of more than `max_bytes` end their call.
pub fn service(
    gateway: Arc<Gateway>,
    replies: Arc<Replies>,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
    max_bytes: usize,
) -> RecordsServer<impl Records> {
    RecordsServer::new(Service {
        gateway,
        replies,
        metrics,
        shutdown,
    })
    .max_decoding_message_size(max_bytes)
}

struct Service {
    gateway: Arc<Gateway>,
    replies: Arc<Replies>,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
}

#[tonic::async_trait]
impl Records for Service {
    type ProduceStream = Call;

    async fn produce(
        &self,
        request: Request<Streaming<ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStream>, Status> {
        if self.shutdown.phase() >= Phase::Draining {
            return Err(Status::unavailable("the sidecar is shutting down"));
        }
        self.metrics.streams().inc();
        let call = Call {
            requests: Some(request.into_inner()),
            mailbox: Arc::default(),
            gateway: Arc::clone(&self.gateway),
            replies: Arc::clone(&self.replies),
            metrics: Arc::clone(&self.metrics),
            outstanding: 0,
            end: None,
            drain: Drain::Not(reached(&self.shutdown, Phase::Draining)),
            stop: reached(&self.shutdown, Phase::Stopping),
        };
        // Sent before anything is read: the client waits for it before it writes.
        let mut response = Response::new(call);
        response
            .metadata_mut()
            .insert(STREAM_HEADER, MetadataValue::from_static(STREAM_VERSION));
        Ok(response)
    }
}

type Soon = Pin<Box<dyn Future<Output = ()> + Send>>;

fn reached(shutdown: &Shutdown, phase: Phase) -> Soon {
    let mut shutdown = shutdown.clone();
    Box::pin(async move { shutdown.reached(phase).await })
}

/// How far the drain has come.
enum Drain {
    /// Resolves when it begins.
    Not(Soon),
    /// The client was told; resolves when nothing is on its way any more.
    Told(Soon),
    Over,
}

/// One call.
struct Call {
    /// Gone when the client sends no more.
    requests: Option<Streaming<ProduceRequest>>,
    mailbox: Arc<Mailbox>,
    gateway: Arc<Gateway>,
    replies: Arc<Replies>,
    metrics: Arc<Metrics>,
    /// Records without a fate.
    outstanding: usize,
    /// What the call ends with, once every fate is out.
    end: Option<Status>,
    drain: Drain,
    stop: Soon,
}

impl Stream for Call {
    type Item = Result<ProduceReply, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Drain::Not(begins) = &mut this.drain
            && begins.as_mut().poll(cx).is_ready()
        {
            this.drain = Drain::Told(Box::pin(tokio::time::sleep(DRAIN_WINDOW)));
            return Poll::Ready(Some(Ok(ProduceReply {
                fates: Vec::new(),
                drain: true,
            })));
        }
        if let Drain::Told(over) = &mut this.drain
            && over.as_mut().poll(cx).is_ready()
        {
            this.drain = Drain::Over;
        }
        this.read(cx);
        let fates = this.mailbox.take(cx.waker());
        if !fates.is_empty() {
            this.outstanding = this.outstanding.saturating_sub(fates.len());
            return Poll::Ready(Some(Ok(ProduceReply { fates, drain: false })));
        }
        if this.outstanding == 0 && (this.requests.is_none() || matches!(this.drain, Drain::Over)) {
            return Poll::Ready(this.end.take().map(Err));
        }
        if this.stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(Status::unavailable("the sidecar stopped"))));
        }
        Poll::Pending
    }
}

impl Call {
    fn read(&mut self, cx: &mut Context<'_>) {
        let Some(requests) = &mut self.requests else {
            return;
        };
        for _ in 0..MESSAGES_AT_ONCE {
            match Pin::new(&mut *requests).poll_next(cx) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(message))) => {
                    let mut records = message.records;
                    if records
                        .iter()
                        .any(|record| record.reply_to.is_some() || record.withdrawn)
                    {
                        self.outstanding += self.mailbox.await_replies(&mut records, &self.replies);
                    }
                    self.outstanding += records.len();
                    self.gateway.submit(records, &self.mailbox);
                }
                Poll::Ready(end) => {
                    self.end = end.and_then(Result::err);
                    self.requests = None;
                    return;
                }
            }
        }
        // There may be more: come back after the replies.
        cx.waker().wake_by_ref();
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.mailbox.close();
        self.metrics.streams().dec();
    }
}

/// The fates of a call's records on their way to it.
#[derive(Default)]
struct Mailbox(Mutex<Mail>);

#[derive(Default)]
struct Mail {
    single: Vec<(u64, Outcome)>,
    many: Vec<(u64, Told)>,
    /// By id, the records whose replies are waited for: what is dropped ends the wait.
    waits: HashMap<u64, oneshot::Sender<()>>,
    /// The topics that templates chose, by the record, until its fate is taken.
    chosen: HashMap<u64, String>,
    /// The call is over: nobody reads this.
    closed: bool,
    waker: Option<Waker>,
}

impl Mailbox {
    fn put(&self, put: impl FnOnce(&mut Mail)) {
        let waker = {
            let mut mail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if mail.closed {
                return;
            }
            put(&mut mail);
            mail.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// What is there, up to a bound; wakes `waker` when there is (more).
    fn take(&self, waker: &Waker) -> Vec<Fate> {
        let mut mail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let many = mail.many.len().min(FATES_AT_ONCE);
        let single = mail.single.len().min(FATES_AT_ONCE - many);
        let Mail {
            single: singles,
            many: manys,
            chosen,
            ..
        } = &mut *mail;
        let mut fates: Vec<Fate> = Vec::with_capacity(many + single);
        fates.extend(
            singles
                .drain(..single)
                .map(|(id, outcome)| wire::single(id, outcome, chosen.remove(&id))),
        );
        fates.extend(manys.drain(..many).map(|(id, mut told)| {
            told.topic = told.topic.or_else(|| chosen.remove(&id));
            wire::fate(id, told)
        }));
        if fates.is_empty() {
            mail.waker = Some(waker.clone());
        }
        fates
    }

    /// Takes the records out whose replies are waited for, each of which goes its way by itself, and the withdrawals. How many
    /// fates are due for them.
    fn await_replies(self: &Arc<Self>, records: &mut Vec<Record>, replies: &Arc<Replies>) -> usize {
        for withdrawn in records.extract_if(.., |record| record.withdrawn) {
            self.put(|mail| drop(mail.waits.remove(&withdrawn.id)));
        }
        let mut due = 0;
        for record in records.extract_if(.., |record| record.reply_to.is_some()) {
            due += 1;
            let (waits, left) = oneshot::channel();
            let id = record.id;
            self.put(|mail| drop(mail.waits.insert(id, waits)));
            let (mailbox, replies) = (Arc::clone(self), Arc::clone(replies));
            tokio::spawn(async move {
                let left = async {
                    let _gone = left.await;
                };
                let told = replies.exchange(record, left).await;
                mailbox.put(|mail| {
                    mail.waits.remove(&id);
                    mail.many.push((id, told));
                });
            });
        }
        due
    }

    fn close(&self) {
        let mut mail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *mail = Mail {
            closed: true,
            ..Mail::default()
        };
    }
}

impl Recipient for Mailbox {
    fn settle(&self, outcomes: &mut Vec<(u64, Outcome)>) {
        self.put(|mail| mail.single.append(outcomes));
        outcomes.clear();
    }
}

impl FateSink for Mailbox {
    fn settle_many(&self, token: u64, outcomes: Vec<Outcome>, replayed: bool) {
        let told = Told {
            outcomes,
            replayed,
            topic: None,
            answer: None,
        };
        self.put(|mail| mail.many.push((token, told)));
    }

    fn chose(&self, token: u64, topic: &str) {
        let mut mail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !mail.closed {
            mail.chosen.insert(token, topic.to_owned());
        }
    }
}
