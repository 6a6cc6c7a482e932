//! Replies as HTTP answers.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Value, json};
use sluice_proto::prefer::APPLIED;
use sluice_proto::v1::{Answer, AnswerKind, Header};

use super::Applied;
use crate::config::ReplyTopic;
use crate::kafka::reader::Record;

/// The longest value that a header of an answer has, and all of a reply's together, in bytes. Envoy takes 60 KiB of all headers.
const MAX_VALUE: usize = 8 * 1024;
const MAX_VALUES: usize = 16 * 1024;

/// The statuses whose answers have no body (RFC 9110, sections 15.3.5, 15.3.6 and 15.4.5).
const BODILESS: [u16; 3] = [204, 205, 304];

/// The answer that a reply is.
pub(super) fn of_record(entry: &ReplyTopic, record: &Record, id: &[u8], applied: Applied) -> Answer {
    let value = |name: &str| {
        let found = record.headers.iter().find(|(found, _)| found == name.as_bytes());
        found.and_then(|(_, value)| value.as_deref())
    };
    let status = value(&entry.status_header).and_then(status);
    let body = record.value.clone();
    let status = status.unwrap_or(if body.is_some() { 200 } else { 204 });
    let body = body.filter(|_| !BODILESS.contains(&status)).unwrap_or_default();
    let mut headers = Vec::new();
    if !body.is_empty() {
        let said = value(&entry.content_type_header).filter(|value| fits(value));
        let said = said.unwrap_or_else(|| media_type(&body).as_bytes());
        headers.push(header("content-type", said));
    }
    let mut left = MAX_VALUES;
    for (name, value) in &record.headers {
        let listed = |wanted: &&String| wanted.as_bytes() == name.as_slice();
        let (Some(wanted), Some(value)) = (entry.headers.iter().find(listed), value) else {
            continue;
        };
        let size = wanted.len() + value.len();
        if fits(value) && size <= left {
            left -= size;
            headers.push(header(&wanted.to_ascii_lowercase(), value));
        }
    }
    prefer(&mut headers, applied);
    correlate(&mut headers, id);
    Answer {
        kind: AnswerKind::Replied.into(),
        status: status.into(),
        headers,
        body,
    }
}

/// There is no reply yet, and it is to be asked for at `location`.
pub(super) fn pending(id: &[u8], location: &str, applied: Applied) -> Answer {
    let body = json!({
        "message": "reply pending",
        "correlation_id": String::from_utf8_lossy(id),
        "location": location,
    });
    let mut answer = of_json(AnswerKind::Pending, 202, &body);
    answer.headers.push(header("location", location.as_bytes()));
    answer.headers.push(header("retry-after", b"1"));
    prefer(&mut answer.headers, applied);
    correlate(&mut answer.headers, id);
    answer
}

/// There was no reply in time; it can still be asked for.
pub(super) fn late(id: &[u8], location: &str, (topic, wait): (&str, Duration), applied: Applied) -> Answer {
    let shown = String::from_utf8_lossy(id);
    let body = json!({
        "message": "no reply in time",
        "error": format!(
            "the record is written, and no reply with the correlation id {shown} came to topic {topic} within {} ms; \
             it can be asked for at {location}",
            wait.as_millis()
        ),
        "code": "no_reply",
        "correlation_id": shown,
        "location": location,
    });
    let mut answer = of_json(AnswerKind::NoReply, 504, &body);
    answer.headers.push(header("location", location.as_bytes()));
    prefer(&mut answer.headers, applied);
    correlate(&mut answer.headers, id);
    answer
}

fn of_json(kind: AnswerKind, status: u32, body: &Value) -> Answer {
    Answer {
        kind: kind.into(),
        status,
        headers: vec![header("content-type", b"application/json")],
        body: Bytes::from(body.to_string()),
    }
}

fn header(name: &str, value: &[u8]) -> Header {
    Header {
        name: name.to_owned(),
        value: Some(value.to_vec()),
    }
}

/// Says what was honoured of what the request prefers.
fn prefer(headers: &mut Vec<Header>, applied: Applied) {
    let mut said = Vec::new();
    if applied.respond_async {
        said.push("respond-async".to_owned());
    }
    if let Some(wait) = applied.wait {
        said.push(format!("wait={}", wait.as_secs()));
    }
    if !said.is_empty() {
        headers.push(header(APPLIED, said.join(", ").as_bytes()));
    }
}

/// Names the correlation id, where it can stand in a header.
fn correlate(headers: &mut Vec<Header>, id: &[u8]) {
    if fits(id) {
        headers.push(header("x-correlation-id", id));
    }
}

/// Whether it may be a header's value, as it is.
fn fits(value: &[u8]) -> bool {
    value.len() <= MAX_VALUE && value.trim_ascii() == value && HeaderValue::from_bytes(value).is_ok()
}

/// The status that a header says: three digits of text, from 200 to 599.
fn status(value: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    let status = text.parse().ok().filter(|_| digits)?;
    (200..=599).contains(&status).then_some(status)
}

/// The media type of a body that nobody says: JSON if it is that, text if it is that.
fn media_type(body: &[u8]) -> &'static str {
    if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() {
        "application/json"
    } else if std::str::from_utf8(body).is_ok() {
        "text/plain; charset=utf-8"
    } else {
        "application/octet-stream"
    }
}

/// The answer as a response of the REST face. `written` are the headers that say where the record is.
pub(crate) fn respond(answer: Answer, written: &HeaderMap) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    let status = u16::try_from(answer.status).ok();
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    for (name, value) in written
        .iter()
        .filter(|(name, _)| *name != CONTENT_TYPE && *name != "content-length")
    {
        headers.append(name, value.clone());
    }
    for Header { name, value } in answer.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_bytes(&value.unwrap_or_default());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    response
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::TopicAllowlist;

    pub(in crate::replies) fn entry() -> ReplyTopic {
        ReplyTopic {
            cluster: "main".to_owned(),
            topic: "replies".to_owned(),
            requests: TopicAllowlist(Vec::new()),
            max_wait: Duration::from_secs(60),
            retention: Duration::from_secs(3600),
            correlation_header: "correlation".to_owned(),
            reply_topic_header: None,
            status_header: "http-status".to_owned(),
            content_type_header: "content-type".to_owned(),
            headers: vec!["X-Trace".to_owned(), "etag".to_owned()],
        }
    }

    fn answer(value: Option<&'static [u8]>, headers: &[(&str, Option<&[u8]>)]) -> Answer {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.map(<[u8]>::to_vec)));
        let record = Record {
            topic: Arc::from("replies"),
            partition: 0,
            offset: 0,
            timestamp: None,
            key: None,
            headers: headers.collect(),
            value: value.map(Bytes::from_static),
            ..Record::default()
        };
        of_record(&entry(), &record, b"id", Applied::default())
    }

    fn said(answer: &Answer) -> Vec<(String, String)> {
        let pair = |header: &Header| {
            let value = header.value.clone().unwrap_or_default();
            (header.name.clone(), String::from_utf8_lossy(&value).into_owned())
        };
        let ours = |(name, _): &(String, String)| name != "x-correlation-id";
        answer.headers.iter().map(pair).filter(ours).collect()
    }

    #[test]
    fn a_value_is_the_body_and_its_type_is_said_or_seen() {
        let rows: [(Option<&'static [u8]>, u32, &str); 6] = [
            (Some(b"{\"a\":1}"), 200, "application/json"),
            (Some(b"12"), 200, "application/json"),
            (Some(b"{\"a\":"), 200, "text/plain; charset=utf-8"),
            (Some(b"\xff\x00"), 200, "application/octet-stream"),
            (Some(b""), 200, ""),
            (None, 204, ""),
        ];
        for (value, status, media_type) in rows {
            let answer = answer(value, &[]);
            assert_eq!(answer.status, status, "{value:?}");
            assert_eq!(answer.body, value.unwrap_or_default());
            let types = said(&answer);
            let found = types.first().map_or("", |(_, value)| value.as_str());
            assert_eq!(found, media_type, "{value:?}");
        }
        let stated = answer(Some(b"<a/>"), &[("content-type", Some(b"text/xml"))]);
        assert_eq!(
            said(&stated),
            [("content-type".to_owned(), "text/xml".to_owned())]
        );
        let garbage = answer(Some(b"<a/>"), &[("content-type", Some(b"a\r\nset-cookie: x"))]);
        assert_eq!(said(&garbage)[0].1, "text/plain; charset=utf-8");
    }

    #[test]
    fn a_header_says_the_status_within_bounds() {
        let rows: [(&[u8], u32); 13] = [
            (b"201", 201),
            (b" 404 ", 404),
            (b"200", 200),
            (b"599", 599),
            (b"199", 200),
            (b"600", 200),
            (b"100", 200),
            (b"101", 200),
            (b"0404", 200),
            (b"+40", 200),
            (b"", 200),
            (b"\xff\xfe\xfd", 200),
            (b"twenty", 200),
        ];
        for (value, status) in rows {
            assert_eq!(
                answer(Some(b"x"), &[("http-status", Some(value))]).status,
                status,
                "{value:?}"
            );
        }
        assert_eq!(answer(Some(b"x"), &[("http-status", None)]).status, 200);
        for status in ["204", "205", "304"] {
            let bare = answer(Some(b"x"), &[("http-status", Some(status.as_bytes()))]);
            assert_eq!((bare.body.len(), said(&bare).len()), (0, 0), "{status}");
        }
    }

    #[test]
    fn only_chosen_headers_go_out_and_only_what_is_one() {
        let long = vec![b'x'; MAX_VALUE + 1];
        let most = vec![b'y'; MAX_VALUE];
        let answer = answer(
            None,
            &[
                ("X-Trace", Some(b"1")),
                ("x-trace", Some(b"another name")),
                ("X-Trace", Some(b"a\nb")),
                ("X-Trace", None),
                ("X-Trace", Some(&long)),
                ("etag", Some(&most)),
                ("etag", Some(&most)),
                ("etag", Some(b"\"e\"")),
                ("connection", Some(b"close")),
                ("set-cookie", Some(b"a=b")),
            ],
        );
        let found = said(&answer);
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["x-trace", "etag", "etag"]);
        assert_eq!(found[0].1, "1");
        assert_eq!(found[2].1, "\"e\"");
    }

    #[test]
    fn who_has_no_reply_is_told_where_it_will_be() {
        let applied = Applied {
            wait: Some(Duration::from_secs(3)),
            respond_async: true,
        };
        let answer = pending(b"sl-1", "/replies/abc", applied);
        assert_eq!(answer.status, 202);
        let headers = said(&answer);
        let of = |name: &str| headers.iter().find(|(found, _)| found == name).unwrap().1.clone();
        assert_eq!(of("location"), "/replies/abc");
        assert_eq!(of("preference-applied"), "respond-async, wait=3");
        let late = late(
            b"sl-1",
            "/replies/abc",
            ("replies", Duration::from_secs(3)),
            Applied::default(),
        );
        assert_eq!(late.status, 504);
        let body: Value = serde_json::from_slice(&late.body).unwrap();
        assert_eq!(
            (&body["code"], &body["correlation_id"]),
            (&json!("no_reply"), &json!("sl-1"))
        );
        assert!(body["error"].as_str().unwrap().contains("/replies/abc"), "{body}");
    }
}
