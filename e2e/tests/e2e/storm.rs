//! Clients that leave, and overload.

use std::time::Duration;

use serde_json::json;
use sluice_e2e::envoy::{Envoy, by_call, produce};
use sluice_e2e::kafka::{Kafka, Setup};
use sluice_e2e::raw::Raw;
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::scenario;
use sluice_e2e::{Result, ensure, wait};
use tokio::task::JoinSet;

/// 200 connections with a request each; a third of the requests is not whole; all are reset.
async fn hang_up(port: u16, round: usize) -> Result<()> {
    let mut clients = JoinSet::new();
    for i in 0..200 {
        clients.spawn(async move {
            let mut raw = Raw::connect(port).await?;
            let path = match i % 4 {
                1 => "/envelope",
                3 => "/call",
                _ => "/body",
            };
            let whole =
                format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{round:04}-{i:04}");
            let cut = if i % 3 == 0 { whole.len() - 4 } else { whole.len() };
            raw.write(whole.get(..cut).unwrap_or_default()).await?;
            // Some leave at once, some while their record is under way.
            tokio::time::sleep(Duration::from_millis(i % 20)).await;
            raw.reset()
        });
    }
    while let Some(done) = clients.join_next().await {
        done??;
    }
    Ok(())
}

/// 200 HTTP/2 requests, of which only the first few get an answer before the client resets the rest.
async fn reset_streams(envoy: &Envoy, round: usize) {
    let http = envoy.h2();
    let mut requests = JoinSet::new();
    for i in 0..200 {
        let http = http.clone();
        requests.spawn(async move { http.post("/body", "", format!("{round:04}-{i:04}")).await });
    }
    for _ in 0..10 {
        let answered = tokio::time::timeout(Duration::from_millis(100), requests.join_next());
        if answered.await.is_err() {
            break;
        }
    }
    requests.shutdown().await;
}

#[test]
fn clients_hang_up_half_way_again_and_again() -> Result<()> {
    scenario("storm-hang-up", async |s| {
        let mut kafka = Kafka::start(s.dir(), &Setup::default()).await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 3).await?;
        let routes = vec![
            produce("/body", json!({"topic": topic, "value": "body"})),
            produce("/call", by_call(json!({"topic": topic, "value": "body"}))),
            produce("/envelope", json!({"topic": topic, "forward_headers": true})),
        ];
        let mut rig = Rig::start(s, Parts::new(&kafka.bootstrap(), routes)).await?;
        let http = rig.envoy.h1();
        http.post("/body", "", "before").await?.expect(200)?;
        for round in 0..40 {
            // Every other time the acks come only after everybody has left.
            if round % 2 == 0 {
                kafka.node(1)?.pause()?;
            }
            hang_up(rig.envoy.port(), round).await?;
            if round % 4 < 2 {
                reset_streams(&rig.envoy, 1000 + round).await;
            }
            if round % 2 == 0 {
                kafka.node(1)?.resume()?;
            }
            if round % 10 == 9 {
                for path in ["/body", "/call"] {
                    let value = format!("after-{round}{path}");
                    http.post(path, "", value).await?.expect(200)?;
                }
                rig.envoy.healthy()?;
            }
        }
        // Nobody waits any more, and nothing is kept for those who left.
        wait::until("nothing is outstanding", Duration::from_secs(30), async || {
            let stats = rig.envoy.stats("sluice").await?;
            let outstanding: Vec<_> = stats
                .iter()
                .filter(|(name, _)| name.contains("outstanding"))
                .collect();
            ensure!(
                !outstanding.is_empty() && outstanding.iter().all(|(_, value)| value == "0"),
                "{outstanding:?}"
            );
            Ok(())
        })
        .await?;
        let records = kafka.records(&topic).await?;
        let mut values: Vec<_> = records.iter().filter_map(|record| record.text().ok()).collect();
        let all = values.len();
        values.sort_unstable();
        values.dedup();
        ensure!(
            values.len() == all,
            "{} records are there twice",
            all - values.len()
        );
        ensure!(
            values.iter().all(|value| !value.is_empty()),
            "a cut-off request became a record"
        );
        Ok(())
    })
}

#[test]
fn past_the_bound_is_a_503_and_not_a_queue() -> Result<()> {
    scenario("storm-bound", async |s| {
        let mut kafka = Kafka::start(s.dir(), &Setup::default()).await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let settings = json!({"topic": topic, "value": "body", "answer_timeout": 20_000});
        let mut parts = Parts::new(&kafka.bootstrap(), vec![produce("/", settings)]);
        // Of which one client has twenty: the first six come before clients are told apart.
        parts.filter = json!({"stream": {"max_outstanding_records": 23}});
        let mut rig = Rig::start(s, parts).await?;
        let http = rig.envoy.h1();
        http.post("/", "", "before").await?.expect(200)?;
        kafka.node(1)?.pause()?;
        let mut waiting = JoinSet::new();
        for i in 0..50 {
            let http = http.clone();
            waiting.spawn(async move { http.post("/", "", format!("value-{i:08}")).await });
        }
        let (mut full, mut stored) = (0, 0);
        while let Some(reply) = waiting.join_next().await {
            let reply = reply??;
            match reply.status {
                503 => {
                    ensure!(
                        !reply
                            .expect_error(503, "buffer_full")?
                            .header("retry-after")
                            .is_empty()
                    );
                    full += 1;
                    if full == 30 {
                        kafka.node(1)?.resume()?;
                    }
                }
                _ => {
                    reply.expect(200)?;
                    stored += 1;
                }
            }
        }
        ensure!((full, stored) == (30, 20), "{full} refused, {stored} stored");
        ensure!(kafka.records(&topic).await?.len() == 21);
        rig.envoy.healthy()
    })
}
