//! A handler's answer as a record: where it goes, and what says what it is an answer to.

use std::sync::Arc;

use sluice_proto::v1::Header;

use crate::config::{ReplyTopic, replies};
use crate::kafka::reader::Record;
use crate::kafka::record;
use crate::subscriptions::engine::outlet::{Outlet, header};
use crate::subscriptions::event::Reply;
use crate::subscriptions::spec::Spec;

/// What the record's own correlation id is also called, by who asks without Sluice (`docs/subscriptions.md`, "Replies").
const PLAIN_CORRELATION: &str = "correlation-id";

/// The topic for the answer to `record`: the one that the record names, if it may, else the subscription's. None: it asks for
/// no answer.
///
/// # Errors
/// The record names a topic that may not be written, and the subscription has none: for people.
pub(super) fn topic(spec: &Spec, outlet: &Outlet, record: &Record) -> Result<Option<String>, String> {
    let Some(named) = named(record, outlet.replies()).filter(|_| !spec.reply_topics.0.is_empty()) else {
        return Ok(spec.reply_topic.clone());
    };
    let why = if !spec.reply_topics.allows(&named) {
        "is not in reply_topics"
    } else if spec.source.has(&named) || named == outlet.held_topic() {
        "is read by the subscription itself"
    } else if !outlet.may_write(&named) {
        "is not in the cluster's allowed_topics"
    } else {
        return Ok(Some(named));
    };
    match &spec.reply_topic {
        Some(topic) => Ok(Some(topic.clone())),
        None => Err(format!(
            "the answer is not written: topic {named:?}, which the record names for it, {why}"
        )),
    }
}

/// The reply topic that a record names: in the header that this sidecar's requests for that topic have, or Spring's.
fn named(record: &Record, known: &[Arc<ReplyTopic>]) -> Option<String> {
    let ours = known.iter().find(|entry| {
        let name = entry.reply_topic_header.as_deref();
        name.and_then(|name| value(record, name)) == Some(entry.topic.as_bytes())
    });
    if let Some(entry) = ours {
        return Some(entry.topic.clone());
    }
    let named = value(record, replies::REPLY_TOPIC)?;
    Some(String::from_utf8_lossy(named).into_owned())
}

/// What the handler answered to `record`, for `topic`. Whoever waits there knows it by the headers of `known`, which this
/// sidecar's own requests have, or by the usual ones.
pub(super) fn answer(
    id: &str,
    topic: &str,
    record: &Record,
    reply: Reply,
    known: &[Arc<ReplyTopic>],
) -> record::Record {
    let entry = known.iter().find(|entry| entry.topic == topic);
    let plain = record
        .headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(PLAIN_CORRELATION.as_bytes()));
    let plain = plain
        .and_then(|(_, value)| value.clone())
        .unwrap_or_else(|| id.as_bytes().to_vec());
    let mut headers = vec![
        header(PLAIN_CORRELATION, plain),
        header("kafka.topic", record.topic.as_bytes()),
        header("kafka.partition", record.partition.to_string()),
        header("kafka.offset", record.offset.to_string()),
        header("webhook-id", id),
    ];
    let name = |of: fn(&ReplyTopic) -> &String, usual: &'static str| {
        entry.map_or(usual, |entry| of(entry.as_ref()).as_str())
    };
    let correlation = name(|entry| &entry.correlation_header, replies::CORRELATION);
    for name in [correlation, replies::CORRELATION] {
        if let Some(value) = value(record, name) {
            set(&mut headers, name, value);
        }
    }
    let status = name(|entry| &entry.status_header, replies::STATUS);
    set(&mut headers, status, reply.status.to_string().as_bytes());
    if let Some(media_type) = reply.headers.get(axum::http::header::CONTENT_TYPE) {
        let name = name(|entry| &entry.content_type_header, replies::CONTENT_TYPE);
        set(&mut headers, name, media_type.as_bytes());
    }
    for wanted in entry.map_or(&[][..], |entry| &entry.headers) {
        let values = reply.headers.get_all(wanted.as_str()).iter();
        headers.extend(values.map(|value| header(wanted, value.as_bytes())));
    }
    record::Record {
        topic: topic.to_owned(),
        partition: None,
        key: record.key.clone(),
        value: Some(reply.body),
        headers,
        timestamp_ms: None,
    }
}

fn value<'a>(record: &'a Record, name: &str) -> Option<&'a [u8]> {
    let found = record.headers.iter().find(|(found, _)| found == name.as_bytes());
    found.and_then(|(_, value)| value.as_deref())
}

/// Gives a header its value, in place of what it had.
fn set(headers: &mut Vec<Header>, name: &str, value: &[u8]) {
    headers.retain(|header| header.name != name);
    headers.push(header(name, value));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http::{HeaderMap, HeaderValue};
    use bytes::Bytes;

    use super::*;
    use crate::config::TopicAllowlist;

    fn record(headers: &[(&str, &str)]) -> Record {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), Some(value.as_bytes().to_vec())));
        Record {
            topic: Arc::from("orders"),
            partition: 3,
            offset: 7,
            timestamp: None,
            key: Some(Bytes::from_static(b"k")),
            headers: headers.collect(),
            value: None,
            ..Record::default()
        }
    }

    fn entry() -> Arc<ReplyTopic> {
        Arc::new(ReplyTopic {
            cluster: "main".to_owned(),
            topic: "replies".to_owned(),
            requests: TopicAllowlist(Vec::new()),
            max_wait: Duration::from_secs(60),
            retention: Duration::from_secs(3600),
            correlation_header: "Correlation-Id".to_owned(),
            reply_topic_header: Some("reply-to".to_owned()),
            status_header: "status".to_owned(),
            content_type_header: "type".to_owned(),
            headers: vec!["X-Trace".to_owned()],
        })
    }

    fn said(of: &[(&str, &str)], topic: &str, known: &[Arc<ReplyTopic>]) -> Vec<(String, String)> {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("text/xml"));
        headers.insert("x-trace", HeaderValue::from_static("t-1"));
        let reply = Reply {
            status: 201,
            headers,
            body: Bytes::from_static(b"<a/>"),
        };
        let made = answer("sub/orders/3/7", topic, &record(of), reply, known);
        assert_eq!(
            (made.key.as_deref(), made.value.as_deref()),
            (Some(&b"k"[..]), Some(&b"<a/>"[..]))
        );
        let headers = made.headers.into_iter();
        let pairs = headers.map(|one| (one.name, String::from_utf8(one.value.unwrap()).unwrap()));
        let ours = |(name, _): &(String, String)| !name.starts_with("kafka.") && name != "webhook-id";
        pairs.filter(ours).collect()
    }

    fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn an_answer_is_known_by_what_its_request_had() {
        let spring = [("kafka_correlationId", "sl-1"), ("correlation-id", "own")];
        let usual = pairs(&[
            ("correlation-id", "own"),
            ("kafka_correlationId", "sl-1"),
            ("http-status", "201"),
            ("content-type", "text/xml"),
        ]);
        assert_eq!(said(&spring, "replies", &[]), usual);
        // Another topic's names are not this one's.
        assert_eq!(said(&spring, "elsewhere", &[entry()]), usual);
        let configured = [("Correlation-Id", "sl-2"), ("kafka_correlationId", "sl-1")];
        let wanted = pairs(&[
            ("correlation-id", "sl-2"),
            ("Correlation-Id", "sl-2"),
            ("kafka_correlationId", "sl-1"),
            ("status", "201"),
            ("type", "text/xml"),
            ("X-Trace", "t-1"),
        ]);
        assert_eq!(said(&configured, "replies", &[entry()]), wanted);
        let nothing = pairs(&[
            ("correlation-id", "sub/orders/3/7"),
            ("http-status", "201"),
            ("content-type", "text/xml"),
        ]);
        assert_eq!(said(&[], "replies", &[]), nothing);
    }

    #[test]
    fn a_record_names_its_topic_by_the_header_of_that_topic_or_the_usual_one() {
        let known = [entry()];
        assert_eq!(
            named(&record(&[("reply-to", "replies")]), &known).as_deref(),
            Some("replies")
        );
        assert_eq!(named(&record(&[("reply-to", "others")]), &known), None);
        let usual = record(&[("reply-to", "others"), ("kafka_replyTopic", "b")]);
        assert_eq!(named(&usual, &known).as_deref(), Some("b"));
    }
}
