//! Changes that depend on what is there, and those that others make at the same time.

use std::time::Duration;

use hyper::Method;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::http::Answer;
use crate::support::{PATIENCE, Sidecar};
use crate::world::{call, expect, get, mock, patch, post, run, start};

fn tag(answer: &Answer) -> String {
    answer
        .header("etag")
        .unwrap_or_else(|| panic!("no etag: {answer:?}"))
        .to_owned()
}

async fn change(sidecar: &Sidecar, method: Method, path: &str, body: Option<Value>, tag: &str) -> Answer {
    call(sidecar, method, path, body, &[("if-match", tag)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn if_match_holds_for_what_somebody_changed_and_not_for_what_was_told() {
    let mock = mock();
    let sidecar = start(&mock, "").await;
    let path = run(&sidecar, "deploy").await;
    let first = tag(&get(&sidecar, &path).await);
    // Each answer's tag is good for the next change, without looking again.
    let mut now = first.clone();
    for n in 0..5 {
        let answer = change(
            &sidecar,
            Method::PATCH,
            &path,
            Some(json!({"statusLabel": n.to_string()})),
            &now,
        )
        .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_ne!(tag(&answer), now);
        now = tag(&answer);
    }
    assert_eq!(tag(&get(&sidecar, &path).await), now);
    for stale in [first.as_str(), "\"0\"", "\"x\""] {
        for suffix in ["", "/response", "/approval"] {
            let body = json!({"status": "APPROVE", "response": 1});
            let answer = change(
                &sidecar,
                Method::PATCH,
                &format!("{path}{suffix}"),
                Some(body),
                stale,
            )
            .await;
            expect(&answer, 412, "precondition_failed", "If-Match");
        }
    }
    let answer = change(&sidecar, Method::PATCH, &path, Some(json!({"summary": "s"})), "*").await;
    assert_eq!(answer.status, 200, "{answer:?}");

    let entities = "/v1/blueprints/b/entities";
    let made = post(&sidecar, entities, json!({"identifier": "e"})).await;
    let entity = format!("{entities}/e");
    let put = change(
        &sidecar,
        Method::PUT,
        &entity,
        Some(json!({"title": "1"})),
        &tag(&made),
    )
    .await;
    let patched = change(
        &sidecar,
        Method::PATCH,
        &entity,
        Some(json!({"title": "2"})),
        &tag(&put),
    )
    .await;
    assert_eq!(patched.json()["entity"]["title"], "2", "{patched:?}");
    let stale = change(&sidecar, Method::DELETE, &entity, None, &tag(&put)).await;
    expect(&stale, 412, "precondition_failed", "");
    let gone = change(&sidecar, Method::DELETE, &entity, None, &tag(&patched)).await;
    assert_eq!(gone.status, 200, "{gone:?}");
    // One that is made again is another.
    post(&sidecar, entities, json!({"identifier": "e"})).await;
    let stale = change(&sidecar, Method::PATCH, &entity, Some(json!({})), &tag(&made)).await;
    expect(&stale, 412, "precondition_failed", "");

    let action = json!({
        "identifier": "made", "trigger": {"type": "self-service", "operation": "CREATE"},
        "invocationMethod": {"type": "KAFKA"},
    });
    let made = post(&sidecar, "/v1/actions", action.clone()).await;
    let replaced = change(
        &sidecar,
        Method::PUT,
        "/v1/actions/made",
        Some(action.clone()),
        &tag(&made),
    )
    .await;
    assert_eq!(replaced.status, 200, "{replaced:?}");
    let stale = change(
        &sidecar,
        Method::PUT,
        "/v1/actions/made",
        Some(action),
        &tag(&made),
    )
    .await;
    expect(&stale, 412, "precondition_failed", "");
    let stale = change(&sidecar, Method::DELETE, "/v1/actions/made", None, &tag(&made)).await;
    expect(&stale, 412, "precondition_failed", "");
    let gone = change(
        &sidecar,
        Method::DELETE,
        "/v1/actions/made",
        None,
        &tag(&replaced),
    )
    .await;
    assert_eq!(gone.status, 200, "{gone:?}");
}

/// Whoever listens reports as soon as the record is there, while the sidecar still notes that it is: nobody else has changed the
/// run, so nobody is refused.
#[tokio::test(flavor = "multi_thread")]
async fn who_reports_as_soon_as_the_record_is_there_is_not_refused() {
    const RUNS: usize = 40;
    let mock = mock();
    let sidecar = start(&mock, "").await;
    let servers = mock.bootstrap_servers();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let listening = tokio::task::spawn_blocking(move || {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", servers)
            .set("group.id", "g")
            .set("fetch.wait.max.ms", "1")
            .set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer = config.create().unwrap();
        let mut partitions = TopicPartitionList::new();
        for partition in 0..2 {
            partitions
                .add_partition_offset("acme.runs", partition, Offset::Beginning)
                .unwrap();
        }
        consumer.assign(&partitions).unwrap();
        let until = std::time::Instant::now() + PATIENCE + PATIENCE;
        let mut left = RUNS;
        while left > 0 && std::time::Instant::now() < until {
            let Some(Ok(record)) = consumer.poll(Duration::from_millis(100)) else {
                continue;
            };
            let key = String::from_utf8(record.key().unwrap().to_vec()).unwrap();
            tell.send(key).unwrap();
            left -= 1;
        }
    });
    let starting = async {
        for _ in 0..RUNS {
            run(&sidecar, "deploy").await;
        }
    };
    let reporting = async {
        for n in 0..RUNS {
            let key = tokio::time::timeout(PATIENCE, told.recv())
                .await
                .expect("no record");
            let path = format!("/v1/actions/runs/{}", key.unwrap());
            let answer = post(
                &sidecar,
                &format!("{path}/logs"),
                json!({"message": "m", "statusLabel": "l"}),
            )
            .await;
            assert_eq!(answer.status, 201, "{n}: {answer:?}");
            let answer = patch(&sidecar, &path, json!({"status": "SUCCESS"})).await;
            assert_eq!(answer.status, 200, "{n}: {answer:?}");
        }
    };
    tokio::join!(starting, reporting);
    listening.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_change_the_same_at_once_one_is_refused() {
    let mock = mock();
    let (one, two) = (start(&mock, "").await, start(&mock, "").await);
    let path = run(&one, "deploy").await;
    let (mut accepted, mut refused) = (0, 0);
    for n in 0..20 {
        let (a, b) = tokio::join!(
            patch(&one, &path, json!({"statusLabel": format!("a{n}")})),
            patch(&two, &path, json!({"statusLabel": format!("b{n}")})),
        );
        let mut labels = Vec::new();
        for answer in [&a, &b] {
            match answer.status.as_u16() {
                200 => labels.push(answer.json()["run"]["statusLabel"].clone()),
                _ => {
                    expect(answer, 409, "conflict", "changed by somebody else");
                    refused += 1;
                }
            }
        }
        accepted += labels.len();
        for sidecar in [&one, &two] {
            let now = get(sidecar, &path).await.json()["run"]["statusLabel"].clone();
            assert!(labels.contains(&now), "{now} is none of {labels:?}");
        }
    }
    assert_eq!(accepted + refused, 40);
    assert!(refused > 0, "nothing was in conflict");
    // Lines do not conflict.
    let lines = (0..10).map(|n| {
        let (sidecar, path) = (if n % 2 == 0 { &one } else { &two }, format!("{path}/logs"));
        async move { post(sidecar, &path, json!({"message": n.to_string()})).await }
    });
    for answer in futures_util::future::join_all(lines).await {
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    let lines = get(&two, &format!("{path}/logs")).await.json();
    let lines = lines["runLogs"].as_array().unwrap();
    let mut messages: Vec<&str> = lines
        .iter()
        .map(|line| line["message"].as_str().unwrap())
        .collect();
    messages.sort_unstable();
    assert_eq!(messages, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
}
