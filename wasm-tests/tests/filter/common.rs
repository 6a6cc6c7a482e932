//! What most tests start from.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_proto::v1::{ErrorClass, TopicFate};
use wasm_tests::{Host, Id, Outcome, Reply, Request, Sent, failed, stored};

/// Longer than anything that does not wait for a deadline.
pub(crate) const SOON: Duration = Duration::from_millis(100);

/// A worker whose every request becomes a record of topic `orders`.
pub(crate) fn host() -> Host {
    with(json!({}))
}

/// The same with more settings.
pub(crate) fn with(settings: Value) -> Host {
    Host::new(&orders(settings))
}

/// Settings that name topic `orders`, unless they name topics of their own.
pub(crate) fn orders(mut settings: Value) -> Value {
    let named = ["topic", "topics"].iter().any(|f| settings.get(f).is_some());
    if !named {
        settings["topic"] = json!("orders");
    }
    settings
}

/// A worker whose stream is open and idle.
pub(crate) fn open(settings: Value) -> Host {
    let mut host = with(settings);
    warm(&mut host);
    host
}

/// Opens the stream by a request that is stored.
pub(crate) fn warm(host: &mut Host) {
    let id = host.send(
        Request::post("/warm-up")
            .settings(json!({"then": "respond", "reply": "none"}))
            .json("{}"),
    );
    let sent = arrived(host, 1).remove(0);
    store(host, &sent, 0);
    assert_eq!(host.reply(id).status, 200, "{}", host.reply(id));
    host.advance(Duration::from_secs(1));
}

/// Lets time pass until that many records have arrived.
#[track_caller]
pub(crate) fn arrived(host: &mut Host, records: usize) -> Vec<Sent> {
    let mut all = Vec::new();
    host.until(SOON, "the records arrive", |host| {
        all.extend(host.sent());
        all.len() >= records
    });
    assert_eq!(all.len(), records, "{all:?}");
    all
}

/// The broker stored the record in all of its topics.
#[track_caller]
pub(crate) fn store(host: &mut Host, sent: &Sent, offset: i64) {
    let of_reply = sent.record.reply_to.iter().flat_map(|reply| &reply.topics);
    let topics = sent.record.topics.iter().chain(of_reply);
    let topics = topics.map(|_| stored(0, offset)).collect();
    host.answer(sent, topics);
}

/// The record was not stored in any of its topics.
#[track_caller]
pub(crate) fn refuse(host: &mut Host, sent: &Sent, class: ErrorClass) {
    let topics: Vec<TopicFate> = sent
        .record
        .topics
        .iter()
        .map(|_| failed(class, "because"))
        .collect();
    host.answer(sent, topics);
}

/// Lets time pass until the request has its reply.
#[track_caller]
pub(crate) fn reply_within(host: &mut Host, id: Id, limit: Duration) -> Reply {
    host.until(limit, "a reply", |host| {
        matches!(host.outcome(id), Outcome::Replied(_))
    });
    host.reply(id)
}

/// [`reply_within`] the time that anything takes that does not wait for a deadline.
#[track_caller]
pub(crate) fn reply(host: &mut Host, id: Id) -> Reply {
    reply_within(host, id, SOON)
}

/// Sends a request and gives the reply once its record is stored.
#[track_caller]
pub(crate) fn stored_reply(host: &mut Host, request: Request) -> (Reply, Sent) {
    let id = host.send(request);
    let sent = arrived(host, 1).remove(0);
    store(host, &sent, 7);
    (host.reply(id), sent)
}

/// Asserts that the reply is an error of that class in the shape that every error has.
#[track_caller]
pub(crate) fn assert_error(reply: &Reply, class: ErrorClass) {
    let row = sluice_proto::class::row_of(class);
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (u32::from(row.status), row.code),
        "{reply}"
    );
    assert_eq!(reply.json()["message"], row.message, "{reply}");
    assert!(
        reply.json()["error"].as_str().is_some_and(|e| !e.is_empty()),
        "{reply}"
    );
    assert_eq!(
        reply.header("content-type").as_deref(),
        Some("application/json"),
        "{reply:?}"
    );
    assert_eq!(
        reply.header("retry-after"),
        row.retry_after.map(|s| s.to_string()),
        "{reply:?}"
    );
}

/// The record's value as JSON.
#[track_caller]
pub(crate) fn envelope(sent: &Sent) -> Value {
    serde_json::from_slice(sent.record.value.as_deref().expect("a value")).expect("a JSON envelope")
}

/// The values of the record's headers of that name.
pub(crate) fn record_header(sent: &Sent, name: &str) -> Vec<String> {
    let named = sent.record.headers.iter().filter(|h| h.name == name);
    named
        .map(|h| String::from_utf8_lossy(h.value.as_deref().unwrap_or_default()).into_owned())
        .collect()
}

/// The record's key and value: `None` is none.
pub(crate) fn key_and_value(sent: &Sent) -> (Option<&[u8]>, Option<&[u8]>) {
    (sent.record.key.as_deref(), sent.record.value.as_deref())
}

/// The record's value as text.
#[track_caller]
pub(crate) fn text(sent: &Sent) -> &str {
    std::str::from_utf8(sent.record.value.as_deref().expect("a value")).expect("text")
}
