//! Everything is delivered, in order, and not twice.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::world::{Handler, World, committed, mock, until, write};

const PARTITIONS: i32 = 3;
const KEYS: usize = 12;
const EACH: usize = 10;

/// Writes `EACH` numbered records for each of the keys.
fn fill(mock: &crate::world::Mock, from: usize) {
    for partition in 0..PARTITIONS {
        let mut records = Vec::new();
        for n in from..from + EACH {
            for key in (0..KEYS).filter(|key| key % 3 == usize::try_from(partition).unwrap()) {
                records.push((format!("k{key}"), n.to_string()));
            }
        }
        let records: Vec<(&str, &str)> = records.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        write(mock, "orders", partition, &records);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_in_order_and_more_are_under_way_than_partitions() {
    let mock = mock(&[("orders", PARTITIONS)]);
    let handler = Handler::start().await;
    handler.takes(Duration::from_millis(20));
    fill(&mock, 0);
    let world = World::start(&mock, &handler, json!({"concurrency": 100}));
    until("everything delivered", || handler.calls().len() >= KEYS * EACH).await;
    let end = i64::try_from(KEYS / 3 * EACH).unwrap();
    world
        .until("everything committed", |status| committed(status, &[end; 3]))
        .await;
    let expected: Vec<String> = (0..EACH).map(|n| n.to_string()).collect();
    for key in 0..KEYS {
        assert_eq!(handler.taken(&format!("k{key}")), expected);
    }
    assert!(!handler.overlapped());
    assert!(handler.most() > 3 && handler.most() <= KEYS, "{}", handler.most());
    assert!(
        world.metric("sluice_subscription_events_total{subscription=\"sub\",outcome=\"delivered\"}") >= 120.0
    );
    world.stop().await;

    // Whoever goes on does so where everything was finished.
    let world = World::start(&mock, &handler, json!({"concurrency": 1}));
    fill(&mock, EACH);
    world
        .until("everything committed", |status| committed(status, &[2 * end; 3]))
        .await;
    assert_eq!(handler.calls().len(), 2 * KEYS * EACH);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_are_under_way_as_may_be() {
    let mock = mock(&[("orders", PARTITIONS)]);
    let handler = Handler::start().await;
    handler.takes(Duration::from_millis(5));
    fill(&mock, 0);
    let world = World::start(&mock, &handler, json!({"concurrency": 2, "ordering": "none"}));
    until("everything delivered", || handler.calls().len() >= KEYS * EACH).await;
    assert_eq!(handler.most(), 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_in_order() {
    let mock = mock(&[("orders", PARTITIONS)]);
    let handler = Handler::start().await;
    fill(&mock, 0);
    let world = World::start(
        &mock,
        &handler,
        json!({"concurrency": 100, "ordering": "partition"}),
    );
    until("everything delivered", || handler.calls().len() >= KEYS * EACH).await;
    let mut last: BTreeMap<i32, i64> = BTreeMap::new();
    for call in handler.calls() {
        let before = last.insert(call.partition, call.offset);
        assert!(before < Some(call.offset), "{call:?} after {before:?}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_memory_is_bounded() {
    let mock = mock(&[("orders", 1)]);
    let handler = Handler::start().await;
    handler.answers(|_| 503);
    let records: Vec<(String, String)> = (0..500).map(|n| (format!("k{n}"), n.to_string())).collect();
    let records: Vec<(&str, &str)> = records.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    write(&mock, "orders", 0, &records);
    // Nothing may be held: everything that fails stays in memory.
    let options = json!({"concurrency": 4, "max_held": 0, "max_buffered_records": 50,
        "circuit_breaker": {"consecutive_failures": 0}, "retry": {"initial_interval": "100ms", "max_interval": "200ms"}});
    let world = World::start(&mock, &handler, options);
    let status = world
        .until("paused", |status| {
            status.partitions.first().is_some_and(|part| part.paused)
        })
        .await;
    assert!(status.partitions[0].buffered >= 50);
    until("tried", || handler.calls().len() > 100).await;
    assert_eq!(world.status().partitions[0].position, Some(0));
    handler.answers(|_| 200);
    world
        .until("everything committed", |status| committed(status, &[500]))
        .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_go_in_batches() {
    let mock = mock(&[("orders", 1)]);
    let handler = Handler::start().await;
    let values: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let records: Vec<(&str, &str)> = values.iter().map(|v| ("k", v.as_str())).collect();
    write(&mock, "orders", 0, &records);
    // One of them is poison: the others are delivered all the same, and in order.
    handler.answers(|call| if call.value == "7" { 400 } else { 200 });
    let options = json!({"batch": {"max_records": 8, "max_wait": "300ms"}, "on_failure": "skip"});
    let world = World::start(&mock, &handler, options);
    world
        .until("everything committed", |status| committed(status, &[20]))
        .await;
    let expected: Vec<String> = values.iter().filter(|value| *value != "7").cloned().collect();
    assert_eq!(handler.taken("k"), expected);
    assert!(handler.calls().iter().any(|call| call.of == 8));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_go_than_the_rate_allows() {
    let mock = mock(&[("orders", PARTITIONS)]);
    let handler = Handler::start().await;
    fill(&mock, 0);
    let options = json!({"concurrency": 100, "rate_limit": {"per_second": 40, "burst": 20}});
    let world = World::start(&mock, &handler, options);
    until("one delivered", || !handler.calls().is_empty()).await;
    let started = std::time::Instant::now();
    until("everything delivered", || handler.calls().len() >= KEYS * EACH).await;
    // 120 events, of which 20 may go at once.
    assert!(
        started.elapsed() >= Duration::from_millis(2300),
        "{:?}",
        started.elapsed()
    );
    world.stop().await;
}
