//! Subscriptions of one service: a key of it is with its handlers once at a time, whatever topic its record comes by.

use std::time::Duration;

use serde_json::{Value, json};
use sluice::subscriptions::running::{Order, Selection, To};

use crate::world::{Handler, Mock, World, committed, mock, service, until, write};

const PARTITIONS: i32 = 3;
const EACH: usize = 12;

/// Writes numbered records of one key to each partition of a topic; a key is in the same partition of each topic.
fn fill(mock: &Mock, topic: &str, from: usize) {
    for partition in 0..PARTITIONS {
        let key = format!("k{partition}");
        let values: Vec<String> = (from..from + EACH).map(|n| format!("{topic}-{n}")).collect();
        let records: Vec<(&str, &str)> = values
            .iter()
            .map(|value| (key.as_str(), value.as_str()))
            .collect();
        write(mock, topic, partition, &records);
    }
}

fn two(options: &Value) -> [(&'static str, &'static str, Value); 2] {
    [("a", "carts", options.clone()), ("b", "orders", options.clone())]
}

/// Whether the handler took all of a topic's records of each key, each first in order.
fn in_order(handler: &Handler, topic: &str, count: usize) {
    for partition in 0..PARTITIONS {
        let taken = handler.taken(&format!("k{partition}"));
        let mut first: Vec<String> = Vec::new();
        for value in taken {
            if value.starts_with(topic) && !first.contains(&value) {
                first.push(value);
            }
        }
        let expected: Vec<String> = (0..count).map(|n| format!("{topic}-{n}")).collect();
        assert_eq!(first, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_with_one_of_them_at_a_time() {
    for together in [true, false] {
        let mock = mock(&[("carts", PARTITIONS), ("orders", PARTITIONS)]);
        let handler = Handler::start().await;
        handler.takes(Duration::from_millis(10));
        fill(&mock, "carts", 0);
        fill(&mock, "orders", 0);
        let world = World::service(&mock, &handler, &two(&json!({"concurrency": 8})), together);
        let all = usize::try_from(PARTITIONS).unwrap() * EACH * 2;
        until("everything delivered", || handler.calls().len() >= all).await;
        in_order(&handler, "carts", EACH);
        in_order(&handler, "orders", EACH);
        // That the handler would have seen it shows where they are not read together.
        assert_eq!(handler.overlapped(), !together);
        assert!(handler.most() > 1);
        let end = i64::try_from(EACH).unwrap();
        until("everything committed", || {
            let status = |id| world.handle.status(id).unwrap();
            committed(&status("a"), &[end; 3]) && committed(&status("b"), &[end; 3])
        })
        .await;
        assert_eq!(handler.calls().len(), all);
        let group = world.handle.status("a").unwrap().group;
        assert_eq!(group, if together { "sluice-Cart" } else { "a" });
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sidecars_come_and_go_and_a_key_is_in_one_place() {
    let mock = mock(&[("carts", PARTITIONS), ("orders", PARTITIONS)]);
    let handler = Handler::start().await;
    handler.takes(Duration::from_millis(5));
    let all = two(&json!({"concurrency": 8}));
    let first = World::service(&mock, &handler, &all, true);
    fill(&mock, "carts", 0);
    fill(&mock, "orders", 0);
    until("some delivered", || handler.calls().len() > 10).await;
    let second = World::service(&mock, &handler, &all, true);
    until("each has the same partitions of both topics", || {
        let of = |world: &World, id| {
            let status = world.handle.status(id).unwrap();
            let parts = status.partitions.iter().map(|part| part.partition);
            parts.collect::<Vec<_>>()
        };
        let (one, two) = (of(&first, "a"), of(&second, "a"));
        !one.is_empty() && !two.is_empty() && one == of(&first, "b") && two == of(&second, "b")
    })
    .await;
    fill(&mock, "carts", EACH);
    fill(&mock, "orders", EACH);
    first.stop().await;
    fill(&mock, "carts", 2 * EACH);
    fill(&mock, "orders", 2 * EACH);
    let count = 3 * EACH * usize::try_from(PARTITIONS).unwrap() * 2;
    // The mock, unlike Kafka, takes no position while it waits for the members: what a rebalance kept from being committed may come
    // twice here.
    let distinct = || {
        let calls = handler.calls().into_iter();
        let taken = calls.map(|call| (call.key, call.value));
        taken.collect::<std::collections::BTreeSet<_>>().len()
    };
    until("everything delivered", || distinct() == count).await;
    in_order(&handler, "carts", 3 * EACH);
    in_order(&handler, "orders", 3 * EACH);
    assert!(!handler.overlapped());
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_topic_that_two_read_each_goes_on_where_it_was() {
    let mock = mock(&[("carts", PARTITIONS)]);
    let handler = Handler::start().await;
    fill(&mock, "carts", 0);
    let each = EACH * usize::try_from(PARTITIONS).unwrap();
    let both = |paused: bool| {
        [
            ("a", "carts", json!({"concurrency": 8})),
            ("b", "carts", json!({"concurrency": 8, "paused": paused})),
        ]
    };
    let world = World::service(&mock, &handler, &both(true), true);
    until("the first's delivered", || handler.calls().len() == each).await;
    until("the other one holds up what is committed", || {
        let position = |part: &sluice::subscriptions::running::Partition| part.position == Some(0);
        let status = world.handle.status("b").unwrap();
        status.partitions.len() == 3 && status.partitions.iter().all(position)
    })
    .await;
    world.stop().await;

    let world = World::service(&mock, &handler, &both(false), true);
    let end = i64::try_from(EACH).unwrap();
    until("all committed", || {
        let status = |id| world.handle.status(id).unwrap();
        committed(&status("a"), &[end; 3]) && committed(&status("b"), &[end; 3])
    })
    .await;
    assert_eq!(handler.calls().len(), 2 * each, "each was given each once");
    world.stop().await;

    // One that does not run keeps its place, and the other one does not begin anew for it.
    fill(&mock, "carts", EACH);
    for _ in 0..2 {
        let mut desired = service(&mock, &handler, &both(false), true);
        desired.subscriptions.remove("b");
        let world = World::of(desired);
        until("the first has all", || {
            let status = world.handle.status("a").unwrap();
            status.partitions.len() == 3
                && status
                    .partitions
                    .iter()
                    .all(|part| part.position == Some(2 * end))
        })
        .await;
        world.stop().await;
        assert_eq!(handler.calls().len(), 3 * each);
    }
    let world = World::service(&mock, &handler, &both(false), true);
    until("all committed", || {
        let status = |id| world.handle.status(id).unwrap();
        committed(&status("a"), &[2 * end; 3]) && committed(&status("b"), &[2 * end; 3])
    })
    .await;
    assert_eq!(handler.calls().len(), 4 * each);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_added_paused_or_sought_leaves_the_others_their_place() {
    let mock = mock(&[("carts", PARTITIONS), ("orders", PARTITIONS)]);
    let handler = Handler::start().await;
    handler.takes(Duration::from_millis(2));
    let all = two(&json!({"concurrency": 8}));
    fill(&mock, "carts", 0);
    fill(&mock, "orders", 0);
    let world = World::service(&mock, &handler, &all[..1], true);
    let each = EACH * usize::try_from(PARTITIONS).unwrap();
    until("the first's delivered", || handler.calls().len() >= each).await;

    world.desired.send_replace(service(&mock, &handler, &all, true));
    until("the second's delivered", || handler.calls().len() >= 2 * each).await;
    in_order(&handler, "orders", EACH);

    let mut paused = all.clone();
    paused[1].2["paused"] = true.into();
    world
        .desired
        .send_replace(service(&mock, &handler, &paused, true));
    fill(&mock, "carts", EACH);
    fill(&mock, "orders", EACH);
    until("the first's delivered", || handler.calls().len() >= 3 * each).await;
    let end = i64::try_from(2 * EACH).unwrap();
    until("the first's committed", || {
        committed(&world.handle.status("a").unwrap(), &[end; 3])
    })
    .await;
    in_order(&handler, "carts", 2 * EACH);
    in_order(&handler, "orders", EACH);
    world.desired.send_replace(service(&mock, &handler, &all, true));
    until("the second's delivered", || handler.calls().len() >= 4 * each).await;
    until("all committed", || {
        let status = |id| world.handle.status(id).unwrap();
        committed(&status("a"), &[end; 3]) && committed(&status("b"), &[end; 3])
    })
    .await;
    assert_eq!(handler.calls().len(), 4 * each, "nothing came twice");

    let sought = Order::Seek {
        partitions: Selection {
            topic: Some("orders".to_owned()),
            partition: Some(1),
        },
        to: To::Earliest,
    };
    world.handle.order("b", sought).await.unwrap();
    until("it is delivered again", || {
        handler.calls().len() >= 4 * each + 2 * EACH
    })
    .await;
    until("all committed", || {
        let status = |id| world.handle.status(id).unwrap();
        committed(&status("a"), &[end; 3]) && committed(&status("b"), &[end; 3])
    })
    .await;
    let again = handler.taken("k1");
    assert_eq!(again.iter().filter(|value| *value == "orders-0").count(), 2);
    assert_eq!(again.iter().filter(|value| *value == "carts-0").count(), 1);
    assert_eq!(handler.calls().len(), 4 * each + 2 * EACH);
    assert!(!handler.overlapped());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_waits_to_be_tried_again_is_its_subscription_s_only() {
    let mock = mock(&[("carts", PARTITIONS), ("orders", PARTITIONS)]);
    let handler = Handler::start().await;
    handler.answers(|call| if call.value.starts_with("carts") { 503 } else { 200 });
    fill(&mock, "carts", 0);
    fill(&mock, "orders", 0);
    let options = json!({"concurrency": 8, "retry": {"initial_interval": "300ms", "max_interval": "300ms"},
        "circuit_breaker": {"consecutive_failures": 0}});
    let world = World::service(&mock, &handler, &two(&options), true);
    let each = EACH * usize::try_from(PARTITIONS).unwrap();
    let taken = |topic: &str| {
        let calls = handler.calls().into_iter();
        calls
            .filter(|call| call.status == 200 && call.value.starts_with(topic))
            .count()
    };
    until("the others' delivered", || taken("orders") == each).await;
    assert_eq!(taken("carts"), 0);
    handler.answers(|_| 200);
    until("those too", || taken("carts") == each).await;
    in_order(&handler, "carts", EACH);
    in_order(&handler, "orders", EACH);
    assert!(!handler.overlapped());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_not_there_of_all_topics_is_not_delivered_and_says_so() {
    let mock = mock(&[("carts", PARTITIONS), ("orders", 2)]);
    let handler = Handler::start().await;
    for partition in 0..PARTITIONS {
        write(&mock, "carts", partition, &[("k", "v")]);
    }
    let world = World::service(&mock, &handler, &two(&json!({})), true);
    until("it is said", || {
        let error = world.handle.status("a").unwrap().last_error;
        error.is_some_and(|error| error.error.contains("carts@2 is not delivered"))
    })
    .await;
    let mut partitions: Vec<i32> = handler.calls().iter().map(|call| call.partition).collect();
    partitions.sort_unstable();
    assert_eq!(partitions, [0, 1]);
    world.stop().await;
}

/// A subscription that starts workflows.
fn flow(mock: &Mock, handler: &Handler, options: &Value) -> World {
    let mut desired = service(mock, handler, &[("a", "carts", options.clone())], true);
    for called in desired.called.values_mut() {
        called.as_mut().unwrap().once = true;
    }
    World::of(desired)
}

fn values(handler: &Handler) -> Vec<String> {
    handler.calls().into_iter().map(|call| call.value).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_is_started_by_one_event_across_restarts() {
    let mock = mock(&[("carts", 1)]);
    let handler = Handler::start().await;
    // The first time it fails: the same event starts it all the same.
    handler.answers(|call| if call.attempts == 0 { 503 } else { 200 });
    let options = json!({"on_failure": "skip", "retry": {"initial_interval": "20ms"}});
    let world = flow(&mock, &handler, &options);
    write(
        &mock,
        "carts",
        0,
        &[
            ("k", "first"),
            ("k", "second"),
            ("other", "third"),
            ("k", "fourth"),
        ],
    );
    let status = |world: &World| world.handle.status("a").unwrap();
    until("all committed", || committed(&status(&world), &[4])).await;
    assert_eq!(handler.taken("k"), ["first"]);
    assert_eq!(handler.taken("other"), ["third"]);
    assert_eq!(handler.calls().len(), 4);
    until("it is told", || status(&world).already_started == 2).await;
    let skipped =
        world.metric("sluice_subscription_events_total{subscription=\"a\",outcome=\"already_started\"}");
    assert!((skipped - 2.0).abs() < 0.1, "{skipped}");
    world.stop().await;

    // What could not be made a request of has started nothing.
    let world = flow(&mock, &handler, &options);
    write(
        &mock,
        "carts",
        0,
        &[
            ("k", "fifth"),
            ("new", "panic"),
            ("new", "sixth"),
            ("new", "seventh"),
        ],
    );
    until("all committed", || committed(&status(&world), &[8])).await;
    assert_eq!(handler.taken("k"), ["first"]);
    assert_eq!(handler.taken("new"), ["sixth"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_may_start_again_once_its_time_is_over() {
    let mock = mock(&[("carts", 1)]);
    let handler = Handler::start().await;
    let world = flow(&mock, &handler, &json!({"workflow_retention": "1s"}));
    write(&mock, "carts", 0, &[("k", "first"), ("k", "second")]);
    let status = || world.handle.status("a").unwrap();
    until("both committed", || committed(&status(), &[2])).await;
    assert_eq!(values(&handler), ["first"]);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    write(&mock, "carts", 0, &[("k", "third"), ("k", "fourth")]);
    until("all committed", || committed(&status(), &[4])).await;
    assert_eq!(values(&handler), ["first", "third"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_of_a_subscription_that_is_gone_can_be_removed() {
    let mock = mock(&[("orders", 1)]);
    let handler = Handler::start().await;
    handler.answers(|_| 422);
    let world = World::start(&mock, &handler, json!({}));
    write(&mock, "orders", 0, &[("a", "1"), ("b", "2")]);
    world.until("parked", |status| status.parked == 2).await;
    let cluster = std::sync::Arc::new(crate::world::clusters(&mock)["main"].clone());
    let held = async || world.handle.held("main", &cluster).await.unwrap();
    assert_eq!(held().await.get("sub"), Some(&2));
    world.desired.send_modify(|desired| desired.subscriptions.clear());
    until("gone", || world.handle.status("sub").is_none()).await;
    assert_eq!(world.handle.forget_held("main", &cluster, "another").await, Ok(0));
    assert_eq!(world.handle.forget_held("main", &cluster, "sub").await, Ok(2));
    assert!(held().await.is_empty());
    world.stop().await;
}
