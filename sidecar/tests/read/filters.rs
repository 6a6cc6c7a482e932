//! Filters and fields.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use sluice::read::filter::Filter;

use crate::support::mock;
use crate::world::{Events, entry, get, page, reading, values, write};

fn numbers(range: std::ops::Range<i32>) -> Vec<String> {
    range.map(|n| format!("{{\"n\":{n}}}")).collect()
}

async fn fill(mock: &crate::support::Mock, topic: &str, range: std::ops::Range<i32>) {
    let all = numbers(range);
    write(
        mock,
        topic,
        0,
        &all.iter().map(String::as_str).collect::<Vec<_>>(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_has_what_passes_and_the_cursor_goes_past_the_rest() {
    let mock = mock(&[("t", 1)]);
    fill(&mock, "t", 0..100).await;
    let sidecar = reading(&mock, entry(&["t"])).await;
    for (query, found) in [
        ("where=$.n==42", vec!["{\"n\":42}"]),
        ("where=$.n!=42&where=$.n==43", vec!["{\"n\":43}"]),
        ("jq=.n%20%3E%2097", vec!["{\"n\":98}", "{\"n\":99}"]),
        ("jq=select(.n%20%3E%2098)%7C.n", vec!["99"]),
        ("jq=.n&jq=select(.%20%3C%201%20%7C%20not)&where=$.n==5", vec!["5"]),
        ("key=k&header=h:1&where=$.n==3", vec!["{\"n\":3}"]),
        ("key=other", vec![]),
        ("key=other&key=k&where=$.n==1", vec!["{\"n\":1}"]),
        ("header=h:2", vec![]),
    ] {
        let page = page(&sidecar, &format!("/topics/t/records?from=earliest&{query}")).await;
        assert_eq!(values(&page), found, "{query}");
        assert_eq!(page["pagination"]["nextCursor"], "t@0#99", "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_a_filter_miss_and_repeat_nothing() {
    let mock = mock(&[("t", 2)]);
    let all = numbers(0..300);
    let texts: Vec<_> = all.iter().map(String::as_str).collect();
    write(&mock, "t", 0, &texts).await;
    write(&mock, "t", 1, &texts).await;
    let sidecar = reading(&mock, entry(&["t"])).await;
    for limit in [1, 3, 7] {
        let mut path = format!("/topics/t/records?from=earliest&limit={limit}&jq=.n%20%25%2010%20==%200");
        let mut seen = Vec::new();
        loop {
            let answer = get(&sidecar, &path, &[]).await;
            let page = answer.json();
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= limit, "{page}");
            if items.is_empty() {
                break;
            }
            seen.extend(items.iter().map(|item| {
                (
                    item["partition"].as_i64().unwrap(),
                    item["value"]["n"].as_i64().unwrap(),
                )
            }));
            let link = answer.header("link").unwrap();
            path = link
                .trim_start_matches('<')
                .trim_end_matches(">; rel=\"next\"")
                .to_owned();
            assert!(path.contains("jq=.n"), "{path}");
        }
        seen.sort_unstable();
        let expected: Vec<_> = (0..2).flat_map(|p| (0..30).map(move |n| (p, n * 10))).collect();
        assert_eq!(seen, expected, "{limit}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_takes_all_it_may_ends_with_a_cursor_that_went_on() {
    let mock = mock(&[("t", 1)]);
    fill(&mock, "t", 0..200).await;
    let sidecar = reading(&mock, entry(&["t"])).await;
    let started = Instant::now();
    let answer = get(
        &sidecar,
        "/topics/t/records?from=earliest&max_wait=500&jq=def%20f:%20f;%20f",
        &[],
    )
    .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let page = answer.json();
    assert!(
        started.elapsed() < Duration::from_secs(60),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(page["items"], json!([]));
    let count = page["filterFailures"]["count"].as_i64().unwrap();
    assert!((1..200).contains(&count), "{page}");
    assert_eq!(
        answer.header("x-kafka-filter-failures").unwrap(),
        count.to_string()
    );
    assert_eq!(page["pagination"]["nextCursor"], format!("t@0#{}", count - 1));
    assert_eq!(page["filterFailures"]["first"]["id"], "t@0#0");
    let why = page["filterFailures"]["first"]["error"].as_str().unwrap();
    // Or the second that they may take, where the machine is busy.
    assert!(why.contains("steps") || why.contains("1000 ms"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_waits_for_what_passes() {
    let mock = mock(&[("t", 1)]);
    fill(&mock, "t", 0..10).await;
    let sidecar = reading(&mock, entry(&["t"])).await;
    let waiting = get(
        &sidecar,
        "/topics/t/records?from=earliest&max_wait=60s&where=$.n==15",
        &[],
    );
    let (answer, ()) = tokio::join!(waiting, async {
        fill(&mock, "t", 10..20).await;
    });
    assert_eq!(values(&answer.json()), ["{\"n\":15}"]);
    let none = get(
        &sidecar,
        "/topics/t/records?from=earliest&max_wait=100&where=$.n==150",
        &[],
    )
    .await;
    assert_eq!(none.json()["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_what_passes_and_its_ids_go_past_the_rest() {
    let mock = mock(&[("t", 1)]);
    fill(&mock, "t", 0..50).await;
    let sidecar = reading(&mock, entry(&["t"])).await;
    let path = "/topics/t/stream?from=earliest&heartbeatIntervalInMs=2000&jq=select(.n%20==%207%20or%20.n%20==%2060)%7C.n";
    let mut events = Events::open(&sidecar, path, &[]).await;
    let first = events.event("message").await;
    assert_eq!((first.id.as_str(), &first.json()["value"]), ("t@0#7", &json!(7)));
    assert_eq!(events.event("caught-up").await.id, "t@0#49");
    fill(&mock, "t", 50..55).await;
    // Nothing of it passes, and a client that comes back need not go through it again.
    let beat = loop {
        let event = events.next().await.unwrap();
        if !event.id.is_empty() {
            break event;
        }
    };
    assert_eq!(
        (beat.id.as_str(), beat.event.as_str(), beat.data.as_str()),
        ("t@0#54", "", "")
    );
    fill(&mock, "t", 55..61).await;
    assert_eq!(events.event("message").await.json()["value"], json!(60));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_says_what_a_program_failed_on_and_goes_on() {
    let mock = mock(&[("t", 1)]);
    write(&mock, "t", 0, &["7", "{\"a\":1}"]).await;
    let sidecar = reading(&mock, entry(&["t"])).await;
    let mut events = Events::open(&sidecar, "/topics/t/stream?from=earliest&jq=.a", &[]).await;
    assert_eq!(events.event("message").await.json()["value"], json!(1));
    let failed = events.event("filter-failures").await.json();
    assert_eq!(
        (&failed["count"], &failed["first"]["id"]),
        (&json!(1), &json!("t@0#0"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_past_an_entrys_filter() {
    let mock = mock(&[("t", 1)]);
    write(
        &mock,
        "t",
        0,
        &[
            "{\"n\":1,\"secret\":\"s\"}",
            "{\"n\":2,\"secret\":\"s\",\"hidden\":true}",
        ],
    )
    .await;
    let mut read = entry(&["t"]);
    let strings = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let filter = Filter::parse(
        &[],
        &strings(&["h:1"]),
        &strings(&["$.hidden!=true"]),
        &strings(&["del(.secret)"]),
    );
    read.filter = Some(Arc::new(filter.unwrap()));
    let sidecar = reading(&mock, read).await;
    let all = "/topics/t/records?from=earliest";
    for query in ["", "&jq=.", "&format=string", "&fields=value"] {
        let page = page(&sidecar, &format!("{all}{query}")).await;
        assert_eq!(values(&page), ["{\"n\":1}"], "{query}");
    }
    for query in ["&jq=.secret", "&where=$.secret==s", "&where=$.hidden==true"] {
        let page = page(&sidecar, &format!("{all}{query}")).await;
        assert_eq!(page["items"], json!([]), "{query}");
    }
    let raw = get(&sidecar, "/topics/t/partitions/0/records/0", &[]).await;
    assert_eq!((raw.status.as_u16(), &raw.body[..]), (200, &b"{\"n\":1}"[..]));
    let hidden = get(&sidecar, "/topics/t/partitions/0/records/1", &[]).await;
    assert_eq!(
        (hidden.status.as_u16(), &hidden.json()["code"]),
        (404, &json!("no_record"))
    );
    let mut events = Events::open(&sidecar, "/topics/t/stream?from=earliest", &[]).await;
    assert_eq!(events.values(1).await, ["{\"n\":1}"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_are_all_that_a_small_client_gets() {
    let mock = mock(&[("t", 1)]);
    write(&mock, "t", 0, &["{\"a\":{\"b\":1.50},\"c\":2}"]).await;
    let sidecar = reading(&mock, entry(&["t"])).await;
    let answer = page(
        &sidecar,
        "/topics/t/records?from=earliest&fields=offset,value.a.b",
    )
    .await;
    assert_eq!(
        answer["items"],
        json!([{ "offset": 0, "value": { "a": { "b": 1.5 } } }])
    );
    assert_eq!(answer["pagination"]["nextCursor"], "t@0#0");
    let lines = get(
        &sidecar,
        "/topics/t/records?from=earliest&fields=value.c",
        &[("accept", "application/x-ndjson")],
    )
    .await;
    assert_eq!(&lines.body[..], b"{\"value\":{\"c\":2}}\n");
    let mut events = Events::open(&sidecar, "/topics/t/stream?from=earliest&fields=key", &[]).await;
    assert_eq!(events.event("message").await.data, "{\"key\":\"k\"}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_filter_is_said() {
    let mock = mock(&[("t", 1)]);
    let sidecar = reading(&mock, entry(&["t"])).await;
    for (query, why) in [
        ("jq=.a%20%7C", "jq lacks a term, at line 1, column 5"),
        ("jq=$ENV", "jq uses the variable $ENV"),
        ("where=a", "where \"a\" does not begin with $"),
        ("header=h", "header \"h\" is not name:value"),
        ("fields=nope", "fields has \"nope\""),
    ] {
        for path in ["records", "stream"] {
            let answer = get(&sidecar, &format!("/topics/t/{path}?{query}"), &[]).await;
            assert_eq!(
                (answer.status.as_u16(), &answer.json()["code"]),
                (400, &json!("invalid_request"))
            );
            let error = answer.json()["error"].as_str().unwrap().to_owned();
            assert!(error.starts_with(why), "{query}: {error}");
        }
    }
    let both = get(&sidecar, "/topics/t/stream?fields=id&metadataAsComment=true", &[]).await;
    assert_eq!(both.status, 400);
}
