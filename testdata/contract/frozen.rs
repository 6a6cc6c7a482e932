//! What the tests of both sides do with the frozen messages. They are in different crates, and each includes this file.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sluice_proto::v1::Record;

/// Where the messages are, seen from a crate of the workspace.
pub(super) fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/contract/v1"))
}

/// Compares a message and what a reader must see in it with the frozen ones of this name. With `FREEZE_CONTRACT` it
/// adds what is missing. A frozen file is never written again: what it holds is deployed somewhere.
pub(super) fn check(name: &str, encoded: &[u8], description: &Value) {
    let freeze = std::env::var_os("FREEZE_CONTRACT").is_some();
    let stem = folder().join(name);
    let description = serde_json::to_string_pretty(description).unwrap() + "\n";
    for (file, expected) in [
        (stem.with_extension("bin"), encoded),
        (stem.with_extension("json"), description.as_bytes()),
    ] {
        if freeze && !file.exists() {
            std::fs::write(&file, expected).unwrap();
        }
        let frozen = std::fs::read(&file)
            .unwrap_or_else(|error| panic!("{}: {error}; FREEZE_CONTRACT=1 adds it", file.display()));
        let (frozen, expected) = (
            frozen.escape_ascii().to_string(),
            expected.escape_ascii().to_string(),
        );
        assert_eq!(frozen, expected, "{}", file.display());
    }
}

/// What a reader must see in a record.
pub(super) fn described(record: &Record) -> Value {
    let base64 = |bytes: &[u8]| STANDARD.encode(bytes);
    let headers = record
        .headers
        .iter()
        .map(|header| json!({"name": header.name, "value_base64": header.value.as_deref().map(base64)}));
    let mut described = json!({
        "id": record.id.to_string(),
        "cluster": record.cluster,
        "producer": record.producer,
        "topics": record.topics,
        "key_base64": record.key.as_deref().map(base64),
        "partition": record.partition,
        "headers": headers.collect::<Vec<_>>(),
        "timestamp_ms": record.timestamp_ms,
        "delivery": record.delivery().as_str_name(),
        "deadline_ms": record.deadline_ms,
        "value_base64": record.value.as_deref().map(base64),
    });
    // What was frozen before there was this field does not name it.
    if record.spool_on_outage {
        described["spool_on_outage"] = json!(true);
    }
    if let Some(asked) = &record.idempotency {
        described["idempotency"] = json!({
            "key_base64": base64(&asked.key),
            "fingerprint_base64": base64(&asked.fingerprint),
            "window_ms": asked.window_ms.to_string(),
        });
    }
    if record.client != 0 {
        described["client"] = json!(record.client.to_string());
    }
    if !record.bearer_token.is_empty() {
        described["bearer_token"] = json!(record.bearer_token);
    }
    if let Some(template) = &record.template {
        let pairs = |headers: &[sluice_proto::v1::Header]| -> Vec<Value> {
            let one = |header: &sluice_proto::v1::Header| json!({"name": header.name, "value_base64": header.value.as_deref().map(base64)});
            headers.iter().map(one).collect()
        };
        described["template"] = json!({
            "definition": template.definition,
            "inputs_base64": template.inputs.as_deref().map(base64),
            "method_base64": base64(&template.method),
            "path_base64": base64(&template.path),
            "query_base64": base64(&template.query),
            "headers": pairs(&template.headers),
            "by": pairs(&template.by),
            "topics": template.topics,
        });
    }
    if let Some(reply) = &record.reply_to {
        described["reply_to"] = json!({
            "topic": reply.topic,
            "wait_ms": reply.wait_ms,
            "wait_preferred": reply.wait_preferred,
            "respond_async": reply.respond_async,
            "correlation_id_base64": base64(&reply.correlation_id),
            "topics": reply.topics,
        });
    }
    if record.withdrawn {
        described["withdrawn"] = json!(true);
    }
    described
}
