//! Topics that expressions choose, and templates that others name.

use super::*;

fn choosing(topic: &str, allowed: &[&str], own: &[&str], body: &str) -> v1::Record {
    let definition = json!({ "topic": topic, "allowed_topics": allowed, "payload": "{{ .secrets.short }}" });
    let mut record = record(&definition, Some(body));
    let topics = own.iter().map(|topic| (*topic).to_owned());
    record.template.as_mut().unwrap().topics = topics.collect();
    record
}

async fn chosen(
    topic: &str,
    allowed: &[&str],
    own: &[&str],
    body: &str,
) -> Result<Rendered, (ErrorClass, String)> {
    let record = choosing(topic, allowed, own, body);
    let rendered = rendered_with_topic(settings(), record).await;
    rendered.map_err(|failure| (failure.class, failure.message.into_owned()))
}

#[tokio::test]
async fn a_topic_is_chosen_among_those_that_may_be() {
    let topic = "orders.{{ .inputs.region }}";
    for (region, own) in [("eu", &["orders"][..]), ("eu", &[]), ("us", &["orders.us"])] {
        let body = json!({ "region": region }).to_string();
        let made = chosen(topic, &["orders.eu", "orders.asia"], own, &body)
            .await
            .unwrap();
        let expected = format!("orders.{region}");
        assert_eq!(made.record.topics, [expected.as_str()]);
        assert_eq!(made.topic.as_deref(), Some(expected.as_str()));
    }
    // Null chooses nothing: the record goes where it goes without.
    let own = chosen("{{ .inputs.t }}", &["b"], &["a1", "a2"], "{}")
        .await
        .unwrap();
    assert_eq!(
        (own.record.topics, own.topic),
        (vec!["a1".to_owned(), "a2".to_owned()], None)
    );
    let (class, why) = chosen("{{ .inputs.t }}", &["b"], &[], "{}").await.unwrap_err();
    assert_eq!(class, ErrorClass::InvalidRequest);
    assert_eq!(
        why,
        "template: topic: {{ .inputs.t }} gives nothing, and the record has no topic without it: it may choose b"
    );
}

#[tokio::test]
async fn one_that_may_not_be_chosen_is_refused_with_the_expression_and_those_that_may() {
    for (given, shown) in [
        (json!("prod"), "\"prod\""),
        (json!("*"), "\"*\""),
        (json!(""), "\"\""),
        (json!(["a"]), "\"[\\\"a\\\"]\""),
        (json!("a\n"), "\"a\\n\""),
    ] {
        let body = json!({ "t": given }).to_string();
        let refused = chosen("{{ .inputs.t }}", &["b", "c"], &["a"], &body).await;
        let (class, why) = refused.unwrap_err();
        assert_eq!(class, ErrorClass::TopicNotAllowed);
        let expected = format!(
            "template: topic: {{{{ .inputs.t }}}} gives {shown}, which it may not choose: it may choose a, b, c"
        );
        assert_eq!(why, expected);
    }
    let many: Vec<String> = (0..30).map(|n| format!("t{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let (_, why) = chosen("x", &many, &[], "{}").await.unwrap_err();
    assert!(why.ends_with("t19, and 10 more"), "{why}");
    let (class, why) = chosen("{{ .inputs.x.y }}", &["b"], &[], r#"{"x": 7}"#)
        .await
        .unwrap_err();
    assert_eq!(class, ErrorClass::InvalidRequest);
    assert!(
        why.starts_with("template: topic: {{ .inputs.x.y }} cannot index 7"),
        "{why}"
    );
}

#[tokio::test]
async fn secrets_are_seen_only_where_all_that_may_be_chosen_may_have_them() {
    let seen = async |allowed: &[&str], own: &[&str]| {
        let made = chosen("ORG.a", allowed, own, "{}").await.unwrap();
        made.record.value.unwrap()
    };
    assert_eq!(seen(&["ORG.a", "ORG.b"], &["ORG.runs"]).await, "\"short-secret\"");
    assert_eq!(seen(&["ORG.a", "other"], &[]).await, "null");
    assert_eq!(seen(&["ORG.a"], &["other"]).await, "null");
    // What a topic would tell of a secret is not told.
    let refused = chosen("{{ .secrets.short }}", &["ORG.a"], &[], "{}").await;
    let (class, why) = refused.unwrap_err();
    assert_eq!(class, ErrorClass::TopicNotAllowed);
    assert_eq!(
        why,
        "template: topic: {{ .secrets.short }} gives a topic which it may not choose: it may choose ORG.a"
    );
}

#[tokio::test]
async fn what_a_definition_may_not_have_is_told() {
    for (definition, why) in [
        (
            json!({ "allowed_topics": ["a"] }),
            "template: allowed_topics: are what a `topic` may choose",
        ),
        (
            json!({ "topic": "a", "allowed_topics": ["a b"] }),
            "template: allowed_topics: \"a b\" is no topic's name",
        ),
        (
            json!({ "topic": "{{ nope }}" }),
            "template: topic: \"nope\" calls nope",
        ),
        (
            json!({ "name": "deploy", "payload": 1 }),
            "template: name: the template that it names says what is made",
        ),
        (
            json!({ "name": "other" }),
            "the sidecar has no template \"other\"",
        ),
    ] {
        let (class, told) = refused(definition, "{}").await;
        assert_eq!(class, ErrorClass::RouteMisconfigured);
        assert!(told.starts_with(why), "{told}");
    }
}

fn with_named(definition: &Json) -> Settings {
    let named = Named {
        definition: Definition::compile(&definition.to_string()).unwrap(),
        by: Vec::new(),
    };
    Settings {
        named: BTreeMap::from([("deploy".to_owned(), named)]),
        ..settings()
    }
}

#[tokio::test]
async fn a_template_of_the_sidecars_stands_for_its_name() {
    let definition = json!({
        "payload": { "a": "{{ .inputs.a }}", "t": "{{ .trigger }}" }, "key": "{{ .inputs.a }}", "origin": "UI", "operation": "DELETE",
    });
    let made = async |asked: Json| {
        let made = rendered(with_named(&definition), record(&asked, Some(r#"{"a": 1}"#))).await;
        let made = made.unwrap();
        assert_eq!(made.key.unwrap(), "1");
        let value: Json = serde_json::from_slice(&made.value.unwrap()).unwrap();
        assert_eq!(value["a"], 1);
        assert_eq!(value["t"]["by"]["orgId"], "ORG");
        (value["t"]["origin"].clone(), value["t"]["operation"].clone())
    };
    assert_eq!(
        made(json!({ "name": "deploy", "whole": true })).await,
        (json!("UI"), json!("DELETE"))
    );
    let own = json!({ "name": "deploy", "origin": "CLI", "operation": "CREATE" });
    assert_eq!(made(own).await, (json!("CLI"), json!("CREATE")));
    // A record that counts on a value gets one, and is no tombstone by mistake.
    let keys = with_named(&json!({ "key": "k" }));
    let whole = record(&json!({ "name": "deploy", "whole": true }), Some("{}"));
    let failure = rendered(keys.clone(), whole).await.unwrap_err();
    assert_eq!(failure.class, ErrorClass::RouteMisconfigured);
    assert!(
        failure.message.contains("set `value` there"),
        "{}",
        failure.message
    );
    let mut with_value = record(&json!({ "name": "deploy" }), Some("{}"));
    with_value.value = Some(Bytes::from_static(b"as it came"));
    let made = rendered(keys, with_value).await.unwrap();
    assert_eq!(
        (made.key.unwrap(), made.value.unwrap()),
        (Bytes::from("k"), Bytes::from("as it came"))
    );
}

#[tokio::test]
async fn another_value_of_a_secret_is_used_at_once() {
    let templates = Templates::new(settings(), TemplateMetrics::default());
    let until = || Instant::now() + Duration::from_secs(30);
    let one = record(&json!({ "payload": "{{ .secrets.short }}" }), None);
    let value = async || {
        templates
            .render(one.clone(), until())
            .await
            .unwrap()
            .record
            .value
            .unwrap()
    };
    assert_eq!(value().await, "\"short-secret\"");
    let to = |value: &str| NamedSecret {
        value: Secret::new(value),
        topics: TopicAllowlist(vec!["ORG.*".to_owned()]),
    };
    assert!(templates.renew("short", to("changed")));
    assert!(!templates.renew("short", to("changed")));
    assert_eq!(value().await, "\"changed\"");
    // One that is not there any more, and is for other topics when it comes back.
    assert_eq!(templates.take_away(|name| name != "short"), ["short"]);
    assert_eq!(templates.take_away(|name| name != "short"), [""; 0]);
    assert_eq!(value().await, "null");
    assert!(templates.renew("short", to("again")));
    assert_eq!(value().await, "\"again\"");
    let elsewhere = NamedSecret {
        topics: TopicAllowlist(vec!["elsewhere".to_owned()]),
        ..to("again")
    };
    assert!(templates.renew("short", elsewhere));
    assert_eq!(value().await, "null");
}
