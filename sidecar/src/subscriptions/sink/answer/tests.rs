use std::time::UNIX_EPOCH;

use hyper::header::HeaderValue;

use super::*;

const NOW: SystemTime = UNIX_EPOCH;

fn answer(status: u16, body: &str) -> Answer {
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        body: Body::Whole(Bytes::copy_from_slice(body.as_bytes())),
    }
}

fn replied(status: u16, body: &str) -> Reply {
    Reply {
        status,
        headers: HeaderMap::new(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

fn of(answer: Answer, reading: &Reading) -> Outcome {
    outcome(answer, reading, "POST http://x:80/", NOW, &["hunter2"])
}

fn kind(status: u16, reading: &Reading) -> &'static str {
    match of(answer(status, ""), reading) {
        Outcome::Done { .. } => "done",
        Outcome::Retry { .. } => "retry",
        Outcome::Poison { .. } => "poison",
        Outcome::Dropped => "dropped",
    }
}

#[test]
fn statuses_decide() {
    let usual = Reading::default();
    for (status, wanted) in [
        (200, "done"),
        (204, "done"),
        (299, "done"),
        (301, "poison"),
        (304, "poison"),
        (400, "poison"),
        (401, "poison"),
        (404, "poison"),
        (408, "retry"),
        (409, "poison"),
        (425, "retry"),
        (429, "retry"),
        (500, "retry"),
        (503, "retry"),
        (599, "retry"),
    ] {
        assert_eq!(kind(status, &usual), wanted, "{status}");
    }
    let other = Reading {
        retry: vec![Statuses::parse("409").unwrap(), Statuses::parse("4xx").unwrap()],
        ..usual
    };
    for (status, wanted) in [(409, "retry"), (404, "retry"), (500, "poison"), (302, "poison")] {
        assert_eq!(kind(status, &other), wanted, "{status}");
    }
    for bad in ["200", "2xx", "6xx", "600", "xx", "", "5XX", "-1", "x"] {
        assert_eq!(Statuses::parse(bad), None, "{bad}");
    }
}

#[test]
fn retry_after_is_seconds_or_a_date_and_is_capped() {
    let after = |text: &str| {
        let mut answer = answer(503, "");
        answer
            .headers
            .insert(RETRY_AFTER, HeaderValue::from_str(text).unwrap());
        match of(answer, &Reading::default()) {
            Outcome::Retry { after, .. } => after.map(|after| after.as_secs()),
            other => panic!("{other:?}"),
        }
    };
    for (text, wanted) in [
        ("0", Some(0)),
        (" 120 ", Some(120)),
        ("3601", Some(3600)),
        ("99999999999999999999999", Some(3600)),
        ("Thu, 01 Jan 1970 00:00:07 GMT", Some(7)),
        ("Mon, 01 Jan 2170 00:00:07 GMT", Some(3600)),
        ("Wed, 31 Dec 1969 23:59:59 GMT", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
    ] {
        assert_eq!(after(text), wanted, "{text}");
    }
    let later = NOW + Duration::from_secs(100);
    let mut headers = HeaderMap::new();
    headers.insert(
        RETRY_AFTER,
        HeaderValue::from_static("Thu, 01 Jan 1970 00:00:07 GMT"),
    );
    assert_eq!(retry_after(&headers, later), Some(Duration::ZERO));
}

#[test]
fn a_body_may_say_what_is_to_become_of_the_event() {
    let reading = Reading {
        status_body: true,
        reply: true,
        ..Reading::default()
    };
    let done = |body: &str| of(answer(200, body), &reading);
    for body in ["", "no JSON", "[]", "{}", r#"{"status":"SUCCESS"}"#, "7"] {
        let reply = Some(replied(200, body));
        assert_eq!(done(body), Outcome::Done { reply }, "{body}");
    }
    assert_eq!(done(r#"{"status":"DROP"}"#), Outcome::Dropped);
    for body in [
        r#"{"status":"RETRY"}"#,
        r#"{"status":"success"}"#,
        r#"{"status":1}"#,
        r#"{"status":"hunter2"}"#,
    ] {
        match done(body) {
            Outcome::Retry {
                why,
                status: Some(200),
                ..
            } => assert!(!why.contains("hunter2"), "{why}"),
            other => panic!("{body}: {other:?}"),
        }
    }
    // Only where the option is on.
    let off = Reading {
        status_body: false,
        reply: false,
        ..reading.clone()
    };
    assert_eq!(
        of(answer(200, r#"{"status":"DROP"}"#), &off),
        Outcome::Done { reply: None }
    );
    // A failure is one whatever the body says.
    assert_eq!(kind(400, &reading), "poison");
}

#[test]
fn answers_that_are_no_successes_are_replies_where_that_is_said() {
    let reading = Reading {
        status_body: true,
        reply: true,
        replies: vec![Statuses::Class(4), Statuses::One(503)],
        ..Reading::default()
    };
    // What such an answer says in its body is nobody's order.
    let body = r#"{"status":"DROP"}"#;
    for status in [400, 404, 499] {
        let reply = Some(replied(status, body));
        assert_eq!(
            of(answer(status, body), &reading),
            Outcome::Done { reply },
            "{status}"
        );
    }
    for (status, wanted) in [(429, "retry"), (503, "retry"), (500, "retry"), (302, "poison")] {
        assert_eq!(kind(status, &reading), wanted, "{status}");
    }
    let unwanted = Reading {
        reply: false,
        ..reading
    };
    assert_eq!(kind(404, &unwanted), "poison");
}

#[test]
fn an_answer_that_cannot_be_read_matters_where_it_is_asked_for() {
    for (body, wanted) in [
        (Body::TooLong, "max_response_bytes"),
        (Body::Broken("it broke".to_owned()), "it broke"),
    ] {
        let with = |body, reading: &Reading| {
            of(
                Answer {
                    body,
                    ..answer(200, "")
                },
                reading,
            )
        };
        let reply = Reading {
            reply: true,
            ..Reading::default()
        };
        let again = match &body {
            Body::TooLong => Body::TooLong,
            _ => Body::Broken("it broke".to_owned()),
        };
        assert_eq!(with(again, &Reading::default()), Outcome::Done { reply: None });
        match with(body, &reply) {
            Outcome::Poison { why, .. } | Outcome::Retry { why, .. } => {
                assert!(why.contains(wanted), "{why}")
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn why_is_told_in_one_line_without_secrets() {
    let why = |body: &str| match of(answer(422, body), &Reading::default()) {
        Outcome::Poison {
            why,
            status: Some(422),
        } => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        why("\n{\"detail\":\r\n\"id is missing\"}\n"),
        "POST http://x:80/ answers 422 Unprocessable Entity: {\"detail\":  \"id is missing\"}"
    );
    assert!(why(&"é".repeat(10_000)).chars().count() < 300);
    assert!(!why("your password hunter2 is wrong").contains("hunter2"));
    let moved = of(answer(307, ""), &Reading::default());
    assert!(
        matches!(moved, Outcome::Poison { why, .. } if why.contains("redirection, which is not followed"))
    );
}
