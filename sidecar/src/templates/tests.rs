use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value as Json, json};
use sluice_proto::v1::{self, ErrorClass, Header};

use super::*;
use crate::kafka::record::Failure;
use crate::metrics::TemplateMetrics;

mod chosen;
mod said;

fn settings() -> Settings {
    let named = |value: &str, topics: &[&str]| NamedSecret {
        value: Secret::new(value),
        topics: TopicAllowlist(topics.iter().map(|topic| (*topic).to_owned()).collect()),
    };
    Settings {
        secrets: BTreeMap::from([
            (
                "org".to_owned(),
                named("0123456789abcdef0123456789abcdef-more", &["ORG.*"]),
            ),
            ("short".to_owned(), named("short-secret", &["ORG.*"])),
        ]),
        // Unoptimised and on a busy machine.
        timeout: Duration::from_secs(20),
        ..Settings::default()
    }
}

fn record(definition: &Json, body: Option<&str>) -> v1::Record {
    let header = |name: &str, value: &str| Header {
        name: name.to_owned(),
        value: Some(value.as_bytes().to_vec()),
    };
    v1::Record {
        template: Some(v1::Template {
            definition: definition.to_string(),
            inputs: body.map(|body| Bytes::copy_from_slice(body.as_bytes())),
            method: Bytes::from_static(b"POST"),
            path: Bytes::from_static(b"/a/b"),
            query: Bytes::from_static(b"x=1&y=2&x=%C3%A4"),
            headers: vec![header("x-a", "1"), header("x-b", "2"), header("x-b", "3")],
            by: vec![
                header("user.email", "a@b.c"),
                header("user.id", "7"),
                header("orgId", "ORG"),
            ],
            topics: vec!["ORG.runs".to_owned()],
        }),
        ..v1::Record::default()
    }
}

async fn rendered(settings: Settings, record: v1::Record) -> Result<v1::Record, Failure> {
    let rendered = rendered_with_topic(settings, record).await?;
    Ok(rendered.record)
}

async fn rendered_with_topic(settings: Settings, record: v1::Record) -> Result<Rendered, Failure> {
    let templates = Templates::new(settings, TemplateMetrics::default());
    let deadline = Instant::now() + Duration::from_secs(30);
    templates.render(record, deadline).await
}

async fn made(definition: Json, body: &str) -> Result<v1::Record, Failure> {
    rendered(settings(), record(&definition, Some(body))).await
}

async fn payload(payload: Json, body: &str) -> Json {
    let made = made(json!({ "payload": payload }), body).await.unwrap();
    serde_json::from_slice(&made.value.unwrap()).unwrap()
}

async fn refused(definition: Json, body: &str) -> (ErrorClass, String) {
    let failure = made(definition, body).await.unwrap_err();
    (failure.class, failure.message.into_owned())
}

#[tokio::test]
async fn expressions_see_the_request_and_who_asks() {
    let all = payload(
        json!({ "i": "{{ .inputs }}", "r": "{{ .request }}", "by": "{{ .trigger.by }}", "all": "{{ keys }}" }),
        r#"{"n": 1}"#,
    )
    .await;
    let expected = json!({
        "i": { "n": 1 },
        "r": {
            "method": "POST",
            "path": "/a/b",
            "query": { "x": ["1", "ä"], "y": "2" },
            "headers": { "x-a": "1", "x-b": ["2", "3"] },
        },
        "by": { "user": { "email": "a@b.c", "id": "7" }, "orgId": "ORG" },
        "all": ["inputs", "request", "trigger"],
    });
    assert_eq!(all, expected);
    let definition = json!({ "payload": "{{ .trigger }}", "origin": "UI", "operation": "DELETE" });
    let made = made(definition, "1").await.unwrap();
    let trigger: Json = serde_json::from_slice(&made.value.unwrap()).unwrap();
    assert_eq!(
        (&trigger["origin"], &trigger["operation"]),
        (&json!("UI"), &json!("DELETE"))
    );
    let at = humantime::parse_rfc3339(trigger["at"].as_str().unwrap()).unwrap();
    assert!(at.elapsed().unwrap() < Duration::from_secs(60));
}

#[tokio::test]
async fn without_a_body_the_inputs_are_null_and_one_that_is_no_json_is_refused() {
    let none = rendered(settings(), record(&json!({ "payload": ["{{ .inputs }}"] }), None)).await;
    assert_eq!(none.unwrap().value.unwrap(), "[null]");
    // What would close the object around it is no JSON by itself.
    for body in ["", "{", r#"1,"secrets":{"org":"x"}"#, "1 2"] {
        let (class, why) = refused(json!({ "payload": "{{ .secrets }}" }), body).await;
        assert_eq!(class, ErrorClass::InvalidRequest);
        assert!(
            why.starts_with("template: inputs: the body is not JSON: "),
            "{why}"
        );
    }
}

#[tokio::test]
async fn key_partition_and_headers_are_made_too() {
    let definition = json!({
        "key": "{{ .inputs.id }}",
        "partition": "{{ .inputs.p }}",
        "headers": { "a": "n={{ .inputs.p }}", "b": "{{ .inputs.none }}", "c": "{{ .inputs.o }}" },
    });
    let mut record = record(&definition, Some(r#"{"id": "k", "p": 3, "o": {"x": 1}}"#));
    record.value = Some(Bytes::from_static(b"as it came"));
    record.headers = vec![Header {
        name: "first".to_owned(),
        value: None,
    }];
    let made = rendered(settings(), record).await.unwrap();
    assert_eq!(made.template, None);
    assert_eq!(made.topics, ["ORG.runs"]);
    assert_eq!(
        (made.value.unwrap(), made.key.unwrap()),
        (Bytes::from("as it came"), Bytes::from("k"))
    );
    assert_eq!(made.partition, Some(3));
    let headers: Vec<_> = made
        .headers
        .iter()
        .map(|header| (&*header.name, header.value.as_deref()))
        .collect();
    assert_eq!(
        headers,
        [
            ("first", None),
            ("a", Some(&b"n=3"[..])),
            ("c", Some(&b"{\"x\":1}"[..]))
        ]
    );
    let none = rendered(settings(), super::tests::record(&definition, Some("{}")))
        .await
        .unwrap();
    assert_eq!((none.key, none.partition), (None, None));
    for partition in [json!(-1), json!("x"), json!(1.5), json!(2_147_483_648_i64)] {
        let (class, why) = refused(definition.clone(), &json!({ "p": partition }).to_string()).await;
        assert_eq!(class, ErrorClass::InvalidRequest);
        assert_eq!(
            why,
            "template: partition: gives no whole number from 0 to 2147483647"
        );
    }
    let long = json!({ "id": "x".repeat(65_537) }).to_string();
    assert!(
        refused(definition, &long)
            .await
            .1
            .starts_with("template: key: gives 65537 bytes")
    );
}

#[tokio::test]
async fn an_error_names_the_field_and_the_expression() {
    for (definition, why) in [
        (
            json!({ "payload": { "a/b": ["{{ .inputs.x.y }}"] } }),
            "template: payload/a~1b/0: {{ .inputs.x.y }} cannot index 7",
        ),
        (
            json!({ "payload": { "a": { "b": "x {{ error(\"no\") }}" } } }),
            "template: payload/a/b: {{ error(\"no\") }} ",
        ),
        (
            json!({ "key": "{{ .inputs.x | keys }}" }),
            "template: key: {{ .inputs.x | keys }} ",
        ),
        (
            json!({ "headers": { "h": "{{ 1, 2 }}" } }),
            "template: headers/h: {{ 1, 2 }} gives more than one value",
        ),
        (
            json!({ "payload": { "a": { "{{ spreadValue() }}": "{{ .inputs.x }}" } } }),
            "template: payload/a/{{ spreadValue() }}: gives no object",
        ),
    ] {
        let (class, told) = refused(definition, r#"{"x": 7}"#).await;
        assert_eq!(class, ErrorClass::InvalidRequest);
        assert!(told.starts_with(why), "{told}");
    }
    for (definition, why) in [
        (
            json!({ "payload": { "a": "{{ nope }}" } }),
            "template: payload/a: \"nope\" calls nope",
        ),
        (
            json!({ "headers": { "h": "{{ ." } }),
            "template: headers/h: the expression that begins at its byte 0 has no }}",
        ),
        (
            json!({ "headers": { "h": 1 } }),
            "template: headers/h: must be text",
        ),
        (
            json!({ "headers": { "": "x" } }),
            "template: headers: \"\" is no name",
        ),
        (
            json!({ "nope": 1 }),
            "template: the template cannot be read: unknown field `nope`",
        ),
        (
            json!({ "payload": 1, "encrypt": { "secret": "org", "inputs": ["a"] } }),
            "template: encrypt.inputs: \"a\" is no JSON pointer",
        ),
        (
            json!({ "payload": "x".repeat(MAX_DEFINITION) }),
            "template: the template has 65550 bytes",
        ),
    ] {
        let (class, told) = refused(definition, "{}").await;
        assert_eq!(class, ErrorClass::RouteMisconfigured);
        assert!(told.starts_with(why), "{told}");
    }
}

#[tokio::test]
async fn bounds_are_named() {
    let small = |change: fn(&mut Settings)| {
        let mut settings = settings();
        change(&mut settings);
        settings
    };
    let output = small(|settings| settings.max_output_bytes = 2000);
    let time = small(|settings| settings.timeout = Duration::from_millis(1));
    for (settings, expression, why) in [
        (
            settings(),
            "{{ def f: f; f }}",
            "template: takes more than 1000000 steps",
        ),
        (
            output,
            "{{ \"x\" * 3000 }}",
            "template: gives more than 2000 bytes",
        ),
        (
            time,
            "{{ [range(200000)] | length }}",
            "template: takes longer than 1 ms",
        ),
    ] {
        let failure = rendered(settings, record(&json!({ "payload": expression }), None))
            .await
            .unwrap_err();
        assert_eq!(failure.class, ErrorClass::InvalidRequest);
        assert!(failure.message.starts_with(why), "{}", failure.message);
    }
    let small = small(|settings| settings.max_waiting_bytes = 3000);
    let templates = Templates::new(small, TemplateMetrics::default());
    let one = record(&json!({ "payload": 1 }), None);
    let waits = [templates.admit(&one).unwrap(), templates.admit(&one).unwrap()];
    let full = templates.admit(&one).err().unwrap();
    assert_eq!(full.class, ErrorClass::BufferFull);
    assert!(
        full.message.contains("templates.max_waiting_bytes, 3000"),
        "{}",
        full.message
    );
    assert!(!templates.is_idle());
    drop(waits);
    assert!(templates.is_idle() && templates.admit(&one).is_ok());
    let slow = record(&json!({ "payload": "{{ [range(100000)] | length }}" }), None);
    let late = templates.render(slow, Instant::now()).await.unwrap_err();
    assert_eq!(late.class, ErrorClass::BufferFull);
    assert!(
        late.message.contains("in the time that its client waits"),
        "{}",
        late.message
    );
}

#[tokio::test]
async fn secrets_are_for_their_topics_and_in_no_error() {
    let expression = json!({ "payload": "{{ .secrets[\"short\"] }}" });
    let own = made(expression.clone(), "{}").await.unwrap();
    assert_eq!(own.value.unwrap(), "\"short-secret\"");
    for topics in [vec!["other"], vec!["ORG.runs", "other"], vec![]] {
        let mut record = record(&expression, None);
        record.template.as_mut().unwrap().topics = topics.into_iter().map(str::to_owned).collect();
        assert_eq!(rendered(settings(), record).await.unwrap().value.unwrap(), "null");
    }
    for expression in [
        "{{ error(.secrets.short) }}",
        "{{ .secrets.short.x }}",
        "{{ .secrets.short | tonumber }}",
        "{{ .secrets | error }}",
        "{{ try error(.secrets.short) catch error(\"it is \" + .) }}",
    ] {
        let (_, why) = refused(json!({ "payload": { "a": expression } }), "{}").await;
        assert!(!why.contains("short-secret"), "{why}");
        assert!(why.starts_with("template: payload/a: {{ "), "{why}");
        assert!(
            why.ends_with("fails; how is not told, since it may see a secret"),
            "{why}"
        );
    }
    assert!(!format!("{:?}", settings()).contains("short-secret"));
    // Who does not name them does not get them by giving all that there is.
    assert_eq!(
        payload(json!("{{ keys }}"), "{}").await,
        json!(["inputs", "request", "trigger"])
    );
}

#[tokio::test]
async fn inputs_are_encrypted_before_expressions_see_them() {
    let definition = |secret: &str| json!({ "payload": "{{ .inputs }}", "encrypt": { "secret": secret, "inputs": ["/p", "/o/x", "/none", "/null"] } });
    let body = r#"{"p": "geheim ä", "o": {"x": {"n": 1}}, "q": "open", "null": null}"#;
    let made = made(definition("org"), body).await.unwrap();
    let made: Json = serde_json::from_slice(&made.value.unwrap()).unwrap();
    assert_eq!((&made["q"], &made["null"]), (&json!("open"), &json!(null)));
    assert!(made.get("none").is_none());
    assert_eq!(opened(&made["p"]), "geheim ä");
    assert_eq!(opened(&made["o"]["x"]), "{\"n\":1}");
    for (secret, why) in [
        ("short", "encrypt.secret: \"short\" has less than the 32 bytes"),
        ("none", "encrypt.secret: the sidecar has no secret \"none\""),
    ] {
        let (class, told) = refused(definition(secret), body).await;
        assert_eq!(class, ErrorClass::RouteMisconfigured);
        assert!(told.starts_with(why), "{told}");
    }
    let mut elsewhere = record(&definition("org"), Some(body));
    elsewhere.template.as_mut().unwrap().topics = vec!["other".to_owned()];
    let told = rendered(settings(), elsewhere).await.unwrap_err();
    assert!(
        told.message.contains("is not for the topic \"other\""),
        "{}",
        told.message
    );
}

/// What OpenSSL makes of it; end to end Python's `cryptography` does.
fn opened(sealed: &Json) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let raw = STANDARD.decode(sealed.as_str().unwrap()).unwrap();
    let (iv, rest) = raw.split_at(16);
    let (sealed, tag) = rest.split_at(rest.len() - 16);
    let cipher = openssl::symm::Cipher::aes_256_gcm();
    let key = b"0123456789abcdef0123456789abcdef";
    let plain = openssl::symm::decrypt_aead(cipher, key, Some(iv), &[], sealed, tag).unwrap();
    String::from_utf8(plain).unwrap()
}

#[tokio::test]
async fn the_table_of_templates_holds_and_jq_agrees() {
    let table = include_str!("../../../testdata/templates/cases.json");
    let table: Vec<Json> = serde_json::from_str(table).unwrap();
    assert!(table.len() >= 60, "{}", table.len());
    let (mut by_jq, mut wrong) = (0, Vec::new());
    for case in &table {
        let (template, gives) = (&case["template"], &case["gives"]);
        let inputs = &case["inputs"];
        let made = made(json!({ "payload": template }), &inputs.to_string()).await;
        let made = made.map(|made| serde_json::from_slice::<Json>(&made.value.unwrap()).unwrap());
        if made.as_ref().ok() != Some(gives) {
            wrong.push(format!("{template} is {made:?} and not {gives}"));
        }
        // A string that is one expression is plain jq.
        let text = template.as_str().unwrap_or_default();
        let plain = text.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
        let Some(plain) = plain.filter(|plain| !plain.contains("}}") && !plain.contains("{{")) else {
            continue;
        };
        let ran = std::process::Command::new("jq")
            .args(["-nc", "--argjson", "in", &inputs.to_string()])
            .arg(format!("{{inputs: $in}} | {plain}"))
            .output()
            .expect("jq is installed: apt-get install jq");
        let out = match ran.stdout.is_empty() {
            true => b"null".to_vec(),
            false => ran.stdout,
        };
        let said = serde_json::from_slice::<Json>(&out).ok();
        if !ran.status.success() || said.as_ref() != Some(gives) {
            let why = String::from_utf8_lossy(&ran.stderr);
            wrong.push(format!("jq says of {template} {said:?} {why}, and not {gives}"));
        }
        by_jq += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(by_jq >= 45, "{by_jq}");
}
