//! `spool_on_outage`: what is spooled while a cluster is away, and what follows it.

use std::path::Path;
use std::time::Duration;

use rdkafka::bindings::rd_kafka_resp_err_t as Raw;
use sluice_proto::v1::topic_fate::Result as Fated;
use sluice_proto::v1::{Delivery, ErrorClass, Record};
use tempfile::TempDir;

use crate::http;
use crate::spool::{accepted, spooled, spooling, until_empty, values};
use crate::support::{Mock, Sidecar, failure, mock, record, stored, until};

/// A record of the topic `orders` that is spooled while the cluster is away.
fn bridged(id: u64, key: Option<&str>) -> Record {
    Record {
        delivery: Delivery::Acked.into(),
        spool_on_outage: true,
        ..spooled(id, "orders", key)
    }
}

async fn until_down(sidecar: &Sidecar) {
    until("the sidecar sees the outage", async || {
        sidecar.ready().await["clusters"]["main"]["state"] == "down"
    })
    .await;
}

async fn until_up(sidecar: &Sidecar) {
    until("the sidecar sees the end of it", async || {
        sidecar.ready().await["clusters"]["main"]["state"] == "up"
    })
    .await;
}

/// A sidecar that has seen its cluster go, with `count` records of the key `k` in the spool.
async fn away(mock: &Mock, directory: &Path, count: u64) -> Sidecar {
    let sidecar = Sidecar::start(spooling(&mock.bootstrap_servers(), directory)).await;
    let mut stream = sidecar.stream().await;
    stored(&stream.produce(bridged(0, Some("k"))).await);
    mock.broker_down(1).unwrap();
    until_down(&sidecar).await;
    for id in 1..=count {
        accepted(&stream.produce(bridged(id, Some("k"))).await);
    }
    sidecar
}

fn numbers(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|id| id.to_string()).collect()
}

/// While the cluster is away a record is accepted. Afterwards a client that never pauses is acked again, and what it
/// writes then does not overtake what is in the spool.
#[tokio::test]
async fn an_outage_is_bridged_and_the_order_holds() {
    let mock = mock(&[("orders", 1), ("audit", 1)]);
    let directory = TempDir::new().unwrap();
    let sidecar = away(&mock, directory.path(), 10).await;
    let mut stream = sidecar.stream().await;
    for id in 11..20 {
        let buffered = Record {
            delivery: Delivery::Buffered.into(),
            ..bridged(id, Some("k"))
        };
        accepted(&stream.produce(buffered).await);
    }
    assert_eq!(sidecar.metric("sluice_spool_records").await, Some(19.0));
    mock.broker_up(1).unwrap();
    let mut id = 20;
    while let other @ Fated::Accepted(_) = stream.produce(bridged(id, Some("k"))).await {
        accepted(&other);
        id += 1;
    }
    assert_eq!(
        values(&mock, "orders", usize::try_from(id).unwrap() + 1).await,
        numbers(0..id + 1)
    );
    // From now on nothing follows.
    stored(&stream.produce(bridged(id + 1, Some("k"))).await);
    until_empty(&sidecar).await;
    // Without an outage REST is answered as it was, too.
    let url = sidecar.url("/topics/audit/records?spool_on_outage=true");
    assert_eq!(http::post(&url, &[], "hello").await.status, 200);
}

/// What was not handed over when the cluster goes is as good as what comes then: it is spooled, before that.
#[tokio::test]
async fn what_is_held_when_the_cluster_goes_is_spooled_in_its_order() {
    let mock = mock(&[("orders", 1)]);
    let directory = TempDir::new().unwrap();
    // Nobody says anything about the topic.
    mock.broker_round_trip_time(1, Duration::from_secs(600)).unwrap();
    let sidecar = Sidecar::start(spooling(&mock.bootstrap_servers(), directory.path())).await;
    let mut stream = sidecar.stream().await;
    let patient = |id, key| Record {
        deadline_ms: 60_000,
        ..bridged(id, key)
    };
    for id in 0..10 {
        stream.send(vec![patient(id, Some("k"))]).await;
    }
    // One that was answered from memory stays there, and so does what is of its key.
    let buffered = Record {
        delivery: Delivery::Buffered.into(),
        ..bridged(100, Some("b"))
    };
    accepted(&stream_of(&sidecar, buffered).await);
    stream.send(vec![patient(10, Some("k"))]).await;
    // It is gone for good, or was when nobody answered for 2 s.
    mock.broker_down(1).unwrap();
    let fates = stream.fates(11).await;
    for (_, topics) in &fates {
        accepted(topics[0].result.as_ref().unwrap());
    }
    assert_eq!(sidecar.metric("sluice_spool_records").await, Some(11.0));
    until_down(&sidecar).await;
    for id in 11..15 {
        accepted(&stream.produce(bridged(id, Some("k"))).await);
    }
    mock.broker_round_trip_time(1, Duration::ZERO).unwrap();
    mock.broker_up(1).unwrap();
    until_empty(&sidecar).await;
    let all = values(&mock, "orders", 16).await;
    let of_k: Vec<String> = all.into_iter().filter(|value| value != "100").collect();
    assert_eq!(of_k, numbers(0..15));
}

/// What became of a record on a call of its own.
async fn stream_of(sidecar: &Sidecar, record: Record) -> Fated {
    sidecar.stream().await.produce(record).await
}

/// At the end of the sidecar, too: what it holds for want of its cluster is on the disk then.
#[tokio::test]
async fn what_is_held_at_the_end_is_spooled() {
    let mock = mock(&[("orders", 1)]);
    let directory = TempDir::new().unwrap();
    mock.topic_error("orders", Raw::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE)
        .unwrap();
    let sidecar = Sidecar::start(spooling(&mock.bootstrap_servers(), directory.path())).await;
    let stream = sidecar.stream().await;
    let patient = |id| Record {
        deadline_ms: 600_000,
        ..bridged(id, Some("k"))
    };
    stream.send(vec![patient(0), patient(1)]).await;
    until("they are held", async || {
        sidecar.metric("sluice_held_records").await == Some(2.0)
    })
    .await;
    sidecar.stopper.drain();
    sidecar.stopper.stop();
    assert_eq!(sidecar.ended().await.given_up, 0);
    mock.topic_error("orders", Raw::RD_KAFKA_RESP_ERR_NO_ERROR)
        .unwrap();
    let sidecar = Sidecar::start(spooling(&mock.bootstrap_servers(), directory.path())).await;
    until_empty(&sidecar).await;
    assert_eq!(values(&mock, "orders", 2).await, numbers(0..2));
}

/// Records of other keys, and without one, do not follow.
#[tokio::test]
async fn only_the_keys_that_are_in_the_spool_follow() {
    let mock = mock(&[("orders", 1)]);
    let directory = TempDir::new().unwrap();
    let sidecar = away(&mock, directory.path(), 300).await;
    let mut stream = sidecar.stream().await;
    mock.broker_up(1).unwrap();
    until_up(&sidecar).await;
    stored(&stream.produce(bridged(1000, Some("other"))).await);
    stored(&stream.produce(bridged(1001, None)).await);
    let left = sidecar.metric("sluice_spool_records").await.unwrap();
    assert!(left > 1.0, "the spool was empty too soon to show anything");
    stored(&stream.produce(bridged(301, Some("k"))).await);
    let all = values(&mock, "orders", 304).await;
    let of_k: Vec<String> = all.into_iter().filter(|value| value.len() < 4).collect();
    assert_eq!(of_k, numbers(0..302));
}

/// What waits for its key when the cluster goes again is spooled, behind it.
#[tokio::test]
async fn what_waits_is_spooled_when_the_cluster_goes_again() {
    let mock = mock(&[("orders", 1)]);
    let directory = TempDir::new().unwrap();
    let sidecar = away(&mock, directory.path(), 5).await;
    let mut stream = sidecar.stream().await;
    mock.broker_round_trip_time(1, Duration::from_millis(800))
        .unwrap();
    mock.broker_up(1).unwrap();
    until_up(&sidecar).await;
    for id in 6..10 {
        stream.send(vec![bridged(id, Some("k"))]).await;
    }
    until("they wait", async || {
        sidecar.metric("sluice_spool_following_records").await == Some(4.0)
    })
    .await;
    mock.broker_down(1).unwrap();
    for (_, topics) in stream.fates(4).await {
        accepted(topics[0].result.as_ref().unwrap());
    }
    assert_eq!(sidecar.metric("sluice_spool_following_records").await, Some(0.0));
    mock.broker_round_trip_time(1, Duration::ZERO).unwrap();
    mock.broker_up(1).unwrap();
    until_empty(&sidecar).await;
    let (_, last) = stored(&stream.produce(bridged(10, Some("k"))).await);
    let mut all = values(&mock, "orders", usize::try_from(last).unwrap() + 1).await;
    // The mock cluster stores a batch again that was under way when it went.
    all.dedup();
    assert_eq!(all, numbers(0..11));
}

/// At the end of the sidecar what waits is spooled as well.
#[tokio::test]
async fn what_waits_at_the_end_is_spooled() {
    let mock = mock(&[("orders", 1)]);
    let directory = TempDir::new().unwrap();
    let sidecar = away(&mock, directory.path(), 5).await;
    let mut stream = sidecar.stream().await;
    mock.broker_round_trip_time(1, Duration::from_millis(500))
        .unwrap();
    mock.broker_up(1).unwrap();
    until_up(&sidecar).await;
    stream.send(vec![bridged(6, Some("k"))]).await;
    until("it waits", async || {
        sidecar.metric("sluice_spool_following_records").await == Some(1.0)
    })
    .await;
    sidecar.stopper.drain();
    accepted(&stream.fate().await);
    sidecar.ended().await;
    mock.broker_round_trip_time(1, Duration::ZERO).unwrap();
    let sidecar = Sidecar::start(spooling(&mock.bootstrap_servers(), directory.path())).await;
    until_empty(&sidecar).await;
    assert_eq!(values(&mock, "orders", 7).await, numbers(0..7));
}

/// Nothing of the key is delivered: what waits for it is not stored, and not answered with success either.
#[tokio::test]
async fn what_waits_in_vain_is_refused() {
    let mock = mock(&[("orders", 1)]);
    let directory = TempDir::new().unwrap();
    let sidecar = away(&mock, directory.path(), 5).await;
    let mut stream = sidecar.stream().await;
    mock.broker_round_trip_time(1, Duration::from_millis(1500))
        .unwrap();
    mock.broker_up(1).unwrap();
    until_up(&sidecar).await;
    let patient = Record {
        deadline_ms: 1000,
        ..bridged(6, Some("k"))
    };
    let (class, why) = failure(&stream.produce(patient).await);
    assert_eq!(class, ErrorClass::BufferFull, "{why}");
    assert!(why.contains("records of its key are in the spool"), "{why}");
}

/// Nobody knows the keys of what was there before the start until it is read: everything with a key follows it.
#[tokio::test]
async fn what_was_there_before_the_start_is_followed() {
    let mock = mock(&[("orders", 1)]);
    let directory = TempDir::new().unwrap();
    let sidecar = away(&mock, directory.path(), 20).await;
    sidecar.stopper.drain();
    sidecar.ended().await;
    let sidecar = Sidecar::start(spooling(&mock.bootstrap_servers(), directory.path())).await;
    until_down(&sidecar).await;
    let mut stream = sidecar.stream().await;
    accepted(&stream.produce(bridged(21, Some("k"))).await);
    mock.broker_up(1).unwrap();
    let mut id = 22;
    while let other @ Fated::Accepted(_) = stream.produce(bridged(id, Some("k"))).await {
        accepted(&other);
        id += 1;
    }
    assert_eq!(
        values(&mock, "orders", usize::try_from(id).unwrap() + 1).await,
        numbers(0..id + 1)
    );
}

#[tokio::test]
async fn without_a_spool_no_outage_is_bridged() {
    let mock = mock(&[("orders", 1)]);
    let sidecar = Sidecar::on(&mock).await;
    let bridged = Record {
        spool_on_outage: true,
        ..record(1, "orders", "x")
    };
    let (class, why) = failure(&sidecar.stream().await.produce(bridged).await);
    assert_eq!(class, ErrorClass::RouteMisconfigured);
    assert!(
        why.contains("spool_on_outage") && why.contains("spool.directory"),
        "{why}"
    );
}
