mod aside;
mod overload;
mod profile;
mod renewal;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use sluice_proto::v1::ErrorClass;

use super::Producer;
use super::bag::Bag;
use super::topics;
use crate::config::{Cluster, Profile, TopicAllowlist};
use crate::kafka::error::Persistence;
use crate::kafka::native;
use crate::kafka::record::{Delivery, Outcome, Receipt, Recipient, Record, Submission};
use crate::metrics::Metrics;

const PATIENCE: Duration = Duration::from_secs(30);

type Mock = MockCluster<'static, DefaultProducerContext>;

/// Keeps what it is told.
#[derive(Default)]
struct Told(Mutex<Vec<(u64, Outcome)>>);

impl Recipient for Told {
    fn settle(&self, outcomes: &mut Vec<(u64, Outcome)>) {
        self.0.lock().unwrap().append(outcomes);
    }
}

impl Told {
    /// Waits until this many are told.
    fn wait(&self, count: usize) -> Vec<(u64, Outcome)> {
        let until = Instant::now() + PATIENCE;
        loop {
            let told = self.0.lock().unwrap().clone();
            if told.len() >= count {
                return told;
            }
            assert!(Instant::now() < until, "{told:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn producer(servers: String, max_records: usize) -> (Producer, Arc<Metrics>) {
    let cluster = Cluster {
        bootstrap_servers: vec![servers],
        properties: Default::default(),
        allowed_topics: TopicAllowlist(vec!["orders".to_owned()]),
        ..Cluster::default()
    };
    let profile = Profile {
        idempotent: true,
        max_records,
        max_bytes: 1_000_000,
        ..Profile::default()
    };
    let metrics = Arc::new(Metrics::default());
    let producer = Producer::start(
        "test".to_owned(),
        &cluster,
        &profile,
        metrics.producer("main", "default"),
    )
    .unwrap();
    (producer, metrics)
}

fn send(producer: &Producer, told: &Arc<Told>, tokens: std::ops::Range<u64>) {
    let submission = |token: u64| Submission {
        record: Record {
            topic: "orders".to_owned(),
            value: Some(token.to_string().into()),
            ..Record::default()
        },
        delivery: Delivery::Acked {
            deadline: Instant::now() + PATIENCE,
        },
        receipt: Receipt {
            recipient: Arc::clone(told) as Arc<dyn Recipient>,
            token,
        },
        label: "orders".into(),
        client: 0,
        aside: None,
    };
    producer.submit(&mut tokens.map(submission).collect());
}

fn mock() -> Mock {
    let mock = Mock::new(1).unwrap();
    mock.create_topic("orders", 1, 1).unwrap();
    mock
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fatal_error_replaces_the_producer_and_every_record_is_told_the_truth() {
    let mock = mock();
    let (producer, metrics) = producer(mock.bootstrap_servers(), 10_000);
    let told = Arc::new(Told::default());
    send(&producer, &told, 0..10);
    told.wait(10);
    mock.broker_round_trip_time(1, Duration::from_millis(300))
        .unwrap();
    send(&producer, &told, 10..20);
    let failed = Arc::clone(producer.shared.lock().native());
    failed.fail_fatally();
    send(&producer, &told, 20..30);
    let outcomes = told.wait(30);
    assert_eq!(outcomes.len(), 30, "somebody was told twice");
    for (token, outcome) in &outcomes {
        match outcome {
            Outcome::Stored { .. } => {}
            // What was under way when it failed.
            Outcome::Failed(failure) if (10..20).contains(token) => {
                let class = failure.class;
                let truthful = [
                    ErrorClass::OutcomeUnknown,
                    ErrorClass::SidecarUnavailable,
                    ErrorClass::ClusterUnavailable,
                ];
                assert!(truthful.contains(&class), "{failure:?}");
            }
            other => panic!("{token}: {other:?}"),
        }
    }
    assert!(
        metrics
            .encode()
            .unwrap()
            .contains("sluice_producer_rebuilds_total{cluster=\"main\",producer=\"default\"} 1")
    );
    assert!(!Arc::ptr_eq(&failed, producer.shared.lock().native()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_there_is_not_taken_to_be_gone_at_once() {
    use rdkafka::types::RDKafkaRespErr as Raw;
    let mock = mock();
    let (producer, _metrics) = producer(mock.bootstrap_servers(), 100);
    let told = Arc::new(Told::default());
    send(&producer, &told, 0..1);
    told.wait(1);
    let ask_again = || {
        let mut state = producer.shared.lock();
        let key = state.topics.find("orders").unwrap();
        state.topics.get(key).unwrap().standing = topics::Standing::Unknown;
    };
    mock.topic_error("orders", Raw::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        .unwrap();
    ask_again();
    send(&producer, &told, 1..2);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(told.wait(1).len(), 1, "it was asked about more than once");
    mock.topic_error("orders", Raw::RD_KAFKA_RESP_ERR_NO_ERROR)
        .unwrap();
    let (_, outcome) = told.wait(2).pop().unwrap();
    assert!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
    // One that stays away is gone; and is then believed to be.
    mock.topic_error("orders", Raw::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        .unwrap();
    ask_again();
    for token in 2..4 {
        send(&producer, &told, token..token + 1);
        let (_, outcome) = told.wait(token as usize + 1).pop().unwrap();
        let Outcome::Failed(failure) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(failure.class, ErrorClass::UnknownTopic, "{failure:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_tells_everybody() {
    let (producer, _metrics) = producer("127.0.0.1:1".to_owned(), 10_000);
    let told = Arc::new(Told::default());
    send(&producer, &told, 0..10);
    assert_eq!(producer.close(), 10);
    send(&producer, &told, 10..11);
    for (_, outcome) in told.wait(11) {
        let Outcome::Failed(failure) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(failure.class, ErrorClass::SidecarUnavailable);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_is_dropped_tells_everybody() {
    let mock = mock();
    let told = Arc::new(Told::default());
    let (producer, _metrics) = producer(mock.bootstrap_servers(), 10_000);
    send(&producer, &told, 0..1);
    told.wait(1);
    mock.broker_round_trip_time(1, Duration::from_secs(60)).unwrap();
    send(&producer, &told, 1..5);
    drop(producer);
    for (token, outcome) in told.wait(5).drain(1..) {
        let Outcome::Failed(failure) = outcome else {
            panic!("{token}: {outcome:?}")
        };
        assert_eq!(failure.class, ErrorClass::OutcomeUnknown);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_producer_takes_more_once_there_is_room() {
    let mock = mock();
    let (producer, _metrics) = producer(mock.bootstrap_servers(), 100);
    let told = Arc::new(Told::default());
    send(&producer, &told, 0..1000);
    let full = told
        .wait(1000)
        .into_iter()
        .filter(|(_, outcome)| matches!(outcome, Outcome::Failed(f) if f.class == ErrorClass::BufferFull))
        .count();
    assert_eq!(full, 900);
    send(&producer, &told, 1000..1001);
    let last = told.wait(1001).pop().unwrap();
    assert!(matches!(last, (1000, Outcome::Stored { .. })), "{last:?}");
}

/// A spooled record that was refused for another in its batch is held no longer than its spool said, whatever the
/// library's own timeout is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spooled_record_that_is_sent_again_is_given_back_in_time() {
    let mock = mock();
    let (producer, _metrics) = producer(mock.bootstrap_servers(), 100);
    let told = Arc::new(Told::default());
    send(&producer, &told, 0..1);
    told.wait(1);
    mock.broker_round_trip_time(1, Duration::from_secs(60)).unwrap();
    let held_until = Instant::now() + Duration::from_millis(500);
    let record = Record {
        topic: "orders".to_owned(),
        ..Record::default()
    };
    producer.submit(&mut vec![Submission {
        record: record.clone(),
        delivery: Delivery::Spooled { held_until },
        receipt: Receipt {
            recipient: Arc::clone(&told) as Arc<dyn Recipient>,
            token: 1,
        },
        label: "orders".into(),
        client: 0,
        aside: None,
    }]);
    {
        let mut state = producer.shared.lock();
        let (key, _) = state.pending.iter().next().unwrap();
        let report = native::Delivery {
            opaque: key,
            code: Code::MessageSizeTooLarge,
            status: Persistence::Not,
            partition: 0,
            offset: -1,
            again: Some(Box::new(record)),
        };
        let mut bag = Bag::default();
        state.down("gone".to_owned());
        state.delivered(report, Instant::now(), &mut bag);
        assert_eq!((state.held, state.handed()), (1, 0));
        bag.send();
    }
    producer.shared.driver.notify_one();
    let (_, outcome) = told.wait(2).pop().unwrap();
    assert!(Instant::now() >= held_until);
    let Outcome::Failed(failure) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(failure.class, ErrorClass::ClusterUnavailable);
}
