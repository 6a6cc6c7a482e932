//! `view=latest`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Mock, mock};
use crate::world::{self, Events, entry, get, page, reading};

const VIEW: &str = "/topics/t/records?view=latest";

/// Writes keys and values; none is a tombstone.
async fn put(mock: &Mock, partition: i32, records: &[(&str, Option<&str>)]) {
    let records: Vec<_> = records.iter().map(|(key, value)| (Some(*key), *value)).collect();
    world::put(mock, "t", partition, &records).await;
}

fn pairs(page: &Value) -> Vec<(String, Value)> {
    let items = page["items"].as_array().unwrap().iter();
    items
        .map(|item| (item["key"].as_str().unwrap().to_owned(), item["value"].clone()))
        .collect()
}

fn pair(key: &str, value: i32) -> (String, Value) {
    (key.to_owned(), json!(value))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_has_the_newest_of_each_key_in_the_order_of_keys() {
    let mock = mock(&[("t", 2)]);
    put(
        &mock,
        0,
        &[
            ("b", Some("1")),
            ("gone", Some("1")),
            ("b", Some("2")),
            ("gone", None),
        ],
    )
    .await;
    put(&mock, 1, &[("a", Some("7")), ("c", Some("8")), ("c", Some("9"))]).await;
    let sidecar = reading(&mock, entry(&["t"])).await;
    let all = page(&sidecar, VIEW).await;
    assert_eq!(pairs(&all), [pair("a", 7), pair("b", 2), pair("c", 9)]);
    assert_eq!(
        (&all["position"], &all["pagination"]["nextCursor"]),
        (&json!("t@0#3,1#2"), &json!(null))
    );
    let (mut path, mut seen) = (format!("{VIEW}&limit=1"), Vec::new());
    loop {
        let answer = get(&sidecar, &path, &[]).await;
        seen.extend(pairs(&answer.json()));
        let Some(link) = answer.header("link") else { break };
        path = link
            .trim_start_matches('<')
            .trim_end_matches(">; rel=\"next\"")
            .to_owned();
    }
    assert_eq!(seen, pairs(&all));
    let kept = page(&sidecar, &format!("{VIEW}&jq=.%20%3E%207&fields=key,value")).await;
    assert_eq!(kept["items"], json!([{ "key": "c", "value": 9 }]));
    let lines = get(
        &sidecar,
        &format!("{VIEW}&fields=value"),
        &[("accept", "application/x-ndjson")],
    )
    .await;
    assert_eq!(&lines.body[..], b"{\"value\":7}\n{\"value\":2}\n{\"value\":9}\n");
    let one = page(&sidecar, &format!("{VIEW}&key=c")).await;
    assert_eq!(
        (&one["key"], &one["value"], &one["offset"]),
        (&json!("c"), &json!(9), &json!(2))
    );
    for path in [format!("{VIEW}&key=gone"), format!("{VIEW}&key=c&where=$!=9")] {
        let none = get(&sidecar, &path, &[]).await;
        assert_eq!(
            (none.status.as_u16(), &none.json()["code"]),
            (404, &json!("no_record")),
            "{path}"
        );
    }
    // What comes after is in a stream from the view's position on.
    let mut events = Events::open(&sidecar, "/topics/t/stream?cursor=t@0%233,1%232", &[]).await;
    events.event("caught-up").await;
    put(&mock, 0, &[("d", Some("5"))]).await;
    assert_eq!(events.values(1).await, ["5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_it_waits_until_it_changes() {
    let mock = mock(&[("t", 1)]);
    put(&mock, 0, &[("a", Some("1"))]).await;
    let sidecar = reading(&mock, entry(&["t"])).await;
    let first = get(&sidecar, VIEW, &[]).await;
    let tag = first.header("etag").unwrap().to_owned();
    assert!(tag.starts_with("W/\""), "{tag}");
    for known in [
        tag.as_str(),
        "*",
        &format!("\"x\", {tag}"),
        tag.trim_start_matches("W/"),
    ] {
        let same = get(&sidecar, VIEW, &[("if-none-match", known)]).await;
        assert_eq!(
            (same.status.as_u16(), same.header("etag"), same.body.len()),
            (304, Some(tag.as_str()), 0)
        );
    }
    assert_eq!(
        get(&sidecar, VIEW, &[("if-none-match", "\"x\"")]).await.status,
        200
    );
    let late = get(&sidecar, VIEW, &[("if-none-match", &tag), ("prefer", "wait=1")]).await;
    assert_eq!(
        (late.status.as_u16(), late.header("preference-applied")),
        (304, Some("wait=1"))
    );
    let known = [
        ("if-none-match", tag.as_str()),
        ("prefer", "respond-async, wait=100"),
    ];
    let (changed, ()) = tokio::join!(get(&sidecar, VIEW, &known), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        put(&mock, 0, &[("a", Some("2"))]).await;
    });
    assert_eq!(changed.status, 200);
    assert_eq!(pairs(&changed.json()), [pair("a", 2)]);
    assert_ne!(changed.header("etag"), Some(tag.as_str()));
    // Another sidecar gives the same tag.
    let other = reading(&mock, entry(&["t"])).await;
    assert_eq!(
        get(&other, VIEW, &[]).await.header("etag"),
        changed.header("etag")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_does_not_fit_is_413() {
    let mock = mock(&[("t", 1)]);
    put(&mock, 0, &[("a", Some("1")), ("b", Some("2")), ("c", Some("3"))]).await;
    for (keys, bytes, setting) in [(2, 1 << 20, "max_view_keys"), (10, 5, "max_view_bytes")] {
        let mut read = entry(&["t"]);
        (read.max_view_keys, read.max_view_bytes) = (keys, bytes);
        let sidecar = reading(&mock, read).await;
        let answer = get(&sidecar, VIEW, &[]).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["code"]),
            (413, &json!("view_too_large"))
        );
        assert!(answer.json()["error"].as_str().unwrap().contains(setting));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_means_nothing_to_a_view_is_refused() {
    let mock = mock(&[("t", 1), ("u", 1)]);
    let sidecar = reading(&mock, entry(&["t", "u"])).await;
    for path in [
        "/topics/t/records?view=newest",
        "/topics/t/stream?view=latest",
        "/records?topics=t,u&view=latest",
        "/topics/t/records?view=latest&from=earliest",
        "/topics/t/records?view=latest&partition=0",
        "/topics/t/records?view=latest&max_wait=1",
        "/topics/t/records?view=latest&cursor=t@0%231",
    ] {
        let answer = get(&sidecar, path, &[]).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["code"]),
            (400, &json!("invalid_request")),
            "{path}"
        );
    }
    assert_eq!(
        get(&sidecar, "/topics/none/records?view=latest", &[])
            .await
            .status,
        403
    );
}
