//! Hundreds of requests of one worker that come to their end at the same moment.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use sluice_e2e::client::{Client, Reply};
use sluice_e2e::envoy::{forward, produce};
use sluice_e2e::kafka::{self, Kafka, Record, Setup};
use sluice_e2e::raw::Raw;
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::{Scenario, scenario};
use sluice_e2e::upstream::Upstream;
use sluice_e2e::{Result, ensure, wait};
use tokio::task::JoinSet;

/// Envoy 1.40 loses a filter that answers about 300 other requests in one callback.
const MANY: usize = 600;

/// Requests that wait, each with a value of its own.
struct Waiting(JoinSet<Result<Reply>>);

impl Waiting {
    fn start(client: &Client, path: &'static str, name: &str, count: usize) -> Self {
        let post = |i| {
            let (client, value) = (client.clone(), format!("{name}-{i:04}"));
            async move { client.post(path, "", value).await }
        };
        Self((0..count).map(post).collect())
    }

    async fn all(mut self, expected: impl Fn(&Reply) -> Result<()>) -> Result<()> {
        while let Some(reply) = self.0.join_next().await {
            expected(&reply??)?;
        }
        Ok(())
    }
}

async fn outstanding(rig: &Rig, expected: u64) -> Result<()> {
    let what = format!("{expected} records are outstanding");
    wait::until(&what, Duration::from_secs(30), async || {
        let found = rig.envoy.stat("wasmcustom.sluice.outstanding").await?;
        ensure!(found == expected, "{found}");
        Ok(())
    })
    .await
}

async fn raw_values(s: &Scenario, kafka: &Kafka, answer_timeout: u32) -> Result<(String, Rig)> {
    let topic = s.topic("t");
    kafka.create_topic(&topic, 3).await?;
    let settings = json!({"topic": topic, "value": "body", "answer_timeout": answer_timeout});
    let routes = vec![produce("/", settings)];
    Ok((
        topic,
        Rig::start(s, Parts::new(&kafka.bootstrap(), routes)).await?,
    ))
}

fn of(records: &[Record], name: &str) -> usize {
    let ours = |record: &&Record| record.text().is_ok_and(|text| text.starts_with(name));
    records.iter().filter(ours).count()
}

#[test]
fn the_sidecar_dies_with_hundreds_of_records_unsent_and_sent() -> Result<()> {
    scenario("many-killed", async |s| {
        let kafka = kafka::shared().await?;
        let (topic, mut rig) = raw_values(s, kafka, 10_000).await?;
        for (name, client) in [("one", rig.envoy.h1()), ("two", rig.envoy.h2())] {
            // It accepts connections and says nothing, so no record is sent.
            rig.sidecar.signal(Signal::SIGSTOP)?;
            let unsent = Waiting::start(&client, "/", &format!("unsent-{name}"), MANY);
            wait::until("a stream is opened", Duration::from_secs(10), async || {
                ensure!(rig.envoy.stat("cluster.sluice.upstream_rq_active").await? == 1);
                Ok(())
            })
            .await?;
            rig.sidecar.kill()?;
            unsent
                .all(|reply| reply.expect_error(503, "sidecar_unavailable").map(|_| ()))
                .await?;
            outstanding(&rig, 0).await?;

            rig.sidecar.restart().await?;
            wait::until("there is a stream", Duration::from_secs(20), async || {
                client.post("/", "", "between").await?.expect(200)?;
                Ok(())
            })
            .await?;
            rig.sidecar.signal(Signal::SIGSTOP)?;
            let sent = Waiting::start(&client, "/", &format!("sent-{name}"), MANY);
            outstanding(&rig, MANY as u64).await?;
            rig.sidecar.kill()?;
            sent.all(|reply| reply.expect_error(504, "outcome_unknown").map(|_| ()))
                .await?;
            outstanding(&rig, 0).await?;
            rig.sidecar.restart().await?;
            wait::until("there is a stream again", Duration::from_secs(20), async || {
                client.post("/", "", "between").await?.expect(200)?;
                Ok(())
            })
            .await?;
            // The next round begins without a stream.
            rig.sidecar.kill()?;
            rig.sidecar.restart().await?;
            rig.envoy.healthy()?;
        }
        ensure!(of(&kafka.records(&topic).await?, "unsent-") == 0);
        Ok(())
    })
}

#[test]
fn hundreds_of_deadlines_pass_and_then_the_acks_arrive() -> Result<()> {
    scenario("many-late", async |s| {
        let kafka = kafka::shared().await?;
        let (topic, mut rig) = raw_values(s, kafka, 3000).await?;
        let http = rig.envoy.h1();
        http.post("/", "", "before").await?.expect(200)?;
        rig.sidecar.signal(Signal::SIGSTOP)?;
        let late = Waiting::start(&http, "/", "late", MANY);
        late.all(|reply| reply.expect_error(504, "outcome_unknown").map(|_| ()))
            .await?;
        // Envoy holds the records until their fates are known: the bound must count them.
        outstanding(&rig, MANY as u64).await?;
        rig.sidecar.signal(Signal::SIGCONT)?;
        outstanding(&rig, 0).await?;
        http.post("/", "", "after").await?.expect(200)?;
        let records = kafka.records(&topic).await?;
        ensure!(of(&records, "late-") <= MANY && of(&records, "after") == 1);
        rig.envoy.healthy()
    })
}

#[test]
fn hundreds_are_stored_at_once_and_answered_or_sent_on() -> Result<()> {
    scenario("many-stored", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 3).await?;
        let upstream = Upstream::start().await?;
        let onward = json!({"topic": topic, "value": "body", "then": "continue"});
        let routes = vec![
            forward("/onward", onward, "app"),
            produce("/", json!({"topic": topic, "value": "body"})),
        ];
        let mut parts = Parts::new(&kafka.bootstrap(), routes);
        parts.upstreams = vec![("app".to_owned(), upstream.port())];
        let mut rig = Rig::start(s, parts).await?;
        let http = rig.envoy.h1();
        http.post("/", "", "before").await?.expect(200)?;
        rig.sidecar.signal(Signal::SIGSTOP)?;
        let answered = Waiting::start(&http, "/", "answered", MANY);
        let onward = Waiting::start(&rig.envoy.h2(), "/onward", "onward", MANY / 2);
        outstanding(&rig, (MANY + MANY / 2) as u64).await?;
        ensure!(upstream.arrived().is_empty(), "not before it is stored");
        rig.sidecar.signal(Signal::SIGCONT)?;
        answered.all(|reply| reply.expect(200).map(|_| ())).await?;
        onward
            .all(|reply| {
                ensure!(reply.expect(200)?.text() == "upstream");
                Ok(())
            })
            .await?;
        let records = kafka.records(&topic).await?;
        ensure!(of(&records, "answered-") == MANY && of(&records, "onward-") == MANY / 2);
        ensure!(upstream.arrived().len() == MANY / 2);
        rig.envoy.healthy()
    })
}

#[test]
fn what_nobody_waits_for_any_more_makes_room_again() -> Result<()> {
    scenario("many-abandoned", async |s| {
        let healthy = kafka::shared().await?;
        let mut silent = Kafka::start(s.dir(), &Setup::default()).await?;
        let (stuck, topic) = (s.topic("stuck"), s.topic("t"));
        silent.create_topic(&stuck, 1).await?;
        healthy.create_topic(&topic, 1).await?;
        let waits =
            json!({"topic": stuck, "value": "body", "cluster_name": "silent", "answer_timeout": 4000});
        let beside = json!({"topic": topic, "value": "body", "cluster_name": "main"});
        let routes = vec![produce("/stuck", waits), produce("/", beside)];
        let cluster = json!({"bootstrap_servers": silent.bootstrap(), "allowed_topics": ["*"]});
        let mut parts = Parts::new(&healthy.bootstrap(), routes)
            .sidecar("clusters/silent", cluster)
            .sidecar("default_cluster", json!("main"))
            // Otherwise the sidecar itself refuses what the silent broker does not acknowledge.
            .sidecar("producers/default/max_queueing_time", json!(0));
        // Of which one client has twenty: the first six come before clients are told apart.
        parts.filter = json!({"stream": {"max_outstanding_records": 23}});
        let mut rig = Rig::start(s, parts).await?;
        let http = rig.envoy.h1();
        for path in ["/stuck", "/"] {
            http.post(path, "", "before").await?.expect(200)?;
        }
        silent.node(1)?.pause()?;
        // Once with clients that stay to the end of their patience, once with clients that leave.
        let waiting = Waiting::start(&http, "/stuck", "stuck", 20);
        outstanding(&rig, 20).await?;
        http.post("/", "", "too many")
            .await?
            .expect_error(503, "buffer_full")?;
        waiting
            .all(|reply| reply.expect_error(504, "outcome_unknown").map(|_| ()))
            .await?;
        outstanding(&rig, 0).await?;
        http.post("/", "", "between").await?.expect(200)?;

        let mut leaving = Vec::new();
        for i in 0..20 {
            let mut raw = Raw::connect(rig.envoy.port()).await?;
            raw.write(format!(
                "POST /stuck HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{i:02}"
            ))
            .await?;
            leaving.push(raw);
        }
        outstanding(&rig, 20).await?;
        for raw in leaving {
            raw.reset()?;
        }
        outstanding(&rig, 0).await?;
        http.post("/", "", "after").await?.expect(200)?;
        // The broker has been silent all the time.
        silent.node(1)?.resume()?;
        rig.envoy.healthy()
    })
}
