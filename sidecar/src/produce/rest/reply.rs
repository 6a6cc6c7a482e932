//! Answers of the REST face.

#[cfg(test)]
mod tests;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use prost::Message;
use serde_json::{Value, json};
use sluice_proto::class::{self, Row};
use sluice_proto::v1::{ErrorClass, ProduceReply};

use super::PROTOBUF;
use crate::kafka::record::{Failure, Outcome};
use crate::produce::gather::Told;
use crate::replies;

const TOPIC: HeaderName = HeaderName::from_static("x-kafka-topic");
const PARTITION: HeaderName = HeaderName::from_static("x-kafka-partition");
const OFFSET: HeaderName = HeaderName::from_static("x-kafka-offset");
const REPLAYED: HeaderName = HeaderName::from_static(sluice_proto::idempotency::REPLAYED_HEADER);

const SENT: &str = "message sent";
const ACCEPTED: &str = "message accepted";

/// An answer in the shape of an error, for what has no error class.
pub(super) fn plain(status: StatusCode, code: &str, text: &str) -> Response {
    let message = status.canonical_reason().unwrap_or_default().to_ascii_lowercase();
    (
        status,
        axum::Json(json!({ "message": message, "error": text, "code": code })),
    )
        .into_response()
}

/// The answer to a request, or to the only record of one, that failed.
pub(super) fn refusal(failure: &Failure) -> Response {
    error(failure.class, &failure.message, None)
}

/// The answer to one record.
pub(super) fn one(topic: &str, told: Option<Told>) -> Response {
    let lost = || Failure::new(ErrorClass::OutcomeUnknown, "the record's fate was lost");
    let Told {
        outcomes,
        replayed,
        topic: chosen,
        answer,
    } = told.unwrap_or_default();
    let outcome = outcomes.into_iter().next();
    let topic = chosen.as_deref().unwrap_or(topic);
    let mut response = of_outcome(topic, outcome.unwrap_or_else(|| lost().into()));
    if let Some(answer) = answer {
        response = replies::respond(answer, response.headers());
    }
    if replayed {
        response
            .headers_mut()
            .insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

fn of_outcome(topic: &str, outcome: Outcome) -> Response {
    match outcome {
        Outcome::Stored { partition, offset } => {
            let mut response = axum::Json(json!({ "message": SENT })).into_response();
            let headers = response.headers_mut();
            if let Ok(topic) = HeaderValue::from_str(topic) {
                headers.insert(TOPIC, topic);
            }
            headers.insert(PARTITION, partition.into());
            headers.insert(OFFSET, offset.into());
            response
        }
        Outcome::Accepted => {
            (StatusCode::ACCEPTED, axum::Json(json!({ "message": ACCEPTED }))).into_response()
        }
        Outcome::Failed(failure) => refusal(&failure),
    }
}

/// The answer to many records: 200 when all are stored, 202 when all are stored or accepted.
pub(super) fn many(topics: &[String], outcomes: Vec<Outcome>) -> Response {
    let overall = overall(&outcomes);
    let accepted = outcomes.contains(&Outcome::Accepted);
    let failed = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Outcome::Failed(_)))
        .count();
    let text = format!("{failed} of {} records: see results", outcomes.len());
    let results: Vec<Value> = topics
        .iter()
        .zip(outcomes)
        .map(|(topic, outcome)| result(topic, outcome))
        .collect();
    match overall {
        Some(class) => error(class, &text, Some(results)),
        None if accepted => {
            let body = json!({ "message": ACCEPTED, "results": results });
            (StatusCode::ACCEPTED, axum::Json(body)).into_response()
        }
        None => axum::Json(json!({ "message": SENT, "results": results })).into_response(),
    }
}

/// The class of many outcomes; `None` when nothing failed. "Nothing stored" is only said when it is certain.
fn overall(outcomes: &[Outcome]) -> Option<ErrorClass> {
    let mut failures = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Failed(failure) => Some(failure.class),
        Outcome::Stored { .. } | Outcome::Accepted => None,
    });
    let first = failures.next()?;
    let unknown = ErrorClass::OutcomeUnknown;
    let any_unknown = first == unknown || failures.any(|class| class == unknown);
    let any_taken = outcomes
        .iter()
        .any(|outcome| !matches!(outcome, Outcome::Failed(_)));
    Some(match (any_taken, any_unknown) {
        (true, _) => ErrorClass::PartlyStored,
        (false, true) => unknown,
        (false, false) => first,
    })
}

fn result(topic: &str, outcome: Outcome) -> Value {
    match outcome {
        Outcome::Stored { partition, offset } => {
            json!({ "topic": topic, "status": 200, "partition": partition, "offset": offset })
        }
        Outcome::Accepted => json!({ "topic": topic, "status": 202 }),
        Outcome::Failed(failure) => {
            let Row { status, code, .. } = class::row_of(failure.class);
            json!({ "topic": topic, "status": status, "code": code, "error": failure.message })
        }
    }
}

fn error(class: ErrorClass, text: &str, results: Option<Vec<Value>>) -> Response {
    let Row {
        status,
        code,
        message,
        retry_after,
    } = class::row_of(class);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut body = json!({ "message": message, "error": text, "code": code });
    if let (Some(results), Some(body)) = (results, body.as_object_mut()) {
        body.insert("results".to_owned(), results.into());
    }
    let mut response = (status, axum::Json(body)).into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    if status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static(class::CHALLENGE);
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

/// The contract's own message.
pub(super) fn message(reply: &ProduceReply) -> Response {
    ([(CONTENT_TYPE, PROTOBUF)], reply.encode_to_vec()).into_response()
}
