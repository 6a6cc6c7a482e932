//! Event streams.

use std::time::{Duration, Instant};

use serde_json::json;
use sluice::config::Reset;

use crate::support::{Sidecar, mock};
use crate::world::{Events, config, entry, get, page, reading, values, write};

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_catches_up_and_goes_on() {
    let mock = mock(&[("t", 2)]);
    write(&mock, "t", 0, &["a", "b"]).await;
    write(&mock, "t", 1, &["c"]).await;
    let sidecar = reading(&mock, entry(&["t"])).await;
    let mut events = Events::open(&sidecar, "/topics/t/stream?from=earliest", &[]).await;
    assert_eq!(events.next().await.unwrap().retry, "1000");
    let mut history = events.values(3).await;
    history.sort();
    assert_eq!(history, ["a", "b", "c"]);
    let live = events.event("caught-up").await;
    assert_eq!(
        (live.id.as_str(), live.json()),
        ("t@0#1,1#0", json!({ "cursor": "t@0#1,1#0" }))
    );
    write(&mock, "t", 1, &["d"]).await;
    let event = events.event("message").await;
    assert_eq!(
        (event.id.as_str(), &event.json()["value"], &event.json()["id"]),
        ("t@0#1,1#1", &json!("d"), &json!("t@1#1"))
    );
    assert_eq!(sidecar.metric("sluice_read_streams").await, Some(1.0));
    drop(events);
    crate::support::until("the stream is closed", async || {
        sidecar.metric("sluice_read_streams").await == Some(0.0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_where_it_was() {
    let mock = mock(&[("t", 2)]);
    let sidecar = reading(&mock, entry(&["t"])).await;
    let mut events = Events::open(&sidecar, "/topics/t/stream", &[]).await;
    let start = events.event("caught-up").await;
    // A partition that had nothing is named: what comes into it is not missed.
    assert_eq!(start.id, "t@0#-1,1#-1");
    write(&mock, "t", 0, &["a"]).await;
    let id = events.event("message").await.id;
    drop(events);
    write(&mock, "t", 0, &["b"]).await;
    write(&mock, "t", 1, &["c"]).await;
    let query = format!("/topics/t/stream?Last-Event-ID={}", id.replace('#', "%23"));
    for (path, headers) in [
        ("/topics/t/stream", vec![("last-event-id", id.as_str())]),
        (query.as_str(), vec![]),
    ] {
        let mut events = Events::open(&sidecar, path, &headers).await;
        let mut missed = events.values(2).await;
        missed.sort();
        assert_eq!(missed, ["b", "c"], "{path}");
        events.event("caught-up").await;
    }
    // Accept says so as well, and an empty id is none.
    let headers = [("accept", "text/event-stream"), ("last-event-id", "")];
    let mut events = Events::open(&sidecar, "/topics/t/records?from=-1", &headers).await;
    assert_eq!(events.values(2).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn gravitees_commands_work_as_they_stand() {
    let mock = mock(&[("demo1", 1)]);
    let sidecar = reading(&mock, entry(&["demo1"])).await;
    write(&mock, "demo1", 0, &["a", "b"]).await;
    // $(echo -n "demo1@0#0" | base64)
    let id = [("last-event-id", "ZGVtbzFAMCMw")];
    let mut events = Events::open(&sidecar, "/topics/demo1/stream", &id).await;
    assert_eq!(events.values(1).await, ["b"]);
    for cursor in ["ZGVtbzFAMCMw", "demo1@0%230"] {
        let path = format!("/topics/demo1/records?cursor={cursor}");
        assert_eq!(values(&page(&sidecar, &path).await), ["b"], "{cursor}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_and_headers_may_be_comments() {
    let mock = mock(&[("t", 1)]);
    write(&mock, "t", 0, &["one\ntwo"]).await;
    let sidecar = reading(&mock, entry(&["t"])).await;
    let first = async |query: &str| {
        let mut events =
            Events::open(&sidecar, &format!("/topics/t/stream?from=earliest&{query}"), &[]).await;
        events.event("message").await
    };
    let event = first("metadataAsComment=true").await;
    assert!(
        event.comments[0].starts_with("metadata: {\"topic\":\"t\",\"partition\":0,\"offset\":0,"),
        "{event:?}"
    );
    let headers = json!([{ "name": "h", "value": "1", "format": "string" }]);
    assert_eq!(
        event.json(),
        json!({ "headers": headers, "value": "one\ntwo", "valueFormat": "string" })
    );
    let event = first("headersAsComment=true").await;
    assert_eq!(
        event.comments,
        [format!("headers: {}", json!({ "headers": headers }))]
    );
    assert_eq!(event.json()["offset"], 0);
    let event = first("metadataAsComment=true&headersAsComment=true").await;
    assert_eq!(
        (event.data.as_str(), event.comments.last().unwrap().as_str()),
        ("one\ntwo", "valueFormat: string")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_stream_has_a_heartbeat() {
    let mock = mock(&[("t", 1)]);
    let sidecar = reading(&mock, entry(&["t"])).await;
    let mut events = Events::open(&sidecar, "/topics/t/stream?heartbeatIntervalInMs=2000", &[]).await;
    events.event("caught-up").await;
    let started = Instant::now();
    let beat = events.next().await.unwrap();
    assert_eq!((beat.comments.len(), beat.event.as_str()), (1, ""));
    let took = started.elapsed();
    assert!(
        took > Duration::from_millis(1500) && took < Duration::from_secs(15),
        "{took:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_the_sidecar() {
    let mock = mock(&[("t", 1)]);
    let sidecar = reading(&mock, entry(&["t"])).await;
    let mut events = Events::open(&sidecar, "/topics/t/stream", &[]).await;
    events.event("caught-up").await;
    sidecar.stopper.drain();
    let last = events.next().await.unwrap();
    assert!(
        last.comments[0].contains("going away") && last.retry == "1000",
        "{last:?}"
    );
    assert_eq!(events.next().await, None);
    sidecar.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_says_when_it_could_not_go_on_where_it_was() {
    let mock = mock(&[("t", 1)]);
    write(&mock, "t", 0, &["a"]).await;
    let mut read = entry(&["t"]);
    read.auto_offset_reset = Reset::Earliest;
    let sidecar = reading(&mock, read.clone()).await;
    let mut events = Events::open(&sidecar, "/topics/t/stream", &[("last-event-id", "t@0#9")]).await;
    let moved = events.event("reset").await.json();
    assert_eq!(
        (&moved["requested"], &moved["position"], &moved["reason"]),
        (&json!(10), &json!(0), &json!("beyond"))
    );
    assert_eq!(events.values(1).await, ["a"]);
    read.auto_offset_reset = Reset::None;
    let sidecar = reading(&mock, read).await;
    let refused = get(&sidecar, "/topics/t/stream", &[("last-event-id", "t@0#9")]).await;
    assert_eq!(refused.status, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_waits_for_its_topic() {
    let mock = mock(&[]);
    let mut read = entry(&["later"]);
    read.check_topic_existence = false;
    let sidecar = reading(&mock, read).await;
    let mut events = Events::open(&sidecar, "/topics/later/stream", &[]).await;
    events.next().await.unwrap();
    mock.create_topic("later", 1, 1).unwrap();
    write(&mock, "later", 0, &["first"]).await;
    assert_eq!(events.values(1).await, ["first"]);
}

/// Many streams, some from the past and some that come back, while records are written: each sees each record once.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_missed_and_nothing_comes_twice() {
    const RECORDS: usize = 300;
    let mock = mock(&[("t", 2)]);
    let mut all = config(&mock, vec![entry(&["t"])]);
    all.max_readers = 2;
    let sidecar = Sidecar::start(all).await;
    let reader = async |reader: usize| {
        let mut seen = Vec::new();
        let mut last: Option<String> = None;
        while seen.len() < RECORDS {
            let headers: Vec<_> = last.iter().map(|id| ("last-event-id", id.as_str())).collect();
            let mut events = Events::open(&sidecar, "/topics/t/stream?from=earliest", &headers).await;
            // Comes back after another number of records each time.
            let until = (seen.len() + 7 * (reader + 1)).min(RECORDS);
            while seen.len() < until {
                let event = events.next().await.unwrap();
                if event.event == "message" {
                    seen.push(event.json()["value"].to_string());
                }
                if !event.id.is_empty() {
                    last = Some(event.id);
                }
            }
        }
        seen.sort_by_key(|value| value.parse::<usize>().unwrap());
        assert_eq!(
            seen,
            (0..RECORDS).map(|n| n.to_string()).collect::<Vec<_>>(),
            "reader {reader}"
        );
    };
    tokio::join!(reader(0), reader(1), reader(2), reader(3), async {
        for first in (0..RECORDS).step_by(10) {
            for half in [0, 5] {
                let values: Vec<String> = (first + half..first + half + 5).map(|n| n.to_string()).collect();
                write(
                    &mock,
                    "t",
                    i32::from(half > 0),
                    &values.iter().map(String::as_str).collect::<Vec<_>>(),
                )
                .await;
            }
        }
    });
}
