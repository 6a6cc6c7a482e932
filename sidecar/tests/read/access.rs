//! Who may read what.

use serde_json::json;
use sluice::config::{ReadTopics, Secret, topics_pattern};

use crate::support::{self, Sidecar, mock};
use crate::world::{config, entry, get, page, reading};

const PATHS: [&str; 4] = [
    "/topics/{}/records",
    "/topics/{}/stream",
    "/topics/{}",
    "/topics/{}/partitions/0/records/0",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_no_entry_is_refused_on_every_path() {
    let mock = mock(&[("open", 1), ("closed", 1)]);
    let sidecar = reading(&mock, entry(&["open", "some-*"])).await;
    let also = [
        "/records?topics=closed",
        "/records?topics=open,closed",
        "/stream?topics=closed",
    ];
    let paths = PATHS.map(|path| path.replace("{}", "closed"));
    for path in paths.iter().map(String::as_str).chain(also) {
        let answer = get(&sidecar, path, &[]).await;
        assert_eq!(answer.status, 403, "{path}: {answer:?}");
        assert_eq!(answer.json()["code"], "topic_not_allowed", "{path}");
    }
    assert_eq!(get(&sidecar, "/topics/open/records", &[]).await.status, 200);
    let unknown = get(&sidecar, "/topics/some-thing/records", &[]).await;
    assert_eq!(
        (unknown.status.as_u16(), &unknown.json()["code"]),
        (404, &json!("unknown_topic"))
    );
    assert_eq!(
        page(&sidecar, "/topics").await,
        json!({ "topics": [{ "topic": "open" }] })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_read_without_reads() {
    let mock = mock(&[("t", 1)]);
    let sidecar = Sidecar::on(&mock).await;
    assert_eq!(get(&sidecar, "/topics/t/records", &[]).await.status, 403);
    assert_eq!(get(&sidecar, "/topics", &[]).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_its_own_entry() {
    let mock = mock(&[("a", 1), ("b", 1)]);
    let token = |topic: &str, token: &str| {
        let mut read = entry(&[topic]);
        read.anonymous = false;
        read.tokens = vec![Secret::new(token)];
        read
    };
    let sidecar = Sidecar::start(config(&mock, vec![token("a", "for-a"), token("b", "for-b")])).await;
    let status = async |path: &str, token: &str| {
        let header = format!("Bearer {token}");
        let headers: &[(&str, &str)] = if token.is_empty() {
            &[]
        } else {
            &[("authorization", &header)]
        };
        let answer = get(&sidecar, path, headers).await;
        if answer.status == 401 {
            let wanted = answer.header("www-authenticate").unwrap();
            assert!(
                if token.is_empty() {
                    wanted == "Bearer"
                } else {
                    wanted.starts_with("Bearer error=\"invalid_token\"")
                },
                "{wanted}"
            );
        }
        answer.status.as_u16()
    };
    for path in PATHS.map(|path| path.replace("{}", "a")) {
        assert_eq!(status(&path, "").await, 401, "{path}");
        assert_eq!(status(&path, "wrong").await, 401, "{path}");
        assert_eq!(status(&path, "for-b").await, 403, "{path}");
    }
    assert_eq!(status("/topics/a/records", "for-a").await, 200);
    assert_eq!(status("/records?topics=a,b", "for-a").await, 403);
    assert_eq!(status("/topics", "").await, 401);
    let listed = get(&sidecar, "/topics", &[("authorization", "Bearer for-b")])
        .await
        .json();
    assert_eq!(listed, json!({ "topics": [{ "topic": "b" }] }));
    // A pattern finds what the caller may read, and says nothing of the rest.
    let answer = get(
        &sidecar,
        "/records?topics_pattern=.*&from=earliest",
        &[("authorization", "Bearer for-b")],
    )
    .await;
    assert_eq!(answer.json()["pagination"]["nextCursor"], "b@0#-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_says_which_topics() {
    let mock = mock(&[("orders.eu", 1), ("my-orders.eu", 1)]);
    let mut read = entry(&[]);
    read.topics = ReadTopics::Pattern(topics_pattern("orders\\..*").unwrap());
    let sidecar = reading(&mock, read).await;
    assert_eq!(get(&sidecar, "/topics/orders.eu/records", &[]).await.status, 200);
    assert_eq!(
        get(&sidecar, "/topics/my-orders.eu/records", &[]).await.status,
        403
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_not_read_is_not() {
    let mock = mock(&[("t", 1)]);
    let mut config = config(&mock, vec![entry(&["t"])]);
    support::cluster(&mut config).consumes = false;
    let sidecar = Sidecar::start(config).await;
    let answer = get(&sidecar, "/topics/t/records", &[]).await;
    assert_eq!(answer.status, 403);
    assert!(
        answer.json()["error"]
            .as_str()
            .unwrap()
            .contains("consumer.enabled")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listeners_tokens_are_for_writing_only() {
    let mock = mock(&[("t", 1)]);
    let mut config = config(&mock, vec![entry(&["t"])]);
    config.listeners.data.tokens = vec![Secret::new("writer")];
    let sidecar = Sidecar::start(config).await;
    assert_eq!(get(&sidecar, "/topics/t/records", &[]).await.status, 200);
    let refused = crate::http::post(&sidecar.url("/topics/t/records"), &[], "x").await;
    assert_eq!(refused.status, 401);
    let written = crate::http::post(
        &sidecar.url("/topics/t/records"),
        &[("authorization", "Bearer writer")],
        "x",
    )
    .await;
    assert_eq!(written.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_request_is_said() {
    let mock = mock(&[("t", 2)]);
    let sidecar = reading(&mock, entry(&["t"])).await;
    let posted = crate::http::post(&sidecar.url("/topics/t/stream"), &[], "x").await;
    assert_eq!(
        (posted.status.as_u16(), &posted.json()["code"]),
        (405, &json!("method_not_allowed"))
    );
    for (path, status, what) in [
        ("/topics/t/records?limit=0", 400, "limit 0"),
        ("/topics/t/records?limit=10001", 400, "10000"),
        ("/topics/t/records?max_wait=6m", 400, "max_wait"),
        ("/topics/t/records?max_bytes=99999999", 400, "max_bytes"),
        ("/topics/t/records?from=then", 400, "from"),
        ("/topics/t/records?cursor=t", 400, "cursor"),
        ("/topics/t/records?cursor=u@0%231", 400, "names topic u"),
        ("/topics/t/records?cursor=t@2%231", 404, "0 to 1"),
        ("/topics/t/records?partition=2", 404, "0 to 1"),
        ("/topics/t/records?partition=-1", 400, "negative"),
        ("/topics/t/records?topics=t", 400, "path"),
        ("/topics/t/records?what=1", 400, "what"),
        ("/topics/t/records?cluster_name=other", 400, "other"),
        ("/topics/t/records?heartbeatIntervalInMs=5000", 400, "streams"),
        ("/topics/t/records?frames=binary", 400, "WebSockets"),
        ("/topics/t/stream?max_in_flight=5", 400, "WebSockets"),
        ("/topics/t/stream?paused=true", 400, "WebSockets"),
        ("/topics/t/ws", 426, "WebSockets"),
        ("/ws?topics=t", 426, "WebSockets"),
        ("/topics/t/stream?heartbeatIntervalInMs=1999", 400, "2000"),
        ("/topics/t/stream?limit=5", 400, "no end"),
        ("/topics/t%20u/records", 400, "topic"),
        ("/records", 400, "topics"),
        ("/records?topics=t&topics_pattern=t", 400, "both"),
        ("/records?topics_pattern=(?!x)t", 400, "lookahead"),
        ("/topics/t/partitions/0/records/x", 400, "path"),
        ("/topics/t/partitions/7/records/0", 404, "0 to 1"),
        ("/topics/t/partitions/0/records/0", 404, "no record"),
    ] {
        let answer = get(&sidecar, path, &[]).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(what), "{path}: {error}");
    }
}
