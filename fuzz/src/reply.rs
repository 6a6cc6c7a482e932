//! What the sidecar answers, as the filter reads it: over the stream and over HTTP.

use prost::Message;
use serde::de::IgnoredAny;
use sluice_filter::config::{FilterConfig, StreamSettings};
use sluice_filter::reply::Reply;
use sluice_filter::stream::{Effects, Outcome, Stream, Tag};
use sluice_filter::{call, pairs::Pair};
use sluice_proto::v1::ProduceReply;

/// The first byte says how many records wait, the rest is what comes: nobody is answered twice, everybody in the end,
/// and every answer can be made.
pub(crate) fn produce_reply(data: &[u8]) {
    let Some((waiting, message)) = data.split_first() else {
        return;
    };
    let waiting = usize::from(*waiting % 8);
    let mut world = World {
        answers: vec![0; waiting],
        outcomes: Vec::new(),
    };
    let mut stream = Stream::new(StreamSettings::default());
    for owner in 0..waiting {
        let taken = stream.produce::<()>(0, 1_000_000, (Tag::default(), 0), &mut world, |out, id| {
            out.extend_from_slice(&[0x0a, 2, 8, u8::try_from(id % 128).unwrap()]);
            Ok(owner)
        });
        assert!(taken.is_ok());
    }
    stream.tick(1, &mut world);
    stream.opened(1, 2, &mut world);
    stream.reply(1, message, 3, &mut world);
    stream.reply(1, message, 4, &mut world);
    let answered = world.answers.iter().sum::<usize>();
    let decoded = ProduceReply::decode(message);
    if decoded.is_err() {
        assert_eq!(answered, waiting, "a reply that cannot be read answers everybody");
    }
    stream.closed(1, 5, &mut world);
    stream.tick(2_000_000, &mut world);
    assert!(
        world.answers.iter().all(|times| *times == 1),
        "{:?}",
        world.answers
    );
    for content_type in [call::CONTENT_TYPE, "application/json", "text/plain"] {
        for status in ["200", "404", "503", ""] {
            let headers: [Pair<'_>; 2] = [
                (b":status", status.as_bytes()),
                (b"content-type", content_type.as_bytes()),
            ];
            world.outcomes.push(call::outcome(&headers, message));
        }
    }
    let topics = ["a".to_owned(), "b".to_owned()];
    let config = FilterConfig::from_json(br#"{"topics": ["a", "b"]}"#).expect("a configuration");
    let route = config.resolve(None, b"").expect("a route").expect("topics");
    for outcome in &world.outcomes {
        for topics in [&topics[..1], &topics[..]] {
            let reply = Reply::of(&route, topics, outcome);
            assert!((200..600).contains(&reply.status));
            if reply.more_headers.is_empty() && !is_answered(outcome) {
                serde_json::from_slice::<IgnoredAny>(&reply.body).expect("a body that is JSON");
            }
            for (name, value) in &reply.more_headers {
                assert!(
                    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()),
                    "{name:?}"
                );
                assert!(
                    !value.iter().any(|byte| b"\r\n\0".contains(byte)),
                    "{name}: {value:?}"
                );
            }
            for (name, value) in &reply.headers {
                assert!(!value.contains(['\r', '\n', '\0']), "{name}: {value:?}");
            }
            // Nothing is called stored that was not.
            assert!(
                reply.status >= 300 || !failed(outcome, topics.len()),
                "{outcome:?} is answered {}",
                reply.status
            );
        }
    }
}

/// Whether not everything is known to be stored of a record for so many topics.
fn failed(outcome: &Outcome, topics: usize) -> bool {
    match outcome {
        Outcome::Fates(fates) | Outcome::Replayed(fates) | Outcome::Answered(fates, _) => {
            fates.len() != topics || fates.iter().any(|fate| fate.result.is_none())
        }
        Outcome::Chosen { outcome, .. } => failed(outcome, 1),
        Outcome::Failed(_) => true,
    }
}

/// Whether the sidecar says what the client is answered, which need not be JSON.
fn is_answered(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Answered(..) => true,
        Outcome::Chosen { outcome, .. } => is_answered(outcome),
        Outcome::Fates(_) | Outcome::Replayed(_) | Outcome::Failed(_) => false,
    }
}

/// Who is answered, how often, and what.
struct World {
    answers: Vec<usize>,
    outcomes: Vec<Outcome>,
}

impl Effects<usize> for World {
    fn open(&mut self) -> Option<u32> {
        Some(1)
    }

    fn send(&mut self, _stream: u32, _message: &[u8], _records: usize) -> bool {
        true
    }

    fn close(&mut self, _stream: u32) {}

    fn cancel(&mut self, _stream: u32) {}

    fn answer(&mut self, owner: usize, outcome: Outcome) {
        self.answers[owner] += 1;
        self.outcomes.push(outcome);
    }
}
