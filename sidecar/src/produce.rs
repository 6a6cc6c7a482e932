//! From a record as it came in to its fate: which cluster and producer it goes to, whether it may, and what
//! became of it in each of its topics.

pub(crate) mod applied;
mod batch;
mod fanout;
pub(crate) mod gather;
pub mod grpc;
mod keyed;
mod rendering;
pub mod rest;
mod routes;
mod wire;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use sluice_proto::v1::{self, ErrorClass};

use self::batch::{Batch, Spooling, Way};
use self::fanout::FanOut;
use self::gather::{Gather, Told};
use self::routes::{Picked, Route, Routes, not_allowed, profile_of};
use crate::app::StartError;
use crate::config::{Cluster, Config, check_topic};
use crate::idempotency::{Keys, Onward};
use crate::kafka::health::Health;
use crate::kafka::record::{Delivery, Failure, Outcome, Receipt, Recipient, Record, Submission};
use crate::metrics::Metrics;
use crate::spool::{Bridged, Incoming, Lane, Outlet, Spool};
use crate::templates::{NamedSecret, Templates};

/// Who wants to know the fates of records.
pub trait FateSink: Recipient {
    /// The fate of a record that went to several topics, or has an idempotency key: an outcome for each topic, in their
    /// order, or one failure for all. `replayed` if an earlier record with its key had it.
    fn settle_many(&self, token: u64, outcomes: Vec<Outcome>, replayed: bool);

    /// The topic of that record is this one, by its template: told before its fate, whose only topic it is. Who tells nobody
    /// of topics need not remember it.
    fn chose(&self, _token: u64, _topic: &str) {}
}

/// Takes records on, for every face of the sidecar.
pub struct Gateway {
    routes: Arc<Routes>,
    answer_timeout: Duration,
    spool: Option<Spool>,
    idempotency: Option<Keys>,
    templates: Arc<Templates>,
    metrics: Arc<Metrics>,
}

/// How long the spool has for a record whose fate somebody waits for however long it takes.
const UNTIL_KNOWN: Duration = Duration::from_secs(366 * 24 * 3600);

/// When to answer a client that waits for `wait`: so much earlier that the answer, which knows whether the record
/// was ever sent to a broker, is there before the client gives up, which knows nothing.
fn ahead_of(wait: Duration) -> Duration {
    const AHEAD: Duration = Duration::from_millis(250);
    wait - AHEAD.min(wait / 5)
}

impl Gateway {
    /// A gateway to the clusters of `config`. The default profile's producer of each cluster is made at once,
    /// so that a cluster that cannot be reached shows before its first record.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration of one of those, in words without secrets; or the spool or the
    /// idempotency keys cannot be opened.
    pub fn new(config: &Config, metrics: Arc<Metrics>) -> Result<Arc<Self>, StartError> {
        let routes = Arc::new(Routes::new(config, &metrics)?);
        let open = |settings| Spool::open(settings, Arc::clone(&routes) as Arc<dyn Outlet>, metrics.spool());
        let spool = config.spool.as_ref().map(open).transpose()?;
        let open = |settings| Keys::open(settings, metrics.idempotency());
        let idempotency = config.idempotency.as_ref().map(open).transpose()?;
        let this = Arc::new(Self {
            routes,
            answer_timeout: config.answer_timeout,
            spool,
            idempotency,
            templates: Templates::new(config.templates.clone(), metrics.templates()),
            metrics,
        });
        if let Some(keys) = &this.idempotency {
            let onward = Arc::downgrade(&this);
            keys.start(onward as Weak<dyn Onward>)?;
        }
        Ok(this)
    }

    /// Takes the record on, and waits for its fate.
    pub(crate) async fn settle(self: &Arc<Self>, mut record: v1::Record) -> Told {
        let (gather, fates) = Gather::new(1);
        record.id = 0;
        self.submit(vec![record], &gather);
        drop(gather);
        let told = fates.await.pop();
        told.unwrap_or_else(|| Failure::new(ErrorClass::OutcomeUnknown, "the record's fate was lost").into())
    }

    /// Takes the records on, in order. `sink` is told each one's fate exactly once, by its id.
    ///
    /// Those with a template follow when that is evaluated, in their order among themselves. Must be called within a tokio
    /// runtime.
    pub fn submit<S: FateSink + 'static>(self: &Arc<Self>, records: Vec<v1::Record>, sink: &Arc<S>) {
        let received = Instant::now();
        let mut records = records;
        if records.iter().any(|record| record.template.is_some()) {
            let templated = records.extract_if(.., |record| record.template.is_some());
            self.render(templated.collect(), received, sink);
        }
        self.take_on(records, received, sink);
    }

    /// Takes on records that are as they are to be written.
    fn take_on<S: FateSink + 'static>(&self, records: Vec<v1::Record>, received: Instant, sink: &Arc<S>) {
        let mut records = records;
        let keyed: Vec<_> = records
            .extract_if(.., |record| record.idempotency.is_some())
            .collect();
        self.produce(records.into_iter().map(|record| (record, None)), received, sink);
        if keyed.is_empty() {
            return;
        }
        let (mut asks, mut refused) = (Vec::with_capacity(keyed.len()), Vec::new());
        for record in keyed {
            let id = record.id;
            match self.keyed(record, received, sink) {
                Ok(ask) => asks.push(ask),
                Err(failure) => {
                    self.metrics.refused(failure.class);
                    refused.push((id, Outcome::Failed(failure)));
                }
            }
        }
        if let Some(keys) = &self.idempotency {
            keys.ask(asks);
        }
        if !refused.is_empty() {
            sink.settle(&mut refused);
        }
    }

    /// Hands the records on, in order; `sink` is told each one's fate exactly once. Those with a time are held until then
    /// at most, and told about when their fate is known.
    fn produce<S: FateSink + 'static>(
        &self,
        records: impl ExactSizeIterator<Item = (v1::Record, Option<Instant>)>,
        received: Instant,
        sink: &Arc<S>,
    ) {
        let recipient: Arc<dyn Recipient> = Arc::clone(sink) as Arc<dyn Recipient>;
        let mut batch = Batch {
            producer: None,
            submissions: Vec::with_capacity(records.len()),
            spooled: Vec::new(),
        };
        let mut refused = Vec::new();
        for (mut record, held_until) in records {
            let id = record.id;
            let routed = self.routes.of_record(&record);
            // The record gives its name away before it is taken apart.
            let producer = std::mem::take(&mut record.producer);
            let profile = profile_of(&producer);
            let routed = routed.and_then(|(route, producer)| {
                let way = self.way(&record, (route, &producer), profile, received, held_until)?;
                Ok((route, producer, way))
            });
            match routed {
                Ok((route, producer, way)) => {
                    if !matches!(way, Way::Spool(_)) {
                        batch.go_to(&producer);
                    }
                    self.split(record, route, way, &recipient, sink, &mut batch);
                }
                Err(failure) => {
                    self.metrics.refused(failure.class);
                    refused.push((id, Outcome::Failed(failure)));
                }
            }
        }
        batch.send();
        if let Some(spool) = &self.spool {
            spool.submit(&mut batch.spooled);
        }
        if !refused.is_empty() {
            sink.settle(&mut refused);
        }
    }

    /// How long a record's client waits for its fate.
    pub(crate) fn wait(&self, record: &v1::Record) -> Duration {
        match record.deadline_ms {
            0 => self.answer_timeout,
            ms => ahead_of(Duration::from_millis(ms.into())),
        }
    }

    /// When the record is answered.
    fn way<'a>(
        &self,
        record: &v1::Record,
        (route, producer): (&'a Route, &Picked<'a>),
        profile: &'a str,
        received: Instant,
        held_until: Option<Instant>,
    ) -> Result<Way<'a>, Failure> {
        let deadline = received + self.wait(record);
        let direct = match v1::Delivery::try_from(record.delivery) {
            Ok(v1::Delivery::Spooled) => None,
            Ok(v1::Delivery::Buffered) => Some(Delivery::Buffered),
            Ok(v1::Delivery::Acked | v1::Delivery::Unspecified) | Err(_) => Some(match held_until {
                Some(held_until) => Delivery::Tracked { held_until },
                None => Delivery::Acked { deadline },
            }),
        };
        if let Some(delivery) = direct.filter(|_| !record.spool_on_outage) {
            return Ok(Way::Producer(delivery));
        }
        let asked = match direct {
            None => "delivery is spooled",
            Some(_) => "spool_on_outage is true",
        };
        let misconfigured = |text: String| Failure::new(ErrorClass::RouteMisconfigured, text);
        let Some(producer) = producer.shared() else {
            return Err(misconfigured(format!(
                "{asked}, and cluster {:?} is written with its callers' own tokens, which a record on the sidecar's disk \
                 would outlive",
                route.name
            )));
        };
        if self.spool.is_none() {
            return Err(misconfigured(format!(
                "{asked} and the sidecar has no spool: set spool.directory in its configuration"
            )));
        }
        if route.unacknowledged.iter().any(|name| name == profile) {
            return Err(misconfigured(format!(
                "{asked}, and nobody says when a record of producer {profile:?} is stored: set its \
                 producer_request_acks to -1 or 1"
            )));
        }
        let spooling = Spooling {
            cluster: &route.name,
            profile,
            deadline: match held_until {
                Some(_) => received + UNTIL_KNOWN,
                None => deadline,
            },
        };
        Ok(match direct {
            Some(delivery) => Way::Either(delivery, spooling, producer),
            None => Way::Spool(spooling),
        })
    }

    /// Makes a submission for each of the record's topics.
    fn split<S: FateSink + 'static>(
        &self,
        mut record: v1::Record,
        route: &Route,
        way: Way<'_>,
        recipient: &Arc<dyn Recipient>,
        sink: &Arc<S>,
        into: &mut Batch,
    ) {
        let mut topics = std::mem::take(&mut record.topics);
        let (id, client) = (record.id, record.client);
        let mut one = Record {
            topic: String::new(),
            partition: record.partition,
            key: record.key,
            value: record.value,
            headers: record.headers,
            timestamp_ms: record.timestamp_ms,
        };
        if topics.len() == 1
            && let Some(topic) = topics.pop()
        {
            one.topic = topic;
            let receipt = Receipt {
                recipient: Arc::clone(recipient),
                token: id,
            };
            self.place(one, client, route, way, receipt, into);
            return;
        }
        let fanout: Arc<dyn Recipient> = Arc::new(FanOut::new(Arc::clone(sink), id, topics.len()));
        for (token, topic) in (0..).zip(topics) {
            let receipt = Receipt {
                recipient: Arc::clone(&fanout),
                token,
            };
            let record = Record { topic, ..one.clone() };
            self.place(record, client, route, way, receipt, into);
        }
    }

    /// Whether one of the record's key is in the spool, or of this call on its way there.
    fn follows(&self, record: &Record, lane: &Lane, into: &Batch) -> bool {
        let (Some(key), Some(spool)) = (&record.key, &self.spool) else {
            return false;
        };
        let mut of_call = into.spooled.iter();
        spool.is_followed(lane, key)
            || of_call.any(|(other, _)| other.record.key.as_ref() == Some(key) && other.lane == *lane)
    }

    /// Makes one submission, or refuses it.
    fn place(
        &self,
        record: Record,
        client: u64,
        route: &Route,
        way: Way<'_>,
        receipt: Receipt,
        into: &mut Batch,
    ) {
        let failure = match route.allowed.entry(&record.topic) {
            Some(label) => {
                // An exact entry was checked with the configuration; a prefix lets any name through.
                let bad = if **label == *record.topic {
                    Ok(())
                } else {
                    check_topic(&record.topic)
                };
                match bad {
                    Ok(()) => {
                        let mut aside = None;
                        let (direct, spooling, bridged) = match way {
                            Way::Producer(delivery) => (Some(delivery), None, None),
                            Way::Spool(spooling) => (None, Some(spooling), None),
                            Way::Either(_, spooling, producer) if !producer.takes(&record.topic) => {
                                (None, Some(spooling), None)
                            }
                            Way::Either(delivery, spooling, producer) => {
                                let lane = spooling.lane(&record.topic);
                                let follows = self.follows(&record, &lane, into);
                                let spool = self.spool.as_ref();
                                aside = spool.map(|spool| spool.aside(lane, spooling.deadline));
                                match aside.take_if(|_| follows) {
                                    Some(aside) => {
                                        let bridged = Bridged {
                                            delivery,
                                            producer: Arc::clone(producer),
                                            label: Arc::clone(label),
                                            client,
                                            aside,
                                        };
                                        (None, Some(spooling), Some(bridged))
                                    }
                                    None => (Some(delivery), None, None),
                                }
                            }
                        };
                        if let Some(delivery) = direct {
                            into.submissions.push(Submission {
                                record,
                                delivery,
                                receipt,
                                label: Arc::clone(label),
                                client,
                                aside,
                            });
                        } else if let Some(spooling) = spooling {
                            let incoming = Incoming {
                                lane: spooling.lane(&record.topic),
                                record,
                                receipt,
                                deadline: spooling.deadline,
                            };
                            into.spooled.push((incoming, bridged));
                        }
                        return;
                    }
                    Err(why) => Failure::new(ErrorClass::InvalidRequest, format!("topic: {why}")),
                }
            }
            None => not_allowed(&record.topic),
        };
        self.metrics.refused(failure.class);
        receipt
            .recipient
            .settle(&mut vec![(receipt.token, Outcome::Failed(failure))]);
    }

    /// What is known about each cluster.
    pub fn health(&self) -> BTreeMap<String, Health> {
        self.routes.pool().health()
    }

    /// Has the clients of cluster `name` go over to the certificates and secrets of `to`. Whether they are others than
    /// those in use.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn renew(&self, name: &str, to: Cluster) -> Result<bool, String> {
        self.routes.renew(name, to)
    }

    /// Has templates use another value of a secret. Whether it is another one.
    pub fn renew_secret(&self, name: &str, to: NamedSecret) -> bool {
        self.templates.renew(name, to)
    }

    /// Takes away the secrets of templates that `stays` does not name: gives the names of those.
    pub fn take_secrets_away(&self, stays: impl Fn(&str) -> bool) -> Vec<String> {
        self.templates.take_away(stays)
    }

    /// By cluster, why its clients have not gone over to changed files yet.
    pub fn renewal_troubles(&self) -> BTreeMap<String, String> {
        self.routes.pool().renewal_troubles()
    }

    /// Brings the gauges up to date.
    pub fn measure(&self) {
        self.routes.pool().measure();
        if let Some(spool) = &self.spool {
            spool.measure();
        }
        if let Some(keys) = &self.idempotency {
            keys.measure();
        }
    }

    /// How many records have no known fate yet.
    pub fn outstanding(&self) -> usize {
        self.routes
            .pool()
            .all()
            .iter()
            .map(|producer| producer.outstanding())
            .sum()
    }

    /// Hands nothing more of the spool over: the end is near.
    pub fn rest(&self) {
        if let Some(spool) = &self.spool {
            spool.rest();
        }
    }

    /// The spool, where there is one.
    pub fn spool(&self) -> Option<&Spool> {
        self.spool.as_ref()
    }

    /// Waits until every record's fate is known, or until `until`.
    pub async fn flush(&self, until: Instant) {
        self.rendered(until).await;
        for producer in self.routes.pool().all() {
            producer.flush(until).await;
        }
    }

    /// Gives up what has no fate yet and ends the producers. Blocks. Returns how many records were given up.
    pub fn close(&self) -> usize {
        if let Some(keys) = &self.idempotency {
            keys.stop();
        }
        let producers = self.routes.pool().all();
        let given_up = producers.iter().map(|producer| producer.close()).sum();
        // After the producers: what they say last is still written down.
        if let Some(spool) = &self.spool {
            spool.close();
        }
        if let Some(keys) = &self.idempotency {
            keys.close();
        }
        self.metrics.unflushed(given_up);
        given_up
    }
}
