//! What a producer refuses for want of room.

use super::*;

fn start(servers: &str, profile: Profile, topics: &[&str]) -> (Producer, Arc<Metrics>) {
    let cluster = Cluster {
        bootstrap_servers: vec![servers.to_owned()],
        properties: Default::default(),
        allowed_topics: TopicAllowlist(topics.iter().map(|topic| (*topic).to_owned()).collect()),
        ..Cluster::default()
    };
    let metrics = Arc::new(Metrics::default());
    let counted = metrics.producer("main", "default");
    let producer = Producer::start("test".to_owned(), &cluster, &profile, counted).unwrap();
    (producer, metrics)
}

fn offer(producer: &Producer, told: &Arc<Told>, topic: &str, token: u64, delivery: Delivery) {
    producer.submit(&mut vec![Submission {
        record: Record {
            topic: topic.to_owned(),
            value: Some("0123456789".into()),
            ..Record::default()
        },
        delivery,
        receipt: Receipt {
            recipient: Arc::clone(told) as Arc<dyn Recipient>,
            token,
        },
        label: topic.into(),
        client: 0,
        aside: None,
    }]);
}

fn acked() -> Delivery {
    Delivery::Acked {
        deadline: Instant::now() + PATIENCE,
    }
}

fn refused(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::Failed(failure) if failure.class == ErrorClass::BufferFull => Some(&failure.message),
        _ => None,
    }
}

/// `max_queueing_time`: what would wait longer is refused, what is only to be held is not, and another topic is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_wait_too_long_is_refused() {
    let mock = mock();
    mock.create_topic("other", 1, 1).unwrap();
    let profile = Profile {
        idempotent: true,
        max_records: 100_000,
        max_bytes: 10_000_000,
        max_queueing_time: Duration::from_millis(100),
        ..Profile::default()
    };
    let (producer, metrics) = start(&mock.bootstrap_servers(), profile, &["orders", "other"]);
    let told = Arc::new(Told::default());
    for (token, topic) in [(0, "orders"), (1, "other")] {
        offer(&producer, &told, topic, token, acked());
    }
    told.wait(2);
    mock.broker_round_trip_time(1, Duration::from_secs(60)).unwrap();
    // Records come until one is refused.
    let until = Instant::now() + PATIENCE;
    let text = (2..)
        .find_map(|token| {
            assert!(Instant::now() < until, "nothing is refused");
            offer(&producer, &told, "orders", token, acked());
            std::thread::sleep(Duration::from_millis(5));
            let told = told.0.lock().unwrap();
            told.iter()
                .find_map(|(_, outcome)| refused(outcome).map(str::to_owned))
        })
        .unwrap();
    assert!(
        text.contains("topic orders") && text.contains("max_queueing_time"),
        "{text}"
    );
    let taken = producer.outstanding();
    offer(&producer, &told, "orders", 1_000_000, Delivery::Buffered);
    offer(&producer, &told, "other", 1_000_001, acked());
    assert_eq!(producer.outstanding(), taken + 2);
    let text = metrics.encode().unwrap();
    let counted = |reason: &str| text.contains(&format!("topic=\"orders\",reason=\"{reason}\"}}"));
    assert!(counted("queueing") || counted("stuck"), "{text}");
}

/// A topic leaves room to others in the producer's bounds, of records and of bytes, unless there can be no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_has_its_share_of_the_bounds() {
    for (max_records, max_bytes) in [(90, 1_000_000), (1000, 900)] {
        let profile = Profile {
            max_records,
            max_bytes,
            ..Profile::default()
        };
        for (topics, first) in [
            (vec!["orders"], 90),
            (vec!["orders", "other"], 80),
            (vec!["o*"], 80),
        ] {
            let (producer, _) = start("127.0.0.1:1", profile.clone(), &topics);
            producer.shared.lock().down("nobody is there".to_owned());
            let told = Arc::new(Told::default());
            for token in 0..100 {
                offer(&producer, &told, "orders", token, acked());
            }
            assert_eq!(producer.outstanding(), first, "{topics:?} {max_records}");
            let outcome = told.wait(100 - first).pop().unwrap().1;
            assert!(refused(&outcome).is_some(), "{outcome:?}");
            if first < 90 {
                offer(&producer, &told, "other", 100, acked());
                assert_eq!(producer.outstanding(), first + 1);
            }
        }
    }
}

/// What waits for word of its topic is not refused for waiting: its deadline says how long it may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_is_held_until_its_deadline() {
    let profile = Profile {
        max_records: 1000,
        max_bytes: 1_000_000,
        max_queueing_time: Duration::from_millis(1),
        ..Profile::default()
    };
    let (producer, _) = start("127.0.0.1:1", profile, &["orders"]);
    let told = Arc::new(Told::default());
    for token in 0..100 {
        offer(&producer, &told, "orders", token, acked());
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(producer.outstanding(), 100);
}
