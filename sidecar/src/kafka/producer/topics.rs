//! What a producer knows about topics, and the records that wait for one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;

use super::clients::Clients;
use super::gate::{self, Gate};
use super::led::Led;
use super::pace::Pace;
use crate::kafka::native;
use crate::kafka::record::{Failure, Record};
use crate::metrics::{ProducerMetrics, TopicMetrics};

/// How long "there is no such topic" and the like is believed; and how old word of a topic's partitions must be
/// for a record to a partition that it does not have to be worth asking again.
pub(super) const BELIEVED: Duration = Duration::from_secs(1);
/// The pause after a question about a topic that had no answer.
pub(super) const PAUSE: Duration = Duration::from_millis(50);
/// How often a cluster is asked about a topic that it says it does not have, where that need not stay so.
pub(super) const DOUBT_TRIES: u32 = 40;
/// How many topics are remembered before those are forgotten of which nothing is known.
const REMEMBERED: usize = 1000;

/// What is known about a topic.
pub(super) enum Standing {
    /// Nothing: it is being asked for, or will be when a record comes.
    Unknown,
    /// It exists.
    Known {
        handle: native::Topic,
        partitions: i32,
        since: Instant,
    },
    /// The cluster does not take records for it.
    Refused { failure: Failure, until: Instant },
}

/// A record that waits in the sidecar.
pub(super) struct Held {
    /// Of its pending entry.
    pub(super) key: usize,
    /// Its place among all records of the producer, as they came.
    pub(super) order: u64,
    pub(super) record: Record,
    /// When it is given up; never is `None`.
    pub(super) until: Option<Instant>,
}

/// A topic.
pub(super) struct Topic {
    pub(super) name: Arc<str>,
    pub(super) metrics: TopicMetrics,
    pub(super) standing: Standing,
    /// Whether it is in the minder's list.
    pub(super) asked: bool,
    /// How often in a row the cluster had nothing to say about it.
    pub(super) tries: u32,
    /// Whether the cluster had it when it last had something to say about it.
    pub(super) existed: bool,
    /// How often in a row librdkafka refused its records as those of an unknown topic.
    pub(super) refusals: u32,
    /// When it may be asked about again.
    pub(super) not_before: Option<Instant>,
    /// Records that wait, in order.
    pub(super) held: VecDeque<Held>,
    /// Records that the client has which is being replaced: nothing of the topic goes to the new one before they have
    /// their reports.
    pub(super) left: usize,
    /// Records with an outcome to come, held and gathered ones included.
    pub(super) pending: usize,
    /// Bytes of them.
    pub(super) bytes: usize,
    /// Whose they are.
    pub(super) clients: Clients,
    pub(super) pace: Pace,
    /// Records that wait for those that are under way, in order. What is held is before them.
    pub(super) gathered: VecDeque<Held>,
    /// Bytes of them.
    pub(super) gathered_bytes: usize,
    pub(super) gate: Gate,
    /// What was acknowledged with acks=1.
    pub(super) led: Led,
    /// The last call that brought records of the topic, and whether it found the gate open.
    pub(super) call: (u64, bool),
}

impl Topic {
    /// Whether the records of that call are handed over: those of one call go together, or none of them.
    pub(super) fn passes(&mut self, call: u64, now: Instant) -> bool {
        if self.call.0 != call {
            self.call = (call, self.gathered.is_empty() && self.gate.open(now));
        }
        self.call.1
    }

    /// What is gathered; nothing is any more.
    pub(super) fn take_gathered(&mut self) -> VecDeque<Held> {
        self.gathered_bytes = 0;
        std::mem::take(&mut self.gathered)
    }

    /// Takes out of `queue` what is not to wait after `now`, and gives it and when the next is due.
    fn expire(queue: &mut VecDeque<Held>, now: Instant) -> (Vec<Held>, Option<Instant>) {
        let late = |held: &Held| held.until.is_some_and(|until| until <= now);
        let mut expired = Vec::new();
        if queue.iter().any(late) {
            let left: Vec<_>;
            (expired, left) = std::mem::take(queue).into_iter().partition(late);
            *queue = left.into();
        }
        let next = queue.iter().filter_map(|held| held.until).min();
        (expired, next)
    }

    /// Takes out the held records that are not to wait after `now`, and gives them and when the next are due.
    pub(super) fn expire_held(&mut self, now: Instant) -> (Vec<Held>, Option<Instant>) {
        Self::expire(&mut self.held, now)
    }

    /// The same for gathered ones.
    pub(super) fn expire_gathered(&mut self, now: Instant) -> (Vec<Held>, Option<Instant>) {
        let (expired, next) = Self::expire(&mut self.gathered, now);
        let gone: usize = expired.iter().map(|held| held.record.size()).sum();
        self.gathered_bytes -= gone;
        (expired, next)
    }

    /// Whether what is gathered is to be handed over.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        gate::is_much(self.gathered.len(), self.gathered_bytes) || self.gate.open(now)
    }
}

/// All topics that a record was submitted for.
#[derive(Default)]
pub(super) struct Topics {
    slab: Slab<Topic>,
    names: HashMap<Arc<str>, usize>,
    /// Topics the minder is to ask about, each once.
    wanted: VecDeque<usize>,
}

impl Topics {
    /// The topic's key; it is remembered from now on. Its records may wait `queueing` longer than necessary.
    pub(super) fn key(
        &mut self,
        name: &str,
        label: &str,
        metrics: &ProducerMetrics,
        queueing: Duration,
    ) -> usize {
        if let Some(key) = self.names.get(name) {
            return *key;
        }
        if self.slab.len() >= REMEMBERED {
            self.forget();
        }
        let name: Arc<str> = Arc::from(name);
        let key = self.slab.insert(Topic {
            name: Arc::clone(&name),
            metrics: metrics.topic(label),
            standing: Standing::Unknown,
            asked: false,
            tries: 0,
            existed: false,
            refusals: 0,
            not_before: None,
            held: VecDeque::new(),
            left: 0,
            pending: 0,
            bytes: 0,
            clients: Clients::default(),
            pace: Pace::new(queueing),
            gathered: VecDeque::new(),
            gathered_bytes: 0,
            gate: Gate::default(),
            led: Led::default(),
            call: (0, false),
        });
        self.names.insert(name, key);
        key
    }

    /// The topic's key, if a record was submitted for it.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }

    /// Forgets the topics that the cluster does not have. Names may come out of requests (where the allowlist
    /// has prefixes), so that what is remembered must not grow with them.
    fn forget(&mut self) {
        let names = &mut self.names;
        self.slab.retain(|_, topic| {
            let keep = topic.pending > 0 || topic.asked || matches!(topic.standing, Standing::Known { .. });
            if !keep {
                names.remove(&topic.name);
            }
            keep
        });
    }

    pub(super) fn get(&mut self, key: usize) -> Option<&mut Topic> {
        self.slab.get_mut(key)
    }

    pub(super) fn iter(&mut self) -> impl Iterator<Item = (usize, &mut Topic)> {
        self.slab.iter_mut()
    }

    /// Has the minder ask about the topic.
    pub(super) fn want(&mut self, key: usize) {
        if let Some(topic) = self.slab.get_mut(key)
            && !topic.asked
        {
            topic.asked = true;
            self.wanted.push_back(key);
        }
    }

    /// Whether there are topics to ask about.
    pub(super) fn is_any_wanted(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// A topic to ask about now: the one that has waited longest.
    pub(super) fn wanted(&self, now: Instant) -> Option<(usize, Arc<str>)> {
        let mut topics = self
            .wanted
            .iter()
            .filter_map(|key| Some((*key, self.slab.get(*key)?)));
        let (key, topic) = topics.find(|(_, topic)| topic.not_before.is_none_or(|at| at <= now))?;
        Some((key, Arc::clone(&topic.name)))
    }

    /// When there is a topic to ask about; `None`: not before a record asks for one.
    pub(super) fn wanted_at(&self, now: Instant) -> Option<Instant> {
        let topics = self.wanted.iter().filter_map(|key| self.slab.get(*key));
        topics.map(|topic| topic.not_before.unwrap_or(now)).min()
    }

    /// The topic was asked about, and need not be again.
    pub(super) fn answered(&mut self, key: usize) {
        self.wanted.retain(|wanted| *wanted != key);
        if let Some(topic) = self.slab.get_mut(key) {
            topic.asked = false;
        }
    }

    /// The topic was asked about in vain. Records that wait for it are worth asking again, after a pause.
    pub(super) fn again_later(&mut self, key: usize, now: Instant) {
        self.answered(key);
        let Some(topic) = self.slab.get_mut(key) else {
            return;
        };
        topic.tries += 1;
        topic.not_before = Some(now + PAUSE);
        if topic.held.is_empty() {
            topic.tries = 0;
            return;
        }
        self.want(key);
    }

    /// Any topic that is known to exist: one that may be asked about without side effects.
    pub(super) fn any_known(&self) -> Option<(usize, Arc<str>)> {
        self.slab
            .iter()
            .find(|(_, topic)| matches!(topic.standing, Standing::Known { .. }))
            .map(|(key, topic)| (key, Arc::clone(&topic.name)))
    }
}
