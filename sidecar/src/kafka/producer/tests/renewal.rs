//! A client takes over from another.

use super::*;
use crate::config::Secret;

/// `cluster` as [`producer`] makes it, by another name of the client.
fn renewed(servers: String, id: &str) -> Cluster {
    Cluster {
        bootstrap_servers: vec![servers],
        properties: [("client.id".to_owned(), Secret::new(id))].into(),
        allowed_topics: TopicAllowlist(vec!["orders".to_owned()]),
        ..Cluster::default()
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn client_of(producer: &Producer) -> Option<String> {
    producer.shared.lock().native().property("client.id")
}

/// Whether records of one partition have their offsets in the order of their tokens.
fn assert_in_order(outcomes: &[(u64, Outcome)]) {
    let mut last = std::collections::HashMap::new();
    let mut outcomes = outcomes.to_vec();
    outcomes.sort_by_key(|(token, _)| *token);
    for (token, outcome) in outcomes {
        let Outcome::Stored { partition, offset } = outcome else {
            panic!("{token}: {outcome:?}");
        };
        let before = last.insert(partition, offset);
        assert!(
            before.is_none_or(|before| before < offset),
            "{token} at {offset}, after {before:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_each_client_takes_over_and_nothing_is_lost_or_out_of_order() {
    let mock = mock();
    let (producer, metrics) = producer(mock.bootstrap_servers(), 100_000);
    let told = Arc::new(Told::default());
    send(&producer, &told, 0..1);
    told.wait(1);
    mock.broker_round_trip_time(1, Duration::from_millis(20)).unwrap();
    let mut sent = 1;
    for id in ["first", "second", "third"] {
        producer.renew(&renewed(mock.bootstrap_servers(), id)).unwrap();
        until("it takes over", || {
            send(&producer, &told, sent..sent + 10);
            sent += 10;
            client_of(&producer).as_deref() == Some(id) && producer.shared.lock().retiring().is_none()
        });
    }
    let outcomes = told.wait(usize::try_from(sent).unwrap());
    assert_eq!(outcomes.len() as u64, sent, "somebody was told twice");
    assert_in_order(&outcomes);
    let applied = "sluice_cluster_reloads_total{cluster=\"main\",result=\"applied\"} 3";
    assert!(metrics.encode().unwrap().contains(applied));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reaches_nobody_does_not_take_over() {
    let mock = mock();
    let (producer, metrics) = producer(mock.bootstrap_servers(), 100_000);
    let told = Arc::new(Told::default());
    send(&producer, &told, 0..1);
    told.wait(1);
    producer.renew(&renewed("127.0.0.1:1".to_owned(), "bad")).unwrap();
    until("it is told", || producer.renewal_trouble().is_some());
    let why = producer.renewal_trouble().unwrap();
    assert!(why.contains("nobody listens there"), "{why}");
    send(&producer, &told, 1..10);
    assert_in_order(&told.wait(10));
    assert_ne!(client_of(&producer).as_deref(), Some("bad"));
    producer
        .renew(&renewed(mock.bootstrap_servers(), "good"))
        .unwrap();
    until("it takes over", || {
        client_of(&producer).as_deref() == Some("good")
    });
    until("nothing is wrong", || producer.renewal_trouble().is_none());
    let text = metrics.encode().unwrap();
    for line in ["result=\"not_accepted\"} 1", "result=\"applied\"} 1"] {
        until(line, || metrics.encode().unwrap().contains(line));
    }
    assert!(!text.contains("bad_files"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_old_client_cannot_send_goes_to_the_new_one_in_order() {
    let (old, new) = (mock(), mock());
    let (producer, _) = producer(old.bootstrap_servers(), 100_000);
    let told = Arc::new(Told::default());
    let (mut first, mut sent) = (0, 0);
    // The library is to have records that it cannot send: those that come before it says that nobody is there.
    while producer.shared.lock().handed() == 0 {
        assert!(sent < 5_000, "the old client never has anything");
        old.broker_up(1).unwrap();
        until("the old one has it all", || {
            send(&producer, &told, sent..sent + 1);
            sent += 1;
            told.wait(usize::try_from(sent).unwrap());
            producer.shared.lock().is_up()
        });
        first = sent;
        old.broker_down(1).unwrap();
        until("it is down", || {
            send(&producer, &told, sent..sent + 1);
            sent += 1;
            std::thread::sleep(Duration::from_millis(1));
            producer.shared.lock().is_down()
        });
    }
    send(&producer, &told, sent..sent + 100);
    sent += 100;
    producer.renew(&renewed(new.bootstrap_servers(), "new")).unwrap();
    let outcomes = told.wait(usize::try_from(sent).unwrap());
    let of_new = |(token, _): &&(u64, Outcome)| *token >= first;
    assert_in_order(&outcomes.iter().filter(of_new).cloned().collect::<Vec<_>>());
    until("the old one is gone", || {
        producer.shared.lock().retiring().is_none()
    });
    assert_eq!(producer.outstanding(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_stuck_holds_up_no_other() {
    let mock = Mock::new(2).unwrap();
    for (topic, leader) in [("orders", 1), ("stuck", 2)] {
        mock.create_topic(topic, 1, 1).unwrap();
        mock.partition_leader(topic, 0, Some(leader)).unwrap();
    }
    let (producer, _) = producer(mock.bootstrap_servers(), 100_000);
    let told = Arc::new(Told::default());
    let stuck = Arc::new(Told::default());
    let to_stuck = |token: u64| {
        let submission = Submission {
            record: Record {
                topic: "stuck".to_owned(),
                value: Some("x".into()),
                ..Record::default()
            },
            delivery: Delivery::Acked {
                deadline: Instant::now() + PATIENCE * 2,
            },
            receipt: Receipt {
                recipient: Arc::clone(&stuck) as Arc<dyn Recipient>,
                token,
            },
            aside: None,
            label: "stuck".into(),
            client: 0,
        };
        producer.submit(&mut vec![submission]);
    };
    send(&producer, &told, 0..1);
    to_stuck(0);
    told.wait(1);
    stuck.wait(1);
    mock.broker_down(2).unwrap();
    to_stuck(1);
    std::thread::sleep(Duration::from_millis(300));
    to_stuck(2);
    producer.renew(&renewed(mock.bootstrap_servers(), "new")).unwrap();
    until("it takes over", || client_of(&producer).as_deref() == Some("new"));
    assert!(producer.shared.lock().retiring().is_some());
    send(&producer, &told, 1..10);
    assert_in_order(&told.wait(10));
    assert!(producer.shared.lock().retiring().is_some());
    mock.broker_up(2).unwrap();
    assert_in_order(&stuck.wait(3));
    until("the old one is gone", || {
        producer.shared.lock().retiring().is_none()
    });
}
