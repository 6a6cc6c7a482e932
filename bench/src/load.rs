//! The load generator: a closed loop over a number of keep-alive connections, on one thread.
//!
//! It shares a core with the sidecar and the broker, so it does as little as it can: requests are rendered
//! once, and each costs one write and one read.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use sluice_e2e::{Context, Result, bail};

use crate::http::read_reply;

/// How long the server may leave every connection without an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Large enough for any reply here; a reply that is larger is an error.
const BUFFER: usize = 8 * 1024;

/// What became of the requests of one window.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// From the first request to the last reply.
    pub(crate) elapsed: Duration,
    /// How long each request took, in ascending order.
    pub(crate) latencies: Vec<Duration>,
    /// How many replies had each status.
    pub(crate) statuses: BTreeMap<u16, u64>,
}

/// Open connections to one server.
pub(crate) struct Load {
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    request: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    buffer: Box<[u8; BUFFER]>,
    filled: usize,
    sent: Option<Instant>,
}

impl Load {
    /// Opens `connections` connections to `server`, each of which will send `request` again and again.
    ///
    /// # Errors
    /// What keeps a connection from being opened.
    pub(crate) fn connect(server: SocketAddr, request: Vec<u8>, connections: usize) -> Result<Self> {
        let poll = Poll::new()?;
        let mut open = Vec::with_capacity(connections);
        for index in 0..connections {
            // Connected before it is registered, so that every connection is up when the first request goes.
            let stream = std::net::TcpStream::connect(server)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry()
                .register(&mut stream, Token(index), Interest::READABLE)?;
            open.push(Connection {
                stream,
                buffer: Box::new([0; BUFFER]),
                filled: 0,
                sent: None,
            });
        }
        Ok(Self {
            poll,
            events: Events::with_capacity(connections.max(16)),
            connections: open,
            request,
        })
    }

    /// Sends on every connection, again as soon as the reply is there, for `window`; then waits for the last
    /// replies.
    ///
    /// # Errors
    /// A connection that fails or is closed, a reply that is not HTTP, or no reply at all for 20 seconds.
    pub(crate) fn run(&mut self, window: Duration) -> Result<Outcome> {
        let start = Instant::now();
        let mut outcome = Outcome::default();
        for connection in &mut self.connections {
            connection.send(&self.request, Instant::now())?;
        }
        let mut outstanding = self.connections.len();
        while outstanding > 0 {
            match self.poll.poll(&mut self.events, Some(PATIENCE)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            if self.events.is_empty() {
                bail!("{outstanding} requests without a reply for {PATIENCE:?}");
            }
            for event in &self.events {
                let Some(connection) = self.connections.get_mut(event.token().0) else {
                    continue;
                };
                let Some(status) = connection.receive()? else {
                    continue;
                };
                let now = Instant::now();
                let sent = connection.sent.take().context("a reply that nothing asked for")?;
                outcome.latencies.push(now - sent);
                *outcome.statuses.entry(status).or_default() += 1;
                if now - start < window {
                    connection.send(&self.request, now)?;
                } else {
                    outstanding -= 1;
                }
            }
        }
        outcome.elapsed = start.elapsed();
        outcome.latencies.sort_unstable();
        Ok(outcome)
    }
}

impl Connection {
    fn send(&mut self, request: &[u8], now: Instant) -> Result<()> {
        let written = self.stream.write(request)?;
        // One request at a time is on a connection, and the kernel's buffer holds hundreds.
        if written < request.len() {
            bail!("the kernel took only part of a request");
        }
        self.sent = Some(now);
        Ok(())
    }

    /// The status of the reply, once it is whole.
    ///
    /// One read per wake-up is enough although the poll is edge-triggered: the rest of a reply that was cut
    /// is an edge of its own, and after a whole one nothing comes until the next request.
    fn receive(&mut self) -> Result<Option<u16>> {
        let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
        if room.is_empty() {
            bail!("a reply larger than {BUFFER} bytes");
        }
        match self.stream.read(room) {
            Ok(0) => bail!("the server closed a connection"),
            Ok(read) => self.filled += read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(None);
            }
            Err(error) => bail!(error),
        }
        let Some(reply) = read_reply(self.buffer.get(..self.filled).unwrap_or_default())? else {
            return Ok(None);
        };
        if reply.len != self.filled {
            bail!("more than one reply to a request");
        }
        self.filled = 0;
        Ok(Some(reply.status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::post;
    use std::net::TcpListener;

    /// A server that answers each request of `request_len` bytes with the pieces of one reply.
    fn serve(request_len: usize, pieces: &'static [&'static [u8]]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut request = vec![0; request_len];
                    stream.set_nodelay(true).unwrap();
                    while stream.read_exact(&mut request).is_ok() {
                        for piece in pieces {
                            if stream.write_all(piece).is_err() {
                                return;
                            }
                        }
                        if pieces.is_empty() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    #[test]
    fn every_request_is_counted_with_its_status() {
        let request = post("/", b"{}");
        let server = serve(
            request.len(),
            &[b"HTTP/1.1 200 OK\r\ncontent-", b"length: 2\r\n\r\n", b"{}"],
        );
        let mut load = Load::connect(server, request, 3).unwrap();
        for _ in 0..2 {
            let outcome = load.run(Duration::from_millis(50)).unwrap();
            assert!(outcome.latencies.len() >= 3);
            assert!(outcome.latencies.is_sorted());
            assert!(outcome.elapsed >= Duration::from_millis(50));
            let all: BTreeMap<u16, u64> = [(200, outcome.latencies.len() as u64)].into();
            assert_eq!(outcome.statuses, all);
        }
    }

    #[test]
    fn a_closed_connection_ends_the_run() {
        let request = post("/", b"{}");
        let mut load = Load::connect(serve(request.len(), &[]), request, 1).unwrap();
        let error = load.run(Duration::from_millis(50)).unwrap_err().to_string();
        assert!(error.contains("closed"), "{error}");
    }

    #[test]
    fn a_second_reply_ends_the_run() {
        let request = post("/", b"{}");
        let twice: &[&[u8]] =
            &[b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"];
        let mut load = Load::connect(serve(request.len(), twice), request, 1).unwrap();
        let error = load.run(Duration::from_millis(50)).unwrap_err().to_string();
        assert!(error.contains("more than one reply"), "{error}");
    }
}
