//! What the documentation says of templates, sentence by sentence where the other tests do not have it.

use super::*;

#[tokio::test]
async fn what_is_not_there_is_null() {
    let template = json!([
        "{{ .action }}",
        "{{ .run.id }}",
        "{{ .entity }}",
        "{{ .event.diff.before }}",
        "{{ .secrets.org }}"
    ]);
    let mut record = record(&json!({ "payload": template }), Some("{}"));
    record.template.as_mut().unwrap().topics = vec!["other".to_owned()];
    let made = rendered(settings(), record).await.unwrap();
    assert_eq!(made.value.unwrap(), "[null,null,null,null,null]");
}

#[tokio::test]
async fn who_asks_has_a_first_name_and_the_trigger_a_time() {
    let mut record = record(
        &json!({ "payload": ["{{ .trigger.by.user.firstName }}", "{{ .trigger.by.orgId }}", "{{ .trigger.origin }}", "{{ .trigger.at }}", "{{ .trigger.operation }}"] }),
        Some("{}"),
    );
    let by = &mut record.template.as_mut().unwrap().by;
    by.push(Header {
        name: "user.firstName".to_owned(),
        value: Some("Ada".into()),
    });
    let made = rendered(settings(), record).await.unwrap();
    let made: Json = serde_json::from_slice(&made.value.unwrap()).unwrap();
    let at = humantime::parse_rfc3339(made[3].as_str().unwrap()).unwrap();
    assert!(at.elapsed().unwrap() < Duration::from_secs(60));
    assert_eq!(made[0], "Ada");
    assert_eq!(made[1], "ORG");
    assert_eq!(made[2], "API");
    assert_eq!(made[4], Json::Null);
}

#[tokio::test]
async fn objects_are_spread_at_any_depth_and_into_each_other() {
    let template = json!({
        "outer": {
            "{{ spreadValue() }}": { "a": "{{ .inputs.a }}", "inner": { "{{ spreadValue() }}": "{{ .inputs.o }}", "own": 1 } },
            "list": [{ "{{ spreadValue() }}": "{{ .inputs.o }}" }],
        },
        "{{ spreadValue() }}": "{{ {b: .inputs.a, outer: \"never\"} }}",
    });
    let made = payload(template, r#"{"a": 2, "o": {"x": {"y": [1]}}}"#).await;
    let expected = json!({
        "outer": { "a": 2, "inner": { "x": { "y": [1] }, "own": 1 }, "list": [{ "x": { "y": [1] } }] },
        "b": 2,
    });
    assert_eq!(made, expected);
}

#[tokio::test]
async fn a_condition_may_have_no_else() {
    let made = payload(
        json!({ "a": "{{ if .inputs.x then \"yes\" end }}", "b": "{{ if .inputs.y then 1 else 2 end }}" }),
        r#"{"x": true}"#,
    )
    .await;
    assert_eq!(made, json!({ "a": "yes", "b": 2 }));
}

#[tokio::test]
async fn what_becomes_of_templates_is_counted() {
    let metrics = crate::metrics::Metrics::default();
    let templates = Templates::new(settings(), metrics.templates());
    let until = || Instant::now() + Duration::from_secs(30);
    for (definition, body) in [
        (json!({ "payload": 1 }), "{}"),
        (json!({ "payload": "{{ .inputs.x.y }}" }), r#"{"x": 1}"#),
        (json!({ "payload": "{{ def f: f; f }}" }), "{}"),
        (json!({ "payload": "{{ nope }}" }), "{}"),
        (json!({ "topic": "x", "allowed_topics": ["a"] }), "{}"),
    ] {
        drop(templates.render(record(&definition, Some(body)), until()).await);
    }
    let waiting = templates.admit(&record(&json!({ "payload": 1 }), None)).unwrap();
    let told = metrics.encode().unwrap();
    for line in [
        "sluice_template_rendered_total 1",
        "sluice_template_failed_total{cause=\"expression\"} 1",
        "sluice_template_failed_total{cause=\"bound\"} 1",
        "sluice_template_failed_total{cause=\"misconfigured\"} 1",
        "sluice_template_failed_total{cause=\"topic\"} 1",
        "sluice_template_seconds_count 1",
    ] {
        assert!(told.lines().any(|one| one == line), "{line}: {told}");
    }
    let bytes = |told: &str| {
        let line = told
            .lines()
            .find(|line| line.starts_with("sluice_template_waiting_bytes "));
        line.unwrap().rsplit(' ').next().unwrap().parse::<i64>().unwrap()
    };
    assert!(bytes(&told) > 1024);
    drop(waiting);
    assert_eq!(bytes(&metrics.encode().unwrap()), 0);
}

#[tokio::test]
async fn the_same_definition_is_compiled_once() {
    let text = json!({ "payload": ["{{ .inputs.only_this_test }}"] }).to_string();
    let first = Definition::compile(&text).unwrap();
    assert!(Arc::ptr_eq(&first, &Definition::compile(&text).unwrap()));
}

#[tokio::test]
async fn depth_is_bounded_in_what_is_sent_made_and_written() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let (class, why) = refused(json!({ "payload": "{{ .inputs }}" }), &nested(400)).await;
    assert_eq!(class, ErrorClass::InvalidRequest);
    assert!(
        why.starts_with("template: inputs: the body is not JSON: "),
        "{why}"
    );
    let (class, why) = refused(
        json!({ "payload": "{{ reduce range(400) as $n (1; [.]) }}" }),
        "{}",
    )
    .await;
    assert_eq!(class, ErrorClass::InvalidRequest);
    assert!(why.starts_with("template: ") && why.contains("256"), "{why}");
    let written: Json = serde_json::from_str(&nested(70)).unwrap();
    let (class, why) = refused(json!({ "payload": written }), "{}").await;
    assert_eq!(class, ErrorClass::RouteMisconfigured);
    assert!(why.contains("nested more than 64 deep"), "{why}");
}
