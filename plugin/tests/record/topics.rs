//! Topics that a request names.

use serde_json::{Value, json};
use sluice_filter::record::Topics;
use sluice_proto::class::ErrorClass::{InvalidRequest, TopicNotAllowed};

use crate::harness::{check_refused, encode_parsed, parse, record, route};

fn config() -> Value {
    json!({"topic": "default", "topics_query_arg": "to", "allowed_topics": ["a", "b"]})
}

/// Checks the topics of a request.
#[track_caller]
fn check(query: &str, topics: &[&str]) {
    assert_eq!(record(&config(), format!("GET /{query}")).unwrap().topics, topics);
}

#[test]
fn without_the_argument_the_default_is_used() {
    check("", &["default"]);
    check("?other=a", &["default"]);
}

#[test]
fn the_request_names_allowed_topics() {
    check("?to=b", &["b"]);
    check("?to=b,a", &["b", "a"]);
    check("?to=b%2Ca", &["b", "a"]);
    check("?to=+a+,,b,", &["a", "b"]);
    check("?to=a&x=1&to=b", &["a", "b"]);
}

#[test]
fn the_default_is_always_allowed() {
    check("?to=a,default", &["a", "default"]);
}

#[test]
fn duplicates_collapse() {
    check("?to=a,b,a&to=b", &["a", "b"]);
}

#[test]
fn a_topic_that_is_not_allowed_is_refused() {
    check_refused(
        config(),
        "GET /?to=a,secret",
        TopicNotAllowed,
        "this route does not allow the topic `secret`",
    );
    check_refused(
        config(),
        "GET /?to=A",
        TopicNotAllowed,
        "this route does not allow the topic `A`",
    );
    check_refused(
        config(),
        "GET /?to=%ff%0Ax",
        TopicNotAllowed,
        r"this route does not allow the topic `\xff\nx`",
    );
}

#[test]
fn an_argument_that_names_nothing_is_refused() {
    for query in ["?to=", "?to", "?to=,%20,"] {
        check_refused(
            config(),
            format!("GET /{query}"),
            InvalidRequest,
            "the query argument to names no topic; leave it out to use the default",
        );
    }
}

#[test]
fn a_route_without_a_topic_of_its_own_needs_the_argument() {
    let config = json!({"topics_query_arg": "to", "allowed_topics": ["a"]});
    assert_eq!(record(&config, "GET /?to=a").unwrap().topics, ["a"]);
    for query in ["", "?to="] {
        check_refused(
            config.clone(),
            format!("GET /{query}"),
            InvalidRequest,
            "the query argument to must name a topic: this route has no default",
        );
    }
}

#[test]
fn the_filter_is_told_the_topics_in_the_records_order() {
    let route = route(&config());
    let told = |request: &str| {
        let encoded = encode_parsed(&mut Vec::new(), 1, &route, &parse(request.as_bytes())).unwrap();
        (
            encoded.topics.names(&route).to_vec(),
            encoded.topics == Topics::Configured,
        )
    };
    assert_eq!(told("GET /"), (vec!["default".to_owned()], true));
    assert_eq!(
        told("GET /?to=b,a"),
        (vec!["b".to_owned(), "a".to_owned()], false)
    );
}
