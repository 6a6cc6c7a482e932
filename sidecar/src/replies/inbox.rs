//! Following a reply topic, and who waits for what there.
//!
//! Whoever is to be replied to takes a [`Place`] before the record is written. Only records that were looked at before then
//! are passed over, and the reply comes after its request: so none is missed, and the place's positions are where another
//! sidecar finds it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sluice_proto::v1::ErrorClass;
use tokio::sync::oneshot;

use crate::config::{ReplyTopic, Reset};
use crate::kafka::reader::{Limits, Record};
use crate::kafka::record::Failure;
use crate::metrics::{ReplyCounts, ReplyOutcome};
use crate::read::Reads;
use crate::read::cursor::Cursor;
use crate::read::failure::{self, Kind};
use crate::read::feed::{Feed, Selection};
use crate::read::from::From;

/// How long the topic is followed after the last request for which it was.
const LINGER: Duration = Duration::from_secs(60);
/// How long it is waited for replies before other things are looked after: new partitions, and whether anybody waits.
const TURN: Duration = Duration::from_secs(1);
/// The pause after Kafka did not answer.
const PAUSE: Duration = Duration::from_millis(500);
/// What is taken at once.
pub(super) const AT_ONCE: Limits = Limits {
    records: 1000,
    bytes: 4 << 20,
};

/// One reply topic.
pub(super) struct Inbox {
    entry: Arc<ReplyTopic>,
    reads: Arc<Reads>,
    counts: ReplyCounts,
    state: Mutex<State>,
    /// One begins to follow at a time.
    beginning: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// What was looked at; nothing, while nobody follows the topic.
    seen: Option<Cursor>,
    /// By correlation id.
    waiting: HashMap<Vec<u8>, oneshot::Sender<Arc<Record>>>,
    /// When it was last needed.
    used: Option<Instant>,
}

/// Where a reply will be.
pub(super) struct Place {
    inbox: Arc<Inbox>,
    seen: Cursor,
    reply: Option<(Vec<u8>, oneshot::Receiver<Arc<Record>>)>,
}

impl Place {
    /// The reply, once it comes. Cancel-safe.
    pub(super) async fn reply(&mut self) -> Arc<Record> {
        if let Some((_, reply)) = &mut self.reply
            && let Ok(record) = reply.await
        {
            return record;
        }
        std::future::pending().await
    }

    /// What was looked at before: the reply is not there.
    pub(super) fn positions(&self) -> &Cursor {
        &self.seen
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((id, reply)) = &mut self.reply else {
            return;
        };
        // Once the reply is here another may wait under the same id, and stays.
        reply.close();
        let mut state = self.inbox.lock();
        if state.waiting.get(id).is_some_and(oneshot::Sender::is_closed) {
            state.waiting.remove(id);
        }
    }
}

impl Inbox {
    pub(super) fn new(entry: Arc<ReplyTopic>, reads: Arc<Reads>, counts: ReplyCounts) -> Arc<Self> {
        Arc::new(Self {
            entry,
            reads,
            counts,
            state: Mutex::default(),
            beginning: tokio::sync::Mutex::default(),
        })
    }

    pub(super) fn entry(&self) -> &ReplyTopic {
        &self.entry
    }

    /// A request came to that.
    pub(super) fn count(&self, outcome: ReplyOutcome) {
        self.counts.outcome(outcome);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a reply that is looked for from now on. With an `id` it is waited for here.
    ///
    /// Fails if the topic cannot be followed, or the id is waited for already.
    pub(super) async fn place(self: &Arc<Self>, id: Option<&[u8]>) -> Result<Place, Failure> {
        loop {
            if let Some(place) = self.place_now(id)? {
                return Ok(place);
            }
            self.begin().await?;
        }
    }

    /// The same, if somebody follows the topic.
    fn place_now(self: &Arc<Self>, id: Option<&[u8]>) -> Result<Option<Place>, Failure> {
        let mut state = self.lock();
        let Some(seen) = state.seen.clone() else {
            return Ok(None);
        };
        state.used = Some(Instant::now());
        let reply = match id {
            None => None,
            Some(id) if state.waiting.contains_key(id) => {
                return Err(Failure::new(
                    ErrorClass::InvalidRequest,
                    "another request waits for a reply with the same correlation id",
                ));
            }
            Some(id) => {
                let (sender, reply) = oneshot::channel();
                state.waiting.insert(id.to_vec(), sender);
                Some((id.to_vec(), reply))
            }
        };
        Ok(Some(Place {
            inbox: Arc::clone(self),
            seen,
            reply,
        }))
    }

    /// Begins to follow the topic at its end, unless somebody does.
    async fn begin(self: &Arc<Self>) -> Result<(), Failure> {
        let _beginning = self.beginning.lock().await;
        if self.lock().seen.is_some() {
            return Ok(());
        }
        let feed = self.open(None).await.map_err(|why| self.unreadable(&why))?;
        {
            let mut state = self.lock();
            state.seen = Some(feed.cursor());
            state.used = Some(Instant::now());
        }
        tokio::spawn(Arc::clone(self).follow(feed));
        Ok(())
    }

    /// The topic after `seen`, or at its end.
    async fn open(&self, seen: Option<Cursor>) -> Result<Feed, failure::Failure> {
        let reader = self.reads.reader(&self.entry.cluster)?;
        let selection = Selection {
            from: seen.is_none().then_some(From::Latest),
            cursor: seen,
            ..self.selection()
        };
        Feed::open(&reader, &selection).await
    }

    /// All of the topic.
    pub(super) fn selection(&self) -> Selection {
        Selection {
            topics: vec![Arc::from(self.entry.topic.as_str())],
            partition: None,
            from: None,
            cursor: None,
            // Of what is not there any more, the oldest that is: nothing that still is there is passed over.
            reset: Reset::Earliest,
        }
    }

    fn unreadable(&self, why: &failure::Failure) -> Failure {
        let class = match why.kind() {
            Kind::UnknownTopic => ErrorClass::UnknownTopic,
            Kind::NotAuthorised => ErrorClass::NotAuthorised,
            _ => ErrorClass::ClusterUnavailable,
        };
        let topic = &self.entry.topic;
        Failure::new(
            class,
            format!(
                "the reply topic {topic:?} cannot be followed, and the record is not written: {}",
                why.text()
            ),
        )
    }

    /// Hands replies to those who wait for them, until nobody has for a while.
    async fn follow(self: Arc<Self>, mut feed: Feed) {
        let selection = self.selection();
        let mut failed = false;
        loop {
            match self.turn(&mut feed, &selection).await {
                Ok(true) => failed = false,
                Ok(false) => return,
                Err(why) => {
                    let (cluster, topic) = (&self.entry.cluster, &self.entry.topic);
                    if !failed {
                        tracing::warn!(%cluster, %topic, why = why.text(), "replies cannot be read");
                    }
                    failed = true;
                    tokio::time::sleep(PAUSE).await;
                    // With what the cluster is reached by now.
                    let seen = self.lock().seen.clone();
                    if let Ok(anew) = self.open(seen).await {
                        feed = anew;
                    }
                }
            }
        }
    }

    /// Takes what is there, or waits for it. `false`: nobody waits any more.
    async fn turn(&self, feed: &mut Feed, selection: &Selection) -> Result<bool, failure::Failure> {
        let records = feed.collect(AT_ONCE).await?;
        {
            let mut state = self.lock();
            self.hand_over(&mut state, &records);
            let idle = state.used.is_none_or(|used| used.elapsed() > LINGER);
            if state.waiting.is_empty() && idle {
                state.seen = None;
                return Ok(false);
            }
            if !state.waiting.is_empty() {
                state.used = Some(Instant::now());
            }
            // Places that are taken from here on need not look at these.
            state.seen = Some(feed.cursor());
        }
        if records.is_empty() {
            feed.look_for_partitions(selection).await?;
            if feed.caught_up() {
                feed.wait(tokio::time::Instant::now() + TURN).await?;
            }
        }
        Ok(true)
    }

    fn hand_over(&self, state: &mut State, records: &[Arc<Record>]) {
        let mut unclaimed = 0;
        for record in records {
            let waits = self.id_of(record).and_then(|id| state.waiting.remove(id));
            // Who waited may be on the way out.
            let given = waits.is_some_and(|waits| waits.send(Arc::clone(record)).is_ok());
            unclaimed += u64::from(!given);
        }
        if unclaimed > 0 {
            self.counts.unclaimed(unclaimed);
        }
    }

    /// The correlation id of a reply: that of its first header of that name.
    pub(super) fn id_of<'a>(&self, record: &'a Record) -> Option<&'a [u8]> {
        let name = self.entry.correlation_header.as_bytes();
        let header = record.headers.iter().find(|(found, _)| found == name)?;
        header.1.as_deref()
    }

    /// The topic after what a token has seen.
    pub(super) async fn feed(&self, seen: Cursor) -> Result<Feed, failure::Failure> {
        self.open(Some(seen)).await
    }
}
