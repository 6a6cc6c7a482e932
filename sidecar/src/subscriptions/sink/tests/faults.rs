use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use super::world::*;
use crate::subscriptions::event::{Deliver, Outcome};

/// A server that sends these bytes and then nothing more, or goes where `closes`.
async fn sends(bytes: &'static str, closes: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                read_head(&mut stream).await;
                stream.write_all(bytes.as_bytes()).await.unwrap_or_default();
                if closes {
                    finish(&mut stream).await;
                } else {
                    tokio::time::sleep(PATIENCE).await;
                }
            });
        }
    });
    format!("http://{address}/")
}

/// Ends what is sent and takes what still comes: a connection that is closed with something unread is reset, and what was sent
/// may be lost with it.
pub(super) async fn finish(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    stream.shutdown().await.unwrap_or_default();
    tokio::io::copy(stream, &mut tokio::io::sink())
        .await
        .unwrap_or_default();
}

/// Reads up to the end of a request's headers.
pub(super) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let tree = json!({"read_timeout": "300ms", "connect_timeout": "20s"});
    for (bytes, why) in [
        ("", "no answer within 300 ms"),
        ("HTTP/1.1 200 OK\r\ncontent-le", "no answer within 300 ms"),
    ] {
        let webhook = webhook(&sends(bytes, false).await, &tree);
        let started = Instant::now();
        let told = retried(webhook.deliver(&[valued("1")]).await);
        assert!(
            told.contains(why) && told.starts_with("POST http://127.0.0.1:"),
            "{told}"
        );
        assert!(
            started.elapsed() >= Duration::from_millis(300) && started.elapsed() < Duration::from_secs(20)
        );
    }
}

#[tokio::test]
async fn a_body_that_hangs_matters_only_where_it_is_wanted() {
    let hanging = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab";
    let url = sends(hanging, false).await;
    let plain = webhook(&url, &json!({"read_timeout": "300ms"}));
    assert_eq!(plain.deliver(&[valued("1")]).await, DONE);
    let steering = webhook(&url, &json!({"read_timeout": "300ms", "response_status": true}));
    let why = retried(steering.deliver(&[valued("1")]).await);
    assert!(why.contains("not complete within 300 ms"), "{why}");
    let broken = webhook(&sends(hanging, true).await, &json!({"response_status": true}));
    let why = retried(broken.deliver(&[valued("1")]).await);
    assert!(why.contains("broke off"), "{why}");
}

#[tokio::test]
async fn what_is_no_answer_is_tried_again() {
    for bytes in [
        "",
        "SSH-2.0-x\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    ] {
        let webhook = webhook(&sends(bytes, true).await, &json!({}));
        let why = retried(webhook.deliver(&[valued("1")]).await);
        assert!(why.contains("the call failed"), "{bytes:?}: {why}");
    }
}

#[tokio::test]
async fn nobody_there_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let why = retried(webhook(&url, &json!({})).deliver(&[valued("1")]).await);
    assert!(why.contains("cannot connect") && why.contains("refused"), "{why}");
    let why = retried(
        webhook("http://no.such.host.invalid/", &json!({"connect_timeout": "60s"}))
            .deliver(&[valued("1")])
            .await,
    );
    assert!(why.contains("no.such.host.invalid cannot be resolved"), "{why}");
}

#[tokio::test]
async fn a_handshake_that_hangs_is_given_up() {
    let url = sends("", false).await.replace("http://", "https://");
    let webhook = webhook(&url, &json!({"connect_timeout": "200ms", "read_timeout": "50s"}));
    let started = Instant::now();
    let why = retried(webhook.deliver(&[valued("1")]).await);
    assert!(why.contains("no connection within 200 ms"), "{why}");
    assert!(
        started.elapsed() < Duration::from_secs(40),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_connection_that_nothing_uses_is_kept_for_a_while() {
    for (idle, connections) in [("50s", 1), ("1ms", 2)] {
        let (url, opened) = counting().await;
        let webhook = webhook(&url, &json!({"idle_timeout": idle}));
        assert_eq!(webhook.deliver(&[valued("1")]).await, DONE);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(webhook.deliver(&[valued("1")]).await, DONE);
        assert_eq!(opened.load(Ordering::Relaxed), connections, "{idle}");
    }
}

#[tokio::test]
async fn redirections_are_not_followed() {
    let there = takes_all().await;
    let url = there.url("/");
    let here = serve(move |_, _| {
        axum::http::Response::builder()
            .status(307)
            .header("location", url.as_str())
            .body(axum::body::Body::empty())
            .unwrap()
    })
    .await;
    let why = poisoned(webhook(&here.url("/"), &json!({})).deliver(&[valued("1")]).await);
    assert!(why.contains("307") && why.contains("not followed"), "{why}");
    assert!(there.all().is_empty());
}

#[tokio::test]
async fn a_refusal_says_why_and_when() {
    let server = serve(|_, before| {
        let response = axum::http::Response::builder().header("retry-after", "7");
        response
            .status(if before == 0 { 503 } else { 422 })
            .body("try later, not with hunter2-hunter2".to_owned())
            .unwrap()
    })
    .await;
    let tree = json!({"headers": {"x-api-key": "hunter2-hunter2"}});
    let webhook = webhook(&server.url("/?q=secret-query"), &tree);
    match webhook.deliver(&[valued("1")]).await {
        Outcome::Retry { why, status, after } => {
            assert_eq!((status, after), (Some(503), Some(Duration::from_secs(7))));
            assert!(
                why.contains("answers 503 Service Unavailable") && !why.contains("secret-query"),
                "{why}"
            );
        }
        other => panic!("{other:?}"),
    }
    let why = poisoned(webhook.deliver(&[valued("1")]).await);
    assert!(
        why.contains("repeats a secret") && !why.contains("hunter2"),
        "{why}"
    );
    assert_eq!(server.last().header("x-api-key"), "hunter2-hunter2");
}

/// A server that keeps its connections and takes everything, after a moment; and how many connections there were.
async fn counting() -> (String, Arc<AtomicUsize>) {
    let opened = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&opened);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                while !read_head(&mut stream).await.is_empty() {
                    // The body.
                    stream.read_u8().await.unwrap_or_default();
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    let taken = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
                    if taken.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (url, opened)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_kept_and_bounded() {
    let (url, opened) = counting().await;
    let webhook = Arc::new(webhook(&url, &json!({"max_concurrent_connections": 2})));
    let all = (0..20).map(|_| {
        let webhook = Arc::clone(&webhook);
        tokio::spawn(async move { webhook.deliver(&[valued("1")]).await })
    });
    for one in all.collect::<Vec<_>>() {
        assert_eq!(one.await.unwrap(), DONE);
    }
    // A request that finds one free while another is being opened leaves that for the next.
    let opened = opened.load(Ordering::Relaxed);
    assert!((1..=4).contains(&opened), "{opened}");
}
