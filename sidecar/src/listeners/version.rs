//! Which HTTP a connection speaks.

use std::io;
use std::time::Duration;

use super::Stream;

/// What HTTP/2 begins with (RFC 9113, 3.4), and no request of HTTP/1.1 does.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How soon it is looked again when only a part of that has come.
const PAUSE: Duration = Duration::from_millis(5);

/// A version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Looks at a connection's first bytes, and leaves them where they are; waits until there are some. Cancel-safe.
///
/// # Errors
/// The connection is broken, or ends before it says anything.
pub(super) async fn spoken(stream: &Stream) -> io::Result<Version> {
    let mut first = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut first).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(version) = told(first.get(..count).unwrap_or_default()) {
            return Ok(version);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// None: it may be either.
fn told(first: &[u8]) -> Option<Version> {
    if first == PREFACE {
        Some(Version::Http2)
    } else if PREFACE.starts_with(first) {
        None
    } else {
        Some(Version::Http1)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWrite, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream, UnixStream};

    use super::*;

    #[test]
    fn a_beginning_that_both_could_have_tells_nothing() {
        assert_eq!(told(b"GET / HTTP/1.1\r\n"), Some(Version::Http1));
        assert_eq!(told(b"POST /"), Some(Version::Http1));
        assert_eq!(told(b"P"), None);
        assert_eq!(told(b"PRI * HTTP/2.0\r\n\r\n"), None);
        assert_eq!(told(b"PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n"), Some(Version::Http1));
        assert_eq!(told(PREFACE), Some(Version::Http2));
    }

    /// Both ends of a connection over TCP, and of one over a Unix socket.
    async fn connections() -> [(Stream, Box<dyn AsyncWrite + Unpin>); 2] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let (near, far) = UnixStream::pair().unwrap();
        [
            (Stream::Tcp(stream), Box::new(client)),
            (Stream::Unix(near), Box::new(far)),
        ]
    }

    #[tokio::test]
    async fn bytes_that_come_one_by_one_are_waited_for_and_left() {
        for (stream, mut client) in connections().await {
            let writing = async {
                for byte in PREFACE {
                    client.write_all(&[*byte]).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let (version, ()) = tokio::join!(spoken(&stream), writing);
            assert_eq!(version.unwrap(), Version::Http2);
            assert_eq!(
                spoken(&stream).await.unwrap(),
                Version::Http2,
                "they are still there"
            );
        }
    }

    #[tokio::test]
    async fn three_bytes_tell_nothing() {
        for (stream, mut client) in connections().await {
            client.write_all(b"PRI").await.unwrap();
            let part = tokio::time::timeout(PAUSE * 4, spoken(&stream));
            assert!(part.await.is_err());
            client.write_all(b"NT / HTTP/1.1\r\n").await.unwrap();
            assert_eq!(spoken(&stream).await.unwrap(), Version::Http1);
        }
    }

    #[tokio::test]
    async fn who_leaves_without_a_word_is_not_waited_for() {
        for (stream, client) in connections().await {
            drop(client);
            let error = spoken(&stream).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
