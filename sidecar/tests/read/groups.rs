//! Readers whose position is a group's.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice::config::{ChosenFrom, Qos, Read, ReadGroups, Reset, Said, TopicAllowlist};

use crate::support::{self, Mock, Sidecar, mock, slow};
use crate::world::{Events, config, entry, get, page, reading, values, write};

pub(crate) fn shared(topics: &[&str], qos: Qos) -> Read {
    Read {
        auto_offset_reset: Reset::Earliest,
        groups: ReadGroups {
            allowed: TopicAllowlist(vec!["app-*".to_owned()]),
            said: Some(Said::Any(ChosenFrom::Header("x-client".parse().unwrap()))),
            prefix: "app-".to_owned(),
            qos,
            ..ReadGroups::default()
        },
        ..entry(topics)
    }
}

/// What a group has committed of a topic's first partition, and its lag.
pub(crate) async fn position(sidecar: &Sidecar, topic: &str, group: &str) -> (Value, Value) {
    let page = page(sidecar, &format!("/topics/{topic}?group={group}")).await;
    let first = &page["partitions"][0];
    (first["committed"].clone(), first["lag"].clone())
}

pub(crate) async fn committed(sidecar: &Sidecar, topic: &str, group: &str, at: i64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let (found, _) = position(sidecar, topic, group).await;
        if found == json!(at) {
            return;
        }
        assert!(Instant::now() < deadline, "{found} is committed, and not {at}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn metric(sidecar: &Sidecar, name: &str) -> f64 {
    sidecar.metric(name).await.unwrap_or_default()
}

fn cursor(page: &Value) -> String {
    page["pagination"]["nextCursor"]
        .as_str()
        .unwrap_or_default()
        .replace('#', "%23")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_acknowledges_is_committed_and_nothing_else_is() {
    let mock = mock(&[("t", 1)]);
    write(&mock, "t", 0, &["a", "b", "c", "d"]).await;
    let sidecar = reading(&mock, shared(&["t"], Qos::AtLeastOnce)).await;
    assert_eq!(position(&sidecar, "t", "app-1").await, (Value::Null, Value::Null));
    let path = "/topics/t/records?group=app-1&limit=2";
    let first = page(&sidecar, path).await;
    assert_eq!(values(&first), ["a", "b"]);
    // Nothing was acknowledged: the cursor of before the first record is none.
    assert_eq!(position(&sidecar, "t", "app-1").await.0, Value::Null);
    let second = page(&sidecar, &format!("{path}&cursor={}", cursor(&first))).await;
    assert_eq!(values(&second), ["c", "d"]);
    assert_eq!(position(&sidecar, "t", "app-1").await, (json!(2), json!(2)));
    // The answer was lost: the same comes again.
    let again = page(&sidecar, &format!("{path}&cursor={}", cursor(&first))).await;
    assert_eq!(values(&again), ["c", "d"]);
    let last = page(&sidecar, &format!("{path}&cursor={}", cursor(&second))).await;
    assert!(values(&last).is_empty());
    assert_eq!(position(&sidecar, "t", "app-1").await, (json!(4), json!(0)));
    assert!(metric(&sidecar, "sluice_read_members").await.abs() < 0.5);
    assert!(metric(&sidecar, "sluice_read_commits_total").await >= 2.0);
    // What was not read cannot be acknowledged, and a position never goes back.
    let answer = get(&sidecar, &format!("{path}&cursor=t@0%239"), &[]).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["code"]),
        (409, &json!("offset_out_of_range"))
    );
    page(&sidecar, &format!("{path}&cursor=t@0%230")).await;
    committed(&sidecar, "t", "app-1", 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sidecar_goes_on_where_the_group_is() {
    let mock = mock(&[("t", 2)]);
    write(&mock, "t", 0, &["a", "b", "c"]).await;
    let one = reading(&mock, shared(&["t"], Qos::Auto)).await;
    let path = "/topics/t/records?group=app-1&limit=2";
    assert_eq!(values(&page(&one, path).await), ["a", "b"]);
    committed(&one, "t", "app-1", 2).await;
    assert_eq!(values(&page(&one, path).await), ["c"]);
    committed(&one, "t", "app-1", 3).await;
    write(&mock, "t", 0, &["d"]).await;
    let other = reading(&mock, shared(&["t"], Qos::Auto)).await;
    assert_eq!(values(&page(&other, path).await), ["d"]);
    // Another group has another position; and one that keeps none has none.
    assert_eq!(
        values(&page(&one, "/topics/t/records?group=app-2&qos=none").await).len(),
        4
    );
    assert_eq!(
        values(&page(&one, "/topics/t/records?group=app-2&qos=none").await).len(),
        4
    );
    assert_eq!(position(&one, "t", "app-2").await.0, Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_once_is_committed_before_it_is_sent() {
    let mock = mock(&[("t", 1)]);
    write(&mock, "t", 0, &["a", "b", "c"]).await;
    let sidecar = reading(&mock, shared(&["t"], Qos::AtMostOnce)).await;
    let path = "/topics/t/records?group=app-1&limit=2&max_wait=60s";
    assert_eq!(values(&page(&sidecar, path).await), ["a", "b"]);
    assert_eq!(position(&sidecar, "t", "app-1").await, (json!(2), json!(1)));
    // Not even a cursor has them come again.
    assert_eq!(
        values(&page(&sidecar, &format!("{path}&cursor=t@0%230")).await),
        ["c"]
    );
    assert!((metric(&sidecar, "sluice_read_members").await - 1.0).abs() < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_named_made_and_refused() {
    let mock = mock(&[("t", 1), ("none", 1)]);
    write(&mock, "t", 0, &["a", "b"]).await;
    let without = entry(&["none"]);
    let sidecar = Sidecar::start(config(&mock, vec![shared(&["t"], Qos::AtLeastOnce), without])).await;
    for (path, status, code) in [
        ("/topics/t/records?group=other", 403, "group_not_allowed"),
        ("/topics/t/stream?group=other", 403, "group_not_allowed"),
        ("/topics/t?group=other", 403, "group_not_allowed"),
        ("/topics/none/records?group=app-1", 403, "group_not_allowed"),
        ("/topics/t/records?group=", 400, "invalid_request"),
        (
            "/topics/t/records?group=app-1&qos=exactly-once",
            400,
            "invalid_request",
        ),
        ("/topics/t/records?qos=at-best", 400, "invalid_request"),
        (
            "/topics/t/records?group=app-1&partition=0",
            400,
            "invalid_request",
        ),
        ("/topics?group=app-1", 400, "invalid_request"),
    ] {
        let answer = get(&sidecar, path, &[]).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["code"]),
            (status, &json!(code)),
            "{path}: {answer:?}"
        );
    }
    assert!(metric(&sidecar, "sluice_read_groups_refused_total").await >= 3.0);
    // Made of the header, and of the prefix.
    let header = [("x-client", "7")];
    let first = get(&sidecar, "/topics/t/records?limit=1", &header).await.json();
    let next = format!("/topics/t/records?limit=1&cursor={}", cursor(&first));
    assert_eq!(values(&get(&sidecar, &next, &header).await.json()), ["b"]);
    committed(&sidecar, "t", "app-7", 1).await;
    // Without it there is no group.
    assert_eq!(
        values(&page(&sidecar, "/topics/t/records?from=earliest").await).len(),
        2
    );
}

/// The values of a stream's records, and its partitions, until there have been `count`.
async fn take(events: &mut Events, seen: &mut Vec<String>, count: usize) {
    while seen.len() < count {
        let event = events.next().await.expect("the stream ended");
        if event.event == "message" {
            seen.push(
                event.json()["value"]
                    .as_str()
                    .map_or_else(|| event.json()["value"].to_string(), str::to_owned),
            );
        }
    }
}

pub(crate) async fn fill(mock: &Mock, from: usize, to: usize) {
    for partition in 0..2 {
        let values: Vec<String> = (from..to).map(|n| format!("p{partition}-{n}")).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        write(mock, "t", partition, &values).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_a_group_share_its_partitions() {
    let mock = mock(&[("t", 2)]);
    fill(&mock, 0, 5).await;
    let sidecar = reading(&mock, shared(&["t"], Qos::AtBest)).await;
    let mut one = Events::open(&sidecar, "/topics/t/stream?group=app-1", &[]).await;
    let assigned = one.event("assigned").await.json();
    assert_eq!(assigned["partitions"].as_array().unwrap().len(), 2, "{assigned}");
    assert_eq!(
        assigned["partitions"][0],
        json!({"topic": "t", "partition": 0, "position": 0})
    );
    let mut seen = Vec::new();
    take(&mut one, &mut seen, 10).await;
    one.event("caught-up").await;
    slow(&mock, Duration::from_millis(500));
    let mut other = Events::open(&sidecar, "/topics/t/stream?group=app-1", &[]).await;
    let revoked = one.event("revoked").await.json();
    assert_eq!(revoked["partitions"].as_array().unwrap().len(), 1, "{revoked}");
    let assigned = other.event("assigned").await.json();
    slow(&mock, Duration::ZERO);
    assert_eq!(
        assigned["partitions"][0]["partition"],
        revoked["partitions"][0]["partition"]
    );
    // Nothing comes again: what was sent was committed when the partition moved.
    assert_eq!(assigned["partitions"][0]["position"], 5, "{assigned}");
    fill(&mock, 5, 8).await;
    let (mut ones, mut others) = (Vec::new(), Vec::new());
    take(&mut one, &mut ones, 3).await;
    take(&mut other, &mut others, 3).await;
    let all: BTreeSet<&String> = seen.iter().chain(&ones).chain(&others).collect();
    assert_eq!(all.len(), 16, "{seen:?} {ones:?} {others:?}");
    assert!((metric(&sidecar, "sluice_read_members").await - 2.0).abs() < 0.5);
    // Who comes back in time has its seat again, and nobody else's records move.
    drop(other);
    let mut back = Events::open(&sidecar, "/topics/t/stream?group=app-1", &[]).await;
    let assigned = back.event("assigned").await.json();
    assert_eq!(
        assigned["partitions"][0]["partition"],
        revoked["partitions"][0]["partition"]
    );
    assert!((metric(&sidecar, "sluice_read_members").await - 2.0).abs() < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_bounded() {
    let mock = mock(&[("t", 2)]);
    let mut all = config(&mock, vec![shared(&["t"], Qos::Auto)]);
    all.max_members = 1;
    let sidecar = Sidecar::start(all).await;
    let _one = Events::open(&sidecar, "/topics/t/stream?group=app-1", &[]).await;
    let answer = get(&sidecar, "/topics/t/stream?group=app-1", &[]).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["code"]),
        (503, &json!("overloaded"))
    );
    assert!(answer.json()["error"].as_str().unwrap().contains("max_members"));
}

/// Two polls at once are two readers: both become members, and share.
/// What a poll has; nothing if it is to come back, since the group has got another reader meanwhile.
async fn polled(sidecar: &Sidecar, path: &str) -> Vec<String> {
    let answer = get(sidecar, path, &[]).await;
    if answer.status == 503 {
        assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
        return Vec::new();
    }
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    values(&answer.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_at_once_share_as_members() {
    let mock = mock(&[("t", 2)]);
    let sidecar = reading(&mock, shared(&["t"], Qos::AtBest)).await;
    let path = "/topics/t/records?group=app-1&max_wait=2s";
    let (one, other) = tokio::join!(polled(&sidecar, path), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        polled(&sidecar, path).await
    });
    assert!(one.is_empty() && other.is_empty());
    fill(&mock, 0, 10).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut seen = Vec::new();
    while seen.len() < 20 {
        let (one, other) = tokio::join!(polled(&sidecar, path), polled(&sidecar, path));
        seen.extend(one);
        seen.extend(other);
        assert!(Instant::now() < deadline, "{seen:?}");
    }
    let all: BTreeSet<&String> = seen.iter().collect();
    assert_eq!((seen.len(), all.len()), (20, 20), "{seen:?}");
    assert!((metric(&sidecar, "sluice_read_members").await - 2.0).abs() < 0.5);
}

/// Its id says what a client has seen, and coming back with it that it need not come again.
#[tokio::test(flavor = "multi_thread")]
async fn coming_back_to_a_stream_acknowledges() {
    let mock = mock(&[("t", 1)]);
    write(&mock, "t", 0, &["a", "b", "c", "d"]).await;
    let sidecar = reading(&mock, shared(&["t"], Qos::AtLeastOnce)).await;
    let path = "/topics/t/stream?group=app-1";
    let mut stream = Events::open(&sidecar, path, &[]).await;
    stream.event("assigned").await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(stream.event("message").await.id);
    }
    drop(stream);
    assert_eq!(position(&sidecar, "t", "app-1").await.0, Value::Null);
    let mut stream = Events::open(&sidecar, path, &[("last-event-id", &ids[1])]).await;
    let assigned = stream.event("assigned").await.json();
    assert_eq!(assigned["partitions"][0]["position"], 2, "{assigned}");
    assert_eq!(stream.values(2).await, ["c", "d"]);
    committed(&sidecar, "t", "app-1", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clusters_rule_holds_whatever_an_entry_allows() {
    let mock = mock(&[("t", 1)]);
    let mut entry = entry(&["t"]);
    entry.groups.allowed = TopicAllowlist(vec!["*".to_owned()]);
    let mut config = config(&mock, vec![entry]);
    let rule = ["ORG_ID.*", "deploy-bot"].map(str::to_owned);
    support::cluster(&mut config).groups = Some(TopicAllowlist(rule.to_vec()));
    let sidecar = Sidecar::start(config).await;
    for (group, expected) in [
        ("ORG_ID.app", 200),
        ("deploy-bot", 200),
        ("deploy-bot.a", 403),
        ("app", 403),
    ] {
        for path in ["/topics/t", "/topics/t/records"] {
            let answer = get(&sidecar, &format!("{path}?group={group}"), &[]).await;
            assert_eq!(answer.status, expected, "{path} {group}");
            if expected == 403 {
                let body = answer.json();
                assert_eq!(body["code"], "group_not_allowed");
                let why = format!(
                    "group {group:?} is none of those that clusters.main.consumer.groups allows: ORG_ID.*, deploy-bot"
                );
                assert_eq!(body["error"], why);
            }
        }
    }
    assert_eq!(
        sidecar.metric("sluice_read_groups_refused_total").await,
        Some(4.0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_a_named_token_may_use_the_group_of_its_name() {
    let mock = mock(&[("t", 1)]);
    let reads = "reads: [{topics: [t], tokens: [{env: BILLING, name: billing}, {env: OTHER}], groups: ['{name}', 'x-{name}.*'], \
                 max_wait: 0}]";
    let yaml = format!("clusters: {{main: {{bootstrap_servers: a, allowed_topics: [t]}}}}\n{reads}");
    let env = [("BILLING", "b-token"), ("OTHER", "o-token")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let loaded = sluice::config::load(&yaml, env.into_iter()).unwrap();
    let sidecar = Sidecar::start(config(&mock, loaded.config.reads)).await;
    for (token, group, expected) in [
        ("b-token", "billing", 200),
        ("b-token", "x-billing.a", 200),
        ("b-token", "other", 403),
        ("b-token", "billing2", 403),
        ("o-token", "billing", 403),
        ("o-token", "", 200),
        ("c-token", "billing", 401),
    ] {
        let path = match group {
            "" => "/topics/t".to_owned(),
            group => format!("/topics/t?group={group}"),
        };
        let bearer = format!("Bearer {token}");
        let answer = get(&sidecar, &path, &[("authorization", &bearer)]).await;
        assert_eq!(answer.status, expected, "{token} {group}");
    }
}
