//! What the calls refuse, and with which words.

use hyper::Method;
use serde_json::{Value, json};

use crate::world::{call, expect, get, id, mock, patch, post, run, start};

/// Method, path and body; then status, code and some of the words of what is answered.
type Case<'a> = (&'a Method, String, Option<Value>, u16, &'a str, &'a str);

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_said_with_its_reason() {
    let mock = mock();
    let sidecar = start(&mock, "").await;
    let (open, waits, ended) = (
        run(&sidecar, "deploy").await,
        run(&sidecar, "asks").await,
        run(&sidecar, "deploy").await,
    );
    assert_eq!(
        patch(&sidecar, &ended, json!({"status": "SUCCESS"})).await.status,
        200
    );
    let none = "/v1/actions/runs/r_none";
    let entities = "/v1/blueprints/service/entities";
    let made = json!({"identifier": "made", "trigger": {"type": "self-service", "operation": "CREATE"}, "invocationMethod": {"type": "KAFKA"}});
    let with = |name: &str, value: Value| {
        let mut changed = made.clone();
        changed[name] = value;
        changed
    };
    let at = |path: &str| path.to_owned();
    let (get, post, patch, put) = (Method::GET, Method::POST, Method::PATCH, Method::PUT);
    let cases: Vec<Case> = vec![
        // Runs.
        (
            &post,
            at("/v1/actions/nothing/runs"),
            Some(json!({})),
            404,
            "not_found",
            "no action is \"nothing\"",
        ),
        (
            &post,
            at("/v1/actions/automatic/runs"),
            Some(json!({})),
            409,
            "conflict",
            "is an automation",
        ),
        (
            &post,
            at("/v1/actions/deploy/runs"),
            Some(json!([])),
            422,
            "invalid",
            "must be a mapping",
        ),
        (
            &post,
            at("/v1/actions/deploy/runs"),
            Some(json!({"inputs": {}})),
            422,
            "invalid",
            "known are properties and entity",
        ),
        (
            &post,
            at("/v1/actions/deploy/runs"),
            Some(json!({"properties": 1})),
            422,
            "invalid",
            "must be an object",
        ),
        (
            &post,
            at("/v1/actions/deploy/runs"),
            Some(json!({"properties": {"n": "x"}})),
            422,
            "invalid",
            "properties.n",
        ),
        (
            &post,
            at("/v1/actions/deploy/runs"),
            Some(json!({"entity": "a"})),
            422,
            "invalid",
            "about no blueprint",
        ),
        (
            &post,
            at("/v1/actions/change/runs"),
            Some(json!({})),
            422,
            "invalid",
            "operation is DAY-2",
        ),
        (
            &post,
            at("/v1/actions/change/runs"),
            Some(json!({"entity": "a"})),
            422,
            "invalid",
            "has no entity \"a\"",
        ),
        (
            &post,
            at("/v1/actions/change/runs"),
            Some(json!({"entity": 1})),
            422,
            "invalid",
            "identifier of an entity",
        ),
        (
            &post,
            at("/v1/actions/deploy/runs"),
            None,
            400,
            "invalid_request",
            "must be JSON",
        ),
        (&get, at(none), None, 404, "not_found", "no run is \"r_none\""),
        (&get, format!("{none}/logs"), None, 404, "not_found", "r_none"),
        (&patch, at(none), Some(json!({})), 404, "not_found", "r_none"),
        (
            &patch,
            at(&open),
            Some(json!({"status": "DONE"})),
            422,
            "invalid",
            "none of SUCCESS, FAILURE, IN_PROGRESS",
        ),
        (
            &patch,
            at(&open),
            Some(json!({"status": 1})),
            422,
            "invalid",
            "status: must be text",
        ),
        (
            &patch,
            at(&open),
            Some(json!({"summary": 1})),
            422,
            "invalid",
            "summary: must be text",
        ),
        (
            &patch,
            at(&open),
            Some(json!({"link": {"a": 1}})),
            422,
            "invalid",
            "link",
        ),
        (
            &patch,
            at(&open),
            Some(json!({"state": "x"})),
            422,
            "invalid",
            "state: is not known",
        ),
        (
            &patch,
            at(&open),
            Some(json!({"summary": "x".repeat(70_000)})),
            413,
            "too_large",
            "summary has 70000 bytes",
        ),
        (
            &patch,
            at(&ended),
            Some(json!({"status": "SUCCESS"})),
            409,
            "conflict",
            "the run has ended: SUCCESS",
        ),
        (
            &patch,
            at(&waits),
            Some(json!({"status": "SUCCESS"})),
            409,
            "conflict",
            "waits for approval",
        ),
        (
            &patch,
            format!("{open}/approval"),
            Some(json!({"status": "APPROVE"})),
            409,
            "conflict",
            "does not wait",
        ),
        (
            &patch,
            format!("{waits}/approval"),
            Some(json!({"status": "YES"})),
            422,
            "invalid",
            "APPROVE or DECLINE",
        ),
        (
            &patch,
            format!("{waits}/approval"),
            Some(json!({"status": "APPROVE"})),
            403,
            "not_allowed",
            "somebody else",
        ),
        (
            &patch,
            format!("{waits}/approval"),
            Some(json!({"status": "APPROVE", "by": "me"})),
            422,
            "invalid",
            "by: is not known",
        ),
        (
            &patch,
            format!("{open}/response"),
            Some(json!({})),
            422,
            "invalid",
            "response: is required",
        ),
        (
            &post,
            format!("{open}/logs"),
            Some(json!({})),
            422,
            "invalid",
            "message: is required",
        ),
        (
            &post,
            format!("{open}/logs"),
            Some(json!({"message": "m", "level": "INFO"})),
            422,
            "invalid",
            "level: is not known",
        ),
        (
            &post,
            format!("{open}/logs"),
            Some(json!({"message": "m", "terminationStatus": "OK"})),
            422,
            "invalid",
            "none of SUCCESS, FAILURE",
        ),
        (
            &post,
            format!("{open}/logs"),
            Some(json!({"message": "x".repeat(66_000)})),
            413,
            "too_large",
            "66000 bytes",
        ),
        (
            &post,
            format!("{ended}/logs"),
            Some(json!({"message": "m", "terminationStatus": "FAILURE"})),
            409,
            "conflict",
            "has ended",
        ),
        (
            &get,
            at("/v1/actions/runs?limit=0"),
            None,
            400,
            "invalid_request",
            "from 1 to 1000",
        ),
        (
            &get,
            at("/v1/actions/runs?limit=1001"),
            None,
            400,
            "invalid_request",
            "from 1 to 1000",
        ),
        (
            &get,
            at("/v1/actions/runs?status=DONE"),
            None,
            400,
            "invalid_request",
            "DONE",
        ),
        (
            &get,
            at("/v1/actions/runs?actoin=deploy"),
            None,
            400,
            "invalid_request",
            "actoin",
        ),
        (
            &get,
            at("/v1/actions/runs?cursor=a%2Fb"),
            None,
            400,
            "invalid_request",
            "cursor is none of ours",
        ),
        (
            &get,
            format!("{open}/logs?cursor=x"),
            None,
            400,
            "invalid_request",
            "cursor",
        ),
        // Agents.
        (
            &post,
            at("/v1/actions/runs/claim-pending"),
            Some(json!({})),
            422,
            "invalid",
            "installationId",
        ),
        (
            &post,
            at("/v1/actions/runs/claim-pending"),
            Some(json!({"installationId": "a", "limit": 101})),
            422,
            "invalid",
            "from 1 to 100",
        ),
        (
            &patch,
            at("/v1/actions/runs/ack"),
            Some(json!({"runIds": "r"})),
            422,
            "invalid",
            "runIds",
        ),
        // Actions.
        (
            &post,
            at("/v1/actions"),
            Some(with("identifier", json!("runs"))),
            422,
            "invalid",
            "paths of runs",
        ),
        (
            &post,
            at("/v1/actions"),
            Some(with("identifier", json!("a/b"))),
            422,
            "invalid",
            "is no identifier",
        ),
        (
            &post,
            at("/v1/actions"),
            Some(with("identifier", json!("deploy"))),
            403,
            "read_only",
            "orgs.acme.actions",
        ),
        (
            &post,
            at("/v1/actions"),
            Some(with("payload", json!(1))),
            422,
            "invalid",
            "payload: is not known",
        ),
        (
            &post,
            at("/v1/actions"),
            Some(with("runTimeout", json!("0s"))),
            422,
            "invalid",
            "runTimeout",
        ),
        (
            &put,
            at("/v1/actions/other"),
            Some(made.clone()),
            422,
            "invalid",
            "as in the path",
        ),
        (
            &put,
            at("/v1/actions/made"),
            Some(made.clone()),
            404,
            "not_found",
            "made",
        ),
        (
            &put,
            at("/v1/actions/deploy"),
            Some(with("identifier", json!("deploy"))),
            403,
            "read_only",
            "deploy",
        ),
        // Entities.
        (
            &post,
            at(entities),
            Some(json!({})),
            422,
            "invalid",
            "identifier: is required",
        ),
        (
            &post,
            at(entities),
            Some(json!({"identifier": "a b"})),
            422,
            "invalid",
            "is no identifier",
        ),
        (
            &post,
            at(entities),
            Some(json!({"identifier": "a", "colour": 1})),
            422,
            "invalid",
            "colour: is not known",
        ),
        (
            &post,
            at(entities),
            Some(json!({"identifier": "a", "properties": []})),
            422,
            "invalid",
            "properties: must be an object",
        ),
        (
            &post,
            at(entities),
            Some(json!({"identifier": "a", "team": [1]})),
            422,
            "invalid",
            "team",
        ),
        (
            &post,
            format!("{entities}?merge=true"),
            Some(json!({"identifier": "a"})),
            400,
            "invalid_request",
            "without upsert",
        ),
        (
            &post,
            format!("{entities}?run_id=r_none"),
            Some(json!({"identifier": "a"})),
            422,
            "invalid",
            "no run is",
        ),
        (
            &post,
            format!("{entities}?run=x"),
            Some(json!({"identifier": "a"})),
            400,
            "invalid_request",
            "run",
        ),
        (
            &post,
            at("/v1/blueprints/a%20b/entities"),
            Some(json!({"identifier": "a"})),
            422,
            "invalid",
            "blueprint",
        ),
        (
            &put,
            format!("{entities}/a"),
            Some(json!({"identifier": "b"})),
            422,
            "invalid",
            "as in the path",
        ),
        (
            &put,
            format!("{entities}/a?upsert=true"),
            Some(json!({})),
            400,
            "invalid_request",
            "are for POST",
        ),
        (
            &patch,
            format!("{entities}/a"),
            Some(json!({})),
            404,
            "not_found",
            "has no entity \"a\"",
        ),
        (
            &get,
            format!("{entities}/a"),
            None,
            404,
            "not_found",
            "has no entity \"a\"",
        ),
        (
            &get,
            at("/v1/kafka-credentials"),
            None,
            404,
            "not_found",
            "no kafka_credentials",
        ),
    ];
    for (method, path, body, status, code, words) in cases {
        let answer = call(&sidecar, method.clone(), &path, body, &[]).await;
        println!("{method} {path}: {}", answer.status);
        expect(&answer, status, code, words);
    }
    let mut huge = made.clone();
    huge["invocationMethod"]["payload"] = json!({"text": "{{ \"x\" * 950000 }}"});
    let answer = crate::world::post(&sidecar, "/v1/actions", huge).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let answer = crate::world::post(&sidecar, "/v1/actions/made/runs", json!({})).await;
    expect(&answer, 413, "too_large", "may have 900000");
    let body = json!({"clientId": "a"});
    let answer = call(&sidecar, post, "/v1/auth/access_token", Some(body), &[]).await;
    expect(&answer, 400, "invalid_request", "clientSecret");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_goes_from_made_to_gone_and_a_run_is_about_it() {
    let mock = mock();
    let sidecar = start(&mock, "").await;
    let entities = "/v1/blueprints/service/entities";
    let made = post(
        &sidecar,
        entities,
        json!({"identifier": "shop", "team": "a", "properties": {"a": 1, "b": 2}}),
    )
    .await;
    assert_eq!(made.status, 201, "{made:?}");
    let path = format!("{entities}/shop");
    assert_eq!(made.header("location"), Some(path.as_str()));
    expect(
        &post(&sidecar, entities, json!({"identifier": "shop"})).await,
        409,
        "conflict",
        "?upsert=true",
    );
    let changed = patch(
        &sidecar,
        &path,
        json!({"title": "Shop", "properties": {"a": null, "c": 3}}),
    )
    .await;
    let entity = &changed.json()["entity"];
    assert_eq!(
        (&entity["properties"], &entity["title"], &entity["team"]),
        (&json!({"b": 2, "c": 3}), &json!("Shop"), &json!(["a"]))
    );
    let merge = format!("{entities}?upsert=true&merge=true");
    let merged = post(
        &sidecar,
        &merge,
        json!({"identifier": "shop", "properties": {"d": 4}}),
    )
    .await;
    assert_eq!(
        (merged.status.as_u16(), &merged.json()["entity"]["properties"]),
        (200, &json!({"b": 2, "c": 3, "d": 4}))
    );
    let replace = format!("{entities}?upsert=true");
    let replaced = post(
        &sidecar,
        &replace,
        json!({"identifier": "shop", "properties": {"e": 5}}),
    )
    .await;
    let entity = &replaced.json()["entity"];
    assert_eq!(
        (&entity["properties"], &entity["title"]),
        (&json!({"e": 5}), &Value::Null)
    );
    assert_eq!(entity["createdAt"], made.json()["entity"]["createdAt"]);

    let started = post(&sidecar, "/v1/actions/change/runs", json!({"entity": "shop"})).await;
    let about = &started.json()["run"];
    assert_eq!(
        (&about["entity"], &about["blueprint"]),
        (&json!("shop"), &json!("service"))
    );
    let reported = call(
        &sidecar,
        Method::PUT,
        &format!("{path}?run_id={}", about["id"].as_str().unwrap()),
        Some(json!({"title": "t"})),
        &[],
    )
    .await;
    assert_eq!(reported.status, 200, "{reported:?}");

    let gone = call(&sidecar, Method::DELETE, &path, None, &[]).await;
    assert_eq!(gone.status, 200, "{gone:?}");
    expect(&get(&sidecar, &path).await, 404, "not_found", "shop");
    expect(
        &call(&sidecar, Method::DELETE, &path, None, &[]).await,
        404,
        "not_found",
        "shop",
    );
    // It may be made again, at once.
    let again = call(&sidecar, Method::PUT, &path, Some(json!({})), &[]).await;
    assert_eq!(
        (again.status.as_u16(), &again.json()["entity"]["properties"]),
        (201, &json!({}))
    );
    assert_ne!(
        again.json()["entity"]["createdAt"],
        made.json()["entity"]["createdAt"]
    );
    let open = id(&run(&sidecar, "deploy").await).to_owned();
    assert!(open.starts_with("r_") && open.len() == 34, "{open}");
}
