//! Order, and records that go to several topics.

use rdkafka::Message;
use rdkafka::message::Headers;
use sluice_proto::v1::topic_fate::Result as Fated;
use sluice_proto::v1::{ErrorClass, Header, Record};

use crate::support::{Sidecar, failure, mock, read, record, stored, text};

#[tokio::test]
async fn records_of_a_topic_are_stored_in_the_order_they_were_sent_in() {
    let mock = mock(&[("orders", 1)]);
    let sidecar = Sidecar::on(&mock).await;
    let mut stream = sidecar.stream().await;
    // The first ones wait for word of the topic, the last ones do not.
    for batch in 0..50 {
        let records = (0..20).map(|n| record(batch * 20 + n, "orders", &(batch * 20 + n).to_string()));
        stream.send(records.collect()).await;
    }
    let fates = stream.fates(1000).await;
    for (id, topics) in &fates {
        assert_eq!(
            stored(topics[0].result.as_ref().unwrap()),
            (0, i64::try_from(*id).unwrap())
        );
    }
    let values: Vec<String> = read(&mock, "orders", 0, 1000).await.iter().map(text).collect();
    assert_eq!(values, (0..1000).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_key_goes_to_the_partition_that_java_puts_it_in() {
    let mock = mock(&[("orders", 12)]);
    let sidecar = Sidecar::on(&mock).await;
    let mut stream = sidecar.stream().await;
    for (id, key) in (0..).zip(["", "21", "foobar", "a-little-bit-long-string"]) {
        let keyed = Record {
            key: Some(key.as_bytes().to_vec().into()),
            ..record(id, "orders", "x")
        };
        let expected = (murmur2(key.as_bytes()) & 0x7fff_ffff) % 12;
        let (partition, _) = stored(&stream.produce(keyed).await);
        assert_eq!(u32::try_from(partition).unwrap(), expected, "{key}");
    }
}

#[test]
fn the_hash_that_is_compared_with_is_javas() {
    // From UtilsTest of Kafka's Java client.
    assert_eq!(murmur2(b"21").cast_signed(), -973_932_308);
    assert_eq!(murmur2(b"foobar").cast_signed(), -790_332_482);
    assert_eq!(murmur2(b"a-little-bit-long-string").cast_signed(), -985_981_536);
}

/// Kafka's murmur2 (`org.apache.kafka.common.utils.Utils`).
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h = 0x9747_b28c ^ u32::try_from(data.len()).unwrap();
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes(word.try_into().unwrap()).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        h = h.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    for (at, byte) in rest.iter().enumerate().rev() {
        h ^= u32::from(*byte) << (8 * at);
    }
    if !rest.is_empty() {
        h = h.wrapping_mul(M);
    }
    h = (h ^ (h >> 13)).wrapping_mul(M);
    h ^ (h >> 15)
}

#[tokio::test]
async fn nothing_empty_and_absent_are_told_apart() {
    let mock = mock(&[("orders", 1)]);
    let sidecar = Sidecar::on(&mock).await;
    let mut stream = sidecar.stream().await;
    let header = |name: &str, value: Option<&[u8]>| Header {
        name: name.to_owned(),
        value: value.map(<[u8]>::to_vec),
    };
    let rows = [
        Record {
            key: None,
            value: None,
            ..record(0, "orders", "")
        },
        Record {
            key: Some(Vec::new().into()),
            value: Some(Vec::new().into()),
            ..record(1, "orders", "")
        },
        Record {
            key: Some(b"\xff\x00".to_vec().into()),
            timestamp_ms: Some(1234),
            headers: vec![
                header("b", Some(b"1")),
                header("a", Some(b"")),
                header("b", None),
                header("b", Some(b"\xfe")),
            ],
            ..record(2, "orders", "v")
        },
    ];
    for row in rows {
        stored(&stream.produce(row).await);
    }
    let messages = read(&mock, "orders", 0, 3).await;
    assert_eq!((messages[0].key(), messages[0].payload()), (None, None));
    assert_eq!(
        (messages[1].key(), messages[1].payload()),
        (Some(&b""[..]), Some(&b""[..]))
    );
    assert!(messages[1].headers().is_none_or(|headers| headers.count() == 0));
    assert_eq!(
        (messages[2].key(), messages[2].payload()),
        (Some(&b"\xff\x00"[..]), Some(&b"v"[..]))
    );
    let headers: Vec<(&str, Option<&[u8]>)> = messages[2]
        .headers()
        .unwrap()
        .iter()
        .map(|header| (header.key, header.value))
        .collect();
    let expected: [(&str, Option<&[u8]>); 4] = [
        ("b", Some(b"1")),
        ("a", Some(b"")),
        ("b", None),
        ("b", Some(b"\xfe")),
    ];
    assert_eq!(headers, expected);
}

#[tokio::test]
async fn a_record_for_several_topics_gets_a_fate_for_each_in_their_order() {
    let mock = mock(&[("orders", 1), ("audit", 1)]);
    let sidecar = Sidecar::on(&mock).await;
    let mut stream = sidecar.stream().await;
    let topics = ["orders", "nowhere", "audit"].map(str::to_owned).to_vec();
    stream
        .send(vec![Record {
            topics,
            ..record(5, "", "x")
        }])
        .await;
    let (id, fates) = stream.fates(1).await.pop().unwrap();
    assert_eq!((id, fates.len()), (5, 3));
    stored(fates[0].result.as_ref().unwrap());
    assert_eq!(
        failure(fates[1].result.as_ref().unwrap()).0,
        ErrorClass::UnknownTopic
    );
    stored(fates[2].result.as_ref().unwrap());
}

#[tokio::test]
async fn a_message_larger_than_the_windows_of_http_2_goes_through() {
    let mock = mock(&[("orders", 1)]);
    let sidecar = Sidecar::on(&mock).await;
    let mut stream = sidecar.stream().await;
    let value = "x".repeat(900_000);
    stream
        .send((0..4).map(|id| record(id, "orders", &value)).collect())
        .await;
    for (_, topics) in stream.fates(4).await {
        assert!(matches!(topics[0].result, Some(Fated::Stored(_))));
    }
}
