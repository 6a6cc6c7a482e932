//! Records of any kind as the contract encodes them, through the sidecar and librdkafka, to a broker and back.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use prost::Message;
use sluice::config::{DevBroker as Settings, Secret};
use sluice::kafka::connection::Connection;
use sluice::kafka::consumer::{self, Next, Reader, Selection};
use sluice::kafka::dev_broker::DevBroker;
use sluice::kafka::record::{MAX_MESSAGE, Outcome, Recipient};
use sluice::metrics::Metrics;
use sluice::produce::{FateSink, Gateway};
use sluice_proto::v1::{Delivery, ErrorClass, Header, ProduceRequest, Record};
use tokio::runtime::Runtime;

/// The topics that there are, with their partitions. Others that begin with `u` may be written and are not there.
const TOPICS: [(&str, i32); 2] = [("t", 2), ("u", 1)];
/// How many records of an input are sent.
const RECORDS: usize = 20;
/// How long anything may take, on a busy machine.
const LONG: Duration = Duration::from_secs(8);

/// A sidecar, and a broker that keeps the newest records of each partition.
struct World {
    runtime: Runtime,
    gateway: Arc<Gateway>,
    readers: Mutex<Vec<Reader>>,
    _broker: DevBroker,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let settings = Settings {
        address: ([127, 0, 0, 1], 0).into(),
        topics: TOPICS
            .map(|(name, partitions)| (name.to_owned(), partitions))
            .into(),
        default_partitions: 1,
    };
    let broker = runtime.block_on(DevBroker::start(&settings)).expect("a broker");
    let brokers = broker.address().to_string();
    let config = format!(
        "
        listeners: {{ stream: {{ path: /nowhere/sluice.sock }} }}
        clusters: {{ main: {{ bootstrap_servers: '{brokers}', allowed_topics: [t, 'u*'] }} }}
        producers: {{ leader: {{ producer_request_acks: 1 }}, nobody: {{ producer_request_acks: 0 }} }}"
    );
    let config = sluice::config::load(&config, std::iter::empty())
        .expect("a configuration")
        .config;
    let entered = runtime.enter();
    let gateway = Gateway::new(&config, Arc::new(Metrics::default())).expect("a gateway");
    drop(entered);
    let properties = ("fetch.wait.max.ms".to_owned(), Secret::new("1"));
    let connection = Connection {
        brokers: vec![brokers],
        properties: BTreeMap::from([properties]),
        token: None,
        delegation: None,
    };
    let reader = |(topic, _): (&str, i32)| {
        let selection = Selection {
            topic: topic.to_owned(),
            partition: None,
            from_beginning: true,
        };
        Reader::open(connection.clone(), selection).expect("a reader")
    };
    let readers = Mutex::new(TOPICS.map(reader).into());
    World {
        runtime,
        gateway,
        readers,
        _broker: broker,
    }
});

/// Bytes that are taken one behind the other; what is missing at the end is 0.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn one(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// Of a length that a byte says.
    fn some(&mut self) -> Vec<u8> {
        let length = usize::from(self.one()).min(self.0.len());
        let (some, rest) = self.0.split_at(length);
        self.0 = rest;
        some.to_vec()
    }

    fn text(&mut self) -> String {
        String::from_utf8_lossy(&self.some()).into_owned()
    }

    /// Mostly small, and now and then anything.
    fn number(&mut self) -> i64 {
        match self.one() {
            255 => (0..8).fold(0, |number, _| number << 8 | i64::from(self.one())),
            small => i64::from(small) - 2,
        }
    }

    fn pick<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[usize::from(self.one()) % of.len()]
    }
}

/// A record of which each bit of the first byte says whether something is there.
fn record(from: &mut Bytes<'_>) -> Record {
    let (what, more) = (from.one(), from.one());
    let there = |bit: u8| what >> bit & 1 == 1;
    let mut record = Record {
        topics: vec![from.pick(&["t", "t", "t", "u", "unknown", "x", ""]).to_owned()],
        delivery: i32::from(more & 3),
        ..Record::default()
    };
    if there(0) {
        record.key = Some(from.some().into());
    }
    if there(1) {
        record.value = Some(from.some().into());
    }
    if there(2) {
        record.partition = i32::try_from(from.number()).ok();
    }
    if there(3) {
        record.timestamp_ms = Some(from.number());
    }
    if there(4) {
        for _ in 0..from.one() % 8 {
            let value = (from.one() & 1 == 1).then(|| from.some());
            let name = from.text();
            record.headers.push(Header { name, value });
        }
    }
    if there(5) {
        for _ in 0..from.one() % 4 {
            record.topics.push(from.pick(&["t", "u", "u/", "x"]).to_owned());
        }
    }
    if there(6) {
        from.pick(&["main", "", "other"]).clone_into(&mut record.cluster);
        from.pick(&["leader", "nobody", "default", "other"])
            .clone_into(&mut record.producer);
    }
    if there(7) {
        // Names of anybody's.
        match more >> 2 & 3 {
            0 => record.topics = vec![from.text()],
            1 => record.topics.clear(),
            2 => record.deadline_ms = 500 + u32::from(from.one()),
            _ => record.spool_on_outage = true,
        }
    }
    record
}

/// Every record has one fate in each of its topics, and one that is stored is where that says, as it was sent.
pub(crate) fn produce(data: &[u8]) {
    let mut from = Bytes(data);
    let mut records = Vec::new();
    while !from.0.is_empty() && records.len() < RECORDS {
        records.push(record(&mut from));
    }
    let encoded = ProduceRequest { records }.encode_to_vec();
    let mut request = ProduceRequest::decode(&encoded[..]).expect("what was encoded");
    let sent = request.records.clone();
    for (position, record) in (0..).zip(&mut request.records) {
        record.id = position;
    }
    let (told, fates) = mpsc::channel();
    let entered = WORLD.runtime.enter();
    WORLD.gateway.submit(request.records, &Arc::new(Sink(told)));
    drop(entered);
    // The sink is gone when all of them are told, so that one too many would be seen as well.
    let mut outcomes: Vec<Option<Vec<Outcome>>> = vec![None; sent.len()];
    let until = Instant::now() + LONG;
    loop {
        match fates.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok((position, fate)) => {
                let twice = outcomes[usize::try_from(position).unwrap()].replace(fate);
                assert_eq!(twice, None, "record {position} is told twice");
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("no fate in time: {outcomes:?}"),
        }
    }
    let mut stored = HashMap::new();
    for (record, outcomes) in sent.iter().zip(&outcomes) {
        let outcomes = outcomes.as_ref().expect("a fate");
        check(record, outcomes);
        for (topic, outcome) in record.topics.iter().zip(outcomes) {
            if let Outcome::Stored { partition, offset } = outcome {
                let place = (topic.clone(), *partition, *offset);
                assert!(
                    stored.insert(place, record).is_none(),
                    "two records are at one place"
                );
            }
        }
    }
    read_back(stored);
}

struct Sink(mpsc::Sender<(u64, Vec<Outcome>)>);

impl Recipient for Sink {
    fn settle(&self, outcomes: &mut Vec<(u64, Outcome)>) {
        for (position, outcome) in outcomes.drain(..) {
            self.0.send((position, vec![outcome])).expect("who waits");
        }
    }
}

impl FateSink for Sink {
    fn settle_many(&self, position: u64, outcomes: Vec<Outcome>, _replayed: bool) {
        self.0.send((position, outcomes)).expect("who waits");
    }
}

/// Whether the outcomes are some that such a record may have.
fn check(record: &Record, outcomes: &[Outcome]) {
    for outcome in outcomes {
        if let Outcome::Failed(failure) = outcome {
            assert!(
                !failure.message.is_empty() && failure.message.len() <= MAX_MESSAGE,
                "{failure:?}"
            );
        }
    }
    let only = |class: ErrorClass| {
        let [Outcome::Failed(failure)] = outcomes else {
            panic!("{outcomes:?}, not {class:?}, of {record:?}")
        };
        assert_eq!(failure.class, class, "{failure:?}");
    };
    let known = |name: &str, names: &[&str]| names.contains(&name);
    if !known(&record.cluster, &["", "main"])
        || !known(&record.producer, &["", "default", "leader", "nobody"])
    {
        return only(ErrorClass::RouteMisconfigured);
    }
    if record.topics.is_empty()
        || record.partition.is_some_and(|partition| partition < 0)
        || record.timestamp_ms.is_some_and(|time| time < 1)
        || record.headers.iter().any(|header| header.name.contains('\0'))
    {
        return only(ErrorClass::InvalidRequest);
    }
    // There is no spool.
    if record.delivery() == Delivery::Spooled || record.spool_on_outage {
        return only(ErrorClass::RouteMisconfigured);
    }
    assert_eq!(outcomes.len(), record.topics.len());
    for (topic, outcome) in record.topics.iter().zip(outcomes) {
        let there = TOPICS.iter().find(|(name, _)| name == topic);
        let class = match outcome {
            Outcome::Failed(failure) => Some(failure.class),
            _ => None,
        };
        if topic != "t" && !topic.starts_with('u') {
            assert_eq!(class, Some(ErrorClass::TopicNotAllowed), "{topic:?}: {outcome:?}");
        } else if there.is_none() {
            // Not known in time, not a name, or (buffered) taken on before anybody knows.
            let well = matches!(class, Some(ErrorClass::UnknownTopic | ErrorClass::InvalidRequest))
                || class == Some(ErrorClass::ClusterUnavailable)
                || (*outcome == Outcome::Accepted && record.delivery() == Delivery::Buffered);
            assert!(well, "{topic:?}: {outcome:?}");
        } else if let Outcome::Stored { partition, .. } = outcome {
            assert!(record.partition.is_none_or(|asked| asked == *partition));
            assert!(record.delivery() != Delivery::Buffered && record.producer != "nobody");
        }
    }
}

/// Whether what is stored is what was sent.
fn read_back(mut stored: HashMap<(String, i32, i64), &Record>) {
    let mut readers: MutexGuard<'_, Vec<Reader>> =
        WORLD.readers.lock().unwrap_or_else(PoisonError::into_inner);
    let until = Instant::now() + LONG;
    for (reader, (topic, _)) in readers.iter_mut().zip(TOPICS) {
        while stored.keys().any(|(name, ..)| name == topic) {
            assert!(Instant::now() < until, "not read back: {stored:?}");
            let Next::Record(found) = reader.next(Duration::from_millis(100)).expect("a topic") else {
                continue;
            };
            let place = (found.topic.clone(), found.partition, found.offset);
            if let Some(sent) = stored.remove(&place) {
                same(sent, &found);
            }
        }
    }
}

fn same(sent: &Record, found: &consumer::Record) {
    assert_eq!(sent.key.as_deref(), found.key.as_deref());
    assert_eq!(sent.value.as_deref(), found.value.as_deref());
    if let Some(time) = sent.timestamp_ms {
        assert_eq!(found.timestamp, Some(time));
    }
    let headers = sent.headers.iter();
    let headers = headers.map(|header| (header.name.clone().into_bytes(), header.value.clone()));
    assert_eq!(headers.collect::<Vec<_>>(), found.headers);
}
