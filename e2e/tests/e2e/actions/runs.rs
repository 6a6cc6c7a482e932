//! Runs that take too long, wait for approval, or are watched.

use hyper::Method;
use serde_json::{Value, json};
use sluice_e2e::kafka;
use sluice_e2e::scenario::scenario;
use sluice_e2e::{Context, Result, ensure, wait};

use super::{Caller, PATIENCE, may, of_key, rig, settings};

fn org() -> Value {
    let action = |identifier: &str, approval: bool, timeout: &str| {
        json!({
            "identifier": identifier,
            "trigger": {"type": "self-service", "operation": "CREATE"},
            "requiredApproval": approval,
            "runTimeout": timeout,
            "invocationMethod": {"type": "KAFKA"},
        })
    };
    json!({
        "access": [
            may("anna", "anna", &["invoke", "approve", "see"]),
            may("bert", "bert", &["approve", "see"]),
            may("deployer", "deployer", &["report", "see"]),
        ],
        "actions": [action("slow", false, "2s"), action("asks", true, "2s"), action("long", false, "1h")],
    })
}

#[test]
fn runs_time_out_wait_for_approval_and_are_watched_as_they_go() -> Result<()> {
    scenario("actions-runs", async |s| {
        let kafka = kafka::shared().await?;
        let id = s.name();
        let (runs, changes) = (format!("{id}.runs"), format!("{id}.change.log"));
        let rig = rig(s, settings(s, kafka, json!({id: org()}))).await?;
        let caller = |token: &str| Caller::new(rig.envoy.h1(), token);
        let (anna, bert, deployer) = (caller("anna"), caller("bert"), caller("deployer"));
        anna.ready().await?;

        // Nobody finishes it.
        let slow = anna.start("slow", json!({})).await?;
        // Nobody approves of this one for longer than it may take.
        let asks = anna.start("asks", json!({})).await?;
        let ended = anna.ended(&slow).await?;
        ensure!(
            ended["status"] == "FAILURE"
                && ended["statusLabel"] == "Timed out"
                && ended["deadline"].is_null(),
            "{ended}"
        );
        let late = deployer
            .patch(&format!("/v1/actions/runs/{slow}"), json!({"status": "SUCCESS"}))
            .await?;
        late.expect_error(409, "conflict")?;
        wait::until("it is told", PATIENCE, async || {
            let told = of_key(kafka, &changes, &slow).await?;
            let last = told.last().context("nothing")?;
            ensure!(
                last["trigger"]["origin"] == "SLUICE" && last["diff"]["after"] == ended,
                "{last}"
            );
            Ok(())
        })
        .await?;
        let waits = anna.run(&asks).await?;
        ensure!(
            waits["status"] == "WAITING_FOR_APPROVAL" && waits["deadline"].is_null(),
            "{waits}"
        );
        ensure!(of_key(kafka, &runs, &asks).await?.is_empty(), "it was written");
        let patch = json!({"status": "SUCCESS"});
        deployer
            .patch(&format!("/v1/actions/runs/{asks}"), patch)
            .await?
            .expect_error(409, "conflict")?;
        let approval = format!("/v1/actions/runs/{asks}/approval");
        let approve = json!({"status": "APPROVE"});
        anna.patch(&approval, approve.clone())
            .await?
            .expect_error(403, "not_allowed")?;
        deployer
            .patch(&approval, approve.clone())
            .await?
            .expect_error(403, "not_allowed")?;
        let approved = bert
            .patch(&approval, approve.clone())
            .await?
            .expect(200)?
            .json()?;
        ensure!(approved["run"]["status"] == "IN_PROGRESS", "{approved}");
        ensure!(
            of_key(kafka, &runs, &asks).await?.len() == 1,
            "it was not written"
        );
        bert.patch(&approval, approve)
            .await?
            .expect_error(409, "conflict")?;
        let ended = anna.ended(&asks).await?;
        ensure!(ended["statusLabel"] == "Timed out", "{ended}");

        let declined = anna.start("asks", json!({})).await?;
        let decline = json!({"status": "DECLINE", "description": "not now"});
        let path = format!("/v1/actions/runs/{declined}/approval");
        bert.patch(&path, decline).await?.expect(200)?;
        let ended = anna.ended(&declined).await?;
        ensure!(
            ended["status"] == "DECLINED" && ended["approval"]["description"] == "not now",
            "{ended}"
        );
        ensure!(
            of_key(kafka, &runs, &declined).await?.is_empty(),
            "it was written"
        );
        watched(&anna, &deployer).await
    })
}

/// Lines come as they are written, and end with the run; who comes later, or comes again, has the rest.
async fn watched(anna: &Caller, deployer: &Caller) -> Result<()> {
    let run = anna.start("long", json!({})).await?;
    let path = format!("/v1/actions/runs/{run}/logs");
    let stream = |from: Option<&str>| {
        let (anna, path) = (anna.clone(), path.clone());
        let from = from.map(str::to_owned);
        tokio::spawn(async move {
            let mut headers = vec![("accept", "text/event-stream")];
            if let Some(from) = &from {
                headers.push(("last-event-id", from));
            }
            anna.call_with(Method::GET, &path, None, &headers).await
        })
    };
    let early = stream(None);
    for line in 0..3 {
        deployer
            .post(&path, json!({"message": format!("line {line}")}))
            .await?
            .expect(201)?;
    }
    // A page of one line, and where to go on.
    let page = anna.get(&format!("{path}?limit=2")).await?.expect(200)?.json()?;
    ensure!(page["pagination"]["nextCursor"] == "1", "{page}");
    let rest = anna.get(&format!("{path}?cursor=1")).await?.expect(200)?.json()?;
    ensure!(
        rest["runLogs"][0]["message"] == "line 2" && rest["pagination"]["nextCursor"].is_null(),
        "{rest}"
    );
    let last = json!({"message": "line 3", "terminationStatus": "FAILURE", "statusLabel": "broken"});
    deployer.post(&path, last).await?.expect(201)?;
    for (stream, from) in [(early, 0), (stream(None), 0), (stream(Some("1")), 2)] {
        let reply = stream.await??;
        ensure!(reply.header("content-type") == "text/event-stream", "{reply:?}");
        let text = reply.text();
        let lines: Vec<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .map(str::to_owned)
            .collect();
        let (end, lines) = lines.split_last().context("nothing came")?;
        let lines: Vec<Value> = lines
            .iter()
            .map(|line| serde_json::from_str(line))
            .collect::<Result<_, _>>()?;
        let expected: Vec<String> = (from..4).map(|line| format!("line {line}")).collect();
        ensure!(
            lines
                .iter()
                .map(|line| line["message"].as_str().unwrap_or_default())
                .eq(expected.iter().map(String::as_str)),
            "{text}"
        );
        let end: Value = serde_json::from_str(end)?;
        ensure!(
            text.contains("event: end")
                && end["status"] == "FAILURE"
                && end["statusLabel"] == "broken"
                && end["id"] == run.as_str(),
            "{text}"
        );
    }
    Ok(())
}
