//! Many event streams and WebSockets, held by one thread: it counts what comes on each, and when.
//!
//! A client is a few dozen bytes, and a read goes into one buffer that all share: what is measured is the server.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use sluice_e2e::{Context, Result, bail, ensure};

use super::frames::{self, Frames};
use super::messages::{self, Messages};
use super::stamp::{ANSWER, Clock, Scan, published, stamped};

/// How many streams may be asked for and not be answered: who connects all at once measures the accept queue.
const OPENING: usize = 64;
/// How long the server may leave those without an answer.
const PATIENCE: Duration = Duration::from_secs(60);
const BUFFER: usize = 64 * 1024;

/// How clients reach the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1: a connection each.
    Http1,
    /// HTTP/2: this many on a connection.
    Http2(usize),
    /// WebSockets: a connection each.
    Socket,
}

/// The clients.
pub(crate) struct Crowd {
    poll: Poll,
    events: Events,
    buffer: Box<[u8]>,
    connections: Vec<Connection>,
    clients: Vec<Client>,
    answered: usize,
    clock: Clock,
    tally: Tally,
}

struct Connection {
    stream: TcpStream,
    /// Its first client.
    first: usize,
    speaks: Speaks,
}

/// What a connection speaks, and how far it was read.
enum Speaks {
    Http1,
    Http2(Frames),
    /// And the answers to what was sent.
    Socket(Messages, Scan),
}

#[derive(Debug, Default, Clone, Copy)]
struct Client {
    scan: Scan,
    answered: bool,
    over: bool,
    seen: u32,
    /// When the last record came, in µs.
    last: u64,
}

/// What came since it was asked last.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    /// Records, all clients together.
    pub(crate) delivered: u64,
    /// From when each was written until it was read, in µs.
    pub(crate) latencies: Histogram<u64>,
    /// From when a client sent each record until it was told that it is stored, in µs.
    pub(crate) answers: Histogram<u64>,
    /// The longest that any client waited for its next record, in µs.
    pub(crate) silence: u64,
    /// Streams that ended.
    pub(crate) ended: usize,
}

impl Tally {
    fn new() -> Result<Self> {
        let times = || Histogram::new_with_bounds(1, 600_000_000, 3);
        Ok(Self {
            delivered: 0,
            latencies: times()?,
            answers: times()?,
            silence: 0,
            ended: 0,
        })
    }
}

impl Crowd {
    /// Nobody yet.
    ///
    /// # Errors
    /// The kernel refuses to poll.
    pub(crate) fn new(clock: Clock) -> Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(4096),
            buffer: vec![0; BUFFER].into(),
            connections: Vec::new(),
            clients: Vec::new(),
            answered: 0,
            clock,
            tally: Tally::new()?,
        })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Opens `count` more streams of `path`, and waits until all are answered.
    ///
    /// # Errors
    /// One is not, or is refused.
    pub(crate) fn open(
        &mut self,
        server: SocketAddr,
        path: &str,
        protocol: Protocol,
        count: usize,
    ) -> Result<()> {
        let target = self.clients.len() + count;
        while self.clients.len() < target {
            let (each, opening) = match protocol {
                Protocol::Http1 | Protocol::Socket => (1, Vec::new()),
                Protocol::Http2(each) => (each, frames::opening()),
            };
            let stream = std::net::TcpStream::connect(server)
                .with_context(|| format!("connection {} to {server}", self.connections.len() + 1))?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            let token = Token(self.connections.len());
            self.poll
                .registry()
                .register(&mut stream, token, Interest::READABLE)?;
            self.connections.push(Connection {
                stream,
                first: self.clients.len(),
                speaks: match protocol {
                    Protocol::Http1 => Speaks::Http1,
                    Protocol::Http2(_) => Speaks::Http2(Frames::default()),
                    Protocol::Socket => Speaks::Socket(Messages::default(), Scan::of(ANSWER)),
                },
            });
            self.send(token.0, &opening)?;
            for n in 0..each.min(target - self.clients.len()) {
                self.clients.push(Client::default());
                let request = match protocol {
                    Protocol::Http1 => format!(
                        "GET {path} HTTP/1.1\r\nhost: bench.local\r\naccept: text/event-stream\r\n\r\n"
                    )
                    .into_bytes(),
                    Protocol::Http2(_) => frames::get(n, path)?,
                    Protocol::Socket => messages::opening(path),
                };
                self.send(token.0, &request)?;
                self.answers(OPENING)?;
            }
        }
        self.answers(0)
    }

    /// Has the `n`th connection's client, a WebSocket's, send a record.
    ///
    /// # Errors
    /// There is no such connection, or the kernel does not take it.
    pub(crate) fn publish(&mut self, n: usize) -> Result<()> {
        let now = self.clock.now();
        self.send(n, &messages::text(&published(now, &stamped(now)))?)
    }

    fn send(&mut self, connection: usize, bytes: &[u8]) -> Result<()> {
        let connection = self
            .connections
            .get_mut(connection)
            .context("no such connection")?;
        let written = connection.stream.write(bytes)?;
        // A few requests are all that is ever under way, and the kernel's buffer holds hundreds.
        ensure!(written == bytes.len(), "the kernel took only part of a request");
        Ok(())
    }

    /// Waits until all but `most` are answered.
    fn answers(&mut self, most: usize) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while self.clients.len() - self.answered > most {
            self.turn(Duration::from_millis(100))?;
            ensure!(
                self.tally.ended == 0,
                "a stream was refused, or ended, while others were opened"
            );
            let waiting = self.clients.len() - self.answered;
            ensure!(
                Instant::now() < until,
                "{waiting} of {} streams are not answered within {PATIENCE:?}",
                self.clients.len()
            );
        }
        Ok(())
    }

    /// Reads what comes, until `done` says so or `limit` is over; whether it said so.
    ///
    /// # Errors
    /// A connection breaks.
    pub(crate) fn read(&mut self, limit: Duration, mut done: impl FnMut(&Tally) -> bool) -> Result<bool> {
        let until = Instant::now() + limit;
        loop {
            if done(&self.tally) {
                return Ok(true);
            }
            let left = until.saturating_duration_since(Instant::now());
            self.turn(left.min(Duration::from_millis(100)))?;
            if left.is_zero() {
                return Ok(done(&self.tally));
            }
        }
    }

    /// What came since this was called last. Silence counts from now on.
    ///
    /// # Errors
    /// No memory for the next.
    pub(crate) fn tally(&mut self) -> Result<Tally> {
        let now = self.clock.now();
        for client in &mut self.clients {
            if client.seen > 0 || client.last > 0 {
                self.tally.silence = self.tally.silence.max(now.saturating_sub(client.last));
            }
            client.last = now;
            client.seen = 0;
        }
        Ok(std::mem::replace(&mut self.tally, Tally::new()?))
    }

    /// The fewest and the most records that a client has had since the last tally.
    pub(crate) fn spread(&self) -> (u32, u32) {
        let seen = || self.clients.iter().map(|client| client.seen);
        (seen().min().unwrap_or_default(), seen().max().unwrap_or_default())
    }

    fn turn(&mut self, wait: Duration) -> Result<()> {
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in &self.events {
            let Some(connection) = self.connections.get_mut(event.token().0) else {
                continue;
            };
            loop {
                let read = match connection.stream.read(&mut self.buffer) {
                    Ok(0) => bail!("the server closed a connection"),
                    Ok(read) => read,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => bail!(error),
                };
                let bytes = self.buffer.get(..read).unwrap_or_default();
                let now = self.clock.now();
                let mut hall = Hall {
                    clients: &mut self.clients,
                    answered: &mut self.answered,
                    tally: &mut self.tally,
                    now,
                };
                let (first, mut replies) = (connection.first, Vec::new());
                match &mut connection.speaks {
                    Speaks::Http1 => hall.plain(first, bytes)?,
                    Speaks::Http2(frames) => frames.feed(bytes, |said| match said {
                        frames::Said::Answered(n) => hall.answered(first + n),
                        frames::Said::Data(n, bytes) => hall.data(first + n, bytes),
                        frames::Said::Over(n) => hall.over(first + n),
                        frames::Said::Reply(bytes) => replies.extend(bytes),
                    })?,
                    Speaks::Socket(messages, answers) => messages.feed(bytes, |said| match said {
                        messages::Said::Opened => hall.answered(first),
                        messages::Said::Data(bytes) => {
                            answers.feed(bytes, |sent| hall.stored(sent));
                            hall.data(first, bytes);
                        }
                        messages::Said::Over => hall.over(first),
                        messages::Said::Reply(bytes) => replies.extend(bytes),
                    })?,
                }
                if !replies.is_empty() {
                    let written = connection.stream.write(&replies)?;
                    ensure!(written == replies.len(), "the kernel took only part of a reply");
                }
            }
        }
        Ok(())
    }
}

/// All clients, while something is read for one of them.
struct Hall<'a> {
    clients: &'a mut [Client],
    answered: &'a mut usize,
    tally: &'a mut Tally,
    now: u64,
}

impl Hall<'_> {
    /// What comes on a connection of HTTP/1.1: its first bytes are the status.
    fn plain(&mut self, client: usize, bytes: &[u8]) -> Result<()> {
        if self.clients.get(client).is_some_and(|client| !client.answered) {
            ensure!(
                bytes.starts_with(b"HTTP/1.1 200 "),
                "a stream was answered: {}",
                String::from_utf8_lossy(bytes)
            );
            self.answered(client);
        }
        self.data(client, bytes);
        Ok(())
    }

    /// A record that was sent then is stored.
    fn stored(&mut self, sent: u64) {
        let took = self.now.saturating_sub(sent).max(1);
        self.tally.answers.saturating_record(took);
    }

    fn answered(&mut self, client: usize) {
        if let Some(client) = self.clients.get_mut(client)
            && !client.answered
        {
            client.answered = true;
            *self.answered += 1;
        }
    }

    fn over(&mut self, client: usize) {
        if let Some(client) = self.clients.get_mut(client)
            && !client.over
        {
            client.over = true;
            self.tally.ended += 1;
        }
    }

    fn data(&mut self, client: usize, bytes: &[u8]) {
        let Some(client) = self.clients.get_mut(client) else {
            return;
        };
        let Client { scan, seen, last, .. } = client;
        let (tally, now) = (&mut *self.tally, self.now);
        scan.feed(bytes, |sent| {
            tally.delivered += 1;
            // What is longer than the longest that is told apart is told as that.
            tally.latencies.saturating_record(now.saturating_sub(sent).max(1));
            if *last > 0 {
                tally.silence = tally.silence.max(now.saturating_sub(*last));
            }
            *last = now;
            *seen += 1;
        });
    }
}
