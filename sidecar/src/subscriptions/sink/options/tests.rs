use std::time::Duration;

use serde_json::json;

use super::*;
use crate::subscriptions::sink::client::Tls;

fn read(tree: &Value) -> (Options, Vec<String>) {
    let problems = Problems::default();
    let section = Section::root(tree, &problems);
    let options = Options::read(&section, &Inline(&problems));
    section.raw("batch");
    section.finish();
    (
        options,
        problems.into_vec().iter().map(ToString::to_string).collect(),
    )
}

#[test]
fn nothing_set_is_gravitees_defaults() {
    let (options, problems) = read(&json!({}));
    assert_eq!(problems, [""; 0]);
    assert_eq!(options.method, Method::POST);
    let ms = |time: Duration| time.as_millis();
    let client = &options.client;
    assert_eq!(
        (
            ms(client.connect_timeout),
            ms(client.read_timeout),
            ms(client.idle_timeout)
        ),
        (3000, 10_000, 60_000)
    );
    assert!(client.tls.verify && client.max_connections.is_none() && !options.raw && options.proxy.is_none());
}

#[test]
fn every_field_is_read() {
    let (options, problems) = read(&json!({
        "connect_timeout": 1, "read_timeout": "2s", "idle_timeout": "3s", "max_concurrent_connections": 5,
        "retry_statuses": [409, "5xx", 503.0], "reply_statuses": ["4xx"], "max_retry_after": "1m", "max_response_bytes": 10, "response_status": true,
        "tls": {"verify": false, "ca": "x"},
    }));
    assert_eq!(problems, [""; 0]);
    assert_eq!(
        options.client,
        Settings {
            connect_timeout: Duration::from_millis(1),
            read_timeout: Duration::from_secs(2),
            idle_timeout: Duration::from_secs(3),
            max_connections: Some(5),
            tls: Tls {
                ca: Some("x".to_owned()),
                verify: false,
                ..Tls::default()
            },
        }
    );
    assert_eq!(
        options.reading,
        Reading {
            retry: vec![Statuses::One(409), Statuses::Class(5), Statuses::One(503)],
            max_retry_after: Duration::from_secs(60),
            status_body: true,
            reply: false,
            replies: vec![Statuses::Class(4)],
            max_bytes: 10,
        }
    );
}

#[test]
fn what_is_wrong_is_named_all_at_once() {
    let (_, problems) = read(&json!({
        "method": "FETCH",
        "headers": {"host": "x", "webhook-id": "x", "a b": "x", "ok": "a\nb", "x": "{{ .a", "y": [1]},
        "body": "{{ nonsense( }}",
        "retry_statuses": [200, "6xx"], "reply_statuses": [201],
        "authentication": {"basic": {"username": "a:b"}, "bearer": {"token": "a b"}},
        "signature": {"secrets": ["short"]},
        "proxy": {"url": "http://u:pw@proxy/x", "username": "u"},
        "tls": {"certificate": "x"},
        "cloudevents": {"mode": "both"},
        "batch_format": "json",
        "connect_timeout": 0,
        "bogus": 1,
    }));
    for path in [
        "method: must be one of POST",
        "headers.host: is set by Sluice",
        "headers.webhook-id: is set by Sluice",
        "headers.a b: is no header's name",
        "headers.ok: has a character",
        "headers.x: ",
        "headers.y: must be a string",
        "body: ",
        "retry_statuses[0]: ",
        "retry_statuses[1]: ",
        "reply_statuses[0]: ",
        "authentication: must have one of",
        "authentication.basic.password: is required",
        "authentication.bearer.token: must be visible",
        "signature.secrets[0]: must be `whsec_`",
        "proxy.url: ",
        "proxy.password: and `username` belong together",
        "tls.key: and `certificate` belong together",
        "cloudevents.mode: must be one of binary, structured",
        "batch_format: means nothing without `batch`",
        "connect_timeout: must be from 1",
        "bogus: unknown field",
    ] {
        assert!(
            problems.iter().any(|problem| problem.starts_with(path)),
            "{path}: {problems:#?}"
        );
    }
    assert!(
        !problems.iter().any(|problem| problem.contains("pw@")),
        "{problems:?}"
    );
}

#[test]
fn what_does_not_go_together_is_refused() {
    for (tree, wanted) in [
        (json!({"batch": {}, "raw": true}), "raw: cannot be with `batch`"),
        (
            json!({"batch": {}, "cloudevents": {}}),
            "cloudevents.mode: must be structured",
        ),
        (
            json!({"batch": {}, "cloudevents": {"mode": "structured"}, "batch_format": "ndjson"}),
            "batch_format: must be json",
        ),
        (
            json!({"batch": {}, "headers": {"x": "{{ .id }}"}}),
            "headers: has {{ … }}",
        ),
        (
            json!({"batch": {}, "batch_items": "record", "body": {}}),
            "body: means nothing with",
        ),
        (
            json!({"method": "GET", "body": {}}),
            "body: means nothing with GET",
        ),
        (
            json!({"authentication": {"bearer": {"token": "x"}}, "headers": {"authorization": "y"}}),
            "headers: has `authorization`",
        ),
        (json!({"signature": {}}), "signature.secrets: is required"),
        (json!({"authentication": {}}), "authentication: must have one of"),
    ] {
        let (_, problems) = read(&tree);
        assert!(
            problems.iter().any(|problem| problem.starts_with(wanted)),
            "{tree}: {problems:?}"
        );
    }
}

#[test]
fn the_api_names_no_files_and_no_variables() {
    let (_, problems) = read(&json!({
        "headers": {"x-api-key": {"file": "/etc/shadow"}},
        "authentication": {"bearer": {"token": {"env": "HOME"}}},
        "tls": {"ca": {"file": "/etc/shadow"}},
        "signature": {"secrets": [{"file": "/etc/shadow"}]},
    }));
    assert_eq!(problems.len(), 4, "{problems:?}");
    assert!(
        problems
            .iter()
            .all(|problem| problem.contains("in the sidecar's configuration only")),
        "{problems:?}"
    );
}

#[test]
fn secrets_are_not_printed_and_not_shown() {
    let mut tree = json!({
        "headers": {"x-api-key": "sentinel-1", "x-plain": "sentinel-2", "authorization": {"file": "/run/token"}},
        "authentication": {"oauth2": {"token_endpoint_url": "https://i/t", "client_id": "me", "client_secret": "sentinel-3"}},
        "proxy": {"url": "http://proxy:3128", "username": "u", "password": "sentinel-4"},
        "signature": {"secrets": ["whsec_c2VudGluZWwtc2VudGluZWwtc2VudGluZWw="], "port_secret": "sentinel-5"},
        "tls": {"certificate": "cert", "key": "sentinel-6"},
    });
    let mut plain = tree.clone();
    plain["headers"].as_object_mut().unwrap().remove("authorization");
    let (options, problems) = read(&plain);
    assert_eq!(problems, [""; 0]);
    assert!(matches!(options.authentication, Some(Authentication::OAuth2(_))));
    let printed = format!("{options:?}");
    redact(&mut tree);
    let shown = tree.to_string();
    for text in [&printed, &shown] {
        assert!(
            !text.contains("sentinel") && !text.contains("c2VudGluZWw"),
            "{text}"
        );
    }
    assert!(
        shown.contains("/run/token") && shown.contains("https://i/t"),
        "{shown}"
    );
}
