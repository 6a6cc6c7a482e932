//! Clusters that cannot be reached, acknowledgements that do not come.

use std::time::Duration;

use rdkafka::bindings::rd_kafka_resp_err_t as Raw;
use sluice_proto::v1::{ErrorClass, Record};

use crate::support::{Mock, Sidecar, config, failure, mock, read, record, stored, text, until};

fn patient(id: u64, deadline_ms: u32) -> Record {
    Record {
        deadline_ms,
        ..record(id, "orders", &id.to_string())
    }
}

#[tokio::test]
async fn what_never_left_the_sidecar_is_certainly_not_stored() {
    // A port that nobody listens on.
    let sidecar = Sidecar::start(config("127.0.0.1:1")).await;
    let mut stream = sidecar.stream().await;
    let (class, text) = failure(&stream.produce(patient(1, 300)).await);
    assert_eq!(class, ErrorClass::ClusterUnavailable, "{text}");
}

#[tokio::test]
async fn what_was_handed_over_and_is_not_acknowledged_may_be_stored() {
    let mock = mock(&[("orders", 1)]);
    let sidecar = Sidecar::on(&mock).await;
    let mut stream = sidecar.stream().await;
    stored(&stream.produce(patient(0, 0)).await);
    mock.broker_round_trip_time(1, Duration::from_millis(1500))
        .unwrap();
    let (class, text) = failure(&stream.produce(patient(1, 200)).await);
    assert_eq!(class, ErrorClass::OutcomeUnknown, "{text}");
    // The acknowledgement that comes after that is nobody's: the next record gets its own.
    assert_eq!(stored(&stream.produce(patient(2, 0)).await), (0, 2));
}

#[tokio::test]
async fn records_wait_for_a_cluster_that_comes_back_in_their_order() {
    let mock = mock(&[("orders", 1)]);
    let sidecar = Sidecar::on(&mock).await;
    let mut stream = sidecar.stream().await;
    stored(&stream.produce(patient(0, 0)).await);
    mock.broker_down(1).unwrap();
    until("the sidecar sees the outage", async || {
        sidecar.ready().await["clusters"]["main"]["state"] == "down"
    })
    .await;
    for id in 1..=20 {
        stream.send(vec![patient(id, 0)]).await;
    }
    let (class, why) = failure(&{
        stream.send(vec![patient(100, 100)]).await;
        let (id, topics) = stream.fates(1).await.pop().unwrap();
        assert_eq!(id, 100);
        topics[0].result.clone().unwrap()
    });
    assert_eq!(class, ErrorClass::ClusterUnavailable, "{why}");
    mock.broker_up(1).unwrap();
    for id in 21..=40 {
        stream.send(vec![patient(id, 0)]).await;
    }
    stream.fates(40).await.iter().for_each(|(_, topics)| {
        stored(topics[0].result.as_ref().unwrap());
    });
    let values: Vec<String> = read(&mock, "orders", 0, 41).await.iter().map(text).collect();
    assert_eq!(values, (0..=40).map(|id| id.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_partition_whose_leader_is_gone_holds_up_nobody_else() {
    let mock = Mock::new(2).unwrap();
    for (topic, leader) in [("orders", 1), ("stuck", 2)] {
        mock.create_topic(topic, 1, 2).unwrap();
        mock.partition_leader(topic, 0, Some(leader)).unwrap();
    }
    let sidecar = Sidecar::on(&mock).await;
    let mut stream = sidecar.stream().await;
    stored(&stream.produce(record(0, "orders", "x")).await);
    stored(&stream.produce(record(1, "stuck", "x")).await);
    mock.broker_down(2).unwrap();
    let stuck = |id| Record {
        deadline_ms: 1500,
        ..record(id, "stuck", "x")
    };
    for id in 10..20 {
        stream
            .send(vec![stuck(id * 2), record(id * 2 + 1, "orders", "x")])
            .await;
    }
    // Every fate of the healthy topic comes before the first of the other.
    let fates = stream.fates(20).await;
    let (healthy, late) = fates.split_at(10);
    assert!(healthy.iter().all(|(id, _)| id % 2 == 1), "{fates:?}");
    for (_, topics) in late {
        assert_eq!(
            failure(topics[0].result.as_ref().unwrap()).0,
            ErrorClass::OutcomeUnknown
        );
    }
}

#[tokio::test]
async fn records_wait_for_a_topic_that_has_no_leader_yet() {
    let mock = mock(&[("orders", 1), ("audit", 1)]);
    mock.topic_error("orders", Raw::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE)
        .unwrap();
    let sidecar = Sidecar::on(&mock).await;
    let mut stream = sidecar.stream().await;
    stream.send(vec![patient(1, 0), record(3, "audit", "x")]).await;
    // Others do not wait for it.
    let (id, topics) = stream.fates(1).await.pop().unwrap();
    assert_eq!(id, 3);
    stored(topics[0].result.as_ref().unwrap());
    until("it is held", async || {
        sidecar.metric("sluice_held_records").await == Some(1.0)
    })
    .await;
    stream.send(vec![patient(2, 100)]).await;
    let (id, topics) = stream.fates(1).await.pop().unwrap();
    let (class, why) = failure(topics[0].result.as_ref().unwrap());
    assert_eq!((id, class), (2, ErrorClass::ClusterUnavailable), "{why}");
    mock.topic_error("orders", Raw::RD_KAFKA_RESP_ERR_NO_ERROR)
        .unwrap();
    assert_eq!(stored(&stream.fate().await), (0, 0));
}
