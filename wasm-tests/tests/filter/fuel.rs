//! Instructions per request, compared with those on record in `bench/fuel.json`.

use std::{fs, path::PathBuf, time::Duration};

use serde_json::{Value, json};
use wasm_tests::{Host, Request, artefact};

use crate::common::open;

/// How much more than recorded is too much, in percent; as much less has to be recorded.
const TOLERANCE: u64 = 5;

/// Set to record what is measured.
const RECORD: &str = "SLUICE_RECORD_FUEL";

const WARM_UP: usize = 50;
const REQUESTS: u64 = 200;

fn record_path() -> PathBuf {
    artefact::workspace().join("bench/fuel.json")
}

/// What a browser's or a service's request has.
fn request(method: &str) -> Request {
    Request::new(method, "/orders/7?source=web&tag=a&tag=b")
        .header("user-agent", "curl/8.5.0")
        .header("accept", "*/*")
        .header("x-forwarded-proto", "http")
        .header("x-request-id", "5f0c8b1e-6f2b-4b8e-9a53-6a4b4c1f9d11")
        .header(
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        )
}

/// 300 bytes of JSON, as the benchmark sends them.
fn small_json() -> String {
    let mut text = r#"{"id":1234567890,"kind":"order","total":99.95,"paid":true,"lines":[{"sku":"a-1","n":2},{"sku":"b-2","n":1}],"note":""#.to_owned();
    text.push_str(&"x".repeat(300 - text.len() - 2));
    text.push_str("\"}");
    assert_eq!(text.len(), 300);
    text
}

fn bodies() -> [(&'static str, Request); 3] {
    let binary: Vec<u8> = (0..65_536_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0])
        .collect();
    [
        ("none", request("GET")),
        (
            "json_300",
            request("POST")
                .header("content-length", "300")
                .json(&small_json()),
        ),
        (
            "binary_64k",
            request("POST")
                .header("content-length", "65536")
                .header("content-type", "application/octet-stream")
                .body(binary),
        ),
    ]
}

/// Instructions from the request's first callback to its last, its reply included, once everything is warm.
fn measure(settings: Value, request: &Request) -> u64 {
    let mut host = open(settings);
    host.sidecar().store_all();
    let run = |host: &mut Host, requests: usize| {
        for _ in 0..requests {
            let id = host.send(request.clone());
            assert_eq!(host.reply(id).status, 200);
            host.sent();
            // The worker rests, so that no request is gathered with the next.
            host.advance(Duration::from_millis(60));
        }
    };
    run(&mut host, WARM_UP);
    let before = host.instructions();
    run(&mut host, usize::try_from(REQUESTS).unwrap());
    (host.instructions() - before) / REQUESTS
}

fn measured() -> Value {
    let mut table = serde_json::Map::new();
    for (name, settings) in [
        ("envelope", json!({})),
        (
            "envelope_all",
            json!({"forward_method": true, "forward_uri": true, "forward_headers": true}),
        ),
        ("body", json!({"value": "body"})),
    ] {
        let row =
            bodies().map(|(body, request)| (body.to_owned(), measure(settings.clone(), &request).into()));
        table.insert(name.to_owned(), Value::Object(row.into_iter().collect()));
    }
    let once = json!({"value": "body", "idempotency": {}});
    let key = "\"8e03978e-40d5-43dd-bc93-6894a57f9324\"";
    let row = bodies().map(|(body, request)| {
        let request = request.header("idempotency-key", key);
        (body.to_owned(), measure(once.clone(), &request).into())
    });
    table.insert("body_once".to_owned(), Value::Object(row.into_iter().collect()));
    json!({ "unit": "wasm instructions per request, reply included (wasmtime fuel)", "value": table })
}

#[test]
fn instructions_per_request_are_those_on_record() {
    let now = measured();
    if std::env::var_os(RECORD).is_some() {
        fs::write(record_path(), format!("{now:#}\n")).unwrap();
        return;
    }
    let text = fs::read_to_string(record_path()).unwrap_or_default();
    let record: Value = serde_json::from_str(&text).unwrap_or_default();
    let mut off = Vec::new();
    for (value, row) in now["value"].as_object().unwrap() {
        for (body, count) in row.as_object().unwrap() {
            let (count, was) = (
                count.as_u64().unwrap(),
                record["value"][value][body].as_u64().unwrap_or_default(),
            );
            let within = count * 100 <= was * (100 + TOLERANCE) && count * (100 + TOLERANCE) >= was * 100;
            if !within {
                off.push(format!("{value} {body}: {count}, recorded {was}"));
            }
        }
    }
    assert!(
        off.is_empty(),
        "more than {TOLERANCE} % off bench/fuel.json; if that is meant, record it with {RECORD}=1 cargo test -p \
         wasm-tests instructions:\n{}",
        off.join("\n")
    );
}
