//! The example of docs/actions.md, from the call to the end.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command as Program;

use hyper::Method;
use serde_json::{Value, json};
use sluice_e2e::kafka::{self, Kafka};
use sluice_e2e::process::{Launch, Process};
use sluice_e2e::scenario::scenario;
use sluice_e2e::{Context, Result, ensure, parts, wait};
use tokio::process::Command;

use super::{Caller, PATIENCE, list, may, of_key, rig, settings, text};

/// The listener of the documentation, while this is there.
fn deployer(dir: &Path, kafka: &Kafka, org: &str, port: u16, token: &str) -> Result<Process> {
    let mut command = Program::new(parts::listeners()?);
    command
        .arg(parts::root().join("examples/actions/deployer.py"))
        .env("BROKERS", kafka.bootstrap())
        .env("ORG", org)
        .env("API", format!("http://127.0.0.1:{port}"))
        .env("TOKEN", token)
        .env("no_proxy", "*");
    let launch = Launch {
        command,
        log: dir.join("deployer.log"),
        cpus: Vec::new(),
    };
    Process::start("deployer.py", launch)
}

/// Starts a run as a person would: by curl.
async fn curl(port: u16, token: &str, path: &str, body: &Value) -> Result<Value> {
    let output = Command::new("curl")
        .args(["-sS", "-i", "--noproxy", "*"])
        .arg(format!("http://127.0.0.1:{port}{path}"))
        .args(["-H", &format!("authorization: Bearer {token}")])
        .args(["--json", &body.to_string()])
        .kill_on_drop(true)
        .output()
        .await
        .context("start curl: is it installed?")?;
    let said = String::from_utf8(output.stdout)?;
    let (head, body) = said.split_once("\r\n\r\n").context("no answer")?;
    ensure!(head.starts_with("HTTP/1.1 202"), "{said}");
    let mut body: Value = serde_json::from_str(body)?;
    let id = text(&body, "/run/id")?;
    ensure!(
        body["ok"] == true && head.contains(&format!("location: /v1/actions/runs/{id}\r\n")),
        "{said}"
    );
    Ok(body["run"].take())
}

/// The configuration of the documentation, and an automation.
fn org() -> Value {
    json!({
        "secret": "0123456789abcdef0123456789abcdef-and-more",
        "access": [
            may("anna-token", "anna", &["invoke", "see"]),
            may("deployer-token", "deployer", &["report", "see"]),
        ],
        "actions": [
            {
                "identifier": "deploy",
                "title": "Deploy a service",
                "trigger": {
                    "type": "self-service", "operation": "CREATE",
                    "userInputs": {
                        "properties": {
                            "service": {"type": "string", "minLength": 1},
                            "version": {"type": "string", "pattern": "^[0-9.]+$"},
                        },
                        "required": ["service", "version"],
                    },
                },
                "invocationMethod": {"type": "KAFKA", "payload": {
                    "action": "deploy",
                    "service": "{{ .inputs.service }}",
                    "version": "{{ .inputs.version }}",
                    "by": "{{ .trigger.by.user.email }}",
                    "run": "{{ .run.id }}",
                }},
            },
            {
                "identifier": "announce",
                "trigger": {
                    "type": "automation",
                    "event": {"type": "ENTITY_CREATED", "blueprintIdentifier": "deployment"},
                    "condition": {"type": "JQ", "expressions": [".diff.after.properties.service == \"shop\""]},
                },
                "invocationMethod": {"type": "KAFKA", "payload": {
                    "text": "{{ .event.diff.after.title }} is there",
                    "entity": "{{ .entity.identifier }}",
                }},
            },
        ],
    })
}

#[test]
fn an_action_is_invoked_carried_out_reported_and_seen() -> Result<()> {
    scenario("actions-flow", async |s| {
        let kafka = kafka::shared().await?;
        let id = s.name();
        let (runs, changes) = (format!("{id}.runs"), format!("{id}.change.log"));
        let rig = rig(s, settings(s, kafka, json!({id: org()}))).await?;
        let port = rig.envoy.port();
        let anna = Caller::new(rig.envoy.h1(), "anna-token");
        anna.ready().await?;
        let mut listener = deployer(s.dir(), kafka, id, port, "deployer-token")?;

        let inputs = json!({"properties": {"service": "shop", "version": "1.4"}});
        let started = curl(port, "anna-token", "/v1/actions/deploy/runs", &inputs).await?;
        let run = text(&started, "/id")?;
        // It is on the topic when that is answered.
        let record = of_key(kafka, &runs, &run).await?;
        let [record] = &record[..] else {
            sluice_e2e::bail!("not one record: {record:?}")
        };
        let expected = json!({
            "action": "deploy",
            "resourceType": "run",
            "status": "TRIGGERED",
            "trigger": {
                "by": {
                    "orgId": id, "userId": "anna",
                    "user": {"email": "anna@acme.example", "firstName": null, "lastName": null},
                },
                "origin": "API",
                "at": started["createdAt"],
            },
            "context": {"entity": null, "blueprint": null, "runId": run},
            "payload": {
                "action": "deploy", "service": "shop", "version": "1.4", "by": "anna@acme.example", "run": run,
            },
            "headers": record["headers"],
        });
        ensure!(*record == expected, "{record:#}\nis not\n{expected:#}");
        ensure!(
            text(record, "/headers/X-Port-Signature")?.starts_with("v1,"),
            "{record}"
        );

        let ended = anna.ended(&run).await;
        listener.running()?;
        let ended = ended?;
        ensure!(
            ended["status"] == "SUCCESS"
                && ended["summary"] == "shop-1.4 is there"
                && ended["link"] == "https://shop-1.4.example"
                && ended["deadline"].is_null(),
            "{ended}"
        );
        let lines = anna.get(&format!("/v1/actions/runs/{run}/logs")).await?.json()?;
        let lines = list(&lines, "/runLogs")?;
        ensure!(
            lines.len() == 1
                && lines
                    .iter()
                    .all(|line| line["message"] == "shop-1.4 is rolled out"),
            "{lines:?}"
        );
        let entity = "/v1/blueprints/deployment/entities/shop-1.4";
        let entity = anna.get(entity).await?.expect(200)?.json()?["entity"].take();
        ensure!(
            entity["title"] == "shop 1.4" && entity["createdBy"] == "deployer",
            "{entity}"
        );

        // The change log has all of it, and the automation is on the topic, once.
        let told = wait::until("the automation has started", PATIENCE, async || {
            let all = kafka.records(&changes).await?;
            ensure!(all.len() >= 4, "{} changes", all.len());
            Ok(all)
        })
        .await?;
        let mut ids = BTreeSet::new();
        for record in &told {
            let change = record.json()?;
            ensure!(
                record.header("sluice-change-id") == change["id"].as_str(),
                "{change}"
            );
            ensure!(ids.insert(change["id"].to_string()), "twice: {change}");
        }
        let of_run = of_key(kafka, &changes, &run).await?;
        let [created, done] = &of_run[..] else {
            sluice_e2e::bail!("not two changes of the run: {of_run:?}")
        };
        ensure!(
            created["action"] == "CREATE"
                && created["resourceType"] == "run"
                && created["context"]["runId"] == run.as_str()
                && created["diff"]["before"].is_null()
                && created["diff"]["after"] == started,
            "{created:#}"
        );
        ensure!(
            done["action"] == "UPDATE"
                && done["trigger"]["by"]["userId"] == "deployer"
                && done["diff"]["before"] == started
                && done["diff"]["after"] == ended,
            "{done:#}"
        );
        let of_entity = of_key(kafka, &changes, "deployment/shop-1.4").await?;
        let [reported] = &of_entity[..] else {
            sluice_e2e::bail!("not one change of the entity: {of_entity:?}")
        };
        ensure!(
            reported["action"] == "CREATE"
                && reported["resourceType"] == "entity"
                && reported["status"] == "SUCCESS"
                && reported["context"]
                    == json!({"entity": "shop-1.4", "blueprint": "deployment", "runId": run})
                && reported["diff"] == json!({"before": null, "after": entity}),
            "{reported:#}"
        );
        announced(&anna, kafka, &runs, 1).await?;

        // The same entity again is no new one; another one is; and one that the condition does not hold of.
        for (service, version) in [("shop", "1.4"), ("cart", "2"), ("shop", "1.5")] {
            let inputs = json!({"properties": {"service": service, "version": version}});
            let run = anna.start("deploy", inputs).await?;
            let ended = anna.ended(&run).await?;
            ensure!(ended["status"] == "SUCCESS", "{ended}");
        }
        announced(&anna, kafka, &runs, 2).await?;
        // Whoever reads again what is there finds runs that have ended, and leaves them alone.
        listener.running()?;
        let replaced = json!({"status": "FAILURE"});
        let deployer = Caller::new(rig.envoy.h1(), "deployer-token");
        let late = deployer
            .patch(&format!("/v1/actions/runs/{run}"), replaced)
            .await?;
        late.expect_error(409, "conflict")?;
        Ok(())
    })
}

/// The automation has run so often, by the API and on the topic.
async fn announced(anna: &Caller, kafka: &Kafka, topic: &str, times: usize) -> Result<()> {
    wait::until("it is announced", PATIENCE, async || {
        let found = anna
            .call(Method::GET, "/v1/actions/runs?action=announce", None)
            .await?;
        let found = list(&found.expect(200)?.json()?, "/runs")?;
        ensure!(found.len() == times, "not {times}: {found:?}");
        let records = kafka.records(topic).await?;
        let records: Vec<Value> = records
            .iter()
            .map(sluice_e2e::kafka::Record::json)
            .collect::<Result<_>>()?;
        let own: Vec<&Value> = records
            .iter()
            .filter(|record| record["action"] == "announce")
            .collect();
        ensure!(own.len() == times, "not {times}: {own:?}");
        for (i, record) in own.iter().enumerate() {
            let title = text(record, "/payload/text")?;
            let all = ["shop 1.4 is there", "shop 1.5 is there"];
            ensure!(
                all.contains(&title.as_str()) && record["trigger"]["origin"] == "AUTOMATION",
                "{i}: {record}"
            );
            ensure!(
                record["payload"]["entity"] == record["context"]["entity"],
                "{record}"
            );
        }
        Ok(())
    })
    .await
}
