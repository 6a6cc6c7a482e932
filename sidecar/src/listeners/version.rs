//! Which HTTP a connection speaks.

use std::time::Duration;

use super::Stream;

/// What HTTP/2 begins with (RFC 9113, 3.4), and no request of HTTP/1.1 does.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How soon it is looked again when only a part of that has come.
const PAUSE: Duration = Duration::from_millis(5);

/// A version, as far as it can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Whoever reads it finds out.
    Unknown,
}

/// Looks at a connection's first bytes, and leaves them where they are; waits until there are some. Cancel-safe.
///
/// hyper-util can tell as well, by reading them and giving them to hyper as a piece of their own, for which hyper doubles its
/// buffer: 8 KiB for as long as the connection lasts, which with an event stream is long. Only TCP lets one look.
pub(super) async fn spoken(stream: &Stream) -> Version {
    let Stream::Tcp(stream) = stream else {
        return Version::Unknown;
    };
    let mut first = [0; PREFACE.len()];
    loop {
        // What is wrong with it is said again to whoever reads.
        let Ok(count @ 1..) = stream.peek(&mut first).await else {
            return Version::Unknown;
        };
        let told = told(first.get(..count).unwrap_or_default());
        if told != Version::Unknown {
            return told;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn told(first: &[u8]) -> Version {
    if first == PREFACE {
        Version::Http2
    } else if PREFACE.starts_with(first) {
        Version::Unknown
    } else {
        Version::Http1
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_beginning_that_both_could_have_tells_nothing() {
        assert_eq!(told(b"GET / HTTP/1.1\r\n"), Version::Http1);
        assert_eq!(told(b"POST /"), Version::Http1);
        assert_eq!(told(b"P"), Version::Unknown);
        assert_eq!(told(b"PRI * HTTP/2.0\r\n\r\n"), Version::Unknown);
        assert_eq!(told(b"PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n"), Version::Http1);
        assert_eq!(told(PREFACE), Version::Http2);
    }

    #[tokio::test]
    async fn bytes_that_come_one_by_one_are_waited_for_and_left() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let stream = Stream::Tcp(stream);
        let writing = async {
            for byte in PREFACE {
                client.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let (version, ()) = tokio::join!(spoken(&stream), writing);
        assert_eq!(version, Version::Http2);
        assert_eq!(spoken(&stream).await, Version::Http2, "they are still there");
        drop(client);
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        client.write_all(b"PRI").await.unwrap();
        let stream = Stream::Tcp(stream);
        let part = tokio::time::timeout(PAUSE * 4, spoken(&stream));
        assert!(part.await.is_err(), "three bytes tell nothing");
    }
}
