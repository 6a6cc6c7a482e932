use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::faults::{finish, read_head};
use super::tls::{HTTP1, Own, accepted, secure};
use super::world::*;
use crate::subscriptions::event::Deliver;

type Asked = Arc<Mutex<Vec<String>>>;

/// A proxy, over TLS with `own`: tunnels to where CONNECT says, and answers what is to be passed on by itself. What it was asked.
async fn proxy(own: Option<&Own>) -> (SocketAddr, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Asked::default();
    let kept = Arc::clone(&asked);
    let acceptor = own.map(|own| own.acceptor(HTTP1, None));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let kept = Arc::clone(&kept);
            match &acceptor {
                None => drop(tokio::spawn(pass(stream, kept))),
                Some(acceptor) => {
                    let mut stream = accepted(acceptor, stream);
                    tokio::spawn(async move {
                        if Pin::new(&mut stream).accept().await.is_ok() {
                            pass(stream, kept).await;
                        }
                    });
                }
            }
        }
    });
    (address, asked)
}

async fn pass(mut stream: impl AsyncRead + AsyncWrite + Unpin, kept: Asked) {
    let head = read_head(&mut stream).await;
    let allowed = head
        .to_ascii_lowercase()
        .contains("proxy-authorization: basic dtpw\r\n");
    let to = head
        .strip_prefix("CONNECT ")
        .and_then(|rest| rest.split(' ').next().map(str::to_owned));
    kept.lock().unwrap().push(head);
    match to {
        _ if !allowed => {
            let refused = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(refused).await.unwrap();
            finish(&mut stream).await;
        }
        Some(to) => {
            let mut target = TcpStream::connect(to).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            tokio::io::copy_bidirectional(&mut stream, &mut target)
                .await
                .unwrap_or_default();
        }
        None => {
            stream
                .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                .await
                .unwrap();
            finish(&mut stream).await;
        }
    }
}

#[tokio::test]
async fn a_proxy_may_speak_tls() {
    let own = Own::new("both");
    let server = secure(&own, HTTP1, None).await;
    let (address, asked) = proxy(Some(&own)).await;
    let tree = json!({
        "tls": {"ca": own.certificate()}, "connect_timeout": "20s",
        "proxy": {"url": format!("https://{address}"), "username": "u", "password": "p"},
    });
    let url = format!("https://{}/", server.address);
    assert_eq!(webhook(&url, &tree).deliver(&[valued("1")]).await, DONE);
    assert_eq!(
        webhook("http://hooks.example.com/", &tree)
            .deliver(&[valued("1")])
            .await,
        DONE
    );
    let asked = asked.lock().unwrap();
    assert!(
        asked[0].starts_with("CONNECT ") && asked[1].starts_with("POST http://hooks.example.com/ "),
        "{asked:?}"
    );
}

#[tokio::test]
async fn https_goes_through_a_tunnel() {
    let own = Own::new("server");
    let server = secure(&own, HTTP1, None).await;
    let (address, asked) = proxy(None).await;
    let url = format!("https://{}/", server.address);
    let tree = json!({
        "tls": {"ca": own.certificate()}, "connect_timeout": "20s",
        "proxy": {"url": format!("http://{address}"), "username": "u", "password": "p"},
    });
    assert_eq!(webhook(&url, &tree).deliver(&[valued("1")]).await, DONE);
    assert!(asked.lock().unwrap()[0].starts_with(&format!("CONNECT {} ", server.address)));
    let sent = server.last();
    assert!(!sent.headers.contains_key("proxy-authorization"), "{sent:?}");
    let tree = json!({"tls": {"ca": own.certificate()}, "proxy": {"url": format!("http://{address}")}, "connect_timeout": "20s"});
    let why = retried(webhook(&url, &tree).deliver(&[valued("1")]).await);
    assert!(why.contains("cannot connect") && why.contains("proxy"), "{why}");
}

#[tokio::test]
async fn http_is_passed_on_in_the_absolute_form() {
    let (address, asked) = proxy(None).await;
    let tree = json!({"proxy": {"url": format!("http://{address}"), "username": "u", "password": "p"}});
    assert_eq!(
        webhook("http://hooks.example.com/path?q=1", &tree)
            .deliver(&[valued("1")])
            .await,
        DONE
    );
    let head = asked.lock().unwrap()[0].clone();
    assert!(
        head.starts_with("POST http://hooks.example.com/path?q=1 HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(
        head.to_ascii_lowercase()
            .contains("\r\nhost: hooks.example.com\r\n"),
        "{head}"
    );
    let wrong = json!({"proxy": {"url": format!("http://{address}"), "username": "u", "password": "other"}});
    let why = poisoned(
        webhook("http://hooks.example.com/", &wrong)
            .deliver(&[valued("1")])
            .await,
    );
    assert!(why.contains("407"), "{why}");
}
