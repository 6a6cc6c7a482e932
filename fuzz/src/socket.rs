//! What clients say on WebSockets.

use serde_json::Value;
use sluice::produce::rest::parsers;
use sluice::read::ws::command::{Command, MAX_ID, parse};

/// What a batch over REST has no words for: they are in a request's path and query there.
const OF_A_REQUEST: [&str; 8] = [
    "type",
    "id",
    "topic",
    "producer",
    "delivery",
    "timeout_ms",
    "spool_on_outage",
    "idempotency_key",
];

/// Whatever is a JSON object is understood, or answered by its id; a record is the one that REST makes of it.
pub(crate) fn message(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let tree = serde_json::from_str::<Value>(text).ok();
    let said = match (parse(text), &tree) {
        (Err(why), Some(Value::Object(_))) => panic!("an object is refused as none: {why}"),
        (Err(_), _) => return,
        (Ok(said), _) => said,
    };
    if let (Some(id), Some(tree)) = (&said.id, &tree) {
        assert!(id.len() <= MAX_ID, "{id}");
        let id: Value = serde_json::from_str(id).expect("an id is JSON");
        assert!(id.is_string() || id.is_number(), "{id}");
        assert_eq!(tree["id"], id);
    }
    let (Ok(command), Some(Value::Object(mut tree))) = (said.command, tree) else {
        return;
    };
    let kind = match &command {
        Command::Publish(_) => "publish",
        Command::Ack(_) => "ack",
        Command::Pause => "pause",
        Command::Resume => "resume",
        Command::Seek(cursor, from) => {
            assert!(cursor.is_some() != from.is_some());
            "seek"
        }
    };
    assert_eq!(tree["type"], kind);
    let Command::Publish(record) = command else { return };
    // Its text is kept, which a tree does not.
    if tree.contains_key("json") {
        return;
    }
    let topic = tree
        .get("topic")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    for name in OF_A_REQUEST {
        tree.remove(name);
    }
    let body = Value::from(vec![Value::Object(tree)]).to_string();
    let of_rest = parsers::array(&topic, body.as_bytes())
        .expect("REST takes it as well")
        .remove(0);
    assert_eq!(
        record.topics,
        if topic.is_empty() { Vec::new() } else { vec![topic] }
    );
    assert_eq!((&record.key, &record.value), (&of_rest.key, &of_rest.value));
    assert_eq!(record.headers, of_rest.headers);
    assert_eq!(
        (record.partition, record.timestamp_ms),
        (of_rest.partition, of_rest.timestamp_ms)
    );
}
