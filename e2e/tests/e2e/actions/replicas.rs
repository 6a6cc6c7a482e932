//! Several sidecars on one Kafka: they agree, and what one accepted is told whatever becomes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use hyper::Method;
use serde_json::{Value, json};
use sluice_e2e::kafka::{self, Kafka};
use sluice_e2e::scenario::{Scenario, scenario};
use sluice_e2e::sidecar::Sidecar;
use sluice_e2e::{Context, Result, ensure, wait};

use super::{Caller, PATIENCE, list, may, of_key, settings, text};

const WRITERS: usize = 10;
const TURNS: usize = 20;
const RUNS: usize = 4;

fn org() -> Value {
    json!({
        "access": [may("all", "anna", &["invoke", "report", "see", "manage"])],
        "clients": {"agent": {"secret": "a-secret-of-the-agent", "may": ["see"]}},
        "actions": [{
            "identifier": "deploy",
            "trigger": {
                "type": "self-service", "operation": "CREATE",
                "userInputs": {"properties": {"n": {"type": "integer"}}},
            },
            "invocationMethod": {"type": "KAFKA", "payload": {"n": "{{ .inputs.n }}"}},
        }],
    })
}

async fn sidecar(s: &Scenario, name: &str, settings: &Value) -> Result<Sidecar> {
    let dir: PathBuf = s.dir().join(name);
    std::fs::create_dir_all(&dir)?;
    let sidecar = Sidecar::start(&dir, settings).await?;
    Caller::new(sidecar.rest(), "all").ready().await?;
    Ok(sidecar)
}

/// What one writer was answered: the labels that were accepted, by run, in order; and how many were refused.
async fn write(caller: Caller, writer: usize, runs: Vec<String>) -> Result<(Vec<(String, String)>, usize)> {
    let (mut accepted, mut refused) = (Vec::new(), 0);
    for turn in 0..TURNS {
        let run = runs.get(turn % RUNS).context("no run")?;
        let label = format!("w{writer}-{turn}");
        let body = json!({"statusLabel": label});
        let reply = caller.patch(&format!("/v1/actions/runs/{run}"), body).await?;
        match reply.status {
            200 => {
                ensure!(reply.json()?["run"]["statusLabel"] == label.as_str(), "{reply:?}");
                accepted.push((run.clone(), label));
            }
            409 => refused += 1,
            _ => ensure!(false, "{reply:?}"),
        }
    }
    Ok((accepted, refused))
}

#[test]
fn sidecars_agree_on_what_was_accepted_of_conflicting_changes() -> Result<()> {
    scenario("actions-replicas", async |s| {
        let kafka = kafka::shared().await?;
        let id = s.name();
        let settings = settings(s, kafka, json!({id: org()}));
        let mut one = sidecar(s, "one", &settings).await?;
        let mut two = sidecar(s, "two", &settings).await?;
        let (at_one, at_two) = (Caller::new(one.rest(), "all"), Caller::new(two.rest(), "all"));

        // What one answered, the other knows at once: a run, an action, an entity, a line, a token.
        let mut runs = Vec::new();
        for n in 0..RUNS {
            let run = at_one.start("deploy", json!({"properties": {"n": n}})).await?;
            ensure!(at_two.run(&run).await?["status"] == "IN_PROGRESS");
            at_two
                .post(&format!("/v1/actions/runs/{run}/logs"), json!({"message": "m"}))
                .await?
                .expect(201)?;
            let lines = at_one.get(&format!("/v1/actions/runs/{run}/logs")).await?;
            ensure!(list(&lines.json()?, "/runLogs")?.len() == 1, "{lines:?}");
            runs.push(run);
        }
        let made = json!({
            "identifier": "made", "trigger": {"type": "self-service", "operation": "CREATE"},
            "invocationMethod": {"type": "KAFKA"},
        });
        at_two.post("/v1/actions", made.clone()).await?.expect(201)?;
        at_one
            .post("/v1/actions", made)
            .await?
            .expect_error(409, "conflict")?;
        runs.push(at_one.start("made", json!({})).await?);
        let entity = json!({"identifier": "e"});
        at_one
            .post("/v1/blueprints/b/entities", entity.clone())
            .await?
            .expect(201)?;
        at_two
            .post("/v1/blueprints/b/entities", entity)
            .await?
            .expect_error(409, "conflict")?;
        let body = json!({"clientId": "agent", "clientSecret": "a-secret-of-the-agent"});
        let told = at_one
            .post("/v1/auth/access_token", body)
            .await?
            .expect(200)?
            .json()?;
        let agent = Caller::new(two.rest(), &text(&told, "/accessToken")?);
        agent.get("/v1/actions/runs").await?.expect(200)?;

        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let caller = if writer % 2 == 0 { &at_one } else { &at_two };
            writers.spawn(write(caller.clone(), writer, runs.clone()));
        }
        let mut accepted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let (mut count, mut refused) = (0, 0);
        while let Some(written) = writers.join_next().await {
            let (labels, conflicts) = written??;
            count += labels.len();
            refused += conflicts;
            for (run, label) in labels {
                accepted.entry(run).or_default().insert(label);
            }
        }
        ensure!(count + refused == WRITERS * TURNS, "{count} and {refused}");
        ensure!(refused > 0, "nothing was in conflict");

        // Of each run the change log has every accepted change, one upon the other, and no refused one.
        let known = agree(kafka, id, &runs, &accepted, (&at_one, &at_two)).await?;
        one.kill()?;
        two.kill()?;
        for sidecar in [&mut one, &mut two] {
            sidecar.restart().await?;
        }
        let (at_one, at_two) = (Caller::new(one.rest(), "all"), Caller::new(two.rest(), "all"));
        for caller in [&at_one, &at_two] {
            caller.ready().await?;
        }
        ensure!(
            agree(kafka, id, &runs, &accepted, (&at_one, &at_two)).await? == known,
            "it is another after the restart"
        );
        for caller in [&at_one, &at_two] {
            caller.get("/v1/blueprints/b/entities/e").await?.expect(200)?;
            caller.get("/v1/actions/made").await?.expect(200)?;
        }
        println!("{count} changes were accepted, {refused} refused");
        Ok(())
    })
}

/// What both sidecars say of the runs, where it is the end of what the change log says.
async fn agree(
    kafka: &Kafka,
    org: &str,
    runs: &[String],
    accepted: &BTreeMap<String, BTreeSet<String>>,
    callers: (&Caller, &Caller),
) -> Result<Vec<Value>> {
    let topic = format!("{org}.change.log");
    let mut known = Vec::new();
    for run in runs {
        let told = wait::until("the change log has all of it", PATIENCE, async || {
            let mut told: Vec<Value> = Vec::new();
            for change in of_key(kafka, &topic, run).await? {
                // It may be told twice: then it is the same.
                match told.iter().find(|other| other["id"] == change["id"]) {
                    Some(other) => ensure!(*other == change, "{change}"),
                    None => told.push(change),
                }
            }
            let wanted = accepted.get(run).map_or(0, BTreeSet::len) + 1;
            ensure!(told.len() == wanted, "{} of {wanted}", told.len());
            Ok(told)
        })
        .await?;
        let labels: BTreeSet<String> = told
            .iter()
            .filter_map(|change| change["diff"]["after"]["statusLabel"].as_str())
            .map(str::to_owned)
            .collect();
        ensure!(
            labels == accepted.get(run).cloned().unwrap_or_default(),
            "{labels:?} of {run}"
        );
        // Each follows from one before: nothing was merged, and nothing lost.
        let mut now = Value::Null;
        let mut left = told;
        while !left.is_empty() {
            let next = left.iter().position(|change| change["diff"]["before"] == now);
            let next = next.with_context(|| format!("nothing follows {now} of {left:?}"))?;
            now = left.swap_remove(next)["diff"]["after"].take();
        }
        for caller in [callers.0, callers.1] {
            let shown = caller.run(run).await?;
            ensure!(shown == now, "{shown}\nis not\n{now}");
        }
        known.push(now);
    }
    Ok(known)
}

#[test]
fn every_accepted_run_is_on_the_topic_when_its_sidecar_was_killed() -> Result<()> {
    scenario("actions-killed", async |s| {
        let kafka = kafka::shared().await?;
        let id = s.name();
        let settings = settings(s, kafka, json!({id: org()}));
        let mut one = sidecar(s, "one", &settings).await?;
        let mut two = sidecar(s, "two", &settings).await?;
        let at_two = Caller::new(two.rest(), "all");

        let mut accepted = BTreeSet::new();
        for round in 0..3 {
            // Several at once, and the kill while others are under way.
            let mut starting = tokio::task::JoinSet::new();
            for n in 0..40 {
                let caller = Caller::new(one.rest(), "all");
                let body = json!({"properties": {"n": round * 100 + n}});
                starting.spawn(async move { caller.start("deploy", body).await });
            }
            let mut answered = 0;
            while let Some(started) = starting.join_next().await {
                // One that was not answered may be there or not.
                if let Ok(run) = started? {
                    accepted.insert(run);
                    answered += 1;
                    if answered == 20 {
                        one.kill()?;
                    }
                }
            }
            ensure!(answered >= 20, "{answered} were answered");
            if round < 2 {
                one.restart().await?;
                Caller::new(one.rest(), "all").ready().await?;
            }
        }
        // The other one tells what the first left, which is not started again.
        let topics = [format!("{id}.runs"), format!("{id}.change.log")];
        let told = wait::until("all are told", PATIENCE, async || {
            let mut twice = 0;
            for topic in &topics {
                let records = kafka.records(topic).await?;
                let keys: Vec<String> = records
                    .iter()
                    .filter_map(|record| String::from_utf8(record.key.clone()?).ok())
                    .collect();
                let all: BTreeSet<String> = keys.iter().cloned().collect();
                let missing = accepted.difference(&all).count();
                ensure!(missing == 0, "{missing} of {} are not on {topic}", accepted.len());
                twice += keys.len() - all.len();
            }
            let open = at_two
                .call(Method::GET, "/v1/actions/runs?limit=1000", None)
                .await?;
            let open = list(&open.expect(200)?.json()?, "/runs")?;
            let known: BTreeSet<String> = open.iter().map(|run| text(run, "/id")).collect::<Result<_>>()?;
            ensure!(accepted.is_subset(&known), "the other does not know all of it");
            Ok(twice)
        })
        .await?;
        println!(
            "{} runs were accepted by a sidecar that was killed three times; {told} records are there twice",
            accepted.len()
        );
        one.restart().await?;
        two.kill()?;
        let at_one = Caller::new(one.rest(), "all");
        at_one.ready().await?;
        for run in &accepted {
            ensure!(at_one.run(run).await?["status"] == "IN_PROGRESS");
        }
        Ok(())
    })
}
