//! `GET …/records` and what goes with it.

use std::time::{Duration, Instant};

use serde_json::json;
use sluice::config::Reset;

use crate::support::{PATIENCE, mock};
use crate::world::{entry, get, page, reading, values, write};

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_read_page_by_page() {
    let mock = mock(&[("t", 3)]);
    for partition in 0..3 {
        let values: Vec<String> = (0..10).map(|n| format!("{partition}-{n}")).collect();
        write(
            &mock,
            "t",
            partition,
            &values.iter().map(String::as_str).collect::<Vec<_>>(),
        )
        .await;
    }
    let sidecar = reading(&mock, entry(&["t"])).await;
    let mut path = "/topics/t/records?from=earliest&limit=7".to_owned();
    let (mut seen, mut pages) = (Vec::new(), 0);
    loop {
        let answer = get(&sidecar, &path, &[]).await;
        let found = values(&answer.json());
        pages += 1;
        assert!(found.len() <= 7 && pages < 20);
        if found.is_empty() {
            break;
        }
        seen.extend(found);
        let link = answer.header("link").unwrap();
        path = link
            .strip_prefix('<')
            .unwrap()
            .strip_suffix(">; rel=\"next\"")
            .unwrap()
            .to_owned();
        assert!(path.contains("limit=7"), "{path}");
        assert_eq!(answer.json()["pagination"]["limit"], 7);
    }
    for partition in 0..3 {
        let of: Vec<_> = seen
            .iter()
            .filter(|v| v.starts_with(&format!("{partition}-")))
            .collect();
        let expected: Vec<String> = (0..10).map(|n| format!("{partition}-{n}")).collect();
        assert_eq!(of, expected.iter().collect::<Vec<_>>());
    }
    assert_eq!(seen.len(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_reading_starts() {
    let mock = mock(&[("t", 1)]);
    write(&mock, "t", 0, &["a", "b", "c", "d"]).await;
    let sidecar = reading(&mock, entry(&["t"])).await;
    for (query, expected) in [
        ("from=earliest", "a b c d"),
        ("from=latest", ""),
        ("from=-2", "c d"),
        ("from=-100", "a b c d"),
        ("from=t@0%232", "c d"),
        ("cursor=t@0%231", "c d"),
        ("cursor=dEAwIzE", "c d"),
        ("cursor=dEAwIzE=", "c d"),
        ("cursor=t@0%23-1", "a b c d"),
        ("cursor=t@0%233", ""),
        ("cursor=t@0%231&from=earliest", "c d"),
        ("from=earliest&max_bytes=12", "a b c"),
        ("from=earliest&partition=0&limit=1", "a"),
        ("", ""),
    ] {
        let page = page(&sidecar, &format!("/topics/t/records?{query}")).await;
        assert_eq!(values(&page).join(" "), expected, "{query}: {page}");
        assert!(page.get("resets").is_none(), "{query}: {page}");
    }
    let header = get(&sidecar, "/topics/t/records", &[("last-event-id", "dEAwIzI=")]).await;
    assert_eq!(values(&header.json()), ["d"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_is_auto_offset_reset() {
    let mock = mock(&[("t", 1)]);
    write(&mock, "t", 0, &["a"]).await;
    let with = async |reset, query: &str| {
        let mut read = entry(&["t"]);
        read.auto_offset_reset = reset;
        let sidecar = reading(&mock, read).await;
        get(&sidecar, &format!("/topics/t/records?{query}"), &[]).await
    };
    assert_eq!(values(&with(Reset::Earliest, "").await.json()), ["a"]);
    assert!(values(&with(Reset::Latest, "").await.json()).is_empty());
    let refused = with(Reset::None, "").await;
    assert_eq!(
        (refused.status.as_u16(), &refused.json()["code"]),
        (409, &json!("no_position"))
    );
    assert_eq!(values(&with(Reset::None, "from=earliest").await.json()), ["a"]);
    // Beyond the end.
    let beyond = with(Reset::Earliest, "cursor=t@0%2340").await;
    let moved = json!({ "topic": "t", "partition": 0, "requested": 41, "reason": "beyond", "position": 0 });
    assert_eq!(beyond.json()["resets"], json!([moved]));
    assert_eq!(
        beyond.header("x-kafka-offset-reset"),
        Some(json!([moved]).to_string().as_str())
    );
    assert_eq!(values(&beyond.json()), ["a"]);
    let beyond = with(Reset::Latest, "from=t@0%2341").await.json();
    assert_eq!(
        (&beyond["resets"][0]["position"], values(&beyond).len()),
        (&json!(1), 0)
    );
    let refused = with(Reset::None, "cursor=t@0%2340").await;
    assert_eq!(
        (refused.status.as_u16(), &refused.json()["code"]),
        (409, &json!("offset_out_of_range"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_that_retention_took_is_said_to_be_gone() {
    // The mock keeps 5 MiB of a partition.
    let mock = mock(&[("t", 1)]);
    let large = "x".repeat(500_000);
    for _ in 0..15 {
        write(&mock, "t", 0, &[&large]).await;
    }
    let mut read = entry(&["t"]);
    read.auto_offset_reset = Reset::Earliest;
    let sidecar = reading(&mock, read).await;
    let first = page(&sidecar, "/topics/t").await["partitions"][0]["earliest"]
        .as_i64()
        .unwrap();
    assert!(first > 0);
    let page = page(&sidecar, "/topics/t/records?cursor=t@0%230&limit=1").await;
    assert_eq!(page["items"][0]["offset"], first);
    let moved = json!({ "topic": "t", "partition": 0, "requested": 1, "reason": "gone", "position": first });
    assert_eq!(page["resets"], json!([moved]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_waits_for_a_record() {
    let mock = mock(&[("t", 2)]);
    let sidecar = reading(&mock, entry(&["t"])).await;
    let started = Instant::now();
    let nothing = page(&sidecar, "/topics/t/records?max_wait=300ms").await;
    assert!(values(&nothing).is_empty() && started.elapsed() >= Duration::from_millis(300));
    let cursor = nothing["pagination"]["nextCursor"]
        .as_str()
        .unwrap()
        .replace('#', "%23");
    assert_eq!(cursor, "t@0%23-1,1%23-1");
    let path = format!("/topics/t/records?max_wait=25s&cursor={cursor}");
    let started = Instant::now();
    let polls = [&path, &path].map(|path| page(&sidecar, path));
    let [one, other] = polls;
    let (one, other, ()) = tokio::join!(one, other, async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        write(&mock, "t", 1, &["new"]).await;
    });
    assert_eq!(
        (values(&one), values(&other)),
        (vec!["new".to_owned()], vec!["new".to_owned()])
    );
    assert!(started.elapsed() < Duration::from_secs(20));
    // One tail for each partition, whoever waits.
    assert_eq!(sidecar.metric("sluice_read_tails").await, Some(2.0));
    assert_eq!(sidecar.metric("sluice_read_records_total").await, Some(2.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_may_be_waited_for() {
    let mock = mock(&[]);
    let mut read = entry(&["later"]);
    read.check_topic_existence = false;
    let sidecar = reading(&mock, read).await;
    let nothing = page(&sidecar, "/topics/later/records?max_wait=50").await;
    assert_eq!(
        nothing,
        json!({ "items": [], "pagination": { "nextCursor": null, "limit": 500 } })
    );
    let (found, ()) = tokio::join!(page(&sidecar, "/topics/later/records?max_wait=25s"), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        mock.create_topic("later", 1, 1).unwrap();
        write(&mock, "later", 0, &["first"]).await;
    });
    // What was written before it was seen is new as well.
    assert_eq!(values(&found), ["first"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_topics_and_other_forms() {
    let mock = mock(&[("a", 1), ("b", 1)]);
    write(&mock, "a", 0, &["{\"n\": 1}"]).await;
    write(&mock, "b", 0, &["text"]).await;
    let mut read = entry(&["*"]);
    read.encode_message_id = true;
    let sidecar = reading(&mock, read).await;
    let page = page(&sidecar, "/records?topics=a,b&from=earliest").await;
    let mut found = values(&page);
    found.sort();
    assert_eq!(found, ["text", "{\"n\":1}"]);
    assert_eq!(page["pagination"]["nextCursor"], "YUAwIzA7YkAwIzA");
    let lines = get(
        &sidecar,
        "/records?topics_pattern=[ab]&from=earliest&format=base64",
        &[("accept", "application/x-ndjson")],
    )
    .await;
    assert_eq!(lines.header("content-type"), Some("application/x-ndjson"));
    let lines: Vec<serde_json::Value> = lines
        .body
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| line["valueFormat"] == "base64"));
    // One value, as it is.
    let raw = get(&sidecar, "/topics/a/partitions/0/records/0", &[]).await;
    assert_eq!(&*raw.body, b"{\"n\": 1}");
    for (name, value) in [
        ("content-type", "application/octet-stream"),
        ("x-content-type-options", "nosniff"),
        ("x-kafka-topic", "a"),
        ("x-kafka-partition", "0"),
        ("x-kafka-offset", "0"),
        ("x-kafka-key", "k"),
    ] {
        assert_eq!(raw.header(name), Some(value));
    }
    let described = get(&sidecar, "/topics/a", &[]).await.json();
    assert_eq!(
        described,
        json!({ "topic": "a", "partitions": [{ "partition": 0, "earliest": 0, "latest": 1 }] })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_away_is_503() {
    let mock = mock(&[("t", 1)]);
    let sidecar = reading(&mock, entry(&["t"])).await;
    drop(mock);
    let answer = tokio::time::timeout(PATIENCE, get(&sidecar, "/topics/t/records", &[]))
        .await
        .unwrap();
    assert_eq!(
        (answer.status.as_u16(), answer.header("retry-after")),
        (503, Some("1")),
        "{answer:?}"
    );
}

/// Of all that a request may have in its head a cursor is the longest.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_has_room_for_a_cursor() {
    let mock = mock(&[("t", 1)]);
    write(&mock, "t", 0, &["a", "b"]).await;
    let sidecar = reading(&mock, entry(&["t"])).await;
    let status = async |topic: &str| {
        let cursor = format!("t@0#0;{topic}@0#0");
        let answer = get(&sidecar, "/topics/t/records", &[("last-event-id", &cursor)]).await;
        (
            answer.status.as_u16(),
            String::from_utf8_lossy(&answer.body).into_owned(),
        )
    };
    let (status_of_a_cursor, why) = status(&"x".repeat(64_000)).await;
    assert!(
        status_of_a_cursor == 400 && why.contains("Last-Event-ID"),
        "{status_of_a_cursor} {why}"
    );
    let (status_of_more, why) = status(&"x".repeat(200_000)).await;
    assert_eq!(status_of_more, 431, "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_request_does_not_say_the_entry_does() {
    let mock = mock(&[("t", 1)]);
    write(&mock, "t", 0, &["a", "b", "c", "d"]).await;
    let mut read = entry(&["t"]);
    read.limit = 2;
    read.max_wait = Duration::from_millis(400);
    let sidecar = reading(&mock, read.clone()).await;
    let two = page(&sidecar, "/topics/t/records?from=earliest").await;
    assert_eq!((values(&two).len(), &two["pagination"]["limit"]), (2, &json!(2)));
    let started = Instant::now();
    page(&sidecar, "/topics/t/records").await;
    assert!(started.elapsed() >= Duration::from_millis(400));
    // A record here is 4 bytes with its key and its header.
    read.limit = 500;
    read.max_bytes = 12;
    let sidecar = reading(&mock, read).await;
    let three = page(&sidecar, "/topics/t/records?from=earliest").await;
    assert_eq!(values(&three), ["a", "b", "c"]);
}
