//! Waiting for runs, runs that take too long, and runs that are forgotten.

use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::json;

use crate::support::PATIENCE;
use crate::world::{call, get, mock, patch, post, run, start};

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_answered_at_the_end_or_when_his_time_is_over() {
    let mock = mock();
    let (one, two) = (start(&mock, "").await, start(&mock, "").await);
    let path = run(&one, "deploy").await;
    let wait = |seconds: &'static str| [("prefer", seconds)];
    let began = Instant::now();
    let answer = call(&one, Method::GET, &path, None, &wait("wait=1")).await;
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(answer.json()["run"]["status"], "IN_PROGRESS");
    assert_eq!(answer.header("preference-applied"), Some("wait=1"));
    assert_eq!(get(&one, &path).await.header("preference-applied"), None);

    // It ends at the other sidecar. Another preference is passed over, and 300 s are the most.
    let long = wait("respond-async, wait=9999");
    let (waited, ended) = tokio::join!(call(&one, Method::GET, &path, None, &long), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        patch(&two, &path, json!({"status": "SUCCESS", "summary": "s"})).await
    });
    assert_eq!(ended.status, 200, "{ended:?}");
    assert_eq!(waited.json()["run"], ended.json()["run"]);
    assert_eq!(waited.header("preference-applied"), Some("wait=300"));
    // One that has ended is there at once.
    let began = Instant::now();
    call(&one, Method::GET, &path, None, &wait("wait=20")).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());

    // Who waits while the sidecar ends is told how it is then.
    let path = run(&one, "deploy").await;
    let longest = wait("wait=300");
    let waiting = call(&one, Method::GET, &path, None, &longest);
    let (answer, ()) = tokio::join!(waiting, async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        one.stopper.drain();
    });
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["run"]["status"]),
        (200, &json!("IN_PROGRESS"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_nobody_finishes_ends_and_one_that_ended_long_ago_is_forgotten() {
    let mock = mock();
    let fields = "    run_timeout: 500ms\n    retention: 1s\n";
    let one = start(&mock, fields).await;
    let path = run(&one, "deploy").await;
    let late = post(&one, &format!("{path}/logs"), json!({"message": "m"})).await;
    assert_eq!(late.status, 201, "{late:?}");
    let ended = call(&one, Method::GET, &path, None, &[("prefer", "wait=20")]).await;
    let run = &ended.json()["run"];
    assert_eq!(
        (&run["status"], &run["statusLabel"], &run["summary"]),
        (
            &json!("FAILURE"),
            &json!("Timed out"),
            &json!("nobody finished it within 500ms")
        )
    );
    let timeouts = "sluice_action_timeouts_total{org=\"acme\"}";
    // It is counted by who ended it, once he knows that nobody else did; whoever waits may be told before.
    let until = Instant::now() + PATIENCE;
    while one.metric(timeouts).await != Some(1.0) {
        assert!(Instant::now() < until, "{:?}", one.metric(timeouts).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    // One that starts looks for what is to be forgotten; the other one learns of it.
    let two = start(&mock, fields).await;
    let until = Instant::now() + PATIENCE;
    for sidecar in [&two, &one] {
        loop {
            let answer = get(sidecar, &path).await;
            if answer.status == 404 {
                break;
            }
            assert!(Instant::now() < until, "{answer:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(get(sidecar, &format!("{path}/logs")).await.status, 404);
        assert_eq!(get(sidecar, "/v1/actions/runs").await.json()["runs"], json!([]));
    }
}
