//! Fields of templates that contradict each other or say too little.

use super::*;

fn wrong(fields: Json, path: &str, words: &str) {
    let mut tree = fields;
    tree.as_object_mut()
        .unwrap()
        .insert("topic".to_owned(), json!("orders"));
    let found = problems(tree.clone());
    assert!(
        found
            .iter()
            .any(|problem| problem.starts_with(path) && problem.contains(words)),
        "{tree}: {found:?}"
    );
}

#[test]
fn what_contradicts_itself_is_refused() {
    wrong(
        json!({"payload": 1, "value": "body"}),
        "payload",
        "takes the place of `value`",
    );
    wrong(
        json!({"payload": 1, "value_by_method": {"DELETE": "none"}}),
        "value_by_method",
        "with a `payload`",
    );
    wrong(
        json!({"payload": 1, "cloudevents": "binary"}),
        "cloudevents",
        "must be off",
    );
    wrong(
        json!({"template": {"key": "x"}, "key": {"query": "k"}}),
        "key",
        "template.key already",
    );
    wrong(
        json!({"template": {"partition": "1"}, "partition": {"fixed": 1}}),
        "partition",
        "template.partition already",
    );
    wrong(
        json!({"encrypt": {"secret": "s", "inputs": ["/p"]}}),
        "encrypt",
        "for a route with a `payload`",
    );
    wrong(
        json!({"payload": 1, "encrypt": {"inputs": ["/p"]}}),
        "encrypt.secret",
        "is required",
    );
    wrong(
        json!({"payload": 1, "encrypt": {"secret": "s"}}),
        "encrypt.inputs",
        "at least one",
    );
    wrong(
        json!({"payload": 1, "encrypt": {"secret": "s", "inputs": ["p"]}}),
        "encrypt.inputs[0]",
        "no JSON pointer",
    );
    wrong(
        json!({"payload": 1, "encrypt": {"secret": "s", "inputs": ["/p"], "encryption": "rot13"}}),
        "encrypt.encryption",
        "aes256-gcm",
    );
    wrong(json!({"template": {}}), "template", "must name one of");
    wrong(
        json!({"template": {"topic": "x"}, "topics_query_arg": "t"}),
        "template.topic",
        "chooses by `topic` or `topics_query_arg` already",
    );
    wrong(
        json!({"template": {"name": "n", "key": "x"}}),
        "template.key",
        "is said by the template that `name` names",
    );
    wrong(
        json!({"template": {"name": "n"}, "payload": 1}),
        "template.name",
        "leave `payload` and `encrypt` out",
    );
    wrong(
        json!({"template": {"name": "n"}, "encrypt": {"secret": "s", "inputs": ["/p"]}}),
        "template.name",
        "leave `payload` and `encrypt` out",
    );
    wrong(
        json!({"template": {"name": "n"}, "value_by_method": {"DELETE": "none"}}),
        "value_by_method",
        "with a `payload`",
    );
    wrong(
        json!({"template": {"headers": {"h": 1}}}),
        "template.headers.h",
        "must be a string",
    );
}

#[test]
fn who_asks_is_not_what_a_client_says() {
    let by = |by: Json| json!({"payload": 1, "trigger": {"by": by}});
    wrong(
        by(json!({"user.id": {"header": "x-user"}})),
        "trigger.by.user.id",
        "could be anybody's name",
    );
    wrong(
        by(json!({"user.id": {"json_pointer": "/user"}})),
        "trigger.by.user.id",
        "trust_request: true",
    );
    let metadata = json!({"metadata": ["n", "a"]});
    wrong(
        by(json!({"user": metadata, "user.id": metadata})),
        "trigger.by.user",
        "one is a part of the other",
    );
    wrong(
        by(json!({"user..id": metadata})),
        "trigger.by.user..id",
        "is no name",
    );
    wrong(
        by(json!({"user.id": {"metadata": ["n", "a"], "default": "x"}})),
        "trigger.by.user.id",
        "takes neither",
    );
    wrong(
        json!({"payload": 1, "trigger": {"operation": "READ"}}),
        "trigger.operation",
        "DAY-2",
    );
}

#[test]
fn a_layer_above_takes_the_payload_or_the_value_away() {
    let with = |base: Json, above: Json| {
        let route = with_metadata(&config(base), above).unwrap().unwrap();
        (route.value, route.template.map(|template| template.definition))
    };
    let made = json!({"topic": "t", "payload": 1, "encrypt": {"secret": "s", "inputs": ["/p"]}});
    assert_eq!(with(made, json!({"value": "body"})), (Value::Body, None));
    let (_, template) = with(json!({"topic": "t", "value": "body"}), json!({"payload": 2}));
    assert_eq!(template.unwrap(), r#"{"payload":2,"origin":"API"}"#);
}

#[test]
fn a_topic_is_made_only_where_there_is_one_to_choose() {
    let base = config(json!({"answer_timeout": 60000}));
    let made = json!({"template": {"topic": "{{ .inputs.t }}"}});
    assert_eq!(
        with_metadata(&base, made).unwrap_err(),
        [
            "metadata.filter_metadata.sluice.template.topic: can name no topic: set allowed_topics, or a topic of the route's own"
        ]
    );
    let among = json!({"template": {"topic": "{{ .inputs.t }}"}, "allowed_topics": ["a"]});
    assert!(with_metadata(&base, among).unwrap().unwrap().topics.is_empty());
    let chosen = json!({"template": {"topic": "x"}, "topic": {"header": "t", "allowed": ["a"]}});
    let why = with_metadata(&base, chosen).unwrap_err();
    assert!(why[0].contains("chooses by `topic`"), "{why:?}");
}

#[test]
fn a_layer_above_takes_a_named_template_or_a_payload_away() {
    let definition = |base: Json, above: Json| {
        let route = with_metadata(&config(base), above).unwrap().unwrap();
        route.template.unwrap().definition
    };
    let own = json!({"topic": "t", "payload": 1, "encrypt": {"secret": "s", "inputs": ["/p"]}});
    let named = json!({"topic": "t", "template": {"name": "n"}});
    assert_eq!(
        definition(own.clone(), json!({"template": {"name": "n"}})),
        r#"{"whole":true,"name":"n"}"#
    );
    assert_eq!(
        definition(named, json!({"payload": 1})),
        r#"{"payload":1,"origin":"API"}"#
    );
}
