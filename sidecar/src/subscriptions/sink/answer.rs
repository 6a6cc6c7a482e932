//! What an answer means.

#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{HeaderMap, RETRY_AFTER};
use serde_json::Value;

use super::client::{Answer, Body};
use crate::subscriptions::event::{Outcome, Reply};

/// How answers are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// `retry_statuses`
    pub retry: Vec<Statuses>,
    /// `max_retry_after`: a handler that says later is not believed.
    pub max_retry_after: Duration,
    /// `response_status`: a 2xx body may say `{"status": "SUCCESS" | "RETRY" | "DROP"}`, as Dapr's pub/sub has it.
    pub status_body: bool,
    /// Whether answers go to a reply topic.
    pub reply: bool,
    /// `reply_statuses`: those that are no successes and go there all the same, unless they are tried again.
    pub replies: Vec<Statuses>,
    /// `max_response_bytes`
    pub max_bytes: usize,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            retry: vec![
                Statuses::One(408),
                Statuses::One(425),
                Statuses::One(429),
                Statuses::Class(5),
            ],
            max_retry_after: Duration::from_secs(3600),
            status_body: false,
            reply: false,
            replies: Vec::new(),
            max_bytes: 1 << 20,
        }
    }
}

/// One of `retry_statuses` or `reply_statuses`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statuses {
    /// `429`
    One(u16),
    /// `5xx`
    Class(u16),
}

impl Statuses {
    /// `429` or `5xx`; what is no success.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(class) = text.strip_suffix("xx") {
            let class = class.parse().ok()?;
            return (3..=5).contains(&class).then_some(Self::Class(class));
        }
        let status = text.parse().ok()?;
        (300..=599).contains(&status).then_some(Self::One(status))
    }

    fn has(self, status: u16) -> bool {
        match self {
            Self::One(one) => one == status,
            Self::Class(class) => status / 100 == class,
        }
    }
}

/// What came of a call to `target`, which is text for a person. `secrets`: what must not be told although the answer may repeat it.
pub(super) fn outcome(
    answer: Answer,
    reading: &Reading,
    target: &str,
    now: SystemTime,
    secrets: &[&str],
) -> Outcome {
    let status = answer.status.as_u16();
    let has = |of: &[Statuses]| of.iter().any(|statuses| statuses.has(status));
    if answer.status.is_success() || (reading.reply && has(&reading.replies) && !has(&reading.retry)) {
        return taken(answer, reading, target, secrets);
    }
    let said = if answer.status.is_redirection() {
        ", a redirection, which is not followed".to_owned()
    } else {
        excerpt(&answer.body, secrets)
    };
    let name = answer.status.canonical_reason().unwrap_or_default();
    let why = format!("{target} answers {status} {name}{said}");
    if has(&reading.retry) {
        return Outcome::Retry {
            why,
            status: Some(status),
            after: retry_after(&answer.headers, now).map(|after| after.min(reading.max_retry_after)),
        };
    }
    Outcome::Poison {
        why,
        status: Some(status),
    }
}

/// A success, or what is passed on as if it were one.
fn taken(answer: Answer, reading: &Reading, target: &str, secrets: &[&str]) -> Outcome {
    let Answer {
        status,
        headers,
        body,
    } = answer;
    let may_steer = reading.status_body && status.is_success();
    let status = status.as_u16();
    if !reading.status_body && !reading.reply {
        return Outcome::Done { reply: None };
    }
    let body = match body {
        Body::Whole(body) => body,
        // It was taken, and what it said is not known: only a person can tell whether that matters.
        Body::TooLong => {
            return Outcome::Poison {
                why: format!(
                    "{target} answers {status} with more than {} bytes: max_response_bytes",
                    reading.max_bytes
                ),
                status: Some(status),
            };
        }
        Body::Broken(why) => {
            return Outcome::Retry {
                why: format!("{target} answers {status}, and {why}"),
                status: Some(status),
                after: None,
            };
        }
    };
    match may_steer.then(|| said(&body)).flatten() {
        Some(Said::Drop) => Outcome::Dropped,
        Some(Said::Retry) => Outcome::Retry {
            why: format!("{target} answers {status} and asks for another attempt"),
            status: Some(status),
            after: None,
        },
        Some(Said::Other(word)) => Outcome::Retry {
            why: format!(
                "{target} answers {status} with the status {}, which is none of SUCCESS, RETRY and DROP",
                shown(&word, secrets)
            ),
            status: Some(status),
            after: None,
        },
        Some(Said::Success) | None => Outcome::Done {
            reply: reading.reply.then_some(Reply {
                status,
                headers,
                body,
            }),
        },
    }
}

/// What a body says by its `status`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Success,
    Retry,
    Drop,
    Other(String),
}

/// What a body says; none of one that says nothing: no JSON object, or one without `status`.
pub(super) fn said(body: &Bytes) -> Option<Said> {
    let json: Value = serde_json::from_slice(body).ok()?;
    Some(match json.get("status")? {
        Value::String(word) => match word.as_str() {
            "SUCCESS" => Said::Success,
            "RETRY" => Said::Retry,
            "DROP" => Said::Drop,
            other => Said::Other(format!("{other:?}")),
        },
        other => Said::Other(other.to_string()),
    })
}

/// `Retry-After`: seconds, or an HTTP date (RFC 9110, section 10.2.3). A date that has gone by is now.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More than fits is for ever, which the cap makes something else of.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// The beginning of an answer that says why, on one line.
fn excerpt(body: &Body, secrets: &[&str]) -> String {
    match body {
        Body::Whole(body) if !body.is_empty() => {
            format!(": {}", shown(&String::from_utf8_lossy(body), secrets))
        }
        _ => String::new(),
    }
}

fn shown(text: &str, secrets: &[&str]) -> String {
    const LONGEST: usize = 200;
    if secrets
        .iter()
        .any(|secret| !secret.is_empty() && text.contains(secret))
    {
        return "(it repeats a secret)".to_owned();
    }
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().take(LONGEST).map(clean).collect()
}

/// A request that got no answer.
pub(super) fn unanswered(target: &str, why: &str) -> Outcome {
    Outcome::Retry {
        why: format!("{target}: {why}"),
        status: None,
        after: None,
    }
}

/// Whether the target does not know whoever asks.
pub(super) fn is_unauthorised(answer: &Answer) -> bool {
    answer.status == StatusCode::UNAUTHORIZED
}
