//! Agents, as Port's is: they read runs from Kafka by the credentials that they ask for, or claim them, and call webhooks.

use std::process::Stdio;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use serde_json::{Value, json};
use sluice_e2e::kafka::{self, Kafka, Setup};
use sluice_e2e::scenario::scenario;
use sluice_e2e::upstream::Upstream;
use sluice_e2e::{Context, Result, ensure, parts, wait};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::{Caller, PATIENCE, list, may, rig, settings};

/// The client's and the organisation's: one secret for both.
const SECRET: &str = "a-secret-of-more-than-thirty-two-bytes";
const OTHER: &str = "another-secret-of-more-than-thirty-two-bytes";

/// An agent, and what it says of each run.
struct Agent {
    _process: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Agent {
    fn start(streamer: &str, port: u16, org: &str, (client, secret): (&str, &str)) -> Result<Self> {
        let mut process = Command::new(parts::listeners()?)
            .arg(parts::root().join("e2e/actions/agent.py"))
            .arg(streamer)
            .env("API", format!("http://127.0.0.1:{port}"))
            .env("ORG", org)
            .env("CLIENT_ID", client)
            .env("CLIENT_SECRET", secret)
            .env("GROUP", format!("{org}.{client}"))
            .env("PROTOCOL", "sasl_plaintext")
            .env("MECHANISM", "PLAIN")
            .env("no_proxy", "*")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start Python")?;
        let said = process.stdout.take().context("no standard output")?;
        Ok(Self {
            _process: process,
            said: BufReader::new(said).lines(),
        })
    }

    /// What it says next: the run, and what it did.
    async fn next(&mut self) -> Result<(String, String)> {
        let line = tokio::time::timeout(PATIENCE, self.said.next_line()).await;
        let line = line.context("the agent says nothing")??;
        let line: Value = serde_json::from_str(&line.context("the agent has ended")?)?;
        Ok((super::text(&line, "/run")?, super::text(&line, "/what")?))
    }
}

fn org(kafka: &Kafka, webhook: u16) -> Value {
    let url = format!("http://127.0.0.1:{webhook}/hook");
    let action = |identifier: &str, synchronized: bool| {
        json!({
            "identifier": identifier,
            "trigger": {
                "type": "self-service", "operation": "CREATE",
                "userInputs": {"properties": {"text": {"type": "string"}, "numbers": {"type": "array"}}},
            },
            "invocationMethod": {"type": "WEBHOOK", "agent": true, "url": url, "synchronized": synchronized},
        })
    };
    json!({
        "secret": SECRET,
        "access": [may("anna", "anna", &["invoke", "see"])],
        "clients": {
            "agent": {"secret": SECRET, "may": ["report", "credentials"]},
            "stranger": {"secret": OTHER, "may": ["report", "credentials"]},
        },
        "kafka_credentials": {
            "brokers": kafka.sasl_bootstrap().split(',').collect::<Vec<_>>(),
            "username": "acme-user", "password": "acme-pass",
        },
        "actions": [action("waits", true), action("goes", false)],
    })
}

/// What a signature must hold of: text and numbers that JSON may be written with in several ways.
fn awkward() -> Value {
    json!({"properties": {
        "text": "Grüße, \u{1F600} \u{2028} \" \\ / \u{7} \t \u{7f} </script>",
        "numbers": [0, -7, 3.0, 0.1, 1e15, 1e16, 1.5e22, 1e-4, 0.00001, -2.5e-7, 9_007_199_254_740_993_u64, 1e300],
    }})
}

#[test]
fn an_agent_reads_runs_from_kafka_or_claims_them_and_reports() -> Result<()> {
    scenario("actions-agents", async |s| {
        let setup = Setup {
            users: vec![("acme-user".to_owned(), "acme-pass".to_owned())],
            ..Setup::default()
        };
        let kafka = Kafka::start(s.dir(), &setup).await?;
        let id = s.name();
        for topic in [format!("{id}.runs"), format!("{id}.change.log")] {
            kafka.create_topic(&topic, 2).await?;
            for operation in ["Read", "Describe"] {
                kafka.allow("acme-user", operation, &topic).await?;
            }
        }
        for client in ["agent", "stranger"] {
            kafka
                .allow_group("acme-user", "Read", &format!("{id}.{client}"))
                .await?;
        }
        let webhook = Upstream::start().await?;
        let rig = rig(s, settings(s, &kafka, json!({id: org(&kafka, webhook.port())}))).await?;
        let port = rig.envoy.port();
        let anna = Caller::new(rig.envoy.h1(), "anna");
        anna.ready().await?;

        let mut agent = Agent::start("KAFKA", port, id, ("agent", SECRET))?;
        let run = anna.start("waits", awkward()).await?;
        ensure!(agent.next().await? == (run.clone(), "invoked".to_owned()));
        streams(&anna, "KAFKA").await?;
        let ended = anna.ended(&run).await?;
        ensure!(
            ended["status"] == "SUCCESS" && ended["response"] == "upstream",
            "{ended}"
        );
        logged(&anna, &run, 7).await?;
        let arrived = webhook.arrived();
        let request = arrived.first().context("the webhook was not called")?;
        let body: Value = serde_json::from_slice(&request.body)?;
        ensure!(
            request.uri == "/hook"
                && body["context"]["runId"] == run.as_str()
                && body["payload"]["properties"] == awkward()["properties"],
            "{body:#}"
        );
        // One that does not wait for the webhook's answer leaves the run to whoever goes on with it.
        let goes = anna.start("goes", json!({})).await?;
        ensure!(agent.next().await? == (goes.clone(), "invoked".to_owned()));
        ensure!(anna.run(&goes).await?["status"] == "IN_PROGRESS");
        drop(agent);

        // With another secret than the organisation's it takes nothing.
        let mut stranger = Agent::start("KAFKA", port, id, ("stranger", OTHER))?;
        for _ in 0..2 {
            let (_, what) = stranger.next().await?;
            ensure!(what == "not signed as it should be", "{what}");
        }
        drop(stranger);

        // The one that was left is claimed first, then those that come: each by one of two.
        let mut agents = [
            Agent::start("POLLING", port, id, ("agent", SECRET))?,
            Agent::start("POLLING", port, id, ("agent", SECRET))?,
        ];
        let mut runs = vec![goes];
        for _ in 0..10 {
            runs.push(anna.start("waits", awkward()).await?);
        }
        let mut invoked = Vec::new();
        let [one, two] = &mut agents;
        while invoked.len() < runs.len() {
            let (run, what) = tokio::select! {
                said = one.next() => said?,
                said = two.next() => said?,
            };
            ensure!(what == "invoked", "{run}: {what}");
            invoked.push(run);
        }
        invoked.sort();
        ensure!(invoked == runs, "{invoked:?} are not {runs:?}");
        for run in runs.iter().skip(1) {
            let ended = anna.ended(run).await?;
            ensure!(ended["status"] == "SUCCESS", "{ended}");
            logged(&anna, run, 7).await?;
        }
        ensure!(
            webhook.arrived().len() == runs.len() + 2,
            "{} calls",
            webhook.arrived().len()
        );
        streams(&anna, "POLLING").await
    })
}

/// The organisation knows how its agent gets runs, as that said at its start.
async fn streams(anna: &Caller, name: &str) -> Result<()> {
    let told = anna.get("/v1/organization").await?.expect(200)?.json()?;
    let settings = &told["organization"]["settings"];
    ensure!(settings["portAgentStreamerName"] == name, "{told}");
    Ok(())
}

/// The agent has written so many lines.
async fn logged(anna: &Caller, run: &str, lines: usize) -> Result<()> {
    let found = anna.get(&format!("/v1/actions/runs/{run}/logs")).await?;
    let found = list(&found.expect(200)?.json()?, "/runLogs")?;
    let ends = [
        "An action message has been received",
        "Port agent finished processing the action run",
    ];
    ensure!(
        found.len() == lines
            && [found.first(), found.last()].map(|line| line.map(|line| line["message"].clone()))
                == ends.map(|end| Some(json!(end)))
            && found.iter().all(|line| line["createdBy"] == "agent"),
        "{found:?}"
    );
    Ok(())
}

#[test]
fn a_subscription_hands_runs_to_a_webhook_with_ports_signature() -> Result<()> {
    scenario("actions-webhooks", async |s| {
        let kafka = kafka::shared().await?;
        let id = s.name();
        let webhook = Upstream::start().await?;
        let mut settings = settings(
            s,
            kafka,
            json!({id: {
                "access": [may("anna", "anna", &["invoke", "see", "report"])],
                "actions": [{
                    "identifier": "deploy", "trigger": {"type": "self-service", "operation": "CREATE"},
                    "invocationMethod": {"type": "KAFKA", "payload": {"run": "{{ .run.id }}"}},
                }],
            }}),
        );
        settings["subscriptions"] = json!({"runs": {
            "source": format!("kafka://main/{id}.runs"),
            "sink": format!("http://127.0.0.1:{}/runs", webhook.port()),
            "options": {"auto.offset.reset": "earliest", "signature": {"port_secret": SECRET}},
        }});
        let rig = rig(s, settings).await?;
        let anna = Caller::new(rig.envoy.h1(), "anna");
        anna.ready().await?;
        let run = anna.start("deploy", json!({})).await?;
        let request = wait::until("the webhook is called", PATIENCE, async || {
            webhook.arrived().pop().context("it was not")
        })
        .await?;
        let header = |name: &str| {
            let value = request.headers.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let signed = [header("x-port-timestamp").as_bytes(), b".", &request.body].concat();
        let key = PKey::hmac(SECRET.as_bytes())?;
        let signature = Signer::new(MessageDigest::sha256(), &key)?.sign_oneshot_to_vec(&signed)?;
        ensure!(
            header("x-port-signature") == format!("v1,{}", STANDARD.encode(signature)),
            "{request:?}"
        );
        let message: Value = serde_json::from_slice(&request.body)?;
        ensure!(message["payload"] == json!({"run": run}), "{message}");
        // The receiver reports by what it was given.
        let path = format!("/v1/actions/runs/{}", super::text(&message, "/context/runId")?);
        anna.patch(&path, json!({"status": "SUCCESS"}))
            .await?
            .expect(200)?;
        ensure!(anna.ended(&run).await?["status"] == "SUCCESS");
        Ok(())
    })
}
