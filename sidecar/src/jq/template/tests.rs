use serde_json::json;

use super::*;
use crate::jq::{self, Limits};

/// A machine that is busy is no reason to fail.
fn limits() -> Limits {
    Limits {
        time: std::time::Duration::from_secs(60),
        ..Limits::default()
    }
}

async fn rendered(template: Json, input: Json) -> Result<Json, String> {
    let template = Template::parse(&template, &["$event"])?;
    let shown = jq::run(move |turn| {
        turn.within(limits(), |scope| {
            let input = Value::from_json(input.to_string().as_bytes()).unwrap();
            template.json(scope, &input, &[Value::from("e1")])
        })
    });
    let json = shown.await.unwrap().map_err(|why| why.to_string())?;
    Ok(serde_json::from_slice(&json).unwrap())
}

async fn text(template: &str, input: Json) -> Result<String, String> {
    let template = Template::parse_text(template, &["$event"])?;
    let shown = jq::run(move |turn| {
        turn.within(limits(), |scope| {
            let input = Value::from_json(input.to_string().as_bytes()).unwrap();
            template.text(scope, &input, &[Value::from("e1")])
        })
    });
    shown.await.unwrap().map_err(|why| why.to_string())
}

#[tokio::test]
async fn a_template_becomes_what_its_expressions_give() {
    let input = json!({ "record": { "key": "k", "n": 7, "o": { "x": [1] } } });
    for (template, result) in [
        (json!("{{ .record.key }}"), json!("k")),
        (json!("{{.record.n}}"), json!(7)),
        (json!("{{ .record.o }}"), json!({ "x": [1] })),
        (json!("{{ .record.none }}"), json!(null)),
        (json!("{{ empty }}"), json!(null)),
        (json!("{{ $event }}"), json!("e1")),
        (
            json!("a {{ .record.key }} b {{ .record.n }}{{ .record.o }} {{ .none }}"),
            json!("a k b 7{\"x\":[1]} null"),
        ),
        (
            json!({ "a": ["{{ .record.n + 1 }}", 1, true, null, "x"], "b": {} }),
            json!({ "a": [8, 1, true, null, "x"], "b": {} }),
        ),
        (json!("{{ {a: {b: 1}} }}"), json!({ "a": { "b": 1 } })),
        (json!("{{ {a: {b: 1}}}}"), json!({ "a": { "b": 1 } })),
        (json!("{{ \"}}\" }}!"), json!("}}!")),
        (json!("{{ \"\\(.record.key + \"}}\")\" }}"), json!("k}}")),
        (json!("{{ .record.n # }} a comment\n + 1 }}"), json!(8)),
        (json!("\\{{ no }}"), json!("{{ no }}")),
        (json!("{{ \"{{\" }}"), json!("{{")),
        (json!("a } b }} { c"), json!("a } b }} { c")),
        (json!(""), json!("")),
        (json!("\"ä\n"), json!("\"ä\n")),
        (json!("ä{{ .record.key }}\"\n"), json!("äk\"\n")),
        (json!(1.5), json!(1.5)),
    ] {
        assert_eq!(
            rendered(template.clone(), input.clone()).await,
            Ok(result),
            "{template}"
        );
    }
    assert_eq!(
        text("/users/{{ .record.key | @uri }}?n={{ .record.n }}", input.clone())
            .await
            .unwrap(),
        "/users/k?n=7"
    );
    assert_eq!(text("{{ .record.n }}", input.clone()).await.unwrap(), "7");
    assert_eq!(text("plain", input.clone()).await.unwrap(), "plain");
}

#[tokio::test]
async fn what_is_wrong_says_where() {
    for (template, why) in [
        (
            json!({ "a": ["x {{ .b"] }),
            "/a/0: the expression that begins at its byte 2 has no }}",
        ),
        (json!({ "a/b": "{{ nope }}" }), "/a~1b: \"nope\" calls nope"),
        (json!({ "{{ .a }}": 1 }), "is the name of a member"),
        (json!("{{ }}"), "lacks a term"),
        (json!("{{ \"}} "), "has no }}"),
        (json!("{{ $other }}"), "uses the variable $other"),
        (json!(vec!["{{ . }}"; 257]), "the 256 that a template may have"),
    ] {
        let error = Template::parse(&template, &["$event"]).unwrap_err();
        assert!(error.contains(why), "{template}: {error}");
    }
    let error = rendered(json!({ "a": "{{ .a.b }}" }), json!({ "a": 7 }))
        .await
        .unwrap_err();
    assert!(error.contains("{{ .a.b }} cannot index 7"), "{error}");
    let error = rendered(json!("{{ 1, 2 }}"), json!(null)).await.unwrap_err();
    assert!(error.contains("more than one value"), "{error}");
    let error = rendered(json!("{{ \"x\" * 3000000 }}{{ \"x\" * 3000000 }}"), json!(null))
        .await
        .unwrap_err();
    assert!(error.contains("gives more than 4194304 bytes"), "{error}");
    let error = rendered(
        json!(["{{ [range(4e5)] | length }}", "{{ [range(4e5)] | length }}"]),
        json!(null),
    )
    .await;
    assert!(
        error.unwrap_err().contains("steps"),
        "all expressions together are bounded"
    );
}
