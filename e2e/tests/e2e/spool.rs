//! Delivery `spooled`: what was answered 202 reaches Kafka, in the order of its key, whoever is killed meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sluice_e2e::client::Client;
use sluice_e2e::envoy::produce;
use sluice_e2e::kafka::{Kafka, Record, Setup};
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::{Scenario, scenario};
use sluice_e2e::sidecar::Sidecar;
use sluice_e2e::{Result, ensure, kafka, wait};
use tokio::task::JoinSet;

fn spooling(s: &Scenario, bootstrap: &str, routes: Vec<Value>) -> Parts {
    Parts::new(bootstrap, routes).sidecar("spool/directory", json!(s.dir().join("spool")))
}

/// Waits until everything in the spool is delivered or given up.
async fn emptied(sidecar: &Sidecar) -> Result<()> {
    wait::until("the spool is empty", Duration::from_secs(90), async || {
        let left = sidecar.metric("sluice_spool_records", "").await?;
        ensure!(left == 0.0, "{left} records are left");
        Ok(())
    })
    .await
}

/// Clients that each write records of one key, one after another.
struct Writers {
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
    /// How many of them were answered 202.
    spooled: Arc<AtomicUsize>,
    clients: JoinSet<(String, Vec<usize>)>,
}

impl Writers {
    /// What is answered with one of `statuses` must be there in the end.
    fn start(client: &Client, keys: usize, statuses: &'static [u16]) -> Self {
        let (stop, accepted) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let spooled = Arc::<AtomicUsize>::default();
        let mut clients = JoinSet::new();
        for key in 0..keys {
            let (client, stop, accepted) = (client.clone(), Arc::clone(&stop), Arc::clone(&accepted));
            let spooled = Arc::clone(&spooled);
            clients.spawn(async move {
                let key = format!("k{key}");
                let mut taken = Vec::new();
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let answer = client
                        .post(&format!("/?k={key}"), "", format!("{key}-{number}"))
                        .await;
                    let status = answer.map_or(0, |answer| answer.status);
                    if statuses.contains(&status) {
                        taken.push(number);
                        spooled.fetch_add(usize::from(status == 202), Ordering::Relaxed);
                        accepted.fetch_add(1, Ordering::Relaxed);
                    } else {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
                (key, taken)
            });
        }
        Self {
            stop,
            accepted,
            spooled,
            clients,
        }
    }

    /// Waits until none of so many records is answered 202, though no client pauses.
    async fn acked_again(&self, records: usize) -> Result<()> {
        wait::until("all are answered 200", Duration::from_secs(30), async || {
            let before = self.spooled.load(Ordering::Relaxed);
            self.wait_for(records).await?;
            let spooled = self.spooled.load(Ordering::Relaxed) - before;
            ensure!(spooled == 0, "{spooled} are answered 202");
            Ok(())
        })
        .await
    }

    /// Waits for so many more records to be answered 202.
    async fn wait_for(&self, more: usize) -> Result<()> {
        let goal = self.accepted.load(Ordering::Relaxed) + more;
        wait::until("more are accepted", Duration::from_secs(60), async || {
            let accepted = self.accepted.load(Ordering::Relaxed);
            ensure!(accepted >= goal, "{accepted} of {goal}");
            Ok(())
        })
        .await
    }

    /// What was answered 202, by key, in order.
    async fn finish(mut self) -> Result<BTreeMap<String, Vec<usize>>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = BTreeMap::new();
        while let Some(done) = self.clients.join_next().await {
            let (key, taken) = done?;
            all.insert(key, taken);
        }
        Ok(all)
    }
}

/// Checks that all of `accepted` is in `records`, and in each key's order. Gives how many are there more than once.
fn complete(accepted: &BTreeMap<String, Vec<usize>>, records: &[Record]) -> Result<usize> {
    let mut repeated = 0;
    for (key, taken) in accepted {
        let mut seen = BTreeSet::new();
        let mut partitions = BTreeSet::new();
        let mut first = Vec::new();
        for record in records
            .iter()
            .filter(|record| record.key.as_deref() == Some(key.as_bytes()))
        {
            partitions.insert(record.partition);
            let number = record
                .text()?
                .rsplit('-')
                .next()
                .unwrap_or_default()
                .parse::<usize>()?;
            if seen.insert(number) {
                first.push(number);
            } else {
                repeated += 1;
            }
        }
        ensure!(partitions.len() <= 1, "{key} is in {partitions:?}");
        let missing: Vec<_> = taken.iter().filter(|number| !seen.contains(number)).collect();
        ensure!(
            missing.is_empty(),
            "{key}: {missing:?} were answered 202 and are not there"
        );
        ensure!(first.is_sorted(), "{key}: not in order: {first:?}");
    }
    Ok(repeated)
}

#[test]
fn every_202_is_delivered_in_order_whoever_is_killed() -> Result<()> {
    scenario("spool-killed", async |s| {
        let mut kafka = Kafka::start(s.dir(), &Setup::default()).await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 3).await?;
        let settings = json!({"topic": topic, "value": "body", "delivery": "spooled", "key": {"query": "k"}});
        let parts = spooling(s, &kafka.bootstrap(), vec![produce("/", settings)]);
        let mut rig = Rig::start(s, parts).await?;
        let writers = Writers::start(&rig.envoy.h1(), 16, &[202]);

        // Between sync and delivery, wherever that is just now.
        for _ in 0..4 {
            writers.wait_for(300).await?;
            rig.sidecar.kill()?;
            rig.sidecar.restart().await?;
        }
        // Without a broker there is nothing but the disk.
        kafka.node(1)?.kill()?;
        writers.wait_for(300).await?;
        rig.sidecar.kill()?;
        rig.sidecar.restart().await?;
        writers.wait_for(300).await?;
        let held = rig.sidecar.metric("sluice_spool_records", "").await?;
        ensure!(held >= 500.0, "{held} records are held");
        kafka.node(1)?.restart().await?;
        writers.wait_for(300).await?;
        // An orderly end.
        rig.sidecar.stop(Duration::from_secs(30)).await?;
        rig.sidecar.restart().await?;
        writers.wait_for(300).await?;
        let accepted = writers.finish().await?;

        emptied(&rig.sidecar).await?;
        let records = kafka.records(&topic).await?;
        let repeated = complete(&accepted, &records)?;
        // Six kills, each with what was on its way or acknowledged within a few syncs before it.
        ensure!(repeated < 1500, "{repeated} of {} are repeated", records.len());
        ensure!(rig.sidecar.metric("sluice_spool_dead_records", "").await? == 0.0);
        rig.envoy.healthy()
    })
}

/// An acked route that is bridged: 200 with the broker, 202 without, and every key in its order all the same.
#[test]
fn an_outage_of_the_broker_is_bridged() -> Result<()> {
    scenario("spool-outage", async |s| {
        let mut kafka = Kafka::start(s.dir(), &Setup::default()).await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 3).await?;
        let settings = json!({
            "topic": topic, "value": "body", "spool_on_outage": true, "key": {"query": "k"}, "answer_timeout": 2000
        });
        let parts = spooling(s, &kafka.bootstrap(), vec![produce("/", settings)]);
        let mut rig = Rig::start(s, parts).await?;
        let http = rig.envoy.h1();
        http.post("/?k=first", "", "first-0").await?.expect(200)?;
        let writers = Writers::start(&http, 8, &[200, 202]);
        for _ in 0..2 {
            writers.wait_for(200).await?;
            kafka.node(1)?.kill()?;
            writers.wait_for(400).await?;
            let held = rig.sidecar.metric("sluice_spool_records", "").await?;
            ensure!(held >= 300.0, "{held} records are held");
            http.post("/?k=away", "", "away-0").await?.expect(202)?;
            kafka.node(1)?.restart().await?;
            writers.acked_again(400).await?;
            // Nor is anything in the spool then.
            emptied(&rig.sidecar).await?;
        }
        let accepted = writers.finish().await?;
        http.post("/?k=back", "", "back-0").await?.expect(200)?;
        let repeated = complete(&accepted, &kafka.records(&topic).await?)?;
        ensure!(repeated == 0, "{repeated} are repeated");
        rig.envoy.healthy()
    })
}

/// At an orderly end nothing is delivered twice.
#[test]
fn a_restart_repeats_nothing() -> Result<()> {
    scenario("spool-restart", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 3).await?;
        let settings = json!({"topic": topic, "value": "body", "delivery": "spooled", "key": {"query": "k"}});
        let parts = spooling(s, &kafka.bootstrap(), vec![produce("/", settings)]);
        let mut rig = Rig::start(s, parts).await?;
        let writers = Writers::start(&rig.envoy.h1(), 8, &[202]);
        for _ in 0..3 {
            writers.wait_for(200).await?;
            let status = rig.sidecar.stop(Duration::from_secs(30)).await?;
            ensure!(status.success(), "{status}");
            rig.sidecar.restart().await?;
        }
        let accepted = writers.finish().await?;
        emptied(&rig.sidecar).await?;
        let repeated = complete(&accepted, &kafka.records(&topic).await?)?;
        ensure!(repeated == 0, "{repeated} are repeated");
        rig.envoy.healthy()
    })
}

/// The broker refuses a batch as a whole for one record that is too large: that one is given up, and the others
/// reach Kafka, those of its key too.
#[test]
fn what_the_broker_never_takes_is_a_dead_letter_and_holds_up_nobody() -> Result<()> {
    scenario("spool-dead", async |s| {
        let mut setup = Setup::default();
        setup = setup.property("message.max.bytes", "4000");
        let kafka = Kafka::start(s.dir(), &setup).await?;
        let (topic, late) = (s.topic("t"), s.topic("late"));
        kafka.create_topic(&topic, 1).await?;
        let parts = spooling(s, &kafka.bootstrap(), Vec::new());
        let sidecar = Sidecar::start(s.dir(), &parts.sidecar).await?;
        let rest = sidecar.rest();
        let line = |key: usize, number: usize, size: usize| {
            let value = format!("{}k{key}-{number}", "x".repeat(size));
            json!({"key": format!("k{key}"), "value": value}).to_string()
        };
        // A topic that is not there yet, with the same keys.
        let lines: Vec<String> = (0..10).map(|number| line(0, number, 0)).collect();
        let path = format!("/topics/{late}/records?delivery=spooled");
        rest.post(&path, "application/x-ndjson", lines.join("\n"))
            .await?
            .expect(202)?;
        let lines: Vec<String> = (0..200)
            .map(|number| line(number % 5, number, if number == 7 { 5000 } else { 100 }))
            .collect();
        let path = format!("/topics/{topic}/records?delivery=spooled");
        rest.post(&path, "application/x-ndjson", lines.join("\n"))
            .await?
            .expect(202)?;

        let records = kafka.wait_for_records(&topic, 199).await?;
        let accepted: BTreeMap<String, Vec<usize>> = (0..5)
            .map(|key| {
                (
                    format!("k{key}"),
                    (0..200).filter(|n| n % 5 == key && *n != 7).collect(),
                )
            })
            .collect();
        complete(&accepted, &records)?;
        ensure!(records.len() == 199, "{}", records.len());
        wait::until("it is given up", Duration::from_secs(20), async || {
            let dead = sidecar
                .metric("sluice_spool_dead_letters_total", "too_large")
                .await?;
            ensure!(dead == 1.0, "{dead}");
            Ok(())
        })
        .await?;
        kafka.create_topic(&late, 1).await?;
        let records = kafka.wait_for_records(&late, 10).await?;
        complete(&[("k0".to_owned(), (0..10).collect())].into(), &records)?;
        emptied(&sidecar).await
    })
}

/// What the broker never takes where it was for goes to another topic, once that takes it; until then it is kept.
#[test]
fn a_dead_letter_reaches_its_topic() -> Result<()> {
    scenario("spool-letters", async |s| {
        let setup = Setup::default().property("message.max.bytes", "4000");
        let kafka = Kafka::start(s.dir(), &setup).await?;
        let (topic, dead) = (s.topic("t"), s.topic("dead"));
        kafka.create_topic(&topic, 3).await?;
        kafka.create_topic(&dead, 1).await?;
        let parts =
            spooling(s, &kafka.bootstrap(), Vec::new()).sidecar("spool/dead_letters", json!({"topic": dead}));
        let sidecar = Sidecar::start(s.dir(), &parts.sidecar).await?;
        let rest = sidecar.rest();
        let path = format!("/topics/{topic}/records?delivery=spooled");
        let large = "x".repeat(5000);
        let line =
            json!({"key": "k", "value": large, "partition": 2, "headers": [{"name": "own", "value": "1"}]});
        rest.post(&path, "application/x-ndjson", line.to_string())
            .await?
            .expect(202)?;
        wait::until("its topic refuses it", Duration::from_secs(30), async || {
            let refused = sidecar
                .metric("sluice_spool_dead_letters_sent_total", "too_large")
                .await?;
            ensure!(refused >= 1.0, "{refused}");
            Ok(())
        })
        .await?;
        ensure!(sidecar.metric("sluice_spool_dead_records", "").await? == 1.0);
        kafka.set_topic(&dead, "max.message.bytes=100000").await?;
        let record = kafka.wait_for_records(&dead, 1).await?.remove(0);
        ensure!(record.key.as_deref() == Some(b"k") && record.text()? == large);
        let header = |name: &str| record.header(name).unwrap_or_default().to_owned();
        ensure!(header("own") == "1", "{:?}", record.headers);
        let found = ["cluster", "producer", "topic", "partition", "code"]
            .map(|name| header(&format!("__sluice.errors.{name}")));
        ensure!(found[1..] == ["default", &topic, "2", "too_large"], "{found:?}");
        ensure!(header("__sluice.errors.message").contains("Message size too large"));
        wait::until("it leaves the spool", Duration::from_secs(20), async || {
            ensure!(sidecar.metric("sluice_spool_dead_records", "").await? == 0.0);
            Ok(())
        })
        .await
    })
}
