//! The end of the sidecar.

use std::time::Duration;

use sluice_proto::v1::{Delivery, ErrorClass, Record};

use crate::support::{Sidecar, config, failure, mock, read, record, stored, until};

#[tokio::test]
async fn a_drain_is_told_and_what_was_taken_on_is_answered() {
    let mock = mock(&[("orders", 1)]);
    let sidecar = Sidecar::on(&mock).await;
    let mut stream = sidecar.stream().await;
    stored(&stream.produce(record(0, "orders", "x")).await);
    mock.broker_round_trip_time(1, Duration::from_millis(800))
        .unwrap();
    stream
        .send((1..=5).map(|id| record(id, "orders", "x")).collect())
        .await;
    sidecar.stopper.drain();
    while !stream.drained {
        stream.next().await.expect("the call ended before it was drained");
    }
    until("readiness fails", async || {
        sidecar.status("/readyz").await == Some(503)
    })
    .await;
    for (_, topics) in stream.fates(5).await {
        stored(topics[0].result.as_ref().unwrap());
    }
    assert!(stream.next().await.is_none(), "the call goes on");
    assert_eq!(sidecar.ended().await.given_up, 0);
}

#[tokio::test]
async fn accepted_records_are_flushed_before_the_end() {
    let mock = mock(&[("orders", 1)]);
    mock.broker_round_trip_time(1, Duration::from_millis(300))
        .unwrap();
    let sidecar = Sidecar::on(&mock).await;
    let mut stream = sidecar.stream().await;
    let buffered = |id| Record {
        delivery: Delivery::Buffered.into(),
        ..record(id, "orders", "x")
    };
    stream.send((0..100).map(buffered).collect()).await;
    stream.fates(100).await;
    drop(stream);
    sidecar.stopper.drain();
    assert_eq!(sidecar.ended().await.given_up, 0);
    read(&mock, "orders", 0, 100).await;
}

#[tokio::test]
async fn what_cannot_be_flushed_within_the_grace_period_is_counted_and_told() {
    let mut config = config("127.0.0.1:1");
    config.grace_period = Duration::from_millis(300);
    let sidecar = Sidecar::start(config).await;
    let mut stream = sidecar.stream().await;
    stream
        .send((0..3).map(|id| record(id, "orders", "x")).collect())
        .await;
    until("the records are there", async || {
        sidecar.metric("sluice_outstanding_records").await == Some(3.0)
    })
    .await;
    sidecar.stopper.drain();
    for (_, topics) in stream.fates(3).await {
        assert_eq!(
            failure(topics[0].result.as_ref().unwrap()).0,
            ErrorClass::SidecarUnavailable
        );
    }
    assert_eq!(sidecar.ended().await.given_up, 3);
}

#[tokio::test]
async fn a_second_signal_does_not_wait() {
    let mock = mock(&[("orders", 1)]);
    let sidecar = Sidecar::on(&mock).await;
    let mut stream = sidecar.stream().await;
    stored(&stream.produce(record(0, "orders", "x")).await);
    mock.broker_round_trip_time(1, Duration::from_secs(600)).unwrap();
    stream.send(vec![record(1, "orders", "x")]).await;
    until("the record is there", async || {
        sidecar.metric("sluice_outstanding_records").await == Some(1.0)
    })
    .await;
    sidecar.stopper.step();
    sidecar.stopper.step();
    let begun = std::time::Instant::now();
    assert_eq!(sidecar.ended().await.given_up, 1);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_its_records_alone() {
    let mock = mock(&[("orders", 1)]);
    mock.broker_round_trip_time(1, Duration::from_millis(300))
        .unwrap();
    let sidecar = Sidecar::on(&mock).await;
    let stream = sidecar.stream().await;
    stream
        .send((0..10).map(|id| record(id, "orders", "x")).collect())
        .await;
    until("the records are there", async || {
        sidecar.metric("sluice_outstanding_records").await > Some(0.0)
    })
    .await;
    drop(stream);
    read(&mock, "orders", 0, 10).await;
    until("the stream is gone", async || {
        sidecar.metric("sluice_streams").await == Some(0.0)
    })
    .await;
}
