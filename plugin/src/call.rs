//! `transport: http`: each record as an HTTP call of its own.

use prost::Message as _;
use sluice_proto::class::{ALL, ErrorClass, row_of};
use sluice_proto::v1::topic_fate::Result as Fate;
use sluice_proto::v1::{Failure, Fate as RecordFate, ProduceReply, TopicFate};

use crate::pairs::Pair;
use crate::request::Head;
use crate::stream::{Failed, Outcome};

/// The media type of an encoded `ProduceRequest`, and of the `ProduceReply` that answers it.
pub const CONTENT_TYPE: &str = "application/x-protobuf";

/// The id of the one record of a call.
pub const ID: u64 = 1;

/// The call cannot even be made.
pub const NO_CALL: Failed = Failed {
    class: ErrorClass::SidecarUnavailable,
    error: "the sidecar cannot be called",
};

const NEVER_SENT: Failed = Failed {
    class: ErrorClass::SidecarUnavailable,
    error: "the sidecar cannot be reached",
};
const NO_ANSWER: Failed = Failed {
    class: ErrorClass::OutcomeUnknown,
    error: "the call to the sidecar failed before it answered",
};
const UNREADABLE: Failed = Failed {
    class: ErrorClass::OutcomeUnknown,
    error: "the sidecar's answer cannot be read",
};
const REFUSED: Failed = Failed {
    class: ErrorClass::RouteMisconfigured,
    error: "the sidecar refused the call: is its data listener what `sidecar_cluster` leads to?",
};

/// The path that a record for `topic` is sent to.
pub fn path(topic: &str) -> String {
    format!("/topics/{topic}/records")
}

/// What an answer means. `headers` are empty where there was none.
pub fn outcome(headers: &[Pair<'_>], body: &[u8]) -> Outcome {
    let head = Head::new(headers);
    let status = head.get(":status").unwrap_or_default();
    let media_type = head.get("content-type").unwrap_or_default();
    let is = |wanted: &str| media_type.starts_with(wanted.as_bytes());
    let failed = match status {
        b"" => NO_ANSWER,
        b"200" if is(CONTENT_TYPE) => match fate(body) {
            Some(fate) => return fate.into(),
            None => UNREADABLE,
        },
        b"503" if is("text/plain") && never_sent(body) => NEVER_SENT,
        _ if is("application/json")
            && let Some(fate) = error_of(body) =>
        {
            return Outcome::Fates(vec![fate]);
        }
        [b'4', ..] => REFUSED,
        _ => UNREADABLE,
    };
    Outcome::Failed(failed)
}

fn fate(body: &[u8]) -> Option<RecordFate> {
    let reply = ProduceReply::decode(body).ok()?;
    reply.fates.into_iter().find(|fate| fate.id == ID)
}

/// An error body of the sidecar's, if its code is known.
fn error_of(body: &[u8]) -> Option<TopicFate> {
    #[derive(serde::Deserialize)]
    struct Body {
        code: String,
        #[serde(default)]
        error: String,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    let class = ALL.into_iter().find(|class| row_of(*class).code == body.code)?;
    let failure = Failure {
        class: class as i32,
        message: body.error,
    };
    Some(TopicFate {
        result: Some(Fate::Failure(failure)),
    })
}

/// Whether Envoy itself says that it never had a connection to send the call on. Texts of Envoy 1.40
/// (`source/common/http/utility.cc`, `source/common/router/router.cc`); with any other the call counts as sent.
fn never_sent(body: &[u8]) -> bool {
    const RESET: &[u8] = b"upstream connect error or disconnect/reset before headers. reset reason: ";
    const BEFORE_SENDING: [&[u8]; 4] = [
        b"remote connection failure",
        b"local connection failure",
        b"connection timeout",
        b"overflow",
    ];
    match body.strip_prefix(RESET) {
        Some(reason) => BEFORE_SENDING.iter().any(|known| reason.starts_with(known)),
        None => body == b"no healthy upstream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_proto::v1::Stored;

    fn answer(status: &str, content_type: &str, body: &[u8]) -> Outcome {
        let headers: [Pair<'_>; 2] = [
            (b":status", status.as_bytes()),
            (b"content-type", content_type.as_bytes()),
        ];
        outcome(&headers, body)
    }

    fn class(outcome: &Outcome) -> ErrorClass {
        match outcome {
            Outcome::Failed(failed) => failed.class,
            Outcome::Chosen { outcome, .. } => class(outcome),
            Outcome::Fates(fates) | Outcome::Replayed(fates) | Outcome::Answered(fates, _) => {
                match &fates[0].result {
                    Some(Fate::Failure(failure)) => sluice_proto::class::from_wire(failure.class),
                    other => panic!("no failure: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn a_reply_has_the_fates_of_the_record() {
        let stored = TopicFate {
            result: Some(Fate::Stored(Stored {
                partition: 1,
                offset: 2,
            })),
        };
        let fate = |id| RecordFate {
            id,
            topics: vec![stored.clone()],
            replayed: false,
            ..Default::default()
        };
        let mut reply = ProduceReply {
            fates: vec![fate(ID)],
            drain: false,
        };
        let got = answer("200", CONTENT_TYPE, &reply.encode_to_vec());
        assert_eq!(got, Outcome::Fates(vec![stored.clone()]));
        reply.fates = vec![RecordFate {
            replayed: true,
            ..fate(ID)
        }];
        let got = answer("200", CONTENT_TYPE, &reply.encode_to_vec());
        assert_eq!(got, Outcome::Replayed(vec![stored.clone()]));
        reply.fates = vec![RecordFate {
            topic: "chosen".to_owned(),
            ..fate(ID)
        }];
        let got = answer("200", CONTENT_TYPE, &reply.encode_to_vec());
        let chosen = Outcome::Chosen {
            topic: "chosen".to_owned(),
            outcome: Box::new(Outcome::Fates(vec![stored.clone()])),
        };
        assert_eq!(got, chosen);
        reply.fates = vec![fate(9)];
        let got = answer("200", CONTENT_TYPE, &reply.encode_to_vec());
        assert_eq!(class(&got), ErrorClass::OutcomeUnknown);
    }

    #[test]
    fn only_what_was_surely_not_sent_is_not_stored() {
        let reset = "upstream connect error or disconnect/reset before headers. reset reason: ";
        let cases = [
            ("503", "text/plain", "no healthy upstream".to_owned(), true),
            (
                "503",
                "text/plain",
                format!("{reset}remote connection failure"),
                true,
            ),
            ("503", "text/plain", format!("{reset}overflow"), true),
            (
                "503",
                "text/plain",
                format!("{reset}connection termination"),
                false,
            ),
            ("503", "text/html", "no healthy upstream".to_owned(), false),
            ("504", "text/plain", "upstream request timeout".to_owned(), false),
            ("500", "text/plain", String::new(), false),
            ("200", "text/plain", String::new(), false),
            ("200", CONTENT_TYPE, "\u{a}\u{7f}".to_owned(), false),
        ];
        for (status, content_type, body, unsent) in cases {
            let got = class(&answer(status, content_type, body.as_bytes()));
            let wanted = if unsent {
                ErrorClass::SidecarUnavailable
            } else {
                ErrorClass::OutcomeUnknown
            };
            assert_eq!(got, wanted, "{status} {body}");
        }
        assert_eq!(class(&outcome(&[], b"")), ErrorClass::OutcomeUnknown);
    }

    #[test]
    fn an_error_of_the_sidecars_keeps_its_class() {
        let body = br#"{"message":"x","error":"t is not there","code":"unknown_topic"}"#;
        assert_eq!(
            class(&answer("404", "application/json", body)),
            ErrorClass::UnknownTopic
        );
        let body = br#"{"message":"x","code":"buffer_full"}"#;
        assert_eq!(
            class(&answer("503", "application/json", body)),
            ErrorClass::BufferFull
        );
        let got = answer("401", "application/json", br#"{"code":"who_are_you"}"#);
        assert_eq!(class(&got), ErrorClass::RouteMisconfigured);
    }
}
