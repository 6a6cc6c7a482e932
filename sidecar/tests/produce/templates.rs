//! Records that the sidecar makes of a template, on their usual ways.

use std::time::Duration;

use bytes::Bytes;
use rdkafka::Message;
use rdkafka::message::Headers as _;
use serde_json::json;
use sluice::config::{Idempotency as Keys, Secret, Spool, TopicAllowlist};
use sluice::templates::NamedSecret;
use sluice_proto::v1::topic_fate::Result as Fated;
use sluice_proto::v1::{Delivery, ErrorClass, Idempotency, Record, Template};

use crate::support::{Sidecar, config, failure, mock, read, stored, text};

fn made(id: u64, topic: &str, definition: serde_json::Value, body: &str) -> Record {
    Record {
        id,
        template: Some(Template {
            definition: definition.to_string(),
            inputs: Some(Bytes::copy_from_slice(body.as_bytes())),
            topics: vec![topic.to_owned()],
            ..Template::default()
        }),
        ..Record::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_is_made_and_written() {
    let mock = mock(&[("runs", 3), ("closed", 1)]);
    let mut config = config(&mock.bootstrap_servers());
    crate::support::cluster(&mut config).allowed_topics = TopicAllowlist(vec!["runs".to_owned()]);
    let secret = NamedSecret {
        value: Secret::new("hush"),
        topics: TopicAllowlist(vec!["runs".to_owned()]),
    };
    config.templates.secrets.insert("api".to_owned(), secret);
    let sidecar = Sidecar::start(config).await;
    let mut stream = sidecar.stream().await;
    let definition = json!({
        "payload": { "n": "{{ .inputs.n + 1 }}", "token": "{{ .secrets.api }}" },
        "key": "{{ .inputs.id }}",
        "partition": "{{ .inputs.n }}",
        "headers": { "h": "v{{ .inputs.n }}" },
    });
    let fate = stream
        .produce(made(1, "runs", definition.clone(), r#"{"n": 2, "id": "k"}"#))
        .await;
    assert_eq!(stored(&fate).0, 2);
    let found = read(&mock, "runs", 2, 1).await;
    assert_eq!(text(&found[0]), r#"{"n":3,"token":"hush"}"#);
    assert_eq!(found[0].key(), Some(&b"k"[..]));
    let header = found[0].headers().unwrap().get(0);
    assert_eq!((header.key, header.value), ("h", Some(&b"v2"[..])));
    // Made or not, a record goes only where it may.
    let (class, _) = failure(&stream.produce(made(2, "closed", definition, r#"{"n": 0}"#)).await);
    assert_eq!(class, ErrorClass::TopicNotAllowed);
    let (class, why) = failure(
        &stream
            .produce(made(3, "runs", json!({ "payload": "{{ nope }}" }), "1"))
            .await,
    );
    assert_eq!(class, ErrorClass::RouteMisconfigured);
    assert!(why.contains("payload: \"nope\" calls nope"), "{why}");
    let (class, why) = failure(
        &stream
            .produce(made(4, "runs", json!({ "payload": ["{{ .inputs.a }}"] }), "1"))
            .await,
    );
    assert_eq!(class, ErrorClass::InvalidRequest);
    assert!(why.starts_with("template: payload/0: {{ .inputs.a }} "), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_one_message_keep_their_order_and_others_do_not_wait() {
    let mock = mock(&[("runs", 1)]);
    let sidecar = Sidecar::on(&mock).await;
    let mut stream = sidecar.stream().await;
    let slow = "{{ [range(50000)] | length }}";
    let records = (1..=8).map(|id| {
        let expression = if id % 2 == 1 { slow } else { "{{ .inputs }}" };
        made(id, "runs", json!({ "payload": [id, expression] }), "50000")
    });
    stream.send(records.collect()).await;
    let mut offsets = Vec::new();
    for (id, fates) in stream.fates(8).await {
        let Some(Fated::Stored(stored)) = &fates[0].result else {
            panic!("{fates:?}")
        };
        offsets.push((id, stored.offset));
    }
    offsets.sort_unstable();
    assert_eq!(offsets, (0..8).map(|n| (n + 1, n as i64)).collect::<Vec<_>>());
    let values: Vec<String> = read(&mock, "runs", 0, 8).await.iter().map(text).collect();
    assert_eq!(
        values,
        (1..=8).map(|n| format!("[{n},50000]")).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_made_is_spooled_and_written_once() {
    let mock = mock(&[("runs", 1)]);
    let (spool, keys) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut config = config(&mock.bootstrap_servers());
    config.spool = Some(Spool {
        directory: spool.path().to_owned(),
        max_bytes: 64 << 20,
        max_age: Duration::from_secs(3600),
        grace: Duration::from_secs(60),
        dead_letters: None,
    });
    config.idempotency = Some(Keys {
        directory: keys.path().to_owned(),
        max_keys: 100,
        window: Duration::from_secs(3600),
    });
    let sidecar = Sidecar::start(config).await;
    let mut stream = sidecar.stream().await;
    let spooled = Record {
        delivery: Delivery::Spooled.into(),
        ..made(1, "runs", json!({ "payload": "{{ .inputs }}!" }), "1")
    };
    assert!(matches!(stream.produce(spooled).await, Fated::Accepted(_)));
    assert_eq!(text(&read(&mock, "runs", 0, 1).await[0]), "\"1!\"");
    // `now` is another each time; the request is the same, and its record is written once.
    let once = |id| Record {
        idempotency: Some(Idempotency {
            key: Bytes::from_static(b"k"),
            fingerprint: Bytes::from_static(b"f"),
            window_ms: 0,
        }),
        ..made(id, "runs", json!({ "payload": "{{ now }}" }), "1")
    };
    let first = stored(&stream.produce(once(2)).await);
    assert_eq!(stored(&stream.produce(once(3)).await), first);
    assert_eq!(read(&mock, "runs", 0, 2).await.len(), 2);
}
