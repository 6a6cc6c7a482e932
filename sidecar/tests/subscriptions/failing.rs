//! Events that cannot be delivered, for now or for good.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::Message;
use rdkafka::message::Headers;
use serde_json::json;
use sluice::subscriptions::running::{Events, Order, State, Told};

use crate::world::{Handler, World, committed, mock, read, until, write};

const RECORDS: [(&str, &str); 6] = [
    ("good", "1"),
    ("bad", "1"),
    ("good", "2"),
    ("bad", "2"),
    ("bad", "3"),
    ("good", "3"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_retrying_key_holds_only_itself_and_outlives_a_restart() {
    let mock = mock(&[("orders", 1)]);
    let handler = Handler::start().await;
    let well = handler.refuses(503, |call| call.key == "bad");
    write(&mock, "orders", 0, &RECORDS);
    let options = json!({"retry": {"initial_interval": "2500ms", "max_interval": "2500ms"}});
    let world = World::start(&mock, &handler, options.clone());
    // What fails, and what waits behind it, holds nothing up.
    let status = world
        .until("everything committed", |status| {
            committed(status, &[6]) && status.waiting == 2
        })
        .await;
    assert_eq!(handler.taken("good"), ["1", "2", "3"]);
    assert_eq!((status.retrying, status.parked), (1, 0), "{status:?}");
    assert!(
        status.last_error.as_ref().unwrap().error.contains("503"),
        "{status:?}"
    );
    assert_eq!(
        status.last_error.unwrap().event.as_deref(),
        Some("sub/orders/0/1")
    );
    let attempts = |handler: &Handler| handler.calls().iter().filter(|call| call.key == "bad").count();
    until("tried twice", || attempts(&handler) >= 2).await;
    world.stop().await;

    let before = attempts(&handler);
    let world = World::start(&mock, &handler, options);
    until("tried again", || attempts(&handler) > before).await;
    let last = handler
        .calls()
        .into_iter()
        .rfind(|call| call.key == "bad")
        .unwrap();
    assert_eq!((last.value.as_str(), last.attempts as usize), ("1", before));
    well.store(true, Ordering::SeqCst);
    until("all taken", || handler.taken("bad").len() == 3).await;
    assert_eq!(handler.taken("bad"), ["1", "2", "3"]);
    assert_eq!(handler.taken("good"), ["1", "2", "3"]);
    let status = world
        .until("nothing held", |status| status.retrying + status.waiting == 0)
        .await;
    assert_eq!(status.parked, 0);
    world.stop().await;

    // Nothing of it is left.
    let world = World::start(&mock, &handler, json!({}));
    write(&mock, "orders", 0, &[("good", "4")]);
    until("the new one taken", || handler.taken("good").len() == 4).await;
    assert_eq!(handler.taken("bad").len(), 3);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_record_is_parked_listed_and_retried_by_hand() {
    let mock = mock(&[("orders", 1)]);
    let handler = Handler::start().await;
    let well = handler.refuses(400, |call| call.value == "poison");
    write(
        &mock,
        "orders",
        0,
        &[
            ("k", "a"),
            ("k", "poison"),
            ("k", "b"),
            ("x", "panic"),
            ("x", "c"),
        ],
    );
    let world = World::start(&mock, &handler, json!({}));
    world
        .until("everything committed", |status| {
            committed(status, &[5]) && status.parked == 2
        })
        .await;
    assert_eq!(
        (handler.taken("k"), handler.taken("x")),
        (vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()])
    );
    world.stop().await;

    let world = World::start(&mock, &handler, json!({}));
    world.until("known again", |status| status.parked == 2).await;
    let Told::Parked(parked) = world.order(Order::ListParked { limit: 10 }).await.unwrap() else {
        panic!("no list")
    };
    let poison = parked
        .iter()
        .find(|parked| parked.event == "sub/orders/0/1")
        .unwrap();
    assert_eq!((poison.attempts, poison.status), (1, Some(400)));
    assert_eq!(poison.value.as_deref(), Some(&b"poison"[..]));
    assert!(
        poison.error.contains("400") && poison.first_failed_ms > 0,
        "{poison:?}"
    );

    well.store(true, Ordering::SeqCst);
    let events = |id: &str| Events {
        ids: Some(vec![id.to_owned()]),
    };
    let told = world.order(Order::RetryParked(events("sub/orders/0/1"))).await;
    assert_eq!(told, Ok(Told::Events(1)));
    until("taken", || handler.taken("k").len() == 3).await;
    let told = world.order(Order::DropParked(events("sub/orders/0/3"))).await;
    assert_eq!(told, Ok(Told::Events(1)));
    world.until("nothing parked", |status| status.parked == 0).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_says_why_and_where_from() {
    let mock = mock(&[("orders", 1), ("dead", 1)]);
    let handler = Handler::start().await;
    handler.answers(|call| if call.key == "bad" { 503 } else { 200 });
    write(&mock, "orders", 0, &RECORDS[..2]);
    let options = json!({"on_failure": "dead_letter", "dead_letter_topic": "dead",
        "retry": {"initial_interval": "50ms", "max_attempts": 3}});
    let world = World::start(&mock, &handler, options);
    world
        .until("everything committed", |status| committed(status, &[2]))
        .await;
    let letter = read(&mock, "dead", 0, 1).remove(0);
    assert_eq!(
        (letter.key(), letter.payload()),
        (Some(&b"bad"[..]), Some(&b"1"[..]))
    );
    let headers = letter.headers().unwrap();
    let header = |name: &str| {
        let found = headers
            .iter()
            .find(|header| header.key == format!("__sluice.errors.{name}"));
        String::from_utf8(found.unwrap_or_else(|| panic!("{name}")).value.unwrap().to_vec()).unwrap()
    };
    assert_eq!(header("event"), "sub/orders/0/1");
    assert_eq!(
        (header("topic"), header("partition"), header("offset")),
        ("orders".into(), "0".into(), "1".into())
    );
    assert_eq!((header("attempts"), header("status")), ("3".into(), "503".into()));
    assert!(header("message").contains("retry.max_attempts is 3"));
    assert_eq!(handler.calls().iter().filter(|call| call.key == "bad").count(), 3);
    let status = world.until("nothing held", |status| status.retrying == 0).await;
    assert_eq!(status.parked, 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_skipped_is_counted() {
    let mock = mock(&[("orders", 1)]);
    let handler = Handler::start().await;
    handler.answers(|call| if call.key == "bad" { 422 } else { 200 });
    write(&mock, "orders", 0, &RECORDS);
    let world = World::start(&mock, &handler, json!({"on_failure": "skip"}));
    world
        .until("everything committed", |status| committed(status, &[6]))
        .await;
    assert_eq!(handler.taken("good"), ["1", "2", "3"]);
    let skipped = "sluice_subscription_events_total{subscription=\"sub\",outcome=\"skipped\"}";
    assert!((world.metric(skipped) - 3.0).abs() < 0.1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_pauses_says_why_and_goes_on_when_told() {
    let mock = mock(&[("orders", 1)]);
    let handler = Handler::start().await;
    let well = handler.refuses(422, |call| call.key == "bad");
    write(&mock, "orders", 0, &RECORDS);
    let world = World::start(&mock, &handler, json!({"on_failure": "pause", "concurrency": 1}));
    let paused = |state: &State| match state {
        State::Paused { reason } => reason.contains("sub/orders/0/1") && reason.contains("422"),
        _ => false,
    };
    world.until("paused", |status| paused(&status.state)).await;
    assert_eq!(world.status().partitions[0].position, Some(1));
    well.store(true, Ordering::SeqCst);
    assert_eq!(world.order(Order::Resume).await, Ok(Told::Done));
    world
        .until("everything committed", |status| committed(status, &[6]))
        .await;
    assert_eq!(handler.taken("bad"), ["1", "2", "3"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_fails_is_left_alone() {
    let mock = mock(&[("orders", 1)]);
    let handler = Handler::start().await;
    handler.answers(|_| 503);
    let records: Vec<(String, String)> = (0..200).map(|n| (format!("k{n}"), n.to_string())).collect();
    let records: Vec<(&str, &str)> = records.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    write(&mock, "orders", 0, &records);
    let options = json!({"concurrency": 1, "retry": {"initial_interval": "100ms", "max_interval": "100ms"},
        "circuit_breaker": {"consecutive_failures": 5, "open_for": "1500ms", "slow_start": "0ms"}});
    let world = World::start(&mock, &handler, options);
    let open = |status: &sluice::subscriptions::running::Status| {
        serde_json::to_value(status.circuit).unwrap() == json!("open")
    };
    world.until("open", open).await;
    let calls = handler.calls().len();
    assert!(calls <= 7, "{calls}");
    handler.answers(|_| 200);
    world
        .until("everything committed", |status| {
            committed(status, &[200]) && status.retrying == 0
        })
        .await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(handler.calls().iter().filter(|call| call.status == 200).count() >= 200);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_go_to_the_reply_topic() {
    let mock = mock(&[("orders", 1), ("replies", 1)]);
    let handler = Handler::start().await;
    write(&mock, "orders", 0, &[("k", "a")]);
    let world = World::start(&mock, &handler, json!({"reply_topic": "replies"}));
    let reply = read(&mock, "replies", 0, 1).remove(0);
    assert_eq!(
        (reply.key(), reply.payload()),
        (Some(&b"k"[..]), Some(&b"took a"[..]))
    );
    let headers = reply.headers().unwrap();
    let correlation = headers
        .iter()
        .find(|header| header.key == "correlation-id")
        .unwrap();
    assert_eq!(correlation.value, Some(&b"sub/orders/0/0"[..]));
    let status = headers.iter().find(|header| header.key == "http-status").unwrap();
    assert_eq!(status.value, Some(&b"200"[..]));
    world
        .until("everything committed", |status| committed(status, &[1]))
        .await;
    world.stop().await;
}
