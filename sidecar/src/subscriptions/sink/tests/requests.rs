use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::json;

use super::world::*;
use crate::subscriptions::event::{Deliver, Outcome};
use crate::subscriptions::sink::{Target, Usage};

#[tokio::test]
async fn a_handler_gets_the_value_and_where_it_is_from() {
    let server = takes_all().await;
    let mut record = record(Some("{\"id\": 1.10}"));
    record.headers = vec![
        (b"traceparent".to_vec(), Some(b"00-1-2-01".to_vec())),
        (b"host".to_vec(), Some(b"evil".to_vec())),
        (b"authorization".to_vec(), Some(b"Bearer stolen".to_vec())),
        (
            b"content-type".to_vec(),
            Some(b"application/vnd.order+json".to_vec()),
        ),
    ];
    let target = Target::handler(&server.url("/base"), "Greeter", "greet", false).unwrap();
    let webhook = webhook_for(target, &json!({}), USAGE);
    assert_eq!(webhook.deliver(&[event(record)]).await, DONE);
    let sent = server.last();
    assert_eq!(
        (sent.method.as_str(), sent.uri.as_str()),
        ("POST", "/base/Greeter/greet")
    );
    assert_eq!(sent.text(), "{\"id\": 1.10}");
    for (name, value) in [
        ("content-type", "application/vnd.order+json"),
        ("restate.subscription.id", "sub_1"),
        ("kafka.topic", "orders"),
        ("kafka.partition", "3"),
        ("kafka.offset", "7"),
        ("kafka.timestamp", "1767225600123"),
        ("kafka.key", &URL_SAFE.encode(b"k\xff1")),
        ("webhook-id", "sub_1/orders/3/7"),
        ("idempotency-key", "sub_1/orders/3/7"),
        ("traceparent", "00-1-2-01"),
        ("host", &server.address.to_string()),
    ] {
        assert_eq!(sent.header(name), value, "{name}");
    }
    assert!(!sent.headers.contains_key("authorization"));
    assert!(!sent.headers.contains_key("webhook-signature"));
}

#[tokio::test]
async fn what_is_no_json_is_not_sent_but_where_raw_says_so() {
    let server = takes_all().await;
    let plain = webhook(&server.url("/"), &json!({}));
    for bad in ["", "not json", "{", "{} {}", "\u{feff}{}"] {
        let why = poisoned(plain.deliver(&[valued(bad)]).await);
        assert!(
            why.contains("its value is not JSON") && why.contains("`raw: true`"),
            "{why}"
        );
    }
    assert!(server.all().is_empty());
    assert_eq!(plain.deliver(&[event(record(None))]).await, DONE);
    assert_eq!(server.last().text(), "null");
    let usage = Usage { raw: true, ..USAGE };
    let handler = webhook_for(Target::webhook(&server.url("/")).unwrap(), &json!({}), usage);
    assert_eq!(
        handler.deliver(&[valued("not json")]).await,
        DONE,
        "the handler is raw itself"
    );
    let raw = webhook(&server.url("/"), &json!({"raw": true}));
    assert_eq!(raw.deliver(&[valued("not json")]).await, DONE);
    assert_eq!(
        (server.last().text(), server.last().header("content-type")),
        ("not json", "application/octet-stream")
    );
    assert_eq!(raw.deliver(&[event(record(None))]).await, DONE);
    assert_eq!(
        (server.last().text(), server.last().header("content-length")),
        ("", "0")
    );
}

#[tokio::test]
async fn keys_name_objects() {
    let server = takes_all().await;
    let target = Target::handler(&server.url(""), "Counter", "add", true).unwrap();
    let webhook = webhook_for(target, &json!({}), USAGE);
    let mut good = record(Some("1"));
    good.key = Some("a/é".into());
    assert_eq!(webhook.deliver(&[event(good)]).await, DONE);
    assert_eq!(server.last().uri, "/Counter/a%2F%C3%A9/add");
    let why = poisoned(webhook.deliver(&[valued("1")]).await);
    assert!(why.contains("not UTF-8"), "{why}");
}

#[tokio::test]
async fn options_make_the_request() {
    let server = takes_all().await;
    let tree = json!({
        "method": "PUT",
        "headers": {"X-Team": "orders", "x-retry": 3, "content-type": "application/x-order", "x-of": "{{ .record.topic }}-{{ .record.offset }}"},
        "body": {"topic": "{{ .record.topic }}", "id": "{{ .record.value.id }}", "was": "{{ .record.headers.h }} at {{ .record.timestamp }}", "key": "{{ .id }}"},
    });
    let webhook = webhook(
        &server.url("/t/{{ .record.value.name }}?p={{ .record.partition }}"),
        &tree,
    );
    let mut made = record(Some(r#"{"id": 5, "name": "a/b?c&d"}"#));
    made.headers = vec![(b"h".to_vec(), Some(b"v".to_vec()))];
    assert_eq!(webhook.deliver(&[event(made)]).await, DONE);
    let sent = server.last();
    assert_eq!(
        (sent.method.as_str(), sent.uri.as_str()),
        ("PUT", "/t/a%2Fb%3Fc%26d?p=3")
    );
    assert_eq!(
        sent.text(),
        r#"{"topic":"orders","id":5,"was":"v at 1767225600123","key":"sub_1/orders/3/7"}"#
    );
    assert_eq!(
        (sent.header("x-team"), sent.header("x-retry"), sent.header("x-of")),
        ("orders", "3", "orders-7")
    );
    assert_eq!(sent.header("content-type"), "application/x-order");
    let why = poisoned(webhook.deliver(&[valued(r#"{"name": ".."}"#)]).await);
    assert!(why.contains("leads elsewhere"), "{why}");
    let why = poisoned(webhook.deliver(&[valued(r#"{"name": ""}"#)]).await);
    assert!(why.contains("gives nothing"), "{why}");
}

#[tokio::test]
async fn a_get_has_no_body() {
    let server = takes_all().await;
    let webhook = webhook(&server.url("/?v={{ .record.value }}"), &json!({"method": "GET"}));
    assert_eq!(webhook.deliver(&[valued("not json")]).await, DONE);
    let sent = server.last();
    assert_eq!(
        (sent.method.as_str(), sent.uri.as_str(), sent.text()),
        ("GET", "/?v=not%20json", "")
    );
}

fn batching(replies: bool) -> Usage {
    Usage {
        batches: true,
        replies,
        ..USAGE
    }
}

#[tokio::test]
async fn batches_are_an_array_or_lines() {
    let server = takes_all().await;
    let target = || Target::webhook(&server.url("/")).unwrap();
    let mut second = record(Some("{\n\"b\": 2\n}"));
    second.offset = 8;
    let events = [valued("{\"a\": 1}"), event(second), event(record(None))];
    let array = webhook_for(target(), &json!({"batch": {}}), batching(false));
    assert_eq!(array.deliver(&events).await, DONE);
    let sent = server.last();
    assert_eq!(sent.text(), "[{\"a\": 1},{ \"b\": 2 },null]");
    assert_eq!(
        (sent.header("content-type"), sent.header("kafka.batch.size")),
        ("application/json", "3")
    );
    assert_eq!(
        (sent.header("kafka.topic"), sent.header("kafka.partition")),
        ("orders", "3")
    );
    assert!(!sent.headers.contains_key("kafka.offset"));
    let id = sent.header("webhook-id").to_owned();
    assert!(
        id.starts_with("sub_1/batch/") && id.len() == "sub_1/batch/".len() + 32,
        "{id}"
    );
    assert_eq!(array.deliver(&events).await, DONE);
    assert_eq!(
        server.last().header("idempotency-key"),
        id,
        "the same batch has the same id"
    );
    assert_eq!(array.deliver(&events[..1]).await, DONE);
    assert_ne!(server.last().header("webhook-id"), id);
    let lines = webhook_for(
        target(),
        &json!({"batch": {}, "batch_format": "ndjson"}),
        batching(false),
    );
    assert_eq!(lines.deliver(&events).await, DONE);
    assert_eq!(server.last().text(), "{\"a\": 1}\n{ \"b\": 2 }\nnull\n");
    assert_eq!(server.last().header("content-type"), "application/x-ndjson");
    let records = webhook_for(
        target(),
        &json!({"batch": {}, "batch_items": "record", "raw": true}),
        batching(false),
    );
    assert_eq!(records.deliver(&[valued("not json")]).await, DONE);
    let items: serde_json::Value = serde_json::from_slice(&server.last().body).unwrap();
    assert_eq!(
        (&items[0]["id"], &items[0]["value"]),
        (&json!("sub_1/orders/3/7"), &json!("not json"))
    );
    let why = poisoned(array.deliver(&[valued("1"), valued("x")]).await);
    assert!(why.starts_with("orders@3#7: its value is not JSON"), "{why}");
    let body = webhook_for(
        target(),
        &json!({"batch": {}, "body": "{{ .record.offset }}"}),
        batching(false),
    );
    assert_eq!(body.deliver(&events[..2]).await, DONE);
    assert_eq!(server.last().text(), "[7,8]");
}

#[tokio::test]
async fn cloudevents_in_both_modes_and_in_batches() {
    let server = takes_all().await;
    let binary = webhook(
        &server.url("/"),
        &json!({"cloudevents": {"source": "/shop", "type": "order.made"}}),
    );
    assert_eq!(binary.deliver(&[valued("{\"a\":1}")]).await, DONE);
    let sent = server.last();
    assert_eq!(
        (sent.text(), sent.header("content-type")),
        ("{\"a\":1}", "application/json")
    );
    assert_eq!(
        (sent.header("ce-specversion"), sent.header("ce-id")),
        ("1.0", "sub_1/orders/3/7")
    );
    assert_eq!(
        (sent.header("ce-source"), sent.header("ce-type")),
        ("/shop", "order.made")
    );
    let tree = json!({"cloudevents": {"mode": "structured"}});
    let structured = webhook(&server.url("/"), &tree);
    assert_eq!(structured.deliver(&[valued("{\"a\":1}")]).await, DONE);
    let sent = server.last();
    assert_eq!(
        sent.header("content-type"),
        "application/cloudevents+json; charset=utf-8"
    );
    let object: serde_json::Value = serde_json::from_slice(&sent.body).unwrap();
    assert_eq!(
        (&object["data"], &object["source"]),
        (&json!({"a": 1}), &json!("/topics/orders"))
    );
    let tree = json!({"cloudevents": {"mode": "structured"}, "batch": {}, "raw": true});
    let batch = webhook_for(Target::webhook(&server.url("/")).unwrap(), &tree, batching(false));
    assert_eq!(batch.deliver(&[valued("x"), valued("y")]).await, DONE);
    let sent = server.last();
    assert_eq!(
        sent.header("content-type"),
        "application/cloudevents-batch+json; charset=utf-8"
    );
    let all: serde_json::Value = serde_json::from_slice(&sent.body).unwrap();
    assert_eq!(all[1]["data_base64"], STANDARD.encode("y"));
}

#[tokio::test]
async fn signatures_are_over_what_is_sent() {
    let server = takes_all().await;
    let tree =
        json!({"signature": {"secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], "port_secret": "pw"}});
    let webhook = webhook(&server.url("/"), &tree);
    assert_eq!(webhook.deliver(&[valued("{\"a\": 1}")]).await, DONE);
    let sent = server.last();
    let (id, timestamp) = (sent.header("webhook-id"), sent.header("webhook-timestamp"));
    let key =
        openssl::pkey::PKey::hmac(&STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()).unwrap();
    let mut signer = openssl::sign::Signer::new(openssl::hash::MessageDigest::sha256(), &key).unwrap();
    signer
        .update(format!("{id}.{timestamp}.{}", sent.text()).as_bytes())
        .unwrap();
    let wanted = format!("v1,{}", STANDARD.encode(signer.sign_to_vec().unwrap()));
    assert_eq!(sent.header("webhook-signature"), wanted);
    assert_eq!(sent.header("x-port-timestamp"), timestamp);
    assert!(sent.header("x-port-signature").starts_with("v1,"));
}

#[tokio::test]
async fn answers_come_back_for_the_reply_topic_and_may_steer() {
    let server = serve(|sent, _| match sent.text() {
        "1" => answer(200, "{\"status\":\"DROP\"}"),
        "2" => answer(200, "{\"done\":true}"),
        "3" => answer(200, vec![b'x'; 2000]),
        _ => answer(204, ""),
    })
    .await;
    let target = Target::webhook(&server.url("/")).unwrap();
    let usage = Usage {
        replies: true,
        ..USAGE
    };
    let replying = webhook_for(
        target,
        &json!({"response_status": true, "max_response_bytes": 1000}),
        usage,
    );
    assert_eq!(replying.deliver(&[valued("1")]).await, Outcome::Dropped);
    match replying.deliver(&[valued("2")]).await {
        Outcome::Done { reply: Some(reply) } => {
            assert_eq!((reply.status, &reply.body[..]), (200, &b"{\"done\":true}"[..]));
            assert!(
                reply.headers.contains_key("content-length"),
                "{:?}",
                reply.headers
            );
        }
        other => panic!("{other:?}"),
    }
    let why = poisoned(replying.deliver(&[valued("3")]).await);
    assert!(why.contains("more than 1000 bytes"), "{why}");
    let plain = webhook(&server.url("/"), &json!({"max_response_bytes": 1000}));
    assert_eq!(plain.deliver(&[valued("1")]).await, DONE);
    assert_eq!(plain.deliver(&[valued("3")]).await, DONE);
}
