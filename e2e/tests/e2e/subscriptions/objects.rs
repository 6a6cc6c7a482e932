//! Several sidecars call one Virtual Object for the records of two topics.

use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use sluice_e2e::kafka::{Kafka, Setup};
use sluice_e2e::scenario::scenario_within;
use sluice_e2e::sidecar::Sidecar;
use sluice_e2e::{Result, ensure, wait};

use super::checked::{
    Handler, PARTITIONS, PATIENCE, Writer, all_committed, all_taken, each_has, ended, sidecars,
};

const GROUP: &str = "sluice-Cart";
const JSON: &str = "application/json";

/// Waits until a sidecar knows what the API made.
async fn ready(sidecar: &Sidecar, subscriptions: usize) -> Result<()> {
    wait::until("the state is known", PATIENCE, async || {
        let told = sidecar.admin().get("/subscriptions").await?.expect(200)?.json()?;
        let list = told.get("subscriptions").and_then(Value::as_array);
        let state = told.get("state").and_then(Value::as_str);
        ensure!(
            state == Some("ready") && list.map_or(0, Vec::len) == subscriptions,
            "{told}"
        );
        Ok(())
    })
    .await
}

/// Registers the object, and a subscription of each topic.
async fn make(sidecar: &Sidecar, handler: &Handler, topics: &[(&str, &str)]) -> Result<()> {
    let manifest = json!({"services": [{"name": "Cart", "ty": "VIRTUAL_OBJECT", "handlers": [
        {"name": "add", "ty": "EXCLUSIVE"}, {"name": "order", "ty": "EXCLUSIVE"},
    ]}]});
    let uri = format!("http://127.0.0.1:{}", handler.port);
    let deployment = json!({"uri": uri, "manifest": manifest}).to_string();
    let admin = sidecar.admin();
    admin.post("/deployments", JSON, deployment).await?.expect(201)?;
    for (topic, of) in topics {
        let subscription = json!({
            "source": format!("kafka://main/{topic}"),
            "sink": format!("service://Cart/{of}"),
            "options": {
                "concurrency": 32,
                "retry": {"initial_interval": "50ms", "max_interval": "200ms"},
                "auto.offset.reset": "earliest",
                "session.timeout.ms": 3000,
                "heartbeat.interval.ms": 300,
            },
        });
        let made = admin
            .post("/subscriptions", JSON, subscription.to_string())
            .await?;
        made.expect(201)?;
    }
    Ok(())
}

#[test]
fn a_key_is_with_one_handler_at_a_time_whatever_topic_it_comes_by() -> Result<()> {
    scenario_within(Duration::from_secs(400), "subscriptions-objects", async |s| {
        let kafka = Kafka::start(
            s.dir(),
            &Setup::default().property("group.min.session.timeout.ms", "1000"),
        )
        .await?;
        let (carts, orders) = (s.topic("carts"), s.topic("orders"));
        for topic in [&carts, &orders] {
            kafka.create_topic(topic, PARTITIONS).await?;
        }
        let committed = async || -> Result<()> {
            all_committed(&kafka, GROUP, &carts).await?;
            all_committed(&kafka, GROUP, &orders).await
        };
        let handler = Handler::start().await?;
        let settings: Value = json!({
            "clusters": {"main": {"bootstrap_servers": kafka.bootstrap(), "allowed_topics": ["*"]}},
            "state": {"cluster": "main", "topic": s.topic("state"), "replication_factor": 1},
            "held": {"replication_factor": 1},
            "egress": {"allow": [{"hosts": ["127.0.0.1"], "ports": [handler.port], "cidrs": ["127.0.0.0/8"]}]},
        });
        let mut all = sidecars(s, &settings, 3).await?;
        let first = all.first().context("the first")?;
        ready(first, 0).await?;
        make(first, &handler, &[(&carts, "add"), (&orders, "order")]).await?;
        for sidecar in &all {
            ready(sidecar, 2).await?;
        }
        // Four of each topic: the same of both.
        each_has(&all, 8.0).await?;
        let mut writer = Writer::new(&kafka, &[&carts, &orders])?;

        // One ends in good order and comes back under load.
        for round in 0..6 {
            writer.write(450)?;
            match round {
                2 => ended(&mut all, 2).await?,
                4 => all.get_mut(2).context("the third")?.restart().await?,
                _ => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
        all_taken(&handler, writer.written).await?;
        committed().await?;
        handler.seen().each_once()?;
        each_has(&all, 8.0).await?;

        // One is killed and comes back under load.
        for round in 0..8 {
            writer.write(450)?;
            match round {
                2 => all.get_mut(0).context("the first")?.kill()?,
                5 => all.get_mut(0).context("the first")?.restart().await?,
                _ => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
        all_taken(&handler, writer.written).await?;
        committed().await?;
        let around = handler.seen().duplicates();
        println!(
            "{around} of {} records were delivered twice around a kill",
            writer.written
        );

        // And once again, when all are back.
        each_has(&all, 8.0).await?;
        writer.write(900)?;
        all_taken(&handler, writer.written).await?;
        committed().await?;
        {
            let seen = handler.seen();
            let after = seen.duplicates() - around;
            ensure!(after == 0, "{after} twice after it");
            // A request of the sidecar that was killed is over when its connection breaks, which this handler heeds.
            ensure!(
                seen.overlaps == 0,
                "{} requests beside another of their key",
                seen.overlaps
            );
            seen.all_in_order(&writer)?;
        }
        for n in 0..all.len() {
            ended(&mut all, n).await?;
        }
        Ok(())
    })
}
