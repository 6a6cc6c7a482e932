//! Automations: timers, and those that lead to one another.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::until;
use crate::world::{get, mock, post, start};

const TIMER: &str = "      - identifier: often
        trigger: {type: automation, event: {type: TIMER, every: 1s}}
        invocationMethod: {type: KAFKA, payload: {at: '{{ .trigger.at }}', origin: '{{ .event.trigger.origin }}'}}
";

/// Two sidecars look at the clock, and each second's run is there once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timer_starts_one_run_each_time_however_many_sidecars_there_are() {
    let mock = mock();
    let (one, other) = tokio::join!(start(&mock, TIMER), start(&mock, TIMER));
    let times = async || {
        let body = get(&one, "/v1/actions/runs?action=often").await.json();
        let runs = body["runs"].as_array().unwrap().iter();
        let at = |run: &Value| run["trigger"]["at"].as_str().unwrap().to_owned();
        runs.map(at).collect::<Vec<String>>()
    };
    until("it has come four times", async || times().await.len() >= 4).await;
    let times = times().await;
    let different: BTreeSet<&String> = times.iter().collect();
    assert_eq!(different.len(), times.len(), "{times:?}");
    assert!(times.iter().all(|at| at.ends_with(".000Z")), "{times:?}");
    let started = "sluice_action_automations_total{org=\"acme\"}";
    let both =
        one.metric(started).await.unwrap_or_default() + other.metric(started).await.unwrap_or_default();
    assert!(both >= 4.0, "{both}");
}

const CIRCLE: &str = "      - identifier: first
        trigger:
          type: automation
          event: {type: RUN_CREATED, actionIdentifier: deploy}
          condition: {type: JQ, expressions: ['.event.diff.after.properties.n == 7']}
        invocationMethod: {type: KAFKA}
      - identifier: circle
        trigger:
          type: automation
          event: {type: RUN_CREATED}
          condition: {type: JQ, combinator: or, expressions: ['.event.context.action == \"first\"', '.event.context.action == \"turn\"']}
        invocationMethod: {type: KAFKA}
      - identifier: turn
        trigger: {type: automation, event: {type: RUN_CREATED, actionIdentifier: circle}}
        invocationMethod: {type: KAFKA}
";

/// `circle` and `turn` lead to one another for ever; they are ten in a row at most, counted from what somebody did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn automations_that_go_in_a_circle_come_to_an_end() {
    let mock = mock();
    let sidecar = start(&mock, CIRCLE).await;
    let answer = post(
        &sidecar,
        "/v1/actions/deploy/runs",
        json!({"properties": {"n": 8}}),
    )
    .await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let answer = post(
        &sidecar,
        "/v1/actions/deploy/runs",
        json!({"properties": {"n": 7}}),
    )
    .await;
    assert_eq!(answer.status, 202, "{answer:?}");
    until("one too many is refused", async || {
        let refused = "sluice_action_automation_failures_total{org=\"acme\"}";
        sidecar.metric(refused).await == Some(1.0)
    })
    .await;
    // One of the two runs starts them.
    let started = "sluice_action_automations_total{org=\"acme\"}";
    assert_eq!(sidecar.metric(started).await, Some(10.0));
}
