//! A member of the group that is not ours.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use sluice_e2e::kafka;
use sluice_e2e::rig::Rig;
use sluice_e2e::scenario::scenario_within;
use sluice_e2e::{Context, Result, anyhow, ensure, wait};

use super::world::{Stream, expected, fill, items, page, parts, values};
use super::{LIMIT, PATIENCE};

/// A member that is not ours, on a thread of its own: what it reads, and which partitions it has.
struct Foreign {
    read: Arc<Mutex<Vec<(i64, i64)>>>,
    has: Arc<Mutex<BTreeSet<i64>>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Foreign {
    fn join(bootstrap: &str, group: &str, topic: &str) -> Result<Self> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", group)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "200")
            .set("auto.offset.reset", "earliest")
            .create()?;
        consumer.subscribe(&[topic])?;
        let (read, has, stop) = (
            Arc::new(Mutex::new(Vec::new())),
            Arc::new(Mutex::new(BTreeSet::new())),
            Arc::new(AtomicBool::new(false)),
        );
        let (reads, having, stopped) = (Arc::clone(&read), Arc::clone(&has), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100))
                    && let Ok(mut read) = reads.lock()
                {
                    read.push((i64::from(message.partition()), message.offset()));
                }
                if let (Ok(list), Ok(mut has)) = (consumer.assignment(), having.lock()) {
                    *has = list
                        .elements()
                        .iter()
                        .map(|element| i64::from(element.partition()))
                        .collect();
                }
            }
        });
        Ok(Self {
            read,
            has,
            stop,
            thread: Some(thread),
        })
    }
}

#[test]
fn a_foreign_member_takes_part_and_kafkas_tool_sees_the_positions() -> Result<()> {
    scenario_within(LIMIT, "groups-foreign", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 4).await?;
        let rig = Rig::start(s, parts(kafka, &topic, "at-best")?).await?;
        let client = rig.envoy.h1();
        // A single reader needs no member.
        fill(kafka, &topic, 0..40).await?;
        let path = format!("/topics/{topic}/records?group=app.foreign");
        let mut seen = Vec::new();
        while seen.len() < 40 {
            seen.extend(items(&page(&client, &path).await?));
        }
        ensure!(values(&seen) == expected(40) && seen.len() == 40);
        ensure!(rig.sidecar.metric("sluice_read_members", "").await? < 0.5);
        let sum = async || -> Result<(i64, i64)> {
            let offsets = kafka.group_offsets("app.foreign").await?;
            ensure!(
                offsets.len() == 4 && offsets.iter().all(|(name, ..)| *name == topic),
                "{offsets:?}"
            );
            let of = |number: Option<i64>| number.unwrap_or_default();
            Ok((
                offsets.iter().map(|one| of(one.2)).sum(),
                offsets.iter().map(|one| of(one.3)).sum(),
            ))
        };
        wait::until("Kafka's tool sees it", PATIENCE, async || {
            let (committed, lag) = sum().await?;
            ensure!(
                committed == 40 && lag == 0,
                "{committed} committed, {lag} to come"
            );
            Ok(())
        })
        .await?;
        // With another member the reader is one too: Kafka would not take its positions else.
        let foreign = Foreign::join(&kafka.bootstrap(), "app.foreign", &topic)?;
        let theirs = || {
            foreign
                .has
                .lock()
                .map(|has| has.clone())
                .map_err(|_| anyhow!("poisoned"))
        };
        wait::until("the other has joined", PATIENCE, async || {
            ensure!(theirs()?.len() == 4);
            Ok(())
        })
        .await?;
        let stream = Stream::start(
            rig.envoy.port(),
            &format!("/topics/{topic}/stream?group=app.foreign"),
        )?;
        wait::until("they share", PATIENCE, async || {
            let (ours, theirs) = (stream.has()?, theirs()?);
            ensure!(
                ours.len() == 2 && theirs.len() == 2 && ours.is_disjoint(&theirs),
                "{ours:?} {theirs:?}"
            );
            Ok(())
        })
        .await?;
        ensure!((rig.sidecar.metric("sluice_read_members", "").await? - 1.0).abs() < 0.5);
        fill(kafka, &topic, 40..140).await?;
        let read = || {
            foreign
                .read
                .lock()
                .map(|read| read.clone())
                .map_err(|_| anyhow!("poisoned"))
        };
        wait::until("all is read once", PATIENCE, async || {
            let (ours, theirs) = (stream.records()?, read()?);
            ensure!(
                ours.len() + theirs.len() == 100,
                "{} and {}",
                ours.len(),
                theirs.len()
            );
            Ok(())
        })
        .await?;
        let mut places: BTreeMap<(i64, i64), usize> = BTreeMap::new();
        for place in stream.records()?.iter().map(|(place, _)| *place).chain(read()?) {
            *places.entry(place).or_default() += 1;
        }
        ensure!(places.len() == 100, "some came to both");
        // A poll has its part too, and what it is told of the group is what Kafka's tool says.
        drop(foreign);
        wait::until("the stream has all", PATIENCE, async || {
            ensure!(stream.has()?.len() == 4);
            Ok(())
        })
        .await?;
        wait::until("all is committed", PATIENCE, async || {
            let page = page(&client, &format!("/topics/{topic}?group=app.foreign")).await?;
            let partitions = page["partitions"].as_array().context("partitions")?;
            let sum = |name: &str| -> i64 { partitions.iter().filter_map(|one| one[name].as_i64()).sum() };
            ensure!(sum("committed") == 140 && sum("lag") == 0, "{page}");
            Ok(())
        })
        .await?;
        ensure!(sum().await? == (140, 0));
        Ok(())
    })
}
