//! What a running subscription can be told, and what becomes of one whose configuration changes.

use std::sync::Arc;

use serde_json::json;
use sluice::subscriptions::running::{Order, Refused, Selection, State, To, Told};

use crate::world::{Handler, World, clusters, committed, mock, spec, until, write};

const RECORDS: [(&str, &str); 4] = [("a", "0"), ("b", "1"), ("a", "2"), ("b", "3")];

#[tokio::test(flavor = "multi_thread")]
async fn it_pauses_resumes_seeks_replays_and_tests() {
    let mock = mock(&[("orders", 1)]);
    let handler = Handler::start().await;
    write(&mock, "orders", 0, &RECORDS);
    let world = World::start(&mock, &handler, json!({}));
    world
        .until("everything committed", |status| committed(status, &[4]))
        .await;

    assert_eq!(world.order(Order::Pause).await, Ok(Told::Done));
    write(&mock, "orders", 0, &[("a", "4")]);
    let status = world
        .until("behind", |status| {
            status.partitions.iter().any(|part| part.lag == Some(1))
        })
        .await;
    assert!(matches!(status.state, State::Paused { reason } if reason == "somebody paused it"));
    assert_eq!(handler.calls().len(), 4);
    assert_eq!(world.order(Order::Resume).await, Ok(Told::Done));
    until("delivered", || handler.calls().len() == 5).await;

    let tested = world
        .order(Order::Test {
            record: Some(("orders".to_owned(), 0, 1)),
        })
        .await;
    let expected = Told::Tested {
        event: "sub/orders/0/1".to_owned(),
        delivered: true,
        error: None,
        status: None,
    };
    assert_eq!(tested, Ok(expected));
    let Ok(Told::Tested { event, .. }) = world.order(Order::Test { record: None }).await else {
        panic!("not tested")
    };
    assert_eq!(event, "sub/orders/0/4");
    assert_eq!(handler.calls().len(), 7);

    let replay = |from, to| Order::Replay {
        topic: "orders".to_owned(),
        partition: 0,
        from,
        to,
    };
    world.until("finished", |status| committed(status, &[5])).await;
    assert_eq!(world.order(replay(1, 3)).await, Ok(Told::Replaying(2)));
    until("replayed", || handler.calls().len() == 9).await;
    let last: Vec<i64> = handler.calls()[7..].iter().map(|call| call.offset).collect();
    assert!(last.contains(&1) && last.contains(&2), "{last:?}");
    for bad in [replay(3, 3), replay(-1, 2), replay(0, 99)] {
        assert!(matches!(world.order(bad).await, Err(Refused::Invalid(_))));
    }

    let seek = |to| Order::Seek {
        partitions: Selection::default(),
        to,
    };
    assert!(matches!(
        world.order(seek(To::Offset(99))).await,
        Err(Refused::Unavailable(_))
    ));
    let told = world.order(seek(To::Offset(2))).await;
    assert_eq!(told, Ok(Told::Sought(vec![("orders".to_owned(), 0, 2)])));
    until("delivered again", || handler.calls().len() == 12).await;
    let again: Vec<String> = handler.calls()[9..]
        .iter()
        .map(|call| call.value.clone())
        .collect();
    assert_eq!(
        (again.len(), handler.taken("a").last().map(String::as_str)),
        (3, Some("4"))
    );
    world.until("finished", |status| committed(status, &[5])).await;
    assert_eq!(world.status().restarts, 0);
    let unknown = world.handle.order("other", Order::Pause).await;
    assert_eq!(unknown, Err(Refused::Unknown("other".to_owned())));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_takes_effect_and_positions_are_kept() {
    let mock = mock(&[("orders", 1)]);
    let (one, other) = (Handler::start().await, Handler::start().await);
    write(&mock, "orders", 0, &RECORDS);
    let world = World::start(&mock, &one, json!({}));
    world
        .until("everything committed", |status| committed(status, &[4]))
        .await;
    let new = spec(&other, &clusters(&mock), json!({}));
    world.desired.send_modify(|desired| {
        desired.subscriptions.insert(Arc::from("sub"), Arc::new(new));
    });
    write(&mock, "orders", 0, &[("a", "4")]);
    until("delivered", || other.calls().len() == 1).await;
    assert_eq!((one.calls().len(), other.taken("a")), (4, vec!["4".to_owned()]));

    world.desired.send_modify(|desired| desired.clusters.clear());
    let status = world
        .until("refused", |status| matches!(status.state, State::Failed { .. }))
        .await;
    assert!(
        status
            .last_error
            .unwrap()
            .error
            .contains("no cluster is named \"main\"")
    );
    world.desired.send_modify(|desired| desired.subscriptions.clear());
    until("gone", || world.handle.status("sub").is_none()).await;
    world.stop().await;
}
