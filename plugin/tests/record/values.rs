//! What the value is when it is no envelope, and what every record says beside it.

use bytes::Bytes;
use serde_json::json;
use sluice_proto::v1::Delivery;

use crate::harness::{check, record};

#[test]
fn the_raw_body_is_the_value_untouched() {
    let config = json!({"value": "body"});
    for body in [&b"{broken"[..], b"\xff\0\r\n", b"", b"{\"a\":1}"] {
        let request = [b"POST /\ncontent-type: application/json\n\n", body].concat();
        assert_eq!(
            record(&config, request).unwrap().value,
            Some(Bytes::copy_from_slice(body))
        );
    }
}

#[test]
fn a_tombstone_has_no_value_and_an_empty_body_has_an_empty_one() {
    assert_eq!(
        record(&json!({"value": "none"}), "POST /\n\nignored")
            .unwrap()
            .value,
        None
    );
    assert_eq!(
        record(&json!({"value": "body"}), "POST /").unwrap().value,
        Some(Bytes::new())
    );
}

#[test]
fn the_value_may_depend_on_the_method() {
    let config = json!({"value": "body", "value_by_method": {"DELETE": "none", "PATCH": "envelope"}});
    assert_eq!(record(&config, "DELETE /\n\nx").unwrap().value, None);
    assert_eq!(record(&config, "PUT /\n\nx").unwrap().value, Some("x".into()));
    check(
        config,
        "PATCH /\ncontent-type: text/plain\n\nx",
        r#"{"body":"x","body_args":{}}"#,
    );
}

#[test]
fn a_record_says_where_it_goes_and_how_long_somebody_waits() {
    let record = record(
        &json!({"topics": ["a", "b"], "cluster_name": "c", "producer": "p", "producer_async": true, "answer_timeout": 1500}),
        "POST /\n\nx",
    )
    .unwrap();
    assert_eq!(record.id, 7);
    assert_eq!((record.cluster.as_str(), record.producer.as_str()), ("c", "p"));
    assert_eq!(record.topics, ["a", "b"]);
    assert_eq!(record.delivery(), Delivery::Buffered);
    assert_eq!(record.deadline_ms, 1500);
    assert_eq!(
        (record.key, record.partition, record.timestamp_ms),
        (None, None, None)
    );
}

#[test]
fn a_record_is_acked_within_ten_seconds_by_default_cluster_and_profile() {
    let record = record(&json!({}), "POST /\n\nx").unwrap();
    assert_eq!((record.cluster.as_str(), record.producer.as_str()), ("", ""));
    assert_eq!(record.topics, ["t"]);
    assert_eq!(record.delivery(), Delivery::Acked);
    assert_eq!(record.deadline_ms, 10_000);
}
