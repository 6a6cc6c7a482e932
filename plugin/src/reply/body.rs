//! The JSON bodies.

use serde::Serialize;
use sluice_proto::class::Row;
use sluice_proto::v1::TopicFate;
use sluice_proto::v1::topic_fate::Result as Fate;

use super::failure_of;
use sluice_proto::class::row_of;

#[derive(Serialize)]
struct Body<'a> {
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    results: Vec<TopicResult<'a>>,
}

/// One topic's part of `results`.
#[derive(Serialize)]
#[serde(untagged)]
enum TopicResult<'a> {
    Stored {
        topic: &'a str,
        partition: i32,
        offset: i64,
    },
    Accepted {
        topic: &'a str,
        accepted: bool,
    },
    Failed {
        topic: &'a str,
        error: &'a str,
        code: &'static str,
    },
}

/// `{"message": …}`.
pub(super) fn message(message: &str) -> Vec<u8> {
    write(&Body {
        message,
        error: None,
        code: None,
        results: Vec::new(),
    })
}

/// `{"message": …, "error": …, "code": …}`.
pub(super) fn failure(row: Row, error: &str) -> Vec<u8> {
    write(&Body {
        message: row.message,
        error: Some(error),
        code: Some(row.code),
        results: Vec::new(),
    })
}

/// The same with `results`: what became of the record in each of its topics.
pub(super) fn failure_by_topic(row: Row, error: &str, topics: &[String], fates: &[TopicFate]) -> Vec<u8> {
    let results = topics.iter().zip(fates).map(|(topic, fate)| match &fate.result {
        Some(Fate::Stored(stored)) => TopicResult::Stored {
            topic,
            partition: stored.partition,
            offset: stored.offset,
        },
        Some(Fate::Accepted(_)) => TopicResult::Accepted {
            topic,
            accepted: true,
        },
        Some(Fate::Failure(_)) | None => {
            let (class, error) = failure_of(fate);
            let code = row_of(class).code;
            TopicResult::Failed { topic, error, code }
        }
    });
    write(&Body {
        message: row.message,
        error: Some(error),
        code: Some(row.code),
        results: results.collect(),
    })
}

fn write(body: &Body<'_>) -> Vec<u8> {
    // Strings and numbers always serialise.
    serde_json::to_vec(body).unwrap_or_default()
}
