//! What is frozen in testdata/contract/v1: the filter's encodings, byte for byte.

#[path = "../../../testdata/contract/frozen.rs"]
mod frozen;

use prost::Message as _;
use serde_json::{Value as Json, json};
use sluice_proto::v1::ProduceRequest;

use crate::harness::{encode_of_client, parse, route};

/// A frozen message: its name, and the records in it as configuration and request.
struct Example {
    name: &'static str,
    says: &'static str,
    records: Vec<(u64, Json, &'static [u8])>,
    client: u64,
}

fn examples() -> Vec<Example> {
    let one = |name, says, config, request| Example {
        name,
        says,
        records: vec![(1, config, request)],
        client: 0,
    };
    vec![
        one(
            "default_envelope",
            "a JSON body under the default settings",
            json!({}),
            b"POST /orders\ncontent-type: application/json\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n\n{\"id\":1,\"name\":\"\xc3\xa9\"}",
        ),
        one(
            "everything",
            "every field that the filter sets",
            json!({
                "topics": ["orders", "audit"], "cluster_name": "eu", "producer": "fast", "producer_async": true, "answer_timeout": 2500,
                "forward_method": true, "forward_uri": true, "forward_headers": true,
                "key": {"query": "k"}, "partition": {"query": "p"}, "headers": {"include_headers": ["x-a", "x-b"]}
            }),
            b"PUT /a?k=key&p=3\nx-a: 1\nx-b: \xff\nx-a:\ncontent-type: text/plain\n\nhello",
        ),
        one("raw_body", "a body that is the value untouched", json!({"value": "body"}), b"POST /\n\n\x00\xff\x80"),
        one("empty_body", "an empty value, which is not a null value", json!({"value": "body"}), b"POST /"),
        one("tombstone", "a null value", json!({"value": "none", "key": {"path_segment": 0}}), b"DELETE /o-1"),
        one("empty_key", "an empty key, which is not an absent key", json!({"value": "body", "key": {"query": "k"}}), b"POST /?k=\n\nv"),
        one("absent_key", "no key", json!({"value": "body", "key": {"query": "k"}}), b"POST /\n\nv"),
        one("partition_zero", "partition 0, which is not an absent partition", json!({"value": "body", "partition": {"fixed": 0}}), b"POST /\n\nv"),
        one(
            "cloudevent_binary",
            "a CloudEvent in binary mode",
            json!({"cloudevents": "binary"}),
            b"POST /\nce-specversion: 1.0\nce-id: 1\nce-source: /s\nce-type: t\ncontent-type: application/json\n\n{}",
        ),
        one("spooled", "a record for the spool", json!({"value": "body", "delivery": "spooled"}), b"POST /\n\nv"),
        one(
            "spool_on_outage",
            "a record that the spool takes while the cluster is away",
            json!({"value": "body", "spool_on_outage": true}),
            b"POST /\n\nv",
        ),
        one(
            "idempotency",
            "a record that is to be written once",
            json!({"value": "body", "idempotency": {"window": 60_000}}),
            b"POST /a?b=c\nidempotency-key: \"8e03978e\"\n\nv",
        ),
        one(
            "bearer_token",
            "a record with the token of whoever asked for it",
            json!({"value": "body", "forward_bearer_token": true}),
            b"POST /\nauthorization: bearer abc.def\n\nv",
        ),
        one(
            "template",
            "a record that the sidecar makes of the request",
            json!({
                "topics": ["orders", "audit"], "payload": {"a": "{{ .inputs.n }}", "b": [1, true]},
                "template": {"key": "{{ .inputs.id }}", "partition": "1", "headers": {"h": "x{{ .request.method }}"}},
                "trigger": {"trust_request": true, "by": {"user.email": {"header": "x-user"}}, "operation": "CREATE"},
                "encrypt": {"secret": "org", "inputs": ["/password"]}
            }),
            b"POST /a?b=c\ncontent-type: application/json\nx-user: a@example.com\nauthorization: Bearer x\n\n{\"n\":1,\"id\":\"k\"}",
        ),
        one(
            "template_topic",
            "a record whose template chooses among topics, and has a form's fields as inputs",
            json!({"topic": "orders", "allowed_topics": ["orders.eu"], "payload": "{{ .inputs }}", "template": {"topic": "orders.{{ .inputs.region }}"}}),
            b"POST /\ncontent-type: application/x-www-form-urlencoded\n\nregion=eu&n=1&n=2",
        ),
        one(
            "template_name",
            "a record of a template of the sidecar's",
            json!({"template": {"name": "deploy"}, "trigger": {"operation": "DELETE"}}),
            b"POST /\ncontent-type: application/json\n\n{}",
        ),
        one(
            "template_without_body",
            "a record of a template whose request has no body",
            json!({"payload": "{{ .request.path }}"}),
            b"GET /a",
        ),
        one(
            "reply",
            "a record whose reply is waited for, under the client's own correlation id",
            json!({
                "topics": ["orders", "audit"], "value": "body",
                "reply": {"topic": "orders.replies", "max_wait": "20s", "correlation_id": {"header": "x-id"}}
            }),
            b"POST /a\nprefer: respond-async, wait=60\nx-id: c-1\n\nv",
        ),
        one(
            "reply_to_template",
            "a record that the sidecar makes, and whose reply is waited for as the route says",
            json!({"payload": "{{ .request.path }}", "reply": {"topic": "orders.replies"}}),
            b"GET /a",
        ),
        Example {
            name: "several_records",
            says: "three gathered records, id 0 among them",
            records: vec![
                (0, json!({"value": "body"}), b"POST /\n\nfirst"),
                (1, json!({"topic": "u", "value": "body"}), b"POST /\n\nsecond"),
                (u64::MAX, json!({"value": "none"}), b"POST /"),
            ],
            client: 0,
        },
        Example {
            client: 0x0102_0304_0506_0708,
            ..one(
                "client",
                "a record of a client that is told apart",
                json!({"value": "body", "spool_on_outage": true}),
                b"POST /\n\nv",
            )
        },
    ]
}

fn encode(example: &Example) -> Vec<u8> {
    let mut out = Vec::new();
    for (id, config, request) in &example.records {
        encode_of_client(&mut out, *id, &route(config), &parse(request), example.client).unwrap();
    }
    out
}

#[test]
fn the_filter_still_writes_what_is_frozen() {
    for example in examples() {
        let encoded = encode(&example);
        let request = ProduceRequest::decode(&encoded[..]).unwrap();
        let records: Vec<Json> = request.records.iter().map(frozen::described).collect();
        let description = json!({"says": example.says, "records": records});
        frozen::check(
            &format!("produce_request_{}", example.name),
            &encoded,
            &description,
        );
    }
}
