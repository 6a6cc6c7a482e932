//! A partition that goes to another sidecar, or is taken up again, while some of it is finished behind what is not.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};
use sluice::subscriptions::running::{Order, Selection, To};

use crate::world::{Handler, Mock, PATIENCE, World, committed, mock, until, write};

const GOOD: usize = 30;

/// Records of a key that fails, with those of others between.
fn fill(mock: &Mock) {
    let records: Vec<(String, String)> = (0..GOOD)
        .flat_map(|n| {
            let bad = (n % 3 == 0).then(|| ("bad".to_owned(), n.to_string()));
            bad.into_iter().chain([(format!("k{n}"), n.to_string())])
        })
        .collect();
    let records: Vec<(&str, &str)> = records.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    write(mock, "orders", 0, &records);
}

const BAD: usize = GOOD / 3;
const END: i64 = 40;

/// What fails stays in memory, and holds up what is committed.
fn options() -> Value {
    json!({"max_held": 0, "concurrency": 8, "circuit_breaker": {"consecutive_failures": 0},
        "retry": {"initial_interval": "50ms", "max_interval": "50ms"}})
}

fn taken(handler: &Handler) -> usize {
    handler.calls().iter().filter(|call| call.status == 200).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_finished_behind_a_gap_is_not_delivered_again() {
    let mock = mock(&[("orders", 1)]);
    let handler = Handler::start().await;
    let well = handler.refuses(503, |call| call.key == "bad");
    fill(&mock);
    for _ in 0..3 {
        let world = World::start(&mock, &handler, options());
        world
            .until("the bad ones hold up what is committed", |status| {
                status
                    .partitions
                    .iter()
                    .any(|part| part.position == Some(0) && part.end == Some(END) && part.buffered == BAD)
            })
            .await;
        world.stop().await;
        assert_eq!(taken(&handler), GOOD, "each once");
    }
    well.store(true, Ordering::SeqCst);
    let world = World::start(&mock, &handler, options());
    world
        .until("everything committed", |status| committed(status, &[END]))
        .await;
    assert_eq!(taken(&handler), GOOD + BAD);
    let bad: Vec<String> = (0..GOOD).step_by(3).map(|n| n.to_string()).collect();
    assert_eq!(handler.taken("bad"), bad);

    // Whoever seeks wants everything again.
    let sought = Order::Seek {
        partitions: Selection::default(),
        to: To::Earliest,
    };
    world.order(sought).await.unwrap();
    until("everything again", || taken(&handler) == 2 * (GOOD + BAD)).await;
    world
        .until("everything committed", |status| committed(status, &[END]))
        .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_somebody_else_commits_takes_away_what_was_finished_after_it() {
    let mock = mock(&[("orders", 1)]);
    let handler = Handler::start().await;
    let well = handler.refuses(503, |call| call.key == "bad");
    fill(&mock);
    let world = World::start(&mock, &handler, options());
    world
        .until("the others are finished", |status| {
            status
                .partitions
                .iter()
                .any(|part| part.end == Some(END) && part.buffered == BAD)
        })
        .await;
    world.stop().await;
    well.store(true, Ordering::SeqCst);

    // Another program of the group commits the position that it has already.
    tokio::task::block_in_place(|| {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", mock.bootstrap_servers())
            .set("session.timeout.ms", "6000")
            .set("enable.auto.commit", "false")
            .set("group.id", "sub");
        let consumer: BaseConsumer = config.create().unwrap();
        consumer.subscribe(&["orders"]).unwrap();
        let until = Instant::now() + PATIENCE;
        while consumer.assignment().unwrap().count() == 0 {
            assert!(Instant::now() < until, "it does not join");
            drop(consumer.poll(Duration::from_millis(50)));
        }
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("orders", 0, Offset::Offset(0)).unwrap();
        consumer.commit(&list, CommitMode::Sync).unwrap();
    });

    let world = World::start(&mock, &handler, options());
    world
        .until("everything committed", |status| committed(status, &[END]))
        .await;
    assert_eq!(taken(&handler), GOOD + GOOD + BAD);
    world.stop().await;
}
