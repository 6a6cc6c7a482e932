//! What is frozen in testdata/contract/v1: the sidecar's replies, byte for byte, and the filter's requests.

#[path = "../../../../testdata/contract/frozen.rs"]
mod frozen;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;
use serde_json::{Value, json};
use sluice_proto::v1::topic_fate::Result as Fated;
use sluice_proto::v1::{Answer, AnswerKind, ErrorClass, Fate, Header, ProduceReply, ProduceRequest};

use crate::kafka::record::{Failure, Outcome};
use crate::produce::gather::Told;

fn fate(id: u64, outcomes: impl IntoIterator<Item = Outcome>) -> Fate {
    super::fate(id, told(outcomes))
}

fn told(outcomes: impl IntoIterator<Item = Outcome>) -> Told {
    Told {
        outcomes: outcomes.into_iter().collect(),
        ..Told::default()
    }
}

/// Names, descriptions and messages.
fn replies() -> Vec<(&'static str, &'static str, ProduceReply)> {
    let reply = |fates| ProduceReply { fates, drain: false };
    let failed = |class, message: &'static str| Outcome::from(Failure::new(class, message));
    let stored = |partition, offset| Outcome::Stored { partition, offset };
    // Those that there were when it was frozen.
    let classes = (1..=12).zip(sluice_proto::class::ALL);
    vec![
        (
            "stored",
            "a record that the broker acknowledged",
            reply(vec![fate(7, [stored(3, 41)])]),
        ),
        (
            "stored_zero",
            "id, partition and offset 0",
            reply(vec![fate(0, [stored(0, 0)])]),
        ),
        (
            "accepted",
            "a buffered record, with the largest id",
            reply(vec![fate(u64::MAX, [Outcome::Accepted])]),
        ),
        (
            "out_of_order",
            "several fates, not in the order of their records",
            reply(vec![
                fate(3, [stored(0, 9)]),
                fate(1, [stored(0, 8)]),
                fate(2, [Outcome::Accepted]),
            ]),
        ),
        (
            "partly_stored",
            "a record for three topics, stored in two",
            reply(vec![fate(
                4,
                [
                    stored(1, 2),
                    failed(ErrorClass::UnknownTopic, "there is no topic audit"),
                    stored(2, 5),
                ],
            )]),
        ),
        (
            "failures",
            "a failure of each class",
            reply(
                classes
                    .map(|(id, class)| fate(id, [failed(class, "what happened")]))
                    .collect(),
            ),
        ),
        (
            "key_reused",
            "a record whose idempotency key came with another request",
            reply(vec![fate(
                5,
                [failed(ErrorClass::IdempotencyKeyReused, "what happened")],
            )]),
        ),
        (
            "replayed",
            "a record that an earlier one with its idempotency key was written for",
            reply(vec![super::fate(
                6,
                Told {
                    replayed: true,
                    ..told([stored(1, 2)])
                },
            )]),
        ),
        (
            "chosen_topic",
            "a record whose template chose the topic",
            reply(vec![super::fate(
                8,
                Told {
                    topic: Some("orders".to_owned()),
                    ..told([stored(2, 3)])
                },
            )]),
        ),
        (
            "answered",
            "a record whose reply came",
            reply(vec![super::fate(
                8,
                Told {
                    answer: Some(Answer {
                        kind: AnswerKind::Replied.into(),
                        status: 201,
                        headers: vec![Header {
                            name: "content-type".to_owned(),
                            value: Some(b"application/json".to_vec()),
                        }],
                        body: Bytes::from_static(b"{\"ok\":true}"),
                    }),
                    ..told([stored(0, 5)])
                },
            )]),
        ),
        (
            "drain",
            "the sidecar drains",
            ProduceReply {
                fates: Vec::new(),
                drain: true,
            },
        ),
    ]
}

fn described_reply(says: &str, encoded: &[u8]) -> Value {
    let reply = ProduceReply::decode(encoded).unwrap();
    let topic = |result: &Fated| match result {
        Fated::Stored(stored) => {
            json!({"stored": {"partition": stored.partition, "offset": stored.offset.to_string()}})
        }
        Fated::Accepted(_) => json!({"accepted": {}}),
        Fated::Failure(failure) => {
            json!({"failure": {"class": failure.class().as_str_name(), "message": failure.message}})
        }
    };
    let fate = |fate: &Fate| {
        let topics: Vec<Value> = fate
            .topics
            .iter()
            .map(|told| topic(told.result.as_ref().unwrap()))
            .collect();
        let mut described = json!({"id": fate.id.to_string(), "topics": topics});
        // What was frozen before there was this field does not name it.
        if fate.replayed {
            described["replayed"] = json!(true);
        }
        if !fate.topic.is_empty() {
            described["topic"] = json!(fate.topic);
        }
        if let Some(answer) = &fate.answer {
            let headers = answer
                .headers
                .iter()
                .map(|header| json!([header.name, header.value.as_deref().map(String::from_utf8_lossy)]));
            described["answer"] = json!({
                "kind": answer.kind().as_str_name(),
                "status": answer.status,
                "headers": headers.collect::<Vec<_>>(),
                "body": String::from_utf8_lossy(&answer.body),
            });
        }
        described
    };
    let fates: Vec<Value> = reply.fates.iter().map(fate).collect();
    json!({"says": says, "drain": reply.drain, "fates": fates})
}

#[test]
fn the_sidecar_still_writes_what_is_frozen() {
    for (name, says, reply) in replies() {
        let encoded = reply.encode_to_vec();
        let description = described_reply(says, &encoded);
        frozen::check(&format!("produce_reply_{name}"), &encoded, &description);
    }
}

#[test]
fn every_frozen_request_reads_as_it_is_described() {
    let is_request = |path: &Path| {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        name.starts_with("produce_request_") && path.extension().is_some_and(|extension| extension == "bin")
    };
    let files = std::fs::read_dir(frozen::folder())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let requests: Vec<PathBuf> = files.filter(|path| is_request(path)).collect();
    assert!(requests.len() >= 10, "{requests:?}");
    for path in requests {
        let request = ProduceRequest::decode(&std::fs::read(&path).unwrap()[..]).unwrap();
        let description = std::fs::read(path.with_extension("json")).unwrap();
        let description: Value = serde_json::from_slice(&description).unwrap();
        let records: Vec<Value> = request.records.iter().map(frozen::described).collect();
        assert_eq!(Value::from(records), description["records"], "{}", path.display());
    }
}
