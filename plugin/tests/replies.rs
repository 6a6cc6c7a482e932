//! What the sidecar's tests froze in testdata/contract/v1, read as the filter reads it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "these are tests"
)]

use std::path::PathBuf;

use prost::Message as _;
use serde_json::{Value as Json, json};
use sluice_filter::config::StreamSettings;
use sluice_filter::stream::{Effects, Outcome, Stream, Tag, Token};
use sluice_proto::v1::topic_fate::Result as Fated;
use sluice_proto::v1::{ProduceReply, ProduceRequest, Record, TopicFate};

/// Every frozen reply: its file, its bytes, and what a reader must see in them.
fn frozen() -> Vec<(PathBuf, Vec<u8>, Json)> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/contract/v1"));
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with("produce_reply_") && name.ends_with(".bin")
        })
        .collect();
    files.sort();
    assert!(files.len() >= 7, "{files:?}");
    let read = |path: PathBuf| {
        let message = std::fs::read(&path).unwrap();
        let described = std::fs::read(path.with_extension("json")).unwrap();
        (path, message, serde_json::from_slice(&described).unwrap())
    };
    files.into_iter().map(read).collect()
}

fn described(topics: &[TopicFate]) -> Json {
    let one = |topic: &TopicFate| match topic.result.as_ref().unwrap() {
        Fated::Stored(stored) => {
            json!({"stored": {"partition": stored.partition, "offset": stored.offset.to_string()}})
        }
        Fated::Accepted(_) => json!({"accepted": {}}),
        Fated::Failure(failure) => {
            let class = sluice_proto::class::from_wire(failure.class);
            json!({"failure": {"class": class.as_str_name(), "message": failure.message}})
        }
    };
    topics.iter().map(one).collect()
}

/// What a stream did.
#[derive(Default)]
struct World {
    opened: Token,
    sent: Vec<u64>,
    cancelled: bool,
    answers: Vec<(usize, Outcome)>,
}

impl Effects<usize> for World {
    fn open(&mut self) -> Option<Token> {
        self.opened += 1;
        Some(self.opened)
    }

    fn send(&mut self, _: Token, message: &[u8], _: usize) -> bool {
        let request = ProduceRequest::decode(message).unwrap();
        self.sent.extend(request.records.iter().map(|record| record.id));
        true
    }

    fn close(&mut self, _: Token) {}

    fn cancel(&mut self, _: Token) {
        self.cancelled = true;
    }

    fn answer(&mut self, owner: usize, outcome: Outcome) {
        self.answers.push((owner, outcome));
    }
}

/// An open stream with that many records under way; the owner of each is its number.
fn under_way(records: usize) -> (Stream<usize>, World) {
    let (mut stream, mut world) = (Stream::new(StreamSettings::default()), World::default());
    for owner in 0..records {
        let write = |out: &mut Vec<u8>, id| {
            let records = vec![Record {
                id,
                ..Record::default()
            }];
            ProduceRequest { records }.encode(out).unwrap();
            Ok::<_, ()>(owner)
        };
        stream
            .produce(0, 60_000_000, (Tag::default(), 0), &mut world, write)
            .unwrap();
    }
    stream.tick(0, &mut world);
    stream.opened(1, 0, &mut world);
    for now_ms in 1..=2 {
        stream.tick(now_ms * 1000, &mut world);
    }
    assert_eq!(world.sent.len(), records);
    (stream, world)
}

#[test]
fn every_frozen_reply_is_told_as_it_is_described() {
    for (path, message, description) in frozen() {
        let fates = description["fates"].as_array().unwrap();
        let (mut stream, mut world) = under_way(fates.len());
        // Ids are the filter's own: the frozen ones stand for those of the records under way.
        let mut reply = ProduceReply::decode(&message[..]).unwrap();
        assert_eq!(reply.fates.len(), fates.len(), "{}", path.display());
        for ((fate, id), described) in reply.fates.iter_mut().zip(&world.sent).zip(fates) {
            assert_eq!(fate.id.to_string(), described["id"], "{}", path.display());
            fate.id = *id;
        }
        stream.reply(1, &reply.encode_to_vec(), 3000, &mut world);
        for (owner, described_fate) in fates.iter().enumerate() {
            let told = world.answers.iter().find(|(told, _)| *told == owner);
            let replayed = described_fate["replayed"] == true;
            let (told, chosen) = match told {
                Some((_, Outcome::Chosen { topic, outcome })) => (Some(&**outcome), json!(topic)),
                told => (told.map(|(_, outcome)| outcome), Json::Null),
            };
            assert_eq!(chosen, described_fate["topic"], "{}", path.display());
            let topics = match told {
                Some(Outcome::Fates(topics)) if !replayed && described_fate["answer"].is_null() => topics,
                Some(Outcome::Replayed(topics)) if replayed => topics,
                Some(Outcome::Answered(topics, _)) if !described_fate["answer"].is_null() => topics,
                _ => panic!("{}: {told:?}", path.display()),
            };
            assert_eq!(described(topics), described_fate["topics"], "{}", path.display());
        }
    }
}

#[test]
fn a_frozen_reply_is_never_garbled_and_a_drain_is_heeded() {
    for (path, message, description) in frozen() {
        let (mut stream, mut world) = under_way(1);
        stream.reply(1, &message, 3000, &mut world);
        assert!(!world.cancelled && world.answers.is_empty(), "{}", path.display());
        let write = |out: &mut Vec<u8>, id| {
            let records = vec![Record {
                id,
                ..Record::default()
            }];
            ProduceRequest { records }.encode(out).unwrap();
            Ok::<_, ()>(7)
        };
        stream
            .produce(4_000_000, 60_000_000, (Tag::default(), 0), &mut world, write)
            .unwrap();
        stream.tick(4_001_000, &mut world);
        let streams = if description["drain"] == true { 2 } else { 1 };
        assert_eq!(world.opened, streams, "{}", path.display());
    }
}
