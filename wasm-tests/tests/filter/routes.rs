//! Which settings a request has: base, then the first matching entry of `routes:`, then the route's metadata.

use serde_json::json;
use sluice_proto::v1::ErrorClass;
use wasm_tests::{Host, Outcome, Request};

use crate::common::{arrived, assert_error, open, reply, store, stored_reply};

/// The topics that the request's record goes to; `None` if it passes.
#[track_caller]
fn topics(host: &mut Host, request: Request) -> Option<Vec<String>> {
    let id = host.send(request);
    if matches!(host.outcome(id), Outcome::Forwarded(_)) {
        return None;
    }
    let sent = arrived(host, 1).remove(0);
    store(host, &sent, 0);
    assert_eq!(host.reply(id).status, 200);
    Some(sent.record.topics)
}

#[test]
fn metadata_overrides_field_by_field() {
    let mut host = open(json!({"value": "body", "success_message": "base", "key": {"header": "k"}}));
    let request = || Request::post("/").header("k", "1").body("x");
    let settings = json!({"topic": "other", "success_message": "route"});
    let (reply, sent) = stored_reply(&mut host, request().settings(settings));
    assert_eq!(reply.json()["message"], "route");
    assert_eq!(sent.record.topics, ["other"]);
    assert_eq!(
        (sent.record.key.as_deref(), sent.record.value.as_deref()),
        (Some(&b"1"[..]), Some(&b"x"[..]))
    );

    // What the metadata of one route says is not what the next has.
    let (reply, sent) = stored_reply(&mut host, request());
    assert_eq!(reply.json()["message"], "base");
    assert_eq!(sent.record.topics, ["orders"]);
}

#[test]
fn a_template_is_sent_with_the_parts_of_the_request_and_who_asks() {
    let claim = json!(["envoy.filters.http.jwt_authn", "claims", "email"]);
    let settings = json!({
        "payload": {"n": 1, "s": "{{ .inputs.s }}"},
        "trigger": {"by": {"user.email": {"metadata": claim}}},
    });
    let mut host = open(json!({}));
    let claims = json!({"envoy.filters.http.jwt_authn": {"claims": {"email": "a@example.com"}}});
    let request = Request::post("/p?q=1")
        .settings(settings)
        .dynamic_metadata(&claims);
    host.send(request.header("authorization", "Bearer x").json(r#"{"s": "x"}"#));
    let sent = arrived(&mut host, 1).remove(0).record;
    assert!(sent.topics.is_empty() && sent.value.is_none());
    let template = sent.template.unwrap();
    assert_eq!(
        template.definition,
        r#"{"payload":{"n":1,"s":"{{ .inputs.s }}"},"origin":"API"}"#
    );
    assert_eq!(template.inputs.unwrap(), r#"{"s": "x"}"#);
    assert_eq!(
        (&template.path[..], &template.query[..]),
        (&b"/p"[..], &b"q=1"[..])
    );
    assert!(
        template
            .headers
            .iter()
            .all(|header| header.name != "authorization")
    );
    let by = template.by.first().map(|by| (&*by.name, by.value.as_deref()));
    assert_eq!(by, Some(("user.email", Some(&b"a@example.com"[..]))));
    assert_eq!(template.topics, ["orders"]);
}

#[test]
fn metadata_of_others_is_none_of_ours() {
    let mut host = open(json!({}));
    let others = json!({"envoy.lb": {"topic": "theirs"}, "sluice2": {"tpoic": 1}});
    assert_eq!(
        topics(&mut host, Request::post("/").metadata(&others).json("{}")).unwrap(),
        ["orders"]
    );
}

#[test]
fn a_topic_in_metadata_alone_is_enough_and_an_empty_list_takes_it_away() {
    let mut host = Host::new(&json!({}));
    assert_eq!(topics(&mut host, Request::post("/").json("{}")), None);
    assert_eq!(
        topics(
            &mut host,
            Request::post("/").settings(json!({"topic": "a"})).json("{}")
        )
        .unwrap(),
        ["a"]
    );
    let mut host = open(json!({}));
    assert_eq!(
        topics(
            &mut host,
            Request::post("/").settings(json!({"topics": []})).json("{}")
        ),
        None
    );
}

#[test]
fn bad_metadata_is_500_route_misconfigured_and_names_every_problem() {
    let mut host = open(json!({}));
    for _ in 0..3 {
        let bad = json!({"tpoic": "x", "value": "all", "answer_timeout": "long"});
        let id = host.send(Request::post("/").settings(bad).json("{}"));
        let reply = reply(&mut host, id);
        assert_error(&reply, ErrorClass::RouteMisconfigured);
        for field in ["tpoic", "value", "answer_timeout"] {
            assert!(
                reply.json()["error"].as_str().unwrap().contains(field),
                "{field} in {reply}"
            );
        }
    }
    assert!(host.sent().is_empty());
    // A field of the filter as a whole is none of a route's.
    let id = host.send(Request::post("/").settings(json!({"stream": {}})).json("{}"));
    assert_error(&reply(&mut host, id), ErrorClass::RouteMisconfigured);
    // Other routes go on.
    assert_eq!(
        topics(&mut host, Request::post("/").json("{}")).unwrap(),
        ["orders"]
    );
}

#[test]
fn bad_metadata_is_answered_before_the_body_is_there() {
    let mut host = open(json!({}));
    let id = host.open(Request::post("/").settings(json!({"tpoic": "x"})), false);
    assert_error(&reply(&mut host, id), ErrorClass::RouteMisconfigured);
}

#[test]
fn the_first_matching_entry_counts() {
    let mut host = Host::new(&json!({
        "value": "body",
        "routes": [
            {"route_name": "named", "topic": "by-route"},
            {"host": "*.example.com", "methods": ["PUT"], "topic": "by-host-and-method"},
            {"host": "kafka.test", "path_prefix": "/x/", "topic": "by-host-and-path"},
            {"path_prefix": "/x", "topics": ["by-path", "too"]},
            {"methods": ["PATCH"], "topic": "by-method"},
        ],
    }));
    let mut to = |request: Request| topics(&mut host, request.body("b"));
    assert_eq!(to(Request::post("/x/y").route("named")).unwrap(), ["by-route"]);
    assert_eq!(
        to(Request::new("PUT", "/").header(":authority", "A.Example.com:80")).unwrap(),
        ["by-host-and-method"]
    );
    assert_eq!(to(Request::post("/").header(":authority", "a.example.com")), None);
    assert_eq!(to(Request::post("/x/y")).unwrap(), ["by-host-and-path"]);
    assert_eq!(to(Request::post("/x?y")).unwrap(), ["by-path", "too"]);
    assert_eq!(
        to(Request::new("PATCH", "/z").route("other")).unwrap(),
        ["by-method"]
    );
    assert_eq!(to(Request::post("/z").route("other")), None);
}

#[test]
fn metadata_lies_over_the_entry() {
    let mut host = Host::new(&json!({
        "value": "body",
        "routes": [{"path_prefix": "/", "topic": "entry", "key": {"header": "k"}}],
    }));
    let request = Request::post("/")
        .header("k", "1")
        .settings(json!({"topic": "metadata"}))
        .body("x");
    let (_, sent) = stored_reply(&mut host, request);
    assert_eq!(
        (sent.record.topics, sent.record.key),
        (vec!["metadata".to_owned()], Some("1".into()))
    );
}

#[test]
fn a_topic_that_the_request_names_must_be_allowed() {
    let mut host = open(json!({"topics_query_arg": "to", "allowed_topics": ["a", "b"]}));
    let mut host_topics = |target: &str| topics(&mut host, Request::post(target).json("{}")).unwrap();
    assert_eq!(host_topics("/"), ["orders"]);
    assert_eq!(host_topics("/?to=b,a"), ["b", "a"]);
    for target in ["/?to=secret", "/?to=a,secret", "/?to=%61%00"] {
        let id = host.send(Request::post(target).json("{}"));
        assert_error(&reply(&mut host, id), ErrorClass::TopicNotAllowed);
    }
    assert!(host.sent().is_empty());
}

#[test]
fn a_request_chooses_what_its_route_lists() {
    let mut host = open(json!({
        "topic": {"header": "x-topic", "allowed": ["orders", "payments"], "default": "orders"},
        "cluster_name": {"query": "region", "allowed": ["eu", "us"], "default": "eu"},
        "producer": {"metadata": ["envoy.test", "plan", "name"], "allowed": ["fast", "7"], "default": "7"},
        "key": {"path": "/tenants/{tenant}/**"},
    }));
    let plan =
        |name: serde_json::Value| json!({"envoy.test": {"plan": {"name": name}}, "other": {"x": [1, null]}});
    let request = Request::post("/tenants/acme/orders?region=us")
        .header("x-topic", "payments")
        .dynamic_metadata(&plan(json!("fast")))
        .json("{}");
    let (answer, sent) = stored_reply(&mut host, request);
    assert_eq!(answer.header("x-kafka-topic").as_deref(), Some("payments"));
    let record = sent.record;
    assert_eq!(record.topics, ["payments"]);
    assert_eq!(
        (record.cluster.as_str(), record.producer.as_str()),
        ("us", "fast")
    );
    assert_eq!(record.key.as_deref(), Some(&b"acme"[..]));

    let (_, sent) = stored_reply(&mut host, Request::post("/").json("{}"));
    assert_eq!(sent.record.topics, ["orders"]);
    assert_eq!(
        (sent.record.cluster.as_str(), sent.record.producer.as_str()),
        ("eu", "7")
    );
    assert_eq!(sent.record.key, None);

    let refused = |host: &mut Host, request: Request, class| {
        let id = host.send(request.json("{}"));
        let reply = reply(host, id);
        assert_error(&reply, class);
        assert!(reply.body.len() < 400, "{reply}");
    };
    let long = "x".repeat(10_000);
    for said in ["secret", "", &long] {
        let request = Request::post("/").header("x-topic", said);
        refused(&mut host, request, ErrorClass::TopicNotAllowed);
        let request = Request::post(&format!("/?region={said}"));
        refused(&mut host, request, ErrorClass::NotAuthorised);
        let request = Request::post("/").dynamic_metadata(&plan(json!(said)));
        refused(&mut host, request, ErrorClass::NotAuthorised);
    }
    let request = Request::post("/").raw_header(b"x-topic", b"\xff\x00");
    refused(&mut host, request, ErrorClass::TopicNotAllowed);
    let request = Request::post("/").dynamic_metadata(&plan(json!([1])));
    refused(&mut host, request, ErrorClass::InvalidRequest);
    let request = Request::post("/").raw_dynamic_metadata(b"\xff\xff\xff");
    refused(&mut host, request, ErrorClass::InvalidRequest);
    assert!(host.sent().is_empty());
}

#[test]
fn what_a_request_chooses_is_not_kept_for_the_next() {
    let settings = |header: &str| json!({"topic": {"header": header, "allowed": ["a", "b"], "default": "a"}});
    let mut host = open(json!({}));
    for (said, topic) in [("b", "b"), ("a", "a"), ("b", "b")] {
        let request = Request::post("/").header("x", said).settings(settings("x"));
        assert_eq!(topics(&mut host, request.json("{}")).unwrap(), [topic]);
        let other = Request::post("/").header("x", said).settings(settings("y"));
        assert_eq!(topics(&mut host, other.json("{}")).unwrap(), ["a"]);
    }
}

#[test]
fn dynamic_metadata_is_read_only_where_a_route_asks_for_it() {
    let mut host = open(json!({"topic": {"header": "x", "allowed": ["a"], "default": "a"}}));
    topics(&mut host, Request::post("/").json("{}"));
    assert_eq!(host.reads("metadata"), 0);
    let asks = json!({"key": {"metadata": ["ns", "k"]}});
    let request = Request::post("/")
        .settings(asks)
        .dynamic_metadata(&json!({"ns": {"k": "1"}}));
    topics(&mut host, request.json("{}"));
    assert_eq!(host.reads("metadata"), 1);
}

/// A page of wasm memory.
const PAGE: usize = 64 << 10;

#[test]
fn thousands_of_different_routes_do_not_exhaust_the_filter() {
    let mut host = open(json!({}));
    host.sidecar().store_all();
    let round = |host: &mut Host| {
        for n in 0..3_000 {
            let settings = json!({"topic": format!("t{n}"), "success_message": "x".repeat(200)});
            let id = host.send(Request::post("/").settings(settings).json("{}"));
            assert_eq!(reply(host, id).status, 200);
        }
        host.sent();
    };
    // Until what is freed is where the next is put.
    for _ in 0..4 {
        round(&mut host);
    }
    let before = host.memory_bytes();
    round(&mut host);
    round(&mut host);
    // Each round is more than a megabyte of settings.
    assert!(
        host.memory_bytes() <= before + PAGE,
        "{before} {}",
        host.memory_bytes()
    );
}
