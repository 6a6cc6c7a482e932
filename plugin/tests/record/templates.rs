//! What the sidecar's expressions are evaluated on.

use prost::Message as _;
use serde_json::{Value as Json, json};
use sluice_filter::config::metadata::encode_namespaces;
use sluice_filter::record::encode;
use sluice_filter::request::Head;
use sluice_proto::class::ErrorClass;
use sluice_proto::v1::{Header, ProduceRequest, Template};

use crate::harness::{check_refused, parse, record, route};

fn pairs(headers: &[Header]) -> Vec<(String, String)> {
    let text = |header: &Header| String::from_utf8(header.value.clone().unwrap()).unwrap();
    headers
        .iter()
        .map(|header| (header.name.clone(), text(header)))
        .collect()
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn template(config: &Json, request: &str) -> Template {
    record(config, request).unwrap().template.expect("a template")
}

#[test]
fn the_parts_of_the_request_are_sent_and_no_value() {
    let config = json!({ "topics": ["a", "b"], "payload": { "x": "{{ .inputs }}" } });
    let request = "POST /p/q?x=1&y\ncontent-type: application/json\nx-a: 1\n\n {\"n\": 1} ";
    let record = record(&config, request).unwrap();
    // A sidecar that knows no templates finds no topic, and refuses the record.
    assert_eq!((&record.topics[..], record.value), (&[][..], None));
    let template = record.template.unwrap();
    assert_eq!(
        template.definition,
        r#"{"payload":{"x":"{{ .inputs }}"},"origin":"API"}"#
    );
    let inputs: Json = serde_json::from_slice(&template.inputs.unwrap()).unwrap();
    assert_eq!(inputs, json!({ "n": 1 }));
    assert_eq!(
        (&template.method[..], &template.path[..]),
        (&b"POST"[..], &b"/p/q"[..])
    );
    assert_eq!(&template.query[..], b"x=1&y");
    let expected = [
        ("host", "example.com"),
        ("content-type", "application/json"),
        ("x-a", "1"),
    ];
    assert_eq!(pairs(&template.headers), owned(&expected));
    assert_eq!(template.topics, ["a", "b"]);
}

#[test]
fn a_template_without_a_payload_leaves_the_value() {
    let config = json!({ "value": "body", "template": { "key": "{{ .inputs.id }}" } });
    let record = record(&config, "POST /\ncontent-type: application/json\n\n{}").unwrap();
    assert_eq!(record.value.unwrap(), "{}");
    assert_eq!(record.template.unwrap().topics, ["t"]);
}

#[test]
fn the_fields_of_a_form_are_inputs() {
    let form = "POST /\ncontent-type: application/x-www-form-urlencoded\n\na=1&b=x+y&a=2";
    let sent = template(&json!({ "payload": 1 }), form);
    assert_eq!(sent.inputs.unwrap(), r#"{"a":["1","2"],"b":"x y"}"#);
}

#[test]
fn a_topic_is_chosen_by_an_expression_among_those_of_the_route() {
    let config = json!({ "topics": ["a"], "allowed_topics": ["b", "c"], "value": "body", "template": { "topic": "{{ .inputs.t }}" } });
    let sent = template(&config, "POST /\ncontent-type: application/json\n\n{}");
    assert_eq!(
        sent.definition,
        r#"{"topic":"{{ .inputs.t }}","allowed_topics":["b","c"],"origin":"API"}"#
    );
    assert_eq!(sent.topics, ["a"]);
    // Without a topic of its own the expression must give one.
    let config = json!({ "topics": [], "allowed_topics": ["b"], "template": { "topic": "b" } });
    assert_eq!(template(&config, "GET /").topics, [""; 0]);
}

#[test]
fn a_template_of_the_sidecars_is_named_and_makes_the_value_unless_the_route_has_one() {
    let request = "POST /\ncontent-type: application/json\n\n{}";
    let named = record(&json!({ "template": { "name": "deploy" } }), request).unwrap();
    let sent = named.template.unwrap();
    assert_eq!(sent.definition, r#"{"whole":true,"name":"deploy"}"#);
    assert_eq!((named.value, sent.inputs.as_deref()), (None, Some(&b"{}"[..])));
    let config = json!({ "template": { "name": "deploy" }, "value": "body", "trigger": { "origin": "UI" } });
    let with_value = record(&config, request).unwrap();
    assert_eq!(with_value.value.unwrap(), "{}");
    let definition = with_value.template.unwrap().definition;
    assert_eq!(definition, r#"{"name":"deploy","origin":"UI"}"#);
}

#[test]
fn credentials_are_sent_only_where_the_route_says_so() {
    let request = "GET /\nauthorization: Bearer x\ncookie: a=b\nx-a: 1";
    let none = template(&json!({ "payload": 1 }), request);
    assert_eq!(none.inputs, None);
    assert_eq!(
        pairs(&none.headers),
        owned(&[("host", "example.com"), ("x-a", "1")])
    );
    let allowed = template(
        &json!({ "payload": 1, "credential_headers": ["cookie"] }),
        request,
    );
    let expected = [("host", "example.com"), ("cookie", "a=b"), ("x-a", "1")];
    assert_eq!(pairs(&allowed.headers), owned(&expected));
}

#[test]
fn a_body_that_is_no_json_is_refused() {
    let config = json!({ "payload": 1 });
    let text = "POST /\ncontent-type: text/plain\n\na=b";
    let why = "this record is made of the inputs in a JSON body or a form, and the content-type says `text/plain`: send \
               application/json, application/x-www-form-urlencoded or multipart/form-data, without a content-encoding";
    check_refused(config.clone(), text, ErrorClass::InvalidRequest, why);
    let broken = record(&config, "POST /\ncontent-type: application/json\n\n{").unwrap_err();
    assert!(
        broken.error.starts_with("the body is not JSON: "),
        "{}",
        broken.error
    );
}

#[test]
fn who_asks_is_what_envoy_verified() {
    let by = json!({
        "user.email": { "metadata": ["envoy.filters.http.jwt_authn", "claims", "email"] },
        "orgId": { "metadata": ["envoy.filters.http.jwt_authn", "claims", "org"] },
        "none": { "metadata": ["envoy.filters.http.jwt_authn", "claims", "none"] },
    });
    let route = route(&json!({ "payload": 1, "trigger": { "by": by } }));
    assert!(route.reads_metadata());
    let metadata = encode_namespaces(&json!({
        "envoy.filters.http.jwt_authn": { "claims": { "email": "a@b.c", "org": 7 } },
    }));
    let (headers, body) = parse(b"POST /\nx-user: mallory");
    let headers: Vec<_> = headers.iter().map(|(n, v)| (&n[..], &v[..])).collect();
    let mut out = Vec::new();
    encode(
        &mut out,
        1,
        &route,
        &Head::new(&headers).with_metadata(&metadata),
        &body,
    )
    .unwrap();
    let record = ProduceRequest::decode(&*out).unwrap().records.remove(0);
    let mut by = pairs(&record.template.unwrap().by);
    by.sort();
    assert_eq!(by, owned(&[("orgId", "7"), ("user.email", "a@b.c")]));
    let trusted = json!({ "payload": 1, "trigger": { "trust_request": true, "by": { "user.id": { "header": "X-User" } } } });
    let sent = template(&trusted, "GET /\nx-user: alice");
    assert_eq!(pairs(&sent.by), owned(&[("user.id", "alice")]));
}
