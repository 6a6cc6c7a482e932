//! Agents that claim runs.

use std::collections::BTreeSet;

use hyper::Method;
use serde_json::{Value, json};

use crate::support::Sidecar;
use crate::world::{call, id, mock, patch, post, run, start};

async fn claim(sidecar: &Sidecar, by: &str, limit: usize) -> Vec<Value> {
    let body = json!({"installationId": by, "limit": limit, "invocationMethod": "WEBHOOK"});
    let answer = post(sidecar, "/v1/actions/runs/claim-pending", body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["runs"].as_array().unwrap().clone()
}

async fn ack(sidecar: &Sidecar, ids: &[&str]) -> Value {
    let answer = patch(sidecar, "/v1/actions/runs/ack", json!({"runIds": ids})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["ackedCount"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_run_is_claimed_by_one_of_several_agents() {
    let mock = mock();
    let (one, two) = (start(&mock, "").await, start(&mock, "").await);
    let mut runs = BTreeSet::new();
    for n in 0..30 {
        let sidecar = if n % 2 == 0 { &one } else { &two };
        runs.insert(id(&run(sidecar, "agent").await).to_owned());
        run(sidecar, "deploy").await;
    }
    let agent = async |sidecar: &Sidecar, by: &str| {
        let mut own = Vec::new();
        let mut empty = 0;
        while empty < 3 {
            let claimed = claim(sidecar, by, 4).await;
            assert!(claimed.len() <= 4, "{claimed:?}");
            empty = if claimed.is_empty() { empty + 1 } else { 0 };
            for run in claimed {
                let payload = &run["payload"];
                assert_eq!(
                    (&payload["type"], &payload["agent"], &payload["url"]),
                    (&json!("WEBHOOK"), &json!(true), &json!("http://hook.example"))
                );
                assert_eq!(payload["body"]["context"]["runId"], run["id"]);
                assert_eq!(payload["body"]["payload"]["action"]["identifier"], "agent");
                own.push(run["id"].as_str().unwrap().to_owned());
            }
        }
        own
    };
    let (a, b, c) = tokio::join!(agent(&one, "a"), agent(&two, "b"), agent(&two, "c"));
    let all: Vec<String> = [a, b, c].concat();
    assert_eq!(all.len(), 30, "some were claimed twice, or not at all");
    assert_eq!(all.iter().cloned().collect::<BTreeSet<_>>(), runs);

    // Each is acknowledged once, at whichever sidecar.
    let ids: Vec<&str> = all.iter().map(String::as_str).collect();
    assert_eq!(ack(&one, &ids[..10]).await, 10);
    assert_eq!(ack(&two, &ids[..15]).await, 5);
    assert_eq!(ack(&two, &["r_none"]).await, 0);
    assert_eq!(claim(&one, "a", 100).await, Vec::<Value>::new());
    // What is claimed is still to be reported, by whoever may.
    let path = format!("/v1/actions/runs/{}", ids[0]);
    let done = patch(&one, &path, json!({"status": "SUCCESS"})).await;
    assert_eq!(done.json()["run"]["status"], "SUCCESS", "{done:?}");
    // One that ended is not to be claimed, nor one that waits for approval.
    run(&one, "asks").await;
    let ended = run(&one, "agent").await;
    patch(&one, &ended, json!({"status": "FAILURE"})).await;
    assert_eq!(claim(&two, "a", 100).await, Vec::<Value>::new());
    let nodes = call(
        &one,
        Method::POST,
        "/v1/workflows/runs/claim-pending",
        Some(json!({})),
        &[],
    )
    .await;
    assert_eq!(nodes.json()["nodeRuns"], json!([]), "{nodes:?}");
}
