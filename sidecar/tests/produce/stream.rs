//! The gRPC stream.

use sluice_proto::v1::ErrorClass;

use crate::support::{Sidecar, failure, mock, read, record, stored, text};

#[tokio::test]
async fn a_record_is_stored_and_told_so() {
    let mock = mock(&[("orders", 1)]);
    let sidecar = Sidecar::on(&mock).await;
    let mut stream = sidecar.stream().await;
    assert_eq!(stream.metadata.get("sluice-stream").unwrap(), "1");
    assert_eq!(
        stored(&stream.produce(record(7, "orders", "first")).await),
        (0, 0)
    );
    assert_eq!(
        stored(&stream.produce(record(8, "orders", "second")).await),
        (0, 1)
    );
    let messages = read(&mock, "orders", 0, 2).await;
    assert_eq!(messages.iter().map(text).collect::<Vec<_>>(), ["first", "second"]);
}

#[tokio::test]
async fn an_unknown_topic_is_told_and_not_created() {
    let mock = mock(&[("orders", 1)]);
    let sidecar = Sidecar::on(&mock).await;
    let mut stream = sidecar.stream().await;
    for id in 0..2 {
        let (class, text) = failure(&stream.produce(record(id, "nowhere", "x")).await);
        assert_eq!(class, ErrorClass::UnknownTopic);
        assert!(text.contains("nowhere"), "{text}");
    }
}
