use super::*;
use crate::config::FilterConfig;

fn route(settings: &str) -> Route {
    let json = format!(r#"{{"topic": "t", "max_body_bytes": 10{settings}}}"#);
    let config = FilterConfig::from_json(json.as_bytes()).unwrap();
    config.resolve(None, b"").unwrap().unwrap()
}

fn begin(route: &Route, headers: &[(&str, &str)], ends: bool) -> (Exchange, Step) {
    let headers: Vec<_> = headers
        .iter()
        .map(|(n, v)| (n.as_bytes(), v.as_bytes()))
        .collect();
    Exchange::begin(route, &Head::new(&headers), ends)
}

fn class(step: &Step) -> ErrorClass {
    match step {
        Step::Reject(reject) => reject.class,
        step => panic!("not rejected: {step:?}"),
    }
}

const POST: (&str, &str) = (":method", "POST");

#[test]
fn a_request_without_body_is_whole_with_its_headers() {
    for method in ["GET", "HEAD", "DELETE", "POST"] {
        let (_, step) = begin(&route(""), &[(":method", method)], true);
        assert_eq!(step, Step::Produce, "{method}");
    }
}

#[test]
fn options_pass_unless_the_route_says_otherwise() {
    let options = [(":method", "OPTIONS")];
    let (mut exchange, step) = begin(&route(""), &options, false);
    assert_eq!(step, Step::Pass);
    assert_eq!(exchange.body(&route(""), 99, true), Step::Pass);
    assert_eq!(exchange.trailers(), Step::Pass);
    let (_, step) = begin(&route(r#", "produce_options": true"#), &options, true);
    assert_eq!(step, Step::Produce);
}

#[test]
fn a_body_is_collected_to_its_end() {
    let route = route("");
    let (mut exchange, step) = begin(&route, &[POST], false);
    assert_eq!(step, Step::Hold);
    assert_eq!(exchange.body(&route, 4, false), Step::Hold);
    assert!(exchange.is_collecting());
    assert_eq!(exchange.body(&route, 10, true), Step::Produce);
    assert!(!exchange.is_collecting());
    assert_eq!(exchange.trailers(), Step::Hold, "it waits for its fate");
}

#[test]
fn trailers_end_a_body() {
    let route = route("");
    let (mut exchange, _) = begin(&route, &[POST], false);
    assert_eq!(exchange.body(&route, 4, false), Step::Hold);
    assert_eq!(exchange.trailers(), Step::Produce);
}

#[test]
fn a_body_that_is_too_large_is_refused_as_soon_as_that_is_known() {
    let route = route("");
    let (_, step) = begin(&route, &[POST, ("content-length", "11")], false);
    assert_eq!(class(&step), ErrorClass::TooLarge);
    for length in ["10", "-1", "1e9", ""] {
        let (mut exchange, step) = begin(&route, &[POST, ("content-length", length)], false);
        assert_eq!(step, Step::Hold, "{length:?}");
        let step = exchange.body(&route, 11, false);
        assert_eq!(class(&step), ErrorClass::TooLarge);
    }
}

#[test]
fn a_failure_is_told_once() {
    let route = route("");
    let (mut exchange, _) = begin(&route, &[POST], false);
    assert_eq!(exchange.fail(&route), Some(End::Respond));
    assert_eq!(exchange.fail(&route), None);
    assert_eq!(
        exchange.body(&route, 3, true),
        Step::Pass,
        "what comes now is not ours"
    );
}

#[test]
fn only_a_route_that_says_so_continues() {
    let cases = [
        ("", End::Respond, End::Respond),
        (r#", "then": "continue""#, End::Continue, End::Respond),
        (
            r#", "then": "continue", "on_error": "continue""#,
            End::Continue,
            End::Continue,
        ),
    ];
    for (settings, success, failure) in cases {
        let route = route(settings);
        assert_eq!(
            (end(&route, true), end(&route, false)),
            (success, failure),
            "{settings}"
        );
    }
}
