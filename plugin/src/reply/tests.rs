use super::*;
use crate::config::FilterConfig;
use crate::stream::Failed;
use sluice_proto::v1::{Accepted, Stored};

fn route(settings: &str) -> Route {
    let json = format!(r#"{{"topics": ["a", "b"]{settings}}}"#);
    let config = FilterConfig::from_json(json.as_bytes()).unwrap();
    config.resolve(None, b"").unwrap().unwrap()
}

fn stored(partition: i32, offset: i64) -> TopicFate {
    fate(Fate::Stored(Stored { partition, offset }))
}

fn accepted() -> TopicFate {
    fate(Fate::Accepted(Accepted {}))
}

fn failed(class: ErrorClass) -> TopicFate {
    let message = "what \"happened\"".to_owned();
    fate(Fate::Failure(Failure {
        class: class as i32,
        message,
    }))
}

fn fate(result: Fate) -> TopicFate {
    TopicFate { result: Some(result) }
}

fn reply(settings: &str, fates: Vec<TopicFate>) -> Reply {
    let route = route(settings);
    Reply::of(&route, &route.topics, &Outcome::Fates(fates))
}

fn one(settings: &str, fate: TopicFate) -> Reply {
    Reply::of(&route(settings), &["a".to_owned()], &Outcome::Fates(vec![fate]))
}

fn header<'a>(reply: &'a Reply, name: &str) -> Vec<&'a str> {
    let named = reply.headers.iter().filter(|(n, _)| *n == name);
    named.map(|(_, value)| value.as_ref()).collect()
}

fn text(reply: &Reply) -> &str {
    std::str::from_utf8(&reply.body).unwrap()
}

#[test]
fn a_reply_is_the_answer_where_the_record_is_written() {
    let answered = |fates: Vec<TopicFate>, kind: AnswerKind, status| {
        let answer = Answer {
            kind: kind.into(),
            status,
            headers: vec![sluice_proto::v1::Header {
                name: "content-type".to_owned(),
                value: Some(b"text/plain".to_vec()),
            }],
            body: "body".into(),
        };
        let route = route("");
        let outcome = Outcome::Answered(fates, Box::new(answer));
        Reply::of(&route, &route.topics, &outcome)
    };
    let both = || vec![stored(3, 4), accepted()];
    for (kind, status, found) in [
        (AnswerKind::Replied, 201, Kind::Replied),
        (AnswerKind::Pending, 202, Kind::Pending),
        (AnswerKind::NoReply, 504, Kind::NoReply),
    ] {
        let reply = answered(both(), kind, status);
        assert_eq!(
            (reply.kind, u32::from(reply.status), text(&reply)),
            (found, status, "body")
        );
        assert_eq!(header(&reply, "x-kafka-offset"), ["4"]);
        assert_eq!(header(&reply, "content-type"), [""; 0]);
        assert_eq!(
            reply.more_headers,
            [("content-type".to_owned(), b"text/plain".to_vec())]
        );
    }
    for (kind, status) in [
        (AnswerKind::Replied, 199),
        (AnswerKind::Replied, 600),
        (AnswerKind::Replied, 70_000),
        (AnswerKind::Unspecified, 200),
    ] {
        let reply = answered(both(), kind, status);
        assert_eq!(reply.kind, Kind::Failed(ErrorClass::OutcomeUnknown), "{status}");
    }
    let failed = vec![failed(ErrorClass::TooLarge), failed(ErrorClass::TooLarge)];
    let reply = answered(failed, AnswerKind::Replied, 200);
    assert_eq!(reply.kind, Kind::Failed(ErrorClass::TooLarge));
}

#[test]
fn a_repeat_is_answered_as_the_first_was_and_says_so() {
    let first = one("", stored(3, 4));
    assert_eq!(header(&first, "idempotent-replayed"), [""; 0]);
    let topics = ["a".to_owned()];
    let again = Reply::of(&route(""), &topics, &Outcome::Replayed(vec![stored(3, 4)]));
    assert_eq!(
        (again.status, again.kind, &again.body),
        (first.status, first.kind, &first.body)
    );
    let (mark, as_before) = again.headers.split_last().unwrap();
    assert_eq!(as_before, first.headers);
    assert_eq!(*mark, ("idempotent-replayed", "true".into()));
    // Whatever else of its headers the route wants.
    let bare = route(r#", "reply_headers": false"#);
    let bare = Reply::of(&bare, &topics, &Outcome::Replayed(vec![accepted()]));
    assert_eq!(bare.status, 202);
    assert_eq!(header(&bare, "idempotent-replayed"), ["true"]);
}

#[test]
fn the_topic_that_a_template_chose_is_told() {
    let chosen = |outcome| {
        let topic = "chosen".to_owned();
        let outcome = Box::new(outcome);
        // The route has topics of its own, for requests that choose none.
        Reply::of(
            &route(""),
            &["a".to_owned(), "b".to_owned()],
            &Outcome::Chosen { topic, outcome },
        )
    };
    let reply = chosen(Outcome::Fates(vec![stored(3, 4)]));
    assert_eq!((reply.status, reply.kind), (200, Kind::Stored));
    assert_eq!(header(&reply, "x-kafka-topic"), ["chosen"]);
    assert_eq!(header(&reply, "x-kafka-offset"), ["4"]);
    let again = chosen(Outcome::Replayed(vec![stored(3, 4)]));
    assert_eq!(header(&again, "x-kafka-topic"), ["chosen"]);
    assert_eq!(header(&again, "idempotent-replayed"), ["true"]);
}

#[test]
fn a_stored_record_is_200_with_its_place() {
    let reply = one("", stored(3, 1 << 40));
    assert_eq!((reply.status, reply.kind), (200, Kind::Stored));
    assert_eq!(text(&reply), r#"{"message":"message sent"}"#);
    assert_eq!(header(&reply, "content-type"), ["application/json"]);
    assert_eq!(header(&reply, "x-kafka-topic"), ["a"]);
    assert_eq!(header(&reply, "x-kafka-partition"), ["3"]);
    assert_eq!(header(&reply, "x-kafka-offset"), ["1099511627776"]);
}

#[test]
fn an_accepted_record_is_202_without_a_place() {
    let reply = one("", accepted());
    assert_eq!((reply.status, reply.kind), (202, Kind::Accepted));
    assert_eq!(text(&reply), r#"{"message":"message accepted"}"#);
    assert!(header(&reply, "x-kafka-topic").is_empty());
}

#[test]
fn status_message_and_headers_of_a_success_are_as_configured() {
    let settings = r#", "success_status": 201, "success_message": "it's \"in\"", "reply_headers": false"#;
    for fate in [stored(0, 0), accepted()] {
        let reply = one(settings, fate);
        assert_eq!(reply.status, 201);
        assert_eq!(text(&reply), r#"{"message":"it's \"in\""}"#);
        assert_eq!(reply.headers, [JSON]);
    }
}

#[test]
fn a_failure_has_status_and_body_of_its_class() {
    let reply = one("", failed(ErrorClass::UnknownTopic));
    assert_eq!(reply.status, 404);
    assert_eq!(reply.kind, Kind::Failed(ErrorClass::UnknownTopic));
    let body =
        r#"{"message":"unknown topic or partition","error":"what \"happened\"","code":"unknown_topic"}"#;
    assert_eq!(text(&reply), body);
    assert!(header(&reply, "retry-after").is_empty());
    let reply = one("", failed(ErrorClass::ClusterUnavailable));
    assert_eq!(header(&reply, "retry-after"), ["1"]);
    let class = ErrorClass::BufferFull;
    let outcome = Outcome::Failed(Failed { class, error: "full" });
    let reply = Reply::of(&route(""), &[], &outcome);
    assert_eq!((reply.status, header(&reply, "retry-after").len()), (503, 1));
}

#[test]
fn every_topic_is_in_the_headers_in_order() {
    let reply = reply("", vec![stored(1, 10), stored(2, 20)]);
    assert_eq!((reply.status, reply.kind), (200, Kind::Stored));
    assert_eq!(header(&reply, "x-kafka-topic"), ["a", "b"]);
    assert_eq!(header(&reply, "x-kafka-partition"), ["1", "2"]);
    assert_eq!(header(&reply, "x-kafka-offset"), ["10", "20"]);
}

#[test]
fn stored_here_and_accepted_there_is_accepted() {
    assert_eq!(reply("", vec![stored(1, 10), accepted()]).status, 202);
}

#[test]
fn stored_in_some_topics_is_502_with_each_result() {
    let reply = reply("", vec![stored(1, 10), failed(ErrorClass::UnknownTopic)]);
    assert_eq!(
        (reply.status, reply.kind),
        (502, Kind::Failed(ErrorClass::PartlyStored))
    );
    let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(body["code"], "partly_stored");
    let results = serde_json::json!([
        {"topic": "a", "partition": 1, "offset": 10},
        {"topic": "b", "error": "what \"happened\"", "code": "unknown_topic"},
    ]);
    assert_eq!(body["results"], results);
}

#[test]
fn stored_in_no_topic_is_never_claimed_when_it_may_be() {
    use ErrorClass::{ClusterUnavailable, NotAuthorised, OutcomeUnknown, UnknownTopic};
    let cases = [
        ([ClusterUnavailable, ClusterUnavailable], 503),
        ([ClusterUnavailable, OutcomeUnknown], 504),
        ([ClusterUnavailable, UnknownTopic], 404),
        ([NotAuthorised, UnknownTopic], 403),
    ];
    for (classes, status) in cases {
        let reply = reply("", classes.map(failed).to_vec());
        assert_eq!(reply.status, status, "{classes:?}");
        let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(body["results"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn one_failure_may_stand_for_all_topics() {
    let reply = reply("", vec![failed(ErrorClass::RouteMisconfigured)]);
    assert_eq!(reply.status, 500);
    assert!(!text(&reply).contains("results"));
}

#[test]
fn a_sidecar_that_says_too_little_leaves_the_outcome_unknown() {
    let nothing = TopicFate { result: None };
    for fates in [vec![], vec![nothing], vec![stored(0, 0)], vec![stored(0, 0); 3]] {
        assert_eq!(reply("", fates.clone()).status, 504, "{fates:?}");
    }
}

#[test]
fn a_bad_route_names_its_problems() {
    let problem = |path: &str| Problem {
        path: path.to_owned(),
        message: "is odd".to_owned(),
    };
    let reply = Reply::misconfigured(&[problem("x"), problem("y")]);
    assert_eq!(reply.status, 500);
    assert!(text(&reply).contains("x: is odd; y: is odd"), "{}", text(&reply));
}

#[test]
fn every_kind_has_its_own_place_and_code() {
    let codes: std::collections::BTreeSet<_> = Kind::all().map(Kind::code).collect();
    assert_eq!(codes.len(), Kind::all().count());
    for (index, kind) in Kind::all().enumerate() {
        assert_eq!(kind.index(), index);
        assert_eq!(kind.details(), format!("sluice_{}", kind.code()));
    }
    let future = Kind::Failed(ErrorClass::Unspecified);
    assert_eq!(future.code(), Kind::Failed(ErrorClass::OutcomeUnknown).code());
    assert_eq!(future.index(), Kind::Failed(ErrorClass::OutcomeUnknown).index());
}
