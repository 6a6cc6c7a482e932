//! Payloads and conditions.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{run, settings, two};
use crate::actions::expressions::Expressions;
use crate::actions::item::Run;
use crate::config::Secret;
use crate::json_api::Error;

#[tokio::test]
async fn a_payload_sees_its_run_and_its_own_organisations_secrets() {
    let settings = settings(
        "{acme: {secrets: {key: hunter2}, access: [{tokens: [t], name: n, may: [see]}]}, \
         rest: {access: [{tokens: [u], name: n, may: [see]}]}}",
    );
    let expressions = Expressions::new(&settings);
    let mut run = run();
    run.properties.insert("version".to_owned(), "v1".into());
    run.event = Some(json!({"diff": {"before": 1, "after": 2}}));
    let of = async |payload: Value, run: &mut Run, org: &str| {
        run.invocation_method.insert("payload".to_owned(), payload);
        expressions.payload(&settings.orgs[org], "r_1", run).await
    };
    let payload = json!({
        "all": "{{ [.inputs.version, .run.id, .action.identifier, .trigger.origin, .event.diff.after] }}",
        "entity": "{{ .entity }}", "secret": "{{ .secrets.key }}", "payload": "{{ .action.invocationMethod.payload }}",
    });
    let made = of(payload.clone(), &mut run, "acme").await.unwrap();
    let expected = json!({
        "all": ["v1", "r_1", "deploy", "API", 2], "entity": null, "secret": "hunter2", "payload": null,
    });
    assert_eq!(made, expected);
    let made = of(payload.clone(), &mut run, "rest").await.unwrap();
    assert_eq!(made["secret"], Value::Null, "it is another organisation's");
    let next = || BTreeMap::from([("key".to_owned(), Secret::new("hunter2 the next"))]);
    assert!(expressions.renew("acme", next()));
    assert!(!expressions.renew("acme", next()) && !expressions.renew("nobody", next()));
    let made = of(payload.clone(), &mut run, "acme").await.unwrap();
    assert_eq!(made["secret"], "hunter2 the next");
    let made = of(payload, &mut run, "rest").await.unwrap();
    assert_eq!(made["secret"], Value::Null);
    let failed = of(json!({"a": "{{ .secrets.key | error }}"}), &mut run, "acme")
        .await
        .unwrap_err();
    assert!(
        failed.to_string().contains("payload") && !failed.to_string().contains("hunter2"),
        "{failed}"
    );
    let failed = of(json!({"a": "{{ [range(1e9)] }}"}), &mut run, "acme")
        .await
        .unwrap_err();
    assert!(matches!(failed, Error::Invalid(_)), "{failed:?}");
    run.invocation_method.remove("payload");
    let usual = expressions
        .payload(&settings.orgs["acme"], "r_1", &run)
        .await
        .unwrap();
    assert_eq!(usual["properties"]["version"], "v1");
}

#[tokio::test]
async fn a_condition_holds_as_its_expressions_go_together() {
    let expressions = Expressions::new(&two());
    let event = json!({"diff": {"after": {"n": 2}}});
    for (all, combinator, holds) in [
        (
            vec![".diff.after.n == 2", ".event.diff.after.n == 2"],
            "and",
            Some(true),
        ),
        (vec!["true", "false"], "and", Some(false)),
        (vec!["true", "false"], "or", Some(true)),
        // What is no truth value is none.
        (vec!["1"], "and", Some(false)),
        (vec![], "and", Some(true)),
        (vec![], "or", Some(false)),
        (vec!["error(\"x\")"], "and", None),
    ] {
        let condition = json!({"type": "JQ", "expressions": all, "combinator": combinator});
        let condition = serde_json::from_value(condition).unwrap();
        assert_eq!(
            expressions.holds(&condition, &event).await.ok(),
            holds,
            "{all:?} {combinator}"
        );
    }
}
