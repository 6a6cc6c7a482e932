//! The organisation itself, which agents say something of.

use hyper::Method;
use serde_json::{Value, json};

use crate::world::{call, expect, get, mock, patch, start};

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_says_how_it_gets_runs_and_every_sidecar_knows() {
    let mock = mock();
    let (one, two) = (start(&mock, "").await, start(&mock, "").await);
    let path = "/v1/organization";
    let streamer = |answer: &Value| answer["organization"]["settings"]["portAgentStreamerName"].clone();
    let told = get(&one, path).await;
    assert_eq!(told.status, 200, "{told:?}");
    assert_eq!(told.json()["organization"]["id"], "acme");
    assert_eq!(streamer(&told.json()), Value::Null);
    for wanted in [
        json!("KAFKA"),
        json!("KAFKA"),
        json!("POLLING"),
        Value::Null,
        json!("KAFKA"),
    ] {
        let body = json!({"settings": {"portAgentStreamerName": wanted}});
        let answer = patch(&one, path, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(streamer(&answer.json()), wanted);
        assert_eq!(streamer(&get(&two, path).await.json()), wanted);
    }
    // What says nothing changes nothing.
    for body in [json!({}), json!({"settings": {}})] {
        let answer = patch(&two, path, body).await;
        assert_eq!(
            (answer.status.as_u16(), streamer(&answer.json())),
            (200, json!("KAFKA"))
        );
    }
    for (body, words) in [
        (json!({"name": "x"}), "known is settings"),
        (json!([]), "must be a mapping"),
        (json!({"settings": 1}), "must be a mapping"),
        (
            json!({"settings": {"portAgentStreamerName": "PUSH"}}),
            "must be KAFKA, POLLING or null",
        ),
        (
            json!({"settings": {"hiddenBlueprints": []}}),
            "known is portAgentStreamerName",
        ),
    ] {
        expect(&patch(&one, path, body).await, 422, "invalid", words);
    }
    for method in [Method::GET, Method::PATCH] {
        let nobody = [("authorization", "Bearer unknown")];
        let body = (method == Method::PATCH).then(|| json!({}));
        let answer = call(&one, method, path, body, &nobody).await;
        expect(&answer, 401, "not_authenticated", "none that is known here");
    }
}
