//! Subscriptions on a real Kafka: several sidecars share one, are killed, and a handler checks what it is given.

pub(crate) mod checked;
mod objects;

use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use sluice_e2e::kafka::{Kafka, Setup};
use sluice_e2e::scenario::scenario_within;
use sluice_e2e::{Result, ensure, wait};

use self::checked::{
    Handler, PARTITIONS, PATIENCE, Writer, all_committed, all_taken, each_has, ended, sidecars, sum,
};

const ID: &str = "checked";

/// What a sidecar is started with: one subscription, of that topic, for that handler.
fn settings(kafka: &Kafka, topic: &str, handler: &Handler, options: Value) -> Value {
    json!({
        "clusters": {"main": {"bootstrap_servers": kafka.bootstrap(), "allowed_topics": ["*"]}},
        "subscriptions": {ID: {
            "source": format!("kafka://main/{topic}"),
            "sink": format!("http://127.0.0.1:{}/", handler.port),
            "options": options,
        }},
    })
}

#[test]
fn sidecars_are_killed_and_nothing_is_lost_or_out_of_order() -> Result<()> {
    scenario_within(Duration::from_secs(400), "subscriptions", async |s| {
        let kafka = Kafka::start(
            s.dir(),
            &Setup::default().property("group.min.session.timeout.ms", "1000"),
        )
        .await?;
        let topic = s.topic("orders");
        kafka.create_topic(&topic, PARTITIONS).await?;
        let handler = Handler::start().await?;
        let settings = settings(
            &kafka,
            &topic,
            &handler,
            json!({
                "concurrency": 64,
                "retry": {"initial_interval": "50ms", "max_interval": "200ms"},
                "auto.offset.reset": "earliest",
                "session.timeout.ms": 3000,
                "heartbeat.interval.ms": 300,
            }),
        );
        let mut all = sidecars(s, &settings, 3).await?;
        let mut writer = Writer::new(&kafka, &[&topic])?;
        each_has(&all, 4.0).await?;

        // Nobody goes away: everything once, but for what the handler refused.
        writer.write(1500)?;
        writer.poison()?;
        writer.write(1500)?;
        all_taken(&handler, writer.written).await?;
        handler.seen().each_once()?;
        all_committed(&kafka, ID, &topic).await?;

        // Two end in good order and come back, while records come and keys fail: nothing comes twice for it.
        for round in 0..12 {
            writer.write(300)?;
            let of = usize::from(round >= 6);
            match round % 6 {
                1 => ended(&mut all, of).await?,
                4 => all.get_mut(of).context("one")?.restart().await?,
                _ => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
        all_taken(&handler, writer.written).await?;
        all_committed(&kafka, ID, &topic).await?;
        handler.seen().each_once()?;
        each_has(&all, 4.0).await?;

        // One is killed and comes back, and records come all the while.
        for round in 0..8 {
            writer.write(400)?;
            match round {
                2 => all.get_mut(0).context("the first")?.kill()?,
                5 => all.get_mut(0).context("the first")?.restart().await?,
                _ => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
        all_taken(&handler, writer.written).await?;
        all_committed(&kafka, ID, &topic).await?;
        let around = handler.seen().duplicates();
        println!(
            "{around} of {} records were delivered twice around a kill",
            writer.written
        );

        // And once again, when all are back.
        writer.write(1500)?;
        all_taken(&handler, writer.written).await?;
        all_committed(&kafka, ID, &topic).await?;
        {
            let seen = handler.seen();
            ensure!(
                seen.duplicates() == around,
                "{} twice after it",
                seen.duplicates() - around
            );
            // A request of a sidecar that was killed is over when its connection breaks, which this handler heeds.
            ensure!(
                seen.overlaps == 0,
                "{} requests beside another of their key",
                seen.overlaps
            );
            seen.all_in_order(&writer)?;
            ensure!(seen.poison >= 1, "the poison record never came");
        }
        wait::until("the poison record is parked", PATIENCE, async || {
            let parked = sum(&all, "sluice_subscription_held_events", "parked").await?;
            let others = sum(&all, "sluice_subscription_held_events", "").await? - parked;
            ensure!(
                (parked - 1.0).abs() < 0.1 && others < 0.1,
                "{parked} parked, {others} others"
            );
            Ok(())
        })
        .await?;
        for n in 0..all.len() {
            ended(&mut all, n).await?;
        }
        Ok(())
    })
}

#[test]
fn members_may_agree_by_the_brokers_own_protocol() -> Result<()> {
    scenario_within(Duration::from_secs(300), "subscriptions-kip848", async |s| {
        let kafka = Kafka::start(
            s.dir(),
            &Setup::default()
                .property("group.consumer.min.session.timeout.ms", "3000")
                .property("group.consumer.session.timeout.ms", "3000")
                .property("group.consumer.min.heartbeat.interval.ms", "500")
                .property("group.consumer.heartbeat.interval.ms", "500"),
        )
        .await?;
        let topic = s.topic("orders");
        kafka.create_topic(&topic, PARTITIONS).await?;
        let handler = Handler::start().await?;
        let settings = settings(
            &kafka,
            &topic,
            &handler,
            json!({
                "concurrency": 32,
                "retry": {"initial_interval": "50ms", "max_interval": "200ms"},
                "auto.offset.reset": "earliest",
                "group.protocol": "consumer",
            }),
        );
        let mut all = sidecars(s, &settings, 2).await?;
        let mut writer = Writer::new(&kafka, &[&topic])?;
        each_has(&all, 6.0).await?;
        let protocol = kafka.group_type(ID).await?;
        ensure!(protocol.as_deref() == Some("Consumer"), "{protocol:?}");
        writer.write(1500)?;
        all_taken(&handler, writer.written).await?;
        all_committed(&kafka, ID, &topic).await?;
        handler.seen().each_once()?;

        // One leaves in good order and comes back, another is killed, each while records come.
        writer.write(500)?;
        ended(&mut all, 1).await?;
        writer.write(500)?;
        all_taken(&handler, writer.written).await?;
        all_committed(&kafka, ID, &topic).await?;
        all.get_mut(1).context("the second")?.restart().await?;
        writer.write(500)?;
        each_has(&all, 6.0).await?;
        all_taken(&handler, writer.written).await?;
        handler.seen().each_once()?;
        writer.write(500)?;
        all.get_mut(0).context("the first")?.kill()?;
        writer.write(500)?;
        all_taken(&handler, writer.written).await?;
        all_committed(&kafka, ID, &topic).await?;
        let seen = handler.seen();
        println!(
            "{} of {} records were delivered twice when a member was killed",
            seen.duplicates(),
            writer.written
        );
        ensure!(
            seen.overlaps <= seen.duplicates(),
            "{} requests beside another of their key, and {} duplicates",
            seen.overlaps,
            seen.duplicates()
        );
        seen.all_in_order(&writer)
    })
}
