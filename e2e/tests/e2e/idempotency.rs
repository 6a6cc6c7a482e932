//! Idempotency keys: a request that comes again is written once, whoever is killed or frozen meanwhile.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use hyper::Method;
use serde_json::{Value, json};
use sluice_e2e::client::{Client, Reply, full};
use sluice_e2e::envoy::{Envoy, by_call, produce};
use sluice_e2e::kafka::{Kafka, Record, Setup};
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::{Scenario, scenario};
use sluice_e2e::{Result, ensure, kafka, parts, ports, wait};
use tokio::task::JoinSet;

fn keeping(directory: PathBuf, bootstrap: &str, routes: Vec<Value>) -> Parts {
    Parts::new(bootstrap, routes).sidecar("idempotency/directory", json!(directory))
}

fn keys(s: &Scenario) -> PathBuf {
    s.dir().join("keys")
}

async fn post(client: &Client, path: &str, key: &str, body: &str) -> Result<Reply> {
    let request = client
        .request(Method::POST, path)
        .header("idempotency-key", key)
        // Another in each attempt, as a client's library has it.
        .header("traceparent", format!("00-{:032x}-b7ad6b7169203331-01", fresh()));
    client.send(request.body(full(body.to_owned()))?).await
}

fn fresh() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Partition and offset of an answer.
fn place(reply: &Reply) -> Result<(i32, i64)> {
    reply.expect(200)?;
    let partition = reply.header("x-kafka-partition").parse()?;
    Ok((partition, reply.header("x-kafka-offset").parse()?))
}

fn replayed(reply: &Reply) -> bool {
    reply.header("idempotent-replayed") == "true"
}

/// The records with that value.
fn with_value<'a>(records: &'a [Record], value: &str) -> Vec<&'a Record> {
    let has = |record: &&Record| record.value.as_deref() == Some(value.as_bytes());
    records.iter().filter(has).collect()
}

#[test]
fn a_repeat_is_answered_as_the_first_was_across_restarts_and_kills() -> Result<()> {
    scenario("idempotency-repeat", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 3).await?;
        let settings = json!({
            "topic": topic, "value": "body", "key": {"query": "k"}, "idempotency": {"required": true}
        });
        let routes = vec![
            produce("/call", by_call(settings.clone())),
            produce("/", settings),
        ];
        let mut rig = Rig::start(s, keeping(keys(s), &kafka.bootstrap(), routes)).await?;
        let http = rig.envoy.h1();
        let mut first = BTreeMap::new();
        for (path, key) in [("/?k=a", "first"), ("/call?k=b", "second")] {
            let reply = post(&http, path, key, path).await?;
            ensure!(!replayed(&reply), "{:?}", reply.headers);
            first.insert(path, (place(&reply)?, reply.body));
        }
        // In quotes it is the same key.
        let names = BTreeMap::from([("/?k=a", "\"first\""), ("/call?k=b", "second")]);
        let check = async || {
            for (path, (expected, body)) in &first {
                let again = post(&http, path, names[path], path).await?;
                ensure!(
                    place(&again)? == *expected && again.body == *body,
                    "{path}: {again:?}"
                );
                ensure!(replayed(&again), "{:?}", again.headers);
                let other = post(&http, path, names[path], "another body").await?;
                other.expect_error(422, "idempotency_key_reused")?;
            }
            Ok::<_, anyhow::Error>(())
        };
        check().await?;
        rig.sidecar.kill()?;
        rig.sidecar.restart().await?;
        wait::until(
            "the filter's stream is back",
            Duration::from_secs(30),
            async || check().await,
        )
        .await?;
        let status = rig.sidecar.stop(Duration::from_secs(30)).await?;
        ensure!(status.success(), "{status}");
        rig.sidecar.restart().await?;
        wait::until(
            "the filter's stream is back",
            Duration::from_secs(30),
            async || check().await,
        )
        .await?;
        http.post("/?k=a", "", "without a key")
            .await?
            .expect_error(400, "invalid_request")?;
        let records = kafka.records(&topic).await?;
        ensure!(records.len() == 2, "{records:?}");
        rig.envoy.healthy()
    })
}

#[test]
fn of_many_at_once_one_is_written() -> Result<()> {
    scenario("idempotency-many", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 3).await?;
        let settings = json!({"topic": topic, "value": "body", "idempotency": {}});
        let mut parts = keeping(keys(s), &kafka.bootstrap(), vec![produce("/", settings)]);
        parts.concurrency = 2;
        let mut rig = Rig::start(s, parts).await?;
        let http = rig.envoy.h1();
        for round in 0..5 {
            let key = format!("round-{round}");
            let mut all = JoinSet::new();
            for _ in 0..64 {
                let (http, key) = (http.clone(), key.clone());
                all.spawn(async move { post(&http, "/", &key, &key).await });
            }
            let (mut places, mut first) = (Vec::new(), 0);
            while let Some(reply) = all.join_next().await {
                let reply = reply??;
                places.push(place(&reply)?);
                first += usize::from(!replayed(&reply));
            }
            places.dedup();
            ensure!(
                places.len() == 1 && first == 1,
                "{key}: {places:?}, {first} are no replay"
            );
        }
        let records = kafka.records(&topic).await?;
        ensure!(records.len() == 5, "{records:?}");
        rig.envoy.healthy()
    })
}

/// A key, and where its record is; nowhere if nobody knows.
type Known = (String, Option<(i32, i64)>);

/// Clients that repeat each request until they know.
struct Askers {
    stop: Arc<AtomicBool>,
    known: Arc<AtomicUsize>,
    clients: JoinSet<Vec<Known>>,
}

impl Askers {
    fn start(client: &Client, clients: usize) -> Self {
        let (stop, known) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut all = JoinSet::new();
        for n in 0..clients {
            let (client, stop, known) = (client.clone(), Arc::clone(&stop), Arc::clone(&known));
            all.spawn(async move {
                let mut answers = Vec::new();
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let key = format!("{n}-{number}");
                    let answer = loop {
                        let Ok(reply) = post(&client, "/", &key, &key).await else {
                            continue;
                        };
                        if let Ok(place) = place(&reply) {
                            break Some(place);
                        }
                        if reply.text().contains("nobody knows") {
                            break None;
                        }
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    };
                    known.fetch_add(1, Ordering::Relaxed);
                    answers.push((key, answer));
                }
                answers
            });
        }
        Self {
            stop,
            known,
            clients: all,
        }
    }

    async fn wait_for(&self, more: usize) -> Result<()> {
        let goal = self.known.load(Ordering::Relaxed) + more;
        wait::until("more is known", Duration::from_secs(60), async || {
            let known = self.known.load(Ordering::Relaxed);
            ensure!(known >= goal, "{known} of {goal}");
            Ok(())
        })
        .await
    }

    async fn finish(mut self) -> Result<Vec<Known>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        while let Some(answers) = self.clients.join_next().await {
            all.extend(answers?);
        }
        Ok(all)
    }
}

#[test]
fn every_key_is_written_once_however_often_the_sidecar_is_killed() -> Result<()> {
    scenario("idempotency-killed", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 3).await?;
        let settings = json!({"topic": topic, "value": "body", "idempotency": {}, "answer_timeout": 3000});
        let parts = keeping(keys(s), &kafka.bootstrap(), vec![produce("/", settings)]);
        let mut rig = Rig::start(s, parts).await?;
        let askers = Askers::start(&rig.envoy.h1(), 16);
        for _ in 0..6 {
            askers.wait_for(200).await?;
            rig.sidecar.kill()?;
            rig.sidecar.restart().await?;
        }
        askers.wait_for(200).await?;
        let answers = askers.finish().await?;
        let mut records: BTreeMap<String, Vec<(i32, i64)>> = BTreeMap::new();
        for record in kafka.records(&topic).await? {
            let place = (record.partition, record.offset);
            records.entry(record.text()?.to_owned()).or_default().push(place);
        }
        let mut unknown = 0;
        for (key, answer) in &answers {
            let found = records.remove(key).unwrap_or_default();
            match answer {
                Some(place) => ensure!(found == [*place], "{key} is at {place:?}: {found:?}"),
                None => {
                    unknown += 1;
                    ensure!(found.len() <= 1, "{key}: {found:?}");
                }
            }
        }
        ensure!(records.is_empty(), "nobody asked for {records:?}");
        // Six kills, each with no more than what 16 clients had under way.
        ensure!(unknown <= 6 * 16, "{unknown} of {} are not known", answers.len());
        rig.envoy.healthy()
    })
}

/// A 504 and a repeat end in one record: the repeat waits for the first, and gets its answer.
#[test]
fn after_a_504_a_repeat_gets_the_answer_of_the_first() -> Result<()> {
    scenario("idempotency-frozen", async |s| {
        let mut kafka = Kafka::start(s.dir(), &Setup::default()).await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let settings = json!({"topic": topic, "value": "body", "idempotency": {}, "answer_timeout": 1500});
        let parts = keeping(keys(s), &kafka.bootstrap(), vec![produce("/", settings)]);
        let mut rig = Rig::start(s, parts).await?;
        let http = rig.envoy.h1();
        post(&http, "/", "before", "before").await?.expect(200)?;
        kafka.node(1)?.pause()?;
        for _ in 0..3 {
            let reply = post(&http, "/", "during", "during").await?;
            reply.expect_error(504, "outcome_unknown")?;
        }
        kafka.node(1)?.resume()?;
        wait::until("the broker is back", Duration::from_secs(60), async || {
            let reply = post(&http, "/", "during", "during").await?;
            ensure!(place(&reply)? == (0, 1), "{:?}", reply.headers);
            ensure!(replayed(&reply), "{:?}", reply.headers);
            Ok(())
        })
        .await?;
        let records = kafka.records(&topic).await?;
        ensure!(with_value(&records, "during").len() == 1, "{records:?}");
        ensure!(records.len() == 2, "{records:?}");
        rig.envoy.healthy()
    })
}

/// The shipped example, with these pods.
fn edge(s: &Scenario, pods: &[&Rig]) -> Result<(PathBuf, u16, u16)> {
    let text = std::fs::read_to_string(parts::root().join("examples/idempotency-edge.yaml"))?;
    let mut config: Value = serde_saphyr::from_str(&text)?;
    let (port, admin) = (ports::pick()?, ports::pick()?);
    let address = |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let mut at = |pointer: &str| {
        let found = config.pointer_mut(pointer).map(Value::take);
        found.with_context(|| format!("nothing at {pointer}"))
    };
    let endpoints = "/static_resources/clusters/0/load_assignment/endpoints/0/lb_endpoints";
    let Value::Array(all) = at(endpoints)? else {
        bail!("no list of endpoints")
    };
    ensure!(all.len() >= pods.len(), "{all:?}");
    let kept = all.into_iter().zip(pods).map(|(mut endpoint, pod)| {
        if let Some(place) = endpoint.pointer_mut("/endpoint/address") {
            *place = address(pod.envoy.port());
        }
        endpoint
    });
    let changes = [
        (endpoints, kept.collect::<Vec<_>>().into()),
        ("/admin/address", address(admin)),
        ("/static_resources/listeners/0/address", address(port)),
    ];
    for (pointer, new) in changes {
        *config
            .pointer_mut(pointer)
            .with_context(|| format!("nothing at {pointer}"))? = new;
    }
    let path = s.dir().join("edge.json");
    std::fs::write(&path, config.to_string())?;
    Ok((path, port, admin))
}

#[test]
fn one_pod_of_several_sees_one_key() -> Result<()> {
    scenario("idempotency-pods", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        let settings = json!({"topic": topic, "value": "body", "idempotency": {}});
        let mut pods = Vec::new();
        for pod in ["pod-0", "pod-1"] {
            let inner = s.within(pod)?;
            let parts = keeping(
                keys(&inner),
                &kafka.bootstrap(),
                vec![produce("/", settings.clone())],
            );
            pods.push(Rig::start(&inner, parts).await?);
        }
        let (path, port, admin) = edge(s, &pods.iter().collect::<Vec<_>>())?;
        let envoy = Envoy::start_file(s.dir(), &path, port, admin).await?;
        let mut first = Vec::new();
        for n in 0..40 {
            let key = format!("key-{n}");
            first.push(place(&post(&envoy.h1(), "/", &key, &key).await?)?);
        }
        for (n, expected) in first.iter().enumerate() {
            let key = format!("key-{n}");
            let again = post(&envoy.h2(), "/", &key, &key).await?;
            ensure!(
                place(&again)? == *expected && replayed(&again),
                "{key}: {again:?}"
            );
        }
        ensure!(kafka.records(&topic).await?.len() == 40);
        for pod in &mut pods {
            // Each has its share.
            let held = pod.sidecar.metric("sluice_idempotency_keys", "").await?;
            ensure!((5.0..=35.0).contains(&held), "{held} of 40 keys");
            pod.envoy.healthy()?;
        }
        // While a pod is away its keys are refused, and not written by another.
        pods[0].envoy.stop().await?;
        let (mut refused, mut known) = (0, 0);
        for n in 0..40 {
            let key = format!("key-{n}");
            let again = post(&envoy.h1(), "/", &key, &key).await?;
            match again.status {
                503 => refused += 1,
                _ => {
                    ensure!(replayed(&again), "{key}: {again:?}");
                    known += 1;
                }
            }
        }
        ensure!(refused >= 5 && known >= 5, "{refused}, {known}");
        ensure!(kafka.records(&topic).await?.len() == 40);
        Ok(())
    })
}
