//! What else readers may ask for, on WebSockets: filters, fields, and what an entry has the request choose.

use serde_json::json;
use sluice::config::Read;
use tokio_tungstenite::tungstenite::Message;

use crate::support::mock;
use crate::world::{entry, reading, reading_as, write};
use crate::ws_world::{Socket, refused};

#[tokio::test(flavor = "multi_thread")]
async fn filters_and_fields_hold_on_sockets() {
    let mock = mock(&[("t", 1)]);
    let all: Vec<String> = (0..20).map(|n| format!("{{\"n\":{n},\"x\":1}}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    write(&mock, "t", 0, &all).await;
    let sidecar = reading(&mock, entry(&["t"])).await;
    // Few may be out, and what is left out is none of them.
    let path = "/topics/t/ws?from=earliest&jq=.n%20%3E=%2017&max_in_flight=3&heartbeatIntervalInMs=2000";
    let mut socket = Socket::open(&sidecar, path, &[]).await;
    for n in 17..20 {
        let message = socket.of("message").await;
        assert_eq!(
            (&message["value"]["n"], &message["cursor"]),
            (&json!(n), &json!(format!("t@0#{n}")))
        );
    }
    socket.say(r#"{"type":"ack","cursor":"t@0#19"}"#).await;
    socket.of("caught-up").await;
    // Where it is is told, though there is nothing for it.
    write(&mock, "t", 0, &["{\"n\":1}"]).await;
    assert_eq!(socket.of("position").await["cursor"], "t@0#20");
    let path = "/topics/t/ws?from=t@0%234&jq=if%20.n==4%20then%20.n%20else%20error(%22no%22)%20end&fields=value,offset";
    let mut socket = Socket::open(&sidecar, path, &[]).await;
    let message = socket.of("message").await;
    assert_eq!(
        message,
        json!({"type": "message", "cursor": "t@0#4", "offset": 4, "value": 4})
    );
    let failed = socket.of("filter-failures").await;
    assert_eq!(failed["first"]["id"], "t@0#5", "{failed}");
    let mut socket = Socket::open(&sidecar, "/topics/t/ws?from=t@0%234&fields=schemaId", &[]).await;
    assert_eq!(
        socket.of("message").await,
        json!({"type": "message", "cursor": "t@0#4", "schemaId": null})
    );
    for (path, what) in [
        ("/topics/t/ws?where=n", "where"),
        ("/topics/t/ws?fields=nothing", "fields"),
        ("/topics/t/ws?fields=id&frames=binary", "frames=binary"),
        ("/topics/t/ws?view=latest", "view"),
    ] {
        let (status, body) = refused(&sidecar, path, &[]).await;
        assert_eq!(status, 400, "{path}: {body}");
        assert!(body["error"].to_string().contains(what), "{path}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confluent_header_is_taken_off_on_sockets() {
    let mock = mock(&[("t", 1)]);
    write(&mock, "t", 0, &["\0\0\0\0\x07{\"a\":1}"]).await;
    let read = Read {
        remove_confluent_header: true,
        ..entry(&["t"])
    };
    let sidecar = reading(&mock, read).await;
    let mut socket = Socket::open(&sidecar, "/topics/t/ws?from=earliest", &[]).await;
    let message = socket.of("message").await;
    assert_eq!(
        (&message["schemaId"], &message["value"]),
        (&json!(7), &json!({"a": 1}))
    );
    let mut socket = Socket::open(&sidecar, "/topics/t/ws?from=earliest&frames=binary", &[]).await;
    let message = socket.of("message").await;
    assert_eq!(
        (&message["schemaId"], &message["valueBytes"]),
        (&json!(7), &json!(7))
    );
    let value = socket.frame().await.unwrap().unwrap();
    assert_eq!(value, Message::binary(&b"{\"a\":1}"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_entry_leaves_to_the_request_is_chosen_by_it() {
    let mock = mock(&[("t", 1), ("u", 1)]);
    write(&mock, "u", 0, &["a", "b"]).await;
    let reads = "reads: [{topic: {header: x-topic, allowed: [t, u], default: t}, publish: true, encodeMessageId: false, \
                 from: {query: start, allowed: [earliest, latest], default: latest}, anonymous: true}]";
    let sidecar = reading_as(&mock, reads).await;
    let mut socket = Socket::open(&sidecar, "/ws?start=earliest", &[("x-topic", "u")]).await;
    assert_eq!(socket.values(2).await, ["a", "b"]);
    socket.of("caught-up").await;
    // It may write what it may read, and not what another request might have chosen.
    socket
        .say(r#"{"type":"publish","id":1,"value":"x","topic":"t"}"#)
        .await;
    let error = socket.of("error").await;
    assert_eq!(
        (&error["id"], &error["code"]),
        (&json!(1), &json!("topic_not_allowed")),
        "{error}"
    );
    assert_eq!(
        refused(&sidecar, "/ws?start=t@0%230", &[("x-topic", "u")])
            .await
            .0,
        403
    );
    assert_eq!(refused(&sidecar, "/ws", &[("x-topic", "other")]).await.0, 403);
}
