//! What the commands about the admin API ask of a sidecar, and what they print of its answers.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, IF_MATCH};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::command::{Kafka, sluice};

/// A sidecar that answers everything with the same, and what it was asked.
struct Fake {
    address: String,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Fake {
    async fn start(answer: Value) -> Self {
        let asked: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let kept = Arc::clone(&asked);
        let router = Router::new().fallback(move |request: Request| async move {
            let (parts, body) = request.into_parts();
            let mut line = format!("{} {}", parts.method, parts.uri);
            if let Some(version) = parts.headers.get(IF_MATCH) {
                line += &format!(" if-match {}", version.to_str().unwrap());
            }
            let body = body.collect().await.unwrap().to_bytes();
            let body = if body.is_empty() {
                Value::Null
            } else {
                assert_eq!(parts.headers[CONTENT_TYPE], "application/json");
                serde_json::from_slice(&body).unwrap()
            };
            kept.lock().unwrap().push((line, body));
            axum::Json(answer)
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, asked }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_asks_for_what_it_says() {
    let kafka = Kafka::start("").await;
    let fake = Fake::start(json!({})).await;
    kafka.write("manifest.json", r#"{"services": []}"#);
    let none = Value::Null;
    let cases: Vec<(&str, &str, Value)> = vec![
        ("subscriptions list", "GET /subscriptions", none.clone()),
        (
            "sub ls --source kafka://main/a --sink http://h/?b=c",
            "GET /subscriptions?source=kafka%3A%2F%2Fmain%2Fa&sink=http%3A%2F%2Fh%2F%3Fb%3Dc",
            none.clone(),
        ),
        ("sub show a/b", "GET /subscriptions/a%2Fb", none.clone()),
        (
            "sub create kafka://main/a http://h/ -o concurrency=3 -o group.id=g",
            "POST /subscriptions",
            json!({"source": "kafka://main/a", "sink": "http://h/", "options": {"concurrency": 3, "group.id": "g"}}),
        ),
        (
            "sub update x --source s --sink t -o paused=null --if-match 4",
            "PATCH /subscriptions/x if-match \"4\"",
            json!({"source": "s", "sink": "t", "options": {"paused": null}}),
        ),
        ("sub delete x", "DELETE /subscriptions/x", none.clone()),
        (
            "sub rm x --keep-held --if-match 7",
            "DELETE /subscriptions/x?held=keep if-match \"7\"",
            none.clone(),
        ),
        ("sub pause x", "POST /subscriptions/x/pause", none.clone()),
        ("sub resume x", "POST /subscriptions/x/resume", none.clone()),
        (
            "sub seek x offset:5 --topic t --partition 2",
            "POST /subscriptions/x/seek",
            json!({"to": {"offset": 5}, "topic": "t", "partition": 2}),
        ),
        (
            "sub replay x t 1 2 3",
            "POST /subscriptions/x/replay",
            json!({"topic": "t", "partition": 1, "from": 2, "to": 3}),
        ),
        (
            "sub test x t 1 2",
            "POST /subscriptions/x/test",
            json!({"topic": "t", "partition": 1, "offset": 2}),
        ),
        (
            "sub parked x --limit 9",
            "GET /subscriptions/x/parked?limit=9",
            none.clone(),
        ),
        (
            "sub retry x x/t/0/1",
            "POST /subscriptions/x/parked/retry",
            json!({"ids": ["x/t/0/1"]}),
        ),
        ("sub drop x --all", "POST /subscriptions/x/parked/drop", json!({})),
        ("sub held list", "GET /held", none.clone()),
        ("sub held delete x", "DELETE /held/x", none.clone()),
        ("kc list", "GET /kafka-clusters", none.clone()),
        (
            "kc show m",
            "GET /kafka-clusters/m?include_subscriptions=true",
            none.clone(),
        ),
        (
            "kc create m -X bootstrap.servers=b:1",
            "POST /kafka-clusters",
            json!({"name": "m", "properties": {"bootstrap.servers": "b:1"}}),
        ),
        (
            "kc update m -X bootstrap.servers=b:1 --if-match 2",
            "PATCH /kafka-clusters/m if-match \"2\"",
            json!({"properties": {"bootstrap.servers": "b:1"}}),
        ),
        (
            "kc delete m --force --if-match 3",
            "DELETE /kafka-clusters/m?force=true if-match \"3\"",
            none.clone(),
        ),
        ("dp list", "GET /deployments", none.clone()),
        ("dp show d", "GET /deployments/d", none.clone()),
        (
            "dp register http://h --manifest manifest.json --force --breaking",
            "POST /deployments",
            json!({"uri": "http://h", "force": true, "breaking": true, "manifest": {"services": []}}),
        ),
        (
            "dp delete d --if-match 1",
            "DELETE /deployments/d?force=false if-match \"1\"",
            none.clone(),
        ),
        ("services", "GET /services", none.clone()),
        ("services Cart", "GET /services/Cart", none.clone()),
    ];
    for (command, line, body) in cases {
        let mut arguments: Vec<&str> = command.split(' ').collect();
        arguments.extend(["--admin", fake.address.as_str()]);
        sluice(&kafka, &arguments).await.succeeded();
        let asked = std::mem::take(&mut *fake.asked.lock().unwrap());
        assert_eq!(asked, [(line.to_owned(), body)], "{command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_is_listed_and_what_is_not_known_of_it_fails() {
    let kafka = Kafka::start("").await;
    let mut answer = json!({"held": [
        {"cluster": "main", "subscription": "orders", "events": 3, "known": true},
        {"cluster": "main", "subscription": "gone", "events": 1, "known": false},
    ]});
    let list = "main orders 3 true\nmain gone 1 false\n";
    let fake = Fake::start(answer.clone()).await;
    let arguments = ["subscriptions", "held", "list", "--admin"];
    let listed = sluice(&kafka, &[&arguments[..], &[fake.address.as_str()]].concat()).await;
    listed.is_ok(list);
    answer["errors"] = json!([{"cluster": "other", "error": "no broker answers"}]);
    let fake = Fake::start(answer).await;
    let listed = sluice(&kafka, &[&arguments[..], &[fake.address.as_str()]].concat()).await;
    assert_eq!((listed.code, listed.out.as_str()), (Some(1), list));
    assert!(
        listed
            .err
            .contains("what is held on cluster other is not known: no broker answers"),
        "{}",
        listed.err
    );
}
