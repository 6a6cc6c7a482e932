//! What the cluster says and does: whether it answers, what topics it has, that a producer failed; and the end.

use std::sync::Arc;
use std::time::Instant;

use rdkafka::error::RDKafkaErrorCode as Code;
use sluice_proto::v1::ErrorClass;

use super::State;
use crate::kafka::error;
use crate::kafka::health::Health;
use crate::kafka::native::{Native, TopicInfo};
use crate::kafka::producer::bag::Bag;
use crate::kafka::producer::led::Led;
use crate::kafka::producer::topics::{BELIEVED, DOUBT_TRIES, Held, Standing};
use crate::kafka::record::Failure;
use crate::kafka::trouble::Trouble;

impl State {
    /// No broker answers: what comes from now on is held, and what may go elsewhere is to do so. What is known to be wrong with
    /// a broker tells more than `why`.
    pub(in crate::kafka::producer) fn down(&mut self, why: String) {
        let trouble = self.troubles.most_telling().map(ToString::to_string);
        self.diverting |= !self.is_down();
        self.health = Health::Down(trouble.unwrap_or(why));
    }

    /// Something is wrong with the way to a broker.
    pub(in crate::kafka::producer) fn trouble(&mut self, trouble: Trouble, now: Instant, bag: &mut Bag) {
        self.metrics.trouble(trouble.kind);
        self.refuse_caller(&trouble, now, bag);
        let why = trouble.to_string();
        self.troubles.add(trouble, now);
        if self.is_down() {
            self.down(why);
        }
    }

    /// Whether the cluster is known not to answer.
    pub(in crate::kafka::producer) fn is_down(&self) -> bool {
        matches!(self.health, Health::Down(_))
    }

    /// A question, perhaps about a topic, was not answered. One slow answer does not make a cluster that takes
    /// records unreachable.
    pub(in crate::kafka::producer) fn not_told(&mut self, code: Code, topic: Option<usize>, now: Instant) {
        let slow = matches!(
            code,
            Code::OperationTimedOut | Code::TimedOutQueue | Code::RequestTimedOut
        );
        if !slow || !self.is_up() {
            self.down(code.to_string());
        } else if let Some(topic) = topic {
            self.topics.again_later(topic, now);
        }
    }

    /// The producer must be replaced: what comes from now on is held.
    pub(in crate::kafka::producer) fn fatal(&mut self, why: String) {
        self.fatal.get_or_insert(why);
    }

    /// Why the producer must be replaced.
    pub(in crate::kafka::producer) fn is_fatal(&self) -> Option<&str> {
        self.fatal.as_deref()
    }

    /// A topic the cluster is to be asked about now.
    pub(in crate::kafka::producer) fn wanted(&self, now: Instant) -> Option<(usize, Arc<str>)> {
        self.topics.wanted(now)
    }

    /// When there will be one.
    pub(in crate::kafka::producer) fn wanted_at(&self, now: Instant) -> Option<Instant> {
        self.topics.wanted_at(now)
    }

    /// A topic that may be asked about to see whether anybody answers.
    pub(in crate::kafka::producer) fn any_known(&self) -> Option<(usize, Arc<str>)> {
        self.topics.any_known()
    }

    /// The cluster answers: what is held for known topics goes out.
    pub(in crate::kafka::producer) fn up(&mut self, now: Instant, bag: &mut Bag) {
        let was = std::mem::replace(&mut self.health, Health::Up);
        if was == Health::Up {
            return;
        }
        self.troubles.clear();
        self.refused = None;
        for (_, topic) in self.topics.iter() {
            topic.pace.resume();
        }
        self.release_all(now, bag);
    }

    /// Hands over what is held, as far as possible.
    pub(super) fn release_all(&mut self, now: Instant, bag: &mut Bag) {
        let waiting = self.topics.iter().filter(|(_, topic)| !topic.held.is_empty());
        let keys: Vec<usize> = waiting.map(|(key, _)| key).collect();
        for key in keys {
            self.release(key, now, bag);
        }
    }

    /// What the cluster says about a topic.
    pub(in crate::kafka::producer) fn told(
        &mut self,
        key: usize,
        info: TopicInfo,
        now: Instant,
        bag: &mut Bag,
    ) {
        let auto_create = self.limits.auto_create;
        let native = Arc::clone(&self.native);
        let Some(topic) = self.topics.get(key) else {
            return;
        };
        let standing = match info {
            TopicInfo::Partitions(partitions) if partitions > 0 => native.topic(&topic.name).map_or_else(
                || Standing::Refused {
                    failure: no_such_topic(&topic.name),
                    until: now + BELIEVED,
                },
                |handle| Standing::Known {
                    handle,
                    partitions,
                    since: now,
                },
            ),
            TopicInfo::Error(code) if error::class_of(code) != ErrorClass::ClusterUnavailable => {
                // One that was there may be unknown to a broker that has just come up, and one is made by being asked for.
                let doubted =
                    error::class_of(code) == ErrorClass::UnknownTopic && (auto_create || topic.existed);
                if doubted && topic.tries < DOUBT_TRIES {
                    self.topics.again_later(key, now);
                    return;
                }
                let failure = match error::class_of(code) {
                    ErrorClass::UnknownTopic => no_such_topic(&topic.name),
                    class => Failure::new(class, format!("topic {}: {code}", topic.name)),
                };
                Standing::Refused {
                    failure,
                    until: now + BELIEVED,
                }
            }
            // It has no leader yet, or the broker is not ready: records keep waiting until their deadline.
            TopicInfo::Partitions(_) | TopicInfo::Error(_) => {
                self.topics.again_later(key, now);
                return;
            }
        };
        topic.tries = 0;
        topic.existed = matches!(standing, Standing::Known { .. });
        let refused = match &standing {
            Standing::Refused { failure, .. } => Some(failure.clone()),
            Standing::Known { .. } | Standing::Unknown => None,
        };
        topic.standing = standing;
        let held = if refused.is_some() {
            // If it comes back, it is another one, whose offsets begin anew.
            topic.led = Led::default();
            std::mem::take(&mut topic.held)
        } else {
            Default::default()
        };
        self.topics.answered(key);
        self.held -= held.len();
        if let Some(failure) = refused {
            for Held { key, .. } in held {
                self.settle(key, failure.clone().into(), now, bag);
            }
        }
        self.release(key, now, bag);
    }

    /// Puts a new client in the place of one that failed. Records that the old one did not report on are of
    /// unknown outcome; held ones wait for the new one.
    pub(in crate::kafka::producer) fn replace(&mut self, native: Arc<Native>, now: Instant, bag: &mut Bag) {
        let lost: Vec<usize> = self
            .pending
            .iter()
            .filter(|(_, p)| p.handed.is_some() && p.generation == self.generation)
            .map(|(key, _)| key)
            .collect();
        for key in lost {
            self.settle(
                key,
                error::unknown("the producer failed and was replaced").into(),
                now,
                bag,
            );
        }
        let mut wanted = Vec::new();
        for (key, topic) in self.topics.iter() {
            topic.standing = Standing::Unknown;
            topic.pace.resume();
            if !topic.held.is_empty() {
                wanted.push(key);
            }
        }
        for key in wanted {
            self.topics.want(key);
        }
        self.native = native;
        self.fatal = None;
        self.metrics.rebuilds.inc();
    }

    /// Takes nothing on any more and gives up what is held or gathered.
    pub(in crate::kafka::producer) fn close(&mut self, bag: &mut Bag) {
        self.closed = true;
        self.put_aside(Instant::now(), bag);
        let mut held = Vec::new();
        for (_, topic) in self.topics.iter() {
            held.extend(topic.held.drain(..).map(|held| held.key));
            held.extend(topic.gathered.drain(..).map(|held| held.key));
        }
        self.gathering.clear();
        self.held = 0;
        let failure = Failure::new(ErrorClass::SidecarUnavailable, "the sidecar shut down first");
        for key in held {
            self.settle(key, failure.clone().into(), Instant::now(), bag);
        }
    }

    /// Gives up everything: what librdkafka has is of unknown outcome.
    pub(in crate::kafka::producer) fn abandon(&mut self, bag: &mut Bag) {
        let keys: Vec<usize> = self.pending.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.settle(
                key,
                error::unknown("the sidecar shut down first").into(),
                Instant::now(),
                bag,
            );
        }
        self.measure();
    }
}

fn no_such_topic(name: &str) -> Failure {
    Failure::new(ErrorClass::UnknownTopic, format!("there is no topic {name}"))
}
