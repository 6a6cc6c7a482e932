//! What a request chooses of what its entry leaves to it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{PATIENCE, Sidecar, mock};
use crate::world::{Events, get, put, reading_as, values, write};

async fn answer(sidecar: &Sidecar, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
    let answer = get(sidecar, path, headers).await;
    (answer.status.as_u16(), answer.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_chooses_its_topic() {
    let mock = mock(&[("a", 1), ("b", 1), ("c", 1)]);
    for topic in ["a", "b", "c"] {
        write(&mock, topic, 0, &[topic]).await;
    }
    let reads = "reads: [{topic: {header: x-topic, allowed: [a, b]}, anonymous: true, max_wait: 0}]";
    let sidecar = reading_as(&mock, reads).await;
    let path = "/records?from=earliest";
    for topic in ["a", "b"] {
        let (status, page) = answer(&sidecar, path, &[("x-topic", topic)]).await;
        assert_eq!((status, values(&page)), (200, vec![topic.to_owned()]));
    }
    let (status, body) = answer(&sidecar, path, &[("x-topic", "c")]).await;
    assert_eq!(
        (status, &body["code"]),
        (403, &json!("topic_not_allowed")),
        "{body}"
    );
    let (status, body) = answer(&sidecar, path, &[]).await;
    assert_eq!(status, 400);
    assert!(
        body["error"]
            .as_str()
            .unwrap()
            .contains("header x-topic is missing"),
        "{body}"
    );
    // Who names another topic than is chosen does not get it.
    let (status, _) = answer(&sidecar, "/topics/b/records", &[("x-topic", "a")]).await;
    assert_eq!(status, 403);
    let (status, _) = answer(&sidecar, "/topics/a/records", &[("x-topic", "a")]).await;
    assert_eq!(status, 200);
    let (_, listed) = answer(&sidecar, "/topics", &[("x-topic", "b")]).await;
    assert_eq!(listed, json!({"topics": [{"topic": "b"}]}));
    let (status, _) = answer(&sidecar, "/topics/b/partitions/0/records/0", &[("x-topic", "a")]).await;
    assert_eq!(status, 403);
    let mut events = Events::open(&sidecar, "/stream?from=earliest", &[("x-topic", "b")]).await;
    assert_eq!(events.values(1).await, ["b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn by_a_query_argument_and_with_a_default() {
    let mock = mock(&[("a", 1), ("b", 1)]);
    let reads = "reads: [{topic: {query: topic, allowed: [a, b], default: a}, anonymous: true, max_wait: 0}]";
    let sidecar = reading_as(&mock, reads).await;
    for (query, expected) in [("", "a"), ("?topic=b", "b"), ("?topic=b&topic=a", "b")] {
        let (status, page) = answer(&sidecar, &format!("/records{query}"), &[]).await;
        let cursor = page["pagination"]["nextCursor"].as_str().unwrap().to_owned();
        let cursor = crate::choices::plain(&cursor);
        assert_eq!((status, cursor), (200, format!("{expected}@0#-1")), "{query}");
    }
    let (status, _) = answer(&sidecar, "/topics/b?topic=b", &[]).await;
    assert_eq!(status, 200);
    let (status, _) = answer(&sidecar, "/topics/b", &[]).await;
    assert_eq!(status, 403);
}

/// A cursor as it is without base64.
pub(crate) fn plain(cursor: &str) -> String {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(cursor)
        .unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn where_reading_starts_is_chosen() {
    let mock = mock(&[("t", 1), ("fixed", 1), ("free", 1)]);
    for topic in ["t", "fixed", "free"] {
        write(&mock, topic, 0, &["one", "two", "three"]).await;
    }
    let reads = "reads: [{topics: [t], from: {header: x-from, allowed: [earliest, '-1'], default: latest}, \
                 auto_offset_reset: {query: reset, allowed: [earliest, none]}, anonymous: true, max_wait: 0}, \
                 {topics: [fixed], from: earliest, anonymous: true, max_wait: 0}, \
                 {topics: [free], anonymous: true, max_wait: 0}]";
    assert!(
        sluice::config::load(
            &format!("clusters: {{main: {{bootstrap_servers: a, allowed_topics: [t]}}}}\n{reads}"),
            std::iter::empty()
        )
        .unwrap_err()
        .iter()
        .any(|problem| problem.path == "reads[0].from.default")
    );
    let reads = reads.replace("'-1']", "'-1', latest]");
    let sidecar = reading_as(&mock, &reads).await;
    let path = "/topics/t/records?reset=none";
    for (from, count) in [("earliest", 3), ("-1", 1), ("latest", 0)] {
        let (status, page) = answer(&sidecar, path, &[("x-from", from)]).await;
        assert_eq!((status, values(&page).len()), (200, count), "{from}: {page}");
    }
    let (_, page) = answer(&sidecar, path, &[]).await;
    assert_eq!(values(&page).len(), 0, "{page}");
    let (status, body) = answer(&sidecar, path, &[("x-from", "-2")]).await;
    assert_eq!((status, &body["code"]), (403, &json!("not_authorised")), "{body}");
    let (status, body) = answer(&sidecar, "/topics/t/records?reset=none&from=earliest", &[]).await;
    assert_eq!(status, 400, "{body}");
    // Where to go on that is not there.
    let gone = "/topics/t/records?cursor=t@0%23700";
    let (status, body) = answer(&sidecar, &format!("{gone}&reset=none"), &[]).await;
    assert_eq!(
        (status, &body["code"]),
        (409, &json!("offset_out_of_range")),
        "{body}"
    );
    let (status, page) = answer(&sidecar, &format!("{gone}&reset=earliest"), &[]).await;
    assert_eq!((status, values(&page).len()), (200, 3), "{page}");
    assert_eq!(
        answer(&sidecar, &format!("{gone}&reset=latest"), &[]).await.0,
        403
    );
    assert_eq!(answer(&sidecar, gone, &[]).await.0, 400);
    // One that is always the same, and one that anybody may say.
    for (path, status, count) in [
        ("/topics/fixed/records", 200, 3),
        ("/topics/fixed/records?from=earliest", 200, 3),
        ("/topics/free/records?from=-2", 200, 2),
    ] {
        let (found, page) = answer(&sidecar, path, &[]).await;
        assert_eq!((found, values(&page).len()), (status, count), "{path}: {page}");
    }
    assert_eq!(
        answer(&sidecar, "/topics/fixed/records?from=latest", &[]).await.0,
        403
    );
    let (status, body) = answer(&sidecar, "/topics/free/records?reset=none", &[]).await;
    assert_eq!(status, 400);
    assert!(body["error"].as_str().unwrap().contains("reset"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_chooses_its_group() {
    let mock = mock(&[("t", 1), ("q", 1)]);
    write(&mock, "t", 0, &["one", "two"]).await;
    let reads = "reads: [{topics: [t], group: {header: x-group, allowed: [app-a, app-b], default: app-b}, anonymous: true, \
                 max_wait: 0, qos: at-least-once}, \
                 {topics: [q], group: {query: group, prefix: org.}, anonymous: true, max_wait: 0}]";
    let sidecar = reading_as(&mock, reads).await;
    let described = async |path: &str, headers: &[(&str, &str)]| {
        let (status, body) = answer(&sidecar, path, headers).await;
        (status, body["group"].clone(), body["code"].clone())
    };
    for (header, expected) in [
        (&[("x-group", "app-a")][..], "app-a"),
        (&[("x-group", "app-b")][..], "app-b"),
        (&[][..], "app-b"),
    ] {
        assert_eq!(
            described("/topics/t", header).await,
            (200, json!(expected), Value::Null)
        );
        // To name what is chosen already changes nothing, and another group is nobody's to have.
        let path = format!("/topics/t?group={expected}");
        assert_eq!(described(&path, header).await.0, 200);
        let refused = (403, Value::Null, json!("group_not_allowed"));
        for other in ["app-c", "app-a", "app-b"] {
            if other != expected {
                for path in ["/topics/t", "/topics/t/records", "/topics/t/stream"] {
                    let path = format!("{path}?group={other}");
                    assert_eq!(described(&path, header).await, refused, "{path}");
                }
            }
        }
    }
    let (status, body) = answer(&sidecar, "/topics/t/records", &[("x-group", "app-c")]).await;
    assert_eq!(
        (status, &body["code"]),
        (403, &json!("group_not_allowed")),
        "{body}"
    );
    // The position is that group's.
    let header = [("x-group", "app-a")];
    let (_, page) = answer(&sidecar, "/topics/t/records?from=earliest&limit=1", &header).await;
    assert_eq!(values(&page), ["one"]);
    let next = page["pagination"]["nextCursor"].as_str().unwrap();
    let (_, page) = answer(&sidecar, &format!("/topics/t/records?cursor={next}"), &header).await;
    assert_eq!(values(&page), ["two"]);
    let committed = async |header: &[(&str, &str)]| {
        let (_, body) = answer(&sidecar, "/topics/t", header).await;
        body["partitions"][0]["committed"].clone()
    };
    let until = Instant::now() + PATIENCE;
    while committed(&header).await != 1 {
        assert!(Instant::now() < until, "{}", committed(&header).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(committed(&[("x-group", "app-b")]).await, Value::Null);
    // An argument that the group is made of, with what comes before it.
    assert_eq!(
        described("/topics/q?group=x", &[]).await,
        (200, json!("org.x"), Value::Null)
    );
    assert_eq!(described("/topics/q", &[]).await, (200, Value::Null, Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_chooses_the_key_of_its_records() {
    let mock = mock(&[("t", 1), ("free", 1)]);
    for topic in ["t", "free"] {
        let records = [("a", "1"), ("b", "2"), ("a", "3")].map(|(key, value)| (Some(key), Some(value)));
        put(&mock, topic, 0, &records).await;
        put(&mock, topic, 0, &[(None, Some("4"))]).await;
    }
    let reads = "reads: [{topics: [t], key: {header: x-customer, allowed: [a, b, c], default: c}, from: earliest, \
                 anonymous: true, max_wait: 0}, \
                 {topics: [free], key: {query: customer, allowed: [a, b]}, from: earliest, anonymous: true, max_wait: 0}]";
    let sidecar = reading_as(&mock, reads).await;
    let found = async |path: &str, headers: &[(&str, &str)]| {
        let (status, page) = answer(&sidecar, path, headers).await;
        assert_eq!(status, 200, "{path}: {page}");
        let items = page["items"].as_array().unwrap().clone();
        Vec::from_iter(items.iter().map(|item| item["value"].to_string()))
    };
    let (a, b) = ([("x-customer", "a")], [("x-customer", "b")]);
    let path = "/topics/t/records";
    assert_eq!(found(path, &a).await, ["1", "3"]);
    assert_eq!(found(path, &b).await, ["2"]);
    assert_eq!(found(path, &[]).await, [""; 0]);
    assert_eq!(found("/topics/t/records?key=b", &a).await, [""; 0]);
    assert_eq!(found("/topics/t/records?jq=true", &a).await, ["1", "3"]);
    assert_eq!(found("/topics/t/records?view=latest", &a).await, ["3"]);
    assert_eq!(found("/topics/free/records?customer=b", &[]).await, ["2"]);
    // Of several topics each has its own choice.
    let both = "/records?topics=free,t&customer=b";
    assert_eq!(found(both, &a).await.len(), 3);
    for (path, headers, status, code) in [
        (path, &[("x-customer", "d")][..], 403, "not_authorised"),
        ("/topics/free/records", &[][..], 400, "invalid_request"),
        ("/topics/free/records?customer=c", &[][..], 403, "not_authorised"),
        ("/topics/t/records?view=latest&key=b", &a[..], 404, "no_record"),
        ("/topics/t/partitions/0/records/1", &a[..], 404, "no_record"),
        ("/topics/t/partitions/0/records/3", &a[..], 404, "no_record"),
        (
            "/topics/free/partitions/0/records/1",
            &[][..],
            400,
            "invalid_request",
        ),
    ] {
        let (found, body) = answer(&sidecar, path, headers).await;
        assert_eq!((found, &body["code"]), (status, &json!(code)), "{path}: {body}");
    }
    for path in [
        "/topics/t/partitions/0/records/1",
        "/topics/free/partitions/0/records/1?customer=b",
    ] {
        assert_eq!(get(&sidecar, path, &b).await.body, "2", "{path}");
    }
    let mut events = Events::open(&sidecar, "/topics/t/stream", &a).await;
    assert_eq!(events.event("message").await.json()["value"], 1);
    assert_eq!(events.event("message").await.json()["value"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confluent_header_is_taken_off() {
    let mock = mock(&[("t", 1), ("whole", 1)]);
    for topic in ["t", "whole"] {
        write(&mock, topic, 0, &["\0\0\0\0\x07{\"n\":1}", "plain"]).await;
    }
    let reads = "reads: [{topics: [t], remove_confluent_header: true, anonymous: true, max_wait: 0}, \
                 {topics: [whole], anonymous: true, max_wait: 0}]";
    let sidecar = reading_as(&mock, reads).await;
    let (_, page) = answer(&sidecar, "/topics/t/records?from=earliest", &[]).await;
    let items = &page["items"];
    assert_eq!(
        (&items[0]["schemaId"], &items[0]["value"]),
        (&json!(7), &json!({"n": 1})),
        "{page}"
    );
    assert_eq!(
        (&items[1]["schemaId"], &items[1]["value"]),
        (&Value::Null, &json!("plain"))
    );
    let (_, page) = answer(&sidecar, "/topics/whole/records?from=earliest", &[]).await;
    assert_eq!(
        (&page["items"][0]["schemaId"], &page["items"][0]["valueFormat"]),
        (&Value::Null, &json!("string"))
    );
    let raw = get(&sidecar, "/topics/t/partitions/0/records/0", &[]).await;
    assert_eq!(
        (raw.header("x-kafka-schema-id"), &raw.body[..]),
        (Some("7"), &b"{\"n\":1}"[..])
    );
    let raw = get(&sidecar, "/topics/whole/partitions/0/records/0", &[]).await;
    assert_eq!((raw.header("x-kafka-schema-id"), raw.body.len()), (None, 12));
    let path = "/topics/t/stream?from=earliest&metadataAsComment=true&headersAsComment=true";
    let mut events = Events::open(&sidecar, path, &[]).await;
    let event = events.event("message").await;
    assert_eq!(event.data, "{\"n\":1}");
    assert!(event.comments[0].contains("\"schemaId\":7"), "{event:?}");
}
