//! WebSockets.

use std::time::Duration;

use futures_util::SinkExt;
use serde_json::json;
use sluice::config::{Idempotency, Reset, Secret};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::support::{self, Sidecar, mock, read, set, text, until};
use crate::world::{config, entry, reading, write};
use crate::ws_world::{Socket, refused};

fn publishing(topics: &[&str]) -> sluice::config::Read {
    let mut read = entry(topics);
    read.publish = true;
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_catches_up_and_goes_on() {
    let mock = mock(&[("t", 2), ("u", 1)]);
    write(&mock, "t", 0, &["{\"a\":1}", "b"]).await;
    write(&mock, "t", 1, &["c"]).await;
    let sidecar = reading(&mock, entry(&["t", "u"])).await;
    let mut socket = Socket::open(&sidecar, "/topics/t/ws?from=earliest", &[]).await;
    assert_eq!(socket.protocol, None);
    let mut history = Vec::new();
    for _ in 0..3 {
        history.push(socket.of("message").await);
    }
    history.sort_by_key(|message| message["id"].to_string());
    assert_eq!(history[0]["value"], json!({"a": 1}));
    assert_eq!(
        (&history[0]["id"], &history[0]["key"], &history[0]["headers"]),
        (
            &json!("t@0#0"),
            &json!("k"),
            &json!([{"name": "h", "value": "1", "format": "string"}])
        )
    );
    assert_eq!(socket.of("caught-up").await["cursor"], "t@0#1,1#0");
    write(&mock, "t", 1, &["d"]).await;
    let message = socket.of("message").await;
    assert_eq!(
        (&message["cursor"], &message["id"], &message["value"]),
        (&json!("t@0#1,1#1"), &json!("t@1#1"), &json!("d"))
    );
    assert_eq!(sidecar.metric("sluice_read_websockets").await, Some(1.0));
    assert_eq!(
        sidecar.metric("sluice_connections{listener=\"data\"").await,
        Some(1.0),
        "it counts as a connection"
    );
    socket.inner.close(None).await.unwrap();
    assert!(matches!(socket.frame().await, Some(Ok(Message::Close(_))) | None));
    until("it is closed", async || {
        sidecar.metric("sluice_read_websockets ").await == Some(0.0)
            && sidecar.metric("sluice_connections{listener=\"data\"").await == Some(0.0)
    })
    .await;
    // Several topics, from a cursor.
    write(&mock, "u", 0, &["e"]).await;
    let path = "/ws?topics=t,u&from=earliest&cursor=t@0%231,1%230";
    let mut socket = Socket::open(&sidecar, path, &[]).await;
    let mut values = socket.values(2).await;
    values.sort();
    assert_eq!(values, ["d", "e"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_answered_and_written() {
    let mock = mock(&[("t", 3), ("other", 1), ("closed", 1)]);
    let mut config = config(&mock, vec![publishing(&["t", "oth*"]), entry(&["closed"])]);
    let directory = tempfile::tempdir().unwrap();
    config.idempotency = Some(Idempotency {
        directory: directory.path().to_owned(),
        window: Duration::from_secs(60),
        max_keys: 1000,
    });
    support::cluster(&mut config).allowed_topics.0 = vec!["t".to_owned(), "closed".to_owned()];
    let sidecar = Sidecar::start(config).await;
    let mut socket = Socket::open(&sidecar, "/topics/t/ws?paused=true", &[]).await;
    socket
        .say(
            r#"{"type":"publish","id":"a","key":{"base64":"AP8="},"value":"one","partition":2,"timestamp":1700000000000,
                "headers":[{"name":"h","value":"1"},{"name":"h","value":null}]}"#,
        )
        .await;
    assert_eq!(
        socket.of("published").await,
        json!({"type": "published", "id": "a", "topic": "t", "status": 200, "partition": 2, "offset": 0})
    );
    for (say, answer) in [
        (
            json!({"type": "publish", "id": 1, "json": {"x": 1}, "partition": 2}),
            json!({"type": "published", "id": 1, "topic": "t", "status": 200, "partition": 2, "offset": 1}),
        ),
        (
            json!({"type": "publish", "id": 2, "value": null, "partition": 2, "idempotency_key": "once"}),
            json!({"type": "published", "id": 2, "topic": "t", "status": 200, "partition": 2, "offset": 2}),
        ),
        (
            json!({"type": "publish", "id": 3, "value": null, "partition": 2, "idempotency_key": "once"}),
            json!({"type": "published", "id": 3, "topic": "t", "status": 200, "partition": 2, "offset": 2, "replayed": true}),
        ),
    ] {
        socket.say(say.to_string()).await;
        assert_eq!(socket.of("published").await, answer);
    }
    let buffered = json!({"type": "publish", "value": "two", "delivery": "buffered", "partition": 0});
    socket.say(buffered.to_string()).await;
    assert_eq!(
        socket.of("published").await,
        json!({"type": "published", "topic": "t", "status": 202})
    );
    for (say, status, code) in [
        (json!({"value": "x", "topic": "closed"}), 403, "topic_not_allowed"),
        (json!({"value": "x", "topic": "other"}), 403, "topic_not_allowed"),
        (json!({"value": "x", "topic": "a b"}), 400, "invalid_request"),
        (json!({"value": "x", "partition": 7}), 404, "unknown_topic"),
        (
            json!({"value": "x", "producer": "none"}),
            500,
            "route_misconfigured",
        ),
        (
            json!({"value": "y", "idempotency_key": "once"}),
            422,
            "idempotency_key_reused",
        ),
        (
            json!({"value": "x", "delivery": "spooled"}),
            500,
            "route_misconfigured",
        ),
        (json!({"valu": "x"}), 400, "invalid_request"),
    ] {
        let mut message = say.clone();
        message["type"] = "publish".into();
        message["id"] = "bad".into();
        socket.say(message.to_string()).await;
        let error = socket.of("error").await;
        assert_eq!(
            (&error["id"], &error["status"], &error["code"]),
            (&json!("bad"), &json!(status), &json!(code)),
            "{say}: {error}"
        );
        assert!(
            error["error"].as_str().is_some_and(|why| !why.is_empty()),
            "{error}"
        );
    }
    let records = read(&mock, "t", 2, 3).await;
    let first = &records[0];
    assert_eq!(
        (rdkafka::Message::key(first), text(first).as_str()),
        (Some(&[0, 255][..]), "one")
    );
    assert_eq!(
        rdkafka::Message::timestamp(first).to_millis(),
        Some(1_700_000_000_000)
    );
    let headers = rdkafka::Message::headers(first).unwrap();
    let headers: Vec<_> = rdkafka::message::Headers::iter(headers)
        .map(|header| (header.key, header.value))
        .collect();
    assert!(
        headers.contains(&("h", Some(&b"1"[..]))) && headers.contains(&("h", None)),
        "{headers:?}"
    );
    assert_eq!(text(&records[1]), "{\"x\":1}");
    assert_eq!(rdkafka::Message::payload(&records[2]), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_made_by_the_template_of_its_topic() {
    let mock = mock(&[("t", 1), ("eu", 1)]);
    let yaml = "clusters: {main: {bootstrap_servers: a, allowed_topics: ['*']}}\n\
                templates: {named: {made: {payload: {n: '{{ .inputs.n }}', by: '{{ .trigger.by.user.id }}', protocol: \
                '{{ .request.headers[\"sec-websocket-protocol\"] }}'}, template: {topic: '{{ .inputs.topic }}'}, \
                allowed_topics: [eu], trigger: {trust_request: true, by: {user.id: {header: x-user}}}}}}\n\
                writes: [{topics: [t], template: made}]";
    let loaded = sluice::config::load(yaml, std::iter::empty()).unwrap();
    let mut config = config(&mock, vec![publishing(&["t"])]);
    config.templates = loaded.config.templates;
    // Unoptimised and on a busy machine.
    config.templates.timeout = support::PATIENCE;
    let sidecar = Sidecar::start(config).await;
    let mut socket = Socket::open(&sidecar, "/topics/t/ws?paused=true", &[("x-user", "ada")]).await;
    for (say, answer) in [
        (
            json!({"type": "publish", "id": 1, "json": {"n": 7}}),
            json!({"type": "published", "id": 1, "topic": "t", "status": 200, "partition": 0, "offset": 0}),
        ),
        (
            json!({"type": "publish", "id": 2, "json": {"n": 8, "topic": "eu"}}),
            json!({"type": "published", "id": 2, "topic": "eu", "status": 200, "partition": 0, "offset": 0}),
        ),
    ] {
        socket.say(say.to_string()).await;
        assert_eq!(socket.of("published").await, answer);
    }
    for (say, status, words) in [
        (json!({"value": null}), 400, "a tombstone cannot be written"),
        (json!({"json": {"topic": "us"}}), 403, "it may choose t, eu"),
        (json!({"value": "{"}), 400, "the body is not JSON"),
    ] {
        let mut say = say;
        say["type"] = json!("publish");
        socket.say(say.to_string()).await;
        let told = socket.of("error").await;
        assert_eq!(told["status"], status, "{told}");
        assert!(told["error"].as_str().unwrap().contains(words), "{told}");
    }
    let records = read(&mock, "t", 0, 1).await;
    assert_eq!(text(&records[0]), r#"{"n":7,"by":"ada","protocol":null}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_writes_without_publish() {
    let mock = mock(&[("t", 1)]);
    let sidecar = reading(&mock, entry(&["t"])).await;
    let mut socket = Socket::open(&sidecar, "/topics/t/ws", &[]).await;
    socket.until("caught-up").await;
    socket.say(r#"{"type":"publish","id":1,"value":"x"}"#).await;
    let error = socket.of("error").await;
    assert_eq!(
        (&error["code"], &error["id"]),
        (&json!("topic_not_allowed"), &json!(1))
    );
    assert!(error["error"].as_str().unwrap().contains("publish: true"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_comes_as_a_protocol() {
    let mock = mock(&[("t", 1)]);
    let mut read = publishing(&["t"]);
    read.anonymous = false;
    read.tokens = vec![Secret::new("let/me=in")];
    let mut config = config(&mock, vec![read]);
    config.listeners.data.tokens = vec![Secret::new("writer")];
    let sidecar = Sidecar::start(config).await;
    assert_eq!(refused(&sidecar, "/topics/t/ws", &[]).await.0, 401);
    for (offered, status) in [
        ("sluice.v1, bearer.wrong", 401),
        ("bearer.let", 400),
        ("sluice.v1, bearer.a, bearer.b", 400),
    ] {
        let (found, body) = refused(&sidecar, "/topics/t/ws", &[("sec-websocket-protocol", offered)]).await;
        assert_eq!(found, status, "{offered}: {body}");
    }
    for headers in [
        &[(
            "sec-websocket-protocol",
            "base64url.bearer.bGV0L21lPWlu, sluice.v1",
        )][..],
        &[("authorization", "Bearer let/me=in")],
    ] {
        let mut socket = Socket::open(&sidecar, "/topics/t/ws", headers).await;
        let expected = headers[0].0.starts_with("sec").then(|| "sluice.v1".to_owned());
        assert_eq!(socket.protocol, expected, "never the token");
        // The entry's token is the one to write with here.
        socket.say(r#"{"type":"publish","value":"x"}"#).await;
        assert_eq!(socket.until("published").await["status"], 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_are_refused() {
    let mock = mock(&[("t", 1), ("open", 1)]);
    let mut open = entry(&["open"]);
    open.allowed_origins = vec!["https://app.example".to_owned()];
    let sidecar = Sidecar::start(config(&mock, vec![entry(&["t"]), open])).await;
    let (status, body) = refused(&sidecar, "/topics/t/ws", &[("origin", "https://app.example")]).await;
    assert_eq!((status, &body["code"]), (403, &json!("origin_not_allowed")));
    let (status, _) = refused(
        &sidecar,
        "/ws?topics=open,t",
        &[("origin", "https://app.example")],
    )
    .await;
    assert_eq!(status, 403, "each topic's entry is asked");
    let own = sidecar.url("");
    for (path, origin) in [
        ("/topics/open/ws", "https://app.example"),
        ("/topics/t/ws", own.as_str()),
    ] {
        let mut socket = Socket::open(&sidecar, path, &[("origin", origin)]).await;
        socket.of("caught-up").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_says_how_fast() {
    let mock = mock(&[("t", 1)]);
    let values: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    write(
        &mock,
        "t",
        0,
        &values.iter().map(String::as_str).collect::<Vec<_>>(),
    )
    .await;
    let sidecar = reading(&mock, entry(&["t"])).await;
    let mut socket = Socket::open(&sidecar, "/topics/t/ws?from=earliest&max_in_flight=3", &[]).await;
    assert_eq!(socket.values(3).await, ["0", "1", "2"]);
    // Nothing more comes: what is asked is answered first.
    socket.say(r#"{"type":"pause","id":"p"}"#).await;
    assert_eq!(
        socket.of("ok").await,
        json!({"type": "ok", "id": "p", "command": "pause", "cursor": "t@0#2"})
    );
    socket.say(r#"{"type":"ack","cursor":"t@0#1"}"#).await;
    socket.say(r#"{"type":"resume"}"#).await;
    socket.of("ok").await;
    assert_eq!(socket.values(2).await, ["3", "4"]);
    socket.say(r#"{"type":"seek","cursor":"t@0#16"}"#).await;
    assert_eq!(socket.of("ok").await["cursor"], "t@0#16");
    assert_eq!(socket.values(3).await, ["17", "18", "19"]);
    socket.say(r#"{"type":"seek","from":"t@0#10","id":5}"#).await;
    assert_eq!(socket.until("ok").await["cursor"], "t@0#9");
    assert_eq!(socket.values(1).await, ["10"]);
    for (bad, what) in [
        (r#"{"type":"seek","cursor":"u@0#1"}"#, "topic u"),
        (r#"{"type":"seek","cursor":"t@7#1"}"#, "0 to 0"),
        (r#"{"type":"seek","from":"then"}"#, "from"),
        (r#"{"type":"jump"}"#, "publish, ack"),
    ] {
        socket.say(bad).await;
        let error = socket.until("error").await["error"].to_string();
        assert!(error.contains(what), "{bad}: {error}");
    }
    // Where the end has been seen before it is seen again.
    socket.say(r#"{"type":"seek","from":"latest"}"#).await;
    socket.until("ok").await;
    socket.until("caught-up").await;
    let mut plain = Socket::open(&sidecar, "/topics/t/ws", &[]).await;
    plain.until("caught-up").await;
    plain.say(r#"{"type":"ack","cursor":"t@0#1"}"#).await;
    let why = plain.of("error").await["error"].to_string();
    assert!(why.contains("max_in_flight"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_come_as_their_bytes() {
    let mock = mock(&[("t", 1)]);
    write(&mock, "t", 0, &["{\"a\": 1}", ""]).await;
    let sidecar = reading(&mock, entry(&["t"])).await;
    let mut socket = Socket::open(&sidecar, "/topics/t/ws?from=earliest&frames=binary", &[]).await;
    let about = socket.of("message").await;
    assert_eq!(
        (
            &about["id"],
            &about["key"],
            &about["valueFormat"],
            &about["valueBytes"]
        ),
        (&json!("t@0#0"), &json!("k"), &json!("binary"), &json!(8))
    );
    assert!(about.get("value").is_none() && about["cursor"] == "t@0#0" && about["headers"][0]["name"] == "h");
    assert_eq!(
        socket.frame().await.unwrap().unwrap(),
        Message::binary(&b"{\"a\": 1}"[..])
    );
    assert_eq!(socket.of("message").await["valueBytes"], 0);
    assert_eq!(socket.frame().await.unwrap().unwrap(), Message::binary(&b""[..]));
    socket.of("caught-up").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_understood_ends_it_with_its_code() {
    let mock = mock(&[("t", 1)]);
    let sidecar = reading(&mock, entry(&["t"])).await;
    let raw = |opcode, payload: &'static [u8]| {
        Message::Frame(Frame::message(
            Bytes::from_static(payload),
            OpCode::Data(opcode),
            true,
        ))
    };
    let reserved = FrameHeader {
        rsv1: true,
        opcode: OpCode::Data(Data::Text),
        ..FrameHeader::default()
    };
    for (message, code) in [
        (Message::text("hello"), 1007),
        (Message::text("[]"), 1007),
        (raw(Data::Text, &[0xff, 0xfe]), 1007),
        (Message::binary(&b"x"[..]), 1003),
        (Message::text("x".repeat(200_000)), 1009),
        // permessage-deflate was not agreed on.
        (
            Message::Frame(Frame::from_payload(reserved, Bytes::from_static(b"x"))),
            1002,
        ),
    ] {
        let mut socket = Socket::open(&sidecar, "/topics/t/ws", &[]).await;
        socket.of("caught-up").await;
        socket.inner.send(message).await.unwrap();
        let (found, reason) = socket.closed().await;
        assert_eq!(found, code, "{reason}");
        assert!(reason.len() <= 123);
    }
    // Compression is not offered.
    let mut socket = Socket::open(
        &sidecar,
        "/topics/t/ws",
        &[("sec-websocket-extensions", "permessage-deflate")],
    )
    .await;
    socket.of("caught-up").await;
    for code in [1007, 1003, 1009, 1002] {
        let name = format!("sluice_read_websocket_closes_total{{code=\"{code}\"}}");
        until("it is counted", async || sidecar.metric(&name).await.is_some()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_request_is_its_answer() {
    let mock = mock(&[("t", 1)]);
    let sidecar = reading(&mock, entry(&["t"])).await;
    for (path, status, what) in [
        ("/topics/other/ws", 403, "other"),
        ("/topics/t/ws?limit=5", 400, "no end"),
        ("/topics/t/ws?metadataAsComment=true", 400, "event streams"),
        ("/topics/t/ws?max_in_flight=0", 400, "1 to 10000"),
        ("/topics/t/ws?frames=text", 400, "frames"),
        ("/topics/t/ws?paused=maybe", 400, "paused"),
        ("/topics/t/ws?heartbeatIntervalInMs=1", 400, "2000"),
        ("/topics/t/ws?cursor=t@5%231", 404, "0 to 0"),
        ("/ws", 400, "topics"),
    ] {
        let (found, body) = refused(&sidecar, path, &[]).await;
        assert_eq!(found, status, "{path}: {body}");
        assert!(body["error"].to_string().contains(what), "{path}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_goes_away_answers_and_says_where_the_client_was() {
    let mock = mock(&[("t", 1)]);
    write(&mock, "t", 0, &["a"]).await;
    let mut config = config(&mock, vec![publishing(&["t"])]);
    set(&mut config, "linger.ms", "500");
    let sidecar = Sidecar::start(config).await;
    let mut socket = Socket::open(&sidecar, "/topics/t/ws?from=earliest", &[]).await;
    socket.until("caught-up").await;
    // That it is there is known before it is under way: then the sidecar drains.
    socket.say(r#"{"type":"pause"}"#).await;
    socket.of("ok").await;
    socket.say(r#"{"type":"publish","id":1,"value":"b"}"#).await;
    until("it is under way", async || {
        sidecar.metric("sluice_outstanding_records{").await == Some(1.0)
    })
    .await;
    sidecar.stopper.drain();
    assert_eq!(socket.of("published").await["offset"], 1);
    assert_eq!(socket.of("closing").await["cursor"], "t@0#0");
    let (code, reason) = socket.closed().await;
    assert_eq!((code, reason.contains("cursor")), (1001, true));
    sidecar.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_gone_or_a_position_that_is_not_there_is_told() {
    let mock = mock(&[("t", 1)]);
    write(&mock, "t", 0, &["a"]).await;
    let mut read = entry(&["t"]);
    read.auto_offset_reset = Reset::Earliest;
    let sidecar = reading(&mock, read).await;
    let mut socket = Socket::open(&sidecar, "/topics/t/ws?cursor=t@0%239", &[]).await;
    let moved = socket.of("reset").await;
    assert_eq!(
        (&moved["requested"], &moved["position"], &moved["reason"]),
        (&json!(10), &json!(0), &json!("beyond"))
    );
    assert_eq!(socket.values(1).await, ["a"]);
    let mut read = entry(&["t", "later"]);
    read.check_topic_existence = false;
    let sidecar = reading(&mock, read).await;
    let mut socket = Socket::open(&sidecar, "/topics/later/ws", &[]).await;
    socket.say(r#"{"type":"pause"}"#).await;
    socket.of("ok").await;
    socket.say(r#"{"type":"resume"}"#).await;
    socket.of("ok").await;
    mock.create_topic("later", 1, 1).unwrap();
    write(&mock, "later", 0, &["first"]).await;
    assert_eq!(socket.values(1).await, ["first"]);
}

/// A client that writes many records and reads no answer is not read from any more, and loses none when it does.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_writes_more_than_it_reads_waits() {
    const RECORDS: usize = 3000;
    let mock = mock(&[("t", 1)]);
    let sidecar = reading(&mock, publishing(&["t"])).await;
    let socket = Socket::open(&sidecar, "/topics/t/ws?paused=true", &[]).await;
    let (mut to, mut from) = futures_util::StreamExt::split(socket.inner);
    let writing = tokio::spawn(async move {
        for n in 0..RECORDS {
            let value = format!("{n}-{}", "x".repeat(1000));
            let message = json!({"type": "publish", "id": n, "value": value});
            to.send(Message::text(message.to_string())).await.unwrap();
        }
        to
    });
    let mut answers = Vec::new();
    while answers.len() < RECORDS {
        let next = tokio::time::timeout(support::PATIENCE, futures_util::StreamExt::next(&mut from)).await;
        if let Message::Text(text) = next.unwrap().unwrap().unwrap() {
            let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(answer["type"], "published", "{answer}");
            answers.push((answer["id"].as_u64().unwrap(), answer["offset"].as_u64().unwrap()));
        }
    }
    drop(writing.await.unwrap());
    answers.sort_unstable();
    let expected: Vec<_> = (0..RECORDS as u64).map(|n| (n, n)).collect();
    assert_eq!(answers, expected, "in the order in which they were sent");
}

/// Sockets that come back at random while records are written: each record comes once.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_missed_and_nothing_comes_twice() {
    const RECORDS: usize = 300;
    let mock = mock(&[("t", 2)]);
    let mut all = config(&mock, vec![entry(&["t"])]);
    all.max_readers = 2;
    let sidecar = Sidecar::start(all).await;
    let reader = async |reader: usize| {
        let mut seen = Vec::new();
        let mut last = String::new();
        while seen.len() < RECORDS {
            let window = if reader.is_multiple_of(2) {
                "&max_in_flight=7"
            } else {
                ""
            };
            let path = format!(
                "/topics/t/ws?from=earliest&cursor={}{window}",
                last.replace('#', "%23")
            );
            let mut socket = Socket::open(&sidecar, &path, &[]).await;
            let upto = (seen.len() + 11 * (reader + 1)).min(RECORDS);
            while seen.len() < upto {
                let message = socket.next().await;
                if let Some(cursor) = message["cursor"].as_str() {
                    cursor.clone_into(&mut last);
                }
                if message["type"] == "message" {
                    seen.push(message["value"].to_string());
                    if reader.is_multiple_of(2) {
                        let ack = json!({"type": "ack", "cursor": message["id"]});
                        socket.say(ack.to_string()).await;
                    }
                }
            }
        }
        seen.sort_by_key(|value| value.parse::<usize>().unwrap());
        let expected: Vec<_> = (0..RECORDS).map(|n| n.to_string()).collect();
        assert_eq!(seen, expected, "reader {reader}");
    };
    tokio::join!(reader(0), reader(1), reader(2), reader(3), async {
        for first in (0..RECORDS).step_by(10) {
            let values: Vec<String> = (first..first + 10).map(|n| n.to_string()).collect();
            let values: Vec<_> = values.iter().map(String::as_str).collect();
            write(&mock, "t", i32::from(first % 20 > 0), &values).await;
        }
    });
}

/// What a client does in the test below.
#[derive(Debug, Clone)]
enum Act {
    /// Takes so many records.
    Take(usize),
    Pause,
    Resume,
    /// Goes on after this offset.
    After(i64),
    /// Goes on at this one.
    At(i64),
    /// Comes back with the cursor of the last record that it took.
    ComeBack,
}

/// Whatever a client does in which order, the records that it gets are those after its position, one by one.
#[test]
fn records_follow_the_position_whatever_the_client_does() {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};

    const RECORDS: i64 = 40;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mock = mock(&[("t", 1)]);
    let values: Vec<String> = (0..RECORDS).map(|n| format!("v{n}")).collect();
    let values: Vec<_> = values.iter().map(String::as_str).collect();
    let sidecar = runtime.block_on(async {
        write(&mock, "t", 0, &values).await;
        reading(&mock, entry(&["t"])).await
    });
    let act = prop_oneof![
        (1..8_usize).prop_map(Act::Take),
        Just(Act::Pause),
        Just(Act::Resume),
        (-1..RECORDS).prop_map(Act::After),
        (0..RECORDS).prop_map(Act::At),
        Just(Act::ComeBack),
    ];
    let acts = (
        proptest::collection::vec(act, 1..20),
        proptest::option::of(1..6_usize),
    );
    let mut runner = TestRunner::new(Config {
        cases: 40,
        failure_persistence: None,
        ..Config::default()
    });
    let run = runner.run(&acts, |(acts, window)| {
        runtime.block_on(acting(&sidecar, acts, window, RECORDS));
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}"));
}

async fn acting(sidecar: &Sidecar, acts: Vec<Act>, window: Option<usize>, records: i64) {
    let open = async |at: i64| {
        let window = window
            .map(|max| format!("&max_in_flight={max}"))
            .unwrap_or_default();
        let path = format!("/topics/t/ws?from=earliest&cursor=t@0%23{}{window}", at - 1);
        Socket::open(sidecar, &path, &[]).await
    };
    // What the client gets next, and whether it gets anything.
    let (mut next, mut paused) = (0, false);
    let mut socket = open(0).await;
    for act in acts {
        let order = match act {
            Act::Take(count) if !paused => {
                for _ in 0..count.min(usize::try_from(records - next).unwrap()) {
                    let message = socket.until("message").await;
                    assert_eq!(
                        (&message["offset"], &message["cursor"]),
                        (&json!(next), &json!(format!("t@0#{next}")))
                    );
                    next += 1;
                    if window.is_some() {
                        socket
                            .say(json!({"type": "ack", "cursor": message["cursor"]}).to_string())
                            .await;
                    }
                }
                continue;
            }
            Act::Take(_) => continue,
            Act::ComeBack => {
                socket = open(next).await;
                paused = false;
                continue;
            }
            Act::Pause => json!({"type": "pause"}),
            Act::Resume => json!({"type": "resume"}),
            Act::After(offset) => json!({"type": "seek", "cursor": format!("t@0#{offset}")}),
            Act::At(offset) => json!({"type": "seek", "from": format!("t@0#{offset}")}),
        };
        socket.say(order.to_string()).await;
        loop {
            let message = socket.next().await;
            match message["type"].as_str().unwrap() {
                "message" => {
                    assert!(!paused, "{message}");
                    assert_eq!(message["offset"], next, "on its way before the order was heard");
                    next += 1;
                    if window.is_some() {
                        socket
                            .say(json!({"type": "ack", "cursor": message["cursor"]}).to_string())
                            .await;
                    }
                }
                "caught-up" => assert_eq!(next, records),
                "ok" => {
                    match act {
                        Act::After(offset) => next = offset + 1,
                        Act::At(offset) => next = offset,
                        Act::Pause => paused = true,
                        Act::Resume => paused = false,
                        Act::Take(_) | Act::ComeBack => {}
                    }
                    assert_eq!(message["cursor"], format!("t@0#{}", next - 1), "{act:?}");
                    break;
                }
                other => panic!("{other}: {message}"),
            }
        }
    }
}
