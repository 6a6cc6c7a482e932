//! WebSockets of readers whose position is a group's.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use sluice::config::Qos;

use crate::groups::{committed, fill, position, shared};
use crate::support::{mock, slow, until};
use crate::world::{reading, write};
use crate::ws_world::{Socket, refused};

/// The partitions that a message is about, and where they start.
fn partitions(message: &Value) -> Vec<(i64, i64)> {
    let all = message["partitions"].as_array().unwrap().iter();
    all.map(|one| {
        (
            one["partition"].as_i64().unwrap(),
            one["position"].as_i64().unwrap_or(-1),
        )
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_socket_acknowledges_is_committed_and_nothing_else_is() {
    let mock = mock(&[("t", 1)]);
    write(&mock, "t", 0, &["a", "b", "c", "d", "e"]).await;
    let sidecar = reading(&mock, shared(&["t"], Qos::AtLeastOnce)).await;
    let path = "/topics/t/ws?group=app-1&heartbeatIntervalInMs=300000";
    let mut socket = Socket::open(&sidecar, path, &[]).await;
    assert_eq!(partitions(&socket.of("assigned").await), [(0, 0)]);
    assert_eq!(socket.values(5).await, ["a", "b", "c", "d", "e"]);
    socket.of("caught-up").await;
    assert_eq!(position(&sidecar, "t", "app-1").await.0, Value::Null);
    socket.say(r#"{"type":"ack","cursor":"t@0#1"}"#).await;
    committed(&sidecar, "t", "app-1", 2).await;
    // One that is wrong is told, and takes nothing from those beside it.
    socket.say(r#"{"type":"ack","cursor":"t@0#2"}"#).await;
    socket.say(r#"{"type":"ack","cursor":"t@0#9","id":"bad"}"#).await;
    let error = socket.of("error").await;
    assert_eq!(
        (&error["id"], &error["status"], &error["code"]),
        (&json!("bad"), &json!(409), &json!("offset_out_of_range")),
        "{error}"
    );
    committed(&sidecar, "t", "app-1", 3).await;
    // A position never goes back; and who acknowledges and closes has acknowledged.
    socket.say(r#"{"type":"ack","cursor":"t@0#0"}"#).await;
    socket.say(r#"{"type":"ack","cursor":"t@0#3"}"#).await;
    socket.inner.close(None).await.unwrap();
    committed(&sidecar, "t", "app-1", 4).await;
    until("it is closed", async || {
        sidecar.metric("sluice_read_websockets ").await == Some(0.0)
    })
    .await;
    let mut socket = Socket::open(&sidecar, &format!("{path}&cursor=t@0%233"), &[]).await;
    assert_eq!(partitions(&socket.of("assigned").await), [(0, 4)]);
    assert_eq!(socket.values(1).await, ["e"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_quality_is_what_it_is_for_streams() {
    let mock = mock(&[("t", 1)]);
    write(&mock, "t", 0, &["a", "b", "c"]).await;
    let sidecar = reading(&mock, shared(&["t"], Qos::Auto)).await;
    // Committed before it is sent, as much as may be sent.
    let path = "/topics/t/ws?group=app-1&qos=at-most-once&max_in_flight=2";
    let mut socket = Socket::open(&sidecar, path, &[]).await;
    socket.of("assigned").await;
    assert_eq!(socket.values(2).await, ["a", "b"]);
    assert_eq!(position(&sidecar, "t", "app-1").await.0, json!(2));
    socket.say(r#"{"type":"ack","cursor":"t@0#1"}"#).await;
    assert_eq!(socket.values(1).await, ["c"]);
    drop(socket);
    // Committed once it was sent.
    for (group, qos) in [("app-2", "auto"), ("app-3", "at-best"), ("app-4", "balanced")] {
        let path = format!("/topics/t/ws?group={group}&qos={qos}");
        let mut socket = Socket::open(&sidecar, &path, &[]).await;
        socket.of("assigned").await;
        socket.values(3).await;
        committed(&sidecar, "t", group, 3).await;
        socket.until("caught-up").await;
        socket.say(r#"{"type":"ack","cursor":"t@0#1"}"#).await;
        let why = socket.of("error").await["error"].to_string();
        assert!(why.contains("at-least-once"), "{why}");
    }
    // Never.
    let path = "/topics/t/ws?group=app-5&qos=none&from=t@0%231";
    let mut socket = Socket::open(&sidecar, path, &[]).await;
    assert_eq!(partitions(&socket.of("assigned").await), [(0, 1)]);
    assert_eq!(socket.values(2).await, ["b", "c"]);
    assert_eq!(position(&sidecar, "t", "app-5").await.0, Value::Null);
    for (path, code) in [
        ("/topics/t/ws?group=other", "group_not_allowed"),
        ("/topics/t/ws?group=app-1&partition=0", "invalid_request"),
        ("/topics/t/ws?qos=at-best", "invalid_request"),
    ] {
        assert_eq!(refused(&sidecar, path, &[]).await.1["code"], code, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_of_a_group_share_its_partitions() {
    let mock = mock(&[("t", 2)]);
    fill(&mock, 0, 5).await;
    let sidecar = reading(&mock, shared(&["t"], Qos::AtBest)).await;
    let path = "/topics/t/ws?group=app-1&heartbeatIntervalInMs=300000";
    let mut one = Socket::open(&sidecar, path, &[]).await;
    assert_eq!(partitions(&one.of("assigned").await), [(0, 0), (1, 0)]);
    let mut seen = one.values(10).await;
    one.of("caught-up").await;
    // Who is paused hands over as well.
    one.say(r#"{"type":"pause"}"#).await;
    one.of("ok").await;
    slow(&mock, Duration::from_millis(500));
    let mut other = Socket::open(&sidecar, path, &[]).await;
    let revoked = partitions(&one.of("revoked").await);
    let assigned = partitions(&other.of("assigned").await);
    slow(&mock, Duration::ZERO);
    assert_eq!((revoked.len(), assigned[0]), (1, (revoked[0].0, 5)));
    one.say(r#"{"type":"resume"}"#).await;
    one.of("ok").await;
    other.of("caught-up").await;
    fill(&mock, 5, 8).await;
    seen.extend(one.values(3).await);
    seen.extend(other.values(3).await);
    assert_eq!(BTreeSet::from_iter(&seen).len(), 16, "{seen:?}");
    // What it has can be had again, and the rest of the topic cannot.
    let (has, gone) = (1 - revoked[0].0, revoked[0].0);
    one.say(json!({"type": "seek", "cursor": format!("t@{gone}#1")}).to_string())
        .await;
    let why = one.of("error").await["error"].to_string();
    assert!(why.contains("has not given"), "{why}");
    one.say(json!({"type": "seek", "cursor": format!("t@{has}#5")}).to_string())
        .await;
    assert_eq!(one.of("ok").await["cursor"], format!("t@{has}#5"));
    assert_eq!(one.values(2).await, [format!("p{has}-6"), format!("p{has}-7")]);
    one.of("caught-up").await;
    one.say(r#"{"type":"seek","from":"-1"}"#).await;
    one.of("ok").await;
    assert_eq!(one.values(1).await, [format!("p{has}-7")]);
}
