//! Each field that may be written changes what it is documented to change, and nothing else.

use super::*;

/// Every part of a route by name. A part that is not listed here does not compile.
fn parts(route: &Route) -> Vec<(&'static str, String)> {
    macro_rules! shown {
        ($($field:expr),* $(,)?) => { vec![$((stringify!($field), format!("{:?}", $field))),*] };
    }
    let Route {
        topics,
        topic_choice,
        topics_query_arg,
        allowed_topics,
        value,
        value_by_method,
        forward:
            Forward {
                method,
                uri,
                headers,
                body,
            },
        json_content_types,
        max_json_depth,
        key,
        partition,
        headers:
            HeaderRules {
                enabled,
                all_by_default,
                include,
                exclude,
                rename,
                repeated,
            },
        credential_headers,
        cloudevents,
        delivery,
        success_status,
        success_message,
        spool_on_outage,
        forward_bearer_token,
        idempotency,
        max_body_bytes,
        answer_timeout,
        sidecar_cluster,
        cluster_name,
        producer,
        then,
        on_error,
        reply_headers,
        produce_options,
        transport,
        outstanding,
        template,
        reply,
    } = route;
    shown![
        topics,
        topic_choice,
        topics_query_arg,
        allowed_topics,
        value,
        value_by_method,
        method,
        uri,
        headers,
        body,
        json_content_types,
        max_json_depth,
        key,
        partition,
        enabled,
        all_by_default,
        include,
        exclude,
        rename,
        repeated,
        credential_headers,
        cloudevents,
        delivery,
        success_status,
        success_message,
        spool_on_outage,
        forward_bearer_token,
        idempotency,
        max_body_bytes,
        answer_timeout,
        sidecar_cluster,
        cluster_name,
        producer,
        then,
        on_error,
        reply_headers,
        produce_options,
        transport,
        outstanding,
        template,
        reply,
    ]
}

/// What is written, and the parts it changes, with what they are then.
pub(super) fn table() -> Vec<(Json, Vec<(&'static str, &'static str)>)> {
    vec![
        (json!({"topic": "audit"}), vec![("topics", r#"["audit"]"#)]),
        (json!({"topics": ["b", "a"]}), vec![("topics", r#"["b", "a"]"#)]),
        (
            json!({"topics_query_arg": "to"}),
            vec![("topics_query_arg", r#"Some("to")"#)],
        ),
        (
            json!({"allowed_topics": ["a.b_c-D9"]}),
            vec![("allowed_topics", r#"["a.b_c-D9"]"#)],
        ),
        (json!({"value": "body"}), vec![("value", "Body")]),
        (json!({"value": "none"}), vec![("value", "None")]),
        (
            json!({"value_by_method": {"delete": "none"}}),
            vec![("value_by_method", r#"[("DELETE", None)]"#)],
        ),
        (json!({"forward_method": true}), vec![("method", "true")]),
        (json!({"forward_uri": true}), vec![("uri", "true")]),
        (json!({"forward_headers": true}), vec![("headers", "true")]),
        (
            json!({"forward_body": false, "forward_uri": true}),
            vec![("uri", "true"), ("body", "false")],
        ),
        (
            json!({"json_content_types": ["Application/*+JSON"]}),
            vec![("json_content_types", r#"["application/*+json"]"#)],
        ),
        (json!({"max_json_depth": 5.0}), vec![("max_json_depth", "5")]),
        (
            json!({"key_query_arg": "id"}),
            vec![(
                "key",
                r#"Some(Key { source: Query("id"), allowed: None, default: None })"#,
            )],
        ),
        (
            json!({"key": {"query": "id"}}),
            vec![(
                "key",
                r#"Some(Key { source: Query("id"), allowed: None, default: None })"#,
            )],
        ),
        (
            json!({"key": {"header": "X-Id"}}),
            vec![(
                "key",
                r#"Some(Key { source: Header("x-id"), allowed: None, default: None })"#,
            )],
        ),
        (
            json!({"key": {"cookie": "Id"}}),
            vec![(
                "key",
                r#"Some(Key { source: Cookie("Id"), allowed: None, default: None })"#,
            )],
        ),
        (
            json!({"key": {"path_segment": 2.0}}),
            vec![(
                "key",
                "Some(Key { source: PathSegment(2), allowed: None, default: None })",
            )],
        ),
        (
            json!({"key": {"json_pointer": "/a~1b/0"}}),
            vec![(
                "key",
                r#"Some(Key { source: JsonPointer("/a~1b/0"), allowed: None, default: None })"#,
            )],
        ),
        (
            json!({"key": {"path": "/{id}/**"}}),
            vec![(
                "key",
                r#"Some(Key { source: Path(PathTemplate { parts: [Name("id")], open: true }), allowed: None, default: None })"#,
            )],
        ),
        (
            json!({"key": {"metadata": ["ns", "a", "b"]}}),
            vec![(
                "key",
                r#"Some(Key { source: Metadata(["ns", "a", "b"]), allowed: None, default: None })"#,
            )],
        ),
        (
            json!({"key": {"query": "id", "allowed": ["a", "b"], "default": "b"}}),
            vec![(
                "key",
                r#"Some(Key { source: Query("id"), allowed: Some(["a", "b"]), default: Some("b") })"#,
            )],
        ),
        (
            json!({"topic": {"header": "X-T", "allowed": ["a", "b"], "default": "b"}}),
            vec![
                ("topics", "[]"),
                (
                    "topic_choice",
                    r#"Some(Choice { source: Header("x-t"), allowed: ["a", "b"], default: Some(1) })"#,
                ),
            ],
        ),
        (
            json!({"cluster_name": {"query": "c", "allowed": ["eu"]}}),
            vec![(
                "cluster_name",
                r#"Chosen(Choice { source: Query("c"), allowed: ["eu"], default: None })"#,
            )],
        ),
        (
            json!({"producer": {"path_segment": 0, "allowed": ["p"], "default": "p"}}),
            vec![(
                "producer",
                r#"Chosen(Choice { source: PathSegment(0), allowed: ["p"], default: Some(0) })"#,
            )],
        ),
        (
            json!({"partition": {"fixed": 3.0}}),
            vec![("partition", "Some(Fixed(3))")],
        ),
        (
            json!({"partition": {"query": "p"}}),
            vec![("partition", r#"Some(From(Query("p")))"#)],
        ),
        (
            json!({"partition": {"header": "X-P"}}),
            vec![("partition", r#"Some(From(Header("x-p")))"#)],
        ),
        (
            json!({"headers": {"forward_http_headers_as_record_headers": false}}),
            vec![("enabled", "false")],
        ),
        (
            json!({"headers": {"forward_all_by_default": true}}),
            vec![("all_by_default", "true")],
        ),
        (
            json!({"headers": {"include_headers": ["X-A"]}}),
            vec![("include", r#"["x-a"]"#)],
        ),
        (
            json!({"headers": {"exclude_headers": ["X-A"]}}),
            vec![("exclude", r#"["x-a"]"#)],
        ),
        (
            json!({"headers": {"name_mappings": {"X-A": "Ä"}}}),
            vec![("rename", r#"[("x-a", "Ä")]"#)],
        ),
        (
            json!({"headers": {"repeated_headers_behavior": "take_first"}}),
            vec![("repeated", "TakeFirst")],
        ),
        (
            json!({"headers": {"repeated_headers_behavior": "concatenate_by_comma"}}),
            vec![("repeated", "ConcatenateByComma")],
        ),
        (
            json!({"credential_headers": ["Cookie"]}),
            vec![("credential_headers", r#"["cookie"]"#)],
        ),
        (
            json!({"cloudevents": "binary"}),
            vec![("value", "Body"), ("cloudevents", "Binary")],
        ),
        (
            json!({"cloudevents": "structured"}),
            vec![("value", "Body"), ("cloudevents", "Structured")],
        ),
        (json!({"delivery": "buffered"}), vec![("delivery", "Buffered")]),
        (json!({"delivery": "spooled"}), vec![("delivery", "Spooled")]),
        (
            json!({"spool_on_outage": true}),
            vec![("spool_on_outage", "true")],
        ),
        (
            json!({"forward_bearer_token": true}),
            vec![("forward_bearer_token", "true")],
        ),
        (
            json!({"idempotency": {}}),
            vec![(
                "idempotency",
                r#"Some(Idempotency { header: "idempotency-key", window: None, required: false })"#,
            )],
        ),
        (
            json!({"idempotency": {"header": "X-Once", "window": "2h", "required": true}}),
            vec![(
                "idempotency",
                r#"Some(Idempotency { header: "x-once", window: Some(7200s), required: true })"#,
            )],
        ),
        (json!({"producer_async": true}), vec![("delivery", "Buffered")]),
        (
            json!({"success_status": 201.0}),
            vec![("success_status", "Some(201)")],
        ),
        (
            json!({"success_message": "ok"}),
            vec![("success_message", r#"Some("ok")"#)],
        ),
        (json!({"max_body_bytes": 7}), vec![("max_body_bytes", "7")]),
        (
            json!({"answer_timeout": 250.0}),
            vec![("answer_timeout", "250ms")],
        ),
        (
            json!({"answer_timeout": "1.5s"}),
            vec![("answer_timeout", "1.5s")],
        ),
        (
            json!({"sidecar_cluster": "side"}),
            vec![("sidecar_cluster", r#""side""#)],
        ),
        (
            json!({"cluster_name": "eu"}),
            vec![("cluster_name", r#"Fixed("eu")"#)],
        ),
        (
            json!({"producer": "fast"}),
            vec![("producer", r#"Fixed("fast")"#)],
        ),
        (json!({"then": "continue"}), vec![("then", "Continue")]),
        (
            json!({"then": "continue", "on_error": "continue"}),
            vec![("then", "Continue"), ("on_error", "Continue")],
        ),
        (json!({"reply_headers": false}), vec![("reply_headers", "false")]),
        (
            json!({"produce_options": true}),
            vec![("produce_options", "true")],
        ),
        (json!({"transport": "http"}), vec![("transport", "Http")]),
        (
            json!({"max_outstanding_records": 40}),
            vec![(
                "outstanding",
                "Some(Outstanding { max: 40, now: Cell { value: 0 } })",
            )],
        ),
        (
            json!({"payload": {"a": ["{{ .inputs }}", 1.0, 1.5]}}),
            vec![(
                "template",
                r#"Some(Template { definition: "{\"payload\":{\"a\":[\"{{ .inputs }}\",1,1.5]},\"origin\":\"API\"}", name: None, payload: true, by: [] })"#,
            )],
        ),
        (
            json!({"template": {"key": "k", "partition": "1", "headers": {"h": "x"}}}),
            vec![(
                "template",
                r#"Some(Template { definition: "{\"key\":\"k\",\"partition\":\"1\",\"headers\":{\"h\":\"x\"},\"origin\":\"API\"}", name: None, payload: false, by: [] })"#,
            )],
        ),
        (
            json!({"payload": "", "trigger": {"origin": "UI", "operation": "DAY-2", "by": {"user.email": {"metadata": ["n", "e"]}}}}),
            vec![(
                "template",
                r#"Some(Template { definition: "{\"payload\":\"\",\"origin\":\"UI\",\"operation\":\"DAY-2\"}", name: None, payload: true, by: [("user.email", Metadata(["n", "e"]))] })"#,
            )],
        ),
        (
            json!({"payload": "", "trigger": {"trust_request": true, "by": {"orgId": {"header": "X-Org"}}}}),
            vec![(
                "template",
                r#"Some(Template { definition: "{\"payload\":\"\",\"origin\":\"API\"}", name: None, payload: true, by: [("orgId", Header("x-org"))] })"#,
            )],
        ),
        (
            json!({"template": {"topic": "x"}, "allowed_topics": ["x"]}),
            vec![
                ("allowed_topics", r#"["x"]"#),
                (
                    "template",
                    r#"Some(Template { definition: "{\"topic\":\"x\",\"allowed_topics\":[\"x\"],\"origin\":\"API\"}", name: None, payload: false, by: [] })"#,
                ),
            ],
        ),
        (
            json!({"template": {"name": "n"}}),
            vec![(
                "template",
                r#"Some(Template { definition: "{\"whole\":true,\"name\":\"n\"}", name: Some("n"), payload: true, by: [] })"#,
            )],
        ),
        (
            json!({"payload": "", "encrypt": {"secret": "org", "inputs": ["/p"], "encryption": "aes256-gcm"}}),
            vec![(
                "template",
                r#"Some(Template { definition: "{\"payload\":\"\",\"encrypt\":{\"secret\":\"org\",\"inputs\":[\"/p\"]},\"origin\":\"API\"}", name: None, payload: true, by: [] })"#,
            )],
        ),
        (
            json!({"reply": {"topic": "replies"}}),
            vec![(
                "reply",
                r#"Some(Reply { topic: "replies", wait: 10s, max_wait: 30s, correlation_id: None })"#,
            )],
        ),
        (
            json!({"reply": {"topic": "replies", "wait": "0s", "max_wait": "2m", "correlation_id": {"header": "X-Id"}}}),
            vec![(
                "reply",
                r#"Some(Reply { topic: "replies", wait: 0ns, max_wait: 120s, correlation_id: Some(Header("x-id")) })"#,
            )],
        ),
        (
            json!({"reply": {"topic": "replies", "max_wait": 4000.0}}),
            vec![(
                "reply",
                r#"Some(Reply { topic: "replies", wait: 4s, max_wait: 4s, correlation_id: None })"#,
            )],
        ),
    ]
}

fn orders() -> Json {
    json!({"topic": "orders"})
}

/// `topic: orders` and the fields of `written`, in one mapping.
fn with_topic(written: &Json) -> Json {
    let mut all = orders();
    if written.get("topics").is_some() {
        all = json!({});
    }
    all.as_object_mut()
        .unwrap()
        .extend(written.as_object().unwrap().clone());
    all
}

fn changes(route: &Route) -> Vec<(&'static str, String)> {
    let default = config(orders()).resolve(None, b"").unwrap().unwrap();
    let differ = |(new, old): &(_, _)| new != old;
    let pairs = parts(route).into_iter().zip(parts(&default)).filter(differ);
    pairs.map(|(new, _)| new).collect()
}

#[test]
fn each_changes_what_it_is_for_at_every_level() {
    for (written, expected) in table() {
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(name, to)| (name, to.to_owned()))
            .collect();
        let base = config(with_topic(&written)).resolve(None, b"");
        assert_eq!(changes(&base.unwrap().unwrap()), expected, "base: {written}");
        let metadata = with_metadata(&config(orders()), written.clone());
        assert_eq!(
            changes(&metadata.unwrap().unwrap()),
            expected,
            "metadata: {written}"
        );
        let mut entry = written.clone();
        entry
            .as_object_mut()
            .unwrap()
            .insert("path_prefix".to_owned(), json!("/"));
        let entry = config(json!({"topic": "orders", "routes": [entry]})).resolve(Some(0), b"");
        assert_eq!(changes(&entry.unwrap().unwrap()), expected, "entry: {written}");
    }
}

#[test]
fn the_table_has_every_part_of_a_route() {
    let covered: Vec<&str> = table()
        .iter()
        .flat_map(|(_, to)| to.iter().map(|(name, _)| *name))
        .collect();
    for (name, _) in parts(&config(orders()).resolve(None, b"").unwrap().unwrap()) {
        assert!(covered.contains(&name), "nothing changes {name}");
    }
}

#[test]
fn defaults_are_kongs_except_that_a_success_means_stored() {
    let route = config(orders()).resolve(None, b"").unwrap().unwrap();
    let expected = Route {
        topics: vec!["orders".to_owned()],
        topic_choice: None,
        topics_query_arg: None,
        allowed_topics: vec![],
        value: Value::Envelope,
        value_by_method: vec![],
        forward: Forward {
            method: false,
            uri: false,
            headers: false,
            body: true,
        },
        json_content_types: vec![],
        max_json_depth: 128,
        key: None,
        partition: None,
        headers: HeaderRules {
            enabled: true,
            all_by_default: false,
            include: vec![],
            exclude: vec![],
            rename: vec![],
            repeated: Repeated::RetainDuplicates,
        },
        credential_headers: vec![],
        cloudevents: CloudEvents::Off,
        delivery: Delivery::Acked,
        spool_on_outage: false,
        forward_bearer_token: false,
        idempotency: None,
        success_status: None,
        success_message: None,
        max_body_bytes: 1_048_576,
        answer_timeout: std::time::Duration::from_secs(10),
        sidecar_cluster: "sluice".to_owned(),
        cluster_name: Named::Fixed(String::new()),
        producer: Named::Fixed(String::new()),
        then: Then::Respond,
        on_error: OnError::Respond,
        reply_headers: true,
        produce_options: false,
        transport: Transport::Stream,
        template: None,
        reply: None,
        outstanding: None,
    };
    assert_eq!(route, expected);
}
