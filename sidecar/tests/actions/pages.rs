//! Lists, page by page.

use std::collections::BTreeSet;

use hyper::Method;
use serde_json::{Value, json};

use crate::support::Sidecar;
use crate::world::{call, get, id, mock, patch, post, run, start};

/// All pages of a list, and of how many things each was.
async fn pages(sidecar: &Sidecar, path: &str, of: &str) -> (Vec<Value>, Vec<usize>) {
    let (mut all, mut sizes) = (Vec::new(), Vec::new());
    let mut cursor: Option<String> = None;
    loop {
        let from = cursor.map_or_else(String::new, |cursor| format!("&cursor={cursor}"));
        let answer = get(sidecar, &format!("{path}{from}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let page = answer.json();
        let things = page[of].as_array().unwrap();
        sizes.push(things.len());
        all.extend(things.iter().cloned());
        assert!(sizes.len() < 100, "it does not end");
        match page["pagination"]["nextCursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => return (all, sizes),
        }
    }
}

fn ids(things: &[Value], field: &str) -> Vec<String> {
    let ids = things
        .iter()
        .map(|thing| thing[field].as_str().unwrap().to_owned());
    ids.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_come_in_pages_the_newest_first_and_by_what_is_asked_for() {
    let mock = mock();
    let sidecar = start(&mock, "").await;
    let mut expected = Vec::new();
    let (mut done, mut agents) = (BTreeSet::new(), BTreeSet::new());
    for n in 0..25 {
        let action = if n % 5 == 0 { "agent" } else { "deploy" };
        let path = run(&sidecar, action).await;
        let own = id(&path).to_owned();
        if n % 2 == 0 {
            let answer = patch(&sidecar, &path, json!({"status": "SUCCESS"})).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            done.insert(own.clone());
        }
        if action == "agent" {
            agents.insert(own.clone());
        }
        expected.insert(0, own);
    }
    let by = [("authorization", "Bearer bert")];
    let answer = call(
        &sidecar,
        Method::POST,
        "/v1/actions/deploy/runs",
        Some(json!({})),
        &by,
    )
    .await;
    let bert = answer.json()["run"]["id"].as_str().unwrap().to_owned();
    expected.insert(0, bert.clone());

    for limit in [1, 7, 13, 26, 1000] {
        let (found, sizes) = pages(&sidecar, &format!("/v1/actions/runs?limit={limit}"), "runs").await;
        assert_eq!(ids(&found, "id"), expected, "by {limit}");
        assert_eq!(sizes.len(), 26_usize.div_ceil(limit), "{sizes:?}");
    }
    let (found, _) = pages(&sidecar, "/v1/actions/runs?limit=4&status=SUCCESS", "runs").await;
    assert_eq!(ids(&found, "id").into_iter().collect::<BTreeSet<_>>(), done);
    // Those that go on, which are kept by themselves.
    let open: Vec<&String> = expected.iter().filter(|id| !done.contains(*id)).collect();
    let (found, sizes) = pages(&sidecar, "/v1/actions/runs?limit=4&status=IN_PROGRESS", "runs").await;
    assert_eq!(ids(&found, "id").iter().collect::<Vec<_>>(), open);
    assert_eq!(sizes, [4, 4, 4, 1]);
    let open = "/v1/actions/runs?limit=1&status=IN_PROGRESS&action=agent";
    let (found, _) = pages(&sidecar, open, "runs").await;
    let found: BTreeSet<_> = ids(&found, "id").into_iter().collect();
    assert_eq!(found, agents.difference(&done).cloned().collect());
    let (found, _) = pages(&sidecar, "/v1/actions/runs?status=WAITING_FOR_APPROVAL", "runs").await;
    assert!(found.is_empty(), "{found:?}");
    let (found, sizes) = pages(&sidecar, "/v1/actions/runs?limit=2&action=agent", "runs").await;
    assert_eq!(ids(&found, "id").into_iter().collect::<BTreeSet<_>>(), agents);
    assert_eq!(sizes, [2, 2, 1]);
    let (found, _) = pages(&sidecar, "/v1/actions/runs?limit=9&user=bert", "runs").await;
    assert_eq!(ids(&found, "id"), [bert]);
    let (found, _) = pages(
        &sidecar,
        "/v1/actions/runs?limit=9&user=anna&action=agent&status=FAILURE",
        "runs",
    )
    .await;
    assert!(found.is_empty(), "{found:?}");

    // What is started meanwhile is on no later page, and nothing is twice or left out.
    let first = get(&sidecar, "/v1/actions/runs?limit=10").await.json();
    run(&sidecar, "deploy").await;
    let cursor = first["pagination"]["nextCursor"].as_str().unwrap();
    let second = get(&sidecar, &format!("/v1/actions/runs?limit=10&cursor={cursor}"))
        .await
        .json();
    assert_eq!(ids(second["runs"].as_array().unwrap(), "id"), expected[10..20]);
}

#[tokio::test(flavor = "multi_thread")]
async fn entities_actions_and_lines_come_in_pages() {
    let mock = mock();
    let sidecar = start(&mock, "").await;
    let entities = "/v1/blueprints/b/entities";
    let mut expected = Vec::new();
    for n in 0..12 {
        let name = format!("e{n:02}");
        assert_eq!(
            post(&sidecar, entities, json!({"identifier": name})).await.status,
            201
        );
        expected.push(name);
    }
    // Of a blueprint whose name begins as this one's does, and one that is gone.
    post(
        &sidecar,
        "/v1/blueprints/b2/entities",
        json!({"identifier": "other"}),
    )
    .await;
    call(&sidecar, Method::DELETE, &format!("{entities}/e03"), None, &[]).await;
    expected.remove(3);
    let (found, sizes) = pages(&sidecar, &format!("{entities}?limit=4"), "entities").await;
    assert_eq!((ids(&found, "identifier"), sizes), (expected, vec![4, 4, 3]));

    for n in 0..5 {
        let action = json!({
            "identifier": format!("made{n}"), "trigger": {"type": "self-service", "operation": "CREATE"},
            "invocationMethod": {"type": "KAFKA"},
        });
        assert_eq!(post(&sidecar, "/v1/actions", action).await.status, 201);
    }
    let (found, sizes) = pages(&sidecar, "/v1/actions?limit=2", "actions").await;
    let all = [
        "agent",
        "asks",
        "automatic",
        "change",
        "deploy",
        "made0",
        "made1",
        "made2",
        "made3",
        "made4",
    ];
    let mut names = ids(&found, "identifier");
    names.sort();
    assert_eq!((names, sizes), (all.map(str::to_owned).to_vec(), vec![7, 2, 1]));

    let path = run(&sidecar, "deploy").await;
    for n in 0..7 {
        let answer = post(
            &sidecar,
            &format!("{path}/logs"),
            json!({"message": format!("{n}")}),
        )
        .await;
        assert_eq!((answer.status.as_u16(), &answer.json()["id"]), (201, &json!(n)));
    }
    let (found, sizes) = pages(&sidecar, &format!("{path}/logs?limit=3"), "runLogs").await;
    assert_eq!(
        (ids(&found, "message"), sizes),
        ((0..7).map(|n| n.to_string()).collect(), vec![3, 3, 1])
    );
}
