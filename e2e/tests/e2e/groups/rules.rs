//! Rules of groups: whose id begins with the organisation's, or is the user's name, may be used, and no other.

use serde_json::{Value, json};
use sluice_e2e::envoy::reads;
use sluice_e2e::kafka::{Kafka, Setup};
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::{Scenario, scenario_within};
use sluice_e2e::sidecar::Sidecar;
use sluice_e2e::{Result, ensure, wait};

use super::world::{fill, items};
use super::{LIMIT, PATIENCE};

const JSON: &str = "application/json";

/// The rules of `reads`, by topic: by name on the one, any on the other. Whose token is in which file is said by its name.
fn entries(s: &Scenario, ruled: &str, open: &str) -> Result<Value> {
    let mut tokens = Vec::new();
    for name in ["deploy-bot", "anna"] {
        let file = s.dir().join(name);
        std::fs::write(&file, token(name))?;
        tokens.push(json!({"file": file, "name": name}));
    }
    let entry = |topic: &str, groups: Value| {
        json!({
            "topics": [topic], "tokens": tokens, "encodeMessageId": false, "max_wait": 500,
            "auto_offset_reset": "earliest", "groups": groups,
        })
    };
    Ok(json!([
        entry(ruled, json!(["acme.*", "{name}"])),
        entry(open, json!(["*"]))
    ]))
}

fn token(name: &str) -> String {
    format!("the-token-of-{name}")
}

#[test]
fn groups_begin_with_the_organisation_or_are_the_users_and_others_are_403() -> Result<()> {
    scenario_within(LIMIT, "groups-rules", async |s| {
        let kafka = Kafka::start(s.dir(), &Setup::default()).await?;
        let (ruled, open) = (s.topic("ruled"), s.topic("open"));
        for topic in [&ruled, &open] {
            kafka.create_topic(topic, 1).await?;
            fill(&kafka, topic, 0..3).await?;
        }
        let parts = Parts::new(&kafka.bootstrap(), vec![reads()?])
            .sidecar("reads", entries(s, &ruled, &open)?)
            .sidecar(
                "clusters/main/consumer",
                json!({"groups": ["acme.*", "deploy-bot"]}),
            )
            .sidecar(
                "state",
                json!({"cluster": "main", "topic": s.topic("state"), "replication_factor": 1}),
            )
            .sidecar(
                "egress",
                json!({"allow": [{"hosts": ["127.0.0.1"], "cidrs": ["127.0.0.0/8"]}]}),
            );
        let settings = parts.sidecar.clone();
        let rig = Rig::start(s, parts).await?;
        let client = rig.envoy.h1();
        let page = async |name: &str, topic: &str, group: &str| {
            let path = format!("/topics/{topic}/records?group={group}");
            let request = client
                .request(hyper::Method::GET, &path)
                .header("authorization", format!("Bearer {}", token(name)));
            client.send(request.body(sluice_e2e::client::full(""))?).await
        };

        // Each reads by the groups that are its, which Kafka knows then.
        for (name, group) in [
            ("deploy-bot", "acme.billing"),
            ("anna", "acme.search"),
            ("deploy-bot", "deploy-bot"),
        ] {
            wait::until("it reads by its group", PATIENCE, async || {
                let reply = page(name, &ruled, group).await?;
                let found = items(&reply.expect(200)?.json()?);
                ensure!(!found.is_empty(), "nothing by {group} yet");
                Ok(())
            })
            .await?;
            ensure!(
                kafka.group_type(group).await?.is_some(),
                "Kafka has no group {group}"
            );
        }
        // The entry's rule, and behind it the cluster's: each is named, and Kafka never hears of the group.
        let by_entry = "its groups are acme.*, {name}";
        let by_cluster = "clusters.main.consumer.groups allows: acme.*, deploy-bot";
        for (name, topic, group, rule) in [
            ("anna", &ruled, "other.billing", by_entry),
            ("anna", &ruled, "acmex", by_entry),
            ("anna", &ruled, "deploy-bot", by_entry),
            // It is called as the user is, but the cluster has no such group.
            ("anna", &ruled, "anna", by_cluster),
            ("anna", &open, "other.billing", by_cluster),
        ] {
            let refused = page(name, topic, group).await?;
            refused.expect_error(403, "group_not_allowed")?;
            ensure!(refused.text().contains(rule), "{group}: {}", refused.text());
        }

        ensure!(
            kafka.group_type("other.billing").await?.is_none(),
            "Kafka has the group"
        );

        // Subscriptions that are made by the API.
        let admin = rig.sidecar.admin();
        let subscription = |group: &str| {
            json!({
                "source": format!("kafka://main/{open}"), "sink": "http://127.0.0.1:9/hook",
                "options": {"group.id": group, "auto.offset.reset": "earliest"},
            })
        };
        wait::until("the state is known", PATIENCE, async || {
            let told = admin.get("/subscriptions").await?.expect(200)?.json()?;
            ensure!(told["state"] == "ready", "{told}");
            Ok(())
        })
        .await?;
        let refused = admin
            .post("/subscriptions", JSON, subscription("other.hook").to_string())
            .await?;
        refused.expect_error(422, "invalid")?;
        ensure!(refused.text().contains(by_cluster), "{}", refused.text());
        let made = admin
            .post("/subscriptions", JSON, subscription("acme.hook").to_string())
            .await?;
        made.expect(201)?;
        // And of a configuration: the sidecar does not start.
        let mut wrong = settings;
        wrong["subscriptions"] = json!({"hook": subscription("other.hook")});
        let dir = s.within("wrong")?;
        let ended = Sidecar::start(dir.dir(), &wrong).await;
        let why = ended.err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(why.contains(by_cluster), "it is not refused: {why}");
        Ok(())
    })
}
