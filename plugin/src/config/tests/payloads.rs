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
        json!({"template": {"topic": "x"}}),
        "template.topic",
        "unknown field",
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
