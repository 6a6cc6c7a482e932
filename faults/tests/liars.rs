//! Gateways that lie, and the harness that must catch them. What they call a topic is a vector.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use sluice_e2e::client::Client;
use sluice_e2e::kafka::Record;
use sluice_e2e::{Result, ensure};
use sluice_faults::compare::{Counts, Meanwhile, compare};
use sluice_faults::load::{Load, Plan};

/// What a gateway does with its `n`th request.
type Behaviour = fn(n: u64, topic: &Topic, key: Vec<u8>, value: Vec<u8>) -> Answer;

#[derive(Default)]
struct Topic(Mutex<Vec<Record>>);

enum Answer {
    Now(StatusCode),
    Stored(i64),
    Never,
}

impl Topic {
    fn store(&self, key: Vec<u8>, value: Vec<u8>) -> i64 {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = records.last().map_or(0, |last| last.offset + 1);
        records.push(Record {
            partition: 0,
            offset,
            key: Some(key),
            value: Some(value),
            headers: std::collections::BTreeMap::new(),
            timestamp_ms: 0,
        });
        offset
    }
}

/// Serves `behaviour` under load for a second; what the harness makes of it.
async fn counted(behaviour: Behaviour) -> Result<Counts> {
    let topic = Arc::new(Topic::default());
    let (served, next) = (Arc::clone(&topic), Arc::new(AtomicU64::new(0)));
    let handler = async move |headers: HeaderMap, body: axum::body::Bytes| {
        let key = headers.get("x-key").map(|key| key.as_bytes().to_vec());
        let n = next.fetch_add(1, Ordering::Relaxed);
        match behaviour(n, &served, key.unwrap_or_default(), body.to_vec()) {
            Answer::Now(status) => status.into_response(),
            Answer::Stored(offset) => {
                let place = [
                    ("x-kafka-partition", "0".to_owned()),
                    ("x-kafka-offset", offset.to_string()),
                ];
                place.into_response()
            }
            Answer::Never => std::future::pending::<Response>().await,
        }
    };
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    let server =
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/", post(handler))).await });
    let plan = Plan {
        rate: 100,
        patience: Duration::from_secs(2),
        ..Plan::default()
    };
    let mut load = Load::start(Client::h1(port), "/", plan);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let ledger = load.finish().await?;
    server.abort();
    let records = topic.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let counts = compare(&ledger, &records, &Meanwhile::default());
    ensure!(
        counts.sent >= 90,
        "the load did not keep its schedule: {counts:?}"
    );
    Ok(counts)
}

#[tokio::test]
async fn an_honest_one() -> Result<()> {
    let counts = counted(|_, topic, key, value| Answer::Stored(topic.store(key, value))).await?;
    ensure!(counts.success == counts.sent, "{counts:?}");
    let clean = Counts {
        sent: counts.sent,
        success: counts.sent,
        ..Counts::default()
    };
    ensure!(counts == clean, "{counts:?}");
    Ok(())
}

#[tokio::test]
async fn one_that_answers_and_stores_nothing() -> Result<()> {
    let counts = counted(|_, _, _, _| Answer::Now(StatusCode::OK)).await?;
    ensure!(counts.lost == counts.sent, "{counts:?}");
    Ok(())
}

/// It answers before it has stored, and dies with the last ten.
#[tokio::test]
async fn one_that_answers_before_the_acknowledgement() -> Result<()> {
    static WAITING: Mutex<Vec<(Vec<u8>, Vec<u8>)>> = Mutex::new(Vec::new());
    let counts = counted(|_, topic, key, value| {
        let mut waiting = WAITING.lock().unwrap();
        waiting.push((key, value));
        if waiting.len() > 10 {
            let (key, value) = waiting.remove(0);
            topic.store(key, value);
        }
        Answer::Now(StatusCode::OK)
    })
    .await?;
    ensure!(counts.lost == 10 && counts.order_broken == 0, "{counts:?}");
    Ok(())
}

#[tokio::test]
async fn one_that_tries_again_without_telling() -> Result<()> {
    let counts = counted(|n, topic, key, value| {
        if n.is_multiple_of(10) {
            topic.store(key.clone(), value.clone());
        }
        Answer::Stored(topic.store(key, value))
    })
    .await?;
    ensure!(counts.duplicates == counts.sent.div_ceil(10), "{counts:?}");
    Ok(())
}

#[tokio::test]
async fn one_that_stores_what_it_calls_refused() -> Result<()> {
    let counts = counted(|_, topic, key, value| {
        topic.store(key, value);
        Answer::Now(StatusCode::SERVICE_UNAVAILABLE)
    })
    .await?;
    ensure!(counts.stored_though_failed == counts.sent, "{counts:?}");
    Ok(())
}

#[tokio::test]
async fn one_that_swaps_records_of_a_key() -> Result<()> {
    static KEPT: Mutex<Vec<(Vec<u8>, Vec<u8>)>> = Mutex::new(Vec::new());
    let counts = counted(|n, topic, key, value| {
        // The key's first record is stored after its second, 500 ms later.
        if n == 7 {
            KEPT.lock().unwrap().push((key, value));
        } else {
            topic.store(key, value);
        }
        if n == 60 {
            for (key, value) in KEPT.lock().unwrap().drain(..) {
                topic.store(key, value);
            }
        }
        Answer::Now(StatusCode::OK)
    })
    .await?;
    ensure!(counts.order_broken == 1 && counts.lost == 0, "{counts:?}");
    Ok(())
}

#[tokio::test]
async fn one_that_does_not_answer() -> Result<()> {
    let counts = counted(|n, topic, key, value| {
        let offset = topic.store(key, value);
        if n == 50 {
            Answer::Never
        } else {
            Answer::Stored(offset)
        }
    })
    .await?;
    ensure!(counts.unanswered == 1, "{counts:?}");
    Ok(())
}
