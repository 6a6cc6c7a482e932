//! Delivery `buffered`.

use sluice_proto::v1::topic_fate::Result as Fated;
use sluice_proto::v1::{Delivery, ErrorClass, Record};

use crate::support::{Sidecar, config, failure, mock, read, record, set, text, until};

fn buffered(id: u64, topic: &str) -> Record {
    Record {
        delivery: Delivery::Buffered.into(),
        ..record(id, topic, &id.to_string())
    }
}

#[tokio::test]
async fn a_buffered_record_is_accepted_before_the_broker_has_it() {
    let mock = mock(&[("orders", 1)]);
    mock.broker_down(1).unwrap();
    let sidecar = Sidecar::on(&mock).await;
    let mut stream = sidecar.stream().await;
    for id in 0..10 {
        let fated = stream.produce(buffered(id, "orders")).await;
        assert!(matches!(fated, Fated::Accepted(_)), "{fated:?}");
    }
    mock.broker_up(1).unwrap();
    let values: Vec<String> = read(&mock, "orders", 0, 10).await.iter().map(text).collect();
    assert_eq!(values, (0..10).map(|id| id.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_loss_after_the_answer_is_counted() {
    let mut config = config("127.0.0.1:1");
    set(&mut config, "message.timeout.ms", "300");
    set(&mut config, "linger.ms", "1");
    let sidecar = Sidecar::start(config).await;
    let fated = sidecar.stream().await.produce(buffered(1, "orders")).await;
    assert!(matches!(fated, Fated::Accepted(_)), "{fated:?}");
    let lost = "sluice_buffered_lost_total{cluster=\"main\",topic=\"*\",outcome=\"cluster_unavailable\"} 1";
    until("the loss is counted", async || {
        sidecar.metrics().await.contains(lost)
    })
    .await;
}

#[tokio::test]
async fn a_topic_that_is_known_not_to_exist_is_told_to_buffered_records_too() {
    let mock = mock(&[]);
    let sidecar = Sidecar::on(&mock).await;
    let mut stream = sidecar.stream().await;
    let (class, _) = failure(&stream.produce(record(1, "nowhere", "x")).await);
    assert_eq!(class, ErrorClass::UnknownTopic);
    let (class, _) = failure(&stream.produce(buffered(2, "nowhere")).await);
    assert_eq!(class, ErrorClass::UnknownTopic);
}
