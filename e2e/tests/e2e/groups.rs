//! Readers whose position is a consumer group's: on real Kafka, with other members than ours, and by several sidecars.

mod foreign;
mod rules;
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_e2e::kafka::{self, Kafka, Setup};
use sluice_e2e::rig::Rig;
use sluice_e2e::scenario::scenario_within;
use sluice_e2e::{Context, Result, ensure, wait};

use self::world::{Found, Stream, expected, fill, items, page, parts, two, values};

const PATIENCE: Duration = Duration::from_secs(90);
const LIMIT: Duration = Duration::from_secs(400);

#[test]
fn two_sidecars_share_a_group_until_one_is_killed() -> Result<()> {
    scenario_within(LIMIT, "groups-killed", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 6).await?;
        let (rig, mut other) = two(s, parts(kafka, &topic, "at-least-once")?).await?;
        let path = format!("/topics/{topic}/stream?group=app.killed");
        let one = Stream::start(rig.envoy.port(), &path)?;
        let two = Stream::start(other.data(), &path)?;
        wait::until("they share", PATIENCE, async || {
            ensure!(
                one.has()?.len() == 3 && two.has()?.len() == 3,
                "{:?} {:?}",
                one.has()?,
                two.has()?
            );
            Ok(())
        })
        .await?;
        ensure!(one.has()?.is_disjoint(&two.has()?));
        fill(kafka, &topic, 0..300).await?;
        wait::until("both read", PATIENCE, async || {
            let all = values(one.records()?.iter().chain(&two.records()?));
            ensure!(all == expected(300), "{} of them", all.len());
            Ok(())
        })
        .await?;
        let before = one.records()?.len();
        ensure!(
            before + two.records()?.len() == 300,
            "each record came once while nothing moved"
        );
        other.kill()?;
        fill(kafka, &topic, 300..400).await?;
        wait::until("the other's partitions came", PATIENCE, async || {
            let all = values(&one.records()?);
            ensure!(all == expected(400), "{} of them", all.len());
            Ok(())
        })
        .await?;
        // What came twice is what the dead one's client had and did not acknowledge.
        let theirs = values(&two.records()?);
        let mut once = BTreeSet::new();
        for (place, value) in one.records()? {
            ensure!(once.insert(place), "{value} came to one client twice");
        }
        let mine: BTreeSet<String> = one
            .records()?
            .iter()
            .take(before)
            .map(|(_, value)| value.clone())
            .collect();
        ensure!(
            mine.is_disjoint(&theirs),
            "while both were there none came to both"
        );
        ensure!(one.has()?.len() == 6);
        Ok(())
    })
}

/// A generator of numbers, so that a failure can be had again (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

#[test]
fn who_acknowledges_misses_nothing_and_has_nothing_acknowledged_again() -> Result<()> {
    scenario_within(LIMIT, "groups-resumed", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 3).await?;
        let (rig, other) = two(s, parts(kafka, &topic, "at-least-once")?).await?;
        fill(kafka, &topic, 0..100).await?;
        let clients = [rig.envoy.h1(), other.rest()];
        let mut chance = Chance(0x9E37_79B9_7F4A_7C15);
        let (mut seen, mut acknowledged) = (BTreeSet::new(), BTreeSet::new());
        let mut last: Option<(String, Vec<(i64, i64)>)> = None;
        let (mut at, mut quiet, mut written) = (0_usize, 0, 100);
        // It comes back to where it was or to the other sidecar, has an answer lost and asks again, or forgets its cursor.
        let stop = tokio::time::Instant::now() + Duration::from_secs(300);
        while quiet < 4 || seen.len() < 200 {
            ensure!(
                tokio::time::Instant::now() < stop,
                "{} of 200 after all this time",
                seen.len()
            );
            if chance.below(16) == 0 {
                at = 1 - at;
            }
            if written < 200 && chance.below(4) == 0 {
                fill(kafka, &topic, written..written + 50).await?;
                written += 50;
            }
            let limit = 1 + chance.below(30);
            let mut path = format!("/topics/{topic}/records?group=app.resumed&limit={limit}");
            if let Some((cursor, _)) = &last {
                path += &format!("&cursor={cursor}");
            }
            let client = clients.get(at).context("a client")?;
            let reply = client.get(&path).await?;
            if reply.status == 503 {
                // A group that is on the move.
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
            let page = reply.expect(200)?.json()?;
            if let Some((_, places)) = &last {
                acknowledged.extend(places.iter().copied());
            }
            let found = items(&page);
            quiet = if found.is_empty() { quiet + 1 } else { 0 };
            for (place, value) in &found {
                ensure!(
                    !acknowledged.contains(place),
                    "{value} at {place:?} was acknowledged: {path}"
                );
            }
            match chance.below(24) {
                0 => last = None,
                1..6 => {}
                _ => {
                    seen.extend(found.iter().map(|(place, _)| *place));
                    let next = page.pointer("/pagination/nextCursor").and_then(Value::as_str);
                    last = next.filter(|next| !next.is_empty()).map(|next| {
                        let places: Vec<(i64, i64)> = found.iter().map(|(place, _)| *place).collect();
                        (next.replace('#', "%23"), places)
                    });
                }
            }
        }
        ensure!(seen.len() == 200);
        Ok(())
    })
}

#[test]
fn a_group_that_kafka_does_not_allow_is_403() -> Result<()> {
    scenario_within(LIMIT, "groups-rights", async |s| {
        let mut setup = Setup::default();
        setup.users.push(("alice".to_owned(), "alice-secret".to_owned()));
        let kafka = Kafka::start(s.dir(), &setup).await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 1).await?;
        fill(&kafka, &topic, 0..3).await?;
        for operation in ["Read", "Describe", "Write"] {
            kafka.allow("alice", operation, &topic).await?;
        }
        let mut parts = parts(&kafka, &topic, "at-least-once")?;
        parts.sidecar["clusters"]["main"] = json!({
            "bootstrap_servers": kafka.sasl_bootstrap(),
            "authentication": {"strategy": "sasl", "mechanism": "PLAIN", "user": "alice", "password": "alice-secret"},
        });
        let rig = Rig::start(s, parts).await?;
        let client = rig.envoy.h1();
        for path in ["records?group=app.rights", "stream?group=app.rights"] {
            wait::until("it is refused", PATIENCE, async || {
                let answer = client.get(&format!("/topics/{topic}/{path}")).await?;
                if path.starts_with("stream") {
                    // It was open before Kafka was asked: it says so, and ends.
                    ensure!(answer.text().contains("not_authorised"), "{}", answer.text());
                    return Ok(());
                }
                answer.expect_error(403, "not_authorised")?;
                Ok(())
            })
            .await?;
        }
        client
            .get(&format!("/topics/{topic}?group=app.rights"))
            .await?
            .expect_error(403, "not_authorised")?;
        kafka.allow_group("alice", "Read", "app.rights").await?;
        wait::until("it is allowed", PATIENCE, async || {
            let page = page(&client, &format!("/topics/{topic}/records?group=app.rights")).await?;
            ensure!(items(&page).len() == 3, "{page}");
            Ok(())
        })
        .await
    })
}

#[test]
fn a_sidecar_that_is_told_to_stop_hands_its_partitions_over_at_once() -> Result<()> {
    scenario_within(LIMIT, "groups-stopped", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 2).await?;
        let mut parts = parts(kafka, &topic, "at-best")?;
        parts.sidecar["clusters"]["main"]["properties"] = json!({"session.timeout.ms": 120_000});
        let (rig, mut other) = two(s, parts).await?;
        let path = format!("/topics/{topic}/stream?group=app.stopped");
        let one = Stream::start(rig.envoy.port(), &path)?;
        let two = Stream::start(other.data(), &path)?;
        wait::until("they share", PATIENCE, async || {
            ensure!(one.has()?.len() == 1 && two.has()?.len() == 1);
            Ok(())
        })
        .await?;
        fill(kafka, &topic, 0..100).await?;
        wait::until("both read", PATIENCE, async || {
            ensure!(one.records()?.len() + two.records()?.len() == 100);
            Ok(())
        })
        .await?;
        other.stop(Duration::from_secs(60)).await?;
        // Its session would last longer than this waits.
        wait::until("the other's partition came", PATIENCE, async || {
            ensure!(one.has()?.len() == 2);
            Ok(())
        })
        .await?;
        fill(kafka, &topic, 100..120).await?;
        wait::until("all came", PATIENCE, async || {
            ensure!(one.records()?.len() + two.records()?.len() >= 120);
            Ok(())
        })
        .await?;
        // What was sent was committed when the partition moved: nothing came twice.
        let all: Vec<Found> = one.records()?.into_iter().chain(two.records()?).collect();
        ensure!(
            all.len() == 120 && values(&all) == expected(120),
            "{} records",
            all.len()
        );
        Ok(())
    })
}

#[test]
fn members_may_agree_by_the_brokers_own_protocol() -> Result<()> {
    scenario_within(LIMIT, "groups-kip848", async |s| {
        let kafka = kafka::shared().await?;
        let topic = s.topic("t");
        kafka.create_topic(&topic, 4).await?;
        let mut parts = parts(kafka, &topic, "at-best")?;
        parts.sidecar["clusters"]["main"]["properties"] = json!({"group.protocol": "consumer"});
        let rig = Rig::start(s, parts).await?;
        let path = format!("/topics/{topic}/stream?group=app.kip848");
        let one = Stream::start(rig.envoy.port(), &path)?;
        let two = Stream::start(rig.envoy.port(), &path)?;
        wait::until("they share", PATIENCE, async || {
            let (one, two) = (one.has()?, two.has()?);
            ensure!(
                one.len() == 2 && two.len() == 2 && one.is_disjoint(&two),
                "{one:?} {two:?}"
            );
            Ok(())
        })
        .await?;
        fill(kafka, &topic, 0..100).await?;
        wait::until("both read", PATIENCE, async || {
            let (one, two) = (one.records()?, two.records()?);
            ensure!(one.len() + two.len() == 100, "{} and {}", one.len(), two.len());
            ensure!(values(one.iter().chain(&two)) == expected(100));
            Ok(())
        })
        .await?;
        wait::until("Kafka's tool sees it", PATIENCE, async || {
            let offsets = kafka.group_offsets("app.kip848").await?;
            let committed: i64 = offsets.iter().filter_map(|one| one.2).sum();
            ensure!(committed == 100, "{offsets:?}");
            Ok(())
        })
        .await
    })
}
