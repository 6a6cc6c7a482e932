//! A mock cluster, an engine on it, and a handler that it calls.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::OwnedMessage;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::Value;
use sluice::config::{Cluster, HeldTopic, Secret, TopicAllowlist};
use sluice::metrics::Metrics;
use sluice::subscriptions::engine::{Connect, Engine, Handle};
use sluice::subscriptions::event::{Deliver, Event, Outcome, Reply};
use sluice::subscriptions::running::{Called, Desired, Order, Refused, Status, Together, Told};
use sluice::subscriptions::sink::Inline;
use sluice::subscriptions::spec::{Scope, Spec, Topics};
use sluice_settings::{Problems, Section};
use tokio::sync::watch;

/// How long anything may take; only a failing test waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const HELD: &str = "__held";

pub(crate) type Mock = MockCluster<'static, DefaultProducerContext>;

/// A cluster with these topics, and the held topic.
pub(crate) fn mock(topics: &[(&str, i32)]) -> Mock {
    let mock = MockCluster::new(1).unwrap();
    for (topic, partitions) in topics.iter().chain(&[(HELD, 2)]) {
        mock.create_topic(topic, *partitions, 1).unwrap();
    }
    mock
}

fn producer(mock: &Mock) -> BaseProducer {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", mock.bootstrap_servers())
        .set("linger.ms", "0");
    config.create().unwrap()
}

/// Writes keys and values to a partition, in order.
pub(crate) fn write(mock: &Mock, topic: &str, partition: i32, records: &[(&str, &str)]) {
    let producer = producer(mock);
    for (key, value) in records {
        let record = BaseRecord::to(topic)
            .partition(partition)
            .key(*key)
            .payload(*value);
        producer.send(record).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

/// Everything in a topic's partition.
pub(crate) fn read(mock: &Mock, topic: &str, partition: i32, count: usize) -> Vec<OwnedMessage> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", mock.bootstrap_servers())
        .set("fetch.wait.max.ms", "10")
        .set("group.id", "reads-back");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Beginning)
        .unwrap();
    consumer.assign(&list).unwrap();
    let (mut found, until) = (Vec::new(), Instant::now() + PATIENCE);
    while found.len() < count {
        assert!(
            Instant::now() < until,
            "{} of {count} records in {topic}",
            found.len()
        );
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            found.push(message.detach());
        }
    }
    found
}

/// The sizes of the first records with a value in the held topic.
pub(crate) fn read_held(mock: &Mock, count: usize) -> Vec<usize> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", mock.bootstrap_servers())
        .set("fetch.wait.max.ms", "10")
        .set("group.id", "reads-held");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..2 {
        list.add_partition_offset(HELD, partition, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&list).unwrap();
    let (mut sizes, until) = (Vec::new(), Instant::now() + PATIENCE);
    while sizes.len() < count {
        assert!(Instant::now() < until, "{} of {count} records", sizes.len());
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            sizes.extend(message.payload().map(<[u8]>::len));
        }
    }
    sizes
}

/// A call of the handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) attempts: u32,
    /// How many events the request had.
    pub(crate) of: usize,
    pub(crate) status: u16,
}

type Decide = dyn Fn(&Call) -> u16 + Send + Sync;

/// A handler, which notes whom it is called for.
pub(crate) struct Handler {
    pub(crate) url: String,
    inner: Arc<Inner>,
}

struct Inner {
    calls: Mutex<Vec<Call>>,
    /// By key, how many calls are under way; and the most of all.
    under_way: Mutex<(HashMap<String, usize>, usize, bool)>,
    decide: Mutex<Arc<Decide>>,
    delay: Mutex<Duration>,
}

impl Handler {
    /// One that answers 200.
    pub(crate) async fn start() -> Self {
        let inner = Arc::new(Inner {
            calls: Mutex::default(),
            under_way: Mutex::default(),
            decide: Mutex::new(Arc::new(|_| 200)),
            delay: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let listener = listener.await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/", post(handle))
            .with_state(Arc::clone(&inner));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, inner }
    }

    /// From now on it answers so.
    pub(crate) fn answers(&self, decide: impl Fn(&Call) -> u16 + Send + Sync + 'static) {
        *self.inner.decide.lock().unwrap() = Arc::new(decide);
    }

    /// From now on it answers calls that are `bad` with `status`, and others 200; bad ones too once what is returned is true.
    pub(crate) fn refuses(
        &self,
        status: u16,
        bad: impl Fn(&Call) -> bool + Send + Sync + 'static,
    ) -> Arc<AtomicBool> {
        let well = Arc::new(AtomicBool::new(false));
        let now = Arc::clone(&well);
        self.answers(move |call| {
            if bad(call) && !now.load(Ordering::SeqCst) {
                status
            } else {
                200
            }
        });
        well
    }

    /// It takes so long from now on.
    pub(crate) fn takes(&self, delay: Duration) {
        *self.inner.delay.lock().unwrap() = delay;
    }

    /// The calls so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.inner.calls.lock().unwrap().clone()
    }

    /// The values that it took, of a key.
    pub(crate) fn taken(&self, key: &str) -> Vec<String> {
        let calls = self.calls().into_iter();
        let taken = calls.filter(|call| call.key == key && call.status == 200);
        taken.map(|call| call.value).collect()
    }

    /// The most requests that were under way at once.
    pub(crate) fn most(&self) -> usize {
        self.inner.under_way.lock().unwrap().1
    }

    /// Whether two of one key were under way at once.
    pub(crate) fn overlapped(&self) -> bool {
        self.inner.under_way.lock().unwrap().2
    }
}

async fn handle(State(inner): State<Arc<Inner>>, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    let keys: Vec<String> = text("x-keys").split(',').map(str::to_owned).collect();
    {
        let mut under_way = inner.under_way.lock().unwrap();
        for key in &keys {
            *under_way.0.entry(key.clone()).or_default() += 1;
        }
        let calls: std::collections::BTreeSet<&String> = keys.iter().collect();
        if keys.len() == 1 && under_way.0[calls.first().unwrap().as_str()] > 1 {
            under_way.2 = true;
        }
        let all = under_way.0.values().sum();
        under_way.1 = under_way.1.max(all);
    }
    let delay = *inner.delay.lock().unwrap();
    tokio::time::sleep(delay).await;
    let body = String::from_utf8(body.to_vec()).unwrap();
    let (offsets, attempts) = (text("x-offsets"), text("x-attempts"));
    let mut status = 200;
    let mut calls = Vec::new();
    let decide = Arc::clone(&inner.decide.lock().unwrap());
    for (((key, value), offset), attempts) in keys
        .iter()
        .zip(body.split('\n'))
        .zip(offsets.split(','))
        .zip(attempts.split(','))
    {
        let mut call = Call {
            key: key.clone(),
            value: value.to_owned(),
            partition: text("x-partition").parse().unwrap(),
            offset: offset.parse().unwrap(),
            attempts: attempts.parse().unwrap(),
            of: keys.len(),
            status: 0,
        };
        call.status = decide(&call);
        status = status.max(call.status);
        calls.push(call);
    }
    for call in &mut calls {
        call.status = status;
    }
    inner.calls.lock().unwrap().extend(calls);
    for key in &keys {
        *inner.under_way.lock().unwrap().0.get_mut(key).unwrap() -= 1;
    }
    (StatusCode::from_u16(status).unwrap(), format!("took {body}"))
}

/// POSTs events to a handler: 2xx is taken, 4xx is poison, everything else may be tried again.
pub(crate) struct Post {
    client: Client<HttpConnector, Full<Bytes>>,
    url: String,
}

impl Deliver for Post {
    fn place(&self) -> String {
        self.url.clone()
    }

    async fn deliver(&self, events: &[Event]) -> Outcome {
        let text =
            |bytes: &Option<Bytes>| String::from_utf8(bytes.clone().unwrap_or_default().to_vec()).unwrap();
        let joined =
            |of: &dyn Fn(&Event) -> String, by: &str| events.iter().map(of).collect::<Vec<_>>().join(by);
        assert!(
            !events.iter().any(|event| text(&event.record.value) == "panic"),
            "as it was told to"
        );
        let request = Request::post(&self.url)
            .header("x-keys", joined(&|event| text(&event.record.key), ","))
            .header("x-offsets", joined(&|event| event.record.offset.to_string(), ","))
            .header("x-attempts", joined(&|event| event.attempts.to_string(), ","))
            .header("x-partition", events[0].record.partition.to_string())
            .body(Full::from(joined(&|event| text(&event.record.value), "\n")))
            .unwrap();
        let failed = |why: String, status| Outcome::Retry {
            why,
            status,
            after: None,
        };
        let answer = match self.client.request(request).await {
            Ok(answer) => answer,
            Err(error) => return failed(error.to_string(), None),
        };
        let (head, body) = answer.into_parts();
        let status = head.status.as_u16();
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return failed(error.to_string(), None),
        };
        let why = format!("the handler answered {status}");
        match status {
            200..300 => Outcome::Done {
                reply: Some(Reply {
                    status,
                    headers: head.headers,
                    body,
                }),
            },
            400..500 => Outcome::Poison {
                why,
                status: Some(status),
            },
            _ => failed(why, Some(status)),
        }
    }
}

struct Posts;

impl Connect for Posts {
    type Sink = Post;

    fn connect(&self, _: &str, spec: &Spec) -> Result<Post, String> {
        Ok(Post {
            client: Client::builder(TokioExecutor::new()).build_http(),
            url: spec.sink.to_string(),
        })
    }
}

/// An engine with one subscription, `sub`.
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) handle: Handle,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) desired: watch::Sender<Desired>,
}

/// A subscription of `orders` to a handler.
pub(crate) fn spec(handler: &Handler, clusters: &BTreeMap<String, Cluster>, options: Value) -> Spec {
    spec_of(&handler.url, clusters, options)
}

/// The same to whatever is at `url`.
pub(crate) fn spec_of(url: &str, clusters: &BTreeMap<String, Cluster>, options: Value) -> Spec {
    let mut options = options;
    options["auto.offset.reset"] = "earliest".into();
    let tree = serde_json::json!({"source": "kafka://main/orders", "sink": url, "options": options});
    let problems = Problems::default();
    let scope = Scope {
        clusters,
        held_topic: HELD,
        secrets: &Inline(&problems),
    };
    let spec = Spec::read(Section::root(&tree, &problems), &[], scope);
    let problems = problems.into_vec();
    assert!(problems.is_empty(), "{problems:?}");
    spec.unwrap()
}

pub(crate) fn clusters(mock: &Mock) -> BTreeMap<String, Cluster> {
    let property = |name: &str, value: &str| (name.to_owned(), Secret::new(value));
    let cluster = Cluster {
        bootstrap_servers: mock.bootstrap_servers().split(',').map(str::to_owned).collect(),
        // The mock wakes nobody who waits for a record, and has a group wait for most of a session when somebody joins it.
        properties: BTreeMap::from([
            property("fetch.wait.max.ms", "10"),
            property("session.timeout.ms", "6000"),
        ]),
        allowed_topics: TopicAllowlist(vec!["*".to_owned()]),
        ..Cluster::default()
    };
    BTreeMap::from([("main".to_owned(), cluster)])
}

impl World {
    pub(crate) fn start(mock: &Mock, handler: &Handler, options: Value) -> Self {
        let clusters = clusters(mock);
        let spec = spec(handler, &clusters, options);
        let clusters = clusters
            .into_iter()
            .map(|(name, cluster)| (name, Arc::new(cluster)));
        Self::of(Desired {
            subscriptions: BTreeMap::from([(Arc::from("sub"), Arc::new(spec))]),
            clusters: clusters.collect(),
            called: BTreeMap::new(),
        })
    }

    /// An engine with subscriptions (id, topic, options) that are called for one record of a key at a time, all of them; or each.
    pub(crate) fn service(
        mock: &Mock,
        handler: &Handler,
        all: &[(&str, &str, Value)],
        together: bool,
    ) -> Self {
        Self::of(service(mock, handler, all, together))
    }

    /// An engine that runs what it is to.
    pub(crate) fn of(desired: Desired) -> Self {
        Self::with(desired, |_| Posts)
    }

    /// As [`World::of`], with other sinks, which are given the engine's metrics.
    pub(crate) fn with<C: Connect>(desired: Desired, sinks: impl FnOnce(&Arc<Metrics>) -> C) -> Self {
        let (desired, watched) = watch::channel(desired);
        let metrics = Arc::new(Metrics::default());
        let held = HeldTopic {
            topic: HELD.to_owned(),
            ..HeldTopic::default()
        };
        let engine = Engine::start(watched, sinks(&metrics), (held, Vec::new()), Arc::clone(&metrics));
        Self {
            handle: engine.handle(),
            engine,
            metrics,
            desired,
        }
    }

    pub(crate) fn status(&self) -> Status {
        self.handle.status("sub").unwrap()
    }

    pub(crate) async fn order(&self, order: Order) -> Result<Told, Refused> {
        self.handle.order("sub", order).await
    }

    pub(crate) async fn stop(self) {
        self.engine.stop(Instant::now() + PATIENCE).await;
    }

    /// The value of a metric's first sample that begins so.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.metrics.encode().unwrap();
        let line = text.lines().find(|line| line.starts_with(name));
        let line = line.unwrap_or_else(|| panic!("{name} in {text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// Waits until the status is as it should be.
    pub(crate) async fn until(&self, what: &str, mut is: impl FnMut(&Status) -> bool) -> Status {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if is(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "not {what}: {status:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// As of [`World::service`].
pub(crate) fn service(
    mock: &Mock,
    handler: &Handler,
    all: &[(&str, &str, Value)],
    together: bool,
) -> Desired {
    let clusters = clusters(mock);
    let group = Together {
        service: "Cart".to_owned(),
        cluster: "main".to_owned(),
        group: "sluice-Cart".to_owned(),
        members: all
            .iter()
            .map(|(id, topic, _)| (Arc::from(*id), vec![(*topic).to_owned()]))
            .collect(),
        properties: BTreeMap::from([("auto.offset.reset".to_owned(), "earliest".to_owned())]),
    };
    let group = Arc::new(group);
    let called = Called {
        uri: handler.url.clone(),
        raw: false,
        keyed: true,
        once: false,
        together: together.then_some(group),
    };
    let mut desired = Desired::default();
    for (id, topic, options) in all {
        let mut spec = spec(handler, &clusters, options.clone());
        spec.source.topics = Topics::Names(vec![(*topic).to_owned()]);
        desired.subscriptions.insert(Arc::from(*id), Arc::new(spec));
        desired.called.insert(Arc::from(*id), Ok(called.clone()));
    }
    let clusters = clusters
        .into_iter()
        .map(|(name, cluster)| (name, Arc::new(cluster)));
    desired.clusters = clusters.collect();
    desired
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "not {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether everything is finished and committed, up to these ends.
pub(crate) fn committed(status: &Status, ends: &[i64]) -> bool {
    status.partitions.len() == ends.len()
        && status
            .partitions
            .iter()
            .zip(ends)
            .all(|(part, end)| part.committed == Some(*end) && part.position == Some(*end))
}
