//! What `reply` may be, and what it excludes.

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
fn what_cannot_be_meant_is_refused() {
    let reply = |more: Json| {
        let mut reply = json!({"topic": "replies"});
        reply
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({ "reply": reply })
    };
    wrong(json!({"reply": {}}), "reply.topic", "is required");
    wrong(
        json!({"reply": {"topic": "a b"}}),
        "reply.topic",
        "is no topic name",
    );
    wrong(json!({"reply": true}), "reply", "must be a mapping");
    wrong(
        reply(json!({"wait": "31s"})),
        "reply.wait",
        "max_wait is 30000 ms",
    );
    wrong(reply(json!({"max_wait": 0})), "reply.max_wait", "");
    wrong(reply(json!({"max_wait": "2h"})), "reply.max_wait", "");
    wrong(
        reply(json!({"correlation_id": "none"})),
        "reply.correlation_id",
        "left out",
    );
    wrong(
        reply(json!({"correlation_id": {"header": "x", "default": "y"}})),
        "reply.correlation_id",
        "neither `allowed` nor `default`",
    );
    wrong(reply(json!({"waits": 1})), "reply.waits", "unknown field");
    let beside = |name: &str, value: Json| {
        let mut tree = reply(json!({}));
        tree[name] = value;
        tree
    };
    wrong(beside("then", json!("continue")), "reply", "the upstream answers");
    wrong(
        beside("idempotency", json!({})),
        "reply",
        "comes again is not written",
    );
    wrong(
        beside("success_status", json!(201)),
        "success_status",
        "no effect with `reply`",
    );
    wrong(
        beside("success_message", json!("x")),
        "success_message",
        "no effect with `reply`",
    );
}

#[test]
fn a_later_layer_takes_it_away_or_replaces_it_as_a_whole() {
    let base = config(json!({"topic": "orders", "reply": {"topic": "a", "wait": "1s"}}));
    let reply = |written: Json| with_metadata(&base, written).unwrap().unwrap().reply.clone();
    assert_eq!(reply(json!({"reply": "none"})), None);
    let replaced = reply(json!({"reply": {"topic": "b"}})).unwrap();
    assert_eq!((replaced.topic.as_str(), replaced.wait.as_secs()), ("b", 10));
    assert_eq!(reply(json!({})).unwrap().wait.as_secs(), 1);
}
